"""Write consensus.json: what bcftools consensus makes of generated genotypes.

Run in this folder: python consensus.py > consensus.json
"""

import json
import random
import subprocess
import tempfile
from pathlib import Path

N_BASES, N_SAMPLES = 400, 6
CONTIG = "17"


def main():
    """Print some cohorts with both haplotypes of each sample."""
    version = subprocess.run(["bcftools", "--version"], capture_output=True, text=True, check=True)
    cases = [_case(seed) for seed in range(12)]
    print(json.dumps({"version": version.stdout.splitlines()[0], "cases": cases}, indent=1))


def _case(seed):
    draw = random.Random(seed)
    reference = "".join(draw.choice("ACGT") for _ in range(N_BASES))
    samples = [f"P{i}" for i in range(1, N_SAMPLES + 1)]
    header = [
        "##fileformat=VCFv4.2",
        f"##contig=<ID={CONTIG},length={N_BASES}>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join(
            ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"] + samples
        ),
    ]
    lines = []
    # Sparse places first, then crowded ones, where variants overlap and share their first base.
    dense = seed % 2 == 1
    places = sorted(
        draw.choices(range(N_BASES - 12), k=100) if dense else range(3, N_BASES - 12, 17)
    )
    for start in places:
        ref, alts = _alleles(draw, reference, start)
        genotypes = [_genotype(draw, len(alts)) for _ in samples]
        cells = [CONTIG, start + 1, ".", ref, ",".join(alts), ".", "PASS", ".", "GT", *genotypes]
        lines.append("\t".join(map(str, cells)))
    vcf = "\n".join([*header, *lines]) + "\n"
    return {"reference": reference, "vcf": vcf, "haplotypes": _consensus(reference, vcf, samples)}


def _alleles(draw, reference, start):
    kind = draw.choice(
        ["snv", "snv", "mnv", "insertion", "deletion", "complex", "other", "several"]
    )
    base = reference[start]
    if kind == "snv":
        return base, [draw.choice([b for b in "ACGT" if b != base])]
    if kind == "mnv":
        return reference[start : start + 2], [_other(draw, reference[start : start + 2])]
    if kind == "insertion":
        return base, [base + _bases(draw, draw.randint(1, 5))]
    if kind == "deletion":
        return reference[start : start + draw.randint(2, 6)], [base]
    if kind == "complex":
        return reference[start : start + 3], [base + _bases(draw, draw.randint(3, 4))]
    if kind == "other":  # an indel that changes its first base too
        changed = draw.choice([b for b in "ACGT" if b != base])
        return reference[start : start + 2], [changed, changed + _bases(draw, 3)]
    length = draw.randint(2, 4)
    ref = reference[start : start + length]
    changed = draw.choice([b for b in "ACGT" if b != base])
    return ref, [changed + ref[1:], base, base + _bases(draw, 3) + ref[1:]]


def _bases(draw, n):
    return "".join(draw.choice("ACGT") for _ in range(n))


def _other(draw, text):
    while (found := _bases(draw, len(text))) == text:
        pass
    return found


def _genotype(draw, n_alts):
    first, second = (draw.choice([0, *range(n_alts + 1)]) for _ in range(2))
    shape = draw.choices(["phased", "unphased", "missing", "half", "haploid"], [6, 3, 1, 1, 1])[0]
    return {
        "phased": f"{first}|{second}",
        "unphased": f"{first}/{second}",
        "missing": "./.",
        "half": f".|{second}",
        "haploid": f"{first}",
    }[shape]


def _consensus(reference, vcf, samples):
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ref.fa").write_text(f">{CONTIG}\n{reference}\n")
        (folder / "calls.vcf").write_text(vcf)
        calls = folder / "calls.vcf.gz"
        subprocess.run(["bgzip", "-k", folder / "calls.vcf"], check=True)
        subprocess.run(["tabix", "-p", "vcf", calls], check=True)
        for sample in samples:
            for which in ("1", "2"):
                command = [
                    "bcftools",
                    "consensus",
                    "-f",
                    folder / "ref.fa",
                    "-s",
                    sample,
                    "-H",
                    which,
                ]
                made = subprocess.run([*command, calls], capture_output=True, text=True, check=True)
                found[f"{sample}|{which}"] = "".join(made.stdout.splitlines()[1:])
    return found


if __name__ == "__main__":
    main()
