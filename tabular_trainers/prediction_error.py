"""Prediction error: Brier score at horizons and integrated, and log loss."""

import numpy as np

from tabular_trainers.censoring import inverse_weights
from tabular_trainers.errors import DataError, count
from tabular_trainers.outcome import (
    answer,
    entered_by,
    finite_vector,
    label_array,
    ratio,
    survival_arrays,
    weight_rows,
)

GRID_POINTS = 50
MIN_ENTERED = 10  # before so many have entered, a mean over patients is not worth integrating


def time_grid(tau):
    """Spread 50 times evenly up to ``tau``: tau/50, 2 tau/50, ..., tau."""
    return np.linspace(tau / GRID_POINTS, tau, GRID_POINTS)


def brier(y, probability, times=None, weights=None, survival_at_entry=None):
    """Brier score: mean squared difference of predicted probability and outcome.

    Survival: at each time, (0 - S)^2 / G(t-) for an event by then, (1 - S)^2 / G(time) for a
    patient followed beyond it, 0 for one censored by then, divided by the number of patients; G is
    the Kaplan-Meier estimate of censoring over all patients given. With entry times the patients
    are those who entered before that time, S is the predicted survival from entry on, S(time) /
    S(entry), and the weights are conditional on being under observation at entry: G(entry) / G(t-)
    and G(entry) / G(time), as in `inverse_weights`.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Survival (structured ``event``, ``time``, ``entry`` where there is one) or labels 0 and 1.
    probability : array-like of shape (n_patients, n_times) or (n_patients,)
        Predicted survival at each time; classification: probability of class 1.
    times : array-like of shape (n_times,), default=None
        In the unit of the endpoint; classification takes none.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None
    survival_at_entry : array-like of shape (n_patients,), default=None
        Predicted survival of each patient at its own entry; required with entry times.

    Returns
    -------
    ndarray of shape (n_times,) or (n_replicates, n_times); classification: float or (n_replicates,)
        NaN at a time before which nobody entered.

    Raises
    ------
    DataError
        If ``y`` has entry times and ``survival_at_entry`` is not given.

    References
    ----------
    Graf et al., Statistics in Medicine 1999;18:2529.
    """
    if np.asarray(y).dtype.names is None:
        return _mean(squared_error(label_array(y), probability), weights)
    survival = survival_from_entry(y, probability, times, survival_at_entry)
    rows, one = weight_rows(weights, len(y))
    found = brier_rows(y, survival, times, rows, inverse_weights(y, times, rows))
    return found[0] if one else found


def brier_rows(y, survival, times, weights, inverse):
    """Brier scores for rows of weights, given their censoring weights: (n_replicates, n_times)."""
    early, late = brier_parts(y, survival, times)
    sums = (weights * inverse.at_event) @ early
    sums += ((weights * inverse.at_entry) @ late) * inverse.beyond
    return ratio(sums, weights @ entered_by(y, times))


def brier_parts(y, survival, times):
    """Squared errors of events by each time and of patients beyond it, (n_patients, n_times).

    A patient who enters at a time or after it has no part there.
    """
    time, _, _ = survival_arrays(y)
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    beyond = (time[:, None] > times) & entered_by(y, times)
    return events_by(y, times) * survival**2, beyond * (1.0 - survival) ** 2


def events_by(y, times):
    """Whether each patient had the event by each time, (n_patients, n_times)."""
    time, event, _ = survival_arrays(y)
    return event[:, None] & (time[:, None] <= np.atleast_1d(times))


def integrated_brier(y, survival, times, weights=None, survival_at_entry=None):
    """Brier score integrated over the times given, divided by their range.

    Trapezoids between the times; the stretch before the first time is left out. With `time_grid`
    the range is tau/50 to tau. With entry times the range begins at the first of the times before
    which at least 10 patients have entered.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Structured array with ``event``, ``time`` and, for left-truncated follow-up, ``entry``.
    survival : array-like of shape (n_patients, n_times)
    times : array-like of shape (n_times,)
        Increasing, at least two, in the unit of the endpoint.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None
    survival_at_entry : array-like of shape (n_patients,), default=None
        Predicted survival of each patient at its own entry; required with entry times.

    Returns
    -------
    float or ndarray of shape (n_replicates,)

    References
    ----------
    Graf et al., Statistics in Medicine 1999;18:2529.
    """
    weights_given = np.ones(len(y)) if weights is None else weights
    scores = np.atleast_2d(brier(y, survival, times, weights_given, survival_at_entry))
    enough = enough_entered(y, times)
    found = integrate(scores[:, enough], np.asarray(times)[enough])
    return answer(found, weights is None or np.ndim(weights) == 1)


def enough_entered(y, times):
    """Whether at least 10 patients have entered before each time; without entry always."""
    if survival_arrays(y)[2] is None:
        return np.ones(len(times), dtype=bool)
    return entered_by(y, times).sum(axis=0) >= MIN_ENTERED


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


def survival_from_entry(y, survival, times, survival_at_entry=None):
    """Read predicted survival as (n_patients, n_times), with entry times given survival to entry.

    With entry times S(time) / S(entry): the probability of being alive at a time for a patient who
    was alive at entry; 1 where the patient enters later. Where a model leaves no survival at entry,
    it leaves none afterwards.

    Raises
    ------
    DataError
        If ``y`` has entry times and no survival at entry is given, or it is below a later one.
    """
    survival = survival_matrix(survival, len(y), times)
    if survival_arrays(y)[2] is None:
        if survival_at_entry is not None:
            raise DataError("survival_at_entry: given, but y has no entry times; leave it out.")
        return survival
    if survival_at_entry is None:
        raise DataError(
            "y has entry times (left truncation): expected survival_at_entry, the predicted "
            "survival of each patient at its own entry, (n_patients,)."
        )
    start = _probabilities(survival_at_entry, len(y), "survival_at_entry")[:, None]
    entered = entered_by(y, times)
    rising = (entered & (survival > start + 1e-6)).any(axis=1)
    if rising.any():
        raise DataError(
            f"survival_at_entry: {count(int(rising.sum()), 'patient')} with less predicted "
            "survival at entry than later; expected curves that never rise."
        )
    given = np.zeros_like(survival)
    np.divide(survival, start, out=given, where=start > 0)
    return np.where(entered, given.clip(0.0, 1.0), 1.0)


def _probabilities(probability, n, name="probability"):
    probability = finite_vector(probability, n, name)
    if not ((probability >= 0) & (probability <= 1)).all():
        raise DataError(f"{name}: expected values between 0 and 1.")
    return probability


def _mean(losses, weights):
    rows, one = weight_rows(weights, len(losses))
    return answer(rows @ losses / rows.sum(axis=1), one)
