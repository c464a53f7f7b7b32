"""Calibration: observed over expected risk, and the calibration slope."""

import numpy as np

from tabular_trainers.censoring import inverse_weights, product_limit
from tabular_trainers.kernels import compile_kernel
from tabular_trainers.outcome import (
    answer,
    entered_by,
    finite_vector,
    label_array,
    ratio,
    strata_codes,
    survival_arrays,
    weight_rows,
)
from tabular_trainers.prediction_error import events_by, survival_from_entry, survival_matrix

# log(-log S) and logit p have no value at 0 and 1, and one forest leaf without an event would
# decide the slope; a tenth of a percent is finer than a few thousand patients can resolve.
CLIP = 0.001
STEEPEST = 50.0


def observed_expected(y, probability, times=None, weights=None, survival_at_entry=None):
    """Observed risk over mean predicted risk; 1 is calibrated in the large.

    Survival: one minus the Kaplan-Meier estimate at each time, over the mean of 1 - S. With entry
    times, of the patients who entered before that time: the share with the event by then, weighted
    for censoring from entry on (`inverse_weights`), over the mean of 1 - S(time) / S(entry).
    Without entry times the two observed risks are the same number.
    Classification: share of positives over the mean probability.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Survival (structured ``event``, ``time``, ``entry`` where there is one) or labels 0 and 1.
    probability : array-like of shape (n_patients, n_times) or (n_patients,)
        Predicted survival at each time; classification: probability of class 1.
    times : array-like of shape (n_times,), default=None
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None
    survival_at_entry : array-like of shape (n_patients,), default=None
        Predicted survival of each patient at its own entry; required with entry times.

    Returns
    -------
    ndarray of shape (n_times,) or (n_replicates, n_times); classification: float or (n_replicates,)
        Above 1, more events happened than were predicted.

    References
    ----------
    van Calster et al., BMC Medicine 2019;17:230.
    """
    rows, one = weight_rows(weights, len(y))
    if np.asarray(y).dtype.names is None:
        expected = rows @ finite_vector(probability, len(rows[0]), "probability")
        return answer(ratio(rows @ label_array(y), expected), one)
    survival = survival_from_entry(y, probability, times, survival_at_entry)
    found = ratio(observed_risk(y, times, rows), expected_risk(y, survival, times, rows))
    return found[0] if one else found


def observed_risk(y, times, weights, inverse=None):
    """Risk by each time: 1 - Kaplan-Meier, or with entry times the weighted share of events.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
    times : array-like of shape (n_times,)
    weights : ndarray of float64, shape (n_replicates, n_patients)
    inverse : InverseWeights, default=None
        From `inverse_weights`, where they are known already.

    Returns
    -------
    ndarray of shape (n_replicates, n_times)
    """
    if survival_arrays(y)[2] is None:
        return 1.0 - product_limit(y, times, weights, reverse=False)[1]
    inverse = inverse_weights(y, [], weights) if inverse is None else inverse
    events = (weights * inverse.at_event) @ events_by(y, times)
    return ratio(events, weights @ entered_by(y, times))


def expected_risk(y, survival, times, weights):
    """Mean predicted risk by each time of those entered before, (n_replicates, n_times)."""
    entered = entered_by(y, times)
    return ratio(weights @ (entered * (1.0 - survival)), weights @ entered)


def calibration_slope(y, probability, times=None, strata=None, weights=None):
    """Slope of the outcome on the predicted risk; 1 is right, below 1 predictions are too extreme.

    Survival: coefficient of log(-log S(time)) in a Cox model of the follow-up up to that time,
    stratified, ties by Efron's method. Classification: coefficient of logit(p) in a logistic model.
    Probabilities are first kept between 0.001 and 0.999.

    With entry times a patient is in the risk sets after entry only, and S(time) stays the predicted
    survival from time zero: under the model, hazards after entry are proportional to -log S(time),
    whatever the entry. The log of H(time) - H(entry), from S(time) / S(entry), would be another
    number for the same patient at another entry, and its coefficient would not be 1 for a model
    that is right.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Survival (structured ``event``, ``time``, ``entry`` where there is one) or labels 0 and 1.
    probability : array-like of shape (n_patients, n_times) or (n_patients,)
        Predicted survival at each time; classification: probability of class 1.
    times : array-like of shape (n_times,), default=None
    strata : array-like of shape (n_patients,), default=None
        Survival: a baseline hazard each. Classification takes none: its probabilities share one
        intercept.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None

    Returns
    -------
    ndarray of shape (n_times,) or (n_replicates, n_times); classification: float or (n_replicates,)
        NaN where the slope has no finite estimate (no event, constant or separating predictions).

    References
    ----------
    Cox, Biometrika 1958;45:562. Crowson et al., Statistical Methods in Medical Research
    2016;25:1692. Therneau & Grambsch 2000 (Efron's method with weights).
    """
    rows, one = weight_rows(weights, len(y))
    if np.asarray(y).dtype.names is None:
        positive = label_array(y)
        logit = _logit(finite_vector(probability, len(positive), "probability"))
        start = _logistic_slopes(logit, positive, np.ones((1, len(logit))), 0.0, 1.0)[0]
        begin = start if np.isfinite(start).all() else (0.0, 1.0)
        return answer(_logistic_slopes(logit, positive, rows, begin[0], begin[1])[:, 1], one)
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    survival = survival_matrix(probability, len(y), times).clip(CLIP, 1.0 - CLIP)
    codes, n_strata = strata_codes(strata, len(y))
    columns = [
        _slopes_at(y, np.log(-np.log(survival[:, k])), at, codes, n_strata, rows)
        for k, at in enumerate(times)
    ]
    found = np.column_stack(columns)
    return found[0] if one else found


def _slopes_at(y, score, at, codes, n_strata, weights):
    time, event, entry = survival_arrays(y)
    if entry is None:
        entry = np.full(len(time), -np.inf)
    else:
        came = entry < at
        if not came.any():
            return np.full(len(weights), np.nan)
        time, event, entry = time[came], event[came], entry[came]
        score, codes = score[came], codes[came]
        weights = np.ascontiguousarray(weights[:, came])
    event = event & (time <= at)
    time = np.minimum(time, at)
    order = np.lexsort((-time, codes))
    leaving = np.lexsort((-entry, codes))
    starts = np.searchsorted(codes[order], np.arange(n_strata + 1)).astype(np.int64)
    score = score - score.mean()
    arguments = (order, time[order], event[order], starts, leaving, entry[leaving], time, score)
    start = _cox_slopes(*arguments, np.ones((1, len(time))), 1.0)[0]
    return _cox_slopes(*arguments, weights, start if np.isfinite(start) else 1.0)


def _logit(probability):
    probability = probability.clip(CLIP, 1.0 - CLIP)
    return np.log(probability) - np.log1p(-probability)


@compile_kernel(
    "float64[::1](int64[::1], float64[::1], boolean[::1], int64[::1], int64[::1], float64[::1],"
    " float64[::1], float64[::1], float64[:,::1], float64)"
)
def _cox_slopes(order, time, event, starts, leaving, entry, until, x, weights, begin):
    """Maximise the stratified partial likelihood of one covariate for each row of weights.

    The likelihood is concave, so its derivative brackets the maximum: a Newton step that leaves
    the bracket is replaced by a bisection.

    Time runs backwards: patients come into the sums at the end of their follow-up (``until``, in
    the order of the patients) and leave them at their entry. Where leaving has taken nearly all of
    a sum, what is left of it is rounding, and the sum is made anew.
    """
    n_replicates = weights.shape[0]
    slopes = np.full(n_replicates, np.nan)
    for r in range(n_replicates):
        low = -STEEPEST
        high = STEEPEST
        beta = begin
        for _ in range(100):
            gradient = 0.0
            information = 0.0
            for s in range(len(starts) - 1):
                s0 = 0.0
                s1 = 0.0
                s2 = 0.0
                most = 0.0
                k = starts[s]
                leave = starts[s]
                while k < starts[s + 1]:
                    now = time[k]
                    while leave < starts[s + 1] and entry[leave] >= now:
                        j = leaving[leave]
                        w = weights[r, j]
                        if w > 0.0:
                            e = w * np.exp(beta * x[j])
                            s0 -= e
                            s1 -= e * x[j]
                            s2 -= e * x[j] * x[j]
                        leave += 1
                    if s0 < 1e-6 * most:
                        s0 = 0.0
                        s1 = 0.0
                        s2 = 0.0
                        for later in range(leave, starts[s + 1]):
                            j = leaving[later]
                            w = weights[r, j]
                            if w > 0.0 and until[j] > now:
                                e = w * np.exp(beta * x[j])
                                s0 += e
                                s1 += e * x[j]
                                s2 += e * x[j] * x[j]
                        most = s0
                    d0 = 0.0
                    d1 = 0.0
                    d2 = 0.0
                    weight = 0.0
                    n_tied = 0
                    while k < starts[s + 1] and time[k] == now:
                        j = order[k]
                        w = weights[r, j]
                        if w > 0.0:
                            e = w * np.exp(beta * x[j])
                            s0 += e
                            s1 += e * x[j]
                            s2 += e * x[j] * x[j]
                            if event[k]:
                                d0 += e
                                d1 += e * x[j]
                                d2 += e * x[j] * x[j]
                                weight += w
                                n_tied += 1
                                gradient += w * x[j]
                        k += 1
                    most = max(most, s0)
                    for tied in range(n_tied):
                        part = tied / n_tied
                        a0 = s0 - part * d0
                        mean = (s1 - part * d1) / a0
                        gradient -= weight / n_tied * mean
                        information += weight / n_tied * ((s2 - part * d2) / a0 - mean * mean)
            if information <= 1e-12:
                break
            if gradient > 0.0:
                low = beta
            else:
                high = beta
            step = gradient / information
            if abs(step) < 1e-8:
                slopes[r] = beta
                break
            beta += step
            if not low < beta < high:
                beta = 0.5 * (low + high)
            if high - low < 1e-12:
                break
        if abs(slopes[r]) > 0.999 * STEEPEST:
            slopes[r] = np.nan
    return slopes


@compile_kernel("float64[:,::1](float64[::1], boolean[::1], float64[:,::1], float64, float64)")
def _logistic_slopes(x, positive, weights, intercept, slope):
    """Fit intercept and slope of a logistic model for each row of weights, by Newton's method."""
    n_replicates, n = weights.shape
    found = np.full((n_replicates, 2), np.nan)
    for r in range(n_replicates):
        a = intercept
        b = slope
        before = -np.inf
        step_a = 0.0
        step_b = 0.0
        for _ in range(100):
            likelihood = 0.0
            g0 = 0.0
            g1 = 0.0
            h00 = 0.0
            h01 = 0.0
            h11 = 0.0
            for j in range(n):
                w = weights[r, j]
                if w > 0.0:
                    eta = a + b * x[j]
                    # log(1 + exp(eta)) without overflow
                    likelihood -= w * (max(eta, 0.0) + np.log1p(np.exp(-abs(eta))))
                    p = 1.0 / (1.0 + np.exp(-eta))
                    residual = -p
                    if positive[j]:
                        likelihood += w * eta
                        residual += 1.0
                    g0 += w * residual
                    g1 += w * residual * x[j]
                    v = w * p * (1.0 - p)
                    h00 += v
                    h01 += v * x[j]
                    h11 += v * x[j] * x[j]
            if likelihood < before - 1e-9 * abs(before):
                step_a *= 0.5
                step_b *= 0.5
                a -= step_a
                b -= step_b
                continue
            before = likelihood
            determinant = h00 * h11 - h01 * h01
            if determinant <= 1e-10 * (h00 * h11) or abs(b) > STEEPEST:
                break
            step_a = (h11 * g0 - h01 * g1) / determinant
            step_b = (h00 * g1 - h01 * g0) / determinant
            if abs(step_a) < 1e-9 and abs(step_b) < 1e-9:
                found[r, 0] = a
                found[r, 1] = b
                break
            a += step_a
            b += step_b
    return found
