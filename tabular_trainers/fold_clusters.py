"""Names for the clusters of patches of each fold: those of clusters of all patients."""

import pandas as pd

from tabular_trainers.evaluation_plan import fold_numbers
from tabular_trainers.parallel import Task, map_tasks
from tabular_trainers.patch_bags import COLUMN, clusters_asked
from tabular_trainers.patch_composition import clusters_of_bags, reference_of_bags
from tabular_trainers.patch_matching import match_clusters


def reference_clusters(plan):
    """Make clusters of the patches of all patients of a plan, for each block of patches.

    Returns
    -------
    dict of str to Clusters
        By block; empty where no block is of patches.
    """
    X, reduce = plan.analysis.X, plan.analysis.reduce
    asked = {name: clusters_asked(name, reduce) for name in X.columns}
    return {
        name.split(".", 1)[0]: reference_of_bags(X[name], k, plan.seed)
        for name, k in asked.items()
        if k
    }


def match_folds(plan, references, n_jobs=1, store=None, progress=None):
    """Match the clusters of each training part of the first repeat with those of everybody.

    Parameters
    ----------
    plan : Plan
    references : dict of str to Clusters
        From `reference_clusters`.
    n_jobs, store, progress
        As in `evaluate`.

    Returns
    -------
    DataFrame
        Schema ``cluster_matches``; None where no block is of patches.
    """
    if not references:
        return None
    tasks = [
        Task(f"match-{repeat}-{fold}", (repeat, fold))
        for repeat, fold in fold_numbers(plan.folds)
        if repeat == 0
    ]
    found = map_tasks(_match_fold, tasks, (plan, references), n_jobs, store, progress)
    return pd.concat([result["matches"] for result in found], ignore_index=True)


def _match_fold(context, repeat, fold):
    plan, references = context
    train, _ = plan.positions(repeat, fold)
    rows = []
    for block, reference in references.items():
        bags = plan.analysis.X[f"{block}.{COLUMN}"].iloc[train]
        own = clusters_of_bags(bags, reference.k, plan.fold_seed(repeat, fold))
        where = {"repeat": repeat, "fold": fold, "block": block}
        rows.append(match_clusters(reference, own).assign(**where))
    order = ["repeat", "fold", "block", "cluster", "matched", "distance", "quality"]
    return {"matches": pd.concat(rows, ignore_index=True)[order]}


def names_of_clusters(pipeline, spec, references):
    """Say under which names the clusters of a fitted pipeline are known: those of everybody.

    Parameters
    ----------
    pipeline : Pipeline
        From `make_model`, also of a late fusion.
    spec : ModelSpec
        Its row.
    references : dict of str to Clusters
        From `reference_clusters`.

    Returns
    -------
    dict of str to str
        ``block.c01`` of the pipeline to ``block.c07``, say, of the reference.
    """
    steps = [pipeline[0]]
    if spec.parts is not None:
        steps = [part.pipeline[0] for part in spec.parts(pipeline[-1])]
    names = {}
    for preprocess in steps:
        for column in preprocess.bags_:
            block = column.split(".", 1)[0]
            found = match_clusters(references[block], preprocess.clusters(block))
            for cluster, matched in zip(found["cluster"], found["matched"], strict=True):
                names[f"{block}.{cluster}"] = f"{block}.{matched}"
    return names
