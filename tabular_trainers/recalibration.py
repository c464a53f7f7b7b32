"""Calibration in the large: how far a model's predictions are off on average, and which way."""

import math

import numpy as np

from tabular_trainers.bootstrap import cluster_codes
from tabular_trainers.calibration import CLIP
from tabular_trainers.censoring import Z95
from tabular_trainers.outcome import finite_vector, label_array, survival_arrays

# A curve that ends at 0 has no cumulative hazard there.
LOWEST_SURVIVAL = 1e-6


def in_the_large(observed, expected, site=None):
    """Shift of the log cumulative hazard that makes expected events equal observed ones.

    The intercept of a Poisson model of the events with the log of each patient's cumulative hazard
    as offset, which is log(observed / expected). Its standard error is the sandwich's, summed by
    site first where there are 10 or more.

    Parameters
    ----------
    observed : array-like of shape (n_patients,)
        Whether the event happened during the follow-up that `expected` covers.
    expected : array-like of shape (n_patients,)
        The model's cumulative hazard over each patient's own follow-up; see `own_hazard`.
    site : array-like of shape (n_patients,), default=None

    Returns
    -------
    dict
        estimate, standard_error, lower, upper (95%): above 0, more events than predicted. NaN
        without an event or an expected one.

    References
    ----------
    Crowson, Atkinson & Therneau, Statistical Methods in Medical Research 2016;25:1692.
    """
    observed = np.asarray(observed, dtype=np.float64)
    expected = finite_vector(expected, len(observed), "expected")
    n_events, total = observed.sum(), expected.sum()
    if not (n_events > 0 and total > 0):
        return _interval(math.nan, math.nan)
    influence = (observed - expected * (n_events / total)) / n_events
    return _interval(math.log(n_events / total), _standard_error(influence, site))


def logistic_in_the_large(y, probability, site=None):
    """Shift of the logit that makes the mean predicted probability equal the share of positives.

    The intercept of a logistic model with the logit of the predicted probability as offset;
    probabilities are first kept between 0.001 and 0.999. Standard error as in `in_the_large`.

    Parameters
    ----------
    y : array-like of shape (n_patients,)
        Labels 0 and 1.
    probability : array-like of shape (n_patients,)
        Predicted probability of class 1.
    site : array-like of shape (n_patients,), default=None

    Returns
    -------
    dict
        estimate, standard_error, lower, upper (95%): above 0, more positives than predicted. NaN
        where all patients are of one class.

    References
    ----------
    Cox, Biometrika 1958;45:562. van Calster et al., BMC Medicine 2019;17:230.
    """
    from scipy.optimize import brentq
    from scipy.special import expit, logit

    positive = label_array(y).astype(np.float64)
    offset = logit(finite_vector(probability, len(positive), "probability").clip(CLIP, 1 - CLIP))
    if not 0 < positive.sum() < len(positive):
        return _interval(math.nan, math.nan)

    def surplus(shift):
        return positive.sum() - expit(offset + shift).sum()

    # Offsets are within +-6.9: a share of positives of 1 in 1e12 would still lie inside.
    shift = brentq(surplus, -40.0, 40.0, xtol=1e-12)
    p = expit(offset + shift)
    influence = (positive - p) / (p * (1 - p)).sum()
    return _interval(shift, _standard_error(influence, site))


def own_hazard(predict, y, until):
    """Cumulative hazard that a model predicts for each patient's own follow-up.

    Parameters
    ----------
    predict : callable
        (positions, times) -> survival of these patients, of shape (n_positions, n_times).
    y : ndarray of shape (n_patients,)
        Structured array with ``event``, ``time`` and, with late entry, ``entry``.
    until : float
        Follow-up beyond it is not counted.

    Returns
    -------
    observed : ndarray of bool, shape (n_patients,)
        Events up to ``until``.
    expected : ndarray of float64, shape (n_patients,)
        -log S(min(time, until)), less that at entry; S is first kept at 1e-6 or above.
    """
    time, event, entry = survival_arrays(y)
    ends = [np.minimum(time, until)]
    if entry is not None:
        ends.append(np.minimum(entry, until))
    hazards = [np.zeros(len(time)) for _ in ends]
    order = np.argsort(ends[0], kind="stable")
    # every patient at every time would be 2 GB for 17,000 patients
    for at in np.array_split(order, max(1, len(order) // 256)):
        for hazard, end in zip(hazards, ends, strict=True):
            times, column = np.unique(end[at], return_inverse=True)
            survival = np.asarray(predict(at, times))[np.arange(len(at)), column]
            hazard[at] = -np.log(survival.clip(LOWEST_SURVIVAL, 1.0))
    expected = hazards[0] if entry is None else np.maximum(hazards[0] - hazards[1], 0.0)
    return event & (time <= until), expected


def _standard_error(influence, site):
    codes = cluster_codes(site)
    if codes is not None:
        influence = np.bincount(codes, weights=influence)
    return float(np.sqrt((influence**2).sum()))


def _interval(estimate, error):
    return {
        "estimate": estimate,
        "standard_error": error,
        "lower": estimate - Z95 * error,
        "upper": estimate + Z95 * error,
    }
