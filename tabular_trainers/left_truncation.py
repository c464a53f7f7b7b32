"""Late entry (left truncation): landmarks, where curves start, and whether entry and event depend.

A patient is under observation, and at risk, after its entry until its time: entry < t <= time.
"""

import math
from typing import NamedTuple

import numpy as np

from tabular_trainers.concordance import pair_sums, time_order
from tabular_trainers.errors import DataError, count
from tabular_trainers.outcome import survival_arrays

MIN_AT_RISK = 10  # below it one event moves a curve by more than a tenth


def at_risk_at(y, landmark):
    """Whether each patient is under observation at a time: entry <= landmark < time."""
    time, _, entry = survival_arrays(y)
    return (time > landmark) & (True if entry is None else entry <= landmark)


def at_landmark(y, landmark=None):
    """Take the patients at risk at a landmark and restart their clock there.

    For measures that have no version with entry times: among patients who are alive and under
    observation at the landmark there is no left truncation.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Structured array with ``event``, ``time`` and, for left-truncated follow-up, ``entry``.
    landmark : float, default=None
        In the unit of the endpoint. ``None`` takes everybody from time zero on.

    Returns
    -------
    at_risk : ndarray of bool, shape (n_patients,)
        Under observation at the landmark: entry <= landmark < time.
    y : ndarray of shape (n_at_risk,)
        Fields ``event`` and ``time`` of these patients; time since the landmark, no entry.

    Raises
    ------
    DataError
        If ``y`` has entry times and no landmark is given, or nobody is at risk at it.

    References
    ----------
    van Houwelingen, Scandinavian Journal of Statistics 2007;34:70.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([(True, 2.0, 0.0), (True, 5.0, 1.0), (False, 7.0, 4.0)],
    ...              dtype=[("event", bool), ("time", float), ("entry", float)])
    >>> at_risk, restarted = at_landmark(y, 3)
    >>> at_risk.tolist(), restarted.tolist()
    ([False, True, False], [(True, 2.0)])
    """
    time, event, entry = survival_arrays(y)
    if landmark is None:
        if entry is not None:
            raise DataError(
                "y has entry times (left truncation), which this measure cannot take. Give a "
                "landmark: patients at risk then are measured, with the clock restarted there."
            )
        at_risk, start = np.ones(len(time), dtype=bool), 0.0
    else:
        at_risk, start = at_risk_at(y, landmark), float(landmark)
    if not at_risk.any():
        raise DataError(
            f"landmark {start:g}: none of {count(len(time), 'patient')} is at risk then; expected "
            "at least one. Give another landmark."
        )
    restarted = np.empty(int(at_risk.sum()), dtype=[("event", bool), ("time", np.float64)])
    restarted["event"], restarted["time"] = event[at_risk], time[at_risk] - start
    return at_risk, restarted


def curve_start(y):
    """Return the time from which enough patients are at risk for a curve to start there.

    The earliest time from which at least 10 patients are under observation without interruption
    until their number is at its largest. Where there are never 10, when it is at its largest.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)

    Returns
    -------
    float
        In the unit of the endpoint; 0.0 without entry times.
    """
    time, _, entry = survival_arrays(y)
    if entry is None:
        return 0.0
    # between two of these moments nobody comes or goes
    moments = np.unique(np.concatenate([entry, time]))
    came = np.searchsorted(np.sort(entry), moments, side="right")
    left = np.searchsorted(np.sort(time), moments, side="right")
    at_risk = came - left
    peak = int(at_risk.argmax())
    few = np.flatnonzero(at_risk[:peak] < min(MIN_AT_RISK, at_risk[peak]))
    return max(float(moments[few[-1] + 1 if len(few) else 0]), 0.0)


class EntryDependence(NamedTuple):
    """Whether who enters later also has the event later, beyond what late entry selects.

    Attributes
    ----------
    tau : float
        Conditional Kendall's tau, -1 to 1; NaN where no pair is comparable.
    standard_error : float
        Under independence.
    p_value : float
        Two-sided, of independence.
    n_pairs : int
        Comparable pairs.
    """

    tau: float
    standard_error: float
    p_value: float
    n_pairs: int


def entry_dependence(y):
    """Test whether time of entry and time of the event are independent where both can be seen.

    Every estimate that adjusts for late entry by risk sets assumes it. Conditional Kendall's tau
    compares the patients of a pair who were under observation together and of whom it is known who
    had the event first: the share of such pairs in which the one who entered earlier had the event
    earlier, minus the share of the contrary; equal entries count as neither. Two events at the same
    time are not compared. Censoring may depend on entry, as it does when a study ends on one day.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Structured array with ``event``, ``time`` and ``entry``.

    Returns
    -------
    EntryDependence
        Under independence whoever has the event is a random draw from those at risk, which gives
        the variance of the sum over event times.

    Raises
    ------
    DataError
        If ``y`` has no entry times.

    References
    ----------
    Tsai, Biometrika 1990;77:169 (test). Martin & Betensky, JASA 2005;100:484 (conditional tau).
    """
    time, event, entry = survival_arrays(y)
    if entry is None:
        raise DataError("y has no entry times; there is nothing to test.")
    # who enters later is said to be the better off, so that concordant is: entered and left earlier
    ones = np.ones((1, len(time)))
    concordant, comparable, _, _ = pair_sums(time_order(y), -entry, ones, ones)[:, 0, 0]
    if comparable == 0:
        return EntryDependence(math.nan, math.nan, math.nan, 0)
    tau = float(2.0 * concordant / comparable - 1.0)
    spread = math.sqrt(_rank_variance(time, event, entry)) / comparable
    p_value = math.erfc(abs(tau) / spread / math.sqrt(2.0)) if spread > 0 else math.nan
    return EntryDependence(tau, float(spread), p_value, int(comparable))


def _rank_variance(time, event, entry):
    """Sum over event times of the variance of (entered later - entered earlier) of who has it.

    In a risk set of n patients whose entries are tied in groups of m, that number has the mean 0
    and the mean square (n^3 - sum of m^3) / 3n; d events at once are drawn without replacement.
    """
    groups, codes = np.unique(entry, return_inverse=True)
    entering, leaving = np.argsort(entry, kind="stable"), np.argsort(time, kind="stable")
    present = [0] * len(groups)
    total = 0.0
    n = cubes = came = gone = 0
    entry_list, time_list = entry[entering].tolist(), time[leaving].tolist()
    code_in, code_out = codes[entering].tolist(), codes[leaving].tolist()
    moments, counts = np.unique(time[event], return_counts=True)
    for now, d in zip(moments.tolist(), counts.tolist(), strict=True):
        while came < len(entry_list) and entry_list[came] < now:
            m = present[code_in[came]]
            cubes += 3 * m * m + 3 * m + 1  # (m + 1)^3 - m^3
            present[code_in[came]] = m + 1
            n, came = n + 1, came + 1
        while time_list[gone] < now:
            m = present[code_out[gone]]
            cubes -= 3 * m * m - 3 * m + 1  # m^3 - (m - 1)^3
            present[code_out[gone]] = m - 1
            n, gone = n - 1, gone + 1
        if n > 1:
            total += d * (n - d) / (n - 1) * (n**3 - cubes) / (3 * n)
    return total
