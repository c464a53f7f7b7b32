"""Plain tables of mutations, from MAF and from VCF, by function and by command."""

import csv
import gzip
import math

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tabular_trainers.cli import app
from tabular_trainers.embed.genes.mutation_tables import mutation_table, read_patients
from tabular_trainers.embed.genes.mutations import read_maf
from tabular_trainers.errors import DataError, SchemaError

COLUMNS = "Hugo_Symbol\tTumor_Sample_Barcode\tVariant_Classification\tt_alt_count\tt_depth"
ROWS = [
    "TP53 P1 Missense_Mutation 10 40",
    "TP53 P1 Nonsense_Mutation 30 40",
    "TP53 P2 Silent 20 40",
    "TP53 P3 Missense_Mutation . .",
    "KRAS P2 Missense_Mutation 4 16",
    "TTN P4 5'UTR 1 10",
]


def _maf(folder, lines=ROWS, columns=COLUMNS, name="cohort.maf"):
    path = folder / name
    text = "\n".join(["#version 2.4", columns, *("\t".join(r.split()) for r in lines)]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_a_table_counted_by_hand(tmp_path):
    found = read_maf(_maf(tmp_path, name="cohort.maf.gz"))
    table = mutation_table(found, ["TP53"], patients=["P3", "P1", "P2", "P5"])
    assert table.drop(columns="TP53_vaf").to_dict("list") == {
        "patient_id": ["P3", "P1", "P2", "P5"],
        "TP53_mutated": [1, 1, 0, 0],  # a silent mutation is none
        "TP53_missense_mutation": [1, 1, 0, 0],
        "TP53_nonsense_mutation": [0, 1, 0, 0],
        "TP53_silent": [0, 0, 1, 0],
        "burden": [1, 2, 1, 0],  # of all genes: KRAS of P2 too
    }
    vaf = table["TP53_vaf"].tolist()
    assert math.isnan(vaf[0])  # mutated, without read counts
    assert vaf[1:] == [0.75, 0.0, 0.0]


def test_without_a_list_a_maf_gives_the_patients_it_names_and_says_so(tmp_path, caplog):
    table = mutation_table(read_maf(_maf(tmp_path)), min_patients=1)
    assert table["patient_id"].tolist() == ["P1", "P2", "P3", "P4"]
    assert [c for c in table if c.endswith("_mutated")] == ["KRAS_mutated", "TP53_mutated"]
    assert "lists mutations only: the table has the 4 patients with one" in caplog.text


def test_the_leukaemia_table_is_that_of_another_count(real_data):
    path = real_data("laml") / "tcga_laml.maf.gz"
    patients = read_patients(path.with_name("tcga_laml_annot.tsv"))
    table = mutation_table(read_maf(path), patients=patients).set_index("patient_id")
    assert len(table) == 200
    altering = {
        *("Frame_Shift_Del", "Frame_Shift_Ins", "In_Frame_Del", "In_Frame_Ins", "Splice_Site"),
        *("Missense_Mutation", "Nonsense_Mutation", "Nonstop_Mutation", "Translation_Start_Site"),
    }
    mutated, burden, largest = {}, {}, {}
    with gzip.open(path, "rt") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            if row["Variant_Classification"] in altering:
                gene, patient = row["Hugo_Symbol"], row["Tumor_Sample_Barcode"]
                mutated.setdefault(gene, set()).add(patient)
                burden[patient] = burden.get(patient, 0) + 1
                if row["i_TumorVAF_WU"] not in ("", "NA"):
                    share = float(row["i_TumorVAF_WU"]) / 100
                    largest[gene, patient] = max(share, largest.get((gene, patient), 0))
    assert {g for g, who in mutated.items() if len(who) >= 5} == {
        column.removesuffix("_mutated") for column in table if column.endswith("_mutated")
    }
    for gene in ("FLT3", "DNMT3A", "NPM1", "TP53"):
        assert set(table.index[table[f"{gene}_mutated"] == 1]) == mutated[gene]
    assert table["burden"].to_dict() == {who: burden.get(who, 0) for who in patients}
    known = table.loc[table["DNMT3A_mutated"] == 1, "DNMT3A_vaf"].to_dict()
    assert known == pytest.approx({p: v for (g, p), v in largest.items() if g == "DNMT3A"})


@pytest.mark.parametrize(
    ("lines", "columns", "said"),
    [
        (["TP53 P1 Missense 1 2"], COLUMNS, "none of the classes of a MAF ('Missense')"),
        (["TP53 P1 Silent x 2"], COLUMNS, "column t_alt_count: row 1 not a number"),
        (["TP53 P1 Silent"], COLUMNS.replace("Hugo_Symbol", "Hugo_Symbl"), "Did you mean"),
        ([], COLUMNS, "no mutations in it"),
        (
            ["TP53 P1 Silent 101"],
            COLUMNS.partition("\tt_")[0] + "\tVAF",
            "column VAF: row 1 out of bounds",
        ),
    ],
)
def test_a_bad_maf_is_told(tmp_path, lines, columns, said):
    with pytest.raises(SchemaError) as error:
        read_maf(_maf(tmp_path, lines, columns))
    assert said in str(error.value)


def test_a_truncated_maf_is_told(tmp_path):
    path = _maf(tmp_path, ROWS * 500, name="cohort.maf.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SchemaError, match=r"cohort\.maf\.gz: a broken or truncated gzip file"):
        read_maf(path)


def test_genes_and_patients_that_are_not_there_are_told_at_once(tmp_path):
    found = read_maf(_maf(tmp_path))
    with pytest.raises(SchemaError) as error:
        mutation_table(found, ["TP35", "BRCA1", "KRAS"])
    assert "no mutation of gene 'TP35' in any patient. Did you mean 'TP53'?" in str(error.value)
    assert "'BRCA1'" in str(error.value)
    with pytest.raises(SchemaError, match=r"none of its patients \(P1, P2, P3, P4\) is in"):
        mutation_table(found, ["TP53"], patients=["Q1"])
    with pytest.raises(DataError, match="no gene is altered in 3 patients; the most are 2"):
        mutation_table(found, min_patients=3)


VCF = """##fileformat=VCFv4.2
##contig=<ID=17>
##FORMAT=<ID=GT,Number=1,Type=String,Description="">
##FORMAT=<ID=AD,Number=R,Type=Integer,Description="">
##INFO=<ID=CSQ,Number=.,Type=String,Description="Format: Allele|Consequence|SYMBOL">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tP1\tP2\tP3
17\t4\t.\tT\tA\t.\t.\tCSQ=A|stop_gained|A\tGT:AD\t1|1:0,8\t0|0:8,0\t0|1:6,2
17\t6\t.\tC\tG\t.\t.\tCSQ=G|synonymous_variant|A\tGT:AD\t0|0:8,0\t0|1:4,4\t0|0:9,0
17\t8\t.\tT\tA,*\t.\t.\tCSQ=A|missense_variant|A\tGT:AD\t0|1:4,4,0\t0|2:4,0,4\t0|0:9,0,0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with a small cohort, and work in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "genes.bed").write_text("17\t2\t9\tA\n")
    (tmp_path / "ref.fa").write_text(">17\nACGTACGTAC\n")
    (tmp_path / "calls.vcf").write_text(VCF)
    _maf(tmp_path)
    return tmp_path


FROM_VCF = "calls.vcf --genes A --coordinates genes.bed --reference ref.fa"


def _command(line):
    return CliRunner().invoke(app, ["embed", "mutations", *line.split()])


def test_the_command_on_variants(folder):
    done = _command(FROM_VCF)
    assert done.exit_code == 0, done.output
    assert "3 patients, 1 gene." in done.stdout
    assert '[blocks.genomics]\ntable = "mutations.parquet"' in done.stdout
    assert pd.read_parquet("mutations.parquet").to_dict("list") == {
        "patient_id": ["P1", "P2", "P3"],
        "A_mutated": [1, 0, 1],
        "A_missense_variant": [1, 0, 0],
        "A_stop_gained": [1, 0, 1],  # on both haplotypes of P1, counted once
        "A_synonymous_variant": [0, 1, 0],
        "A_vaf": [1.0, 0.0, 0.25],
        "burden": [2, 0, 1],
    }
    facts = pq.read_schema("mutations.parquet").metadata
    assert b"calls.vcf sha256 " in facts[b"made_from"]
    assert sorted(p.name for p in folder.iterdir() if "partial" in p.name) == []


def test_without_consequences_every_variant_counts_and_that_is_said(folder, caplog):
    (folder / "calls.vcf").write_text(VCF.replace("ID=CSQ", "ID=OTHER"))
    assert _command(FROM_VCF).exit_code == 0
    table = pd.read_parquet("mutations.parquet")
    assert list(table) == ["patient_id", "A_mutated", "A_vaf", "burden"]
    assert table["A_mutated"].tolist() == [1, 1, 1]
    assert "every variant counts as a mutation" in caplog.text


def test_the_command_on_a_maf(folder):
    (folder / "who.csv").write_text("patient_id\nP1\nP9\n")
    done = _command("cohort.maf --genes TP53,KRAS --patients who.csv --out m.parquet")
    assert done.exit_code == 2  # nobody of the list has KRAS
    assert "no mutation of gene 'KRAS' in any patient" in done.stderr
    assert not (folder / "m.parquet").exists()
    done = _command("cohort.maf --genes TP53 --patients who.csv --out m.parquet")
    assert done.exit_code == 0, done.output
    assert pd.read_parquet("m.parquet")["TP53_mutated"].tolist() == [1, 0]
    done = _command("cohort.maf --genes TP53 --patients who.csv --out m.parquet")
    assert done.exit_code == 2
    assert "exists already" in done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("calls.vcf", "variants need --genes A,B and --coordinates FILE"),
        (f"{FROM_VCF} --out m.csv", "expected a name that ends in .parquet"),
        (FROM_VCF.replace("--genes A", "--genes B"), "no gene 'B'"),
        (FROM_VCF.replace("ref.fa", "calls.vcf"), "not a reference"),
        (f"{FROM_VCF} --patients who.csv", "P7; expected a sample for each of the 2"),
        ("cohort.maf cohort.maf", "expected one MAF alone"),
        ("cohort.maf --reference ref.fa", "--reference is for VCF"),
        ("cohort.maf --patients twice.csv", "column patient_id: repeated in row 2"),
        ("cohort.maf --patients none.csv", "no column 'patient_id'"),
        ("missing.maf", "no such file"),
    ],
)
def test_bad_input_ends_with_2_and_nothing_written(folder, line, said):
    (folder / "who.csv").write_text("patient_id\nP1\nP7\n")
    (folder / "twice.csv").write_text("patient_id,x\nP1,1\nP1,2\n")
    (folder / "none.csv").write_text("a,b\nP1,1\n")
    before = sorted(p.name for p in folder.iterdir())
    done = _command(line)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert sorted(p.name for p in folder.iterdir() if p.suffix != ".fai") == before


def test_the_wrong_build_ends_with_2(folder):
    (folder / "ref.fa").write_text(">chr17\nACCTACGTAC\n".replace("ACCT", "ACGA"))
    done = _command(FROM_VCF)
    assert done.exit_code == 2
    assert "REF of 1 of 3 variants in A is not what ref.fa has there (17:4)" in done.stderr
    assert not (folder / "mutations.parquet").exists()
