"""What a cluster of patches does to the risk of its patient, found by leaving it out: approximate.

For models and poolings whose risk is no sum over patches. The patches of one cluster are left out
of a patient's bag, the rest is pooled as the block was, and the model of the fold that held the
patient out predicts again. No model was fitted to bags with parts missing, so a large change asks
about a patient unlike those it has seen; and the changes of several clusters do not add up.
"""

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from tabular_trainers.errors import DataError
from tabular_trainers.feature_sets import is_late
from tabular_trainers.patch_risk_bags import POOLED_AGAIN, pool_without, summarise_bags
from tabular_trainers.patch_risk_folds import (
    TOLERANCE,
    check_sums,
    explained,
    map_folds,
    patches_used,
    predicted,
    refit,
    slides_by_patient,
)

_ASKED = 1000  # rows that a model is given at once


def occlusion(reopened, subject, patches, labels, names, n_jobs=1, progress=None):
    """Leave out each cluster of each patient and predict again.

    Parameters
    ----------
    reopened : ReopenedRun
    subject : Subject
    patches : PatchStore
    labels : dict of str to ndarray (n_patches,) of int
        By slide: the cluster of each patch, 0 for the first; as in `Survey`.
    names : sequence of str
        Of the clusters.
    n_jobs : int, default 1
        Processes; does not change any result.
    progress : callable, optional
        Called as ``progress(done, total, what)`` after each fold.

    Returns
    -------
    DataFrame
        Contract ``cluster_occlusion``: a row a patient and cluster. ``change`` is the risk with
        the cluster's patches minus the risk without: above 0 they raise it. Zero where the patient
        has none, missing where it has no others.

    Raises
    ------
    DataError
        The block was pooled by quantiles, which would need every patch sorted again a cluster; or
        it is of clusters and fused late.
    SchemaError
        The block was not pooled from these patches.
    """
    if subject.how not in POOLED_AGAIN:
        raise DataError(
            f"block {subject.block} was pooled by {subject.how}: to leave out a cluster, every "
            "patient's patches would have to be sorted again for each. Pool by mean, which with "
            "a linear model gives exact terms of patches, by mean+std or by max."
        )
    if subject.how == "clusters" and is_late(subject.feature_set):
        raise DataError(
            f"{subject.feature_set}: clusters cannot be left out of a late fusion with block "
            f"{subject.block}, whose shares are counted inside it; run a feature set without late:."
        )
    further = labels, list(names)
    results = map_folds(occlude_fold, reopened, subject, patches, n_jobs, progress, *further)
    check_sums(reopened, subject, patches, pd.concat([result["pooled"] for result in results]))
    table = pd.concat([result["changes"] for result in results], ignore_index=True)
    return table.sort_values(["patient_id", "cluster"], ignore_index=True)


def occlude_fold(context, fold, parameters, labels, names):
    """Refit the model of one fold and leave out each cluster of the patients it never saw."""
    subject, patches, clusters = context.subject, context.patches, None
    pipeline, spec, X = refit(context, fold, parameters)
    own, columns = list(subject.columns), list(zip(subject.suffixes, subject.features, strict=True))
    if subject.how == "clusters":
        clusters = pipeline[0].clusters(subject.block)
        own = [f"{subject.block}.{name}" for name in clusters.names]
        columns = [("", j) for j in range(clusters.k)]
        X = pipeline[0].with_shares(X)
        pipeline = Pipeline([("preprocess", pipeline[0].given_shares()), pipeline.steps[-1]])
    slides = slides_by_patient(patches, X.index)
    share, apart = np.zeros((len(X), len(names))), []
    change = np.zeros(share.shape)
    whole, waiting = explained(pipeline, spec, X), []

    def ask():
        """Predict the patients that wait, each without one of its clusters."""
        places = np.concatenate([np.full(len(rows), i) for i, _, rows in waiting])
        clusters = np.concatenate([left for _, left, _ in waiting])
        others = X.iloc[places].copy()
        others[own] = np.concatenate([rows for _, _, rows in waiting])
        change[places, clusters] = whole[places] - explained(pipeline, spec, others)
        waiting.clear()

    for i, patient in enumerate(X.index):
        bags = summarise_bags(patches, slides[patient], labels, len(names), subject.how, clusters)
        share[i], full, rows, possible = pool_without(bags, subject.how, subject.by, columns)
        known = X.iloc[i][own].to_numpy(dtype=np.float64)
        apart.append((np.abs(full - known).max(), TOLERANCE * (1 + np.abs(known).max())))
        change[i, (share[i] > 0) & ~possible] = np.nan
        left = np.flatnonzero((share[i] > 0) & possible)
        if len(left):
            waiting.append((i, left, rows[left]))
        if sum(len(rows) for _, _, rows in waiting) >= _ASKED:
            ask()
    if waiting:
        ask()
    changes = pd.DataFrame(
        {
            "patient_id": np.repeat(X.index.to_numpy(object), len(names)),
            "fold": fold,
            "cluster": np.tile(np.array(names, dtype=object), len(X)),
            "share": share.ravel(),
            "change": change.ravel(),
        }
    )
    pooled = pd.DataFrame(apart, columns=["difference", "bound"]).assign(patient_id=X.index)
    if patches_used(context).n_patches < patches.n_patches:
        pooled = pooled.iloc[:0]  # the run counted shares on some of the patches
    return {"changes": changes, "pooled": pooled, "predicted": predicted(pipeline, spec, X)}
