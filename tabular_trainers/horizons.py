"""Choose the times at which accuracy and calibration are measured, and say why."""

import numpy as np

from tabular_trainers.errors import DataError, count
from tabular_trainers.outcome import strata_codes, survival_arrays

YEARS = (1, 3, 5)
# A year in whole units, so that a report reads "at 365 days".
UNITS_A_YEAR = {"days": 365, "weeks": 365.25 / 7, "months": 12, "years": 1}
MIN_EVENTS = 10
MIN_SHARE = 0.1
MIN_IN_FOLD = 5


def default_horizons(y, unit, strata=None, given=None):
    """Choose horizons: those given, else those of 1, 3 and 5 years that the data carry.

    A horizon is carried with at least 10 events by then, and 10% of all patients and 5 in every
    fold followed beyond it; with entry times, under observation then. When none is, the median time
    of the events is the one horizon.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Structured array with ``event`` and ``time``.
    unit : str or None
        ``days``, ``weeks``, ``months`` or ``years``. With another unit, or none, years are unknown.
    strata : array-like of shape (n_patients,), default=None
        Test fold of each patient.
    given : sequence of float, default=None
        Horizons that the user asked for, in the unit of the endpoint.

    Returns
    -------
    tuple of float
        Increasing. A year is 365 days, 52 weeks or 12 months. `horizon_note` says the reason.

    Raises
    ------
    DataError
        If there is no event, or a given horizon has no event before it or nobody beyond it.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([(i % 2 == 0, 0.1 * i + 0.1) for i in range(100)],
    ...              dtype=[("event", bool), ("time", float)])
    >>> default_horizons(y, "years")
    (3.0, 5.0)
    """
    time, event, entry = survival_arrays(y)
    entry = np.full(len(time), -np.inf) if entry is None else entry
    if not event.any():
        raise DataError(f"endpoint: none of {count(len(event), 'patient')} has the event.")
    if given is not None and len(given):
        return _check_given(sorted({float(h) for h in given}), time, event, entry, unit)
    years = YEARS if unit in UNITS_A_YEAR else ()
    carried = carried_horizons(y, [round(year * UNITS_A_YEAR[unit]) for year in years], strata)
    return carried or (_median_event(time, event, entry),)


def carried_horizons(y, horizons, strata=None):
    """Keep those horizons that patients carry, by the rule of `default_horizons`.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
    horizons : sequence of float
    strata : array-like of shape (n_patients,), default=None

    Returns
    -------
    tuple of float
    """
    time, event, entry = survival_arrays(y)
    entry = np.full(len(time), -np.inf) if entry is None else entry
    codes, n_strata = strata_codes(strata, len(time))
    carried = []
    for at in map(float, horizons):
        beyond = (time > at) & (entry < at)
        if (
            (event & (time <= at)).sum() >= MIN_EVENTS
            and beyond.mean() >= MIN_SHARE
            and np.bincount(codes[beyond], minlength=n_strata).min() >= MIN_IN_FOLD
        ):
            carried.append(at)
    return tuple(carried)


def horizon_note(horizons, y, unit, given=None):
    """Say in one sentence how the horizons were chosen.

    Returns
    -------
    str
    """
    if given is not None and len(given):
        return "horizons as given in the cohort file"
    time, event, _ = survival_arrays(y)
    rule = (
        f"at least {MIN_EVENTS} events before, and {MIN_SHARE:.0%} of patients and {MIN_IN_FOLD} "
        "in every fold followed beyond"
    )
    listed = unit in UNITS_A_YEAR and set(horizons) <= {
        float(round(years * UNITS_A_YEAR[unit])) for years in YEARS
    }
    if listed and len(horizons) == len(YEARS):
        return f"horizons of 1, 3 and 5 years; all have {rule}"
    if listed:
        return f"horizons: those of 1, 3 and 5 years with {rule}"
    if unit not in UNITS_A_YEAR:
        return (
            "one horizon, the median time of the events: the endpoint's unit is none of "
            "days, weeks, months, years. Give horizons in the cohort file to choose others"
        )
    return f"one horizon, the median time of the events: none of 1, 3 and 5 years has {rule}"


def numbers_at_risk(y, horizons):
    """Count the patients followed beyond each horizon.

    Returns
    -------
    dict
        Horizon -> patients.
    """
    time, _, entry = survival_arrays(y)
    entered = np.full(len(time), -np.inf) if entry is None else entry
    return {float(at): int(((time > at) & (entered < at)).sum()) for at in horizons}


def _median_event(time, event, entry):
    """Lower median of the event times; earlier when nobody is followed beyond it."""
    middle = np.sort(time[event])[(event.sum() - 1) // 2]
    events = np.unique(time[event])
    latest_first = events[events <= middle][::-1]
    usable = next((at for at in latest_first if ((time > at) & (entry < at)).any()), None)
    if usable is None:
        raise DataError(
            "endpoint: all events are at the last follow-up time; no horizon has an event before "
            "it and a patient beyond it."
        )
    return float(usable)


def _check_given(horizons, time, event, entry, unit):
    for at in horizons:
        n_events = int((event & (time <= at)).sum())
        n_beyond = int(((time > at) & (entry < at)).sum())
        if not np.isfinite(at) or at <= 0 or not n_events or not n_beyond:
            raise DataError(
                f"horizon {at:g}{f' {unit}' if unit else ''}: {count(n_events, 'event')} by then "
                f"and {count(n_beyond, 'patient')} followed beyond it; expected at least one of "
                "each. Correct horizons in the cohort file, or leave them out."
            )
    return tuple(horizons)
