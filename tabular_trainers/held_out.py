"""Arrange the held-out predictions of a run as plain arrays, and draw its resamples."""

import numpy as np
import pandas as pd

from tabular_trainers.bootstrap import bootstrap_weights
from tabular_trainers.errors import DataError, count


def draw_resamples(patients, folds, site, n_resamples, seed):
    """Draw resamples within the test folds of a patient's first repeat, (n_resamples, n)."""
    test = folds[folds["part"] == "test"].sort_values(["repeat", "fold"], kind="stable")
    first = test.drop_duplicates("patient_id").set_index("patient_id")
    strata = first["repeat"] * (int(folds["fold"].max()) + 1) + first["fold"]
    # patients in no test fold are measured nowhere; they get a stratum so that all have a draw
    strata = strata.reindex(patients).fillna(-1).to_numpy()
    return bootstrap_weights(strata, site, n_resamples, seed)


def weight_table(resamples, at):
    """Weigh the patients at these positions: everyone once in row 0, then the resamples."""
    return np.ascontiguousarray(np.vstack([np.ones(len(at)), resamples[:, at]]), dtype=np.float64)


def by_model(table, patients):
    """Split a table of predictions into plain arrays a feature set and model, in order of rows."""
    columns = {name: table[name].to_numpy() for name in ("repeat", "fold")}
    position = patients.get_indexer(table["patient_id"])
    if (position < 0).any():
        raise DataError(
            f"predictions: {count(int((position < 0).sum()), 'row')} of patients that are not in "
            "patient_id; expected none."
        )
    columns["position"] = position
    for name in ("risk", "survival_at_entry", "time", "survival"):
        if name in table.columns:
            columns[name] = table[name].to_numpy(dtype=np.float64)
    sets, set_names = pd.factorize(table["feature_set"], sort=False)
    models, model_names = pd.factorize(table["model"], sort=False)
    code = sets.astype(np.int64) * len(model_names) + models
    order = np.argsort(code, kind="stable")
    edges = np.flatnonzero(np.r_[True, np.diff(code[order]) != 0, True])
    found = {}
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        at = order[start:end]
        s, m = divmod(int(code[at[0]]), len(model_names))
        found[set_names[s], model_names[m]] = {name: col[at] for name, col in columns.items()}
    return found


def one_repeat(columns, repeat):
    """Take the patients of one repeat in the order of ``patient_id``, shared by all models."""
    chosen = np.flatnonzero(columns["repeat"] == repeat)
    chosen = chosen[np.argsort(columns["position"][chosen], kind="stable")]
    return {name: column[chosen] for name, column in columns.items()}


def survival_of_repeat(curves, repeat, position):
    """Arrange one repeat's predicted survival as times and (n_patients, n_times)."""
    chosen = curves["repeat"] == repeat
    times, column = np.unique(curves["time"][chosen], return_inverse=True)
    place = np.full(max(position.max(), curves["position"].max()) + 1, -1)
    place[position] = np.arange(len(position))
    matrix = np.full((len(position), len(times)), np.nan)
    matrix[place[curves["position"][chosen]], column] = curves["survival"][chosen]
    if np.isnan(matrix).any():
        raise DataError("survival: expected every held-out patient at every time, once.")
    return times, matrix
