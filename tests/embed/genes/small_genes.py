"""A small cohort: two genes on one contig, twelve patients, phased variants."""

import random
from pathlib import Path
from types import SimpleNamespace

HEAD = """##fileformat=VCFv4.2
##contig=<ID=chr7>
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
"""
N_PATIENTS = 12


def random_dna(length, seed=0, letters="ACGT"):
    """Draw a sequence."""
    return "".join(random.Random(seed).choices(letters, k=length))


def write_cohort(folder, seed=0):
    """Write reference, coordinates and variants.

    ONE lies on the plus strand and TWO on the minus strand, 1,500 and 900 bases; patient P00 has
    no variant in either.
    """
    folder = Path(folder)
    draw = random.Random(seed)
    letters = random_dna(3000, seed)
    (folder / "ref.fa").write_text(f">chr7\n{letters}\n")
    (folder / "genes.bed").write_text("chr7\t200\t1700\tONE\t0\t+\nchr7\t1900\t2800\tTWO\t0\t-\n")
    lines = []
    for place in range(230, 2780, 60):
        if 1690 <= place <= 1910:
            continue
        ref = letters[place]
        kind = draw.choice("sssssid")
        if kind == "s":
            alt = draw.choice([base for base in "ACGT" if base != ref])
        elif kind == "i":
            alt = ref + random_dna(draw.randint(1, 4), place)
        else:
            ref, alt = letters[place : place + draw.randint(2, 5)], ref
        carried = [f"{draw.choice('0001')}|{draw.choice('0001')}" for _ in range(N_PATIENTS)]
        carried[0] = "0|0"
        cells = ["chr7", str(place + 1), ".", ref, alt, ".", "PASS", ".", "GT", *carried]
        lines.append("\t".join(cells))
    names = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT".split()
    patients = [f"P{n:02d}" for n in range(N_PATIENTS)]
    text = HEAD + "\n".join(["\t".join([*names, *patients]), *lines]) + "\n"
    (folder / "calls.vcf").write_text(text)
    return SimpleNamespace(
        symbols=["ONE", "TWO"],
        coordinates=folder / "genes.bed",
        reference=folder / "ref.fa",
        variants=folder / "calls.vcf",
        patients=patients,
    )
