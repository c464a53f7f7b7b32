"""The reference sequence, from FASTA or a GenBank record."""

import logging
import re
import tempfile
from pathlib import Path

from tabular_trainers.embed.requirements import need
from tabular_trainers.embed.whole_files import written_whole
from tabular_trainers.errors import SchemaError, count, listing, nearest

from .contig_names import match_contig
from .genbank import read_genbank
from .gene_coordinates import kind_of_source

_LOG = logging.getLogger("tabular_trainers")
# What each code of IUPAC stands for.
IUPAC = {
    **{base: base for base in "ACGT"},
    **{"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"},
    **{"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT"},
}
_AMBIGUOUS = str.maketrans("RYSWKMBDHV", "N" * 10)
_NO_CODE = re.compile(f"[^{''.join(IUPAC)}]")


class Reference:
    """A reference sequence, read where it is asked for.

    Bases are upper case: lower case, which marks repeats (soft masking), is read as upper case.
    Codes of IUPAC other than A, C, G, T and N stand for several bases and become N, as the
    published vocabularies of DNA models know no others. Positions are zero-based and half-open.

    Parameters
    ----------
    path : path
        FASTA (``bgzip``-compressed too), where an index ``.fai`` is made if there is none, or
        GenBank. A FASTA of genes serves as well: each record is then a contig.

    Attributes
    ----------
    name : str
        The file's name; for GenBank with the record's definition, which states the build.
    contigs : dict of str to (int, int)
        The stretch of each contig that is there.

    Raises
    ------
    SchemaError
        For a file that is missing or is neither, and for a FASTA in plain gzip.
    """

    def __init__(self, path):
        path = Path(path)
        kind = kind_of_source(path)
        if not path.is_file():
            raise SchemaError(f"{path.name}: no such file ({path}).")
        if kind not in ("fasta", "genbank"):
            raise SchemaError(
                f"{path.name}: not a reference; expected FASTA (.fa, .fasta, .fna, also with .gz) "
                "or GenBank (.gb, .gbk, .gbff)."
            )
        self.path = path
        self._told = set()
        self._fasta, self._records = None, {}
        if kind == "genbank":
            records = read_genbank(path)
            self._records = {record.contig: record for record in records}
            self.name = f"{path.name} ({listing(record.definition for record in records)})"
            self.contigs = {r.contig: (r.start, r.start + len(r.sequence)) for r in records}
        else:
            self.name = path.name
            self._fasta = _open_fasta(path)
            lengths = zip(self._fasta.references, self._fasta.lengths, strict=True)
            self.contigs = {contig: (0, length) for contig, length in lengths}

    def contig(self, name):
        """Find a contig by this or another of its names.

        Raises
        ------
        SchemaError
            When there is none, or it is not clear which; the known ones are listed.
        """
        found = match_contig(name, list(self.contigs))
        if found is None:
            raise SchemaError(
                f"{self.path.name}: no contig {name!r}; it has {listing(self.contigs)}."
                f"{nearest(name, self.contigs)}"
            )
        if found != name and name not in self._told:
            self._told.add(name)
            _LOG.info("contig %s is read as %s of %s.", name, found, self.path.name)
        return found

    def written(self, contig, start, end):
        """Give bases as the file writes them, lower case and codes of IUPAC too.

        Raises
        ------
        SchemaError
            For a contig or stretch that is not there, and for letters that are no code of IUPAC.
        """
        own = self.contig(contig)
        first, last = self.contigs[own]
        if not first <= start <= end <= last:
            raise SchemaError(
                f"{self.path.name}: {own}:{start + 1}-{end} is asked for, but bases "
                f"{first + 1}-{last} are there; ask for less flank, or give a longer reference."
            )
        if self._fasta is not None:
            bases = self._fasta.fetch(own, start, end)
        else:
            bases = self._records[own].sequence[start - first : end - first]
        if wrong := sorted(set(_NO_CODE.findall(bases.upper()))):
            raise SchemaError(
                f"{self.path.name}, {own}:{start + 1}-{end}: {listing(map(repr, wrong))} among the "
                f"bases; expected {listing(IUPAC, len(IUPAC))}."
            )
        if len(bases) != end - start:
            raise SchemaError(
                f"{self.path.name}: {count(len(bases), 'base')} instead of {end - start:,} at "
                f"{own}:{start + 1}-{end}; the file or its index is broken. Delete the .fai and "
                "run again."
            )
        return bases

    def fetch(self, contig, start, end):
        """Give the bases of a stretch of the plus strand, as A, C, G, T and N.

        Parameters
        ----------
        contig : str
        start, end : int
            Zero-based, half-open.

        Returns
        -------
        str
            ``end - start`` bases, upper case.

        Raises
        ------
        SchemaError
            As ``written`` does.
        """
        return plain_bases(self.written(contig, start, end))


def plain_bases(letters):
    """Turn letters into A, C, G, T and N: upper case, and N for other codes of IUPAC.

    Examples
    --------
    >>> plain_bases("acgRN")
    'ACGNN'
    """
    return letters.upper().translate(_AMBIGUOUS)


def agrees(allele, letters):
    """Tell whether bases may be those of a reference: equal, or among what its codes stand for.

    Examples
    --------
    >>> agrees("AC", "aY"), agrees("AG", "aY")
    (True, False)
    """
    allele, letters = allele.upper(), letters.upper()
    if allele == letters:
        return True
    if len(allele) != len(letters):
        return False
    pairs = zip(allele, letters, strict=True)
    return all(set(IUPAC.get(a, a)) & set(IUPAC[b]) for a, b in pairs)


def _open_fasta(path):
    pysam = need("pysam", extra="genes")
    compressed = path.name.lower().endswith(".gz")
    with path.open("rb") as stream:
        head = stream.read(18)
    if compressed and head[12:14] != b"BC":
        raise SchemaError(
            f"{path.name}: not compressed by bgzip, so that no place in it can be found; "
            f"unpack it, and compress it with bgzip if it must be small."
        )
    if not compressed and not head.startswith(b">"):
        raise SchemaError(f"{path.name}: not FASTA; expected a line that starts with '>' first.")
    wanted = [Path(f"{path}{suffix}") for suffix in (".fai", *([".gzi"] if compressed else []))]
    written = path.stat().st_mtime
    before = pysam.set_verbosity(0)
    try:
        if all(index.is_file() and index.stat().st_mtime >= written for index in wanted):
            return pysam.FastaFile(str(path))
        with tempfile.TemporaryDirectory() as folder:
            made = [Path(folder) / index.name for index in wanted]
            options = ["--fai-idx", str(made[0])]
            options += ["--gzi-idx", str(made[1])] if compressed else []
            pysam.faidx(*options, str(path), catch_stdout=False)
            fasta = pysam.FastaFile(
                str(path), filepath_index=str(made[0]),
                filepath_index_compressed=str(made[-1]) if compressed else None,
            )  # fmt: skip
            _keep(made, wanted)
            return fasta
    except (OSError, ValueError, pysam.SamtoolsError) as error:
        raise SchemaError(
            f"{path.name}: not FASTA that can be indexed; lines of a record must have the same "
            "length and the file must be whole."
        ) from error
    finally:
        pysam.set_verbosity(before)


def _keep(made, wanted):
    """Leave the index beside the file, for the next time; where that is not allowed, do not."""
    for source, target in zip(made, wanted, strict=True):
        try:
            with written_whole(target) as partial:
                partial.write_bytes(source.read_bytes())
        except OSError:
            return
