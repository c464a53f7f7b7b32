"""The encoder ``nt``: InstaDeep's Nucleotide Transformer, version 1 or 2."""

from pathlib import Path

from tabular_trainers.embed.weights import missing_weights, weight_files
from tabular_trainers.errors import SchemaError

from .masked_models import MaskedModel, Tokens, Vocabulary
from .model_files import check_code, load_model, read_config
from .tokens import CLS, MASK, PAD, TOKEN_BASES, UNK, count_tokens, tokenize, vocabulary

_FILES = ("config.json", "vocab.txt", "model.safetensors or pytorch_model.bin")
_ADVICE = (
    "Weights are InstaDeep's (licence CC BY-NC-SA 4.0: no commercial use): download "
    f"{', '.join(_FILES)} (version 2 also esm_config.py, modeling_esm.py) from "
    "huggingface.co/InstaDeepAI, for example InstaDeepAI/nucleotide-transformer-500m-human-ref "
    "(version 1) or InstaDeepAI/nucleotide-transformer-v2-100m-multi-species (version 2), into one "
    "folder called like the model, and name it: weights=FOLDER, or --weights FOLDER."
)
# What follows the size in the names of the published models, as their cards say.
_TRAINED_ON = {
    "human-ref": ("human reference genome GRCh38",),
    "1000g": ("1000 Genomes (3,202 human genomes)",),
    "multi-species": ("850 genomes of many species, GRCh38 among them",),
}


def load(name, *, weights, device, layer, revision, trust_remote_code):
    """Load the network from a folder; see :func:`..encoders.load_encoder`."""
    if revision is not None:
        raise SchemaError(
            "encoder nt: weights are read from a folder, so there is no revision to choose."
        )
    if weights is None or not Path(weights).is_dir():
        problem = "no weights given" if weights is None else f"{weights}: there is no such folder"
        raise missing_weights("nt", problem, _ADVICE)
    folder = Path(weights)
    config = read_config(folder, "nt")
    missing = [] if weight_files(folder) else [_FILES[2]]
    if not (folder / "vocab.txt").is_file():
        missing.append("vocab.txt")
    if missing:
        raise missing_weights("nt", f"{folder} has no {' and no '.join(missing)}", _ADVICE)
    tokens = (folder / "vocab.txt").read_text(encoding="utf-8").split()
    if tokens not in (vocabulary(), vocabulary(with_ends=True)):
        raise SchemaError(
            f"encoder nt: vocab.txt in {folder} is not the vocabulary of the Nucleotide Transformer"
            f" ({len(tokens)} tokens; expected 4,105 or 4,107 in the published order)."
        )
    check_code(folder, "nt", trust_remote_code)
    model, facts = load_model(folder, "nt", trust_remote_code)
    # absolute positions are numbered from the padding's id + 1
    max_tokens = config["max_position_embeddings"] - config["pad_token_id"] - 1
    return MaskedModel(
        model,
        published_vocabulary(tokens, max_tokens),
        "nt",
        facts,
        trained_on(folder.resolve().name),
        device,
        layer,
    )


def published_vocabulary(tokens, max_tokens):
    """Make the vocabulary of the published tokens, in the order of their ids."""
    ids = {token: number for number, token in enumerate(tokens)}

    def read(sequence):
        texts = tokenize(sequence)
        return Tokens(
            [ids[text] for text in texts],
            ["", *("?" if text == UNK else text for text in texts[1:])],
        )

    return Vocabulary(
        read,
        {t: i for t, i in ids.items() if not t.startswith("<")},
        ids[PAD],
        ids[MASK],
        max_tokens,
        TOKEN_BASES * (max_tokens - len([CLS])),
        count_tokens,
    )


def trained_on(name):
    """Say what a published model was trained on, by its name.

    Examples
    --------
    >>> trained_on("nucleotide-transformer-500m-human-ref")
    ('human reference genome GRCh38',)
    >>> trained_on("ours")
    ('unknown',)
    """
    for ending, data in _TRAINED_ON.items():
        if name.lower().startswith("nucleotide-transformer") and name.lower().endswith(ending):
            return data
    return ("unknown",)
