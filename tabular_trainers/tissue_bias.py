"""Tell clusters of tissue from marks of a hospital, of a pen, of a slide out of focus.

The limits below were set before any cluster was held against an outcome, and are the same for every
cohort.
"""

import numpy as np
import pandas as pd

MIN_SITE = 5  # patients; of fewer no site is told apart
SITE_AUC = 0.8  # at least: the cluster's prevalence alone tells the site
SITE_SHARE = 0.8  # at least, sites weighing the same: the cluster is seen at one site
FALSE_DISCOVERY = 0.05  # below it, a difference is not chance
ARTEFACT = 0.05  # at least, mean share of pixels that are ink or black; clean tissue: below 0.01
BLURRED = 0.2  # at least this much more blur than the median patch; sharp tissues differ by less
COLUMNS = ("site", "site_auc", "site_share", "site_fdr", "blur", "artefact", "flag")


def site_auc(prevalence, site):
    """Measure how well the prevalence of one cluster alone tells a site from all others.

    For each cluster and site the area under the ROC curve of the site's patients against all
    others, whichever way it points (0.5: not at all, 1: perfectly); the share of the cluster that
    lies at the site, were all sites of one size (its mean there over the sum of the means); and the
    Mann-Whitney test of no difference, with ties and a correction for continuity. p values are
    adjusted over all clusters and sites together (Benjamini-Hochberg).

    A cluster is told by a site where the false discovery rate is below 0.05 and the AUC or the
    share at least 0.8. Of the sites that tell a cluster, else of all, the one with the largest AUC
    is given: a maximum, so above 0.5 by chance alone.

    Parameters
    ----------
    prevalence : DataFrame of shape (n_patients, n_clusters)
    site : array-like of shape (n_patients,) or None
        Patients of unknown site are left out; sites of fewer than 5 patients are only among the
        others.

    Returns
    -------
    DataFrame
        Index cluster; site, site_auc, site_share, site_fdr, told. Empty values with fewer than two
        sites of 5 patients.

    References
    ----------
    Mann & Whitney, Annals of Mathematical Statistics 1947;18:50. Benjamini & Hochberg, JRSS B
    1995;57:289.
    """
    clusters = prevalence.columns
    nothing = pd.DataFrame(
        {"site": None, "site_auc": np.nan, "site_share": np.nan, "site_fdr": np.nan, "told": False},
        index=pd.Index(clusters, name="cluster"),
    )
    if site is None:
        return nothing
    site = pd.Series(np.asarray(site, dtype=object))
    known = site.notna().to_numpy()
    codes, names = pd.factorize(site[known], sort=True)
    sizes = np.bincount(codes, minlength=len(names))
    large = np.flatnonzero(sizes >= MIN_SITE)
    if len(large) < 2:
        return nothing
    values = prevalence.to_numpy()[known]
    found, p_values = _one_against_the_rest(values, codes, sizes)
    means = _sums(values, codes, len(names)) / sizes[:, None]
    share = means[large] / np.maximum(means[large].sum(axis=0), 1e-300)
    found, p_values = np.maximum(found, 1 - found)[large], p_values[large]
    rate = false_discovery_rate(p_values.ravel()).reshape(p_values.shape)
    told = (rate < FALSE_DISCOVERY) & ((found >= SITE_AUC) | (share >= SITE_SHARE))
    at = np.where(told, found + 1, found).argmax(axis=0), np.arange(len(clusters))
    return pd.DataFrame(
        {
            "site": np.asarray(names, dtype=object)[large][at[0]],
            "site_auc": found[at],
            "site_share": share[at],
            "site_fdr": rate[at],
            "told": told.any(axis=0),
        },
        index=nothing.index,
    )


def bias_table(prevalence, site, quality=None):
    """Hold every cluster against the sites and the quality of its patches, and flag some.

    Parameters
    ----------
    prevalence : DataFrame of shape (n_patients, n_clusters)
    site : array-like of shape (n_patients,) or None
    quality : DataFrame or None
        cluster, n_patches, blur, artefact: means over the patches of a cluster.

    Returns
    -------
    DataFrame
        Index cluster; ``flag`` is "artefact" where at least 5% of its pixels have the colour of ink
        or are black, or it is far more blurred (by 0.2) than the median patch; else "site" where a
        site tells it (`site_auc`); else empty. The other columns are what flags are read from.
    """
    table = site_auc(prevalence, site)
    marks = pd.DataFrame(np.nan, index=table.index, columns=["n_patches", "blur", "artefact"])
    if quality is not None:
        marks.update(quality.set_index("cluster")[["n_patches", "blur", "artefact"]].astype(float))
    table = table.join(marks)
    limit = _weighted_median(table["blur"].to_numpy(), table["n_patches"].to_numpy()) + BLURRED
    artefact = (table["artefact"] >= ARTEFACT) | (table["blur"] >= limit)
    table["flag"] = np.select([artefact, table["told"]], ["artefact", "site"], default="")
    return table[list(COLUMNS)]


def false_discovery_rate(p_values):
    """Adjust p values after Benjamini and Hochberg; those that are NaN stay so and do not count.

    Examples
    --------
    >>> [float(round(p, 3)) for p in false_discovery_rate([0.01, 0.04, float("nan"), 0.03])]
    [0.03, 0.04, nan, 0.04]
    """
    from scipy.stats import false_discovery_control

    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted, known = np.full(p_values.shape, np.nan), ~np.isnan(p_values)
    if known.any():
        adjusted[known] = false_discovery_control(p_values[known], method="bh")
    return adjusted


def _one_against_the_rest(values, codes, sizes):
    """Give AUC and p value of every site against all others, (n_sites, n_clusters) each."""
    from scipy.special import erfc
    from scipy.stats import rankdata

    n = len(values)
    inside, outside = sizes[:, None].astype(float), (n - sizes)[:, None].astype(float)
    ranks = _sums(rankdata(values, axis=0), codes, len(sizes))
    pairs = np.maximum(inside * outside, 1.0)
    above = ranks - inside * (inside + 1) / 2
    ties = np.array([_tie_sum(column) for column in values.T])
    variance = pairs / 12 * (n + 1 - ties / (n * (n - 1)))
    far = np.maximum(np.abs(above - pairs / 2) - 0.5, 0.0)
    z = np.divide(far, np.sqrt(variance), out=np.zeros_like(far), where=variance > 0)
    return above / pairs, erfc(z / np.sqrt(2))


def _tie_sum(column):
    tied = np.unique(column, return_counts=True)[1].astype(np.float64)
    return float((tied**3 - tied).sum())


def _sums(values, codes, n_codes):
    sums = np.zeros((n_codes, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


def _weighted_median(values, weights):
    known = np.isfinite(values) & (weights > 0)
    if not known.any():
        return np.nan
    order = np.argsort(values[known])
    total = np.cumsum(weights[known][order])
    return values[known][order][np.searchsorted(total, total[-1] / 2)]
