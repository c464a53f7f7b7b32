"""The synthetic cohort is what its truth says: counted anew from its own files."""

import json

import numpy as np
import pandas as pd
import pysam
import pytest

from tabular_trainers import metrics
from tabular_trainers.embed.genes.coding_changes import CodingSequence, translate
from tabular_trainers.embed.genes.genbank import reverse_complement
from tabular_trainers.embed.genes.gene_coordinates import Gene, read_genes
from tabular_trainers.embed.genes.haplotypes import build_haplotypes
from tabular_trainers.embed.genes.mutation_tables import mutation_table
from tabular_trainers.embed.genes.mutations import mutations_of_calls
from tabular_trainers.embed.genes.reference import Reference
from tabular_trainers.embed.genes.synthetic_variants import make_synthetic_variants
from tabular_trainers.embed.genes.variants import read_variants
from tabular_trainers.errors import SchemaError


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Make the cohort once."""
    return make_synthetic_variants(tmp_path_factory.mktemp("synthetic") / "cohort")


def _calls(cohort):
    (gene,) = read_genes("GENE1", cohort / "genes.gff3")
    reference = Reference(cohort / "reference.fa")
    return gene, reference, read_variants(cohort / "variants.vcf.gz", gene, reference)


def _truth(cohort):
    return json.loads((cohort / "truth.json").read_text())


def _outcome(cohort):
    clinical = pd.read_csv(cohort / "clinical.csv", index_col="patient_id")
    y = np.empty(len(clinical), dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = clinical["event"] == 1, clinical["time"]
    return y


def test_the_oracle_is_harrell_s_c_of_the_true_risk(cohort):
    truth, y = _truth(cohort), _outcome(cohort)
    table = pd.read_csv(cohort / "truth.csv", index_col="patient_id")
    assert truth["oracle_c"] == pytest.approx(metrics.harrell_c(y, table["true_risk"]), abs=1e-12)
    genes = metrics.harrell_c(y, table["frameshift"])
    assert truth["oracle_c_genes"] == pytest.approx(genes, abs=1e-12)
    assert genes > 0.65
    assert truth["n_events"] == y["event"].sum() == 133  # two thirds of 200
    assert table["frameshift"].sum() == truth["n_frameshift_carriers"] == 70


def test_the_plain_table_of_mutations_finds_the_planted_effect(cohort):
    _, _, calls = _calls(cohort)
    table = mutation_table(mutations_of_calls(calls), ["GENE1"]).set_index("patient_id")
    truth = pd.read_csv(cohort / "truth.csv", index_col="patient_id")
    assert table["GENE1_frameshift_variant"].eq(truth["frameshift"]).all()
    found = metrics.harrell_c(_outcome(cohort), table["GENE1_mutated"])
    # A missense mutation has no effect, so the indicator knows less than the truth.
    assert 0.55 < found < _truth(cohort)["oracle_c_genes"]


def test_haplotypes_break_the_protein_of_carriers_and_of_nobody_else(cohort):
    gene, reference, calls = _calls(cohort)
    made = build_haplotypes(gene, reference, calls)
    assert made.counts["skipped_overlapping"] == made.counts["unphased_heterozygous"] == 0
    whole = len(_protein(gene, made.reference, ()))
    assert whole == 600  # 598 codons between start and stop, 300 bases an exon
    broken = {
        sha256: len(_protein(gene, sequence, made.edits[sha256])) != whole
        for sha256, sequence in made.sequences.items()
    }
    carriers = made.carriers.assign(broken=made.carriers["sequence_sha256"].map(broken))
    found = carriers.groupby("patient_id")["broken"].sum()
    truth = pd.read_csv(cohort / "truth.csv", index_col="patient_id")["frameshift"]
    assert found.eq(truth).all()


def _protein(gene, sequence, edits):
    """Translate the exons of a haplotype, up to the first stop."""
    length = gene.end - gene.start
    spans = [(gene.end - end, gene.end - start) for start, end in gene.exons][::-1]
    moved = np.zeros(length + 1, dtype=int)
    for start, end, alt in edits:
        moved[end:] += len(alt) - (end - start)
    parts = [sequence[start + moved[start] : end + moved[end]] for start, end in spans]
    return translate("".join(parts)).partition("*")[0] + "*"


def test_equal_seeds_give_equal_bytes(cohort, tmp_path):
    again = make_synthetic_variants(tmp_path / "again")
    files = sorted(path.name for path in cohort.iterdir() if path.suffix != ".fai")
    assert sorted(path.name for path in again.iterdir()) == files
    assert [(again / f).read_bytes() for f in files] == [(cohort / f).read_bytes() for f in files]
    other = make_synthetic_variants(tmp_path / "other", seed=1)
    assert (other / "clinical.csv").read_bytes() != (cohort / "clinical.csv").read_bytes()


def test_without_an_effect_frameshifts_tell_nothing(tmp_path):
    truth = _truth(make_synthetic_variants(tmp_path / "none", n_patients=1000, effect=0))
    assert abs(truth["oracle_c_genes"] - 0.5) < 0.03


def test_ancestry_shows_in_the_variants(cohort):
    """The noise is there: common variants tell ancestries apart, and so would raw embeddings."""
    _, _, calls = _calls(cohort)
    truth = pd.read_csv(cohort / "truth.csv", index_col="patient_id")
    carried = np.zeros((200, len(calls.alleles)))
    for column in ("allele_1", "allele_2"):
        own = calls.genotypes[calls.genotypes[column] >= 0]
        np.add.at(carried, (own["patient"], own[column]), 1)
    common = carried[:, (carried > 0).mean(axis=0) > 0.1]
    assert common.shape[1] > 20
    means = pd.DataFrame(common).groupby(truth["ancestry"].to_numpy()).mean()
    assert (means.max() - means.min()).median() > 0.2


def test_the_real_brca1_serves_as_well(real_data, tmp_path):
    source = real_data("genes") / "BRCA1_NC_000017_region.gb"
    folder = make_synthetic_variants(tmp_path / "brca1", source, n_patients=50)
    (gene,) = read_genes("BRCA1", source)
    calls = read_variants(folder / "variants.vcf.gz", gene, Reference(source))
    made = build_haplotypes(gene, Reference(source), calls)
    assert made.counts["haplotypes"] == 100 >= made.counts["sequences"] > 10
    assert set(calls.alleles["consequence"]) >= {"frameshift_variant", "intron_variant"}


@pytest.mark.parametrize("strand", ["+", "-"])
def test_consequences_are_those_of_the_translated_protein(strand):
    # Exons of 9 and 6 bases on the gene's strand: ATGTGGCAA|AGATAA is MWQR*.
    own = "CCC" + "ATGTGGCAA" + "GGG" + "AGATAA" + "CC"
    plus = own if strand == "+" else reverse_complement(own)
    spans = [(3, 12), (15, 21)]
    if strand == "-":
        spans = sorted((len(own) - end, len(own) - start) for start, end in spans)
    gene = Gene("G", "1", 100, 100 + len(own), strand, tuple((100 + a, 100 + b) for a, b in spans))
    coding = CodingSequence(gene, plus)
    assert translate(coding.bases) == "MWQR*"
    for place in range(len(own)):
        for alt in "ACGT":
            ref = plus[place]
            if alt == ref:
                continue
            changed = plus[:place] + alt + plus[place + 1 :]
            if strand == "-":
                changed = reverse_complement(changed)
            protein = translate(changed[3:12] + changed[15:21])
            term = coding.consequence(100 + place, ref, alt)
            inside = any(a <= place < b for a, b in spans)
            if not inside:
                expected = "intron_variant"
            elif protein == "MWQR*":
                expected = "synonymous_variant"
            elif "*" not in protein:
                expected = "stop_lost"
            else:
                expected = "stop_gained" if protein.index("*") < 4 else "missense_variant"
            assert term == expected, (place, ref, alt)
    start = 100 + spans[0][0]
    base = plus[spans[0][0]]
    assert coding.consequence(start, base, base + "A") == "frameshift_variant"
    assert coding.consequence(start, base, base + "AAA") == "inframe_insertion"
    assert coding.consequence(start, plus[spans[0][0] : spans[0][0] + 4], base) == (
        "inframe_deletion"
    )


def test_a_source_that_cannot_serve_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / "genes.bed").write_text("1\t0\t900\tA\n")
    for call, said in (
        (lambda: make_synthetic_variants(tmp_path / "x", tmp_path / "genes.bed"), "no gene with"),
        (lambda: make_synthetic_variants(tmp_path / "x", n_patients=1), "expected at least 2"),
        (lambda: make_synthetic_variants(tmp_path), "is there already"),
    ):
        with pytest.raises(SchemaError, match=said):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["genes.bed"]


def test_the_file_of_variants_is_indexed_and_phased(cohort):
    with pysam.VariantFile(str(cohort / "variants.vcf.gz")) as vcf:
        records = list(vcf.fetch("chr1", 1_000, 13_000))
        assert len(records) == sum(_truth(cohort)["variants"].values())
        assert all(sample.phased for record in records for sample in record.samples.values())
