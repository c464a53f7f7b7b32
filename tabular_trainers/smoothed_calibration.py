"""Integrated calibration index: how far a smooth calibration curve is from the predictions."""

import numpy as np

from tabular_trainers.calibration import CLIP
from tabular_trainers.errors import DataError
from tabular_trainers.kernels import compile_kernel
from tabular_trainers.outcome import (
    answer,
    finite_vector,
    label_array,
    survival_arrays,
    weight_rows,
)
from tabular_trainers.prediction_error import survival_matrix

MIN_EVENTS = 50  # a curve drawn through fewer events is mostly noise
KNOTS = (0.1, 0.5, 0.9)  # Harrell 2015, table 2.3


def integrated_calibration_index(
    y, probability, times=None, weights=None, probability_at_entry=None
):
    """Integrated calibration index: mean absolute difference of smoothed observed and predicted.

    Survival: at each time, a Cox model of the follow-up up to that time (ties by Efron's method)
    with a restricted cubic spline of log(-log S(time)) gives every patient an observed probability
    of the event by then; the index is the mean of its absolute difference from 1 - S(time).
    Classification: a logistic model with the same spline of logit(p). Knots are at the 10%, 50% and
    90% quantiles of all patients, also in rows of weights; where they fall together the curve is a
    straight line. The curve is fitted to probabilities kept between 0.001 and 0.999.

    Being a mean of absolute differences, the index is above 0 by chance alone.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Survival (structured ``event``, ``time``, with or without ``entry``) or labels 0 and 1.
    probability : array-like of shape (n_patients, n_times) or (n_patients,)
        Predicted survival at each time; classification: probability of class 1.
    times : array-like of shape (n_times,), default=None
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None
    probability_at_entry : array-like of shape (n_patients,), default=None
        Predicted survival at each patient's entry; needed with entry times. Both probabilities are
        then of the event between entry and the time, of patients who entered before it.

    Returns
    -------
    ndarray of shape (n_times,) or (n_replicates, n_times); classification: float or (n_replicates,)
        0 is perfect. NaN where the curve has no finite estimate, or no event happens by a time.

    Raises
    ------
    DataError
        If ``y`` has entry times and ``probability_at_entry`` is not given.

    References
    ----------
    Austin, Harrell & van Klaveren, Statistics in Medicine 2020;39:2714 (survival). Austin &
    Steyerberg, Statistics in Medicine 2019;38:4051 (classification). Harrell, Regression Modeling
    Strategies 2015, section 2.4.
    """
    rows, one = weight_rows(weights, len(y))
    if np.asarray(y).dtype.names is None:
        positive = label_array(y)
        predicted = finite_vector(probability, len(positive), "probability")
        clipped = predicted.clip(CLIP, 1.0 - CLIP)
        basis = _spline(np.log(clipped) - np.log1p(-clipped))
        columns = np.column_stack([np.ones(len(positive)), basis])
        level = positive.mean().clip(CLIP, 1.0 - CLIP)
        begin = np.zeros(columns.shape[1])
        begin[0] = np.log(level) - np.log1p(-level)
        columns = np.ascontiguousarray(columns)
        begin = _logistic_index(columns, positive, predicted, np.ones((1, len(columns))), begin)[1]
        return answer(_logistic_index(columns, positive, predicted, rows, begin)[0], one)
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    survival = survival_matrix(probability, len(y), times)
    at_entry = _at_entry(y, probability_at_entry)
    columns = [_index_at(y, survival[:, k], at, rows, at_entry) for k, at in enumerate(times)]
    found = np.column_stack(columns)
    return found[0] if one else found


def _at_entry(y, probability):
    if "entry" not in y.dtype.names:
        return np.ones(len(y))
    if probability is None:
        raise DataError(
            "y has entry times (left truncation): the integrated calibration index needs the "
            "predicted survival at entry too."
        )
    return survival_matrix(probability, len(y), [0.0])[:, 0]


def _index_at(y, survival, at, weights, at_entry):
    """Return the index at one time for each row of weights."""
    time, event, entry = survival_arrays(y)
    entry = np.full(len(time), -np.inf) if entry is None else entry
    inside = entry < at
    event, time, entry = (event & (time <= at))[inside], np.minimum(time, at)[inside], entry[inside]
    if not event.any():
        return np.full(len(weights), np.nan)
    # a model may put S(at) a rounding above S(entry)
    ratio = np.divide(survival, at_entry, out=np.zeros_like(survival), where=at_entry > 0).clip(
        0.0, 1.0
    )
    clipped = survival[inside].clip(CLIP, 1.0 - CLIP)
    columns = _spline(np.log(-np.log(clipped)))
    order = np.argsort(-time, kind="stable")
    leaving = np.argsort(-entry, kind="stable")
    known = (order, time[order], event[order], leaving, entry[leaving], columns)
    predicted = 1.0 - ratio[inside]
    begin = np.zeros(columns.shape[1])
    begin = _cox_index(*known, predicted, np.ones((1, len(time))), begin)[1]
    return _cox_index(*known, predicted, np.ascontiguousarray(weights[:, inside]), begin)[0]


def _spline(x):
    """Return x and its restricted cubic spline with three knots, each of mean 0 and variance 1.

    Two columns; one where the knots fall together, none where x is constant.
    """
    if np.ptp(x) <= 1e-9:
        return np.empty((len(x), 0))
    t1, t2, t3 = np.quantile(x, KNOTS)
    columns = [x]
    if t1 < t2 < t3:

        def cube(knot):
            return np.maximum(x - knot, 0.0) ** 3

        bend = cube(t1) - cube(t2) * (t3 - t1) / (t3 - t2) + cube(t3) * (t2 - t1) / (t3 - t2)
        columns.append(bend)
    basis = np.column_stack(columns)
    return np.ascontiguousarray((basis - basis.mean(axis=0)) / basis.std(axis=0))


def _solve(matrix, vector):
    """Solve a small positive definite system by Gauss; False where it is singular."""
    p = len(vector)
    step = vector.copy()
    left = matrix.copy()
    for i in range(p):
        if left[i, i] <= 1e-10 * matrix[i, i] or matrix[i, i] <= 0.0:
            return step, False
        for j in range(i + 1, p):
            factor = left[j, i] / left[i, i]
            for k in range(i, p):
                left[j, k] -= factor * left[i, k]
            step[j] -= factor * step[i]
    for i in range(p - 1, -1, -1):
        for k in range(i + 1, p):
            step[i] -= left[i, k] * step[k]
        step[i] /= left[i, i]
    return step, True


def _cox_pass(order, time, event, leaving, entry, columns, w, eta, gradient, information, hazard):
    """Sum up one Newton step; return the log likelihood, or fill the cumulative hazards.

    ``hazard`` gets Efron's cumulative hazard between a patient's entry and the end.
    """
    n, p = columns.shape
    s0 = 0.0
    s1 = np.zeros(p)
    s2 = np.zeros((p, p))
    d1 = np.zeros(p)
    d2 = np.zeros((p, p))
    gradient[:] = 0.0
    information[:] = 0.0
    likelihood = 0.0
    cumulative = 0.0
    gone = 0
    k = 0
    while k < n:
        now = time[k]
        while gone < n and entry[gone] >= now:
            j = leaving[gone]
            hazard[j] = cumulative
            e = w[j] * np.exp(eta[j])
            s0 -= e
            for a in range(p):
                s1[a] -= e * columns[j, a]
                for b in range(a + 1):
                    s2[a, b] -= e * columns[j, a] * columns[j, b]
            gone += 1
        d0 = 0.0
        d1[:] = 0.0
        d2[:] = 0.0
        weight = 0.0
        n_tied = 0
        while k < n and time[k] == now:
            j = order[k]
            if w[j] > 0.0:
                e = w[j] * np.exp(eta[j])
                s0 += e
                for a in range(p):
                    s1[a] += e * columns[j, a]
                    for b in range(a + 1):
                        s2[a, b] += e * columns[j, a] * columns[j, b]
                if event[k]:
                    d0 += e
                    weight += w[j]
                    n_tied += 1
                    likelihood += w[j] * eta[j]
                    for a in range(p):
                        d1[a] += e * columns[j, a]
                        gradient[a] += w[j] * columns[j, a]
                        for b in range(a + 1):
                            d2[a, b] += e * columns[j, a] * columns[j, b]
            k += 1
        for tied in range(n_tied):
            part = tied / n_tied
            a0 = s0 - part * d0
            mean_weight = weight / n_tied
            cumulative += mean_weight / a0
            likelihood -= mean_weight * np.log(a0)
            for a in range(p):
                ma = (s1[a] - part * d1[a]) / a0
                gradient[a] -= mean_weight * ma
                for b in range(a + 1):
                    mb = (s1[b] - part * d1[b]) / a0
                    v = mean_weight * ((s2[a, b] - part * d2[a, b]) / a0 - ma * mb)
                    information[a, b] += v
                    if b < a:
                        information[b, a] += v
    while gone < n:
        hazard[leaving[gone]] = cumulative
        gone += 1
    return likelihood


@compile_kernel(
    "Tuple((float64[::1], float64[::1]))(int64[::1], float64[::1], boolean[::1], int64[::1],"
    " float64[::1], float64[:,::1], float64[::1], float64[:,::1], float64[::1])",
    helpers=(_solve, _cox_pass),
)
def _cox_index(order, time, event, leaving, entry, columns, predicted, weights, begin):
    """Fit the curve to each row of weights by Newton's method with halved steps; last beta too."""
    n_replicates, n = weights.shape
    p = columns.shape[1]
    found = np.full(n_replicates, np.nan)
    gradient = np.zeros(p)
    information = np.zeros((p, p))
    hazard = np.zeros(n)
    beta = begin.copy()
    for r in range(n_replicates):
        w = weights[r]
        beta = begin.copy()
        step = np.zeros(p)
        before = -np.inf
        done = False
        for _ in range(60):
            eta = np.zeros(n)
            for j in range(n):
                for a in range(p):
                    eta[j] += columns[j, a] * beta[a]
            likelihood = _cox_pass(
                order, time, event, leaving, entry, columns, w, eta, gradient, information, hazard
            )
            if done or p == 0:
                done = True
                break
            if not likelihood >= before - 1e-9 * abs(before):
                step *= 0.5
                beta -= step
                continue
            before = likelihood
            step, regular = _solve(information, gradient)
            if not regular:
                break
            beta += step
            done = np.abs(step).max() < 1e-9
        if not done:
            continue
        total = 0.0
        weight = 0.0
        for j in range(n):
            if w[j] > 0.0:
                observed = -np.expm1(-hazard[j] * np.exp(eta[j]))
                total += w[j] * abs(observed - predicted[j])
                weight += w[j]
        found[r] = total / weight
    return found, beta


@compile_kernel(
    "Tuple((float64[::1], float64[::1]))(float64[:,::1], boolean[::1], float64[::1],"
    " float64[:,::1], float64[::1])",
    helpers=(_solve,),
)
def _logistic_index(columns, positive, predicted, weights, begin):
    """Fit the curve to each row of weights by Newton's method with halved steps; last beta too."""
    n_replicates, n = weights.shape
    p = columns.shape[1]
    found = np.full(n_replicates, np.nan)
    observed = np.zeros(n)
    beta = begin.copy()
    for r in range(n_replicates):
        beta = begin.copy()
        step = np.zeros(p)
        before = -np.inf
        done = False
        for _ in range(100):
            likelihood = 0.0
            gradient = np.zeros(p)
            information = np.zeros((p, p))
            total = 0.0
            weight = 0.0
            for j in range(n):
                w = weights[r, j]
                if w > 0.0:
                    eta = 0.0
                    for a in range(p):
                        eta += columns[j, a] * beta[a]
                    # log(1 + exp(eta)) without overflow
                    likelihood -= w * (max(eta, 0.0) + np.log1p(np.exp(-abs(eta))))
                    observed[j] = 1.0 / (1.0 + np.exp(-eta))
                    residual = -observed[j]
                    if positive[j]:
                        likelihood += w * eta
                        residual += 1.0
                    v = w * observed[j] * (1.0 - observed[j])
                    for a in range(p):
                        gradient[a] += w * residual * columns[j, a]
                        for b in range(p):
                            information[a, b] += v * columns[j, a] * columns[j, b]
                    total += w * abs(observed[j] - predicted[j])
                    weight += w
            if done:
                found[r] = total / weight
                break
            if not likelihood >= before - 1e-9 * abs(before):
                step *= 0.5
                beta -= step
                continue
            before = likelihood
            step, regular = _solve(information, gradient)
            if not regular:
                break
            beta += step
            done = np.abs(step).max() < 1e-9
    return found, beta
