"""What held-out patients say: C with and without clusters, and with and without flagged ones."""

import warnings

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from tabular_trainers.errors import DataError, listing
from tabular_trainers.metrics import headline
from tabular_trainers.models.cox import CoxRegression
from tabular_trainers.models.linear import RidgeLogistic
from tabular_trainers.schema import empty
from tabular_trainers.scoring import HEADLINE
from tabular_trainers.tissue_inference import clinical_matrix
from tabular_trainers.tissue_patients import by_patient

CLINICAL_MODEL = "clinical"
NO_CLINICAL = "no predictor"
N_PENALTIES = 20  # a ridge path is smooth
LASSO = 0.05  # share of the lasso: a path of 200 clusters of 17,000 patients takes 2 s, of ridge 10
N_RIDGE = 7  # of logistic regressions, a factor of 10 apart
INNER_FOLDS = 3
MODEL = "cox or logistic"  # tables of predictions want one name; ours differ by their columns


def fold_parts(fold_prevalences, patients, folds):
    """Go over the folds: prevalences by their own centres, training and test positions.

    Parameters
    ----------
    fold_prevalences : mapping of (repeat, fold) to DataFrame
        Prevalences of all patients by the centres of that fold's training part; each is asked for
        once, so a mapping can make them when asked.
    patients : Patients
    folds : DataFrame
        Schema ``folds``.

    Yields
    ------
    key : (int, int)
    table : DataFrame
        In the order of the patients.
    train, test : ndarray of int

    Raises
    ------
    DataError
        When a fold or a patient has no prevalences.
    """
    for (repeat, fold), rows in folds.groupby(["repeat", "fold"], sort=True):
        key = int(repeat), int(fold)
        if key not in fold_prevalences:
            raise DataError(f"fold_prevalences: no table of repeat {key[0]}, fold {key[1]}.")
        table = by_patient(fold_prevalences[key], f"prevalence of repeat {key[0]}, fold {key[1]}")
        known = rows["patient_id"].isin(patients.patient_id)
        at = {
            part: np.sort(patients.patient_id.get_indexer(own["patient_id"]))
            for part, own in rows[known].groupby("part")
        }
        used = patients.patient_id[np.concatenate([at["train"], at["test"]])]
        missing = used[~used.isin(table.index)]
        if len(missing):
            raise DataError(
                f"prevalence of repeat {key[0]}, fold {key[1]}: {len(missing)} of {len(used)} "
                f"patients have none ({listing(missing)}); expected all of the fold."
            )
        yield key, table.reindex(patients.patient_id), at["train"], at["test"]


def score_rows(analysis, predictions, patients, folds, n_resamples, seed):
    """Measure C (classification: AUROC) of each model, and each one's difference from the first.

    Parameters
    ----------
    analysis : str
        What is compared, as it stands in the table.
    predictions : DataFrame
        patient_id, repeat, fold, feature_set, risk; every model for the same patients.
    patients : Patients
    folds : DataFrame
    n_resamples, seed : int
        Of the AUROC; C has the infinitesimal jackknife.

    Returns
    -------
    list of tuple
        Rows of schema ``tissue_scores``.
    """
    measured = headline(
        patients.task,
        patients.y,
        patients.patient_id,
        folds,
        predictions.assign(model=MODEL),
        patients.site,
        n_resamples,
        seed,
    )
    at = patients.patient_id.get_indexer(predictions["patient_id"].unique())
    n_events = patients.take(at).n_events
    baseline, rows = None, []
    for name, one in measured.items():
        row = (analysis, name, HEADLINE[patients.task], one.estimate, *one.interval())
        difference = (None, np.nan, np.nan, np.nan, np.nan)
        if baseline is not None:
            less = one.minus(measured[baseline])
            _, lower, upper = less.interval()
            difference = (baseline, less.estimate, lower, upper, less.p_value())
        rows.append((*row, *difference, one.method, len(at), n_events))
        baseline = baseline or name
    return rows


def score_table(rows):
    """Make the table ``tissue_scores`` of rows."""
    frame = pd.DataFrame(rows, columns=list(empty("tissue_scores").columns))
    numbers = [name for name, kind in empty("tissue_scores").dtypes.items() if kind == "float64"]
    return frame.astype(dict.fromkeys(numbers, "float64"))


def without_flagged(
    fold_prevalences, patients, folds, flagged, *, matches=None, n_resamples=500, seed=0
):
    """Measure what becomes of C when flagged clusters are left out.

    In each training part a Cox regression with a penalty, nearly ridge (classification: logistic,
    ridge), is fitted to the prevalences by the centres of that part: of all clusters, and then of
    those that are not flagged. The penalty is chosen inside it, with sites kept whole. Leaving out
    means that their patches are gone: the other prevalences are divided by their sum, because
    fractions that sum to 1 would still tell what is missing. With clinical columns both are fitted
    with these as well.

    Parameters
    ----------
    fold_prevalences : mapping of (repeat, fold) to DataFrame
        Prevalences of all patients by the centres of that fold's training part.
    patients : Patients
    folds : DataFrame
        Schema ``folds``.
    flagged : collection of str
        Clusters of the reference clustering that are flagged.
    matches : DataFrame, optional
        repeat, fold, cluster, matched: which reference cluster a fold's cluster is. Default: their
        names are those of the reference.
    n_resamples : int, default=500
    seed : int, default=0

    Returns
    -------
    DataFrame
        Schema ``tissue_scores``; no row when nothing is flagged, or every cluster is.
    """
    flagged, predictions = set(flagged), []
    if not flagged:
        return empty("tissue_scores")
    for key, table, train, test in fold_parts(fold_prevalences, patients, folds):
        matched = matched_names(matches, key, table.columns)
        kept = np.array([matched[name] not in flagged for name in table.columns])
        if not kept.any():
            return empty("tissue_scores")
        values = table.to_numpy()
        variants = {"all clusters": values, "clusters not flagged": _divided(values, kept, train)}
        clinical, fitted = clinical_matrix(patients.take(train))
        if fitted is not None:
            clinical = clinical, clinical_matrix(patients.take(test), fitted)[0]
        for name, columns in variants.items():
            parts = _standardised(columns, train, test)
            risks = {name: _penalised_risk(*parts, patients.take(train), seed)}
            if fitted is not None:
                both = [np.hstack(pair) for pair in zip(clinical, parts, strict=True)]
                risks[f"clinical + {name}"] = _penalised_risk(*both, patients.take(train), seed)
            predictions += [predicted(patients, test, key, *one) for one in risks.items()]
    predictions = pd.concat(predictions, ignore_index=True)
    rows = []
    for lead in ("", "clinical + "):
        own = predictions[predictions["feature_set"].str.startswith("clinical + ") == bool(lead)]
        if len(own):
            rows += score_rows("without flagged", own, patients, folds, n_resamples, seed)
    return score_table(rows)


def predicted(patients, test, key, name, risk):
    """Make rows of predictions of a model, a row a held-out patient."""
    return pd.DataFrame(
        {
            "patient_id": patients.patient_id[test],
            "repeat": key[0],
            "fold": key[1],
            "feature_set": name,
            "risk": risk,
        }
    )


def matched_names(matches, key, clusters):
    """Give the reference cluster of each cluster of a fold; their own names without matches."""
    if matches is None:
        return {name: name for name in clusters}
    own = matches[(matches["repeat"] == key[0]) & (matches["fold"] == key[1])]
    known = dict(zip(own["cluster"], own["matched"], strict=True))
    missing = [name for name in clusters if name not in known]
    if missing:
        raise DataError(
            f"matches: no row of repeat {key[0]}, fold {key[1]}, cluster {listing(missing)}."
        )
    return known


def _divided(values, kept, train):
    """Prevalences of some clusters as a share of their sum; of nobody's the training mean."""
    part = np.where(kept, values, 0.0)[:, kept]
    total = part.sum(axis=1, keepdims=True)
    some = total[:, 0] > 0
    out = np.divide(part, total, out=np.zeros_like(part), where=total > 0)
    learned = train[some[train]]
    out[~some] = out[learned].mean(axis=0) if len(learned) else 0.0
    return out


def _standardised(values, train, test):
    centre, spread = values[train].mean(axis=0), values[train].std(axis=0)
    varies = spread > 1e-12
    scaled = (values[:, varies] - centre[varies]) / spread[varies]
    return scaled[train], scaled[test]


def _penalised_risk(train, test, patients, seed):
    """Fit a penalised model on the training part, and give the log hazard (odds) of the test."""
    if train.shape[1] == 0:
        return np.zeros(len(test))
    if patients.task == "survival":
        model = CoxRegression(
            LASSO, n_penalties=N_PENALTIES, n_splits=INNER_FOLDS, random_state=seed
        )
    else:
        model = RidgeLogistic(n_penalties=N_RIDGE, n_splits=INNER_FOLDS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = model.fit(train, patients.y, groups=patients.site)
    return fitted.predict(test) if patients.task == "survival" else fitted.log_odds(test)
