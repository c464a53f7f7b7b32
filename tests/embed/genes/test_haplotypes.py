"""Haplotypes: as bcftools consensus makes them, on both strands, and back to the variants."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.embed.genes.genbank import reverse_complement
from tabular_trainers.embed.genes.gene_coordinates import Gene
from tabular_trainers.embed.genes.haplotypes import build_haplotypes, hash_sequence
from tabular_trainers.embed.genes.reference import Reference
from tabular_trainers.embed.genes.variants import read_variants

CASES = range(12)


@pytest.fixture(scope="session")
def golden(root):
    """Return what bcftools consensus made."""
    return json.loads((root / "tests" / "golden" / "consensus.json").read_text())


def _write(folder, reference, vcf, contig="17"):
    (folder / "ref.fa").write_text(f">{contig}\n{reference}\n")
    (folder / "calls.vcf").write_text(vcf)
    return Reference(folder / "ref.fa"), folder / "calls.vcf"


def _vcf(lines, samples=("P1",), contig="17"):
    head = ["##fileformat=VCFv4.2", f"##contig=<ID={contig}>"]
    head.append('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">')
    head.append('##FORMAT=<ID=PS,Number=1,Type=Integer,Description="Phase set">')
    head.append('##ALT=<ID=DEL,Description="Deletion">')
    names = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT".split()
    rows = ["\t".join([*names, *samples])]
    for position, ref, alt, *genotypes in lines:
        form = "GT:PS" if ":" in genotypes[0] else "GT"
        cells = [contig, str(position), ".", ref, alt, ".", "PASS", ".", form, *genotypes]
        rows.append("\t".join(cells))
    return "\n".join([*head, *rows]) + "\n"


def _edited(reference, edits):
    """Apply edits, each from where the one before ended."""
    parts, at = [], 0
    for start, end, alt in edits:
        assert at <= start <= end
        parts += [reference[at:start], alt]
        at = end
    return "".join([*parts, reference[at:]])


def _letters(made):
    named = zip(made.carriers["patient_id"], made.carriers["haplotype"], strict=True)
    hashes = made.carriers["sequence_sha256"]
    return {
        f"{patient}|{which}": made.sequences[sha256]
        for (patient, which), sha256 in zip(named, hashes, strict=True)
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("strand", ["+", "-"])
def test_haplotypes_are_those_of_bcftools_consensus(golden, tmp_path, case, strand):
    given = golden["cases"][case]
    reference, vcf = _write(tmp_path, given["reference"], given["vcf"])
    gene = Gene("G", "17", 0, len(given["reference"]), strand)
    made = build_haplotypes(gene, reference, read_variants(vcf, gene, reference))
    found = _letters(made)
    if strand == "-":
        found = {who: reverse_complement(letters) for who, letters in found.items()}
    assert found == given["haplotypes"]
    assert made.counts["haplotypes"] == 12
    assert made.counts["sequences"] == len(set(given["haplotypes"].values())) > 6
    assert made.edits.keys() == made.sequences.keys()
    for sha256, edits in made.edits.items():
        assert _edited(made.reference, edits) == made.sequences[sha256]


def test_crowded_cases_have_variants_to_skip(golden, tmp_path):
    given = golden["cases"][1]
    reference, vcf = _write(tmp_path, given["reference"], given["vcf"])
    gene = Gene("G", "17", 0, len(given["reference"]), "+")
    counts = build_haplotypes(gene, reference, read_variants(vcf, gene, reference)).counts
    assert counts["skipped_overlapping"] > 20
    genotypes = [cell for line in given["vcf"].splitlines()[4:] for cell in line.split("\t")[9:]]
    assert counts["missing_genotypes"] == sum(genotype.count(".") for genotype in genotypes)
    unphased = [g.split("/") for g in genotypes if "/" in g]
    assert counts["unphased_heterozygous"] == sum(a != b for a, b in unphased)
    assert counts["haploid_genotypes"] == sum(g not in "0." for g in genotypes if len(g) == 1)


# ACGTACGTAC with the gene at 2..8 (GTACGT); its other strand is ACGTAC.
LINES = [
    (4, "T", "G", "0|1:7", "0/1:."),  # in the gene at 1; unphased in P2
    (5, "AC", "A", "1|0:8", "./.:."),  # a deletion of the C at 3; missing in P2
    (7, "G", "<DEL>,*", "1|2:7", "0|0:."),  # symbolic
    (8, "TA", "T", "1|1:7", "0|0:."),  # reaches beyond the gene
]


def test_a_case_counted_by_hand(tmp_path):
    reference, vcf = _write(tmp_path, "ACGTACGTAC", _vcf(LINES, ("P1", "P2")))
    calls = read_variants(vcf, Gene("G", "17", 2, 8, "+"), reference)
    plus = build_haplotypes(Gene("G", "17", 2, 8, "+"), reference, calls)
    assert plus.reference == "GTACGT"
    assert _letters(plus) == {"P1|1": "GTAGT", "P1|2": "GGACGT", "P2|1": "GTACGT", "P2|2": "GGACGT"}
    assert plus.substitutions.to_dict("list") == {
        "patient_id": ["P1", "P2"],
        "haplotype": [2, 2],
        "offset": [1, 1],
        "ref": ["T", "T"],
        "alt": ["G", "G"],
    }
    assert plus.counts == {
        "haplotypes": 4,
        "sequences": 3,
        "applied": 3,
        "skipped_overlapping": 0,
        "skipped_boundary": 2,
        "symbolic": 2,
        "unphased_heterozygous": 1,
        "missing_genotypes": 2,
        "haploid_genotypes": 0,
        "several_phase_sets": 1,
        "lower_case_bases": 0,
        "ambiguous_bases": 0,
    }
    minus = build_haplotypes(Gene("G", "17", 2, 8, "-"), reference, calls)
    assert minus.reference == "ACGTAC"
    assert _letters(minus) == {
        "P1|1": "ACTAC",
        "P1|2": "ACGTCC",
        "P2|1": "ACGTAC",
        "P2|2": "ACGTCC",
    }
    assert minus.substitutions[["offset", "ref", "alt"]].values.tolist() == [[4, "A", "C"]] * 2


@pytest.mark.parametrize("strand", ["+", "-"])
def test_a_substitution_of_several_bases_counts_a_base_at_a_time(tmp_path, strand):
    reference, vcf = _write(tmp_path, "ACGTACGTAC", _vcf([(3, "GTA", "CTT", "1|1")]))
    gene = Gene("G", "17", 1, 9, strand)
    made = build_haplotypes(gene, reference, read_variants(vcf, gene, reference))
    assert len(made.substitutions) == 4
    for row in made.substitutions.itertuples():
        assert made.reference[row.offset] == row.ref
        assert _letters(made)["P1|1"][row.offset] == row.alt


def test_lower_case_and_codes_of_iupac_are_read_counted_and_said(tmp_path, caplog):
    caplog.set_level("INFO", "tabular_trainers")
    reference, vcf = _write(
        tmp_path, "acgTRCGYNC", _vcf([(2, "c", "g", "0|1"), (5, "A", "Y", "0|1")])
    )
    gene = Gene("G", "17", 0, 10, "+")
    made = build_haplotypes(gene, reference, read_variants(vcf, gene, reference))
    assert made.reference == "ACGTNCGNNC"
    assert _letters(made)["P1|2"] == "AGGTNCGNNC"
    assert (made.counts["lower_case_bases"], made.counts["ambiguous_bases"]) == (3, 2)
    assert "G: 3 bases of the reference in lower case (repeats) read as upper case" in caplog.text
    assert "G: 2 codes of the reference that stand for several bases read as N" in caplog.text


def test_sequences_are_named_by_their_sha256(tmp_path):
    reference, vcf = _write(tmp_path, "ACGTACGTAC", _vcf([(2, "C", "T", "0|1", "1|1")], ("A", "B")))
    gene = Gene("G", "17", 0, 10, "+")
    made = build_haplotypes(gene, reference, read_variants(vcf, gene, reference))
    assert {
        hash_sequence(letters): letters for letters in made.sequences.values()
    } == made.sequences
    assert len(made.sequences) == made.counts["sequences"] == 2
    # echo -n ACGTACGTAC | sha256sum
    assert made.carriers["sequence_sha256"].iloc[0] == (
        "6612c0e673bc5b6636f9147556b461347642dcde65d5bc6b39e209d2b6b95af1"
    )


def _normal(reference, start, ref, alt):
    """Trim a variant to what differs, and move an indel to the left as far as it goes."""
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while ref and alt and ref[0] == alt[0]:
        start, ref, alt = start + 1, ref[1:], alt[1:]
    while start and bool(ref) != bool(alt) and (ref or alt)[-1] == reference[start - 1]:
        start -= 1
        ref, alt = ((reference[start] + word)[:-1] if word else "" for word in (ref, alt))
    return start, ref, alt


def _differences(reference, sequence):
    """Find variants from the sequences alone: at a mismatch, the least edit that mends it."""
    found, i, j = [], 0, 0
    sizes = sorted(((a, b) for a in range(7) for b in range(7)), key=sum)
    while i < len(reference) or j < len(sequence):
        if reference[i : i + 1] == sequence[j : j + 1]:
            i, j = i + 1, j + 1
            continue
        gone, new = next(
            (a, b)
            for a, b in sizes[1:]
            if reference[i + a : i + a + SPACE - 8] == sequence[j + b : j + b + SPACE - 8]
        )
        found.append(_normal(reference, i, reference[i : i + gone], sequence[j : j + new]))
        i, j = i + gone, j + new
    return found


SPACE = 24


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), kinds=st.lists(st.sampled_from("sid"), max_size=8))
def test_variants_come_back_when_haplotypes_are_compared_with_the_reference(
    tmp_path_factory, seed, kinds
):
    draw = random.Random(seed)
    letters = "".join(draw.choice("ACGT") for _ in range(SPACE * (len(kinds) + 2)))
    lines, expected = [], {1: [], 2: []}
    for place, kind in enumerate(kinds, 1):
        start, base = place * SPACE, letters[place * SPACE]
        if kind == "s":
            ref, alt = base, draw.choice([b for b in "ACGT" if b != base])
        elif kind == "i":
            ref, alt = base, base + "".join(draw.choice("ACGT") for _ in range(draw.randint(1, 5)))
        else:
            ref, alt = letters[start : start + draw.randint(2, 6)], base
        carried = draw.choice(["1|0", "0|1", "1|1"])
        lines.append((start + 1, ref, alt, carried))
        for which, allele in zip((1, 2), carried.split("|"), strict=True):
            if allele == "1":
                expected[which].append(_normal(letters, start, ref, alt))
    folder = tmp_path_factory.mktemp("property")
    reference, vcf = _write(folder, letters, _vcf(lines))
    gene = Gene("G", "17", 0, len(letters), "+")
    made = build_haplotypes(gene, reference, read_variants(vcf, gene, reference))
    found = _letters(made)
    for which in (1, 2):
        assert _differences(letters, found[f"P1|{which}"]) == expected[which]
