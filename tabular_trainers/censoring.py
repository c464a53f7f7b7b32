"""Kaplan-Meier estimates: of survival, of follow-up, and of censoring for inverse weights.

One product-limit kernel serves them all, for many bootstrap replicates after one sort. An event
comes before a censoring at the same time: a patient censored at t is at risk for an event at t,
and a patient with the event at t is no longer at risk of censoring at t. Patients with an entry
time are at risk only after it.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError
from tabular_trainers.kernels import compile_kernel
from tabular_trainers.outcome import survival_arrays, weight_rows

Z95 = 1.959963984540054


class InverseWeights(NamedTuple):
    """Inverse probabilities of not being censored, for every replicate.

    Attributes
    ----------
    at_event : ndarray of shape (n_replicates, n_patients)
        G(entry) / G(t-) at a patient's event; 0 for the censored.
    beyond : ndarray of shape (n_replicates, n_times)
        1 / G(t) at each time asked for; 0 where nobody is followed beyond it.
    at_entry : ndarray of shape (n_replicates or 1, n_patients)
        G(entry), by which ``beyond`` is multiplied; 1 without entry times.
    """

    at_event: np.ndarray
    beyond: np.ndarray
    at_entry: np.ndarray


def survival_at(y, times, weights=None):
    """Kaplan-Meier survival at given times.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
    times : array-like of shape (n_times,)
        In the unit of the endpoint. Beyond the last follow-up the last value is carried on.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None

    Returns
    -------
    ndarray of shape (n_times,) or (n_replicates, n_times)
    """
    rows, one = weight_rows(weights, len(y))
    _, at = product_limit(y, times, rows, reverse=False)
    return at[0] if one else at


def inverse_weights(y, times, weights=None):
    """Weigh patients by the inverse probability of not being censored before their event.

    One Kaplan-Meier estimate G of the censoring distribution over all patients given, once for
    each row of ``weights``. With entry times its risk sets are those of delayed entry, and a
    patient's weight is conditional on being under observation at entry: an event at t weighs
    G(entry) / G(t-), a patient beyond t weighs G(entry) / G(t), each the product over censorings
    between the two. A moment at which all who are at risk are censored cannot lie between them; it
    is left out of the product, so that an early risk set that empties does not undo all weights.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
    times : array-like of shape (n_times,)
        Times at which ``beyond`` is wanted.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None

    Returns
    -------
    InverseWeights

    References
    ----------
    Graf et al., Statistics in Medicine 1999;18:2529. Uno et al., Statistics in Medicine
    2011;30:1105. Delayed-entry risk sets: Tsai, Jewell & Wang, Biometrika 1987;74:883.
    """
    rows, _ = weight_rows(weights, len(y))
    _, event, entry = survival_arrays(y)
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    at_entry = np.ones((1, len(y)))
    if entry is None:
        left, at = product_limit(y, times, rows, reverse=True)
    else:
        asked = np.concatenate([times, entry])
        left, at = product_limit(y, asked, rows, reverse=True, skip_empty=True)
        at, at_entry = at[:, : len(times)], np.ascontiguousarray(at[:, len(times) :])
    at_event = np.zeros_like(left)
    # G(t-) is 0 only for a patient whom a replicate did not draw; its weight is 0 there anyway
    np.divide(at_entry, left, out=at_event, where=(left > 0) & event)
    beyond = np.zeros_like(at)
    np.divide(1.0, at, out=beyond, where=at > 0)
    return InverseWeights(at_event, beyond, at_entry)


def product_limit(y, times, weights, reverse, skip_empty=False):
    """Compute product-limit estimates for rows of weights.

    With ``skip_empty`` a moment that would bring the estimate to 0 is left out of the product.

    Returns
    -------
    left : ndarray of shape (n_replicates, n_patients)
        Estimate just before each patient's time.
    at : ndarray of shape (n_replicates, n_times)
        Estimate from each time on.
    """
    time, event, entry = survival_arrays(y)
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if entry is None:
        entry = np.full(len(time), -np.inf)
    order = np.argsort(time, kind="stable")
    entering = np.argsort(entry, kind="stable")
    by_time = np.argsort(times, kind="stable")
    left, sorted_at = _product_limit(
        order, time[order], event[order], entering, entry[entering], weights, times[by_time],
        bool(reverse), bool(skip_empty),
    )  # fmt: skip
    at = np.empty_like(sorted_at)
    at[:, by_time] = sorted_at
    return left, at


@compile_kernel(
    "Tuple((float64[:,::1], float64[:,::1]))(int64[::1], float64[::1], boolean[::1], int64[::1],"
    " float64[::1], float64[:,::1], float64[::1], boolean, boolean)"
)
def _product_limit(order, time, event, entering, entry, weights, times, reverse, skip_empty):
    n_replicates, n = weights.shape
    n_times = len(times)
    left = np.empty((n_replicates, n))
    at = np.empty((n_replicates, n_times))
    for r in range(n_replicates):
        estimate = 1.0
        at_risk = 0.0
        came = 0
        asked = 0
        k = 0
        while k < n:
            now = time[k]
            while asked < n_times and times[asked] < now:
                at[r, asked] = estimate
                asked += 1
            while came < n and entry[came] < now:
                at_risk += weights[r, entering[came]]
                came += 1
            events = 0.0
            censored = 0.0
            while k < n and time[k] == now:
                j = order[k]
                left[r, j] = estimate
                if event[k]:
                    events += weights[r, j]
                else:
                    censored += weights[r, j]
                k += 1
            leaving = events
            exposed = at_risk
            if reverse:
                leaving = censored
                exposed = at_risk - events
            if leaving > 0.0:
                # sums of weights that are not integers can miss each other by rounding
                if exposed - leaving > 1e-9 * exposed:
                    estimate *= 1.0 - leaving / exposed
                elif not skip_empty:
                    estimate = 0.0
            at_risk -= events + censored
        while asked < n_times:
            at[r, asked] = estimate
            asked += 1
    return left, at


def kaplan_meier(y, weights=None, reverse=False, start=0.0):
    """Kaplan-Meier curve with 95% log-log limits.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
    weights : array-like of shape (n_patients,), default=None
        Patient weights; whole numbers count as that many patients.
    reverse : bool, default=False
        Estimate the distribution of follow-up instead: censoring is what is waited for.
    start : float, default=0.0
        Where the curve starts at 1: survival of those alive and at risk then. Later than 0 it
        leaves out the first risk sets under late entry, in which one event of few decides.

    Returns
    -------
    DataFrame
        time (``start`` first, then every distinct time after it), survival from that time on,
        lower, upper, n_at_risk just before it, n_events at it. Limits are missing once the curve
        reaches 0.

    References
    ----------
    Kaplan & Meier, JASA 1958;53:457. Greenwood's variance; Kalbfleisch & Prentice 2002 (log-log).
    Schemper & Smith, Controlled Clinical Trials 1996;17:343 (reverse).
    """
    time, event, entry = survival_arrays(y)
    weight = weight_rows(weights, len(time))[0][0]
    if start > 0:
        later = time > start
        time, event, weight = time[later], event[later], weight[later]
        entry = None if entry is None else entry[later]
        if not len(time):
            raise DataError(f"y: nobody is followed beyond {start:g}, where the curve would start.")
    moments, place = np.unique(time, return_inverse=True)
    events = np.bincount(place, weights=weight * event, minlength=len(moments))
    censored = np.bincount(place, weights=weight * ~event, minlength=len(moments))
    at_risk = np.cumsum((events + censored)[::-1])[::-1]
    if entry is not None:
        # not yet entered at a moment: entry >= moment
        late = np.sort(entry)
        still_out = np.r_[0.0, np.cumsum(weight[np.argsort(entry)])]
        at_risk = at_risk - (still_out[-1] - still_out[np.searchsorted(late, moments, "left")])
    leaving, exposed = (censored, at_risk - events) if reverse else (events, at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.where(leaving > 0, 1.0 - leaving / exposed, 1.0)
        survival = np.cumprod(factors.clip(0.0))
        terms = np.where(leaving > 0, leaving / (exposed * (exposed - leaving)), 0.0)
        lower, upper = _log_log_limits(survival, np.cumsum(terms))
    first = weight[entry <= start].sum() if entry is not None else weight.sum()
    curve = pd.DataFrame(
        {
            "time": np.r_[float(start), moments],
            "survival": np.r_[1.0, survival],
            "lower": np.r_[1.0, lower],
            "upper": np.r_[1.0, upper],
            "n_at_risk": np.r_[first, exposed],
            "n_events": np.r_[0.0, leaving],
        }
    )
    if (weight == np.floor(weight)).all():
        curve = curve.astype({"n_at_risk": np.int64, "n_events": np.int64})
    return curve[1:].reset_index(drop=True) if moments[0] <= start else curve


def _log_log_limits(survival, greenwood):
    """95% limits of exp(-exp(log(-log S) -/+ z se)); 1 while nothing happened, NaN at 0."""
    width = Z95 * np.sqrt(greenwood) / np.log(survival)
    inside = (survival > 0) & (survival < 1)
    lower = np.where(inside, survival ** np.exp(-width), np.where(survival == 1, 1.0, np.nan))
    upper = np.where(inside, survival ** np.exp(width), np.where(survival == 1, 1.0, np.nan))
    return lower, upper


def time_of_quantile(curve, level=0.5):
    """Time at which a curve and its limits come down to a level.

    Where the estimate stays exactly at the level for a while, the middle of that stretch is given,
    as R ``survival`` does. Never reached is NaN.

    Parameters
    ----------
    curve : DataFrame
        From `kaplan_meier`.
    level : float, default=0.5

    Returns
    -------
    dict
        median, lower, upper (named ``median`` whatever the level).
    """
    columns = {"median": "survival", "lower": "lower", "upper": "upper"}
    steps = curve[curve["n_events"] > 0]
    return {
        name: _first_below(steps["time"].to_numpy(), steps[column].to_numpy(), level)
        for name, column in columns.items()
    }


def _first_below(time, values, level):
    tolerance = 1e-9
    reached = np.flatnonzero(values <= level + tolerance)  # NaN is never reached
    if not len(reached):
        return np.nan
    first = reached[0]
    if abs(values[first] - level) <= tolerance and first + 1 < len(time):
        return float((time[first] + time[first + 1]) / 2)
    return float(time[first])


def survival_with_limits(y, at, weights=None):
    """Kaplan-Meier survival and its 95% log-log limits at one time; NaN beyond the follow-up.

    Returns
    -------
    tuple of float
        Survival, lower, upper.
    """
    curve = kaplan_meier(y, weights)
    here = curve[curve["time"] <= at]
    if not len(here):
        return 1.0, 1.0, 1.0
    last = here.iloc[-1]
    if curve["time"].iloc[-1] < at and last["survival"] > 0:
        return np.nan, np.nan, np.nan
    return float(last["survival"]), float(last["lower"]), float(last["upper"])
