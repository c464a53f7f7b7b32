"""Small cohorts whose outcome follows drawn patches, and as much of a run as can be opened."""

import numpy as np
import pandas as pd

from tabular_trainers.cohort import load_cohort
from tabular_trainers.evaluation import evaluate_plan
from tabular_trainers.evaluation_plan import make_plan
from tabular_trainers.patch_store import open_patches
from tabular_trainers.reopened_run import reopen_run
from tabular_trainers.run_folder import write_facts
from tabular_trainers.tables import write_tables
from tests.written_store import pool_by_hand, write_store

DIM = 6
TOML = """\
title = "Drawn patches"
time_zero = "diagnosis"
missing_blocks = "{missing}"

[clinical]
table = "clinical.csv"

[endpoints.os]
kind = "survival"
time = "time"
unit = "months"
event = "event"
event_values = [1]

[endpoints.grade]
kind = "classification"
label = "grade"
positive = 1

[blocks.clinical]
columns = ["age", "sex", "marker"]
categorical = ["sex"]

[blocks.pathology]
table = "pathology.parquet"
{reduce}
"""


def draw_slides(rng, n_patients, dim=DIM):
    """Draw one to three slides a patient, with 3 to 40 patches each."""
    slides, level = {}, {}
    for i in range(n_patients):
        level[f"P{i:03d}"] = rng.normal(size=dim)
        for j in range(1 + i % 3):
            n = int(rng.integers(3, 40))
            vectors = level[f"P{i:03d}"] + rng.normal(0, 2, (n, dim)) + 5.0
            slides[f"S{i:03d}_{j}"] = (f"P{i:03d}", vectors)
    return slides, pd.DataFrame(level).T


def write_cohort(
    folder, how="mean", by="slide", dtype="float32", reduce="", missing="drop", n=90, seed=1
):
    """Write a cohort whose outcome follows the patches: cohort.toml, tables and store."""
    rng = np.random.default_rng(seed)
    slides, level = draw_slides(rng, n)
    clinical = pd.DataFrame(index=level.index.rename("patient_id"))
    clinical["age"] = rng.normal(60, 10, n).round(1)
    clinical["sex"] = rng.choice(["f", "m"], n)
    clinical["marker"] = np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n).round(2))
    risk = level[0] + 0.03 * (clinical["age"] - 60)
    time = rng.exponential(20 * np.exp(-risk))
    clinical["time"] = np.clip(time, 0.1, 30).round(2)
    clinical["event"] = (time < 30).astype(int)
    clinical["grade"] = (risk + rng.logistic(size=n) > 0).astype(int)
    folder.mkdir(parents=True)
    clinical.to_csv(folder / "clinical.csv")
    if missing == "impute":
        slides = {s: own for s, own in slides.items() if int(own[0][1:]) % 8}
    write_store(folder / "store", slides, dtype)
    pool_by_hand(slides, folder / "pathology.parquet", how, by, dtype)
    (folder / "cohort.toml").write_text(TOML.format(reduce=reduce, missing=missing))
    return folder


SETTINGS = {"folds": 3, "n_trials": 1}


def score_only(folder, endpoint="os", models=("cox",), feature_sets=("pathology",)):
    """Write as much of a run as is needed to open it again, in a tenth of the time."""
    cohort = load_cohort(folder / "cohort.toml")
    plan = make_plan(cohort, endpoint, feature_sets, models, **SETTINGS)
    found = evaluate_plan(plan, n_resamples=2)
    tables = {"folds": found.folds, "predictions": found.predictions, "trials": found.trials}
    write_tables(tables, folder / "run")
    facts = {
        "endpoint": {"name": endpoint},
        "n_patients": len(plan.analysis.y),
        "source_hash": cohort.source_hash,
        "cohort_file": cohort.config_file,
        "feature_sets": list(plan.analysis.feature_sets),
        "models": list(plan.models),
        "full": plan.analysis.full,
        "horizons": list(plan.horizons),
        "folds_note": plan.fold_note,
        "seed": plan.seed,
        "n_trials": plan.n_trials,
        "tuning_seconds": None,
    }
    write_facts(folder / "run" / "run.json", facts)
    return reopen_run(folder / "run"), open_patches(folder / "store")
