"""The encoder ``hf-dna:NAME``: any masked DNA model that transformers can load."""

import random
import re
from pathlib import Path

from tabular_trainers.embed.requirements import need
from tabular_trainers.embed.weights import fetch, missing_weights, weight_files
from tabular_trainers.errors import SchemaError

from .masked_models import MaskedModel, Tokens, Vocabulary
from .model_files import check_code, load_model
from .nucleotide_transformer import trained_on

_WEIGHTS = "model.safetensors or pytorch_model.bin"
_ADVICE = (
    f"Expected a folder with config.json, {_WEIGHTS} and the tokenizer's files (tokenizer.json or "
    "vocab.txt), downloaded from its owner's page on huggingface.co."
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_POSITIONS_BEHIND_PADDING = ("esm", "roberta", "xlm-roberta", "camembert")
_SHARE = 0.8  # of the bases that max_tokens hold on average: some stretches take more tokens


def load(name, *, weights, device, layer, revision, trust_remote_code):
    """Load the network from a folder or the hub; see :func:`..encoders.load_encoder`."""
    encoder = f"hf-dna:{name}"
    folder, commit = _find(encoder, name, weights, revision, trust_remote_code)
    check_code(folder, encoder, trust_remote_code)
    tokenizer = _load_tokenizer(folder, encoder, trust_remote_code)
    model, facts = load_model(folder, encoder, trust_remote_code)
    return MaskedModel(
        model,
        _vocabulary(tokenizer, _limit(tokenizer, model.config, encoder), encoder),
        f"hf-dna:{Path(name).name}" if Path(name).is_dir() else encoder,
        {"revision": commit, **facts},
        trained_on(Path(name).name),
        device,
        layer,
    )


def _find(encoder, name, weights, revision, trust_remote_code):
    """Give the folder of the model, and its commit where it comes from the hub."""
    folder, commit = Path(name if weights is None else weights), None
    if weights is None and not folder.is_dir():
        if trust_remote_code and not _COMMIT.fullmatch(revision or ""):
            raise SchemaError(
                f"encoder {encoder}: code of a hub is run only of a commit that you name and have "
                "read: add --revision with its 40 hexadecimal digits."
            )
        folder, commit = fetch(encoder, name, revision, code=trust_remote_code)
    elif revision is not None:
        raise SchemaError(f"encoder {encoder}: {folder} is a folder, which has no revision.")
    if not folder.is_dir() or not weight_files(folder):
        problem = f"{folder} has no {_WEIGHTS}" if folder.is_dir() else f"there is no {folder}"
        raise missing_weights(encoder, problem, _ADVICE)
    return folder, commit


def _load_tokenizer(folder, encoder, trust_remote_code):
    transformers = need("transformers", extra="genes")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, trust_remote_code=bool(trust_remote_code), local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError) as error:
        raise SchemaError(
            f"encoder {encoder}: transformers {transformers.__version__} cannot load the tokenizer "
            f"in {folder}: {str(error).splitlines()[0]}"
        ) from error
    if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
        raise SchemaError(f"encoder {encoder}: its tokenizer has no mask or no padding token.")
    return tokenizer


def _limit(tokenizer, config, encoder):
    """Give how many tokens the model takes: the least that model and tokenizer state."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in _POSITIONS_BEHIND_PADDING:
        positions -= config.pad_token_id + 1
    stated = tokenizer.model_max_length
    known = [int(n) for n in (positions, stated if stated < 10**9 else None) if n]
    if not known:
        raise SchemaError(f"encoder {encoder}: neither model nor tokenizer states how many tokens.")
    return min(known)


def _vocabulary(tokenizer, max_tokens, encoder):
    unknown = tokenizer.unk_token_id

    def read(sequence):
        ids = tokenizer(sequence, verbose=False)["input_ids"]
        special = tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True)
        texts = [
            "?" if number == unknown else "" if is_special else text
            for number, is_special, text in zip(
                ids, special, tokenizer.convert_ids_to_tokens(ids), strict=True
            )
        ]
        if sum(map(len, texts)) != len(sequence):
            raise SchemaError(
                f"encoder {encoder}: its tokens cannot be laid side by side on the sequence "
                f"({sum(map(len, texts))} letters for {len(sequence)} bases)."
            )
        return Tokens(list(ids), texts)

    trial = "".join(random.Random(0).choices("ACGT", k=3000))
    special = set(tokenizer.all_special_ids)
    return Vocabulary(
        read,
        {text: number for text, number in tokenizer.get_vocab().items() if number not in special},
        tokenizer.pad_token_id,
        tokenizer.mask_token_id,
        max_tokens,
        int(_SHARE * max_tokens * len(trial) / len(read(trial).ids)),
    )
