"""VCF and BCF files: whose they are, whether they are whole, and their records in chosen genes."""

from dataclasses import dataclass, field
from pathlib import Path

from tabular_trainers.embed.requirements import need
from tabular_trainers.errors import count, listing, nearest, rows, the_folder
from tabular_trainers.tables import read_table, resolve, table_name

from .contig_names import match_contig
from .variant_records import Annotations, parse_record

SUFFIXES = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")
COLUMNS = ("patient_id", "path")
# The block that ends every file of bgzip (SAM specification, section 4.1.2).
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


@dataclass(frozen=True)
class Sample:
    """A sample's place in a file: its column, from 0, and its patient."""

    column: int
    patient_id: str


@dataclass(frozen=True)
class VariantFile:
    """A file whose header has been read.

    Attributes
    ----------
    path : Path
    samples : tuple of Sample
    contigs : tuple of str
        Those of the header.
    annotations : Annotations
    indexed : bool
    """

    path: Path
    samples: tuple
    contigs: tuple
    annotations: Annotations
    indexed: bool = field(default=False)

    @property
    def name(self):
        """The name that messages show."""
        return self.path.name


def list_variant_files(paths, problems):
    """Read the headers of the files that were given or that one CSV lists.

    Parameters
    ----------
    paths : path or sequence of paths
    problems : Problems

    Returns
    -------
    list of VariantFile
        Those without problems.
    """
    given = [str(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    tables = [path for path in given if path.lower().endswith((".csv", ".tsv"))]
    if not given:
        problems.add("no variant files given; expected VCF or BCF files, or a CSV that lists them.")
    if tables and len(given) > 1:
        problems.add(f"{table_name(tables[0])}: a CSV of variant files must be given alone.")
    elif tables:
        given = _from_table(tables[0], problems)
    else:
        given = [(path, None) for path in given]
        for path in {path for path, _ in given if given.count((path, None)) > 1}:
            problems.add(f"{table_name(path)}: given more than once; name every file once.")
    if problems.messages:
        return []
    patients = {}
    for path, patient in given:
        patients.setdefault(path, []).append(patient)
    opened = [_open(Path(path), wanted, problems) for path, wanted in patients.items()]
    return [file for file in opened if file is not None]


def _from_table(uri, problems):
    frame = read_table(uri, text=COLUMNS)
    name = table_name(uri)
    for column in COLUMNS:
        if column not in frame.columns:
            problems.add(
                f"{name}: no column {column!r}; expected {listing(COLUMNS)}."
                f"{nearest(column, list(frame.columns))}"
            )
        elif frame[column].isna().any():
            empty = frame.index[frame[column].isna()]
            problems.add(f"{name}, column {column}: empty in {rows(empty)}; expected a value.")
    if problems.messages:
        return []
    repeated = frame.index[frame.duplicated(list(COLUMNS))]
    if len(repeated):
        problems.add(f"{name}: {rows(repeated)} repeated; expected each patient and file once.")
    paths = [resolve(path, Path(uri).parent) for path in frame["path"]]
    return list(zip(paths, frame["patient_id"], strict=True))


def _open(path, patients, problems):
    """Read one header; None, with a problem, when that cannot be done."""
    if not path.is_file():
        hint = ""
        if path.parent.is_dir():
            hint = nearest(path.name, sorted(entry.name for entry in path.parent.iterdir()))
        problems.add(f"{path.name}: no such file in {the_folder(path.parent)}.{hint}")
        return None
    if not path.name.lower().endswith(SUFFIXES):
        problems.add(f"{path.name}: not a variant file; expected {listing(SUFFIXES)}.")
        return None
    if trouble := _truncated(path):
        problems.add(f"{path.name}: {trouble}")
        return None
    pysam = need("pysam", extra="genes")
    before = pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(str(path)) as vcf:
            names, contigs = list(vcf.header.samples), tuple(vcf.header.contigs)
            annotations = Annotations.from_header(vcf.header)
    except (OSError, ValueError):
        problems.add(f"{path.name}: not a VCF or BCF file with a whole header.")
        return None
    finally:
        pysam.set_verbosity(before)
    if not names:
        problems.add(f"{path.name}: no samples in it; expected genotypes of at least one.")
        return None
    samples = _samples(path, names, patients, problems)
    return VariantFile(path, samples, contigs, annotations, _has_index(path))


def _samples(path, names, patients, problems):
    """Match columns with patients."""
    if patients == [None]:
        return tuple(Sample(column, name) for column, name in enumerate(names))
    if len(names) == 1 and len(patients) == 1:
        return (Sample(0, patients[0]),)
    absent = [patient for patient in patients if patient not in names]
    if absent:
        problems.add(
            f"{path.name}: no sample {listing(map(repr, absent))} among its {len(names):,}; "
            f"expected the patient's id as the sample's name.{nearest(absent[0], names)}"
        )
    return tuple(Sample(names.index(p), p) for p in patients if p in names)


def _has_index(path):
    """Tell whether there is an index that is not older than the file."""
    written = path.stat().st_mtime
    indexes = (Path(f"{path}{suffix}") for suffix in (".tbi", ".csi"))
    return any(index.is_file() and index.stat().st_mtime >= written for index in indexes)


def _truncated(path):
    """Say why a file cannot be whole; None when it is."""
    with path.open("rb") as stream:
        head = stream.read(18)
        size = stream.seek(0, 2)
        stream.seek(max(0, size - len(_BGZF_END)))
        tail = stream.read()
    if not size:
        return "an empty file; expected VCF or BCF."
    if head[:2] == b"\x1f\x8b" and head[12:14] == b"BC":
        if tail != _BGZF_END:
            return "truncated: the block that ends a compressed file is missing. Copy it again."
    elif head[:2] == b"\x1f\x8b":
        return "compressed by gzip, not bgzip, so it cannot be read; gunzip it, then use bgzip."
    if not path.name.lower().endswith(".bcf") and tail != _BGZF_END and tail[-1:] != b"\n":
        return "truncated: its last line has no end. Copy it again; if it is whole, end the line."
    return None


def read_records(file, genes, problems):
    """Read the records of a file that touch a gene.

    Parameters
    ----------
    file : VariantFile
    genes : sequence of Gene
    problems : Problems
        Gets what is wrong with the file: unsorted records, records that cannot be read.

    Yields
    ------
    tuple of (Gene, Record)
        In file order; a record that touches two genes comes twice.
    """
    pysam = need("pysam", extra="genes")
    before = pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(str(file.path)) as vcf:
            if file.indexed:
                for gene in genes:
                    contig = match_contig(gene.contig, file.contigs)
                    if contig is None:
                        continue
                    for record in vcf.fetch(contig, gene.start, gene.end):
                        yield gene, parse_record(str(record))
            else:
                yield from _scan(file, vcf, genes, problems)
    except (OSError, ValueError):
        problems.add(
            f"{file.name}: a record cannot be read: the file is truncated or broken. Copy it again."
        )
    finally:
        pysam.set_verbosity(before)


def _scan(file, vcf, genes, problems):
    """Read a file from end to end, and notice when it is not sorted."""
    left, last, unsorted = {}, ("", -1), []
    matched = {}
    for number, record in enumerate(vcf, 1):
        contig, start = record.chrom, record.start
        if contig != last[0]:
            if contig in left:
                unsorted.append(number)
            left[last[0]] = True
            matched[contig] = [g for g in genes if match_contig(g.contig, _known(file, contig))
                               == contig]  # fmt: skip
        elif start < last[1]:
            unsorted.append(number)
        last = contig, start
        for gene in matched[contig]:
            if start < gene.end and start + len(record.ref) > gene.start:
                yield gene, parse_record(str(record))
    if unsorted:
        problems.add(
            f"{file.name}: not sorted by contig and position: {count(len(unsorted), 'record')} "
            f"({listing(unsorted)}) lie before the one above; sort it with bcftools sort."
        )


def _known(file, contig):
    return (*file.contigs, *(() if contig in file.contigs else (contig,)))
