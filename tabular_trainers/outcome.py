"""Read outcomes, strata and weights of patients into the plain arrays that all measures share."""

import numpy as np

from tabular_trainers.errors import DataError, count

MIN_EVENTS = 50  # a calibration curve drawn through fewer events is mostly noise


def survival_arrays(y):
    """Split a structured survival outcome into plain arrays.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Structured array with fields ``event`` and ``time``, and ``entry`` where patients came
        under observation later than time zero.

    Returns
    -------
    time : ndarray of float64
    event : ndarray of bool
    entry : ndarray of float64 or None

    Raises
    ------
    DataError
        If ``y`` is not such an array, is empty, or holds a time that is not finite.
    """
    y = np.asarray(y)
    if y.dtype.names is None or not {"event", "time"} <= set(y.dtype.names):
        raise DataError(
            "y: expected a structured array with the fields event and time "
            "(classification labels have measures of their own: auroc, auprc, brier, log_loss)."
        )
    if len(y) == 0:
        raise DataError("y: no patients.")
    time = np.ascontiguousarray(y["time"], dtype=np.float64)
    event = np.ascontiguousarray(y["event"], dtype=bool)
    entry = None
    if "entry" in y.dtype.names:
        entry = np.ascontiguousarray(y["entry"], dtype=np.float64)
    for name, values in (("time", time), ("entry", entry)):
        if values is not None and not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise DataError(f"y, field {name}: {bad} of {count(len(y), 'value')} not finite.")
    return time, event, entry


def entered_by(y, times):
    """Whether each patient came under observation before each time, (n_patients, n_times)."""
    _, _, entry = survival_arrays(y)
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if entry is None:
        return np.ones((len(y), len(times)), dtype=bool)
    return entry[:, None] < times


def refuse_late_entry(time, entry, counted=True):
    """Refuse patients, of those that are counted, who enter at or after their time."""
    bad = int(((entry >= time) & counted).sum())
    if bad:
        raise DataError(f"y: {bad} of {count(len(time), 'patient')} enter at or after their time.")


def label_array(y):
    """Read classification labels as booleans.

    Raises
    ------
    DataError
        If ``y`` is empty or holds anything but 0 and 1.
    """
    y = np.asarray(y)
    if y.dtype.names is not None or y.ndim != 1:
        raise DataError("y: expected a vector of classification labels 0 and 1.")
    if len(y) == 0:
        raise DataError("y: no patients.")
    if not np.isin(y, (0, 1)).all():
        raise DataError("y: expected classification labels 0 and 1 only.")
    return y.astype(bool)


def carries_curve(y, horizon=None):
    """Whether enough patients had the event by a horizon to draw a calibration curve: 50.

    Classification: of the rarer class.
    """
    if np.asarray(y).dtype.names is None:
        positive = label_array(y)
        return min(positive.sum(), (~positive).sum()) >= MIN_EVENTS
    time, event, _ = survival_arrays(y)
    return (event & (time <= horizon)).sum() >= MIN_EVENTS


def finite_vector(values, n, name):
    """Read predictions as a float64 vector of length ``n``; refuse anything that is not finite."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    if values.shape != (n,):
        raise DataError(f"{name}: {count(n, 'value')} expected, one a patient; got {values.shape}.")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise DataError(f"{name}: {bad} of {count(n, 'value')} not finite.")
    return values


def strata_codes(strata, n):
    """Give strata the numbers 0, 1, ...; ``None`` is one stratum of all patients.

    Returns
    -------
    codes : ndarray of int64, shape (n,)
    n_strata : int
    """
    if strata is None:
        return np.zeros(n, dtype=np.int64), 1
    strata = np.asarray(strata)
    if strata.shape != (n,):
        raise DataError(f"strata: {count(n, 'value')} expected, one a patient; got {strata.shape}.")
    found, codes = np.unique(strata, return_inverse=True)
    return codes.astype(np.int64), len(found)


def weight_rows(weights, n):
    """Read patient weights as rows of replicates.

    Parameters
    ----------
    weights : array-like of shape (n,) or (n_replicates, n), or None
        Multiplicities or other weights, at least 0. ``None`` weighs every patient 1.

    Returns
    -------
    rows : ndarray of float64, shape (n_replicates, n)
    one : bool
        True when a single number is wanted: ``weights`` was ``None`` or a vector.
    """
    if weights is None:
        return np.ones((1, n)), True
    rows = np.ascontiguousarray(np.atleast_2d(weights), dtype=np.float64)
    if rows.shape[1] != n:
        raise DataError(f"weights: {count(n, 'column')} expected, one a patient; got {rows.shape}.")
    if not (np.isfinite(rows) & (rows >= 0)).all():
        raise DataError("weights: expected finite values of at least 0.")
    return rows, np.ndim(weights) == 1


def ratio(numerator, denominator):
    """Divide, giving NaN where the denominator is not above 0."""
    denominator = np.asarray(denominator, dtype=np.float64)
    safe = np.where(denominator > 0, denominator, np.nan)
    return np.asarray(numerator, dtype=np.float64) / safe


def answer(values, one):
    """Give one float for one set of weights, else the vector over replicates."""
    return float(values[0]) if one else values
