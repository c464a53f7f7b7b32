"""One record of a VCF: its alleles, the genotypes of its samples, and what it says of genes.

A record is read from its text: of 10,000 samples nearly all have the same genotype, so that each
distinct one is parsed once, where going through pysam's objects costs a microsecond a sample.
"""

import functools
import math
import re
from dataclasses import dataclass

from .consequences import most_severe

MISSING, ABSENT = -2, -3  # as in Calls
_FORMAT = re.compile(r"Format:\s*([^\"]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Record:
    """A line of a VCF.

    Attributes
    ----------
    contig : str
    start, end : int
        Zero-based, half-open: the span of REF.
    ref : str
    alts : tuple of str
    filter : str
    info : str
    format : tuple of str
    samples : tuple of str
        As written.
    """

    contig: str
    start: int
    end: int
    ref: str
    alts: tuple
    filter: str
    info: str
    format: tuple
    samples: tuple


@dataclass(frozen=True)
class Call:
    """A genotype: numbers of alleles (0 reference, -2 missing, -3 not there)."""

    allele_1: int
    allele_2: int
    phased: bool
    phase_set: str | None = None


def parse_record(line):
    r"""Split a line of a VCF; bases become upper case, symbolic alleles stay as they are.

    Examples
    --------
    >>> parse_record("17\t11\t.\tac\tA,<DEL>\t.\tPASS\t.\tGT\t0|1").alts
    ('A', '<DEL>')
    """
    cells = line.rstrip("\r\n").split("\t")
    start, ref = int(cells[1]) - 1, cells[3].upper()
    alts = () if cells[4] == "." else tuple(
        alt if alt[:1] == "<" or "[" in alt or "]" in alt else alt.upper()
        for alt in cells[4].split(",")
    )  # fmt: skip
    return Record(
        contig=cells[0],
        start=start,
        end=start + len(ref),
        ref=ref,
        alts=alts,
        filter=cells[6],
        info=cells[7],
        format=tuple(cells[8].split(":")) if len(cells) > 8 else (),
        samples=tuple(cells[9:]),
    )


def genotype_reader(columns):
    """Make the function that reads the calls of chosen samples.

    Parameters
    ----------
    columns : sequence of (int, int)
        Column of a sample, and number of its patient.

    Returns
    -------
    callable
        ``read(record) -> (calls, bad)``: calls of (patient, Call, vaf) without those of reference
        alleles only, and what was wrong: ``"ploidy"``, ``"allele"`` or None.
    """

    def read(record):
        n_alts, calls = len(record.alts), []
        for column, patient in columns:
            parsed = _parse_sample(record.format, record.samples[column], n_alts)
            if isinstance(parsed, str):
                return [], parsed
            if parsed is not None:
                calls.append((patient, *parsed))
        return calls, None

    return read


@functools.lru_cache(maxsize=1 << 16)
def _parse_sample(names, text, n_alts):
    """Read one sample: None for the reference, a word for what is wrong, else (Call, vaf)."""
    values = dict(zip(names, text.split(":"), strict=False))
    genotype = values["GT"].lstrip("|/")
    parts = re.split(r"[|/]", genotype)
    if len(parts) > 2:
        return "ploidy"
    try:
        alleles = [MISSING if part == "." else int(part) for part in parts]
    except ValueError:
        return "allele"
    if any(allele > n_alts or allele < MISSING for allele in alleles):
        return "allele"
    if not any(alleles):
        return None
    if len(alleles) == 1:
        # A lone dot stands for a whole missing genotype, not for a haploid one.
        alleles.append(MISSING if alleles == [MISSING] else ABSENT)
    phase_set = values.get("PS", ".")
    call = Call(*alleles, "|" in genotype, None if phase_set == "." else phase_set)
    return call, _vaf(values, {allele for allele in alleles if allele > 0})


def _vaf(values, carried):
    """Give the largest share of reads with a carried allele: from AD, else from FORMAT/AF."""
    try:
        if values.get("AD", ".") != ".":
            depths = [int(depth) for depth in values["AD"].split(",")]
            total = sum(depths)
            return max(depths[a] / total for a in carried) if total and carried else math.nan
        if values.get("AF", ".") != ".":
            shares = [float(share) for share in values["AF"].split(",")]
            return max((shares[a - 1] for a in carried), default=math.nan)
    except (ValueError, IndexError):
        return math.nan
    return math.nan


@dataclass(frozen=True)
class Annotations:
    """What INFO says of consequences: VEP's CSQ or SnpEff's ANN.

    Attributes
    ----------
    key : str
        ``"CSQ"``, ``"ANN"`` or ``""``.
    fields : dict of str to int
        Place of ``allele``, ``consequence``, ``symbol`` and ``number`` (ALLELE_NUM) in an entry.
    """

    key: str
    fields: dict

    @classmethod
    def from_header(cls, header):
        """Read the order of the fields from a header."""
        if "CSQ" in header.info:
            found = _FORMAT.search(header.info["CSQ"].description or "")
            names = [name.strip() for name in found[1].split("|")] if found else []
            wanted = {"allele": "Allele", "consequence": "Consequence", "symbol": "SYMBOL",
                      "number": "ALLELE_NUM"}  # fmt: skip
            places = {key: names.index(name) for key, name in wanted.items() if name in names}
            return cls("CSQ", places if {"allele", "consequence"} <= set(places) else {})
        if "ANN" in header.info:  # the order is fixed (SnpEff's format of annotations, 1.0)
            return cls("ANN", {"allele": 0, "consequence": 1, "symbol": 3})
        return cls("", {})

    def consequence(self, record, number, symbol):
        """Find the most severe consequence of an allele on a gene.

        Parameters
        ----------
        record : Record
        number : int
            Of the alternative allele, from 1.
        symbol : str
            Entries of this gene are taken; without symbols in the file, all are.

        Returns
        -------
        str or None
        """
        if not self.fields:
            return None
        prefix = f"{self.key}="
        texts = [item[len(prefix) :] for item in record.info.split(";") if item.startswith(prefix)]
        terms = []
        for entry in texts[0].split(",") if texts else ():
            cells = entry.split("|")
            if len(cells) <= max(self.fields.values()):
                continue
            if self._is_of(cells, record, number) and self._symbol(cells, symbol) == symbol:
                terms += cells[self.fields["consequence"]].split("&")
        return most_severe(terms) if terms else None

    def _symbol(self, cells, default):
        return cells[self.fields["symbol"]] if "symbol" in self.fields else default

    def _is_of(self, cells, record, number):
        if "number" in self.fields:
            return cells[self.fields["number"]] == str(number)
        alt, written = record.alts[number - 1], cells[self.fields["allele"]].upper()
        # VEP drops a first base that all alleles share; SnpEff writes ALT as it is.
        return len(record.alts) == 1 or written in (alt.upper(), alt[1:].upper() or "-")
