"""Fabricate the tables of a batch: nothing is run, and numbers only fit as far as a page needs."""

import itertools

import numpy as np
import pandas as pd

from tabular_trainers.schema import load_schema, validate

KEY = (
    "kind", "endpoint", "seed", "feature_set", "model", "baseline_feature_set", "baseline_model",
    "metric", "primary",
)  # fmt: skip
COHORTS = ("tcga_blca", "tcga_brca", "tcga_gbmlgg", "tcga_luad", "tcga_skcm", "tcga_ucec")
METRIC = {"survival": "harrell_c", "classification": "auroc"}
MODEL = {"survival": "cox", "classification": "logistic"}
ALIKE = "its two risks rank the patients alike: standard error 0"


def example_batch(
    cohorts=COHORTS,
    kind="survival",
    endpoint="os",
    seeds=(0,),
    feature_sets=("clinical", "genomics", "clinical+genomics"),
    models=None,
    effect=0.02,
    spread=0.012,
    left_out=(),
    failed=(),
    notebooks=(),
    intervals=True,
    primary=True,
    seed=0,
):
    """Return (tables, entries as dicts) of a batch that never ran."""
    draw = np.random.default_rng(seed)
    shown = (*(models or (MODEL[kind],)), "selected")
    runs, rows, entries = [], [], []
    for cohort, number in itertools.product(cohorts, seeds):
        name = f"{cohort}_{endpoint}" + (f"_seed{number}" if len(seeds) > 1 else "")
        n = int(draw.integers(200, 1000))
        own = {"run": name, "what": "run", "cohort": cohort, "endpoint": endpoint, "seed": number}
        entries.append({**_entry(own), "path": f"runs/{name}"})
        if cohort in failed:
            reason = "no event in the test part of fold 3."
            entries[-1] |= {"status": "failed", "reason": reason}
            rows.append({**own, "primary": False, "status": "failed", "reason": reason})
            continue
        own |= {"kind": kind, "status": "done", "n": n, "n_events": n // 3}
        runs.append(own)
        rows += _rows(draw, own, feature_sets, shown, effect, spread, left_out, intervals, primary)
    for name in notebooks:
        entries.append(
            {"name": name, "what": "notebook", "cohort": None, "endpoint": None, "seed": None,
             "path": f"notebooks/{name}.ipynb", "status": "done", "reason": None}
        )  # fmt: skip
        rows.append({"run": name, "what": "notebook", "primary": False, "status": "done"})
    tables = {"comparison": pd.DataFrame(rows)}
    tables["pools"], tables["pool_cohorts"] = _pools(tables["comparison"])
    return {name: _as_contract(frame, name) for name, frame in tables.items()}, entries


def _as_contract(frame, name):
    columns = [field["name"] for field in load_schema(name)["fields"]]
    return validate(frame.reindex(columns=columns), name)


def _entry(own):
    keys = ("what", "cohort", "endpoint", "seed")
    return {"name": own["run"], **{k: own[k] for k in keys}, "status": "done", "reason": None}


def _rows(draw, own, feature_sets, models, effect, spread, left_out, intervals, primary):
    error = 0.6 / np.sqrt(own["n"])
    true = draw.normal(effect, spread)
    for feature_set, model in itertools.product(feature_sets, models):
        estimate = 0.65 + draw.normal(0, 0.03)
        row = {**own, "feature_set": feature_set, "model": model, "metric": METRIC[own["kind"]]}
        row |= {"estimate": estimate, "standard_error": 0.03, "primary": False}
        if intervals:
            row |= {"lower": estimate - 0.06, "upper": estimate + 0.06}
        if feature_set != feature_sets[0]:
            alike = own["cohort"] in left_out
            value = 0.0 if alike else draw.normal(true, error / 3)
            se = 0.0 if alike else error / 2
            row |= {
                "baseline_feature_set": feature_sets[0],
                "baseline_model": model,
                "difference": value,
                "difference_standard_error": se,
                "difference_lower": value - 1.96 * se,
                "difference_upper": value + 1.96 * se,
                "p_value": 0.3,
                "primary": primary and feature_set == feature_sets[-1] and model == "selected",
            }
        yield row


def _pools(comparison):
    if "baseline_feature_set" not in comparison:
        return pd.DataFrame(), pd.DataFrame()
    rows = comparison[comparison["baseline_feature_set"].notna()]
    pools, members = [], []
    for key, own in rows.groupby(list(KEY), dropna=False, sort=False):
        pool = {k: None if pd.isna(v) else v for k, v in zip(KEY, key, strict=True)}
        good = own[own["difference_standard_error"] > 0]
        pooled = len(good) >= 3
        weight = 1 / (good["difference_standard_error"] ** 2 + 0.01**2)
        mean = float((weight * good["difference"]).sum() / weight.sum()) if pooled else None
        half = 2.5 / np.sqrt(weight.sum()) if pooled else None
        reads = "not pooled"
        if pooled:
            reads = "adds" if mean > half else "worse" if mean < -half else "not shown"
        sizes = {"n_patients": own["n"].sum(), "n_events": own["n_events"].sum()}
        pool |= {"n_cohorts": len(good), "n_left_out": len(own) - len(good), **sizes}
        pool |= {"reads": reads, "reason": None}
        if pooled:
            pool |= {
                "difference": mean, "standard_error": half / 2.5, "lower": mean - half,
                "upper": mean + half, "p_value": 0.03, "tau2": 1e-4, "i2": 34.0, "q": 7.6,
                "q_p_value": 0.18, "prediction_lower": mean - 2 * half,
                "prediction_upper": mean + 2 * half,
            }  # fmt: skip
        else:
            n = len(good)
            pool["reason"] = f"{n} cohort{'s' * (n != 1)}, at least 3 are needed"
        pools.append(pool)
        for index, row in own.iterrows():
            alike = row["difference_standard_error"] == 0
            why = None if pooled else f"not pooled: {pool['reason']}"
            members.append(
                {**pool, "run": row["run"], "cohort": row["cohort"], "n": row["n"],
                 "n_events": row["n_events"], "difference": row["difference"],
                 "standard_error": row["difference_standard_error"],
                 "lower": row["difference_lower"], "upper": row["difference_upper"],
                 "pooled": bool(pooled and not alike), "reason": ALIKE if alike else why,
                 "weight": weight[index] / weight.sum() if pooled and not alike else None}
            )  # fmt: skip
    return pd.DataFrame(pools), pd.DataFrame(members)
