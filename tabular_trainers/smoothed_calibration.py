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

KNOTS = (0.1, 0.5, 0.9)  # Harrell 2015, table 2.3


def integrated_calibration_index(y, probability, times=None, weights=None, survival_at_entry=None):
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
    survival_at_entry : array-like of shape (n_patients,), default=None
        Predicted survival at each patient's entry; needed with entry times. Both probabilities are
        then of the event between entry and the time, of patients who entered before it.

    Returns
    -------
    ndarray of shape (n_times,) or (n_replicates, n_times); classification: float or (n_replicates,)
        0 is perfect. NaN where the curve has no finite estimate, or no event happens by a time.

    Raises
    ------
    DataError
        If ``y`` has entry times and ``survival_at_entry`` is not given.

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
        known = (_spline(np.log(clipped) - np.log1p(-clipped)), positive, predicted)
        begin = _logistic_index(*known, np.ones((1, len(positive))), np.zeros(3))[1]
        return answer(_logistic_index(*known, rows, begin)[0], one)
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    survival = survival_matrix(probability, len(y), times)
    at_entry = _at_entry(y, survival_at_entry)
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
    late = "entry" in y.dtype.names
    inside = np.flatnonzero(entry < at) if late else np.arange(len(time))
    inside = inside[np.argsort(-time[inside].clip(max=at), kind="stable")]
    happened = event[inside] & (time[inside] <= at)
    if not happened.any():
        return np.full(len(weights), np.nan)
    # a model may put S(at) a rounding above S(entry)
    left = np.divide(survival, at_entry, out=np.zeros_like(survival), where=at_entry > 0)
    predicted = 1.0 - left[inside].clip(0.0, 1.0)
    columns = _spline(np.log(-np.log(survival[inside].clip(CLIP, 1.0 - CLIP))))
    entry = entry[inside] if late else np.full(len(inside), -np.inf)
    leaving = np.argsort(-entry, kind="stable")
    known = (time[inside].clip(max=at), happened, leaving, entry[leaving], columns, predicted)
    begin = _cox_index(*known, np.ones((1, len(inside))), np.zeros(2))[1]
    return _cox_index(*known, np.ascontiguousarray(weights[:, inside]), begin)[0]


def _spline(x):
    """Return x and its restricted cubic spline with three knots, each of mean 0 and variance 1.

    The spline's column is zero where the knots fall together, both are where x is constant.
    """
    basis = np.zeros((len(x), 2))
    if np.ptp(x) > 1e-9:
        basis[:, 0] = (x - x.mean()) / x.std()
        t1, t2, t3 = np.quantile(x, KNOTS)
        if t1 < t2 < t3:
            one, two, three = (np.maximum(x - t, 0.0) ** 3 for t in (t1, t2, t3))
            bend = one - two * (t3 - t1) / (t3 - t2) + three * (t2 - t1) / (t3 - t2)
            basis[:, 1] = (bend - bend.mean()) / bend.std()
    return basis


@compile_kernel(
    "Tuple((float64[::1], float64[::1]))(float64[::1], boolean[::1], int64[::1], float64[::1],"
    " float64[:,::1], float64[::1], float64[:,::1], float64[::1])"
)
def _cox_index(time, event, leaving, entry, columns, predicted, weights, begin):
    """Fit the curve to each row of weights by Newton's method, with halved steps where needed.

    Patients come by falling time, ``leaving`` by falling entry. The coefficients of the last row
    are returned too. Written out for two columns: sums in registers are ten times as fast.
    """
    n_replicates, n = weights.shape
    found = np.full(n_replicates, np.nan)
    drawn = np.zeros(n, dtype=np.int64)
    risk = np.zeros(n)
    hazard = np.zeros(n)
    beta_x = beta_z = 0.0
    for r in range(n_replicates):
        w = weights[r]
        m = 0
        for k in range(n):
            drawn[m] = k
            risk[k] = 0.0
            if w[k] > 0.0:
                m += 1
        beta_x = begin[0]
        beta_z = begin[1]
        step_x = step_z = 0.0
        before = -np.inf
        done = False
        for _ in range(60):
            likelihood = 0.0
            g_x = g_z = h_xx = h_xz = h_zz = 0.0
            s0 = s_x = s_z = s_xx = s_xz = s_zz = 0.0
            cumulative = most = 0.0
            gone = 0
            i = 0
            while i < m:
                now = time[drawn[i]]
                while gone < n and entry[gone] >= now:
                    k = leaving[gone]
                    hazard[k] = cumulative
                    x = columns[k, 0]
                    z = columns[k, 1]
                    e = w[k] * risk[k]
                    s0 -= e
                    s_x -= e * x
                    s_z -= e * z
                    s_xx -= e * x * x
                    s_xz -= e * x * z
                    s_zz -= e * z * z
                    gone += 1
                if s0 < 1e-6 * most:
                    # what nearly all have left is rounding: sum up those who stay anew
                    s0 = s_x = s_z = s_xx = s_xz = s_zz = 0.0
                    for left in range(gone, n):
                        k = leaving[left]
                        if k < drawn[i] and w[k] > 0.0:
                            x = columns[k, 0]
                            z = columns[k, 1]
                            e = w[k] * risk[k]
                            s0 += e
                            s_x += e * x
                            s_z += e * z
                            s_xx += e * x * x
                            s_xz += e * x * z
                            s_zz += e * z * z
                    most = s0
                d0 = d_x = d_z = d_xx = d_xz = d_zz = 0.0
                weight = 0.0
                n_tied = 0
                while i < m and time[drawn[i]] == now:
                    k = drawn[i]
                    x = columns[k, 0]
                    z = columns[k, 1]
                    eta = x * beta_x + z * beta_z
                    risk[k] = np.exp(eta)
                    e = w[k] * risk[k]
                    s0 += e
                    s_x += e * x
                    s_z += e * z
                    s_xx += e * x * x
                    s_xz += e * x * z
                    s_zz += e * z * z
                    if event[k]:
                        d0 += e
                        d_x += e * x
                        d_z += e * z
                        d_xx += e * x * x
                        d_xz += e * x * z
                        d_zz += e * z * z
                        weight += w[k]
                        n_tied += 1
                        likelihood += w[k] * eta
                        g_x += w[k] * x
                        g_z += w[k] * z
                    i += 1
                most = max(most, s0)
                for tied in range(n_tied):
                    part = tied / n_tied
                    one = weight / n_tied
                    a0 = s0 - part * d0
                    m_x = (s_x - part * d_x) / a0
                    m_z = (s_z - part * d_z) / a0
                    cumulative += one / a0
                    likelihood -= one * np.log(a0)
                    g_x -= one * m_x
                    g_z -= one * m_z
                    h_xx += one * ((s_xx - part * d_xx) / a0 - m_x * m_x)
                    h_xz += one * ((s_xz - part * d_xz) / a0 - m_x * m_z)
                    h_zz += one * ((s_zz - part * d_zz) / a0 - m_z * m_z)
            while gone < n:
                hazard[leaving[gone]] = cumulative
                gone += 1
            if done or cumulative == 0.0:
                break
            if not likelihood >= before - 1e-9 * abs(before):
                step_x *= 0.5
                step_z *= 0.5
                beta_x -= step_x
                beta_z -= step_z
                continue
            before = likelihood
            # a column of zeros has neither gradient nor curvature: its step is 0
            h_xx = h_xx if h_xx != 0.0 else 1.0
            h_zz = h_zz if h_zz != 0.0 else 1.0
            determinant = h_xx * h_zz - h_xz * h_xz
            if not determinant > 1e-10 * h_xx * h_zz or not h_xx > 1e-10:
                break
            step_x = (h_zz * g_x - h_xz * g_z) / determinant
            step_z = (h_xx * g_z - h_xz * g_x) / determinant
            beta_x += step_x
            beta_z += step_z
            # steps this small leave an error of their square
            done = max(abs(step_x), abs(step_z)) < 1e-5
        if not done or cumulative == 0.0:
            continue
        total = weight = 0.0
        for i in range(m):
            k = drawn[i]
            observed = -np.expm1(-hazard[k] * risk[k])
            total += w[k] * abs(observed - predicted[k])
            weight += w[k]
        found[r] = total / weight
    return found, np.array([beta_x, beta_z])


@compile_kernel(
    "Tuple((float64[::1], float64[::1]))(float64[:,::1], boolean[::1], float64[::1],"
    " float64[:,::1], float64[::1])"
)
def _logistic_index(columns, positive, predicted, weights, begin):
    """Fit the curve to each row of weights by Newton's method, with halved steps where needed."""
    n_replicates, n = weights.shape
    found = np.full(n_replicates, np.nan)
    beta = begin.copy()
    step = np.zeros(3)
    for r in range(n_replicates):
        beta[:] = begin
        before = -np.inf
        done = False
        for _ in range(100):
            likelihood = total = weight = 0.0
            g_0 = g_x = g_z = h_00 = h_0x = h_0z = h_xx = h_xz = h_zz = 0.0
            for k in range(n):
                w = weights[r, k]
                if w > 0.0:
                    x = columns[k, 0]
                    z = columns[k, 1]
                    eta = beta[0] + x * beta[1] + z * beta[2]
                    small = np.exp(-abs(eta))
                    observed = (small if eta < 0.0 else 1.0) / (1.0 + small)
                    likelihood -= w * (max(eta, 0.0) + np.log1p(small))
                    residual = -observed
                    if positive[k]:
                        likelihood += w * eta
                        residual += 1.0
                    v = w * observed * (1.0 - observed)
                    g_0 += w * residual
                    g_x += w * residual * x
                    g_z += w * residual * z
                    h_00 += v
                    h_0x += v * x
                    h_0z += v * z
                    h_xx += v * x * x
                    h_xz += v * x * z
                    h_zz += v * z * z
                    total += w * abs(observed - predicted[k])
                    weight += w
            if done:
                found[r] = total / weight
                break
            if not likelihood >= before - 1e-9 * abs(before):
                step *= 0.5
                beta -= step
                continue
            before = likelihood
            # a column of zeros has neither gradient nor curvature: its step is 0
            h_xx = h_xx if h_xx != 0.0 else 1.0
            h_zz = h_zz if h_zz != 0.0 else 1.0
            # eliminate the intercept, then solve for the two columns
            c_xx = h_xx - h_0x * h_0x / h_00
            c_xz = h_xz - h_0x * h_0z / h_00
            c_zz = h_zz - h_0z * h_0z / h_00
            c_x = g_x - h_0x * g_0 / h_00
            c_z = g_z - h_0z * g_0 / h_00
            determinant = c_xx * c_zz - c_xz * c_xz
            if not determinant > 1e-10 * h_xx * h_zz or not h_00 > 1e-10:
                break
            step[1] = (c_zz * c_x - c_xz * c_z) / determinant
            step[2] = (c_xx * c_z - c_xz * c_x) / determinant
            step[0] = (g_0 - h_0x * step[1] - h_0z * step[2]) / h_00
            beta += step
            # steps this small leave an error of their square
            done = np.abs(step).max() < 1e-5
    return found, beta
