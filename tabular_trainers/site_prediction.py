"""How well one block of features tells the sites apart."""

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError
from tabular_trainers.evaluation_plan import fold_numbers
from tabular_trainers.uncertainty import Draws

MIN_SITE_PATIENTS = 10  # a smaller site says nothing about how well a block tells sites apart
SITE_COMPONENTS = 20


def site_auroc(plan, block, n_resamples):
    """Predict the site from one block: AUROC of each site against the rest, averaged by size.

    Parameters
    ----------
    plan : Plan
        With folds that mix the sites.
    block : str
    n_resamples : int
        Resamples of patients within folds, predictions fixed.

    Returns
    -------
    measured : Draws
        NaN where it cannot be measured.
    note : str
        How it was made, or why not.
    """
    analysis = plan.analysis
    sizes = pd.Series(analysis.site).value_counts()
    sites = sizes.index[sizes >= MIN_SITE_PATIENTS].sort_values()
    note = (
        f"logistic regression of the {len(sites)} sites with {MIN_SITE_PATIENTS} or more patients, "
        "each against the rest; near 1, the block tells hospitals apart."
    )
    measured = Draws(np.nan, np.empty(0), "")
    if len(sites) < 2:
        note = f"fewer than two sites have {MIN_SITE_PATIENTS} patients."
    else:
        predicted = _site_probabilities(plan, block, sites)
        if predicted is None:
            note = "the block has no usable column."
        else:
            measured = _mean_auroc(analysis.site, sites, *predicted, n_resamples, plan.seed)
    return measured, note


def _site_probabilities(plan, block, sites):
    """Predict the site of held-out patients: (positions, folds, (n, n_sites) probabilities)."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    from tabular_trainers.preprocess import Preprocessor

    analysis = plan.analysis
    X = analysis.X[[name for name in analysis.X.columns if name.split(".", 1)[0] == block]]
    clusters = {block: way for block, way in analysis.reduce.items() if "clusters" in way}
    parts = []
    for repeat, fold in fold_numbers(plan.folds):
        train, test = (p[np.isin(analysis.site[p], sites)] for p in plan.positions(repeat, fold))
        preprocess = Preprocessor(
            analysis.categorical, clusters, scale=True, random_state=plan.fold_seed(repeat, fold)
        )
        Z, Z_test = preprocess.fit_transform(X.iloc[train]), preprocess.transform(X.iloc[test])
        if Z.shape[1] > SITE_COMPONENTS:
            pca = PCA(SITE_COMPONENTS, svd_solver="randomized", random_state=plan.seed).fit(Z)
            Z, Z_test = pca.transform(Z), pca.transform(Z_test)
        if Z.shape[1] == 0 or len(np.unique(analysis.site[train])) < 2:
            continue
        fitted = LogisticRegression(max_iter=1000).fit(Z, analysis.site[train])
        probability = np.full((len(test), len(sites)), np.nan)  # of sites that were not in training
        probability[:, sites.get_indexer(fitted.classes_)] = fitted.predict_proba(Z_test)
        parts.append((test, np.full(len(test), fold), probability))
    if not parts:
        return None
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _mean_auroc(site, sites, at, fold, probability, n_resamples, seed):
    """Average the AUROC of each site against the rest, pairs within folds, by its patients.

    Resamples are of patients within folds; predictions stay as they are.
    """
    from tabular_trainers import metrics

    weights = metrics.bootstrap_weights(fold, None, n_resamples, seed)
    weights = np.vstack([np.ones(len(at)), weights])
    values, sizes = [], []
    for column, name in enumerate(sites):
        rows = np.isfinite(probability[:, column])
        is_site = site[at[rows]] == name
        try:
            values.append(
                metrics.auroc(is_site, probability[rows, column], fold[rows], weights[:, rows])
            )
        except DataError:  # no fold with patients of this site and of another
            continue
        sizes.append(is_site.sum())
    if not values:
        return Draws(np.nan, np.empty(0), "")
    mean = np.average(values, axis=0, weights=sizes)
    return Draws(float(mean[0]), mean[1:], metrics.bootstrap_method(n_resamples))
