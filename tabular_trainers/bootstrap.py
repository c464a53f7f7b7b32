"""The one bootstrap of patients or sites: how often each is drawn, and what the draws tell."""

import numpy as np

from tabular_trainers.outcome import strata_codes

MIN_SITES = 10  # fewer clusters give a standard error that is itself mostly noise
UNDEFINED = 0.05  # share of resamples that may leave a measure undefined


def bootstrap_weights(strata, cluster=None, n_resamples=500, seed=0):
    """Draw how often each patient is in each resample.

    Patients are drawn with replacement within strata (folds), which keeps the size of every fold.
    With ``cluster``, and at least 10 clusters, whole clusters are drawn within a fold instead,
    except in a fold with a single one, where its patients are drawn.

    Parameters
    ----------
    strata : array-like of shape (n_patients,)
        Test fold of each patient.
    cluster : array-like of shape (n_patients,), default=None
        Site of each patient; a missing one is a cluster of its own.
    n_resamples : int, default=500
    seed : int, default=0

    Returns
    -------
    ndarray of int32, shape (n_resamples, n_patients)

    References
    ----------
    Efron & Tibshirani 1993. Field & Welsh, JRSS B 2007;69:369 (clusters).
    """
    strata = np.asarray(strata)
    codes, n_strata = strata_codes(strata, len(strata))
    clusters = cluster_codes(cluster)
    random = np.random.default_rng(np.random.SeedSequence([seed, 0x626F6F74]))
    weights = np.zeros((n_resamples, len(codes)), dtype=np.int32)
    for s in range(n_strata):
        at = np.flatnonzero(codes == s)
        members = np.arange(len(at)) if clusters is None else clusters[at]
        units, unit = np.unique(members, return_inverse=True)
        if len(units) < 2:
            units, unit = at, np.arange(len(at))
        draws = random.multinomial(len(units), np.full(len(units), 1 / len(units)), n_resamples)
        weights[:, at] = draws[:, unit]
    return weights


def cluster_codes(cluster, at_least=MIN_SITES):
    """Give clusters numbers, a missing one its own; ``None`` when there are too few, or none."""
    if cluster is None:
        return None
    import pandas as pd

    codes = pd.factorize(pd.Series(np.asarray(cluster, dtype=object)), sort=False)[0]
    if codes.max(initial=-1) + 1 < at_least:
        return None
    missing = codes < 0
    codes[missing] = codes.max() + 1 + np.arange(missing.sum())
    return codes.astype(np.int64)


def sum_by_cluster(values, codes):
    """Sum the rows of patients within their clusters, (n_clusters, ...), in the order of codes."""
    sums = np.zeros((codes.max() + 1, *values.shape[1:]))
    np.add.at(sums, codes, values)
    return sums


def bootstrap_method(n_resamples, cluster=None):
    """Name the method of an interval, as it stands in the tables."""
    unit = "patients" if cluster is None or cluster_codes(cluster) is None else "sites"
    return f"bootstrap ({n_resamples} resamples of {unit} within folds)"


def interval(draws):
    """Read the standard error and the 95% percentile interval from bootstrap draws.

    Parameters
    ----------
    draws : ndarray of shape (n_resamples,)

    Returns
    -------
    standard_error, lower, upper : float
        NaN when more than 5% of the draws are undefined; fewer are left out.
    """
    draws = np.asarray(draws, dtype=np.float64)
    defined = draws[np.isfinite(draws)]
    if len(defined) < 2 or len(defined) < (1 - UNDEFINED) * len(draws):
        return np.nan, np.nan, np.nan
    lower, upper = np.percentile(defined, [2.5, 97.5])
    return float(defined.std(ddof=1)), float(lower), float(upper)
