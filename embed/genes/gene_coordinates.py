"""Where genes lie: symbols looked up in a BED, GFF3, GenBank or FASTA file."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from tabular_trainers.errors import Problems, SchemaError, count, listing, nearest

from .genbank import read_genbank

SOURCES = {
    "bed": (".bed", ".bed.gz"),
    "gff3": (".gff3", ".gff", ".gff3.gz", ".gff.gz"),
    "genbank": (".gb", ".gbk", ".gbff", ".genbank"),
    "fasta": (".fa", ".fasta", ".fna", ".fa.gz", ".fasta.gz", ".fna.gz"),
}
_CANONICAL = ("MANE_Select", "MANE Select", "Ensembl_canonical")


@dataclass(frozen=True)
class Gene:
    """A gene's place on its contig.

    Attributes
    ----------
    symbol : str
    contig : str
        As the source of coordinates writes it.
    start, end : int
        Zero-based, half-open; with the flank.
    strand : str
        ``"+"`` or ``"-"``.
    exons : tuple of (int, int)
        The coding exons of one transcript, zero-based, half-open, ascending; empty if unknown.
    """

    symbol: str
    contig: str
    start: int
    end: int
    strand: str
    exons: tuple = ()


def kind_of_source(path):
    """Tell by the name what a file of coordinates or sequences is; None when it is neither."""
    lower = Path(path).name.lower()
    return next((kind for kind, suffixes in SOURCES.items() if lower.endswith(suffixes)), None)


def read_genes(symbols, source, flank=0):
    """Look up genes by their symbol.

    Parameters
    ----------
    symbols : str or sequence of str
        As the source writes them; capitals count.
    source : path
        BED (the name is the symbol; twelve columns give coding exons), GFF3 (``gene_name``,
        ``gene`` or ``Name`` of the gene's line), GenBank, or FASTA of genes (each record is a gene,
        on its plus strand, and is its own contig). BED, GFF3 and FASTA may be gzipped.
    flank : int, default 0
        Bases to add on either side; not beyond the contig's first base.

    Returns
    -------
    tuple of Gene
        In the order asked for. Coding exons are those of MANE's or Ensembl's choice of a transcript
        where the file marks it, else of the longest coding sequence.

    Raises
    ------
    SchemaError
        With all that is wrong: symbols that are not there, with the nearest one, that are there in
        several places, or that were asked for twice.
    """
    symbols = [symbols] if isinstance(symbols, str) else list(symbols)
    name = Path(source).name
    places = _places(source)
    if not symbols:
        raise SchemaError("no genes named; expected one symbol or more, such as TP53.")
    problems, genes = Problems(), []
    if flank < 0:
        problems.add(f"a flank of {flank} bases; expected 0 or more.")
    for symbol in symbols:
        found = list(dict.fromkeys(places.get(symbol, ())))
        if symbols.count(symbol) > 1:
            problems.add(f"gene {symbol!r} is named {symbols.count(symbol)} times; name it once.")
        if not found:
            problems.add(
                f"{name}: no gene {symbol!r} among its {count(len(places), 'gene')}."
                f"{nearest(symbol, sorted(places))}"
            )
        elif len(found) > 1:
            where = listing(f"{g.contig}:{g.start + 1}-{g.end}" for g in found)
            problems.add(
                f"{name}: gene {symbol!r} is there in {len(found)} places ({where}); leave one."
            )
        else:
            gene = found[0]
            start, end = max(0, gene.start - flank), gene.end + flank
            genes.append(Gene(symbol, gene.contig, start, end, gene.strand, gene.exons))
    problems.raise_if_any()
    return tuple(genes)


def read_all_genes(source):
    """Read every gene of a source, as ``read_genes`` does, in the order of the file."""
    return tuple(gene for found in _places(source).values() for gene in found)


def _places(source):
    """Read {symbol: genes of that symbol}."""
    kind, name = kind_of_source(source), Path(source).name
    if kind is None:
        known = [suffix for suffixes in SOURCES.values() for suffix in suffixes]
        raise SchemaError(f"{name}: cannot read genes from it; expected {listing(known, 20)}.")
    if not Path(source).is_file():
        raise SchemaError(f"{name}: no such file ({source}).")
    return {"bed": _bed, "gff3": _gff3, "genbank": _genbank, "fasta": _fasta}[kind](source)


def read_text(path):
    """Read a text file, gzipped or not, line by line without the line's end."""
    path = Path(path)
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8") as stream:
            for line in stream:
                yield line.rstrip("\r\n")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SchemaError(f"{path.name}: a broken or truncated gzip file.") from error
    except UnicodeDecodeError as error:
        raise SchemaError(f"{path.name}: not UTF-8 text.") from error


def _bed(path):
    problems, places = Problems(), {}
    for number, line in enumerate(read_text(path), 1):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        cells = line.split("\t")
        try:
            start, end = int(cells[1]), int(cells[2])
            strand = cells[5] if len(cells) > 5 else "+"
            if not (0 <= start < end and cells[3] and strand in ("+", "-")):
                raise ValueError
            exons = _blocks(cells, start) if len(cells) >= 12 else ()
        except (ValueError, IndexError):
            problems.add(
                f"{Path(path).name}, line {number}: expected contig, start, end, symbol and, if "
                "need be, score and strand (+ or -) between tabs, with 0 <= start < end."
            )
            continue
        gene = Gene(cells[3], cells[0], start, end, strand, exons)
        places.setdefault(cells[3], []).append(gene)
    problems.raise_if_any()
    return places


def _blocks(cells, start):
    """Give the coding parts of a twelve-column line: its blocks between thickStart and thickEnd."""
    first, last = int(cells[6]), int(cells[7])
    sizes = [int(size) for size in cells[10].split(",") if size]
    offsets = [int(offset) for offset in cells[11].split(",") if offset]
    spans = [(start + o, start + o + s) for s, o in zip(sizes, offsets, strict=True)]
    return tuple((max(a, first), min(b, last)) for a, b in spans if a < last and b > first)


def _gff3(path):
    genes, parents, coding, chosen = {}, {}, {}, set()
    for number, line in enumerate(read_text(path), 1):
        if line.startswith("##FASTA"):
            break
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        try:
            contig, kind, start, end, strand = cells[0], cells[2], *map(int, cells[3:5]), cells[6]
            pairs = [pair.partition("=") for pair in cells[8].split(";")]
        except (ValueError, IndexError):
            raise SchemaError(
                f"{Path(path).name}, line {number}: not GFF3; expected nine columns between tabs."
            ) from None
        about = {key.strip(): unquote(value) for key, _, value in pairs}
        own = about.get("ID", f"line {number}")
        if kind.endswith("gene"):
            symbol = about.get("gene_name") or about.get("gene") or about.get("Name")
            if symbol and strand in ("+", "-"):
                genes[own] = Gene(symbol, unquote(contig), start - 1, end, strand)
        elif kind == "CDS":
            for parent in about.get("Parent", "").split(","):
                coding.setdefault(parent, []).append((start - 1, end))
        elif "Parent" in about:
            parents[own] = about["Parent"].split(",")[0]
            if any(word in about.get("tag", "").split(",") for word in _CANONICAL):
                chosen.add(own)
    best = {}
    for transcript, spans in coding.items():
        gene = parents.get(transcript, transcript)
        rank = (transcript in chosen, sum(end - start for start, end in spans))
        if gene in genes and rank > best.get(gene, ((False, 0), ()))[0]:
            best[gene] = rank, tuple(sorted(spans))
    places = {}
    for own, gene in genes.items():
        exons = best.get(own, (None, ()))[1]
        place = Gene(gene.symbol, gene.contig, gene.start, gene.end, gene.strand, exons)
        places.setdefault(gene.symbol, []).append(place)
    return places


def _genbank(path):
    places = {}
    for record in read_genbank(path):
        for gene in (feature for feature in record.features if feature.kind == "gene"):
            start, end = gene.spans[0][0], gene.spans[-1][1]
            coding = [
                feature.spans
                for feature in record.features
                if (feature.kind, feature.symbol, feature.strand)
                == ("CDS", gene.symbol, gene.strand)
            ]
            exons = max(coding, key=lambda spans: sum(b - a for a, b in spans), default=())
            place = Gene(gene.symbol, record.contig, start, end, gene.strand, exons)
            places.setdefault(gene.symbol, []).append(place)
    return places


def _fasta(path):
    lengths, symbol = {}, None
    for line in read_text(path):
        if line.startswith(">"):
            symbol = line[1:].split(maxsplit=1)[0] if line[1:].strip() else ""
            if not symbol or symbol in lengths:
                raise SchemaError(
                    f"{Path(path).name}: record {symbol!r} has no name or is there twice; "
                    "expected every gene once."
                )
            lengths[symbol] = 0
        elif symbol is not None:
            lengths[symbol] += len(line.strip())
    return {name: [Gene(name, name, 0, length, "+")] for name, length in lengths.items()}
