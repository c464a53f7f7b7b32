"""Synthetic slides whose content decides how long patients live, so that the truth is known.

For tests, benchmarks and the tutorial: pictures that look like H&E, a mask of what is where, and
follow-up in which lymphocyte-rich tissue protects, as tumour-infiltrating lymphocytes do in many
carcinomas. Nothing about a real patient is in them.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from tabular_trainers.errors import SchemaError

from .pyramid_tiff import write_pyramid
from .requirements import need
from .synthetic_outcomes import draw_outcome, harrell_c
from .synthetic_tissue import (
    CLASSES,
    MASK_PX,
    MPP,
    Contents,
    draw_pen,
    draw_textures,
    paint_slide,
    plan_slide,
)

# Strength of hematoxylin and eosin at each site; slides vary by 5 percent around it.
SITES = {
    "north": (1.0, 1.0),
    "south": (0.85, 1.1),
    "east": (1.15, 0.9),
    "west": (0.9, 0.85),
    "hill": (1.1, 1.15),
    "lake": (1.0, 0.9),
}
PEN_SITE = "lake"
SPREAD = 0.05

LYMPHOCYTES = (0.02, 0.42)  # range of the lymphocyte-rich share of the tissue, evenly spread
TYPICAL_SHARE = 0.2  # of it, at which the log hazard ratio is 0
AGE_YEARS, AGE_EFFECT = 65.0, 0.04  # log hazard ratio a year
STAGES = {"I": 0.0, "II": 0.5, "III": 1.0}  # and of each stage

COHORT = """\
title = "Synthetic slides"
time_zero = "diagnosis"

[clinical]
table = "clinical.csv"
patient_id = "patient_id"
site = "site"

[endpoints.os]
kind = "survival"
time = "time"
unit = "months"
event = "event"
event_values = [1]

[blocks.clinical]
columns = ["age", "sex", "stage"]
categorical = ["sex", "stage"]

# Written by: tabular-trainers embed slides, then tabular-trainers embed pool.
[blocks.pathology]
table = "pathology.parquet"
"""


def make_synthetic_slides(folder, n_slides=120, seed=0, effect=1.5, progress=None):
    """Make a cohort of synthetic slides with a planted link from content to survival.

    One slide a patient, 0.5 micrometres a pixel, with about 38 patches of 256 pixels on tissue.
    The log hazard ratio of a patient is

        -effect * (lymphocytes - 0.2) / 0.1 + 0.04 * (age - 65) + (0, 0.5 or 1 by stage),

    where ``lymphocytes`` is the lymphocyte-rich share of the tissue, counted in the mask: more of
    it protects. Site, sex and all else on the slide have no effect. Two thirds of the patients have
    the event: follow-up, uniform from 0, is as long as it takes for that. Of 25 draws of times the
    one with the median C of the true risk is kept, so that cohorts differ little in how hard they
    are.

    The folder holds ``slides/*.tiff``, ``masks/*.png`` (values: ``classes`` in truth.json, a pixel
    is 4 micrometres), ``slides.csv``, ``clinical.csv``, ``truth.csv`` (a row a patient: true risk
    and what the slide shows), ``truth.json`` (the truth of the cohort) and ``cohort.toml``, which
    wants ``pathology.parquet``.

    Parameters
    ----------
    folder : path
        New, or empty. It is whole or absent.
    n_slides : int, default 120
    seed : int, default 0
        Equal seeds give equal bytes.
    effect : float, default 1.5
        Log hazard ratio of 10 percent points less lymphocyte-rich tissue. 0 makes outcomes
        independent of what slides show.
    progress : callable, optional
        Called as ``progress(done, total, slide_id)`` after each slide.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SchemaError
        When the folder is not empty, or there are fewer than 2 slides.
    """
    folder = Path(folder)
    if n_slides < 2:
        raise SchemaError(f"n_slides is {n_slides}; expected at least 2.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SchemaError(f"{folder} is there already; name a new folder, or an empty one.")
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        (partial / "slides").mkdir(parents=True)
        (partial / "masks").mkdir()
        patients = draw_patients(np.random.default_rng([seed, 2]), n_slides)
        shown = _make_slides(partial, patients, seed, progress)
        write_tables(partial, patients.join(shown), seed, effect)
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def draw_patients(random, n):
    """Draw n patients: clinical columns, and the lymphocytes that each slide is to show."""
    width = max(len(str(n)), 3)
    names = list(SITES)
    low, high = LYMPHOCYTES
    return pd.DataFrame(
        {
            "site": [names[i] for i in random.permutation(np.arange(n) % len(names))],
            "age": np.clip(np.round(random.normal(AGE_YEARS, 10, n)), 30, 95).astype(int),
            "sex": random.choice(["female", "male"], n),
            "stage": random.choice(list(STAGES), n, p=[0.35, 0.4, 0.25]),
            # One patient in each n-th part of the range: cohorts differ less by chance.
            "wanted": low + (high - low) * (random.permutation(n) + random.random(n)) / n,
        },
        index=pd.Index([f"P{i + 1:0{width}d}" for i in range(n)], name="patient_id"),
    )


def _make_slides(folder, patients, seed, progress):
    """Write slides and masks; tell what each slide shows, as shares of its tissue."""
    textures = draw_textures(seed)
    shown = []
    for number, patient in enumerate(patients.itertuples()):
        random = np.random.default_rng([seed, 3, number])
        contents = Contents(patient.wanted, random.uniform(0.3, 0.55), random.uniform(0.04, 0.16))
        stains = [amount * random.normal(1, SPREAD) for amount in SITES[patient.site]]
        image, mask = paint_slide(random, plan_slide(random, contents), textures, *stains)
        areas = np.bincount(mask.ravel(), minlength=len(CLASSES))
        if patient.site == PEN_SITE:
            draw_pen(random, image, mask)
        slide = f"S{patient.Index[1:]}"
        write_pyramid(folder / "slides" / f"{slide}.tiff", image, MPP)
        small = np.ascontiguousarray(mask[MASK_PX // 2 :: MASK_PX, MASK_PX // 2 :: MASK_PX])
        need("PIL.Image").fromarray(small).save(folder / "masks" / f"{slide}.png")
        tissue = areas[1:].sum()
        shares = {name: areas[k] / tissue for name, k in CLASSES.items() if 0 < k < 5}
        shown.append({"slide_id": slide, "tissue_mm2": tissue * MPP**2 / 1e6, **shares})
        if progress is not None:
            progress(number + 1, len(patients), slide)
    return pd.DataFrame(shown, index=patients.index)


def _log_hazard_ratios(patients, effect):
    """Compute the true risk: what the slide decides, and what the clinical columns do."""
    slide = -effect * (patients["lymphocytes"] - TYPICAL_SHARE) / 0.1
    clinical = AGE_EFFECT * (patients["age"] - AGE_YEARS) + patients["stage"].map(STAGES)
    return slide.to_numpy(), clinical.to_numpy(dtype=float)


def write_tables(folder, patients, seed, effect):
    """Draw outcomes and write all but slides and masks.

    Parameters
    ----------
    folder : Path
    patients : DataFrame
        From `draw_patients`, with the columns of truth.csv that tell what slides show.
    seed : int
    effect : float
    """
    slide, clinical = _log_hazard_ratios(patients, effect)
    risk = slide + clinical
    time, event = draw_outcome(np.random.default_rng([seed, 4]), risk)
    patients = patients.assign(time=time, event=event.astype(int), true_risk=risk)
    paths = "slides/" + patients["slide_id"] + ".tiff"
    slides = patients.reset_index()[["slide_id", "patient_id"]].assign(path=paths.to_numpy())
    slides.to_csv(folder / "slides.csv", index=False, lineterminator="\n")
    columns = ["site", "age", "sex", "stage", "time", "event"]
    patients[columns].to_csv(folder / "clinical.csv", lineterminator="\n")
    columns = ["slide_id", "true_risk", "tissue_mm2", "stroma", "tumour", "lymphocytes", "fat"]
    truth = patients[columns].assign(slide_risk=slide, clinical_risk=clinical)
    truth.round(6).to_csv(folder / "truth.csv", lineterminator="\n")
    facts = {
        "n_slides": len(patients),
        "seed": seed,
        "effect": effect,
        "n_events": int(event.sum()),
        "oracle_c": harrell_c(time, event, risk),
        "oracle_c_slide": harrell_c(time, event, slide),
        "oracle_c_clinical": harrell_c(time, event, clinical),
        "log_hazard_ratio": {
            "lymphocytes, 10 percent points more": -effect,
            "age, a year more": AGE_EFFECT,
            "stage": STAGES,
        },
        "mask_um_a_pixel": MASK_PX * MPP,
        "classes": CLASSES,
        "stain_by_site": SITES,
        "pen_site": PEN_SITE,
    }
    (folder / "truth.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "cohort.toml").write_text(COHORT, encoding="utf-8")
