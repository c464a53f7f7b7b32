"""All measures of one feature set, model and repeat, each with what its interval is read from."""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from tabular_trainers.bootstrap import bootstrap_method, cluster_codes, sum_by_cluster
from tabular_trainers.calibration import calibration_slope, observed_expected
from tabular_trainers.censoring import inverse_weights, product_limit
from tabular_trainers.concordance import pair_sums, time_order
from tabular_trainers.concordance_error import influence_of_pairs, pairs_of_patients
from tabular_trainers.discrimination import (
    RiskOrder,
    case_control_sums,
    precision_sums,
    uno_weights,
)
from tabular_trainers.errors import DataError
from tabular_trainers.held_out import draw_resamples, weight_table
from tabular_trainers.outcome import MIN_EVENTS, carries_curve, label_array, ratio, survival_arrays
from tabular_trainers.prediction_error import (
    brier_parts,
    integrate,
    log_error,
    squared_error,
    survival_matrix,
)
from tabular_trainers.smoothed_calibration import integrated_calibration_index
from tabular_trainers.uncertainty import Draws, Influences


class Measure(NamedTuple):
    """A measure over all folds of a repeat, and its value in each fold (None where it has none)."""

    overall: Draws | Influences
    folds: np.ndarray | None = None


class Setting:
    """What all repeats share: outcomes, horizons, resamples and sites."""

    def __init__(self, kind, y, patients, folds, site, horizons, n_resamples, seed):
        self.kind, self.y, self.horizons = kind, y, horizons
        self.site = cluster_codes(site)
        self.method = bootstrap_method(n_resamples, site)
        self._drawn = (patients, folds, site, n_resamples, seed)
        self._repeats = {}

    @cached_property
    def resamples(self):
        """How often each patient is in each resample, (n_resamples, n_patients)."""
        return draw_resamples(*self._drawn)

    def repeat(self, at):
        """Give what all models share that are measured on the patients at these positions."""
        key = at.tobytes()
        if key not in self._repeats:
            self._repeats[key] = Repeat(self, at)
        return self._repeats[key]


class Repeat:
    """What all models share in one repeat: outcome, weights and censoring, estimated once."""

    def __init__(self, setting, at):
        self.setting, self.at = setting, at
        self.y = setting.y[at]
        self.horizons = setting.horizons
        self._beyond = {}

    @property
    def has_entry(self):
        """Whether patients came under observation later than time zero."""
        return "entry" in self.y.dtype.names

    @cached_property
    def weights(self):
        """Row 0 counts every patient once, then the resamples."""
        return weight_table(self.setting.resamples, self.at)

    @cached_property
    def inverse(self):
        """Inverse probability of censoring weights, for every row of weights."""
        return inverse_weights(self.y, [], self.weights)

    @cached_property
    def observed(self):
        """Kaplan-Meier risk at each horizon, (1 + n_resamples,)."""
        times = list(self.horizons)
        risk = 1.0 - product_limit(self.y, times, self.weights, reverse=False)[1]
        return dict(zip(times, risk.T, strict=True))

    def beyond(self, times):
        """Inverse censoring survival at the predicted times, (1 + n_resamples, n_times)."""
        key = times.tobytes()
        if key not in self._beyond:
            survival = product_limit(self.y, times, self.weights, reverse=True)[1]
            inverse = np.zeros_like(survival)
            np.divide(1.0, survival, out=inverse, where=survival > 0)
            self._beyond[key] = inverse
        return self._beyond[key]

    def drawn(self, values, folds=None):
        """Make a measure from its value for every row of weights."""
        return Measure(Draws(float(values[0]), values[1:], self.setting.method), folds)

    def drawn_from_sums(self, numerator, denominator):
        """Make a measure from sums within folds, (1 + n_resamples, n_folds) each."""
        return self.drawn(
            ratio(numerator.sum(axis=1), denominator.sum(axis=1)),
            ratio(numerator[0], denominator[0]),
        )


def harrell(repeat, part):
    """Measure Harrell's C, with the influence of every patient, or of every site."""
    codes, n_folds = fold_codes(part["fold"])
    pairs = pairs_of_patients(time_order(repeat.y, codes), [part["risk"]])
    estimate, own = influence_of_pairs(pairs)
    influence = np.zeros(len(repeat.setting.y))  # 0 for those in no test fold
    influence[repeat.at] = own[:, 0]
    method = "infinitesimal jackknife"
    if repeat.setting.site is not None:
        influence = sum_by_cluster(influence, repeat.setting.site)
        method += ", summed by site"
    concordant, comparable = (np.bincount(codes, pairs[:, k], n_folds) for k in (0, 1))
    overall = Influences(float(estimate[0]), influence, method)
    return Measure(overall, ratio(concordant, comparable))


def auroc(repeat, part):
    """Measure the AUROC on every resample."""
    positive = label_array(repeat.y)
    codes, n_folds = fold_codes(part["fold"])
    order = RiskOrder(part["risk"], codes, n_folds)
    ones = np.ones((1, len(positive)))
    return repeat.drawn_from_sums(
        *case_control_sums(order, positive, ~positive, repeat.weights, ones)
    )


def survival_measures(repeat, part, curve):
    """Compute all survival measures; those that are not defined with entry times are None."""
    found = {("harrell_c", None): harrell(repeat, part)}
    horizons = repeat.horizons
    if repeat.has_entry:
        names = _timed(horizons, curve is not None)
        return found | {(name, at): None for name, ats in names for at in ats}
    y, weights, risk = repeat.y, repeat.weights, part["risk"]
    tau = max(horizons) if len(horizons) else None
    squares = uno_weights(y, repeat.inverse.at_event, tau)
    uno = pair_sums(time_order(y, part["fold"]), risk, weights, squares)[2:]
    found["uno_c", None] = repeat.drawn_from_sums(*uno)
    time, event, _ = survival_arrays(y)
    codes, n_strata = fold_codes(part["fold"])
    order = RiskOrder(risk, codes, n_strata)
    for at in horizons:
        sums = case_control_sums(
            order, event & (time <= at), time > at, weights, repeat.inverse.at_event
        )
        found["auc", at] = repeat.drawn_from_sums(*sums)
    if curve is not None:
        found |= _curve_measures(repeat, curve, codes)
    return found


def _timed(horizons, with_curve):
    yield "uno_c", (None,)
    yield "auc", horizons
    if with_curve:
        yield "brier", horizons
        yield "integrated_brier", (None,)
        yield "observed_expected", horizons
        yield "calibration_slope", horizons
        yield "integrated_calibration_index", horizons


def _curve_measures(repeat, curve, codes):
    times, matrix = curve
    horizons = repeat.horizons
    y, weights = repeat.y, repeat.weights
    matrix = survival_matrix(matrix, len(y), times)
    upto = times <= max(horizons)
    column = {at: _column(times, at) for at in horizons}
    early, late = brier_parts(y, matrix, times)
    beyond = repeat.beyond(times)
    total = weights.sum(axis=1, keepdims=True)
    errors = ((weights * repeat.inverse.at_event) @ early + (weights @ late) * beyond) / total
    each_fold = _fold_means(early * repeat.inverse.at_event[0][:, None] + late * beyond[0], codes)
    predicted = (weights @ (1.0 - matrix)) / total
    found = {}
    for at in horizons:
        k = column[at]
        found["brier", at] = repeat.drawn(errors[:, k], each_fold[:, k])
        found["observed_expected", at] = repeat.drawn(ratio(repeat.observed[at], predicted[:, k]))
        slopes = calibration_slope(y, matrix[:, [k]], [at], codes, weights)
        found["calibration_slope", at] = repeat.drawn(slopes[:, 0])
        found["integrated_calibration_index", at] = _index(repeat, matrix[:, [k]], at)
    if upto.sum() >= 2:
        found["integrated_brier", None] = repeat.drawn(
            integrate(errors[:, upto], times[upto]), integrate(each_fold[:, upto], times[upto])
        )
    return found


def _index(repeat, probability, at=None):
    """Measure the calibration index, or leave it empty where too few events carry its curve."""
    if not carries_curve(repeat.y, at):
        why = f"not computed: fewer than {MIN_EVENTS} events" + ("" if at is None else " by then")
        return Measure(Draws(np.nan, np.empty(0), why))
    times = None if at is None else [at]
    found = integrated_calibration_index(repeat.y, probability, times, repeat.weights)
    return repeat.drawn(found.reshape(len(found)))


def _column(times, at):
    k = int(np.abs(times - at).argmin())
    if not np.isclose(times[k], at, rtol=1e-9, atol=0.0):
        raise DataError(f"survival: no prediction at horizon {at:g}; expected one a patient.")
    return k


def _fold_means(values, codes):
    return np.array([values[codes == s].mean(axis=0) for s in range(codes.max() + 1)])


def classification_measures(repeat, part):
    """Compute all classification measures."""
    y, weights = repeat.y, repeat.weights
    probability = part["risk"]
    positive = label_array(y)
    codes, n_strata = fold_codes(part["fold"])
    found = {("auroc", None): auroc(repeat, part)}
    sums = precision_sums(RiskOrder(probability, codes, n_strata), positive, weights)
    found["auprc", None] = repeat.drawn_from_sums(*sums)
    total = weights.sum(axis=1)
    for name, loss in (("brier", squared_error), ("log_loss", log_error)):
        losses = loss(positive, probability)
        found[name, None] = repeat.drawn(weights @ losses / total, _fold_means(losses, codes))
    found["observed_expected", None] = repeat.drawn(
        observed_expected(y, probability, weights=weights)
    )
    found["calibration_slope", None] = repeat.drawn(
        calibration_slope(y, probability, weights=weights)
    )
    found["integrated_calibration_index", None] = _index(repeat, probability)
    return found


def fold_codes(folds):
    """Give test folds the numbers 0, 1, ...: (codes, number of folds)."""
    found, codes = np.unique(folds, return_inverse=True)
    return codes.astype(np.int64), len(found)
