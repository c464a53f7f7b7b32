"""Tokens of the Nucleotide Transformer: 6-mers, single letters around N and for the remainder."""

import itertools
import re

TOKEN_BASES = 6
CLS, PAD, MASK, UNK = "<cls>", "<pad>", "<mask>", "<unk>"
# Leftmost and longest first, as the published tokenizer reads; what is no base is one token each.
_TOKEN = re.compile(r"[ACGT]{6}|.", re.DOTALL)


def tokenize(sequence):
    """Cut a DNA sequence into the tokens of the Nucleotide Transformer.

    Bases are grouped in sixes from the left. N is a token of its own and the grouping starts anew
    after it; bases that make no whole six before an N or the end are a token each.

    Parameters
    ----------
    sequence : str
        Upper case; anything but A, C, G, T, N becomes ``<unk>``, as published.

    Returns
    -------
    list of str
        ``<cls>`` first; no token ends the sequence.

    References
    ----------
    Dalla-Torre H, et al. Nucleotide Transformer: building and evaluating robust foundation models
    for human genomics. Nature Methods 22, 287-297 (2025).

    Examples
    --------
    >>> " ".join(tokenize("ACGTGTACNTGCACGGANCGACTAGTCTGA"))
    '<cls> ACGTGT A C N TGCACG G A N CGACTA GTCTGA'
    """
    found = _TOKEN.findall(sequence)
    return [CLS, *(token if len(token) == TOKEN_BASES or token in "ACGTN" else UNK
                   for token in found)]  # fmt: skip


def count_tokens(sequence):
    """Count the tokens of a sequence, ``<cls>`` included, without making them all.

    Examples
    --------
    >>> count_tokens("ACGTGTACNTGCACGGANCGACTAGTCTGA")
    11
    """
    if set(sequence) <= set("ACGT"):
        return 1 + sum(divmod(len(sequence), TOKEN_BASES))
    return 1 + len(_TOKEN.findall(sequence))


def vocabulary(with_ends=False):
    """List the published vocabulary, in the order of its ids.

    Parameters
    ----------
    with_ends : bool, default False
        Append ``<eos>`` and ``<bos>``: 4,107 tokens as in version 2; version 1 has 4,105.

    Returns
    -------
    list of str

    Examples
    --------
    >>> vocabulary()[:6], vocabulary()[-5:], len(vocabulary())
    (['<unk>', '<pad>', '<mask>', '<cls>', 'AAAAAA', 'AAAAAT'], ['A', 'T', 'C', 'G', 'N'], 4105)
    """
    six = ("".join(letters) for letters in itertools.product("ATCG", repeat=TOKEN_BASES))
    ends = ["<eos>", "<bos>"] if with_ends else []
    return [UNK, PAD, MASK, CLS, *six, "A", "T", "C", "G", "N", *ends]
