"""Checks that would show a leak, a hospital effect or a mixture of cancer types.

The sites are probed with the cheapest model at its defaults. Site alone is probed on folds that mix
patients at random: on folds that keep sites apart it cannot do better than chance, by construction.
"""

import dataclasses

import numpy as np
import pandas as pd

from tabular_trainers.errors import count
from tabular_trainers.evaluation import fit_fold
from tabular_trainers.evaluation_plan import fold_numbers
from tabular_trainers.folds import make_folds
from tabular_trainers.parallel import Task, map_tasks, one_thread
from tabular_trainers.permutation import (
    FLAG_AT,
    fit_permuted,
    measured_folds,
    permutations,
    summarise,
    tuned_parameters,
)
from tabular_trainers.site_prediction import site_auroc

COLUMNS = [
    "probe", "subject", "metric", "estimate", "lower", "upper", "expected", "flagged", "note",
]  # fmt: skip


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
        Called with a key after each fit, and each block that is asked for the site.

    Returns
    -------
    DataFrame
        Table ``probes`` of the data schemas. Without a site column no probe of sites, and without
        several cancer types none of these.
    """
    from tabular_trainers.models import MODELS

    plan = evaluation.plan
    model = next(iter(MODELS[plan.task]))
    plans = _plans(plan, model)
    tasks = [
        Task(
            f"probe-{name}-{feature_set}-{repeat}-{fold}", (name, feature_set, model, repeat, fold)
        )
        for name, each in plans.items()
        for feature_set in each.analysis.feature_sets
        for repeat, fold in fold_numbers(each.folds)
        if repeat == 0
    ]
    drawn = permutations(plan)
    chosen = tuned_parameters(evaluation.trials, plan.analysis.full, plan.models[0])
    shuffled = [Task(f"probe-permuted-{fold}", (fold, chosen[fold])) for fold in sorted(chosen)]
    blocks = [Task(f"probe-site-from-{block}", (block,)) for block in _blocks_of_sites(plan)]
    results = map_tasks(_fit, tasks, plans, n_jobs, store, progress)
    context = (plans.get("random"), evaluation.n_resamples)
    of_blocks = map_tasks(_site_from_block, blocks, context, n_jobs, store, progress)
    permuted = map_tasks(_fit_permuted, shuffled, (plan, drawn), n_jobs, store, progress)
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
    if plan.analysis.site is not None and "apart" not in plans:
        plans["apart"] = plan
        rows = evaluation.predictions
        predictions["apart"] = rows[(rows["model"] == model) & (rows["repeat"] == 0)]
    with one_thread():
        rows = [_permuted_row(plan, drawn, [result["permuted"] for result in permuted])]
        if plan.analysis.site is not None:
            rows += _site_rows(evaluation, plans, predictions, model)
            rows += [row for result in of_blocks for row in result["row"].to_dict("records")]
        if "cancer_type" in plans:
            rows += _cancer_type_rows(evaluation, plans, predictions, model)
    return pd.DataFrame(rows, columns=COLUMNS).astype({"flagged": "boolean"})


def _plans(plan, model):
    """Plan the fits at defaults, by name."""
    plans, analysis = {}, plan.analysis
    if analysis.site is not None:
        n_folds = int(plan.folds.loc[plan.folds["repeat"] == 0, "fold"].nunique())
        random = make_folds(analysis.y, analysis.patient_id, None, n_folds, 1, plan.seed)
        plans["site"] = _one_column(plan, model, "site", analysis.site, random)
        plans["random"] = _plan(plan, model, analysis.feature_sets, folds=random)
        if not _keeps_sites(plan):
            apart = make_folds(
                analysis.y, analysis.patient_id, analysis.site, n_folds, 1, plan.seed
            )
            plans["apart"] = _plan(plan, model, analysis.feature_sets, folds=apart)
        elif model not in plan.models:
            plans["apart"] = _plan(plan, model, analysis.feature_sets)
    if _has_cancer_types(analysis):
        plans["cancer_type"] = _one_column(plan, model, "cancer_type", analysis.cancer_type)
    return plans


def _has_cancer_types(analysis):
    return analysis.cancer_type is not None and pd.Series(analysis.cancer_type).nunique() > 1


def count_fits(plan):
    """Count the tasks of `probe`, for a progress bar; the permutations of a fold are one."""
    n_folds = int(plan.folds.loc[plan.folds["repeat"] == 0, "fold"].nunique())
    fits = 2 if _has_cancer_types(plan.analysis) else 1
    if plan.analysis.site is not None:
        from tabular_trainers.models import MODELS

        n_sets = len(plan.analysis.feature_sets)
        known = _keeps_sites(plan) and next(iter(MODELS[plan.task])) in plan.models
        fits += 1 + n_sets + (0 if known else n_sets)
    return n_folds * fits + len(_blocks_of_sites(plan))


def _one_column(plan, model, name, values, folds=None):
    column = f"{name}.{name}"
    X = pd.DataFrame({column: values}, index=plan.analysis.X.index)
    return _plan(plan, model, {name: (column,)}, folds=folds, X=X, categorical=(column,))


def _plan(plan, model, feature_sets, folds=None, **changes):
    analysis = dataclasses.replace(plan.analysis, feature_sets=feature_sets, **changes)
    folds = plan.folds if folds is None else folds
    return dataclasses.replace(
        plan, analysis=analysis, folds=folds, models=(model,), times=np.empty(0)
    )


def _fit(plans, name, feature_set, model, repeat, fold):
    return fit_fold(plans[name], feature_set, model, repeat, fold)


def _fit_permuted(context, fold, parameters):
    plan, drawn = context
    folds = measured_folds(plan, len(drawn))
    own = {number: drawn[number] for number, held_out in enumerate(folds) if fold in held_out}
    table = fit_permuted(plan, plan.analysis.full, plan.models[0], fold, parameters, own)
    return {"permuted": table}


def _keeps_sites(plan):
    """Tell whether no site is in the training and the test part of any fold."""
    site = pd.Series(plan.analysis.site, index=plan.analysis.patient_id)
    for repeat, fold in fold_numbers(plan.folds):
        train, test = plan.positions(repeat, fold)
        if set(site.iloc[train]) & set(site.iloc[test]):
            return False
    return True


def _permuted_row(plan, drawn, tables):
    from tabular_trainers.scoring import HEADLINE

    where = ("the cohort", "") if plan.analysis.site is None else ("each site", " and site")
    estimate, lower, upper, flagged = np.nan, np.nan, np.nan, None
    if len(drawn) > 1:
        estimate, lower, upper, flagged = summarise(plan, drawn, pd.concat(tables))
    folds = measured_folds(plan)[0]
    note = (
        f"{plan.models[0]} at its tuned settings, {len(drawn)} permutations of outcomes within "
        f"{where[0]}, each on {count(len(folds), 'fold')}, pairs within fold{where[1]}: mean, and "
        f"{FLAG_AT:g} standard errors to either side."
    )
    if flagged is None:
        note = "too few events: permutations of outcomes leave nothing to measure."
    elif flagged:
        note += " 0.5 lies outside: outcomes of held-out patients may reach their predictions."
    values = ("permuted_outcome", plan.analysis.full, HEADLINE[plan.task], estimate, lower, upper)
    return dict(zip(COLUMNS, (*values, 0.5, flagged, note), strict=True))


def _site_rows(evaluation, plans, predictions, model):
    from tabular_trainers.scoring import HEADLINE

    plan = evaluation.plan
    metric = HEADLINE[plan.task]

    def measure(name):
        return _headline(plans[name], predictions[name], evaluation.n_resamples)

    rows = [
        _row(
            "site_alone", "site", metric, measure("site")["site"], 0.5,
            f"{model} on the site alone, folds mixing patients at random; above 0.5, sites differ "
            "in outcome.",
        )
    ]  # fmt: skip
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
    return rows


def _blocks_of_sites(plan):
    """Name the blocks that are asked for the site: all, where sites are known."""
    if plan.analysis.site is None:
        return ()
    return tuple(dict.fromkeys(name.split(".", 1)[0] for name in plan.analysis.X.columns))


def _site_from_block(context, block):
    plan, n_resamples = context
    measured, note = site_auroc(plan, block, n_resamples)
    row = _row("site_from_block", block, "auroc", measured, 0.5, note)
    return {"row": pd.DataFrame([row], columns=COLUMNS)}


def _cancer_type_rows(evaluation, plans, predictions, model):
    from tabular_trainers.scoring import HEADLINE

    plan, shown = evaluation.plan, evaluation.plan.models[0]
    metric, n_resamples = HEADLINE[plan.task], evaluation.n_resamples
    alone = _headline(plans["cancer_type"], predictions["cancer_type"], n_resamples)
    rows = [
        _row(
            "cancer_type_alone", "cancer_type", metric, alone["cancer_type"], 0.5,
            f"{model} on the cancer type alone; above 0.5, types differ in outcome.",
        )
    ]  # fmt: skip
    own = evaluation.predictions[evaluation.predictions["model"] == shown]
    types = pd.Series(plan.analysis.cancer_type, index=plan.analysis.patient_id)
    code = pd.Series(pd.factorize(types)[0], index=types.index).loc[own["patient_id"]].to_numpy()
    known = own[code >= 0]
    inside = known.assign(fold=known["fold"] * types.nunique() + code[code >= 0])
    for probe_name, table, note in (
        ("across_cancer_types", known, "pairs of patients within a fold, of any types"),
        ("within_cancer_type", inside, "pairs of patients of one type, within a fold"),
    ):
        for feature_set, measured in _headline(plan, table, n_resamples).items():
            rows.append(
                _row(probe_name, feature_set, metric, measured, np.nan, f"{shown}; {note}.")
            )
    return rows


def _row(probe_name, subject, metric, measured, expected, note):
    _, lower, upper = measured.interval()
    values = (probe_name, subject, metric, measured.estimate, lower, upper, expected, None, note)
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
