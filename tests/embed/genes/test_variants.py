"""Variant files: what is read of them, and what is said when they are bad."""

import gzip
import math

import pysam
import pytest

from tabular_trainers.embed.genes.gene_coordinates import Gene
from tabular_trainers.embed.genes.reference import Reference
from tabular_trainers.embed.genes.variants import read_variants
from tabular_trainers.errors import SchemaError

BASES = "ACGTACGTAC" * 3
GENE = Gene("TP53", "chr17", 5, 25, "+")
HEADER = (
    "##fileformat=VCFv4.2\n"
    "##contig=<ID=16>\n"
    "##contig=<ID=17>\n"
    '##FILTER=<ID=low,Description="low">\n'
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="">\n'
    '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="">\n'
    '##FORMAT=<ID=AF,Number=A,Type=Float,Description="">\n'
    '##INFO=<ID=CSQ,Number=.,Type=String,Description="VEP. Format: Allele|Consequence|SYMBOL">\n'
    '##INFO=<ID=ANN,Number=.,Type=String,Description="SnpEff">\n'
)
COLUMNS = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT".split()
LINES = [
    "16 8 . T A . PASS . GT 1/1 1/1",
    "17 5 . A C . PASS . GT 1/1 1/1",  # before the gene
    "17 8 . T A,G . PASS . GT:AD 0/0:9,0,0 1|2:2,3,5",
    "17 12 . CGT C . low . GT:AF 0/1:0.25 ./.:.",
]


def _vcf(path, lines=LINES, samples=("P1", "P2"), header=HEADER):
    rows = ["\t".join([*COLUMNS, *samples]), *("\t".join(line.split(" ")) for line in lines)]
    path.write_text(header + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def reference(tmp_path):
    """Return a reference with one chromosome."""
    (tmp_path / "ref.fa").write_text(f">17\n{BASES}\n")
    return Reference(tmp_path / "ref.fa")


def _compressed(path, kind):
    if kind == "bcf":
        out = path.with_suffix(".bcf")
        with pysam.VariantFile(str(path)) as given:
            with pysam.VariantFile(str(out), "wb", header=given.header) as made:
                for record in given:
                    made.write(record)
        pysam.tabix_index(str(out), preset="bcf", force=True)
        return out
    out = path.with_name(f"{path.name}.gz")
    pysam.tabix_compress(str(path), str(out), force=True)
    if kind == "tabix":
        pysam.tabix_index(str(out), preset="vcf", force=True)
    return out


@pytest.mark.parametrize("kind", ["plain", "bgzip", "tabix", "bcf"])
def test_calls(tmp_path, reference, kind):
    path = _vcf(tmp_path / "calls.vcf")
    path = path if kind == "plain" else _compressed(path, kind)
    calls = read_variants(path, GENE, reference)
    assert calls.patients == ("P1", "P2")
    assert calls.counts == {"records": 2, "not_passed": 1, "left_out": 0}
    alleles = calls.alleles[["symbol", "start", "end", "ref", "alt"]].values.tolist()
    assert alleles == [
        ["TP53", 7, 8, "T", "A"],
        ["TP53", 7, 8, "T", "G"],
        ["TP53", 11, 14, "CGT", "C"],
    ]
    told = calls.genotypes[["patient", "allele_1", "allele_2", "phased"]].values.tolist()
    assert told == [[1, 0, 1, True], [0, -1, 2, False], [1, -2, -2, False]]
    assert calls.genotypes["vaf"].tolist()[:2] == [0.5, 0.25]  # 5 of 10 reads; as AF says
    assert math.isnan(calls.genotypes["vaf"].iloc[2])
    assert not calls.alleles["consequence"].notna().any()


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        # VEP writes what is left when all alleles share their first base, SnpEff the whole allele.
        ("CSQ=A|intron_variant|OTHER,A|missense_variant|TP53,A|stop_gained|TP53", "stop_gained"),
        ("CSQ=A|missense_variant&splice_region_variant|TP53", "missense_variant"),
        ("CSQ=A|missense_variant|OTHER", None),
        ("ANN=A|frameshift_variant|HIGH|TP53|x", "frameshift_variant"),
        (".", None),
    ],
)
def test_the_most_severe_consequence_on_the_gene_is_told(tmp_path, reference, info, expected):
    header = HEADER.replace("##INFO=<ID=CSQ", "##INFO=<ID=X") if info[:3] == "ANN" else HEADER
    path = _vcf(tmp_path / "c.vcf", [f"17 8 . T A . . {info} GT 0|1"], ["P1"], header)
    calls = read_variants(path, GENE, reference)
    assert calls.alleles["consequence"].tolist() == [expected]
    assert calls.annotated


def test_consequences_of_several_alleles_are_kept_apart(tmp_path, reference):
    csq = "CSQ=CG|inframe_insertion|TP53,-|frameshift_variant|TP53"
    path = _vcf(tmp_path / "c.vcf", [f"17 8 . TA TCG,T . . {csq} GT 1|2"], ["P1"])
    calls = read_variants(path, GENE, reference)
    assert calls.alleles["consequence"].tolist() == ["inframe_insertion", "frameshift_variant"]


def test_files_of_one_patient_each_and_of_one_chromosome_each(tmp_path, reference):
    one = _vcf(tmp_path / "a.vcf", ["17 8 . T A . . . GT 0|1"], ["tumour"])
    two = _vcf(tmp_path / "b.vcf", ["17 8 . T G,A . . . GT 0|2"], ["tumour"])
    three = _vcf(tmp_path / "c.vcf", ["16 8 . T A . . . GT 0|1"], ["P1"])
    table = tmp_path / "files.csv"
    table.write_text("patient_id,path\nP1,a.vcf\nP2,b.vcf\nP1,c.vcf\n")
    calls = read_variants(table, GENE, reference)
    assert calls.patients == ("P1", "P2")
    assert calls.genotypes["allele_2"].tolist() == [0, 0]  # the same allele in both files
    assert {one.name, two.name, three.name} == {"a.vcf", "b.vcf", "c.vcf"}
    with pytest.raises(SchemaError, match=r"genes of 1 patient \(tumour\) are in an earlier file"):
        read_variants([one, two], GENE, reference)


def test_a_cohort_may_be_part_of_a_file(tmp_path, reference, caplog):
    path = _vcf(tmp_path / "calls.vcf")
    calls = read_variants(path, GENE, reference, patients=["P2"])
    assert calls.patients == ("P2",)
    assert calls.counts["left_out"] == 1
    assert calls.genotypes["patient"].tolist() == [0, 0]


def _refused(call):
    with pytest.raises(SchemaError) as error:
        call()
    return str(error.value)


def test_the_wrong_build_is_told_with_counts_and_places(tmp_path, reference):
    lines = [f"17 {p} . {b} A . . . GT 0|1 0|1" for p, b in ((7, "T"), (8, "T"), (10, "G"))]
    message = _refused(lambda: read_variants(_vcf(tmp_path / "c.vcf", lines), GENE, reference))
    assert message == (
        "c.vcf: REF of 2 of 3 variants in TP53 is not what ref.fa has there (17:7, 17:10); "
        "expected variants and reference of the same genome build."
    )


def test_every_base_of_ref_is_compared(tmp_path, reference):
    path = _vcf(tmp_path / "c.vcf", ["17 8 . TAG T . . . GT 0|1 0|1"])
    assert "REF of 1 of 1 variant in TP53" in _refused(lambda: read_variants(path, GENE, reference))


def test_the_vaf_is_that_of_the_carried_allele(tmp_path, reference):
    lines = ["17 8 . T A,G . . . GT:AF 0/1:0.1,0.7 0/2:0.1,0.7"]
    calls = read_variants(_vcf(tmp_path / "c.vcf", lines), GENE, reference)
    assert calls.genotypes["vaf"].tolist() == [0.1, 0.7]


def test_a_missing_contig_is_told_with_those_there_are(tmp_path, reference):
    path = _vcf(tmp_path / "c.vcf", LINES[:1], header=HEADER.replace("##contig=<ID=17>\n", ""))
    message = _refused(lambda: read_variants(path, GENE, reference))
    assert message == "c.vcf: no contig 'chr17', where TP53 lies; it has 16."
    message = _refused(lambda: reference.fetch("chr16", 0, 5))
    assert message == "ref.fa: no contig 'chr16'; it has 17."
    message = _refused(lambda: reference.fetch("chr17", 20, 40))
    assert "17:21-40 is asked for, but bases 1-30 are there" in message


def test_two_builds_of_a_refseq_contig_do_not_match(tmp_path, reference):
    path = _vcf(tmp_path / "c.vcf", [], header=HEADER.replace("=17>", "=NC_000017.10>"))
    gene = Gene("TP53", "NC_000017.11", 5, 25, "+")
    assert "no contig 'NC_000017.11'" in _refused(lambda: read_variants(path, gene))
    read_variants(path, GENE)


def test_unsorted_records_are_told(tmp_path, reference):
    lines = [LINES[3], LINES[2], LINES[0], LINES[1]]
    message = _refused(lambda: read_variants(_vcf(tmp_path / "c.vcf", lines), GENE, reference))
    assert message == (
        "c.vcf: not sorted by contig and position: 2 records (2, 4) lie before the one above; "
        "sort it with bcftools sort."
    )


@pytest.mark.parametrize("kind", ["plain", "bgzip", "tabix", "bcf"])
def test_a_truncated_file_is_told(tmp_path, reference, kind):
    path = _vcf(tmp_path / "calls.vcf")
    if kind != "plain":
        path = _compressed(path, kind)
    whole = path.read_bytes()
    for lost in (1, 10, 28, 60):
        path.write_bytes(whole[:-lost])
        message = _refused(lambda: read_variants(path, GENE, reference))
        assert f"{path.name}: truncated" in message
    path.write_bytes(b"")
    assert "an empty file" in _refused(lambda: read_variants(path, GENE, reference))


def test_a_line_that_lost_its_end_is_told(tmp_path, reference):
    path = _vcf(tmp_path / "c.vcf", [*LINES[:3], "17 12 . CGT C . . . GT 0/1"])
    message = _refused(lambda: read_variants(path, GENE, reference))
    assert "c.vcf: a record cannot be read: the file is truncated or broken" in message


def test_patients_who_are_in_no_file_and_files_of_nobody_are_told(tmp_path, reference):
    one = _vcf(tmp_path / "a.vcf", LINES)
    two = _vcf(tmp_path / "b.vcf", ["17 8 . T A . . . GT 0|1"], ["P3"])
    message = _refused(lambda: read_variants([one, two], GENE, reference, ["P1", "P33", "Q"]))
    assert message == (
        "2 problems:\n"
        "- 2 patients of the cohort are in no variant file: P33, Q; expected a sample for each of "
        "the 3. Did you mean 'P3'?\n"
        "- b.vcf: sample (P3) is not in the cohort; leave the file out, or correct the names. "
        "Did you mean 'P33'?"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("17 8 . T A . . . AD 1,2 1,2", r"1 record without genotypes \(no GT\) \(17:8\)"),
        ("17 8 . T A . . . GT 0/0/1 0/1", r"1 record with more than two alleles a patient"),
        ("17 8 . T A . . . GT 0/2 0/1", r"c\.vcf: "),
    ],
)
def test_genotypes_that_cannot_be_used_are_told(tmp_path, reference, line, said):
    with pytest.raises(SchemaError, match=said):
        read_variants(_vcf(tmp_path / "c.vcf", [line]), GENE, reference)


def test_all_that_is_wrong_comes_at_once(tmp_path):
    reference = tmp_path / "r.fa"
    reference.write_text(f">chr17\n{BASES}\n")
    bad = [LINES[3], "17 8 . G A . . . GT 0/1 0/1", "17 6 . C A . . . AD 1,1 1,1"]
    one = _vcf(tmp_path / "a.vcf", bad)
    two = _vcf(tmp_path / "b.vcf", ["17 8 . T A . . . GT 0|1"], ["P3"])
    before = sorted(tmp_path.iterdir())
    message = _refused(
        lambda: read_variants([one, two], GENE, Reference(reference), ["P1", "P2", "P4"])
    )
    for said in ("P4", "b.vcf: sample (P3)", "not sorted", "REF of 1 of 3", "without genotypes"):
        assert said in message
    assert "0/1" not in message  # places, never genotypes
    assert sorted(p for p in tmp_path.iterdir() if p.suffix != ".fai") == before


def test_files_that_are_none_are_told(tmp_path, reference):
    (tmp_path / "x.vcf").write_text("hello\n")
    (tmp_path / "x.txt").write_text("hello\n")
    (tmp_path / "sites.vcf").write_text(HEADER + "\t".join(COLUMNS[:8]) + "\n")
    (tmp_path / "x.vcf.gz").write_bytes(gzip.compress(HEADER.encode()))
    paths = [tmp_path / name for name in ("x.vcf", "x.txt", "y.vcf", "sites.vcf", "x.vcf.gz")]
    message = _refused(lambda: read_variants(paths, GENE, reference))
    assert "x.vcf.gz: compressed by gzip, not bgzip" in message
    assert message.startswith("5 problems:\n- x.vcf: not a VCF or BCF file")
    for said in ("x.txt: not a variant file", "y.vcf: no such file in", "sites.vcf: no samples"):
        assert said in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient,path\nP1,a.vcf\n", "no column 'patient_id'"),
        ("patient_id,path\n,a.vcf\n", "column patient_id: empty in row 1"),
        ("patient_id,path\nP1,a.vcf\nP1,a.vcf\n", "row 2 repeated"),
        ("patient_id,path\nP1,a.vcf\nP9,a.vcf\n", "no sample 'P9' among its 2"),
    ],
)
def test_a_bad_table_of_files_is_told(tmp_path, reference, text, said):
    _vcf(tmp_path / "a.vcf")
    (tmp_path / "files.csv").write_text(text)
    assert said in _refused(lambda: read_variants(tmp_path / "files.csv", GENE, reference))
