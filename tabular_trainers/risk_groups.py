"""Group patients by predicted risk: survival of thirds, log-rank test, calibration in groups."""

import numpy as np
import pandas as pd

from tabular_trainers.censoring import (
    Z95,
    inverse_weights,
    kaplan_meier,
    survival_with_limits,
)
from tabular_trainers.errors import DataError
from tabular_trainers.left_truncation import curve_start
from tabular_trainers.outcome import carries_curve, label_array, strata_codes, survival_arrays
from tabular_trainers.prediction_error import survival_from_entry
from tabular_trainers.schema import empty

THIRDS = ("low", "middle", "high")
FIFTHS, FEW = 5, 3


def kaplan_meier_curves(kind, y, patient_id, folds, predictions):
    """Survival of all patients, follow-up, and survival of risk thirds of each feature set x model.

    With entry times a curve starts where enough patients are at risk (`curve_start`) and gives the
    survival of those alive and under observation then; the thirds of one model start together, at
    the latest of their starts, so that they can be compared.

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
    start = curve_start(y)
    known = folds.loc[folds["part"] == "test", "patient_id"]
    predictions = predictions[predictions["patient_id"].isin(known)]
    curves = [
        _named(kaplan_meier(y, reverse=reverse, start=start), name, None, None, "all")
        for name, reverse in (("overall", False), ("reverse", True))
    ]
    patients = pd.Index(patient_id).astype(str)
    for (feature_set, model), rows in _first_repeat(predictions):
        at = patients.get_indexer(rows["patient_id"])
        group = risk_thirds(rows["risk"].to_numpy(), rows["fold"].to_numpy())
        members = {name: at[group == name] for name in THIRDS}
        start = max(curve_start(y[inside]) for inside in members.values() if len(inside))
        for name, inside in members.items():
            if (y["time"][inside] > start).any():
                curve = kaplan_meier(y[inside], start=start)
                curves.append(_named(curve, "thirds", feature_set, model, name))
    columns = list(empty("kaplan_meier").columns)
    return pd.concat(curves, ignore_index=True)[columns]


def calibration(kind, y, patient_id, predictions, survival, horizons):
    """Compare predicted with observed risk in fifths of the predicted risk, or in thirds.

    Thirds are used where fewer than 50 patients have the event by the horizon (classification: are
    in the rarer class). Probabilities of different folds are comparable, so groups are those of all
    patients together, at each horizon. Equal predictions stay in one group; there can be fewer.
    With entry times a prediction is the risk from the patient's entry to the horizon, of those who
    entered before it.

    Parameters
    ----------
    kind : str
        ``survival`` or ``classification``.
    y : ndarray of shape (n_patients,)
    patient_id : array-like of shape (n_patients,)
    predictions, survival : DataFrame
        ``survival`` is None for classification. Of repeated folds the first repeat is used. With
        entry times ``predictions`` has ``survival_at_entry``.
    horizons : sequence of float

    Returns
    -------
    DataFrame
        Schema ``calibration``. Observed risk is 1 - Kaplan-Meier with its log-log interval, missing
        where a group is not followed up to the horizon; classification: share positive with its
        Wilson interval. With entry times: the share with the event, weighted for censoring from
        entry on (`inverse_weights` of all patients), with Wilson's interval for as many patients as
        would give an unweighted share the same variance.

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
        at_entry = None if survival_arrays(y)[2] is None else _entry_survival(predictions)
        for key, part in _first_repeat(wanted):
            for horizon in horizons:
                here = part[part["time"] == horizon]
                at = patients.get_indexer(here["patient_id"])
                alive = here["survival"].to_numpy()
                if at_entry is None:
                    found = _observed_in_groups(y[at], alive, horizon)
                else:
                    start = at_entry[key].reindex(here["patient_id"]).to_numpy()
                    found = _observed_from_entry(y[at], alive, horizon, start)
                rows += [(*key, float(horizon), *group) for group in found]
    frame = pd.DataFrame(rows, columns=list(empty("calibration").columns))
    numbers = ["horizon", "predicted", "observed", "lower", "upper"]
    return frame.astype(dict.fromkeys(numbers, "float64"))


def _observed_in_groups(y, survival, horizon):
    """Yield group, number, mean predicted risk, observed risk and its interval of each group."""
    risk = 1.0 - survival
    for group, inside in _groups(risk, carries_curve(y, horizon)):
        alive, lower, upper = survival_with_limits(y[inside], horizon)
        yield group, int(inside.sum()), risk[inside].mean(), 1.0 - alive, 1.0 - upper, 1.0 - lower


def _observed_from_entry(y, survival, horizon, at_entry):
    """Do the same from entry on, for the patients who entered before the horizon."""
    given = survival_from_entry(y, survival[:, None], [horizon], at_entry)[:, 0]
    time, event, entry = survival_arrays(y)
    weight = inverse_weights(y, []).at_event[0] * (event & (time <= horizon))
    came = entry < horizon
    risk, weight = 1.0 - given[came], weight[came]
    for group, inside in _groups(risk, carries_curve(y, horizon)):
        n, share = int(inside.sum()), min(weight[inside].mean(), 1.0)
        spread = weight[inside].var() / n
        # as many patients as would give an unweighted share this variance
        worth = share * (1.0 - share) / spread if 0.0 < share < 1.0 and spread > 0 else n
        yield group, n, risk[inside].mean(), *_wilson(share * worth, worth)


def _entry_survival(predictions):
    """Index the predicted survival at entry by patient, for each feature set and model."""
    return {
        key: rows.set_index("patient_id")["survival_at_entry"]
        for key, rows in _first_repeat(predictions)
    }


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
