"""Score held-out predictions of every feature set and model, each measure with its interval."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError
from tabular_trainers.held_out import by_model, one_repeat, survival_of_repeat
from tabular_trainers.left_truncation import at_risk_at
from tabular_trainers.outcome import entered_by, label_array, survival_arrays
from tabular_trainers.repeat_measures import (
    Setting,
    auroc,
    classification_measures,
    fold_codes,
    harrell,
    survival_measures,
)
from tabular_trainers.uncertainty import average

HEADLINE = {"survival": "harrell_c", "classification": "auroc"}
AT_LANDMARK = ("uno_c", "auc")  # these have no version for entry times
_MOST_THREADS = 4  # each holds tables of the resamples
_COLUMNS = (
    "feature_set", "model", "metric", "horizon", "repeat", "fold", "estimate", "standard_error",
    "lower", "upper", "method", "n", "n_events",
)  # fmt: skip


def score(
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
    n_jobs=1,
):
    """Compute all measures of every feature set and model with intervals.

    Harrell's C has the infinitesimal jackknife, from the influence of every patient on it. All
    other measures have a bootstrap on the same resamples for every feature set and model, in which
    censoring weights are estimated anew and risks stay as they are. With repeated folds a measure
    is the mean over repeats of its value within a repeat, and so are a patient's influences; a
    resample draws the same patients in all repeats.

    With entry times Uno's C and AUC are of the patients at risk at the landmark, with the clock
    restarted there; without a landmark they are empty. Their method says so.

    Parameters
    ----------
    kind : str
        ``survival`` or ``classification``.
    y : ndarray of shape (n_patients,)
    patient_id : array-like of shape (n_patients,)
    folds, predictions, survival : DataFrame
        Tables of the data schemas; ``survival`` is None for classification, or for risks alone.
    site : array-like of shape (n_patients,), default=None
        With 10 sites or more whole sites are drawn, and influences are summed by site.
    horizons : sequence of float, default=()
        The largest is tau: where Uno's C and the integrated Brier score end.
    n_resamples : int, default=500
    seed : int, default=0
    landmark : float, default=None
        In the unit of the endpoint, as the horizons: on the original clock.
    n_jobs : int, default=1
        Threads; does not change any result.

    Returns
    -------
    metrics : DataFrame
        Schema ``metrics``; rows of single folds have no interval.
    headline : dict
        (feature_set, model) -> Influences of Harrell's C, or Draws of the AUROC: two of them
        subtract to a paired difference.

    Raises
    ------
    DataError
        If there is no comparable pair, or a prediction has no patient in ``patient_id``; with entry
        times, if ``survival`` is given and ``predictions`` have no ``survival_at_entry``.
    """
    patients = pd.Index(patient_id).astype(str)
    setting = Setting(kind, y, patients, folds, site, horizons, n_resamples, seed, landmark)
    curves = {} if survival is None else by_model(survival, patients)

    def of_model(item):
        (key, risks), per_repeat, fold_rows = item, [], []
        for number in np.unique(risks["repeat"]):
            part = one_repeat(risks, number)
            repeat = setting.repeat(part["position"])
            if kind == "survival":
                curve = curves.get(key)
                if curve is not None:
                    curve = survival_of_repeat(curve, number, part["position"])
                found = survival_measures(repeat, part, curve)
            else:
                found = classification_measures(repeat, part)
            per_repeat.append(found)
            fold_rows += _fold_rows(key, number, part["fold"], found, repeat.y, kind, landmark)
        overall = {
            name: average([one[name].overall for one in per_repeat]) for name in per_repeat[0]
        }
        measured = y[np.unique(risks["position"])]
        own = _overall_rows(key, overall, kind, measured, landmark) + fold_rows
        return key, own, overall[HEADLINE[kind], None]

    first, *others = by_model(predictions, patients).items()
    found = [of_model(first)]  # alone: what all models share is then there
    with ThreadPoolExecutor(min(n_jobs, _MOST_THREADS)) as pool:  # kernels hold no lock
        found += pool.map(of_model, others)
    rows = [row for _, own, _ in found for row in own]
    return _frame(rows), {key: headline for key, _, headline in found}


def headline(kind, y, patient_id, folds, predictions, site=None, n_resamples=500, seed=0):
    """Measure Harrell's C (classification: AUROC) alone, for tables of one model.

    Returns
    -------
    dict
        feature_set -> Influences of Harrell's C, or Draws of the AUROC, as `score` gives them.
    """
    patients = pd.Index(patient_id).astype(str)
    setting = Setting(kind, y, patients, folds, site, (), n_resamples, seed)
    measure = harrell if kind == "survival" else auroc
    found = {}
    for (feature_set, _), risks in by_model(predictions, patients).items():
        parts = [one_repeat(risks, number) for number in np.unique(risks["repeat"])]
        found[feature_set] = average(
            [measure(setting.repeat(part["position"]), part).overall for part in parts]
        )
    return found


def _fold_rows(key, repeat, folds, found, y, kind, landmark):
    rows = []
    codes, n_strata = fold_codes(folds)
    numbers = np.unique(folds)
    for (name, at), measure in found.items():
        if measure.folds is None:
            continue
        measured, event = _counted(y, kind, name, at, landmark)
        for s in range(n_strata):
            inside = codes == s
            row = (*key, name, at, int(repeat), int(numbers[s]), measure.folds[s])
            counts = int(measured[inside].sum()), int(event[inside].sum())
            rows.append((*row, None, None, None, None, *counts))
    return rows


def _overall_rows(key, overall, kind, y, landmark):
    rows = []
    for (name, at), measure in overall.items():
        if name in HEADLINE.values() and np.isnan(measure.estimate):
            raise DataError(
                f"{name} of {key[0]}, {key[1]}: no comparable pair within the test folds; expected "
                "an event and a patient still under observation. Use fewer folds: --folds."
            )
        measured, event = _counted(y, kind, name, at, landmark)
        counts, method = (int(measured.sum()), int(event.sum())), measure.method
        if name in AT_LANDMARK and landmark is not None and np.isfinite(measure.estimate):
            of = f"{counts[0]} of {len(y)} patients at risk at landmark {landmark:g}"
            method = f"{method}; {of}"
        rows.append((*key, name, at, None, None, measure.estimate, *measure.interval(), method))
        rows[-1] += counts
    return rows


def _counted(y, kind, name, at, landmark):
    """Mark the patients that a measure is of, and those of them with the event."""
    measured = np.ones(len(y), dtype=bool)
    if kind == "classification":
        return measured, label_array(y)
    if name in AT_LANDMARK:
        measured = measured if landmark is None else at_risk_at(y, landmark)
    elif at is not None:
        measured = entered_by(y, at)[:, 0]
    time, event, _ = survival_arrays(y)
    return measured, measured & (event if at is None else event & (time <= at))


def _frame(rows):
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    for name in ("horizon", "estimate", "standard_error", "lower", "upper"):
        frame[name] = pd.to_numeric(frame[name])
    return frame.astype({"repeat": "Int64", "fold": "Int64"})
