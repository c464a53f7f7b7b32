"""A synthetic cohort of genotypes in which frameshifts shorten lives, so that the truth is known.

For tests, benchmarks and the tutorial. Nothing about a real patient is in it.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from tabular_trainers.embed.requirements import need
from tabular_trainers.embed.synthetic_outcomes import draw_outcome, harrell_c
from tabular_trainers.errors import SchemaError, unknown_name

from .coding_changes import CodingSequence, translate
from .genbank import reverse_complement
from .gene_coordinates import Gene, read_all_genes
from .reference import Reference

CARRIERS = 0.35  # share of the patients with a frameshift, on one haplotype
N_FRAMESHIFTS = 5  # distinct ones, as of founder mutations
N_COMMON, N_FOUNDERS = 48, 12  # common substitutions, and the haplotypes they come in
ANCESTRIES = {"one": 0.5, "two": 0.3, "three": 0.2}
N_RARE = 50  # patients with a substitution of their own, but at most one in 4
SILENT = ("intron_variant", "synonymous_variant")
SPACE = 14  # bases between variants, so that none touches another
AGE_YEARS, AGE_EFFECT = 62.0, 0.03  # log hazard ratio a year

COHORT = """\
title = "Synthetic variants"
time_zero = "diagnosis"

[clinical]
table = "clinical.csv"
patient_id = "patient_id"

[endpoints.os]
kind = "survival"
time = "time"
unit = "months"
event = "event"
event_values = [1]

[blocks.clinical]
columns = ["age", "sex"]
categorical = ["sex"]

# Written by: tabular-trainers embed genes, with the plain table of mutations beside it.
[blocks.genes]
table = "genes.parquet"

[blocks.mutations]
table = "genes_mutations.parquet"
columns = ["*_mutated", "*_frameshift_variant"]
"""


def make_synthetic_variants(
    folder, gene_source=None, symbol=None, n_patients=200, seed=0, effect=2.0
):
    """Make a cohort of phased variants in one gene with a planted link to survival.

    The log hazard ratio of a patient is ``effect`` with a frameshift in the coding exons, plus
    0.03 * (age - 62). 35 percent of the patients carry one of 5 frameshifts, on one haplotype. All
    else has no effect: 48 common substitutions that come in 12 founder haplotypes, whose shares
    differ between three ancestries (intronic or synonymous), and substitutions of a single
    patient's own (one in 4, at most 50; some are missense). Two thirds of the patients die.

    The folder holds ``variants.vcf.gz`` with its index (phased; the consequence in INFO/CSQ),
    ``clinical.csv``, ``truth.csv`` (a row a patient: true risk, frameshift, ancestry),
    ``truth.json`` (the truth of the cohort, with the C of the true risk) and ``cohort.toml``, which
    wants ``genes.parquet`` and ``genes_mutations.parquet``. Without ``gene_source`` also
    ``reference.fa`` and ``genes.gff3`` of a made-up gene, GENE1.

    Parameters
    ----------
    folder : path
        New, or empty. It is whole or absent.
    gene_source : path, optional
        GenBank record with a gene's coding exons and sequence.
    symbol : str, optional
        The gene. Default: the one with the longest coding sequence.
    n_patients : int, default 200
    seed : int, default 0
        Equal seeds give equal bytes.
    effect : float, default 2.0
        Log hazard ratio of a frameshift. 0 makes outcomes independent of variants.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SchemaError
        When the folder is not empty, there are fewer than 2 patients, or the source has no such
        gene with coding exons.
    """
    folder = Path(folder)
    if n_patients < 2:
        raise SchemaError(f"n_patients is {n_patients}; expected at least 2.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SchemaError(f"{folder} is there already; name a new folder, or an empty one.")
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        if gene_source is None:
            gene, plus = _make_gene(partial, np.random.default_rng([seed, 0]))
        else:
            gene, plus = _read_gene(gene_source, symbol)
        patients = _draw_patients(np.random.default_rng([seed, 1]), n_patients)
        variants = _draw_variants(np.random.default_rng([seed, 2]), gene, plus, patients)
        _write_vcf(partial, gene, variants, patients.index)
        _write_tables(partial, gene, variants, patients, seed, effect)
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _read_gene(source, symbol):
    genes = {gene.symbol: gene for gene in read_all_genes(source) if gene.exons}
    if not genes:
        raise SchemaError(f"{Path(source).name}: no gene with coding exons in it.")
    longest = max(genes.values(), key=lambda gene: sum(end - start for start, end in gene.exons))
    symbol = longest.symbol if symbol is None else symbol
    if symbol not in genes:
        raise SchemaError(unknown_name("gene", symbol, genes))
    gene = genes[symbol]
    return gene, Reference(source).fetch(gene.contig, gene.start, gene.end)


def _make_gene(folder, random):
    """Make a gene of 12,000 bases with six coding exons on the minus strand, and write it."""
    codons = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
    inner = [codon for codon in codons if translate(codon) != "*"]
    coding = "ATG" + "".join(random.choice(inner, 598)) + "TAA"
    bases, spans = random.choice(list("ACGT"), 12_000), []
    for number in range(6):  # 300 bases of exon every 2,000, from the gene's own first base
        first = 500 + 2_000 * number
        spans.append((first, first + 300))
        bases[first : first + 300] = list(coding[300 * number : 300 * (number + 1)])
    plus = reverse_complement("".join(bases))
    ends = [random.choice(list("ACGT"), 1_000) for _ in range(2)]
    contig = "".join(["".join(ends[0]), plus, "".join(ends[1])])
    start, end = 1_000, 13_000
    exons = tuple(sorted((end - last, end - first) for first, last in spans))
    lines = [contig[i : i + 60] for i in range(0, len(contig), 60)]
    (folder / "reference.fa").write_text("\n".join([">chr1", *lines]) + "\n", encoding="ascii")
    rows = [("gene", start, end, "ID=gene1;Name=GENE1"), ("mRNA", start, end, "ID=t1;Parent=gene1")]
    rows += [("CDS", *span, "Parent=t1") for span in exons]
    text = "".join(f"chr1\t.\t{k}\t{a + 1}\t{b}\t.\t-\t.\t{about}\n" for k, a, b, about in rows)
    (folder / "genes.gff3").write_text(f"##gff-version 3\n{text}", encoding="ascii")
    return Gene("GENE1", "chr1", start, end, "-", exons), plus


def _draw_patients(random, n):
    width = max(len(str(n)), 3)
    return pd.DataFrame(
        {
            "ancestry": random.choice(list(ANCESTRIES), n, p=list(ANCESTRIES.values())),
            "age": np.clip(np.round(random.normal(AGE_YEARS, 10, n)), 25, 95).astype(int),
            "sex": random.choice(["female", "male"], n),
            # An exact share, so that cohorts differ less by chance; -1: no frameshift.
            "frameshift": random.permutation(
                np.where(np.arange(n) < round(CARRIERS * n), np.arange(n) % N_FRAMESHIFTS, -1)
            ),
        },
        index=pd.Index([f"P{i + 1:0{width}d}" for i in range(n)], name="patient_id"),
    )


def _draw_variants(random, gene, plus, patients):
    """Draw variants, sorted: (start, ref, alt, consequence, carried (n_patients, 2) of bool)."""
    n = len(patients)
    coding = CodingSequence(gene, plus)
    taken, variants = set(), []

    def place(candidates):
        for start in map(int, random.choice(candidates, 10_000)):
            bases = plus[start - gene.start - 1 : start - gene.start + 4]
            if "N" not in bases and not taken.intersection(range(start - SPACE, start + SPACE)):
                taken.add(start)
                return start
        raise SchemaError(f"gene {gene.symbol} is too short for so many variants.")

    def substitution(allowed, candidates):
        while True:
            start = place(candidates)
            ref = plus[start - gene.start]
            alt = str(random.choice([base for base in "ACGT" if base != ref]))
            term = coding.consequence(start, ref, alt)
            if term in allowed:
                return start, ref, alt, term
            taken.discard(start)

    anywhere = np.arange(gene.start + 5, gene.end - 5)
    # Far enough from an exon's ends for a deletion to stay inside.
    exonic = np.concatenate(
        [np.arange(low + 5, max(high - 8, low + 5)) for low, high in gene.exons]
    )
    if not len(exonic):
        raise SchemaError(f"gene {gene.symbol}: no coding exon of more than 13 bases.")
    which = random.integers(0, 2, n)
    for number in range(N_FRAMESHIFTS):
        start = place(exonic)
        base = plus[start - gene.start]
        ref, alt = base, base + str(random.choice(list("ACGT")))
        if number % 2:  # one base deleted, or two
            ref, alt = plus[start - gene.start : start - gene.start + 2 + number % 4 // 2], base
        carried = np.zeros((n, 2), dtype=bool)
        own = np.flatnonzero(patients["frameshift"] == number)
        carried[own, which[own]] = True
        variants.append((start, ref, alt, coding.consequence(start, ref, alt), carried))
    founders = random.random((N_FOUNDERS, N_COMMON)) < random.beta(1, 2, N_COMMON)
    shares = {name: random.dirichlet(np.full(N_FOUNDERS, 0.5)) for name in ANCESTRIES}
    chosen = np.array(
        [random.choice(N_FOUNDERS, 2, p=shares[ancestry]) for ancestry in patients["ancestry"]]
    )
    for number in range(N_COMMON):
        variants.append((*substitution(SILENT, anywhere), founders[chosen, number]))
    for number, patient in enumerate(random.permutation(n)[: min(N_RARE, n // 4)]):
        carried = np.zeros((n, 2), dtype=bool)
        carried[patient, int(random.integers(2))] = True
        candidates = exonic if number % 2 else anywhere
        variants.append((*substitution((*SILENT, "missense_variant"), candidates), carried))
    return sorted((v for v in variants if v[4].any()), key=lambda variant: variant[0])


def _write_vcf(folder, gene, variants, patients):
    pysam = need("pysam", extra="genes")
    head = [
        "##fileformat=VCFv4.2",
        f"##contig=<ID={gene.contig}>",
        '##INFO=<ID=CSQ,Number=.,Type=String,Description="Format: Allele|Consequence|SYMBOL">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join("#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT".split() + list(patients)),
    ]
    lines = []
    for start, ref, alt, term, carried in variants:
        written = alt if len(ref) == len(alt) else alt[1:] or "-"
        info = f"CSQ={written}|{term}|{gene.symbol}"
        cells = [gene.contig, str(start + 1), ".", ref, alt, ".", "PASS", info, "GT"]
        genotypes = [f"{int(a)}|{int(b)}" for a, b in carried]
        lines.append("\t".join([*cells, *genotypes]))
    plain = folder / "variants.vcf"
    plain.write_text("\n".join([*head, *lines]) + "\n", encoding="ascii")
    pysam.tabix_compress(str(plain), f"{plain}.gz")
    pysam.tabix_index(f"{plain}.gz", preset="vcf")
    plain.unlink()


def _write_tables(folder, gene, variants, patients, seed, effect):
    carrier = (patients["frameshift"] >= 0).to_numpy()
    genes = effect * carrier.astype(float)
    clinical = AGE_EFFECT * (patients["age"] - AGE_YEARS).to_numpy(dtype=float)
    time, event = draw_outcome(np.random.default_rng([seed, 3]), genes + clinical)
    patients = patients.assign(
        time=time,
        event=event.astype(int),
        frameshift=carrier.astype(int),
        true_risk=genes + clinical,
    )
    patients[["age", "sex", "time", "event"]].to_csv(folder / "clinical.csv", lineterminator="\n")
    patients[["true_risk", "frameshift", "ancestry"]].round(6).to_csv(
        folder / "truth.csv", lineterminator="\n"
    )
    terms = pd.Series([term for *_, term, _ in variants]).value_counts().sort_index()
    facts = {
        "n_patients": len(patients),
        "seed": seed,
        "effect": effect,
        "n_events": int(event.sum()),
        "n_frameshift_carriers": int(carrier.sum()),
        "oracle_c": harrell_c(time, event, genes + clinical),
        "oracle_c_genes": harrell_c(time, event, genes),
        "oracle_c_clinical": harrell_c(time, event, clinical),
        "log_hazard_ratio": {"frameshift": effect, "age, a year more": AGE_EFFECT},
        "gene": {"symbol": gene.symbol, "contig": gene.contig, "start": gene.start,
                 "end": gene.end, "strand": gene.strand},
        "variants": {term: int(number) for term, number in terms.items()},
    }  # fmt: skip
    (folder / "truth.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "cohort.toml").write_text(COHORT, encoding="utf-8")
