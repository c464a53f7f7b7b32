"""All measures of one feature set, model and repeat, each with what its interval is read from."""

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tabular_trainers.bootstrap import bootstrap_method, cluster_codes, sum_by_cluster
from tabular_trainers.calibration import (
    calibration_slope,
    expected_risk,
    observed_expected,
    observed_risk,
)
from tabular_trainers.censoring import inverse_weights
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
from tabular_trainers.left_truncation import at_landmark, at_risk_at
from tabular_trainers.outcome import (
    MIN_EVENTS,
    carries_curve,
    entered_by,
    label_array,
    ratio,
    survival_arrays,
)
from tabular_trainers.prediction_error import (
    brier_parts,
    brier_rows,
    enough_entered,
    integrate,
    log_error,
    squared_error,
    survival_from_entry,
    survival_matrix,
)
from tabular_trainers.smoothed_calibration import integrated_calibration_index
from tabular_trainers.uncertainty import Draws, Influences

NEEDS_LANDMARK = "not computed: with entry times (left truncation) give the endpoint a landmark"
BEFORE_LANDMARK = "not computed: the horizon is not after the landmark"
NOBODY_THERE = "not computed: no patient is at risk at the landmark"


class Measure(NamedTuple):
    """A measure over all folds of a repeat, and its value in each fold (None where it has none)."""

    overall: Draws | Influences
    folds: np.ndarray | None = None


class Setting:
    """What all repeats share: outcomes, horizons, resamples and sites."""

    def __init__(self, kind, y, patients, folds, site, horizons, n_resamples, seed, landmark=None):
        self.kind, self.y, self.horizons, self.landmark = kind, y, horizons, landmark
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
        """Observed risk at each horizon, (1 + n_resamples,)."""
        times = list(self.horizons)
        risk = observed_risk(self.y, times, self.weights, self.inverse)
        return dict(zip(times, risk.T, strict=True))

    def inverse_at(self, times):
        """Give the weights with those beyond the predicted times, the same for all models."""
        key = times.tobytes()
        if key not in self._beyond:
            self._beyond[key] = inverse_weights(self.y, times, self.weights).beyond
        return self.inverse._replace(beyond=self._beyond[key])

    @cached_property
    def start(self):
        """Where measures without a version for entry times start; their patients and weights."""
        landmark = self.setting.landmark
        if landmark is None:
            return Start(0.0, slice(None), self.y, self.weights, self.inverse.at_event)
        at_risk, y = at_landmark(self.y, landmark)
        weights = np.ascontiguousarray(self.weights[:, at_risk])
        return Start(landmark, at_risk, y, weights, inverse_weights(y, [], weights).at_event)

    def drawn(self, values, folds=None):
        """Make a measure from its value for every row of weights."""
        return Measure(Draws(float(values[0]), values[1:], self.setting.method), folds)

    def drawn_from_sums(self, numerator, denominator):
        """Make a measure from sums within folds, (1 + n_resamples, n_folds) each."""
        return self.drawn(
            ratio(numerator.sum(axis=1), denominator.sum(axis=1)),
            ratio(numerator[0], denominator[0]),
        )


class Start(NamedTuple):
    """Patients at risk at a time from which their clock runs, and their censoring weights."""

    time: float
    at_risk: np.ndarray | slice
    y: np.ndarray
    weights: np.ndarray
    at_event: np.ndarray


def harrell(repeat, part):
    """Measure Harrell's C, with the influence of every patient, or of every site."""
    codes, n_folds = fold_codes(part["fold"])
    pairs = pairs_of_patients(time_order(repeat.y, codes), [part["risk"]])
    estimate, own = influence_of_pairs(pairs)
    influence = np.zeros(len(repeat.setting.y))  # 0 for those in no test fold
    influence[repeat.at] = own[:, 0]
    method, freedom = "infinitesimal jackknife", math.inf
    if repeat.setting.site is not None:
        influence = sum_by_cluster(influence, repeat.setting.site)
        freedom = len(influence) - 1
        method += f", summed by site (t, {freedom} degrees of freedom)"
    concordant, comparable = (np.bincount(codes, pairs[:, k], n_folds) for k in (0, 1))
    overall = Influences(float(estimate[0]), influence, method, freedom=freedom)
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
    """Compute all survival measures; a measure that cannot be computed says why as its method."""
    found = {("harrell_c", None): harrell(repeat, part)}
    found |= _discrimination(repeat, part)
    if curve is not None:
        found |= _curve_measures(repeat, part, curve)
    return found


def _discrimination(repeat, part):
    """Compute Uno's C and AUC: of all patients, or of those at risk at the landmark."""
    horizons, landmark = repeat.horizons, repeat.setting.landmark
    names = [("uno_c", None), *(("auc", at) for at in horizons)]
    if landmark is None and "entry" in repeat.y.dtype.names:
        return dict.fromkeys(names, _missing(NEEDS_LANDMARK))
    if landmark is not None and not at_risk_at(repeat.y, landmark).any():
        return dict.fromkeys(names, _missing(NOBODY_THERE))
    start = repeat.start
    codes, n_folds = fold_codes(part["fold"])
    codes, risk, weights = codes[start.at_risk], part["risk"][start.at_risk], start.weights
    tau = max(horizons) - start.time if len(horizons) else None
    squares = uno_weights(start.y, start.at_event, tau)
    uno = pair_sums(time_order(start.y, codes), risk, weights, squares)[2:]
    of_folds = np.zeros((*uno.shape[:2], n_folds))
    of_folds[..., np.unique(codes)] = uno  # at a landmark a fold may have nobody
    found = {("uno_c", None): repeat.drawn_from_sums(*of_folds)}
    time, event, _ = survival_arrays(start.y)
    order = RiskOrder(risk, codes, n_folds)
    for horizon in horizons:
        at = horizon - start.time
        if at <= 0:
            found["auc", horizon] = _missing(BEFORE_LANDMARK)
            continue
        sums = case_control_sums(order, event & (time <= at), time > at, weights, start.at_event)
        found["auc", horizon] = repeat.drawn_from_sums(*sums)
    return found


def _missing(why):
    return Measure(Draws(np.nan, np.empty(0), why))


def _curve_measures(repeat, part, curve):
    times, matrix = curve
    horizons = repeat.horizons
    y, weights = repeat.y, repeat.weights
    codes, _ = fold_codes(part["fold"])
    matrix = survival_matrix(matrix, len(y), times)
    at_entry = part.get("survival_at_entry") if "entry" in y.dtype.names else None
    given = survival_from_entry(y, matrix, times, at_entry)
    inverse = repeat.inverse_at(times)
    errors = brier_rows(y, given, times, weights, inverse)
    early, late = brier_parts(y, given, times)
    losses = early * inverse.at_event[0][:, None]
    losses += late * inverse.at_entry[0][:, None] * inverse.beyond[0]
    each_fold = _fold_means(losses, codes, entered_by(y, times))
    expected = expected_risk(y, given, times, weights)
    found = {}
    for at in horizons:
        k = _column(times, at)
        found["brier", at] = repeat.drawn(errors[:, k], each_fold[:, k])
        found["observed_expected", at] = repeat.drawn(ratio(repeat.observed[at], expected[:, k]))
        slopes = calibration_slope(y, matrix[:, [k]], [at], codes, weights)
        found["calibration_slope", at] = repeat.drawn(slopes[:, 0])
        index = _index(repeat, matrix[:, [k]], at, at_entry)
        found["integrated_calibration_index", at] = index
    upto = (times <= max(horizons)) & enough_entered(y, times)
    if upto.sum() >= 2:
        integrated = integrate(errors[:, upto], times[upto])
        folds = np.array([_integrate_known(row[upto], times[upto]) for row in each_fold])
        found["integrated_brier", None] = repeat.drawn(integrated, folds)
    return found


def _integrate_known(scores, times):
    """Integrate a fold's scores from when its first patient has entered."""
    known = np.isfinite(scores)
    return integrate(scores[known], times[known]) if known.sum() >= 2 else np.nan


def _index(repeat, probability, at=None, at_entry=None):
    """Measure the calibration index, or leave it empty where too few events carry its curve."""
    if not carries_curve(repeat.y, at):
        why = f"not computed: fewer than {MIN_EVENTS} events" + ("" if at is None else " by then")
        return _missing(why)
    times = None if at is None else [at]
    found = integrated_calibration_index(repeat.y, probability, times, repeat.weights, at_entry)
    return repeat.drawn(found.reshape(len(found)))


def _column(times, at):
    k = int(np.abs(times - at).argmin())
    if not np.isclose(times[k], at, rtol=1e-9, atol=0.0):
        raise DataError(f"survival: no prediction at horizon {at:g}; expected one a patient.")
    return k


def _fold_means(values, codes, of=None):
    """Average values within folds, of those marked; NaN where nobody is."""
    of = np.ones(values.shape, dtype=bool) if of is None else of
    sums, sizes = (
        np.array([table[codes == s].sum(axis=0) for s in range(codes.max() + 1)])
        for table in (values, of)
    )
    return ratio(sums, sizes)


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
