"""Fabricate a small valid run folder: tables of the data schemas and run.json, nothing fitted.

The numbers are drawn, and only as consistent as a report needs them to be. It lets the report and
the figures be tested apart from evaluation, in shapes that real cohorts rarely have all at once.
"""

import itertools
import json

import numpy as np
import pandas as pd

from tabular_trainers.reporting_guideline import checklist
from tabular_trainers.schema import empty

HORIZONS = (365.25, 1095.75, 1826.25)
LABELS = {
    "cox": "Cox, elastic net",
    "rsf": "random survival forest",
    "xgb": "XGBoost",
    "other": "another model",
    "logistic": "logistic regression, elastic net",
    "random_forest": "random forest",
}
MODELS = {"survival": ("cox", "rsf", "xgb"), "classification": ("logistic", "random_forest", "xgb")}
FEATURES = {
    "clinical": ("age", "sex", "stage", "grade", "smoking_status_at_first_diagnosis"),
    "pathology": tuple(f"pc{i:02d}" for i in range(1, 13)),
    "blood": ("haemoglobin_g_per_dl", "leukocytes", "crp"),
}
TEXT_FEATURES = ("sex", "smoking_status_at_first_diagnosis")
BOOTSTRAP = "bootstrap (500 resamples of patients within folds)"
METHODS = {"harrell_c": "infinitesimal jackknife"}  # all others: the bootstrap


def example_tables(
    kind="survival",
    n=240,
    feature_sets=(
        "clinical",
        "pathology",
        "blood",
        "clinical+pathology",
        "clinical+pathology+blood",
    ),
    models=None,
    n_folds=5,
    n_repeats=1,
    site=True,
    shap=True,
    intervals=True,
    dropped=True,
    seed=0,
):
    """Return (tables, run) of a fabricated run, `run` as it stands in run.json."""
    draw = np.random.default_rng(seed)
    survival = kind == "survival"
    models = tuple(models or MODELS[kind])
    shown = (*models, "selected") if len(models) > 1 else models
    baseline = "clinical" if "clinical" in feature_sets else None
    full = max(feature_sets, key=lambda name: name.count("+"))
    pairs = list(itertools.product(feature_sets, shown))
    patient_id = np.array([f"P{i:04d}" for i in range(n)])
    risk = draw.normal(size=n)
    if survival:
        true_time = draw.exponential(3000 * np.exp(-0.8 * risk))
        censored = draw.uniform(200, 4200, size=n)
        event, time = true_time <= censored, np.ceil(np.minimum(true_time, censored))
    else:
        event, time = draw.random(n) < 1 / (1 + np.exp(1 - risk)), np.full(n, np.nan)
    fold = np.tile(np.arange(n_folds), n // n_folds + 1)[:n]
    tables = {
        "flow": _flow(n, full),
        "table_one": _table_one(draw, n, dropped),
        "folds": _folds(patient_id, fold, n_repeats),
        "metrics": _metrics(draw, pairs, kind, n, event, n_folds, n_repeats, intervals),
        "comparisons": _comparisons(draw, feature_sets, shown, baseline, full, kind, n_repeats),
        "calibration": _calibration(draw, pairs, survival, n),
        "probes": _probes(draw, feature_sets, site, survival),
        "trials": _trials(models, feature_sets),
        "subgroups": _subgroups(draw, shown, baseline, full, survival, n, event),
    }
    tables["decision_curve"] = _decision_curve(draw, pairs, survival)
    if survival:
        tables["kaplan_meier"] = _kaplan_meier(pairs, time, event, risk, draw)
    if shap:
        explained = [pair for pair in pairs if pair[1] != "selected"]
        tables["shap"], tables["shap_blocks"] = _shap(draw, explained, patient_id, fold, n_repeats)
    run = _run_facts(kind, n, int(event.sum()), feature_sets, models, baseline, full, site)
    run["fold_sizes"] = _fold_sizes(event, fold, n_repeats, site)
    primary = tables["comparisons"].query("primary")
    if len(primary):
        row = primary.iloc[0]
        run["verdict"] = {
            "reads": "not shown" if row.lower < 0 < row.upper else "adds",
            "text": f"not shown: difference between {row.lower:.3f} and {row.upper:.3f}",
            "difference": row.difference,
            "lower": row.lower,
            "upper": row.upper,
        }
    run = json.loads(json.dumps(run))
    tables["tripod_ai"] = checklist(tables, run)
    return tables, run


def write_example(folder, **kwargs):
    """Write a fabricated run folder and return its path."""
    tables, run = example_tables(**kwargs)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "run.json").write_text(json.dumps(run, indent=1), encoding="utf-8")
    return folder


def _flow(n, full):
    blocks = full.split("+")
    lost = [13, *(31 // (1 + len(blocks)) for _ in blocks[:-1])]
    lost.append(44 - sum(lost))
    told = ["endpoint: time or event missing", *(f"not in block {block}" for block in blocks)]
    steps = [("patients in clinical.csv", 0), *zip(told, lost, strict=True)]
    table = pd.DataFrame(steps, columns=["description", "n_dropped"])
    table.insert(0, "step", range(len(table)))
    return table.assign(n_patients=n + 44 - table["n_dropped"].cumsum())


def _table_one(draw, n, dropped):
    rows = []
    parts = (("kept", n), ("dropped", 44)) if dropped else (("kept", n),)
    variables = [
        ("age", None),
        *(("sex", level) for level in ("female", "male")),
        *(("stage", level) for level in ("I", "II", "III", "IV")),
    ]
    for (variable, level), (part, size) in itertools.product(variables, parts):
        missing = int(draw.integers(0, 4))
        some = int(draw.integers(1, size // 2))
        rows.append(
            {
                "block": "clinical",
                "variable": variable,
                "level": level,
                "part": part,
                "n": size - missing,
                "n_missing": missing,
                "text": "61 (53 to 68)" if level is None else f"{some} ({some / size:.0%})",
                "standardised_difference": {"age": 0.21, "sex": -0.04}.get(variable, 0.08)
                if dropped
                else None,
            }
        )
    return pd.DataFrame(rows)


def _folds(patient_id, fold, n_repeats):
    return pd.DataFrame(
        [
            (patient, repeat, k, "test" if k == own else "train")
            for repeat in range(n_repeats)
            for k in range(fold.max() + 1)
            for patient, own in zip(patient_id, (fold + repeat) % (fold.max() + 1), strict=True)
        ],
        columns=["patient_id", "repeat", "fold", "part"],
    )


def _fold_sizes(event, fold, n_repeats, site):
    rows = []
    for repeat, k in itertools.product(range(n_repeats), range(fold.max() + 1)):
        test = fold == k
        row = {
            "repeat": repeat,
            "fold": k,
            "n_train": int((~test).sum()),
            "n_test": int(test.sum()),
            "events_train": int(event[~test].sum()),
            "events_test": int(event[test].sum()),
        }
        rows.append(row | ({"sites_test": 4, "shared_sites": 0} if site else {}))
    return rows


def _metrics(draw, pairs, kind, n, event, n_folds, n_repeats, intervals):
    if kind == "survival":
        names = [("harrell_c", None), ("uno_c", None), ("integrated_brier", None)]
        timed = ("auc", "brier", "observed_expected", "calibration_slope")
        timed += ("integrated_calibration_index",)
        names += list(itertools.product(timed, HORIZONS))
    else:
        timed = ("auroc", "auprc", "brier", "log_loss", "observed_expected", "calibration_slope")
        timed += ("integrated_calibration_index",)
        names = [(name, None) for name in timed]
    middle = {"brier": 0.16, "integrated_brier": 0.15, "log_loss": 0.5}
    middle |= {"observed_expected": 1.0, "calibration_slope": 0.95}
    middle["integrated_calibration_index"] = 0.09
    rows = []
    for (feature_set, model), (name, horizon) in itertools.product(pairs, names):
        estimate = middle.get(name, 0.62 + 0.03 * feature_set.count("+")) + draw.normal(0, 0.02)
        error = 0.1 if name in ("observed_expected", "calibration_slope") else 0.022
        given = intervals and not (name == "uno_c" and feature_set == "blood")
        rows.append(
            {
                "feature_set": feature_set,
                "model": model,
                "metric": name,
                "horizon": horizon,
                "repeat": None,
                "fold": None,
                "estimate": estimate,
                "standard_error": error if given else None,
                "lower": estimate - 1.96 * error if given else None,
                "upper": estimate + 1.96 * error if given else None,
                "method": METHODS.get(name, BOOTSTRAP) if given else None,
                "n": n,
                "n_events": int(event.sum() * (horizon / 4000 if horizon else 1)),
            }
        )
        if name in ("harrell_c", "auroc"):
            for repeat, fold in itertools.product(range(n_repeats), range(n_folds)):
                one = {"repeat": repeat, "fold": fold, "estimate": estimate + draw.normal(0, 0.05)}
                one |= {"n": n // n_folds, "n_events": int(event.sum()) // n_folds, "method": None}
                rows.append(rows[-1] | one | {"standard_error": None, "lower": None, "upper": None})
    table = pd.DataFrame(rows)
    return table.astype({"repeat": "Int64", "fold": "Int64", "horizon": float})


def _trials(models, feature_sets):
    """Return trials of which the first model needed one, as a model that tunes itself."""
    rows = [
        (0, 0, feature_set, model, trial, "{}", 0.6 + trial / 100, trial == position)
        for feature_set in feature_sets
        for position, model in enumerate(models)
        for trial in range(1 + min(position, 1) * 7)
    ]
    names = ["repeat", "fold", "feature_set", "model", "trial", "parameters", "value", "chosen"]
    return pd.DataFrame(rows, columns=names)


def _comparisons(draw, feature_sets, models, baseline, full, kind, n_repeats):
    columns = [
        "feature_set",
        "model",
        "baseline_feature_set",
        "baseline_model",
        "metric",
        "difference",
    ]
    columns += ["standard_error", "lower", "upper", "p_value", "p_value_holm", "method", "primary"]
    rows = []
    names = ("harrell_c", "integrated_brier") if kind == "survival" else ("auroc", "brier")
    others = [name for name in feature_sets if name != baseline] if baseline else []
    for feature_set, model, name in itertools.product(others, models, names):
        difference = draw.normal(0.02, 0.02) * (1 if name in ("harrell_c", "auroc") else -0.2)
        primary = (feature_set, model, name) == (full, models[-1], names[0])
        p = float(draw.uniform(0.001, 0.9))
        numbers = (difference, 0.015, difference - 0.03, difference + 0.03, p)
        row = (feature_set, model, baseline, model, name, *numbers)
        method = f"paired {METHODS.get(name, BOOTSTRAP)}"
        rows.append((*row, None if primary else min(1.0, 6 * p), method, primary))
        if n_repeats > 1:
            rows.append((*row, None, "corrected resampled t (Nadeau-Bengio)", False))
    return pd.DataFrame(rows, columns=columns).astype({"p_value_holm": float, "primary": bool})


def _calibration(draw, pairs, survival, n):
    rows = []
    for feature_set, model in pairs:
        for horizon in HORIZONS if survival else (None,):
            for group in range(5):
                predicted = 0.08 + 0.14 * group + 0.05 * (horizon or 0) / 1000
                observed = float(np.clip(predicted + draw.normal(0, 0.04), 0.01, 0.97))
                lower, upper = max(observed - 0.1, 0.0), min(observed + 0.1, 1.0)
                row = (
                    feature_set,
                    model,
                    horizon,
                    group,
                    n // 5,
                    predicted,
                    observed,
                    lower,
                    upper,
                )
                rows.append(row)
    names = ["feature_set", "model", "horizon", "group", "n", "predicted", "observed"]
    return pd.DataFrame(rows, columns=[*names, "lower", "upper"]).astype({"horizon": float})


def _decision_curve(draw, pairs, survival):
    rows = []
    for feature_set, model in pairs:
        for horizon in HORIZONS if survival else (None,):
            for percent in range(2, 80, 2):
                threshold = percent / 100
                treat_all = 0.4 - 0.6 * threshold / (1 - threshold)
                benefit = max(0.4 * (1 - threshold) ** 2, treat_all) + draw.normal(0, 0.003)
                limits = (benefit - 0.03, benefit + 0.03)
                rows.append((feature_set, model, horizon, threshold, benefit, *limits, treat_all))
    names = ["feature_set", "model", "horizon", "threshold", "net_benefit", "lower", "upper"]
    table = pd.DataFrame(rows, columns=[*names, "treat_all"]).astype({"horizon": float})
    return table.assign(method="bootstrap (500 resamples of patients within folds)")


def _probes(draw, feature_sets, site, survival):
    metric = "Harrell's C" if survival else "AUROC"
    rows = [
        ("permuted_outcome", "clinical", metric, 0.497, 0.45, 0.54, 0.5, "outcomes were shuffled")
    ]
    if site:
        note = "patients of a hospital were in both parts"
        rows.append(("site_alone", "site", metric, 0.574, 0.53, 0.61, 0.5, note))
        for name in feature_sets:
            leak = float(draw.normal(0.01, 0.01))
            rows.append(("site_leak", name, f"difference in {metric}", leak, None, None, 0.0, note))
        for block in dict.fromkeys("+".join(feature_sets).split("+")):
            value = float(draw.uniform(0.2, 0.6))
            note = "share of patients whose site was named"
            rows.append(("site_from_block", block, "accuracy", value, None, None, 0.2, note))
    names = ["probe", "subject", "metric", "estimate", "lower", "upper", "expected", "note"]
    table = pd.DataFrame(rows, columns=names).astype({"lower": float, "upper": float})
    return table.assign(flagged=pd.array([False] + [None] * (len(rows) - 1), dtype="boolean"))


def _subgroups(draw, shown, baseline, full, survival, n, event):
    """A group too small to be measured, one of long name, and a variable of one measured level."""
    levels = (
        ("all patients", ("all patients",)),
        ("sex", ("female", "male")),
        ("age_at_initial_diagnosis, thirds", ("up to 57", "above 57, up to 66", "above 66")),
        ("stage", ("I", "II, as coded by the registry before 2017 and not since")),
    )
    rows = []
    for variable, names in levels:
        for name in names:
            few = name == "I"
            values = draw.uniform(0.55, 0.75, 2)
            row = {
                "variable": variable, "level": name, "n": n // len(names) if not few else 9,
                "n_events": int(event.sum()) // len(names) if not few else 4, "too_few": few,
                "feature_set": full, "model": shown[-1],
                "metric": "harrell_c" if survival else "auroc",
                "horizon": HORIZONS[-1] if survival else np.nan,
                "interaction_p_value": 0.34 if variable == "sex" else np.nan,
            }  # fmt: skip
            if baseline is not None:
                row |= {"baseline_feature_set": baseline, "baseline_model": shown[-1]}
            numbers = [("", values[0], 0.06), ("observed_expected_", 1.1, 0.3)]
            if baseline is not None and full != baseline:
                numbers += [("baseline_", values[1], 0.06)]
                numbers += [("difference_", values[0] - values[1], 0.05)]
                row["difference_error"] = np.nan if few else 0.025
            for prefix, value, half in () if few else numbers:
                named = {"": "estimate", "baseline_": "baseline_estimate"}
                row[named.get(prefix, prefix.removesuffix("_"))] = value
                row |= {f"{prefix}lower": value - half, f"{prefix}upper": value + half}
            rows.append(row)
    columns = list(empty("subgroups").columns)
    table = pd.DataFrame(rows).reindex(columns=columns)
    numbers = columns[columns.index("estimate") :]
    return table.astype(dict.fromkeys(numbers, float))


def _curve(time, event):
    """Kaplan-Meier by the product formula, log-log limits; a row a distinct time, and zero."""
    rows = [(0.0, 1.0, 1.0, 1.0, len(time), 0)]
    survival, greenwood = 1.0, 0.0
    for moment in np.unique(time):
        at_risk, n_events = int((time >= moment).sum()), int(event[time == moment].sum())
        survival *= 1 - n_events / at_risk
        if n_events < at_risk:
            greenwood += n_events / (at_risk * (at_risk - n_events))
        lower = upper = survival
        if 0 < survival < 1:
            width = 1.96 * np.sqrt(greenwood) / np.log(survival)
            lower, upper = survival ** np.exp(-width), survival ** np.exp(width)
        rows.append((float(moment), survival, lower, upper, at_risk, n_events))
    columns = ["time", "survival", "lower", "upper", "n_at_risk", "n_events"]
    return pd.DataFrame(rows, columns=columns)


def _kaplan_meier(pairs, time, event, risk, draw):
    curves = []
    for curve, happened in (("overall", event), ("reverse", ~event)):
        table = _curve(time, happened)
        curves.append(table.assign(curve=curve, feature_set=None, model=None, group="all"))
    for feature_set, model in pairs:
        noisy = risk + draw.normal(0, 1.0, size=len(risk))
        third = np.searchsorted(np.quantile(noisy, [1 / 3, 2 / 3]), noisy)
        for position, group in enumerate(("low", "middle", "high")):
            table = _curve(time[third == position], event[third == position])
            names = {"feature_set": feature_set, "model": model, "group": group}
            curves.append(table.assign(curve="thirds", **names))
    return pd.concat(curves, ignore_index=True)


def _shap(draw, pairs, patient_id, fold, n_repeats):
    parts = []
    for feature_set, model in pairs:
        scale = 0.05 if model in ("rsf", "random_forest") else 0.5
        for repeat in range(n_repeats):
            for block in feature_set.split("+"):
                for position, feature in enumerate((*FEATURES[block], "other")):
                    value = draw.normal(size=len(patient_id))
                    weight = scale / (1 + position) if feature != "other" else scale / 20
                    part = pd.DataFrame(
                        {
                            "patient_id": patient_id,
                            "repeat": repeat,
                            "fold": fold,
                            "feature_set": feature_set,
                            "model": model,
                            "target": "risk",
                            "base": 0.1 * scale * fold,
                            "block": block,
                            "feature": feature,
                            "value": value,
                            "contribution": weight * value + draw.normal(0, weight / 5, len(value)),
                        }
                    )
                    if feature in (*TEXT_FEATURES, "other"):
                        part["value"] = np.nan
                    parts.append(part)
    shap = pd.concat(parts, ignore_index=True)
    keys = ["patient_id", "repeat", "fold", "feature_set", "model", "target", "base", "block"]
    return shap, shap.groupby(keys, as_index=False)["contribution"].sum()


def _run_facts(kind, n, n_events, feature_sets, models, baseline, full, site):
    survival = kind == "survival"
    chosen = "selected" if len(models) > 1 else models[0]
    metric = "harrell_c" if survival else "auroc"
    pair = {"feature_set": full, "model": chosen}
    against = {"baseline_feature_set": baseline, "baseline_model": chosen, "metric": metric}
    follow_up = {"median": 1490.0, "lower": 1391.0, "upper": 1602.0}
    return {
        "schema_version": "1",
        "package_version": "0.1.0",
        "title": "Example head and neck",
        "time_zero": "diagnosis",
        "endpoint": {
            "name": "os" if survival else "hpv",
            "kind": kind,
            "unit": "days" if survival else None,
            "description": "event: survival_status is 'deceased'; time: days_to_last, days"
            if survival
            else "positive: hpv_association_p16 is 1",
            "deaths_censored": False,
        },
        "n_patients": n,
        "n_events": n_events,
        "config_hash": "c" * 64,
        "source_hash": "5" * 64,
        "cohort_file": None,
        "data": None,
        "seed": 7,
        "feature_sets": list(feature_sets),
        "models": list(models),
        "model_labels": {name: LABELS[name] for name in models},
        "risk_scales": {
            name: "mean cumulative hazard" if name == "rsf" else "log hazard" for name in models
        },
        "contribution_scales": {
            name: ("mean cumulative hazard" if name == "rsf" else "log hazard")
            if survival
            else "log odds"
            for name in models
        },
        "self_tuning": {"cox": "the penalty by the cross-validated partial likelihood"}
        if "cox" in models
        else {},
        "shap_kinds": {name: "sampled" if name == "rsf" else "exact" for name in models},
        "baseline": baseline,
        "full": full,
        "primary": pair | against if baseline and full != baseline else None,
        "primary_model": {"feature_set": full, "model": models[0]},
        "horizons": list(HORIZONS) if survival else [],
        "tau": HORIZONS[-1] if survival else None,
        "numbers_at_risk": {str(h): int(n * (1 - h / 4200)) for h in HORIZONS} if survival else {},
        "folds_note": "5 folds, stratified by event and time quartile"
        + (", sites kept whole" if site else "; no site given"),
        "fold_sizes": [],
        "n_trials": 8,
        "tuning_seconds": None,
        "n_resamples": 500,
        "sample_size": [
            {
                "feature_set": name,
                "n_columns": 3 * (1 + name.count("+")) + 40 * name.count("blood"),
                "n_parameters": 3 * (1 + name.count("+")),
                "events_per_parameter": n_events / (3 * (1 + name.count("+"))),
                "r2": 0.1,
                "shrinkage": 300 * (1 + name.count("+")),
                "optimism": 120,
                "overall_risk": 340,
                "patients": max(300 * (1 + name.count("+")), 340),
            }
            for name in feature_sets
        ],
        "missing_blocks": "drop",
        "notes": ["blood.csv: 12 patients had several rows; the first was kept."],
        "follow_up": follow_up if survival else None,
        "versions": {"python": "3.11.9", "numpy": "2.4.6", "scikit-survival": "0.28.0"},
        "verdict": None,
        "timings": {"evaluation": 61.2, "report": 4.0},
        "blocks": {
            name: {
                "n_columns": len(columns),
                "reduce": {"pca": 12} if name == "pathology" else None,
                "pool": "first" if name == "blood" else None,
            }
            for name, columns in FEATURES.items()
        },
    }
