"""Prediction error: Brier score at horizons and integrated, and log loss."""

import numpy as np

from tabular_trainers.censoring import inverse_weights
from tabular_trainers.errors import DataError
from tabular_trainers.outcome import (
    answer,
    finite_vector,
    label_array,
    survival_arrays,
    weight_rows,
)

GRID_POINTS = 50


def time_grid(tau):
    """Spread 50 times evenly up to ``tau``: tau/50, 2 tau/50, ..., tau."""
    return np.linspace(tau / GRID_POINTS, tau, GRID_POINTS)


def brier(y, probability, times=None, weights=None):
    """Brier score: mean squared difference of predicted probability and outcome.

    Survival: at each time, (0 - S)^2 / G(t-) for an event by then, (1 - S)^2 / G(time) for a
    patient followed beyond it, 0 for one censored by then, divided by the number of patients; G is
    the Kaplan-Meier estimate of censoring over all patients given.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Survival (structured ``event``, ``time``; no entry times) or labels 0 and 1.
    probability : array-like of shape (n_patients, n_times) or (n_patients,)
        Predicted survival at each time; classification: probability of class 1.
    times : array-like of shape (n_times,), default=None
        In the unit of the endpoint; classification takes none.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None

    Returns
    -------
    ndarray of shape (n_times,) or (n_replicates, n_times); classification: float or (n_replicates,)

    References
    ----------
    Graf et al., Statistics in Medicine 1999;18:2529.
    """
    if np.asarray(y).dtype.names is None:
        return _mean(squared_error(label_array(y), probability), weights)
    survival = survival_matrix(probability, len(y), times)
    rows, one = weight_rows(weights, len(y))
    found = brier_rows(y, survival, times, rows, inverse_weights(y, times, rows))
    return found[0] if one else found


def brier_rows(y, survival, times, weights, inverse):
    """Brier scores for rows of weights, given their censoring weights: (n_replicates, n_times)."""
    early, late = brier_parts(y, survival, times)
    sums = (weights * inverse.at_event) @ early + (weights @ late) * inverse.beyond
    return sums / weights.sum(axis=1, keepdims=True)


def brier_parts(y, survival, times):
    """Squared errors of events by each time and of patients beyond it, (n_patients, n_times)."""
    time, event, _ = survival_arrays(y)
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    happened = event[:, None] & (time[:, None] <= times)
    beyond = time[:, None] > times
    return happened * survival**2, beyond * (1.0 - survival) ** 2


def integrated_brier(y, survival, times, weights=None):
    """Brier score integrated over the times given, divided by their range.

    Trapezoids between the times; the stretch before the first time is left out. With `time_grid`
    the range is tau/50 to tau.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Structured array with ``event`` and ``time``; entry times are not accepted.
    survival : array-like of shape (n_patients, n_times)
    times : array-like of shape (n_times,)
        Increasing, at least two, in the unit of the endpoint.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None

    Returns
    -------
    float or ndarray of shape (n_replicates,)

    References
    ----------
    Graf et al., Statistics in Medicine 1999;18:2529.
    """
    scores = brier(y, survival, times, np.ones(len(y)) if weights is None else weights)
    found = integrate(np.atleast_2d(scores), times)
    return answer(found, weights is None or np.ndim(weights) == 1)


def integrate(scores, times):
    """Integrate rows of scores over times by trapezoids and divide by the range of the times."""
    times = np.asarray(times, dtype=np.float64)
    if len(times) < 2 or not (np.diff(times) > 0).all():
        raise DataError("times: expected at least two, increasing.")
    return np.trapezoid(scores, times, axis=-1) / (times[-1] - times[0])


def log_loss(y, probability, weights=None):
    """Mean negative log likelihood of the labels under the predicted probabilities.

    Probabilities are kept at least the float64 rounding unit (2.2e-16) away from 0 and 1, as
    scikit-learn does.

    Parameters
    ----------
    y : array-like of shape (n_patients,)
        Labels 0 and 1.
    probability : array-like of shape (n_patients,)
        Probability of class 1.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None

    Returns
    -------
    float or ndarray of shape (n_replicates,)
    """
    return _mean(log_error(label_array(y), probability), weights)


def squared_error(positive, probability):
    """Squared difference of label and probability, a patient."""
    return (_probabilities(probability, len(positive)) - positive) ** 2


def log_error(positive, probability):
    """Negative log likelihood of the label, a patient."""
    tiny = np.finfo(np.float64).eps
    probability = _probabilities(probability, len(positive)).clip(tiny, 1.0 - tiny)
    return -np.log(np.where(positive, probability, 1.0 - probability))


def survival_matrix(survival, n, times):
    """Read predicted survival as (n_patients, n_times), probabilities between 0 and 1."""
    survival = np.asarray(survival, dtype=np.float64)
    n_times = len(np.atleast_1d(times))
    if survival.ndim == 1 and n_times == 1:
        survival = survival[:, None]
    if survival.shape != (n, n_times):
        raise DataError(f"survival: expected shape ({n}, {n_times}); got {survival.shape}.")
    if not ((survival >= 0) & (survival <= 1)).all():
        raise DataError("survival: expected probabilities between 0 and 1.")
    return survival


def _probabilities(probability, n):
    probability = finite_vector(probability, n, "probability")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise DataError("probability: expected values between 0 and 1.")
    return probability


def _mean(losses, weights):
    rows, one = weight_rows(weights, len(losses))
    return answer(rows @ losses / rows.sum(axis=1), one)
