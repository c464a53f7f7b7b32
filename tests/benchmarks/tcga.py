"""Our models beside published deep ones, on the same TCGA cohorts and folds.

    TABULAR_TRAINERS_DATA=FOLDER python tests/benchmarks/tcga.py [--cohorts blca,brca] [--render]

Every feature set x model is tuned inside the training part of each fold, once with the published
folds and once with folds that keep sites whole. What is measured is kept in ``tcga.json``, a
cohort and kind of folds at a time, so that an interrupted command goes on; TCGA.md, the figure and
the table of the README are written from it. ``--render`` only writes those.

The folder holds tcga_porpoise (tables and splits, see notebooks/cohorts), tcga_cdr/TCGA-CDR.csv.gz
(Liu et al., Cell 2018) and published/published_cindex.csv: C a fold of published models.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
RESULTS = HERE / "tcga.json"
FIVE = ("blca", "brca", "gbmlgg", "luad", "ucec")  # the cohorts of the published models
COHORTS = (*FIVE, "skcm")
FOLDS = ("published", "sites kept whole")
# Settled before anything was measured: what is compared with the published models.
PRIMARY = ("clinical+genomics", "selected")
FEATURE_SETS = (
    "clinical",
    "clinical+staging",
    "genomics",
    "clinical+genomics",
    "late:clinical+genomics",
    "clinical+staging+genomics",
)
MODELS = ("cox", "rsf", "xgb")
# Stage and grade as TCGA-CDR has them, where the type of cancer is staged and graded.
STAGING = {
    "blca": ("ajcc_pathologic_tumor_stage", "histological_grade"),
    "brca": ("ajcc_pathologic_tumor_stage",),
    "gbmlgg": ("histological_grade",),
    "luad": ("ajcc_pathologic_tumor_stage",),
    "skcm": ("ajcc_pathologic_tumor_stage",),
    "ucec": ("clinical_stage", "histological_grade"),
}
GENOMICS = {
    "skcm": ("rnaseq", "mut"),
    "ucec": ("cnv", "mut"),
    "others": ("rnaseq", "cnv", "mut"),
}
COMPONENTS = 20
RIDGE = (f"clinical + {COMPONENTS} components", "ridge Cox")
TOML = """
title = "TCGA {title}"
time_zero = "diagnosis"
[clinical]
table = "tcga_porpoise/tcga_{name}.csv.gz"
patient_id = "case_id"
site = "site"
[endpoints.os]
kind = "survival"
time = "survival_months"
unit = "months"
event = "censorship"
event_values = [0]
[blocks.clinical]
columns = ["age", "is_female"]
[blocks.staging]
table = "tcga_cdr/TCGA-CDR.csv.gz"
key = "bcr_patient_barcode"
columns = {staging}
categorical = {staging}
[blocks.genomics]
columns = {genomics}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", default=",".join(COHORTS))
    parser.add_argument("--jobs", type=int, default=None, help="processes; default: all processors")
    parser.add_argument("--render", action="store_true", help="only write what tcga.json holds")
    options = parser.parse_args()
    if "TABULAR_TRAINERS_DATA" not in os.environ:
        sys.exit("TABULAR_TRAINERS_DATA is not set: it names the folder of the TCGA tables.")
    data = Path(os.environ["TABULAR_TRAINERS_DATA"])
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for folds in () if options.render else FOLDS:
        for name in options.cohorts.split(","):
            key = f"{name}, {folds}"
            if key in found:
                print(f"{key}: measured before")
                continue
            begun = time.perf_counter()
            found[key] = measure(name, folds, data, options.jobs)
            print(f"{key}: {time.perf_counter() - begun:.0f} s", flush=True)
            found = {k: found[k] for n in COHORTS for f in FOLDS if (k := f"{n}, {f}") in found}
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    import tcga_results

    tcga_results.write(found, published(data))


def measure(name, folds, data, n_jobs=None):
    """Evaluate everything on one cohort.

    Returns
    -------
    list of dict
        feature_set, model, and for each fold c, n, n_events, n_train; the ridge Cox beside.
    """
    from tabular_trainers import evaluate
    from tabular_trainers.parallel import cpu_count

    cohort = read_cohort(name, data)
    given = data / "tcga_porpoise" / "splits" / f"tcga_{name}" if folds == FOLDS[0] else 5
    evaluation = evaluate(
        cohort, feature_sets=FEATURE_SETS, models=MODELS, folds=given, n_jobs=n_jobs or cpu_count(),
        n_resamples=2,
    )  # fmt: skip
    rows = evaluation.metrics[evaluation.metrics["metric"] == "harrell_c"]
    rows = rows[rows["fold"].notna()].sort_values("fold", kind="stable")
    n_train = evaluation.folds[evaluation.folds["part"] == "train"].groupby("fold").size()
    found = [
        {
            "feature_set": feature_set,
            "model": model,
            "c": own["estimate"].round(6).tolist(),
            "n": own["n"].astype(int).tolist(),
            "n_events": own["n_events"].astype(int).tolist(),
            "n_train": n_train.tolist(),
        }
        for (feature_set, model), own in rows.groupby(["feature_set", "model"], sort=False)
    ]
    first = found[0]
    ridge = dict(zip(("feature_set", "model"), RIDGE, strict=True))
    return [*found, {**first, **ridge, "c": ridge_cox(evaluation.plan)}]


def read_cohort(name, data):
    """Describe a cohort: age and sex, stage and grade, genomics."""
    from tabular_trainers import load_cohort

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"tcga_{name}.toml"
        staging = json.dumps(list(STAGING[name]))
        genomics = json.dumps([f"*_{kind}" for kind in GENOMICS.get(name, GENOMICS["others"])])
        text = TOML.format(name=name, title=name.upper(), staging=staging, genomics=genomics)
        path.write_text(text)
        return load_cohort(path, data)


def ridge_cox(plan):
    """Fit the plainest model: a ridge Cox on age, sex and 20 principal components; C a fold."""
    from tabular_trainers.metrics import harrell_c
    from tabular_trainers.models import make_model

    analysis, values = plan.analysis, []
    X = analysis.X[list(analysis.feature_sets["clinical+genomics"])]
    for fold in sorted(plan.folds["fold"].unique()):
        train, test = plan.positions(0, fold)
        pipeline = make_model(
            "cox",
            "survival",
            reduce={"genomics": {"pca": COMPONENTS}},
            parameters={"l1_ratio": 0.0},
        )
        pipeline.fit(X.iloc[train], analysis.y[train], model__groups=analysis.site[train])
        values.append(round(float(harrell_c(analysis.y[test], pipeline.predict(X.iloc[test]))), 6))
    return values


def published(data):
    """Read C a fold of published models on these cohorts and folds: (model, cohort) -> five C."""
    table = pd.read_csv(data / "published" / "published_cindex.csv")
    table = table[(table["split"] == "val") & table["cancer"].isin(COHORTS)]
    table = table.drop_duplicates(["model", "cancer", "fold"])  # one model, given twice
    found = {}
    for (model, cohort), own in table.sort_values("fold").groupby(["model", "cancer"]):
        if len(own) == 5 and not np.ptp(own["cindex"]) == 0:
            found[model, cohort] = own["cindex"].tolist()
    return found


if __name__ == "__main__":
    main()
