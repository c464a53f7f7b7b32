"""Group patients by predicted risk: survival of thirds, log-rank test, calibration in groups."""

import numpy as np
import pandas as pd

from tabular_trainers.censoring import Z95, kaplan_meier, survival_with_limits
from tabular_trainers.errors import DataError
from tabular_trainers.outcome import carries_curve, label_array, strata_codes, survival_arrays
from tabular_trainers.schema import empty

THIRDS = ("low", "middle", "high")
FIFTHS, FEW = 5, 3


def kaplan_meier_curves(kind, y, patient_id, folds, predictions):
    """Survival of all patients, follow-up, and survival of risk thirds of each feature set x model.

    Parameters
    ----------
    kind : str
        With ``classification`` the table is empty.
    y : ndarray of shape (n_patients,)
    patient_id : array-like of shape (n_patients,)
    folds, predictions : DataFrame
        Of repeated folds the first repeat is shown, so that every patient counts once.

    Returns
    -------
    DataFrame
        Schema ``kaplan_meier``.
    """
    if kind != "survival":
        return empty("kaplan_meier")
    known = folds.loc[folds["part"] == "test", "patient_id"]
    predictions = predictions[predictions["patient_id"].isin(known)]
    curves = [
        _named(kaplan_meier(y, reverse=reverse), name, None, None, "all")
        for name, reverse in (("overall", False), ("reverse", True))
    ]
    patients = pd.Index(patient_id).astype(str)
    for (feature_set, model), rows in _first_repeat(predictions):
        at = patients.get_indexer(rows["patient_id"])
        group = risk_thirds(rows["risk"].to_numpy(), rows["fold"].to_numpy())
        for name in THIRDS:
            inside = at[group == name]
            if len(inside):
                curve = kaplan_meier(y[inside])
                curves.append(_named(curve, "thirds", feature_set, model, name))
    columns = list(empty("kaplan_meier").columns)
    return pd.concat(curves, ignore_index=True)[columns]


def calibration(kind, y, patient_id, predictions, survival, horizons):
    """Compare predicted with observed risk in fifths of the predicted risk, or in thirds.

    Thirds are used where fewer than 50 patients have the event by the horizon (classification: are
    in the rarer class). Probabilities of different folds are comparable, so groups are those of all
    patients together, at each horizon. Equal predictions stay in one group; there can be fewer.

    Parameters
    ----------
    kind : str
        ``survival`` or ``classification``.
    y : ndarray of shape (n_patients,)
    patient_id : array-like of shape (n_patients,)
    predictions, survival : DataFrame
        ``survival`` is None for classification. Of repeated folds the first repeat is used.
    horizons : sequence of float

    Returns
    -------
    DataFrame
        Schema ``calibration``. Observed risk is 1 - Kaplan-Meier with its log-log interval, missing
        where a group is not followed up to the horizon; classification: share positive with its
        Wilson interval.

    References
    ----------
    Wilson, JASA 1927;22:209.
    """
    patients = pd.Index(patient_id).astype(str)
    rows = []
    if kind == "classification":
        positive = label_array(y)
        for key, part in _first_repeat(predictions):
            at = patients.get_indexer(part["patient_id"])
            risk = part["risk"].to_numpy()
            for group, inside in _groups(risk, carries_curve(positive[at])):
                observed = _wilson(int(positive[at[inside]].sum()), int(inside.sum()))
                rows.append((*key, None, group, int(inside.sum()), risk[inside].mean(), *observed))
    elif survival is not None:
        wanted = survival[survival["time"].isin(list(horizons))]
        for key, part in _first_repeat(wanted):
            for horizon in horizons:
                here = part[part["time"] == horizon]
                at = patients.get_indexer(here["patient_id"])
                risk = 1.0 - here["survival"].to_numpy()
                for group, inside in _groups(risk, carries_curve(y[at], horizon)):
                    alive, lower, upper = survival_with_limits(y[at[inside]], horizon)
                    observed = (1.0 - alive, 1.0 - upper, 1.0 - lower)
                    mean = risk[inside].mean()
                    rows.append((*key, float(horizon), group, int(inside.sum()), mean, *observed))
    frame = pd.DataFrame(rows, columns=list(empty("calibration").columns))
    numbers = ["horizon", "predicted", "observed", "lower", "upper"]
    return frame.astype(dict.fromkeys(numbers, "float64"))


def risk_thirds(risk, strata=None):
    """Name each patient's third of risk within its test fold: low, middle or high.

    Cut at the tertiles of the fold; equal risks are in one third, so thirds of a fold can be
    uneven, and one can be empty.

    Parameters
    ----------
    risk : array-like of shape (n_patients,)
    strata : array-like of shape (n_patients,), default=None
        Test fold of each patient.

    Returns
    -------
    ndarray of str, shape (n_patients,)
    """
    risk = np.asarray(risk, dtype=np.float64)
    codes, n_strata = strata_codes(strata, len(risk))
    third = np.empty(len(risk), dtype=np.int64)
    for s in range(n_strata):
        inside = codes == s
        third[inside] = _quantile_group(risk[inside], 3)
    return np.array(THIRDS, dtype=object)[third]


def log_rank(y, group, strata=None):
    """Log-rank test of equal survival of groups, stratified.

    Descriptive where groups were made from the same outcomes' predictions.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
    group : array-like of shape (n_patients,)
    strata : array-like of shape (n_patients,), default=None
        Test fold of each patient: patients are compared within folds.

    Returns
    -------
    dict
        statistic (chi-squared), degrees_of_freedom, p_value.

    Raises
    ------
    DataError
        If there are fewer than two groups.

    References
    ----------
    Mantel, Cancer Chemotherapy Reports 1966;50:163. Peto & Peto, JRSS A 1972;135:185.
    """
    from scipy.stats import chi2

    time, event, entry = survival_arrays(y)
    entry = np.full(len(time), -np.inf) if entry is None else entry
    names, member = np.unique(np.asarray(group), return_inverse=True)
    if len(names) < 2:
        raise DataError("log-rank test: expected at least two groups of patients.")
    codes, n_strata = strata_codes(strata, len(time))
    surplus, covariance = np.zeros(len(names)), np.zeros((len(names), len(names)))
    for s in range(n_strata):
        inside = codes == s
        one = (time[inside], event[inside], entry[inside], member[inside])
        added, spread = _log_rank_sums(*one, len(names))
        surplus += added
        covariance += spread
    keep = np.diag(covariance) > 0
    freedom = max(int(keep.sum()) - 1, 1)
    inverse = np.linalg.pinv(covariance[np.ix_(keep, keep)], hermitian=True)
    statistic = float(surplus[keep] @ inverse @ surplus[keep])
    return {
        "statistic": statistic,
        "degrees_of_freedom": freedom,
        "p_value": float(chi2.sf(statistic, freedom)),
    }


def _first_repeat(table):
    """Split a table by feature set and model, in order of appearance, first repeat only."""
    table = table[table["repeat"] == table["repeat"].min()]
    return table.groupby(["feature_set", "model"], sort=False)


def _named(curve, name, feature_set, model, group):
    return curve.assign(curve=name, feature_set=feature_set, model=model, group=group)


def _quantile_group(values, n_groups):
    edges = np.quantile(values, np.arange(1, n_groups) / n_groups)
    return np.searchsorted(edges, values, side="left")


def _groups(risk, many_events):
    n_groups = FIFTHS if many_events else FEW
    group = _quantile_group(risk, n_groups)
    return [(g, group == g) for g in range(n_groups) if (group == g).any()]


def _wilson(positives, n):
    share, spread = positives / n, Z95**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * np.sqrt(share * (1 - share) / n + spread / (4 * n))
    return share, max(middle - half, 0.0), min(middle + half, 1.0)


def _log_rank_sums(time, event, entry, member, n_groups):
    """Observed minus expected events of each group, and their covariance, in one stratum."""
    surplus, covariance = np.zeros(n_groups), np.zeros((n_groups, n_groups))
    for now in np.unique(time[event]):
        exposed = (time >= now) & (entry < now)
        at_risk = np.bincount(member[exposed], minlength=n_groups)
        events = np.bincount(member[event & (time == now)], minlength=n_groups)
        n, d = at_risk.sum(), events.sum()
        share = at_risk / n
        surplus += events - d * share
        if n > 1:
            spread = d * (n - d) / (n - 1)
            covariance += spread * (np.diag(share) - np.outer(share, share))
    return surplus, covariance
