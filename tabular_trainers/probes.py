"""Checks that would show a leak or a hospital effect, with the cheapest model at its defaults.

Site alone is probed on folds that mix patients at random: on folds that keep sites apart it cannot
do better than chance, by construction.
"""

import dataclasses

import numpy as np
import pandas as pd

from tabular_trainers.evaluation import fit_fold
from tabular_trainers.evaluation_plan import fold_numbers
from tabular_trainers.folds import make_folds
from tabular_trainers.parallel import Task, map_tasks, one_thread

MIN_SITE_PATIENTS = 10  # a smaller site says nothing about how well a block tells sites apart
SITE_COMPONENTS = 20
COLUMNS = ["probe", "subject", "metric", "estimate", "lower", "upper", "expected", "note"]


def probe(evaluation, n_jobs=1, store=None, progress=None):
    """Probe an evaluation for site effects and leaks.

    Parameters
    ----------
    evaluation : Evaluation
    n_jobs : int, default 1
        Processes; does not change any result.
    store : path, optional
        Folder that keeps finished fits.
    progress : callable, optional
        Called with a key after each fit.

    Returns
    -------
    DataFrame
        Table ``probes`` of the data schemas. Without a site column only the permuted outcome.
    """
    from tabular_trainers.models import MODELS

    plan = evaluation.plan
    model = next(iter(MODELS[plan.task]))
    analysis = plan.analysis
    sets = analysis.feature_sets
    permuted = np.random.default_rng(plan.seed).permutation(len(analysis.X))
    plans = {
        "permuted": _plan(plan, model, {analysis.full: sets[analysis.full]}, y=analysis.y[permuted])
    }
    if analysis.site is not None:
        n_folds = int(plan.folds.loc[plan.folds["repeat"] == 0, "fold"].nunique())
        random = make_folds(analysis.y, analysis.patient_id, None, n_folds, 1, plan.seed)
        site = pd.DataFrame({"site.site": analysis.site}, index=analysis.X.index)
        plans["site"] = _plan(
            plan, model, {"site": ("site.site",)}, folds=random, X=site, categorical=("site.site",)
        )
        plans["random"] = _plan(plan, model, sets, folds=random)
        if not _keeps_sites(plan):
            apart = make_folds(
                analysis.y, analysis.patient_id, analysis.site, n_folds, 1, plan.seed
            )
            plans["apart"] = _plan(plan, model, sets, folds=apart)
        elif model not in plan.models:
            plans["apart"] = _plan(plan, model, sets)
    tasks = [
        Task(
            f"probe-{name}-{feature_set}-{repeat}-{fold}", (name, feature_set, model, repeat, fold)
        )
        for name, each in plans.items()
        for feature_set in each.analysis.feature_sets
        for repeat, fold in fold_numbers(each.folds)
        if repeat == 0
    ]
    results = map_tasks(_fit, tasks, plans, n_jobs, store, progress)
    predictions = {
        name: pd.concat(
            [
                r["predictions"]
                for r, t in zip(results, tasks, strict=True)
                if t.arguments[0] == name
            ],
            ignore_index=True,
        )
        for name in plans
    }
    if analysis.site is not None and "apart" not in plans:
        plans["apart"] = plan
        rows = evaluation.predictions
        predictions["apart"] = rows[(rows["model"] == model) & (rows["repeat"] == 0)]
    with one_thread():
        return _assemble(evaluation, plans, predictions, model)


def count_fits(plan):
    """Count the fits that `probe` makes, for a progress bar."""
    n_folds = int(plan.folds.loc[plan.folds["repeat"] == 0, "fold"].nunique())
    if plan.analysis.site is None:
        return n_folds
    n_sets = len(plan.analysis.feature_sets)
    return n_folds * (2 + n_sets + (0 if _keeps_sites(plan) else n_sets))


def _plan(plan, model, feature_sets, folds=None, **changes):
    analysis = dataclasses.replace(plan.analysis, feature_sets=feature_sets, **changes)
    folds = plan.folds if folds is None else folds
    return dataclasses.replace(
        plan, analysis=analysis, folds=folds, models=(model,), times=np.empty(0)
    )


def _fit(plans, name, feature_set, model, repeat, fold):
    return fit_fold(plans[name], feature_set, model, repeat, fold)


def _keeps_sites(plan):
    """Tell whether no site is in the training and the test part of any fold."""
    site = pd.Series(plan.analysis.site, index=plan.analysis.patient_id)
    for repeat, fold in fold_numbers(plan.folds):
        train, test = plan.positions(repeat, fold)
        if set(site.iloc[train]) & set(site.iloc[test]):
            return False
    return True


def _assemble(evaluation, plans, predictions, model):
    from tabular_trainers.scoring import HEADLINE

    plan = evaluation.plan
    metric = HEADLINE[plan.task]

    def measure(name):
        return _headline(plans[name], predictions[name], evaluation.n_resamples)

    rows = []
    full = plan.analysis.full
    rows.append(
        _row(
            "permuted_outcome", full, metric, measure("permuted")[full], 0.5,
            f"{model} on outcomes shuffled between patients; an interval without 0.5 points to an "
            "error in the evaluation.",
        )
    )  # fmt: skip
    if plan.analysis.site is None:
        return pd.DataFrame(rows, columns=COLUMNS)
    rows.append(
        _row(
            "site_alone", "site", metric, measure("site")["site"], 0.5,
            f"{model} on the site alone, folds mixing patients at random; above 0.5, sites differ "
            "in outcome.",
        )
    )  # fmt: skip
    random, apart = measure("random"), measure("apart")
    for feature_set in plan.analysis.feature_sets:
        rows.append(
            _row(
                "site_leak", feature_set, f"difference in {metric}",
                random[feature_set].minus(apart[feature_set]), 0.0,
                f"{model}, folds mixing patients at random minus folds keeping sites apart; above "
                "0, the features carry the site into the risk.",
            )
        )  # fmt: skip
    for block in dict.fromkeys(name.split(".", 1)[0] for name in plan.analysis.X.columns):
        estimate, note = _site_from_block(plans["random"], block)
        values = ("site_from_block", block, "auroc", estimate, np.nan, np.nan, 0.5, note)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(probe_name, subject, metric, measured, expected, note):
    _, lower, upper = measured.interval()
    values = (probe_name, subject, metric, measured.estimate, lower, upper, expected, note)
    return dict(zip(COLUMNS, values, strict=True))


def _headline(plan, predictions, n_resamples):
    """Measure each feature set: {name: Influences of Harrell's C, or Draws of the AUROC}."""
    from tabular_trainers import metrics

    analysis = plan.analysis
    return metrics.headline(
        plan.task,
        analysis.y,
        analysis.patient_id,
        plan.folds,
        predictions,
        analysis.site,
        n_resamples,
        plan.seed,
    )


def _site_from_block(plan, block):
    """Predict the site from one block: AUROC of each site against the rest, averaged by size."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    from tabular_trainers.preprocess import Preprocessor

    analysis = plan.analysis
    sizes = pd.Series(analysis.site).value_counts()
    sites = sizes.index[sizes >= MIN_SITE_PATIENTS]
    if len(sites) < 2:
        return np.nan, f"fewer than two sites have {MIN_SITE_PATIENTS} patients."
    X = analysis.X[[name for name in analysis.X.columns if name.split(".", 1)[0] == block]]
    aurocs, weights = [], []
    for repeat, fold in fold_numbers(plan.folds):
        train, test = (p[np.isin(analysis.site[p], sites)] for p in plan.positions(repeat, fold))
        known = np.unique(analysis.site[train])
        preprocess = Preprocessor(categorical=analysis.categorical, scale=True)
        Z, Z_test = preprocess.fit_transform(X.iloc[train]), preprocess.transform(X.iloc[test])
        if Z.shape[1] > SITE_COMPONENTS:
            pca = PCA(SITE_COMPONENTS, svd_solver="randomized", random_state=plan.seed).fit(Z)
            Z, Z_test = pca.transform(Z), pca.transform(Z_test)
        if Z.shape[1] == 0 or len(known) < 2:
            continue
        fitted = LogisticRegression(max_iter=1000).fit(Z, analysis.site[train])
        probability = fitted.predict_proba(Z_test)
        for position, name in enumerate(fitted.classes_):
            is_site = analysis.site[test] == name
            if 0 < is_site.sum() < len(test):
                score = probability[:, position]
                aurocs.append(roc_auc_score(is_site, score))
                weights.append(is_site.sum())
    if not aurocs:
        return np.nan, "the block has no usable column."
    note = (
        f"logistic regression of the {len(sites)} sites with {MIN_SITE_PATIENTS} or more patients, "
        "each against the rest; near 1, the block tells hospitals apart."
    )
    return float(np.average(aurocs, weights=weights)), note
