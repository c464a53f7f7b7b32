"""For whom the primary model works: its measures in groups of patients, and what it adds there."""

import numpy as np
import pandas as pd

from tabular_trainers.subgroup_variables import MIN_EVENTS, Variable, n_events, subgroup_variables
from tabular_trainers.uncertainty import Draws, average

EVERYONE = "all patients"
COLUMNS = (
    "variable", "level", "n", "n_events", "too_few", "feature_set", "model",
    "baseline_feature_set", "baseline_model", "metric", "estimate", "lower", "upper",
    "baseline_estimate", "baseline_lower", "baseline_upper", "difference", "difference_error",
    "difference_lower", "difference_upper", "horizon", "observed_expected",
    "observed_expected_lower", "observed_expected_upper", "interaction_p_value",
)  # fmt: skip
_NUMBERS = list(COLUMNS[10:])


def subgroup_table(evaluation):
    """Measure the primary model, and what it adds to the baseline, by sex, age, stage and site.

    Pairs of patients are formed within a fold and a level. A level with fewer than 10 events
    (classification: patients of either class) is counted and not measured. A difference that looks
    larger in one level than in another is mostly chance, so the only p value is that of a test for
    each variable whether the differences are equal across its levels.

    Parameters
    ----------
    evaluation : Evaluation
        Its primary comparison is measured; without one, the model that `predict` would use.

    Returns
    -------
    DataFrame
        Schema ``subgroups``; the first row is of all patients. Observed over expected is at the
        largest horizon. Intervals are those of the measures elsewhere in a run: infinitesimal
        jackknife for Harrell's C and its difference, else a bootstrap of patients, or of sites
        where a level has 10 of them.

    References
    ----------
    Test of equal differences: Wald, which for independent levels is Cochran's Q (Cochran,
    Biometrics 1954;10:101). Subgroups: Rothwell, Lancet 2005;365:176.
    """
    pairs = _pairs(evaluation)
    predictions = _labelled(evaluation.predictions, pairs)
    survival = None
    if evaluation.survival is not None and evaluation.plan.tau is not None:
        at_tau = np.isclose(evaluation.survival["time"], evaluation.plan.tau, rtol=1e-9, atol=0.0)
        survival = _labelled(evaluation.survival[at_tau], pairs[:1])
    everyone = Variable(EVERYONE, ((EVERYONE, np.arange(len(evaluation.plan.analysis.y))),))
    rows = []
    for variable in (everyone, *subgroup_variables(evaluation.plan.analysis)):
        own = [
            _level(evaluation, variable, level, at, predictions, survival, pairs)
            for level, at in variable.levels
        ]
        p_value = equal_differences(
            [row["difference"] for row in own], [row["difference_error"] for row in own]
        )
        rows += [row | {"interaction_p_value": p_value} for row in own]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(dict.fromkeys(_NUMBERS, "float64") | {"too_few": bool})


def equal_differences(differences, errors):
    """Test whether differences in independent groups are equal.

    Parameters
    ----------
    differences, errors : sequence of float
        Estimates and standard errors; groups where either is NaN, or the error 0, are left out.

    Returns
    -------
    float
        p value of chi-squared with one degree of freedom less than groups; NaN with fewer than two.

    Examples
    --------
    >>> round(equal_differences([0.05, -0.01], [0.02, 0.02]), 4)
    0.0339
    """
    from scipy.stats import chi2

    differences, errors = np.asarray(differences, float), np.asarray(errors, float)
    used = np.isfinite(differences) & (errors > 0)
    if used.sum() < 2:
        return np.nan
    weights = errors[used] ** -2.0
    mean = np.average(differences[used], weights=weights)
    return float(chi2.sf(weights @ (differences[used] - mean) ** 2, used.sum() - 1))


def _pairs(evaluation):
    """Give (feature set, model) of the primary model, and of its baseline where there is one."""
    primary, plan = evaluation.primary, evaluation.plan
    if primary is None:
        return [(plan.analysis.full, plan.models[0])]
    baseline = primary["baseline_feature_set"], primary["baseline_model"]
    return [(primary["feature_set"], primary["model"]), baseline]


def _labelled(table, pairs):
    """Take the rows of these pairs; as feature set their number, so that they are one model."""
    parts = []
    for number, (feature_set, model) in enumerate(pairs):
        own = table[(table["feature_set"] == feature_set) & (table["model"] == model)]
        parts.append(own.assign(feature_set=number, model="one"))
    return pd.concat(parts, ignore_index=True)


def _level(evaluation, variable, level, at, predictions, survival, pairs):
    from tabular_trainers import metrics
    from tabular_trainers.scoring import HEADLINE

    plan, analysis = evaluation.plan, evaluation.plan.analysis
    y, patients = analysis.y[at], analysis.patient_id[at]
    events = int((y["event"] if plan.task == "survival" else y).sum())
    row = dict.fromkeys(COLUMNS, None) | {
        "variable": variable.name, "level": level, "n": len(at), "n_events": events,
        "too_few": n_events(y) < MIN_EVENTS, "metric": HEADLINE[plan.task],
        "feature_set": pairs[0][0], "model": pairs[0][1], "horizon": plan.tau,
    }  # fmt: skip
    if len(pairs) > 1:
        row |= {"baseline_feature_set": pairs[1][0], "baseline_model": pairs[1][1]}
    if row["too_few"]:
        return row
    # patients of one site are one level: there is nothing to sum by site
    site = None if analysis.site is None or variable.is_site else analysis.site[at]
    inside = predictions[predictions["patient_id"].isin(patients)]
    shared = (plan.folds, inside, site, evaluation.n_resamples, plan.seed)
    found = metrics.headline(plan.task, y, patients, *shared)
    if not np.isfinite(found[0].estimate):
        return row | {"too_few": True}
    row |= _numbers("", found[0])
    if len(pairs) > 1:
        row |= _numbers("baseline_", found[1])
        difference = found[0].minus(found[1])
        row |= _numbers("difference_", difference) | {"difference": difference.estimate}
        row["difference_error"] = difference.interval().standard_error
    return row | _calibration(evaluation, at, site, inside, survival)


def _numbers(prefix, measured):
    _, lower, upper = measured.interval()
    found = {"lower": lower, "upper": upper, "estimate": measured.estimate}
    return {f"{prefix}{name}": value for name, value in found.items() if prefix + name in COLUMNS}


def _calibration(evaluation, at, site, predictions, survival):
    """Compare observed with expected risk of the primary model at the largest horizon."""
    from tabular_trainers import metrics
    from tabular_trainers.held_out import draw_resamples, weight_table

    plan, analysis = evaluation.plan, evaluation.plan.analysis
    y, patients = analysis.y[at], analysis.patient_id[at]
    own = predictions[predictions["feature_set"] == 0]
    if plan.task == "survival":
        if survival is None:
            return {}
        keys = ["patient_id", "repeat", "fold"]
        own = own.merge(survival[[*keys, "survival"]], on=keys, validate="one_to_one")
    resamples = draw_resamples(patients, plan.folds, site, evaluation.n_resamples, plan.seed)
    measured = []
    for _, part in own.groupby("repeat", sort=True):
        where = patients.get_indexer(part["patient_id"])
        weights = weight_table(resamples, where)
        if plan.task == "survival":
            values = _survival_ratio(y[where], part, plan.tau, weights)
        else:
            values = metrics.observed_expected(y[where], part["risk"].to_numpy(), weights=weights)
        measured.append(Draws(float(values[0]), values[1:], ""))
    return _numbers("observed_expected_", average(measured)) | {
        "observed_expected": average(measured).estimate
    }


def _survival_ratio(y, part, tau, weights):
    from tabular_trainers import metrics

    entry = {}
    if "entry" in y.dtype.names:
        if "survival_at_entry" not in part:
            return np.full(len(weights), np.nan)
        entry = {"survival_at_entry": part["survival_at_entry"].to_numpy()}
    survival = part[["survival"]].to_numpy()
    return metrics.observed_expected(y, survival, [tau], weights, **entry)[:, 0]
