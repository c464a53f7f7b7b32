"""Discrimination beyond Harrell's C: Uno's C, AUC at a horizon, AUROC and average precision.

Pairs are formed within strata (repeat and fold) only.
"""

import numpy as np

from tabular_trainers.censoring import inverse_weights
from tabular_trainers.concordance import no_pairs, pair_sums, time_order
from tabular_trainers.errors import DataError, count
from tabular_trainers.kernels import compile_kernel
from tabular_trainers.left_truncation import at_landmark
from tabular_trainers.outcome import (
    answer,
    finite_vector,
    label_array,
    ratio,
    strata_codes,
    survival_arrays,
    weight_rows,
)


def uno_c(y, risk, tau=None, strata=None, weights=None, landmark=None):
    """Uno's concordance up to ``tau``, weighted by the inverse square of the censoring survival.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Structured array with ``event`` and ``time``; with ``entry`` a landmark is required.
    risk : array-like of shape (n_patients,)
        Higher means worse.
    tau : float, default=None
        Pairs count when their first event is before ``tau``; ``None`` counts all. Without it, or
        with nobody followed beyond it, a few late events can carry most of the weight.
    strata : array-like of shape (n_patients,), default=None
        Pairs are formed within these groups; censoring is estimated over all patients together.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None
        Patient weights; the censoring distribution is estimated anew with them.
    landmark : float, default=None
        Measure the patients at risk then, with the clock restarted: the way to an answer with entry
        times. ``tau`` stays on the original clock.

    Returns
    -------
    float or ndarray of shape (n_replicates,)

    Raises
    ------
    DataError
        If ``y`` has entry times and no landmark is given, or no pair is comparable.

    References
    ----------
    Uno et al., Statistics in Medicine 2011;30:1105.
    """
    risk = finite_vector(risk, len(y), "risk")
    codes, _ = strata_codes(strata, len(y))
    rows, one = weight_rows(weights, len(y))
    at_risk, y = at_landmark(y, landmark)
    risk, rows = risk[at_risk], np.ascontiguousarray(rows[:, at_risk])
    tau = tau if tau is None or landmark is None else tau - landmark
    order = time_order(y, codes[at_risk])
    squares = uno_weights(y, inverse_weights(y, [], rows).at_event, tau)
    _, _, concordant, comparable = pair_sums(order, risk, rows, squares).sum(axis=2)
    if not (comparable > 0).any():
        raise DataError(no_pairs(order))
    return answer(ratio(concordant, comparable), one)


def uno_weights(y, at_event, tau):
    """Square the inverse censoring weights of events before ``tau``; all others weigh nothing."""
    time, _, _ = survival_arrays(y)
    return at_event**2 * (time < (np.inf if tau is None else tau))


def auc(y, risk, times, strata=None, weights=None, landmark=None):
    """Area under the ROC curve at horizons: events by the horizon against those beyond it.

    Cumulative cases and dynamic controls; cases are weighted by the inverse probability of not
    being censored before their event. Who is censored by the horizon is neither.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Structured array with ``event`` and ``time``; with ``entry`` a landmark is required.
    risk : array-like of shape (n_patients,)
        Higher means worse; one risk for all horizons.
    times : array-like of shape (n_times,)
        Horizons, in the unit of the endpoint.
    strata : array-like of shape (n_patients,), default=None
        Pairs are formed within these groups; censoring is estimated over all patients together.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None
    landmark : float, default=None
        Measure the patients at risk then, with the clock restarted: the way to an answer with entry
        times. Horizons stay on the original clock.

    Returns
    -------
    ndarray of shape (n_times,) or (n_replicates, n_times)
        NaN at a horizon without a case and a control in one stratum.

    Raises
    ------
    DataError
        If ``y`` has entry times and no landmark is given.

    References
    ----------
    Uno et al., JASA 2007;102:527. Hung & Chiang, Canadian Journal of Statistics 2010;38:8.
    """
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    risk = finite_vector(risk, len(y), "risk")
    codes, n_strata = strata_codes(strata, len(y))
    rows, one = weight_rows(weights, len(y))
    at_risk, y = at_landmark(y, landmark)
    risk, codes, rows = risk[at_risk], codes[at_risk], np.ascontiguousarray(rows[:, at_risk])
    times = times if landmark is None else times - landmark
    time, event, _ = survival_arrays(y)
    at_event = inverse_weights(y, [], rows).at_event
    order = RiskOrder(risk, codes, n_strata)
    found = np.empty((len(rows), len(times)))
    for position, at in enumerate(times):
        above, pairs = case_control_sums(order, event & (time <= at), time > at, rows, at_event)
        found[:, position] = ratio(above.sum(axis=1), pairs.sum(axis=1))
    return found[0] if one else found


class RiskOrder:
    """Patients sorted once by stratum and risk, for any number of replicates and horizons."""

    def __init__(self, risk, codes, n_strata):
        self.order = np.lexsort((risk, codes))
        self.risk = risk[self.order]
        self.starts = np.searchsorted(codes[self.order], np.arange(n_strata + 1)).astype(np.int64)


def case_control_sums(order, case, control, weights, case_weights):
    """Sum pairs of a case and a control, those in order and all, within each stratum.

    Parameters
    ----------
    order : RiskOrder
    case, control : ndarray of bool, shape (n_patients,)
    weights : ndarray of float64, shape (n_replicates, n_patients)
    case_weights : ndarray of float64, shape (n_replicates or 1, n_patients)
        Further weight of a patient as a case.

    Returns
    -------
    above, pairs : ndarray of shape (n_replicates, n_strata)
    """
    sums = _case_control_sums(
        order.order, order.risk, order.starts, case, control, weights, case_weights
    )
    return sums[0], sums[1]


@compile_kernel(
    "float64[:,:,::1](int64[::1], float64[::1], int64[::1], boolean[::1], boolean[::1],"
    " float64[:,::1], float64[:,::1])"
)
def _case_control_sums(order, risk, starts, case, control, weights, case_weights):
    n_replicates = weights.shape[0]
    n_strata = len(starts) - 1
    sums = np.zeros((2, n_replicates, n_strata))
    for r in range(n_replicates):
        g = r if case_weights.shape[0] > 1 else 0
        for s in range(n_strata):
            below = 0.0
            cases = 0.0
            above = 0.0
            k = starts[s]
            while k < starts[s + 1]:
                now = risk[k]
                tied_cases = 0.0
                tied_controls = 0.0
                while k < starts[s + 1] and risk[k] == now:
                    j = order[k]
                    if case[j]:
                        tied_cases += weights[r, j] * case_weights[g, j]
                    elif control[j]:
                        tied_controls += weights[r, j]
                    k += 1
                above += tied_cases * (below + 0.5 * tied_controls)
                below += tied_controls
                cases += tied_cases
            sums[0, r, s] = above
            sums[1, r, s] = cases * below
    return sums


def auroc(y, risk, strata=None, weights=None):
    """Area under the ROC curve of a class probability, pairs formed within strata.

    Parameters
    ----------
    y : array-like of shape (n_patients,)
        Labels 0 and 1.
    risk : array-like of shape (n_patients,)
        Probability of class 1, or any score that rises with it.
    strata : array-like of shape (n_patients,), default=None
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None

    Returns
    -------
    float or ndarray of shape (n_replicates,)

    Raises
    ------
    DataError
        If no stratum holds both classes.

    References
    ----------
    Hanley & McNeil, Radiology 1982;143:29.
    """
    positive = label_array(y)
    risk = finite_vector(risk, len(positive), "risk")
    codes, n_strata = strata_codes(strata, len(positive))
    rows, one = weight_rows(weights, len(positive))
    above, pairs = case_control_sums(
        RiskOrder(risk, codes, n_strata), positive, ~positive, rows, np.ones((1, len(positive)))
    )
    if not (pairs > 0).any():
        raise DataError(
            f"no pair of the two classes within {count(n_strata, 'stratum', 'strata')}: "
            f"{len(positive)} patients, {int(positive.sum())} of class 1."
        )
    return answer(ratio(above.sum(axis=1), pairs.sum(axis=1)), one)


def auprc(y, risk, strata=None, weights=None):
    """Average precision within strata, their mean weighted by the number of positives.

    Parameters
    ----------
    y : array-like of shape (n_patients,)
        Labels 0 and 1.
    risk : array-like of shape (n_patients,)
        Probability of class 1, or any score that rises with it. Equal risks are one threshold.
    strata : array-like of shape (n_patients,), default=None
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None

    Returns
    -------
    float or ndarray of shape (n_replicates,)
        NaN where nobody is positive. Chance level is the share of positives.

    References
    ----------
    Average precision as in scikit-learn: sum of precision times the rise of recall, no
    interpolation.
    """
    positive = label_array(y)
    risk = finite_vector(risk, len(positive), "risk")
    codes, n_strata = strata_codes(strata, len(positive))
    rows, one = weight_rows(weights, len(positive))
    precision, positives = precision_sums(RiskOrder(risk, codes, n_strata), positive, rows)
    return answer(ratio(precision.sum(axis=1), positives.sum(axis=1)), one)


def precision_sums(order, positive, weights):
    """Sum precision over positives within each stratum; with the positives it gives the mean.

    Returns
    -------
    precision, positives : ndarray of shape (n_replicates, n_strata)
        Their ratio is the average precision of a stratum.
    """
    sums = _precision_sums(order.order, order.risk, order.starts, positive, weights)
    return sums[0], sums[1]


@compile_kernel(
    "float64[:,:,::1](int64[::1], float64[::1], int64[::1], boolean[::1], float64[:,::1])"
)
def _precision_sums(order, risk, starts, positive, weights):
    n_replicates = weights.shape[0]
    n_strata = len(starts) - 1
    sums = np.zeros((2, n_replicates, n_strata))
    for r in range(n_replicates):
        for s in range(n_strata):
            named = 0.0
            hits = 0.0
            k = starts[s + 1] - 1
            while k >= starts[s]:
                now = risk[k]
                tied = 0.0
                while k >= starts[s] and risk[k] == now:
                    j = order[k]
                    named += weights[r, j]
                    if positive[j]:
                        tied += weights[r, j]
                    k -= 1
                hits += tied
                if tied > 0.0:
                    sums[0, r, s] += tied * hits / named
            sums[1, r, s] = hits
    return sums
