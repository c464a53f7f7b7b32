"""Small cohorts whose outcome follows drawn patches, and as much of a run as can be opened."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tabular_trainers.cohort import load_cohort
from tabular_trainers.evaluation import evaluate_plan
from tabular_trainers.evaluation_plan import make_plan
from tabular_trainers.patch_store import open_patches
from tabular_trainers.reopened_run import reopen_run
from tabular_trainers.run_folder import write_facts
from tabular_trainers.tables import write_tables
from tests.patch_stores import write_store

DIM = 6
STATISTICS = {
    "mean": {"": lambda v: v.mean(axis=0)},
    "mean+std": {"": lambda v: v.mean(axis=0), "_std": lambda v: v.std(axis=0)},
    "max": {"_max": lambda v: v.max(axis=0)},
    "quantiles": {
        f"_q{round(100 * q)}": lambda v, q=q: np.quantile(v, q, axis=0)
        for q in (0.1, 0.25, 0.5, 0.75, 0.9)
    },
}
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
            n = 1100 if i == 2 else int(rng.integers(3, 40))  # more than is read at once
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
    slides = {slide: (patient, v.astype(dtype)) for slide, (patient, v) in slides.items()}
    write_store(folder / "store", slides)
    pool_by_hand(slides, folder / "pathology.parquet", how, by)
    (folder / "cohort.toml").write_text(TOML.format(reduce=reduce, missing=missing))
    return folder


def pool_by_hand(slides, out, how="mean", by="slide"):
    """Write the table that ``embed pool`` makes of these slides."""
    statistics = STATISTICS[how]
    bags = {}
    for patient_id, vectors in slides.values():
        if len(vectors):
            bags.setdefault(patient_id, []).append(vectors.astype("float64"))
    rows = {}
    for patient_id, own in sorted(bags.items()):
        units = own if by == "slide" else [np.concatenate(own)]
        found = [np.concatenate([s(unit) for s in statistics.values()]) for unit in units]
        rows[patient_id] = np.mean(found, axis=0)
    dim = next(v.shape[1] for _, v in slides.values())
    names = [f"e{j:03d}{suffix}" for suffix in statistics for j in range(dim)]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    frame = frame.rename_axis("patient_id").reset_index()
    facts = {
        "encoder_id": "drawn-1",
        "pretrained_on": "[]",
        "how": how,
        "level": "patch",
        "by": by,
    }
    pq.write_table(pa.Table.from_pandas(frame).replace_schema_metadata(facts), out)
    return out


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
