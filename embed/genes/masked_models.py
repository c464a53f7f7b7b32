"""What masked models of DNA share: tokens in, sums over real tokens and log-likelihood ratios out.

Networks compute in float32, and tokens are summed in float64: a substitution moves the mean of a
gene by less than half precision rounds.
"""

from dataclasses import dataclass

import numpy as np

from tabular_trainers.embed.encoders.networks import find_device
from tabular_trainers.embed.requirements import need
from tabular_trainers.errors import SchemaError

DEPTH = 5 / 6  # of the default layer


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
        self._torch = need("torch", extra="genes")
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
