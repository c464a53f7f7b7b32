"""Genes are found in BED, GFF3, GenBank and FASTA, with their coding exons."""

import gzip

import pytest

from tabular_trainers.embed.genes.coding_changes import translate
from tabular_trainers.embed.genes.genbank import reverse_complement
from tabular_trainers.embed.genes.gene_coordinates import Gene, read_genes
from tabular_trainers.embed.genes.reference import Reference
from tabular_trainers.errors import SchemaError

GFF3 = """##gff-version 3
17\tx\tgene\t11\t40\t.\t-\t.\tID=gene:E1;Name=TP53;biotype=protein_coding
17\tx\tmRNA\t11\t40\t.\t-\t.\tID=t1;Parent=gene:E1
17\tx\tCDS\t15\t35\t.\t-\t0\tParent=t1
17\tx\tmRNA\t11\t40\t.\t-\t.\tID=t2;Parent=gene:E1;tag=basic,Ensembl_canonical
17\tx\tCDS\t31\t36\t.\t-\t0\tParent=t2
17\tx\tCDS\t21\t25\t.\t-\t0\tParent=t2
17\tx\tncRNA_gene\t100\t120\t.\t+\t.\tID=g2;gene_name=MIR%3B1
##FASTA
>17
"""
CODING = ((20, 25), (30, 36))


def _file(folder, name, text):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["genes.gff3", "genes.gff3.gz"])
def test_gff3(tmp_path, name):
    genes = read_genes(["MIR;1", "TP53"], _file(tmp_path, name, GFF3))
    assert genes == (Gene("MIR;1", "17", 99, 120, "+"), Gene("TP53", "17", 10, 40, "-", CODING))


def test_bed(tmp_path):
    twelve = "17\t10\t40\tTP53\t0\t-\t22\t33\t0\t2\t15,10\t0,20"
    path = _file(tmp_path, "genes.bed", f"# genes\n17\t3\t9\tA\n{twelve}\n")
    assert read_genes("TP53", path)[0].exons == ((22, 25), (30, 33))
    assert read_genes("A", path, flank=5) == (Gene("A", "17", 0, 14, "+"),)


def test_fasta_of_genes(tmp_path):
    path = _file(tmp_path, "genes.fa", ">A first\nACGT\nAC\n>B\nACG\n")
    assert read_genes(["B", "A"], path) == (Gene("B", "B", 0, 3, "+"), Gene("A", "A", 0, 6, "+"))
    assert Reference(path).fetch("A", 3, 6) == "TAC"


GENBANK = """LOCUS       NC_000017                 40 bp    DNA     linear   CON 01-JAN-2026
DEFINITION  A made-up region.
ACCESSION   NC_000017{region}
VERSION     NC_000017.11
FEATURES             Location/Qualifiers
     source          1..40
     gene            <3..30
                     /gene="AA1"
     CDS             join(5..10,
                     21..>23)
                     /gene="AA1"
                     /translation="MKX"
     gene            complement(31..36)
                     /gene="BB2"
     gene            join(U12345.1:1..9,5..6)
                     /gene="CC3"
ORIGIN
        1 aacc{g}gttta aacccggggt ttacgtacgt gattacagat
//
"""


@pytest.mark.parametrize(
    ("region", "contig_strand", "place"),
    [
        ("", "+", lambda first, last: (first - 1, last)),
        (" REGION: 101..140", "+", lambda first, last: (99 + first, 100 + last)),
        (" REGION: complement(101..140)", "-", lambda first, last: (140 - last, 141 - first)),
    ],
)
def test_genbank_positions_are_those_of_the_chromosome(tmp_path, region, contig_strand, place):
    path = _file(tmp_path, "record.gb", GENBANK.format(region=region, g="g"))
    first, second = read_genes(["AA1", "BB2"], path)
    other = {"+": "-", "-": "+"}
    assert (first.contig, first.strand) == ("NC_000017.11", contig_strand)
    assert second.strand == other[contig_strand]
    assert (first.start, first.end) == place(3, 30)
    assert (second.start, second.end) == place(31, 36)
    assert set(first.exons) == {place(5, 10), place(21, 23)}
    bases = Reference(path).fetch("chr17", second.start, second.end)
    assert bases == ("GATTAC" if contig_strand == "+" else reverse_complement("GATTAC"))


def test_the_exons_of_the_real_brca1_code_for_the_protein_of_the_record(real_data):
    path = real_data("genes") / "BRCA1_NC_000017_region.gb"
    (gene,) = read_genes("BRCA1", path)
    # As NCBI Gene gives it for GRCh38.p14: NC_000017.11 (43044295..43170327, complement).
    assert (gene.contig, gene.start, gene.end, gene.strand) == (
        *("NC_000017.11", 43_044_294, 43_170_327),
        "-",
    )
    reference = Reference(path)
    coding = reverse_complement("".join(reference.fetch("17", *span) for span in gene.exons))
    text = path.read_text()
    translations = [
        "".join(part.split('"')[0].split()) for part in text.split('/translation="')[1:]
    ]
    assert translate(coding) == f"{max(translations, key=len)}*"


def test_all_that_is_wrong_with_symbols_comes_at_once(tmp_path):
    path = _file(tmp_path, "genes.bed", "17\t1\t9\tTP53\nX\t1\t9\tASMT\nY\t1\t9\tASMT\n")
    with pytest.raises(SchemaError) as error:
        read_genes(["TP35", "ASMT", "TP53", "TP53"], path, flank=-1)
    message = str(error.value)
    assert "5 problems" not in message
    assert message.startswith("4 problems:")
    assert "genes.bed: no gene 'TP35' among its 2 genes. Did you mean 'TP53'?" in message
    assert "'ASMT' is there in 2 places (X:2-9, Y:2-9)" in message
    assert "'TP53' is named 2 times" in message
    assert "a flank of -1 bases" in message


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("genes.bed", "17\t9\t1\tA\n17\t1\n", "line 1: expected contig"),
        ("genes.gff3", "17\tx\tgene\n", "line 1: not GFF3"),
        ("genes.gb", GENBANK.format(region="", g=""), "LOCUS says 40 bases, but 39 are there"),
        ("genes.gb", GENBANK.format(region="", g="g")[:-4], "not a whole GenBank file"),
        ("genes.gb", GENBANK.format(region=" REGION: 5..40", g="g"), "has 36 bases, but 40"),
        ("genes.txt", "TP53\n", "cannot read genes from it"),
        ("genes.fa", ">A\nAC\n>A\nAC\n", "'A' has no name or is there twice"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, name, text, said):
    with pytest.raises(SchemaError, match=said):
        read_genes("A", _file(tmp_path, name, text))
