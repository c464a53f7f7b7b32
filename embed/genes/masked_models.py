"""What masked models of DNA share: tokens in, sums over real tokens and log-likelihood ratios out.

Networks compute in float32, and tokens are summed in float64: a substitution moves the mean of a
gene by less than half precision rounds.
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tabular_trainers.embed.encoders.networks import find_device
from tabular_trainers.embed.requirements import need
from tabular_trainers.embed.weights import sha256_of, weight_files
from tabular_trainers.errors import SchemaError, listing

DEPTH = 5 / 6  # of the default layer
_SETTINGS = ("config.json", "tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens")
_UNUSED = ("contact_head.", "pooler.")  # heads that neither features nor ratios pass through


@dataclass(frozen=True)
class Tokens:
    """The tokens of one sequence.

    Parameters
    ----------
    ids : list of int
        Special tokens included.
    texts : list of str
        What each stands for in the sequence; ``""`` for special tokens.
    """

    ids: list
    texts: list


@dataclass(frozen=True)
class Vocabulary:
    """What a model's ids mean.

    Parameters
    ----------
    read : callable
        Sequence (str) to Tokens.
    ids : dict
        Token to id.
    pad, mask : int
        Ids.
    max_tokens : int
        What the model takes at once, special tokens included.
    max_bases : int
        About how many bases these are.
    count : callable, optional
        Sequence to its number of tokens, where that is quicker than ``read``.
    """

    read: object
    ids: dict
    pad: int
    mask: int
    max_tokens: int
    max_bases: int
    count: object = None


class MaskedModel:
    """An encoder of DNA that is a masked network.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        For masked language modelling.
    vocabulary : Vocabulary
    name : str
        What the encoder is called.
    facts : dict
        What else its features depend on, by name: the sha256 of weights, of settings.
    pretrained_on : tuple of str
    device : str
    layer : int or None
        None: five sixths of the depth.
    batch_size : int, default 8
        Sequences a forward.

    Attributes
    ----------
    calls, masked_calls : int
        Sequences encoded, and masked sequences read, since it was made.
    """

    feature_names = None
    masked = True

    def __init__(
        self, model, vocabulary, name, facts, pretrained_on, device, layer=None, batch_size=8
    ):
        self._torch = need("torch")
        self._device = find_device(device)
        self._model = model.to(self._device).float().eval()
        self._vocabulary = vocabulary
        depth = model.config.num_hidden_layers
        self.layer = round(DEPTH * depth) if layer is None else layer
        if self.layer not in range(1, depth + 1):
            raise SchemaError(f"layer {layer}: this network has layers 1 to {depth}.")
        facts = {"layer": self.layer, **facts}
        self.id = " ".join([name, *(f"{key}={value}" for key, value in facts.items() if value)])
        self.dim = model.config.hidden_size
        self.pretrained_on = pretrained_on
        self.max_tokens = vocabulary.max_tokens
        self.max_bases = vocabulary.max_bases
        self.batch_size = batch_size
        self._single_letters = max(map(len, vocabulary.ids)) == 1
        self.calls = self.masked_calls = 0

    def fits(self, sequence):
        """Say whether a sequence can be encoded at once."""
        if self._vocabulary.count is not None:
            return self._vocabulary.count(sequence) <= self.max_tokens
        return len(self._vocabulary.read(sequence).ids) <= self.max_tokens

    def encode(self, sequences):
        """Compute the mean over the tokens of whole sequences.

        Parameters
        ----------
        sequences : list of str
            None longer than the model takes.

        Returns
        -------
        ndarray of float32 (n, dim)
        """
        sums, counts = self.sum_tokens([(s, 0, len(s)) for s in sequences])
        return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)

    def sum_tokens(self, windows):
        """Sum the layer's vectors over the tokens that begin in the core of each window.

        Parameters
        ----------
        windows : list of (str, int, int)
            Sequence, and start and end of its core (0-based, end excluded).

        Returns
        -------
        sums : ndarray of float64 (n, dim)
        counts : ndarray of int64 (n,)
            Tokens that were summed.
        """
        torch = self._torch
        sums = np.zeros((len(windows), self.dim))
        counts = np.zeros(len(windows), dtype=np.int64)
        for first in range(0, len(windows), self.batch_size):
            batch = windows[first : first + self.batch_size]
            tokens = [self._read(sequence) for sequence, _, _ in batch]
            chosen = [
                _in_core(t.texts, start, end)
                for t, (_, start, end) in zip(tokens, batch, strict=True)
            ]
            with torch.inference_mode():
                ids, attention = self._padded([t.ids for t in tokens])
                weight = torch.zeros(ids.shape, dtype=torch.float64)
                for row, wanted in enumerate(chosen):
                    weight[row, : len(wanted)] = torch.from_numpy(wanted)
                hidden = self._model.base_model(
                    input_ids=ids, attention_mask=attention, output_hidden_states=True
                ).hidden_states[self.layer]
                pooled = (hidden.double() * weight.to(hidden.device)[..., None]).sum(1)
            sums[first : first + len(batch)] = pooled.cpu().numpy()
            counts[first : first + len(batch)] = [wanted.sum() for wanted in chosen]
        self.calls += len(windows)
        return sums, counts

    def log_likelihood_ratios(self, substitutions):
        """Compare a substitution with the reference: log p(alt token) - log p(ref token).

        The token of the reference that holds the base is masked; of two substitutions in one token
        each is taken alone. Each distinct masked sequence is read once.

        Parameters
        ----------
        substitutions : list of (str, int, str, str)
            Reference sequence, offset in it, reference base and what it is replaced by.

        Returns
        -------
        ndarray of float64 (n,)
            NaN where there is no ratio: the token is no whole k-mer of bases but N or a single
            letter of a remainder, or the changed one is not in the vocabulary.
        """
        found = np.full(len(substitutions), np.nan)
        read, masked = {}, {}
        for number, (sequence, offset, ref, alt) in enumerate(substitutions):
            if sequence not in read:
                tokens = self._read(sequence)
                read[sequence] = tokens, np.cumsum([0, *map(len, tokens.texts)])
            tokens, starts = read[sequence]
            place = int(np.searchsorted(starts, offset, side="right")) - 1
            text, inside = tokens.texts[place], offset - starts[place]
            if text[inside : inside + len(ref)] != ref:
                continue
            changed = text[:inside] + alt + text[inside + len(ref) :]
            if self._is_whole(text) and self._is_whole(changed) and len(text) == len(changed):
                masked.setdefault((sequence, place), []).append((number, changed))
        places = list(masked)
        for first in range(0, len(places), self.batch_size):
            batch = places[first : first + self.batch_size]
            rows = [self._masked_ids(read[sequence][0], place) for sequence, place in batch]
            with self._torch.inference_mode():
                ids, attention = self._padded(rows)
                logits = self._model(input_ids=ids, attention_mask=attention).logits
                at = self._torch.tensor([place for _, place in batch], device=logits.device)
                logits = logits[self._torch.arange(len(batch), device=logits.device), at]
                # the two logits' difference is that of their logarithms of p
                logits = logits.double().cpu().numpy()
            for row, key in enumerate(batch):
                ref_id = read[key[0]][0].ids[key[1]]
                for number, changed in masked[key]:
                    found[number] = logits[row, self._vocabulary.ids[changed]] - logits[row, ref_id]
        self.masked_calls += len(places)
        return found

    def _is_whole(self, text):
        """Say whether a token is a k-mer of known bases, and no single letter where others are."""
        known = text in self._vocabulary.ids and set(text) <= set("ACGT")
        return known and (len(text) > 1 or self._single_letters)

    def _masked_ids(self, tokens, place):
        return [*tokens.ids[:place], self._vocabulary.mask, *tokens.ids[place + 1 :]]

    def _read(self, sequence):
        tokens = self._vocabulary.read(sequence)
        if len(tokens.ids) > self.max_tokens:
            raise SchemaError(
                f"a sequence of {len(sequence)} bases is {len(tokens.ids)} tokens; this encoder "
                f"takes {self.max_tokens} at once."
            )
        return tokens

    def _padded(self, rows):
        torch = self._torch
        ids = torch.full((len(rows), max(map(len, rows))), self._vocabulary.pad)
        attention = torch.zeros(ids.shape, dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            attention[number, : len(row)] = 1
        return ids.to(self._device), attention.to(self._device)


def _in_core(texts, start, end):
    """Mark the tokens that begin in the core; special ones stand for nothing and begin nowhere."""
    lengths = np.array([len(text) for text in texts])
    begins = np.cumsum(lengths) - lengths
    return (lengths > 0) & (begins >= start) & (begins < end)


def read_config(folder, encoder):
    """Read a model's config.json, or say that the folder is none of a model."""
    path = Path(folder) / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SchemaError(
            f"encoder {encoder}: {path} cannot be read; expected the folder of a model as published"
            " on the Hugging Face hub (config.json, vocab.txt, model.safetensors)."
        ) from error


def load_model(folder, encoder, trust_remote_code):
    """Load a masked model of transformers from a folder, with everything that its weights need.

    Parameters
    ----------
    folder : Path
    encoder : str
        For messages.
    trust_remote_code : bool
        Run the Python files of that folder where the model brings some.

    Returns
    -------
    model : transformers.PreTrainedModel
    facts : dict
        The sha256 of its weights; of its settings, and code where that is run, the first digits.

    Raises
    ------
    SchemaError
        When its code would be needed and is not trusted, or lies elsewhere; and when weights are
        missing or are others.
    """
    transformers = need("transformers")
    folder, files = Path(folder), weight_files(folder)
    settings = [path for path in folder.iterdir() if path.name.startswith(_SETTINGS)]
    code = list(folder.glob("*.py")) if trust_remote_code else []
    facts = {"sha256": sha256_of(files), "settings": sha256_of(sorted([*settings, *code]))[:12]}
    options = {
        "trust_remote_code": bool(trust_remote_code),
        "local_files_only": True,
        "ignore_mismatched_sizes": True,  # they are in the report, which is held against below
    }
    try:
        with _silence(transformers.utils.logging):
            model, report = transformers.AutoModelForMaskedLM.from_pretrained(
                folder, output_loading_info=True, weights_only=True, dtype="float32", **options
            )
    except (OSError, ValueError, RuntimeError, ImportError, AttributeError, TypeError) as error:
        raise SchemaError(
            f"encoder {encoder}: transformers {transformers.__version__} cannot load {folder}: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    wrong = [
        name
        for kind in ("missing_keys", "mismatched_keys")
        for name in (item if isinstance(item, str) else item[0] for item in report[kind])
        if not any(head in name for head in _UNUSED)
    ]
    if wrong:
        raise SchemaError(
            f"encoder {encoder}: {listing([f.name for f in files])} in {folder} are not the "
            f"weights of this model: {len(wrong)} missing or of another shape "
            f"({listing(sorted(wrong), 3)})."
        )
    return model, facts


@contextlib.contextmanager
def _silence(logging):
    """Keep transformers' bars and tables of weights off the terminal: we say what matters."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def check_code(folder, encoder, trust_remote_code):
    """Refuse a model whose Python code is not trusted, or is not in its folder."""
    mapped = read_config(folder, encoder).get("auto_map")
    if not mapped:
        return
    if not trust_remote_code:
        raise SchemaError(
            f"encoder {encoder}: {folder} needs the Python code that comes with it, which is run "
            "only when asked for. Read its .py files, then add --trust-remote-code."
        )
    names = [name for value in mapped.values() for name in np.atleast_1d(value) if name]
    elsewhere = sorted({str(n).partition("--")[0] for n in names if "--" in str(n)})
    missing = sorted(
        {
            f"{module}.py"
            for name in names
            if "--" not in str(name)
            and not (Path(folder) / f"{(module := str(name).partition('.')[0])}.py").is_file()
        }
    )
    if elsewhere or missing:
        raise SchemaError(
            f"encoder {encoder}: the code of {folder} is not in that folder "
            f"({listing([*elsewhere, *missing])}). Code is run only from beside its weights, where "
            "it stays what it is: download the .py files too, and let auto_map in config.json name "
            "them without a repository."
        )
