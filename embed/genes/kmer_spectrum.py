"""The encoder ``kmer``: how often each triplet, codon and G or C occurs; no weights."""

import itertools

import numpy as np

K = 3
_WORDS = ["".join(letters) for letters in itertools.product("ACGT", repeat=K)]
_CODES = np.full(256, -1, dtype=np.int16)
_CODES[np.frombuffer(b"ACGT", np.uint8)] = np.arange(4)


def load(name, **_):
    """Make the encoder; nothing to load."""
    return KmerSpectrum()


class KmerSpectrum:
    """Counts of a sequence, divided by its bases other than N.

    Features: ``gc``, the share of G and C; ``gc1`` to ``gc3``, of it what lies at the first, second
    and third position of the triplets in frame; ``kmer_AAA`` ..., every three neighbours; and
    ``codon_AAA`` ..., the triplets in frame. The frame is that of the gene's reference sequence,
    which no reading frame need follow; behind an insertion or deletion it is shifted to the end of
    the window's core. So a shift by three bases leaves most triplets what they were, and a shift
    by one or two does not. N counts nowhere.
    """

    id = "kmer-1"
    pretrained_on = ()
    max_tokens = None
    max_bases = None
    masked = False  # whether it has log_likelihood_ratios
    feature_names = (
        "gc", "gc1", "gc2", "gc3",
        *(f"kmer_{word}" for word in _WORDS),
        *(f"codon_{word}" for word in _WORDS),
    )  # fmt: skip
    dim = len(feature_names)

    def fits(self, sequence):
        """Say whether a sequence can be encoded at once; any can."""
        return True

    def encode(self, sequences):
        """Compute the spectra of whole sequences.

        Parameters
        ----------
        sequences : list of str

        Returns
        -------
        ndarray of float32 (n, 132)
        """
        sums, counts = self.sum_tokens([(s, 0, len(s)) for s in sequences])
        return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)

    def sum_tokens(self, windows):
        """Count what begins in the core of each window.

        Parameters
        ----------
        windows : list of (str, int, int)
            Sequence, and start and end of its core (0-based, end excluded).

        Returns
        -------
        sums : ndarray of float64 (n, 132)
        counts : ndarray of int64 (n,)
            Bases of the cores other than N.
        """
        sums = np.zeros((len(windows), self.dim))
        counts = np.zeros(len(windows), dtype=np.int64)
        for row, (sequence, start, end) in enumerate(windows):
            codes = _CODES[np.frombuffer(sequence.encode("ascii"), np.uint8)]
            core = codes[start:end]
            strong = (core == 1) | (core == 2)
            by_position = [strong[phase::K].sum() for phase in range(K)]
            sums[row, :4] = strong.sum(), *by_position
            counts[row] = np.count_nonzero(core >= 0)
            words = _words(codes, start, end)
            sums[row, 4:68] = np.bincount(words[words >= 0], minlength=64)
            framed = words[::K]
            sums[row, 68:] = np.bincount(framed[framed >= 0], minlength=64)
        return sums, counts


def _words(codes, start, end):
    """Give the codes of the triplets that begin in the core, in order; -1 with N or cut off."""
    padded = np.concatenate([codes[start : end + K - 1], np.full(K - 1, -1, np.int16)])
    parts = [padded[i : i + end - start] for i in range(K)]
    word = parts[0] * 16 + parts[1] * 4 + parts[2]
    return np.where(np.min(parts, axis=0) >= 0, word, -1)
