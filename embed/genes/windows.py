"""Windows over long genes: cores tile the reference, context on both sides, each base once.

A model sees at most so many tokens at once. The reference is tiled by cores; a window is a core
with context on both sides, and only tokens that begin in the core are pooled, so every token counts
once. A haplotype's cores begin and end where the reference's do, moved by the insertions and
deletions before them, and every core begins a new token. So a substitution changes only the windows
that hold it, and an insertion or deletion shifts the tokens behind it only as far as the end of
its core: the next core has the reference's tokens again, and is the same window. (Where a shifted
token reaches over the end of a core, up to five bases are read twice.)
"""

import hashlib
import itertools
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from tabular_trainers.errors import SchemaError

from .tokens import TOKEN_BASES

UNLIMITED_CORE = 6000  # bases; of encoders without a limit: about what version 1 of NT sees
UNLIMITED_CONTEXT = 2 * TOKEN_BASES


@dataclass(frozen=True)
class Window:
    """A piece of sequence that is encoded at once.

    Parameters
    ----------
    sequence : str
    start, end : int
        The core in it, 0-based, end excluded: what begins there is pooled, the rest is context.
    """

    sequence: str
    start: int
    end: int

    @cached_property
    def key(self):
        """The sha256 of sequence and core, as hexadecimal text: equal keys, equal vectors."""
        text = f"{self.start} {self.end} {self.sequence}"
        return hashlib.sha256(text.encode("ascii")).hexdigest()


class WindowPlan:
    """Where the cores of a gene begin and end, and how a haplotype is cut like its reference.

    Parameters
    ----------
    length : int
        Bases of the gene's reference sequence.
    encoder : object
        With ``max_bases`` (int, or None for no limit) and ``fits(sequence)``.
    """

    def __init__(self, length, encoder):
        self._fits = encoder.fits
        self._max_bases = encoder.max_bases
        self.context, core = UNLIMITED_CONTEXT, UNLIMITED_CORE
        if self._max_bases is not None:
            self.context = _whole_tokens(self._max_bases // 10)
            core = _whole_tokens(self._max_bases - 2 * self.context)
            if length <= self._max_bases:
                core = length
        if core < 1:
            raise SchemaError(
                f"the encoder sees {self._max_bases} bases at once; expected at least "
                f"{TOKEN_BASES}."
            )
        n = max(1, -(-length // core))
        step = length if n == 1 else _whole_tokens(-(-length // n) + TOKEN_BASES - 1)
        self.starts = list(range(0, max(length, 1), step))
        self.ends = [*self.starts[1:], length]

    def cut(self, sequence, edits=()):
        """Cut a haplotype.

        Parameters
        ----------
        sequence : str
            The haplotype, with its variants.
        edits : sequence of (int, int, str)
            What made it of the reference: start, end (0-based, end excluded, in the reference) and
            what stands there instead; sorted, none overlaps another.

        Returns
        -------
        list of Window
            In order. A core that is deleted has none; one that an insertion has made too long for
            the encoder has several.
        """
        position = _Positions(edits)
        bounds = [0, *map(position, self.starts[1:]), len(sequence)]
        return [
            window
            for start, end in itertools.pairwise(bounds)
            for window in self._fit(sequence, start, end)
        ]

    def window_of(self, reference, offset):
        """Give the reference's window whose core holds a base, and the offset in that window."""
        number = bisect_right(self.starts, offset) - 1
        inside = offset - self.starts[number]
        for window in self._fit(reference, self.starts[number], self.ends[number]):
            core = window.end - window.start
            if inside < core:
                break
            inside -= core
        return window, window.start + inside

    def _fit(self, sequence, start, end):
        """Give the window of a core, or of its halves where it is too long."""
        if start == end:
            return []
        for context in (self.context, _whole_tokens(self.context // 2), 0):
            left = min(context, _whole_tokens(start))
            right = min(context, len(sequence) - end)
            if self._max_bases is not None:
                right = max(0, min(right, self._max_bases - left - (end - start)))
            if end + right < len(sequence):  # no remainder of single letters before more sequence
                right -= min(right, (left + end - start + right) % TOKEN_BASES)
            piece = sequence[start - left : end + right]
            if self._fits(piece):
                return [Window(piece, left, left + end - start)]
        half = _whole_tokens((end - start) // 2)
        if half == 0:
            raise SchemaError(f"the encoder cannot take {end - start} bases at once.")
        return self._fit(sequence, start, start + half) + self._fit(sequence, start + half, end)


class _Positions:
    """Move a boundary of the reference into a haplotype."""

    def __init__(self, edits):
        self._starts, self._edits, self._moved = [], [], [0]
        for start, end, alt in edits:
            self._starts.append(start)
            self._edits.append((start, end, alt))
            self._moved.append(self._moved[-1] + len(alt) - (end - start))

    def __call__(self, boundary):
        number = bisect_right(self._starts, boundary)
        if number:
            start, end, alt = self._edits[number - 1]
            if end > boundary:  # inside what is replaced
                return start + self._moved[number - 1] + min(boundary - start, len(alt))
        return boundary + self._moved[number]


def _whole_tokens(bases):
    return bases - bases % TOKEN_BASES
