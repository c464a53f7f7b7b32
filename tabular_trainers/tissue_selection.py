"""Choose a few clusters beside the clinical columns in each training part; judge on the others."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from tabular_trainers.models.cox import CoxRegression
from tabular_trainers.models.linear import RidgeLogistic
from tabular_trainers.schema import empty
from tabular_trainers.tissue_inference import Likelihood, clinical_matrix, pseudo_inverse
from tabular_trainers.tissue_patients import MIN_WITH
from tabular_trainers.tissue_scores import (
    CLINICAL_MODEL,
    N_PENALTIES,
    N_RIDGE,
    NO_CLINICAL,
    fold_parts,
    matched_names,
    predicted,
    score_rows,
    score_table,
)

MOST = 5
STOP = 0.05  # p value of the best cluster, times the clusters tried, at which nothing is added
TOO_LITTLE = 1e-8  # information left of a column beside the others, as a share of its own


class Selection(NamedTuple):
    """Which clusters were chosen, how often, and what they add for held-out patients.

    Attributes
    ----------
    steps : DataFrame
        Schema ``tissue_steps``: a row for each cluster chosen in a training part.
    frequency : DataFrame
        Schema ``tissue_selection``: a row for each reference cluster chosen at least once.
    scores : DataFrame
        Schema ``tissue_scores``: C of clinical, and of clinical with the clusters chosen.
    """

    steps: pd.DataFrame
    frequency: pd.DataFrame
    scores: pd.DataFrame


def forward_selection(
    fold_prevalences,
    patients,
    folds,
    *,
    names=None,
    matches=None,
    most=MOST,
    n_resamples=500,
    seed=0,
):
    """Add up to five clusters to the clinical columns, one by one, inside each training part.

    The model is Cox regression stratified by site (classification: logistic, an intercept a site);
    clinical columns have a ridge penalty that inner folds of the training part choose, clusters
    none. At each step the cluster with the largest score statistic is added; nothing more is added
    where its p value, times the number of clusters tried (Bonferroni), is 0.05 or more. So where no
    cluster matters, about 5% of training parts choose one. Clusters with fewer than 10 training
    patients are not tried. Clusters are those of the training part itself; held-out patients are
    looked at only to measure C of what was chosen.

    Parameters
    ----------
    fold_prevalences : mapping of (repeat, fold) to DataFrame
        Prevalences of all patients by the centres of that fold's training part.
    patients : Patients
    folds : DataFrame
        Schema ``folds``.
    names : dict of str to str, optional
        Names of the reference clusters.
    matches : DataFrame, optional
        repeat, fold, cluster, matched, quality: which reference cluster a fold's cluster is; used
        for names only. Default: clusters are called as in the reference.
    most : int, default=5
    n_resamples : int, default=500
        Of the AUROC; C has the infinitesimal jackknife.
    seed : int, default=0

    Returns
    -------
    Selection

    References
    ----------
    Rao, Proceedings of the Cambridge Philosophical Society 1948;44:50 (score test).
    See `score_statistics` for its form beside a penalty.
    """
    baseline = NO_CLINICAL if patients.clinical is None else CLINICAL_MODEL
    chosen = "selected clusters" if patients.clinical is None else "clinical + selected clusters"
    steps, predictions = [], []
    for key, table, train, test in fold_parts(fold_prevalences, patients, folds):
        matched = matched_names(matches, key, table.columns)
        found, risks = _select(table.to_numpy(), patients, train, test, most, seed)
        for number, step in enumerate(found, 1):
            cluster = table.columns[step.cluster]
            name = (names or {}).get(matched[cluster]) or None
            steps.append((*key, number, cluster, matched[cluster], name, *step[1:]))
        predictions += [
            predicted(patients, test, key, *one)
            for one in zip((baseline, chosen), risks, strict=True)
        ]
    predictions = pd.concat(predictions, ignore_index=True)
    rows = score_rows("forward selection", predictions, patients, folds, n_resamples, seed)
    steps = pd.DataFrame(steps, columns=list(empty("tissue_steps").columns))
    n_folds = len(folds[["repeat", "fold"]].drop_duplicates())
    return Selection(steps, _frequency(steps, n_folds), score_table(rows))


class _Step(NamedTuple):
    cluster: int
    ratio: float
    statistic: float
    p_value: float
    n_tried: int


def _select(values, patients, train, test, most, seed):
    """Choose clusters on the training part: the steps, and two risks of the test part."""
    own = patients.take(train)
    likelihood = Likelihood(own)
    clinical, preprocess = clinical_matrix(own)
    clinical_test = np.zeros((len(test), 0))
    if preprocess is not None:
        clinical_test = clinical_matrix(patients.take(test), preprocess)[0]
    learned = values[train]
    centre, spread = learned.mean(axis=0), learned.std(axis=0, ddof=1)
    usable = ((learned > 0).sum(axis=0) >= MIN_WITH) & (spread > 1e-12)
    columns = np.flatnonzero(usable)
    scaled = (learned[:, columns] - centre[columns]) / spread[columns]
    n_fixed = likelihood.intercepts.shape[1]
    ridge = np.zeros(n_fixed + clinical.shape[1])
    ridge[n_fixed:] = _clinical_ridge(clinical, own, seed)
    X = np.hstack([likelihood.intercepts, clinical])
    fitted = likelihood.fit(X, ridge=ridge)
    baseline = clinical_test @ fitted.coef[n_fixed:]
    steps, taken = [], []
    while len(taken) < most and len(columns) > len(taken):
        statistic = score_statistics(fitted.local, X, scaled)
        statistic[taken] = 0.0
        best, n_tried = int(np.argmax(statistic)), len(columns) - len(taken)
        p_value = _chi_squared_tail(statistic[best])
        if not p_value * n_tried < STOP:
            break
        taken.append(best)
        X, ridge = np.column_stack([X, scaled[:, best]]), np.append(ridge, 0.0)
        fitted = likelihood.fit(X, np.append(fitted.coef, 0.0), ridge)
        steps.append((int(columns[best]), float(statistic[best]), p_value, n_tried))
    coef = fitted.coef[n_fixed:]
    p = clinical.shape[1]
    steps = [
        _Step(cluster, float(np.exp(b)), *rest)
        for (cluster, *rest), b in zip(steps, coef[p:], strict=True)
    ]
    at = columns[taken]
    scaled_test = (values[test][:, at] - centre[at]) / spread[at]
    return steps, (baseline, clinical_test @ coef[:p] + scaled_test @ coef[p:])


def score_statistics(local, X, candidates):
    """Score statistic of each column, were it added to a model; chi-squared of freedom 1.

    The score of a column is taken beside those of the model's own columns, which are not 0 where
    these have a penalty: a column that is like them would stand for what the penalty holds back.

    Parameters
    ----------
    local : LocalLikelihood
        Around the model.
    X : ndarray of shape (n, p)
        Columns of the model.
    candidates : ndarray of shape (n, k)

    Returns
    -------
    ndarray of shape (k,)
        0 for a column that says nothing beyond those of the model.

    References
    ----------
    Neyman, in Probability and Statistics, the Harald Cramer volume, 1959 (C(alpha) test; without a
    penalty it is Rao's).
    """
    p, residual = X.shape[1], local.residual()
    hessian = local.hessian(np.ascontiguousarray(np.hstack([X, candidates])))
    own, cross = np.diag(hessian)[p:], hessian[:p, p:]
    weights = pseudo_inverse(hessian[:p, :p]) @ cross
    left = own - np.einsum("pk,pk->k", cross, weights)
    gradient = candidates.T @ residual - weights.T @ (X.T @ residual)
    known = left > TOO_LITTLE * np.maximum(own, 1e-300)
    return np.divide(gradient**2, left, out=np.zeros(len(own)), where=known)


def _clinical_ridge(clinical, patients, seed):
    """Choose the ridge penalty of the clinical columns, on the scale of the log likelihood."""
    if clinical.shape[1] == 0:
        return np.zeros(0)
    if patients.task == "survival":
        model = CoxRegression(
            l1_ratio=0.0, ties="efron", n_penalties=N_PENALTIES, random_state=seed
        )
        return model.fit(clinical, patients.y, groups=patients.site).penalty_ * len(clinical)
    model = RidgeLogistic(n_penalties=N_RIDGE, random_state=seed).fit(
        clinical, patients.y, groups=patients.site
    )
    return 1.0 / model.chosen_parameters_["C"]


def _chi_squared_tail(statistic):
    from scipy.special import erfc

    return float(erfc(np.sqrt(max(statistic, 0.0) / 2)))


def _frequency(steps, n_folds):
    """Count in how many training parts each reference cluster was chosen."""
    rows = [
        (matched, own["name"].iloc[0], own[["repeat", "fold"]].drop_duplicates().shape[0], n_folds)
        + (float(own["ratio"].median()), float(own["step"].mean()))
        for matched, own in steps.groupby("matched", sort=True)
    ]
    rows.sort(key=lambda row: (-row[2], row[5], row[0]))
    return pd.DataFrame(rows, columns=list(empty("tissue_selection").columns))
