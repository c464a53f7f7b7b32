"""Score held-out predictions of every feature set and model on one set of resamples."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from tabular_trainers.bootstrap import bootstrap_method, interval
from tabular_trainers.calibration import calibration_slope, observed_expected
from tabular_trainers.censoring import inverse_weights, product_limit
from tabular_trainers.concordance import pair_sums, time_order
from tabular_trainers.discrimination import (
    RiskOrder,
    case_control_sums,
    precision_sums,
    uno_weights,
)
from tabular_trainers.errors import DataError
from tabular_trainers.held_out import (
    by_model,
    draw_resamples,
    one_repeat,
    survival_of_repeat,
    weight_table,
)
from tabular_trainers.outcome import label_array, ratio, survival_arrays
from tabular_trainers.prediction_error import (
    brier_parts,
    integrate,
    log_error,
    squared_error,
    survival_matrix,
)

HEADLINE = {"survival": "harrell_c", "classification": "auroc"}
_NOT_WITH_ENTRY = "not defined with entry times (left truncation)"
_COLUMNS = (
    "feature_set", "model", "metric", "horizon", "repeat", "fold", "estimate", "standard_error",
    "lower", "upper", "method", "n", "n_events",
)  # fmt: skip


def score(
    kind,
    y,
    patient_id,
    folds,
    predictions,
    survival=None,
    *,
    site=None,
    horizons=(),
    n_resamples=500,
    seed=0,
):
    """Compute all measures of every feature set and model with bootstrap intervals.

    Every feature set and model is measured on the same resamples, so that differences of draws are
    paired. With repeated folds a measure is the mean over repeats of its value within a repeat,
    and a resample draws the same patients in all repeats. Censoring weights are estimated anew in
    each resample; risks stay as they are.

    Parameters
    ----------
    kind : str
        ``survival`` or ``classification``.
    y : ndarray of shape (n_patients,)
    patient_id : array-like of shape (n_patients,)
    folds, predictions, survival : DataFrame
        Tables of the data schemas; ``survival`` is None for classification, or for risks alone.
    site : array-like of shape (n_patients,), default=None
        With 10 sites or more whole sites are drawn.
    horizons : sequence of float, default=()
        The largest is tau: where Uno's C and the integrated Brier score end.
    n_resamples : int, default=500
    seed : int, default=0

    Returns
    -------
    metrics : DataFrame
        Schema ``metrics``; rows of single folds have no interval.
    draws : dict
        (feature_set, model) -> ndarray (n_resamples,), draws of Harrell's C, or the AUROC.

    Raises
    ------
    DataError
        If there is no comparable pair, or a prediction has no patient in ``patient_id``.
    """
    patients = pd.Index(patient_id).astype(str)
    resamples = draw_resamples(patients, folds, site, n_resamples, seed)
    method = bootstrap_method(n_resamples, site)
    curves = {} if survival is None else by_model(survival, patients)
    rows, draws = [], {}
    shared = {}
    for key, risks in by_model(predictions, patients).items():
        per_repeat, fold_rows = [], []
        for repeat in np.unique(risks["repeat"]):
            part = one_repeat(risks, repeat)
            curve = (
                None
                if key not in curves
                else survival_of_repeat(curves[key], repeat, part["position"])
            )
            at = part["position"]
            scale = _scale(shared, kind, y, at, resamples, horizons)
            if kind == "survival":
                found = _survival_measures(scale, part, curve, horizons)
            else:
                found = _classification_measures(scale, part)
            per_repeat.append(found)
            fold_rows += _fold_rows(key, repeat, part["fold"], found, scale, kind)
        overall = _overall_rows(key, per_repeat, kind, y, risks["position"], method)
        rows += overall + fold_rows
        headline = np.mean([found[HEADLINE[kind], None].draws for found in per_repeat], axis=0)
        draws[key] = headline
    return _frame(rows), draws


def headline(kind, y, patient_id, folds, predictions, site=None, n_resamples=500, seed=0):
    """Measure Harrell's C (classification: AUROC) alone, for tables of one model.

    Returns
    -------
    dict
        feature_set -> (estimate, draws (n_resamples,)); the same patients are drawn for each.
    """
    patients = pd.Index(patient_id).astype(str)
    resamples = draw_resamples(patients, folds, site, n_resamples, seed)
    found = {}
    for (feature_set, _), risks in by_model(predictions, patients).items():
        values = []
        for repeat in np.unique(risks["repeat"]):
            part = one_repeat(risks, repeat)
            at = part["position"]
            weights = weight_table(resamples, at)
            one = _concordance if kind == "survival" else _auroc
            values.append(one(y[at], part["risk"], part["fold"], weights))
        mean = np.mean([value.draws_with_estimate for value in values], axis=0)
        found[feature_set] = (float(mean[0]), mean[1:])
    return found


class _Measure(NamedTuple):
    """Values of a measure for all patients (row 0) and every resample; and for each fold."""

    draws_with_estimate: np.ndarray
    folds: np.ndarray | None = None

    @property
    def draws(self):
        return self.draws_with_estimate[1:]


class _Scale(NamedTuple):
    """What all models share in one repeat: outcome, weights and censoring, estimated once."""

    y: np.ndarray
    weights: np.ndarray  # row 0 counts every patient once, then the resamples
    inverse: object
    beyond: dict  # time -> inverse censoring survival, (1 + n_resamples,)
    observed: dict  # horizon -> Kaplan-Meier risk, (1 + n_resamples,)


def _scale(shared, kind, y, at, resamples, horizons):
    key = at.tobytes()
    if key not in shared:
        weights = weight_table(resamples, at)
        part = y[at]
        inverse, observed = None, {}
        if kind == "survival" and "entry" not in y.dtype.names:
            inverse = inverse_weights(part, [], weights)
            risk = 1.0 - product_limit(part, list(horizons), weights, reverse=False)[1]
            observed = dict(zip(horizons, risk.T, strict=True))
        shared[key] = _Scale(part, weights, inverse, {}, observed)
    return shared[key]


def _concordance(y, risk, folds, weights, event_weights=None):
    order = time_order(y, folds)
    ones = np.ones((1, len(risk))) if event_weights is None else event_weights
    concordant, comparable, uno, uno_all = pair_sums(order, risk, weights, ones)
    harrell = _from_sums(concordant, comparable)
    return harrell if event_weights is None else (harrell, _from_sums(uno, uno_all))


def _auroc(y, risk, folds, weights):
    positive = label_array(y)
    codes, n_strata = _fold_codes(folds)
    order = RiskOrder(risk, codes, n_strata)
    sums = case_control_sums(order, positive, ~positive, weights, np.ones((1, len(positive))))
    return _from_sums(*sums)


def _from_sums(numerator, denominator):
    """Make a measure from sums within folds, (1 + n_resamples, n_folds) each."""
    return _Measure(
        ratio(numerator.sum(axis=1), denominator.sum(axis=1)),
        ratio(numerator[0], denominator[0]),
    )


def _fold_codes(folds):
    found, codes = np.unique(folds, return_inverse=True)
    return codes.astype(np.int64), len(found)


def _survival_measures(scale, part, curve, horizons):
    """Compute all survival measures of one feature set, model and repeat."""
    y, weights = scale.y, scale.weights
    risk, folds = part["risk"], part["fold"]
    if scale.inverse is None:
        return {("harrell_c", None): _concordance(y, risk, folds, weights)} | {
            (name, at): None for name, ats in _timed(horizons, curve is not None) for at in ats
        }
    tau = max(horizons) if len(horizons) else None
    squares = uno_weights(y, scale.inverse.at_event, tau)
    harrell, uno = _concordance(y, risk, folds, weights, squares)
    found = {("harrell_c", None): harrell, ("uno_c", None): uno}
    time, event, _ = survival_arrays(y)
    codes, n_strata = _fold_codes(folds)
    order = RiskOrder(risk, codes, n_strata)
    for at in horizons:
        sums = case_control_sums(
            order, event & (time <= at), time > at, weights, scale.inverse.at_event
        )
        found["auc", at] = _from_sums(*sums)
    if curve is not None:
        found |= _curve_measures(scale, curve, horizons, codes)
    return found


def _timed(horizons, with_curve):
    yield "uno_c", (None,)
    yield "auc", horizons
    if with_curve:
        yield "brier", horizons
        yield "integrated_brier", (None,)
        yield "observed_expected", horizons
        yield "calibration_slope", horizons


def _curve_measures(scale, curve, horizons, codes):
    times, matrix = curve
    y, weights = scale.y, scale.weights
    matrix = survival_matrix(matrix, len(y), times)
    upto = times <= max(horizons)
    column = {at: _column(times, at) for at in horizons}
    early, late = brier_parts(y, matrix, times)
    beyond = _beyond(scale, times)
    total = weights.sum(axis=1, keepdims=True)
    errors = ((weights * scale.inverse.at_event) @ early + (weights @ late) * beyond) / total
    each_fold = _fold_means(early * scale.inverse.at_event[0][:, None] + late * beyond[0], codes)
    predicted = (weights @ (1.0 - matrix)) / total
    found = {}
    for at in horizons:
        k = column[at]
        found["brier", at] = _Measure(errors[:, k], each_fold[:, k])
        found["observed_expected", at] = _Measure(ratio(scale.observed[at], predicted[:, k]))
        slopes = calibration_slope(y, matrix[:, [k]], [at], codes, weights)
        found["calibration_slope", at] = _Measure(slopes[:, 0])
    if upto.sum() >= 2:
        found["integrated_brier", None] = _Measure(
            integrate(errors[:, upto], times[upto]), integrate(each_fold[:, upto], times[upto])
        )
    return found


def _column(times, at):
    k = int(np.abs(times - at).argmin())
    if not np.isclose(times[k], at, rtol=1e-9, atol=0.0):
        raise DataError(f"survival: no prediction at horizon {at:g}; expected one a patient.")
    return k


def _beyond(scale, times):
    """Inverse censoring survival at the predicted times; the same for all models of a repeat."""
    if times.tobytes() not in scale.beyond:
        survival = product_limit(scale.y, times, scale.weights, reverse=True)[1]
        inverse = np.zeros_like(survival)
        np.divide(1.0, survival, out=inverse, where=survival > 0)
        scale.beyond[times.tobytes()] = inverse
    return scale.beyond[times.tobytes()]


def _fold_means(values, codes):
    return np.array([values[codes == s].mean(axis=0) for s in range(codes.max() + 1)])


def _classification_measures(scale, part):
    """Compute all classification measures of one feature set, model and repeat."""
    y, weights = scale.y, scale.weights
    probability = part["risk"]
    positive = label_array(y)
    codes, n_strata = _fold_codes(part["fold"])
    found = {("auroc", None): _auroc(y, probability, part["fold"], weights)}
    sums = precision_sums(RiskOrder(probability, codes, n_strata), positive, weights)
    found["auprc", None] = _from_sums(*sums)
    total = weights.sum(axis=1)
    for name, loss in (("brier", squared_error), ("log_loss", log_error)):
        losses = loss(positive, probability)
        found[name, None] = _Measure(weights @ losses / total, _fold_means(losses, codes))
    found["observed_expected", None] = _Measure(observed_expected(y, probability, weights=weights))
    found["calibration_slope", None] = _Measure(calibration_slope(y, probability, weights=weights))
    return found


def _fold_rows(key, repeat, folds, found, scale, kind):
    rows = []
    codes, n_strata = _fold_codes(folds)
    numbers = np.unique(folds)
    for (name, at), measure in found.items():
        if measure is None or measure.folds is None:
            continue
        event = _happened(scale.y, kind, at)
        for s in range(n_strata):
            inside = codes == s
            row = (*key, name, at, int(repeat), int(numbers[s]), measure.folds[s])
            rows.append((*row, None, None, None, None, int(inside.sum()), int(event[inside].sum())))
    return rows


def _overall_rows(key, per_repeat, kind, y, position, method):
    measured = y[np.unique(position)]
    rows = []
    for name, at in per_repeat[0]:
        measures = [found[name, at] for found in per_repeat]
        counts = (len(measured), int(_happened(measured, kind, at).sum()))
        row = (*key, name, at, None, None)
        if measures[0] is None:
            rows.append((*row, None, None, None, None, _NOT_WITH_ENTRY, *counts))
            continue
        mean = np.mean([measure.draws_with_estimate for measure in measures], axis=0)
        if name in HEADLINE.values() and np.isnan(mean[0]):
            raise DataError(
                f"{name} of {key[0]}, {key[1]}: no comparable pair within the test folds; expected "
                "an event and a patient still under observation. Use fewer folds: --folds."
            )
        rows.append((*row, mean[0], *interval(mean[1:]), method, *counts))
    return rows


def _happened(y, kind, at):
    if kind == "classification":
        return label_array(y)
    time, event, _ = survival_arrays(y)
    return event if at is None else event & (time <= at)


def _frame(rows):
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    for name in ("horizon", "estimate", "standard_error", "lower", "upper"):
        frame[name] = pd.to_numeric(frame[name])
    return frame.astype({"repeat": "Int64", "fold": "Int64"})
