"""Contributions of features and blocks to the risk of held-out patients, on the model's scale."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tabular_trainers.cohort import MISSING_BLOCKS
from tabular_trainers.feature_sets import is_late
from tabular_trainers.fold_clusters import names_of_clusters, reference_clusters
from tabular_trainers.parallel import Task, map_tasks

SHOWN_PATIENTS = 500  # a feature set x model, where contributions are exact
SAMPLED_PATIENTS = 50  # where they are sampled, at thousands of predictions a patient
SHOWN_FEATURES = 50
BACKGROUND_PATIENTS = 100
TARGET = "risk"
KEYS = ["patient_id", "repeat", "fold", "feature_set", "model", "target", "base"]


@dataclass(frozen=True)
class _Context:
    plan: object
    shown: dict  # shap_kind -> patients whose features are shown
    references: dict  # block of patches -> Clusters that give names


def explain(evaluation, n_jobs=1, store=None, progress=None):
    """Explain the risk of held-out patients: base + sum of contributions = prediction.

    Each fold's model is fitted once more with the hyper-parameters that `evaluate` chose, which
    gives the same model, and explained on the patients it never saw. A linear model is mapped back,
    through PCA, to the columns of the user's tables; a tree model behind a reduction is explained
    by component (``pathology.pc01``), and only the sum over the block speaks of the block. One-hot
    columns are summed to their source. With repeated folds the first repeat is explained. Clusters
    of patches, made anew in each fold, are named as the clusters of all patients that they match
    (`fold_clusters.match_folds`).

    Parameters
    ----------
    evaluation : Evaluation
    n_jobs : int, default 1
        Processes; does not change any result.
    store : path, optional
        Folder that keeps finished folds.
    progress : callable, optional
        Called with a key after each explained fold.

    Returns
    -------
    shap : DataFrame
        At most 500 patients (50 where contributions are sampled) a feature set x model: the 50
        largest features by name, and one row ``other`` for the rest of each block.
    shap_blocks : DataFrame
        Contributions summed a block, for every patient (50 where contributions are sampled).

    References
    ----------
    Lundberg and Lee, A unified approach to interpreting model predictions, NeurIPS 2017.
    """
    plan = evaluation.plan
    chosen = evaluation.trials[evaluation.trials["chosen"] & (evaluation.trials["repeat"] == 0)]
    columns = ["feature_set", "model", "repeat", "fold", "parameters"]
    tasks = [
        Task(f"shap-{row.feature_set}-{row.model}-{row.repeat}-{row.fold}", tuple(row))
        for row in chosen[columns].itertuples(index=False)
    ]
    generator = np.random.default_rng(plan.seed)
    order = plan.analysis.patient_id.to_numpy()[generator.permutation(len(plan.analysis.X))]
    shown = {"exact": set(order[:SHOWN_PATIENTS]), "sampled": set(order[:SAMPLED_PATIENTS])}
    context = _Context(plan, shown, reference_clusters(plan))
    results = map_tasks(explain_fold, tasks, context, n_jobs, store, progress)
    pairs = [task.arguments[:2] for task in tasks]
    features = [
        _largest_features([r for r, p in zip(results, pairs, strict=True) if p == pair])
        for pair in dict.fromkeys(pairs)
    ]
    blocks = pd.concat([result["blocks"] for result in results], ignore_index=True)
    return pd.concat(features, ignore_index=True), blocks


def explain_fold(context, feature_set, model, repeat, fold, parameters):
    """Fit the model of one fold again and explain the patients held out."""
    from tabular_trainers.models import find_model

    plan, analysis = context.plan, context.plan.analysis
    spec = find_model(model, plan.task, is_late(feature_set))
    train, test = plan.positions(repeat, fold)
    shown = analysis.patient_id[test].isin(context.shown[spec.shap_kind])
    if spec.shap_kind == "sampled":
        test, shown = test[shown], shown[shown]
    X = analysis.columns_of(feature_set)
    pipeline = fit_again(plan, feature_set, model, repeat, fold, parameters)
    where = {
        "repeat": int(repeat),
        "fold": int(fold),
        "feature_set": feature_set,
        "model": model,
        "target": TARGET,
    }
    if not len(test):
        none = pd.DataFrame(columns=[*KEYS, "block", "contribution"])
        return {"blocks": none, **_folded(none[KEYS], pd.DataFrame(), pd.DataFrame())}
    seed = plan.fold_seed(repeat, fold)
    base, contributions, values = contributions_of(
        pipeline, spec, X.iloc[test], X.iloc[_background(train, seed)], seed
    )
    names = names_of_clusters(pipeline, spec, context.references)
    contributions, values = (frame.rename(columns=names) for frame in (contributions, values))
    ids = pd.DataFrame({"patient_id": analysis.patient_id[test], **where, "base": base})
    blocks = _blocks(contributions)
    summed = [
        ids.assign(block=name, contribution=contributions.loc[:, blocks == name].to_numpy().sum(1))
        for name in dict.fromkeys(blocks)
    ]
    return {
        "blocks": pd.concat(summed, ignore_index=True),
        **_folded(ids[shown].reset_index(drop=True), contributions[shown], values[shown]),
    }


def fit_again(plan, feature_set, model, repeat, fold, parameters):
    """Fit the model of one fold with the hyper-parameters that were chosen: the same model again.

    Parameters
    ----------
    plan : Plan
    feature_set, model : str
    repeat, fold : int
    parameters : str
        JSON, as in the table ``trials``.

    Returns
    -------
    Pipeline
        It gives risks, but not every model's survival curves.
    """
    from tabular_trainers.models import make_model

    analysis = plan.analysis
    train, _ = plan.positions(repeat, fold)
    pipeline = make_model(
        model,
        plan.task,
        analysis.categorical,
        analysis.reduce,
        json.loads(parameters),
        random_state=plan.fold_seed(repeat, fold),
        score_only=True,
        late=is_late(feature_set),
    )
    X = analysis.columns_of(feature_set)
    site = None if analysis.site is None else analysis.site[train]
    return pipeline.fit(X.iloc[train], analysis.y[train], model__groups=site)


def _folded(patients, contributions, values):
    """Give tables for the store: a column a feature would take a second a fold to write."""
    cells = {
        "contribution": contributions.to_numpy(dtype=np.float64).ravel(),
        "value": values.to_numpy(dtype=np.float64).ravel(),
    }
    features = pd.DataFrame({"name": np.array(contributions.columns, dtype=object)})
    return {"patients": patients, "features": features, "cells": pd.DataFrame(cells)}


def _unfolded(result, of):
    """Give a patient a row and a feature a column."""
    names = result["features"]["name"]
    cells = result["cells"][of].to_numpy().reshape(len(result["patients"]), len(names))
    return pd.DataFrame(cells, columns=list(names))


def contributions_of(pipeline, spec, X, background, seed=0):
    """Explain the risk of patients by the columns of the user's tables, or by components.

    Parameters
    ----------
    pipeline : Pipeline
        Fitted, from `make_model`.
    spec : ModelSpec
        Its row of `MODELS`.
    X : DataFrame (n_patients, n_columns)
        Patients to explain; columns ``block.column``.
    background : DataFrame (n_background, n_columns)
        Patients of the training part, what a missing feature is replaced by.
    seed : int, default 0
        For sampled contributions.

    Returns
    -------
    base : float
        Prediction without any feature.
    contributions : DataFrame (n_patients, n_features)
        On the scale of the risk; columns ``block.feature``.
    values : DataFrame (n_patients, n_features)
        What the features were; missing for text.
    """
    preprocess, estimator = pipeline[0], pipeline[-1]
    if spec.parts is not None:
        return _contributions_of_parts(estimator, spec, X, background, seed)
    if spec.coefficients is not None:
        contributions, base = preprocess.linear_terms(X, spec.coefficients(estimator))
        base += spec.intercept(estimator) if spec.intercept is not None else 0.0
        return base, contributions, _numbers(preprocess.with_shares(X), contributions.columns)
    Z = preprocess.transform(X)
    base, columns = spec.shap(estimator, Z, preprocess.transform(background), seed)
    outputs = preprocess.outputs_
    names = (outputs["block"] + "." + outputs["feature"]).to_numpy()
    contributions = pd.DataFrame(columns, index=X.index, columns=names).T.groupby(level=0).sum().T
    values = _numbers(preprocess.with_shares(X), contributions.columns)
    component = outputs["is_component"].to_numpy(dtype=bool)
    for position in np.flatnonzero(component):
        values[names[position]] = Z[:, position]
    return base, contributions, values


def _contributions_of_parts(estimator, spec, X, background, seed):
    """Add up what the models of the blocks explain, each times its weight.

    A patient who lacks a block gets the mean risk from it, which need not be the base of its
    contributions; the difference goes to the indicator of the missing block.
    """
    from tabular_trainers.models.late_fusion import has_block

    base, lacking = estimator.intercept_, estimator.indicator_terms(X)
    found, values = [], []
    for part in spec.parts(estimator):
        own, known = X[part.columns], has_block(background[part.columns])
        origin, terms, numbers = contributions_of(
            part.pipeline, part.row, own, background.loc[known, part.columns], seed
        )
        origin, has = part.weight * (origin - part.mean), has_block(own)
        base += origin
        found.append(part.weight * terms.mul(has, axis=0))
        values.append(numbers)
        name = f"{MISSING_BLOCKS}.{part.block}"
        if name in lacking or not has.all():
            lacking[name] = lacking.get(name, 0.0) - np.where(has, 0.0, origin)
    contributions = pd.concat([*found, lacking], axis=1)
    return base, contributions, pd.concat([*values, _numbers(X, lacking.columns)], axis=1)


def _numbers(X, names):
    kinds = X.dtypes
    numeric = {kind for kind in set(kinds) if pd.api.types.is_numeric_dtype(kind)}
    known = [name for name in names if name in kinds.index and kinds[name] in numeric]
    values = X[known].to_numpy(dtype=np.float64, na_value=np.nan)
    return pd.DataFrame(values, index=X.index, columns=known).reindex(columns=list(names))


def _blocks(contributions):
    return np.array([name.split(".", 1)[0] for name in contributions.columns], dtype=object)


def _background(train, seed):
    if len(train) <= BACKGROUND_PATIENTS:
        return train
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(train, BACKGROUND_PATIENTS, replace=False))


def _largest_features(results):
    """Keep the largest features of one feature set x model by name; sum the rest of each block."""
    # A feature dropped in a fold (constant there, say) contributed nothing to its patients.
    ids = pd.concat([result["patients"] for result in results], ignore_index=True)
    contributions, values = (
        pd.concat([_unfolded(result, of) for result in results], ignore_index=True)
        for of in ("contribution", "value")
    )
    contributions = contributions.fillna(0.0)
    size = contributions.abs().mean().sort_values(ascending=False, kind="stable")
    largest = list(size.index[:SHOWN_FEATURES])
    rows = []
    for name in largest:
        block, feature = name.split(".", 1)
        rows.append(
            ids.assign(
                block=block,
                feature=feature,
                value=values[name],
                contribution=contributions[name],
            )
        )
    rest = contributions.drop(columns=largest)
    blocks = _blocks(rest)
    for block in dict.fromkeys(blocks):
        total = rest.loc[:, blocks == block].sum(axis=1)
        rows.append(ids.assign(block=block, feature="other", value=np.nan, contribution=total))
    return pd.concat(rows, ignore_index=True)
