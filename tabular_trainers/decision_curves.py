"""Net benefit of treating those above a threshold of the predicted risk: decision curves."""

import numpy as np
import pandas as pd

from tabular_trainers.bootstrap import bootstrap_method, interval
from tabular_trainers.censoring import product_limit
from tabular_trainers.errors import DataError
from tabular_trainers.held_out import (
    by_model,
    draw_resamples,
    one_repeat,
    survival_of_repeat,
    weight_table,
)
from tabular_trainers.kernels import compile_kernel
from tabular_trainers.left_truncation import at_landmark, at_risk_at
from tabular_trainers.outcome import finite_vector, label_array, survival_arrays, weight_rows
from tabular_trainers.schema import empty

MOST_THRESHOLDS = 50


def net_benefit(y, probability, horizon=None, thresholds=(0.1,), weights=None, landmark=None):
    """Net benefit of treating the patients whose predicted risk is at or above a threshold.

    True positives minus false positives times threshold / (1 - threshold), over all patients.
    Survival: positives are those with the event by the horizon; their share among the treated is
    one minus the Kaplan-Meier estimate of the treated alone, so censoring has to be independent
    among the treated only. Where follow-up of the treated ends before the horizon its last value is
    carried on. Treating nobody has net benefit 0; treating all is a probability of 1 for everybody.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Survival (structured ``event``, ``time``; with ``entry`` a landmark is required) or labels 0
        and 1.
    probability : array-like of shape (n_patients,)
        Predicted probability of the event by the horizon (1 - survival), or of class 1. With a
        landmark: given survival to it, 1 - S(horizon) / S(landmark).
    horizon : float, default=None
        In the unit of the endpoint; classification takes none.
    thresholds : sequence of float, default=(0.1,)
        Increasing, above 0 and below 1.
    weights : array-like of shape (n_patients,) or (n_replicates, n_patients), default=None
    landmark : float, default=None
        Count the patients at risk then, with the clock restarted: the way to an answer with entry
        times. The horizon stays on the original clock.

    Returns
    -------
    ndarray of shape (n_thresholds,) or (n_replicates, n_thresholds)

    Raises
    ------
    DataError
        If ``y`` has entry times and no landmark is given, the landmark is not before the horizon,
        or a threshold or probability is out of range.

    References
    ----------
    Vickers & Elkin, Medical Decision Making 2006;26:565. Vickers, Cronin, Elkin & Gonen, BMC
    Medical Informatics and Decision Making 2008;8:53 (censoring).
    """
    rows, one = weight_rows(weights, len(y))
    probability = finite_vector(probability, len(y), "probability")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise DataError("probability: expected values between 0 and 1.")
    thresholds = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if not ((thresholds > 0) & (thresholds < 1)).all() or not (np.diff(thresholds) > 0).all():
        raise DataError("thresholds: expected increasing values above 0 and below 1.")
    if np.asarray(y).dtype.names is not None:
        if landmark is not None and horizon is not None:
            if landmark >= horizon:
                raise DataError(
                    f"horizon {horizon:g}: expected one after the landmark, {landmark:g}."
                )
            horizon = horizon - landmark
        at_risk, y = at_landmark(y, landmark)
        probability, rows = probability[at_risk], np.ascontiguousarray(rows[:, at_risk])
    time, event = _follow_up(y, horizon)
    found = _net_benefits(time, event, probability, thresholds, rows, horizon)
    return found[0] if one else found


def _follow_up(y, horizon):
    """Time and event; a label is an event at 0, and its absence is seen by then."""
    if np.asarray(y).dtype.names is None:
        positive = label_array(y)
        return np.where(positive, 0.0, 1.0), positive
    if horizon is None:
        raise DataError("horizon: expected a time; net benefit of survival is at a horizon.")
    time, event, _ = survival_arrays(y)
    return time, event


def _net_benefits(time, event, probability, thresholds, weights, horizon):
    order = np.argsort(time, kind="stable")
    # how many thresholds treat a patient: those up to the predicted risk
    reached = np.searchsorted(thresholds, probability[order], side="right").astype(np.int64)
    treated, dead = _treated(
        time[order],
        event[order],
        reached,
        np.ascontiguousarray(weights[:, order]),
        len(thresholds),
        0.0 if horizon is None else float(horizon),
    )
    share = treated / weights.sum(axis=1, keepdims=True)
    return share * (dead - (1.0 - dead) * thresholds / (1.0 - thresholds))


@compile_kernel(
    "Tuple((float64[:,::1], float64[:,::1]))(float64[::1], boolean[::1], int64[::1],"
    " float64[:,::1], int64, float64)"
)
def _treated(time, event, reached, weights, n_thresholds, horizon):
    """Weigh the treated at each threshold and estimate their risk by Kaplan-Meier.

    Patients come by rising time. All thresholds are followed at once: those that treat a patient
    are the first ``reached`` ones.
    """
    n_replicates, n = weights.shape
    treated = np.zeros((n_replicates, n_thresholds))
    dead = np.zeros((n_replicates, n_thresholds))
    joined = np.zeros(n_thresholds + 1)
    at_risk = np.zeros(n_thresholds)
    alive = np.zeros(n_thresholds)
    events = np.zeros(n_thresholds)
    for r in range(n_replicates):
        w = weights[r]
        joined[:] = 0.0
        for k in range(n):
            joined[reached[k]] += w[k]
        total = 0.0
        for t in range(n_thresholds - 1, -1, -1):
            total += joined[t + 1]
            treated[r, t] = total
            at_risk[t] = total
            alive[t] = 1.0
        k = 0
        while k < n and time[k] <= horizon:
            now = time[k]
            start = k
            furthest = 0
            while k < n and time[k] == now:
                if event[k] and w[k] > 0.0:
                    for t in range(reached[k]):
                        events[t] += w[k]
                    furthest = max(furthest, reached[k])
                k += 1
            for t in range(furthest):
                # sums of weights that are not integers can miss each other by rounding
                alive[t] *= max(0.0, 1.0 - events[t] / at_risk[t])
                events[t] = 0.0
            for i in range(start, k):
                for t in range(reached[i]):
                    at_risk[t] -= w[i]
        for t in range(n_thresholds):
            dead[r, t] = 1.0 - alive[t]
    return treated, dead


def decision_curve(
    kind,
    y,
    patient_id,
    folds,
    predictions,
    survival=None,
    *,
    site=None,
    horizons=(),
    n_resamples=500,
    seed=0,
    landmark=None,
):
    """Net benefit of every feature set and model over thresholds, with bootstrap intervals.

    Probabilities of different folds are comparable, so all patients are taken together. The
    resamples are those of `score`. With repeated folds the net benefit is the mean over repeats.
    With entry times it is of the patients at risk at the landmark, at the horizons after it.

    Parameters
    ----------
    kind : str
        ``survival`` or ``classification``.
    y, patient_id, folds, predictions, survival, site, horizons, n_resamples, seed, landmark
        As in `score`; with a landmark ``survival`` is predicted at it too.

    Returns
    -------
    DataFrame
        Schema ``decision_curve``; empty with entry times and no landmark, or without predicted
        survival.
    """
    columns = list(empty("decision_curve").columns)
    if kind == "survival":
        late = "entry" in y.dtype.names
        if survival is None or (late and landmark is None):
            return empty("decision_curve")
        horizons = [at for at in horizons if landmark is None or at > landmark]
        if not horizons or (landmark is not None and not at_risk_at(y, landmark).any()):
            return empty("decision_curve")
    patients = pd.Index(patient_id).astype(str)
    resamples = draw_resamples(patients, folds, site, n_resamples, seed)
    method = bootstrap_method(n_resamples, site)
    if landmark is not None:
        n_at_risk = int(at_risk_at(y, landmark).sum())
        method += f"; {n_at_risk} of {len(y)} patients at risk at landmark {landmark:g}"
    table = predictions
    if kind == "survival":
        wanted = list(horizons) + ([] if landmark is None else [landmark])
        table = survival[survival["time"].isin(wanted)]
    found = by_model(table, patients)
    risks = {key: list(_risks(kind, part, landmark)) for key, part in found.items()}
    rows = []
    for k, at in enumerate(horizons if kind == "survival" else (None,)):
        highest = max(risk[:, k].max() for parts in risks.values() for _, risk in parts)
        thresholds = default_thresholds(highest)
        for key, parts in risks.items():
            draws, everybody = [], []
            for position, risk in parts:
                weights, own = weight_table(resamples, position), y[position]
                draws.append(net_benefit(own, risk[:, k], at, thresholds, weights, landmark))
                everybody.append(_treat_all(own, at, thresholds, weights[:1], landmark)[0])
            mean, treat_all = np.mean(draws, axis=0), np.mean(everybody, axis=0)
            for t, threshold in enumerate(thresholds):
                _, lower, upper = interval(mean[1:, t])
                one = (mean[0, t], lower, upper, treat_all[t], method)
                rows.append((*key, at, threshold, *one))
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype(dict.fromkeys(columns[2:-1], "float64"))


def default_thresholds(highest):
    """Choose thresholds: 1%, 2%, ... up to the highest predicted risk, in even steps of at most 50.

    Examples
    --------
    >>> default_thresholds(0.045)
    array([0.01, 0.02, 0.03, 0.04])
    >>> len(default_thresholds(0.95)), float(default_thresholds(0.95)[-1])
    (47, 0.94)
    """
    last = min(int(np.floor(highest * 100 + 1e-9)), 99)
    step = -(-max(last, 1) // MOST_THRESHOLDS)
    return np.arange(step, max(last, step) + 1, step) / 100


def _risks(kind, part, landmark):
    """Yield the patients of each repeat and their probabilities at the horizons, a column each."""
    for repeat in np.unique(part["repeat"]):
        if kind == "classification":
            own = one_repeat(part, repeat)
            yield own["position"], own["risk"][:, None]
            continue
        position = np.unique(part["position"][part["repeat"] == repeat])
        times, survival = survival_of_repeat(part, repeat, position)
        if landmark is not None:
            if times[0] != landmark:
                raise DataError(f"survival: no prediction at the landmark, {landmark:g}.")
            # where a model leaves no survival at the landmark, it leaves none afterwards
            start, later = survival[:, :1], survival[:, 1:]
            survival = np.divide(later, start, out=np.zeros_like(later), where=start > 0)
            survival = survival.clip(0.0, 1.0)
        yield position, 1.0 - survival


def _treat_all(y, horizon, thresholds, weights, landmark):
    if horizon is None:
        risk = (weights @ label_array(y) / weights.sum(axis=1))[:, None]
    else:
        at_risk, y = at_landmark(y, landmark)
        weights = np.ascontiguousarray(weights[:, at_risk])
        horizon = horizon if landmark is None else horizon - landmark
        risk = 1.0 - product_limit(y, [horizon], weights, reverse=False)[1]
    return risk - (1.0 - risk) * thresholds / (1.0 - thresholds)
