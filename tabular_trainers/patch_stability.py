"""How much of a clustering is found again when other patients of the same kind are clustered."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tabular_trainers.patch_clusters import fit_clusters

DISSOLVED = 0.5
_MOST = 20_000  # patches, as many as the starts of k-means are tried on


@dataclass(frozen=True, eq=False)
class Stability:
    """How well clusters were found again.

    Attributes
    ----------
    clusters : DataFrame
        A row a cluster: ``cluster``; ``jaccard_mean`` and ``jaccard_lower`` (10% quantile) over
        the resamples; ``dissolved``, the share of resamples with at most 0.5.
    rand : ndarray (n_resamples,)
        Adjusted Rand index of each: 1 for the same clusters, 0 for what chance gives.
    """

    clusters: pd.DataFrame
    rand: np.ndarray


def stability(sample, clusters, n_resamples=10, seed=0, progress=None):
    """Cluster resampled patients anew, and compare on the patches of those drawn.

    Patients are drawn with replacement, each with all its patches of the sample. A cluster's
    Jaccard index is that with the most similar cluster of the resample: patches in both, divided by
    patches in one of them; 0 where no patient with it was drawn. Above 0.75 is stable, below 0.6
    should not be trusted. A sample of more than 20,000 patches is cut to that many at random. Of a
    single patient only the starts of k-means differ, which says little.

    Parameters
    ----------
    sample : PatchSample
        What ``clusters`` were made of.
    clusters : Clusters
        The clusters to be judged; as many are made of each resample.
    n_resamples : int, default 10
    seed : int, default 0
    progress : callable, optional
        Called as ``progress(done, total, what)`` after each resample.

    Returns
    -------
    Stability

    Raises
    ------
    DataError
        When a resample has fewer distinct patches than there are clusters.

    References
    ----------
    Hennig, Computational Statistics & Data Analysis 2007;52:258, for the Jaccard index a cluster
    and its limits. Hubert & Arabie, Journal of Classification 1985;2:193, for the Rand index.
    """
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(sample.vectors))[:_MOST])
    vectors = sample.vectors[rows]
    _, patient = np.unique(sample.patient_id[rows].astype(str), return_inverse=True)
    n_patients = patient.max() + 1
    own = clusters.assign(vectors)
    jaccard = np.zeros((n_resamples, clusters.k))
    rand = np.zeros(n_resamples)
    for number in range(n_resamples):
        drawn = np.bincount(rng.integers(0, n_patients, n_patients), minlength=n_patients)
        times = drawn[patient]
        resampled = fit_clusters(
            _repeated(sample, rows.repeat(times)), clusters.k, seed + 1 + number
        )
        found = resampled.assign(vectors[times > 0])
        jaccard[number] = jaccard_index(own[times > 0], found, clusters.k)
        rand[number] = adjusted_rand_score(own[times > 0], found)
        if progress is not None:
            progress(number + 1, n_resamples, f"resample {number + 1}")
    return Stability(
        pd.DataFrame(
            {
                "cluster": clusters.names,
                "jaccard_mean": jaccard.mean(axis=0),
                "jaccard_lower": np.quantile(jaccard, 0.1, axis=0),
                "dissolved": (jaccard <= DISSOLVED).mean(axis=0),
            }
        ),
        rand,
    )


def _repeated(sample, rows):
    """Take these patches of a sample, some several times."""
    return dataclasses.replace(
        sample,
        vectors=sample.vectors[rows],
        patient_id=sample.patient_id[rows],
        slide_id=sample.slide_id[rows],
        row=sample.row[rows],
    )


def jaccard_index(labels, others, k):
    """Compare each cluster with the most similar one of another clustering of the same patches.

    Parameters
    ----------
    labels, others : ndarray (n,) of int
        The two clusterings, each in 0..k-1.
    k : int

    Returns
    -------
    ndarray (k,)
        In 0..1; 0 for an empty cluster.

    Examples
    --------
    >>> jaccard_index([0, 0, 0, 1], [1, 1, 0, 0], 2).round(3)
    array([0.667, 0.5  ])
    """
    both = np.zeros((k, k))
    np.add.at(both, (labels, others), 1)
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
    return np.divide(both, either, out=np.zeros((k, k)), where=either > 0).max(axis=1)
