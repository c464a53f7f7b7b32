"""Whether `stain` finds what decides survival in synthetic slides, and nothing where nothing does.

For each seed: 120 slides are made, `embed` extracts and pools them (mean) with the encoder `stain`,
and `evaluate` measures the out-of-fold C of Cox regression on the pathology block, on folds that
keep sites. With the effect off the slides are the same and outcomes are drawn anew, so that slides
are extracted once a seed. What synthetic_slides.json holds already is not repeated; the table goes
to SYNTHETIC_SLIDES.md.

    OMP_NUM_THREADS=1 .venv-embed/bin/python tests/benchmarks/synthetic_slides.py [--seeds 5]

A seed takes some minutes of two processors.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tabular_trainers import embed, evaluate, load_cohort
from tabular_trainers.embed import synthetic_slides

FOLDER = Path(__file__).parent
STORE, TABLE = FOLDER / "synthetic_slides.json", FOLDER / "SYNTHETIC_SLIDES.md"
PICTURE = FOLDER / "synthetic_slide.png"
MARGIN, NULL = 0.08, (0.45, 0.55)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    for seed in range(parser.parse_args().seeds):
        found = json.loads(STORE.read_text()) if STORE.exists() else {}
        if str(seed) not in found:
            found[str(seed)] = measured = measure(seed)
            print(seed, measured, flush=True)
            STORE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        TABLE.write_text(table(found))
    print(TABLE.read_text())
    sys.exit(0 if verdict(found)[0] else 1)


def measure(seed):
    """Make, extract, pool and evaluate the slides of one seed, with the effect on and off."""
    with tempfile.TemporaryDirectory() as place:
        cpu, start = time.process_time(), time.perf_counter()
        folder = embed.make_synthetic_slides(Path(place) / "on", seed=seed)
        seconds = {"make_cpu_seconds": round(time.process_time() - cpu, 1)}
        made = time.perf_counter()
        extraction = embed.extract_slides(folder / "slides.csv", folder / "store", "stain")
        seconds["make_seconds"] = round(made - start, 1)
        seconds["extract_seconds"] = round(time.perf_counter() - made, 1)
        assert len(extraction.failures) == 0, extraction.failures
        if seed == 0:
            draw(folder)
        blocks = folder / "pathology.parquet"
        embed.pool_store(folder / "store", blocks)
        off = Path(place) / "off"
        off.mkdir()
        truth = pd.read_csv(folder / "truth.csv", index_col="patient_id")
        shown = truth[["slide_id", "tissue_mm2", "stroma", "tumour", "lymphocytes", "fat"]]
        patients = synthetic_slides.draw_patients(np.random.default_rng([seed, 2]), len(truth))
        synthetic_slides.write_tables(off, patients.join(shown), seed, effect=0.0)
        (off / blocks.name).write_bytes(blocks.read_bytes())
        return {
            "patches": extraction.n_patches,
            **seconds,
            "on": concordance(folder),
            "off": concordance(off),
        }


def draw(folder):
    """Keep the quality picture of the first slide with a pen mark: README shows it."""
    patients = pd.read_csv(folder / "clinical.csv", index_col="patient_id")
    slides = pd.read_csv(folder / "slides.csv", index_col="patient_id")["slide_id"]
    first = slides[patients.index[patients["site"] == synthetic_slides.PEN_SITE][0]]
    PICTURE.write_bytes((folder / "store" / "quality" / f"{first}.png").read_bytes())


def concordance(folder):
    """Give the out-of-fold C of each block by Cox regression, beside the truth."""
    cohort = load_cohort(folder / "cohort.toml")
    blocks = ["pathology", "clinical"]
    result = evaluate(cohort, feature_sets=blocks, models=["cox"], n_resamples=2)
    rows = result.metrics
    rows = rows[(rows["metric"] == "harrell_c") & rows["fold"].isna()].set_index("feature_set")
    truth = json.loads((folder / "truth.json").read_text())
    known = ("n_events", "oracle_c", "oracle_c_slide", "oracle_c_clinical")
    return {block: round(float(rows.loc[block, "estimate"]), 4) for block in blocks} | {
        name: round(truth[name], 4) for name in known
    }


def verdict(found):
    """Say whether both bars are kept, and the means that say so."""
    mean = {
        (effect, name): float(np.mean([row[effect][name] for row in found.values()]))
        for effect in ("on", "off")
        for name in ("pathology", "oracle_c")
    }
    kept = mean["on", "pathology"] >= mean["on", "oracle_c"] - MARGIN
    return kept and NULL[0] <= mean["off", "pathology"] <= NULL[1], mean


def table(found):
    """Write the table."""
    kept, mean = verdict(found)
    lines = [
        "# What `stain` finds in synthetic slides",
        "",
        f"{len(found)} cohorts of 120 slides (`embed.make_synthetic_slides`, seeds from 0), encoder"
        " `stain`, mean of the",
        "patches, Cox regression; Harrell's C out of fold, on folds that keep sites. Written by"
        " `synthetic_slides.py`.",
        "",
        "| seed | events | C of the true risk | of its part on the slide | **pathology** | clinical"
        " | effect off: pathology | clinical |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for seed, row in sorted(found.items(), key=lambda item: int(item[0])):
        on, off = row["on"], row["off"]
        numbers = [on[k] for k in ("oracle_c", "oracle_c_slide", "pathology", "clinical")]
        numbers += [off["pathology"], off["clinical"]]
        cells = " | ".join(f"{number:.3f}" for number in numbers)
        lines.append(f"| {seed} | {on['n_events']} | {cells} |")
    bar = mean["on", "oracle_c"] - MARGIN
    lines += [
        "",
        f"Mean of pathology {mean['on', 'pathology']:.3f}; wanted: at least {bar:.3f}, the true"
        f" risk's minus {MARGIN}. With the effect off {mean['off', 'pathology']:.3f}; wanted:"
        f" {NULL[0]} to {NULL[1]}. {'Both kept.' if kept else 'NOT KEPT.'}",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
