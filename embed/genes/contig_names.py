"""Contigs by other names: ``chr17``, ``17`` and ``NC_000017.11`` are the same chromosome."""

import re

_REFSEQ = re.compile(r"NC_0{4,5}(\d{1,2})\.\d+$")
_SEX = {"23": "X", "24": "Y"}


def match_contig(wanted, known):
    """Find the contig that is meant among those there are.

    ``chr17``, ``17`` and RefSeq's ``NC_000017.11`` are one contig, and so are ``chrM``, ``M`` and
    ``MT`` (RefSeq's names are those of human chromosomes). The same name goes before another one.
    Two versions of a RefSeq name (``NC_000017.10`` is of GRCh37, ``.11`` of GRCh38) never match.

    Parameters
    ----------
    wanted : str
    known : collection of str

    Returns
    -------
    str or None
        None when no contig fits or more than one.

    Examples
    --------
    >>> match_contig("chr17", ["16", "17"])
    '17'
    >>> match_contig("NC_000017.11", ["NC_000017.10"]) is None
    True
    """
    if wanted in known:
        return wanted
    refseq = _REFSEQ.match(wanted)
    found = [
        name
        for name in known
        if _plain(name) == _plain(wanted) and not (refseq and _REFSEQ.match(name))
    ]
    return found[0] if len(found) == 1 else None


def _plain(name):
    """Give a contig's name without what differs between sources."""
    if refseq := _REFSEQ.match(name):
        return _SEX.get(refseq[1].lstrip("0"), refseq[1].lstrip("0"))
    if name.startswith("NC_012920."):
        return "MT"
    name = name[3:] if name[:3].lower() == "chr" else name
    return "MT" if name == "M" else name
