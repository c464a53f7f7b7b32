"""Read a GenBank flat file: where its sequence lies, its bases, and its genes with coding exons.

Biopython reads more of the format, but not where a region lies on its chromosome (``REGION:`` in
the ACCESSION line), and nothing else here would need it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tabular_trainers.errors import SchemaError

_REGION = re.compile(r"REGION:\s*(complement\()?(\d+)\.\.(\d+)\)?")
_SPAN = re.compile(r"[<>]?(\d+)(?:\.\.[<>]?(\d+))?")
_REMOTE = re.compile(r"[A-Z_]+\d+\.\d+:")


@dataclass(frozen=True)
class GenBankFeature:
    """A feature of a record, in the coordinates of its contig.

    Attributes
    ----------
    kind : str
        ``"gene"`` or ``"CDS"``.
    symbol : str
    strand : str
        ``"+"`` or ``"-"``.
    spans : tuple of (int, int)
        Zero-based, half-open, ascending.
    """

    kind: str
    symbol: str
    strand: str
    spans: tuple


@dataclass(frozen=True)
class GenBankRecord:
    """A record, turned to the plus strand of its contig.

    Attributes
    ----------
    contig : str
        The VERSION line: ``NC_000017.11``.
    definition : str
    start : int
        Where the sequence begins on the contig, zero-based. 0 for a record that is no region.
    sequence : str
        The contig's plus strand, in upper case: GenBank's lower case marks nothing.
    features : tuple of GenBankFeature
    """

    contig: str
    definition: str
    start: int
    sequence: str
    features: tuple


def read_genbank(path):
    """Read the records of a GenBank file.

    The record of a region has positions of its own, from 1; its ACCESSION line says where they lie,
    as in ``NC_000017 REGION: complement(43044295..43170327)``. Everything is given in the positions
    and on the plus strand of the contig, so that it fits the variants of a VCF.

    Parameters
    ----------
    path : path

    Returns
    -------
    tuple of GenBankRecord

    Raises
    ------
    SchemaError
        For a file that is not GenBank, ends before its record does, or has no sequence.
    """
    path = Path(path)
    records, lines = [], []
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if line.startswith("//"):
                records.append(_record(lines, path.name))
                lines = []
            else:
                lines.append(line.rstrip("\n"))
    if any(line.strip() for line in lines) or not records:
        raise SchemaError(
            f"{path.name}: not a whole GenBank file; expected LOCUS first and // at the end."
        )
    return tuple(records)


def _record(lines, name):
    starts = {}
    for number, line in enumerate(lines):
        if line[:1].strip():
            starts.setdefault(line.split(maxsplit=1)[0], number)
    if not {"LOCUS", "VERSION", "ORIGIN"} <= set(starts):
        raise SchemaError(
            f"{name}: expected the lines LOCUS, VERSION and ORIGIN with the bases in each record; "
            "download the full GenBank record with its sequence."
        )
    bases = "".join("".join(line[10:].split()) for line in lines[starts["ORIGIN"] + 1 :]).upper()
    stated = re.search(r"(\d+) bp", lines[starts["LOCUS"]])
    if stated and int(stated[1]) != len(bases):
        raise SchemaError(
            f"{name}: LOCUS says {int(stated[1]):,} bases, but {len(bases):,} are there."
        )
    region = _REGION.search(lines[starts["ACCESSION"]]) if "ACCESSION" in starts else None
    first, last = (int(region[2]), int(region[3])) if region else (1, len(bases))
    if last - first + 1 != len(bases):
        raise SchemaError(
            f"{name}: the region {first}..{last} has {last - first + 1:,} bases, but "
            f"{len(bases):,} are there."
        )
    turned = bool(region and region[1])
    features = ()
    if "FEATURES" in starts:
        features = _features(lines[starts["FEATURES"] + 1 : starts["ORIGIN"]], first, last, turned)
    return GenBankRecord(
        contig=lines[starts["VERSION"]].split()[1],
        definition=lines[starts["DEFINITION"]][12:].strip() if "DEFINITION" in starts else "",
        start=first - 1,
        sequence=reverse_complement(bases) if turned else bases,
        features=features,
    )


def _features(lines, first, last, turned):
    """Read genes and coding sequences, moved to where they lie on the contig."""
    found, at = [], 0
    while at < len(lines):
        kind, location = lines[at][5:21].strip(), lines[at][21:].strip()
        at += 1
        rest = []
        while at < len(lines) and not lines[at][5:21].strip():
            rest.append(lines[at][21:].strip())
            at += 1
        if kind not in ("gene", "CDS"):
            continue
        text = "\n".join(rest)
        symbol = re.search(r'^/gene="([^"]+)"', text, re.MULTILINE)
        location += text.partition("/")[0].replace("\n", "")
        if symbol is None or _REMOTE.search(location):
            continue  # a piece on another record has no place here
        pairs = [(int(a), int(b or a)) for a, b in _SPAN.findall(location)]
        minus = "complement" in location
        if turned:
            spans = [(last - b, last - a + 1) for a, b in pairs]
        else:
            spans = [(first + a - 2, first + b - 1) for a, b in pairs]
        strand = "-" if minus != turned else "+"
        found.append(GenBankFeature(kind, symbol[1], strand, tuple(sorted(spans))))
    return tuple(found)


_COMPLEMENT = str.maketrans("ACGTRYSWKMBDHVNacgtryswkmbdhvn", "TGCAYRSWMKVHDBNtgcayrswmkvhdbn")


def reverse_complement(sequence):
    """Give the other strand, read in its own direction; IUPAC codes are complemented too.

    Examples
    --------
    >>> reverse_complement("AACGN")
    'NCGTT'
    """
    return sequence.translate(_COMPLEMENT)[::-1]
