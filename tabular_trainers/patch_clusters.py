"""Clusters of patches by k-means.

Columns are standardised, multiplied by the share of their variance that lies within slides, and
each patch is brought to unit length. What differs between slides is mostly how they were stained
and scanned; the share is by how much a linear prediction of the rest, the tissue, shrinks a column.
Without it the same tissue falls into clusters of its own at each hospital. By the length, each
patch's direction from the mean patch decides and not how far out it lies. Without it a few patches
with ink, folds or blur, far from everything, take whole clusters for themselves, too small to be
tested or flagged.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError, SchemaError, count
from tabular_trainers.parallel import one_thread

STARTS, FEW_STARTS, START_PATCHES = 10, 3, 20_000
_MANY = 50  # clusters: from there on starts are alike in their sums of squares, and long
_ROUNDS = 100  # on all patches: stopping at 50 cost 0.005% of the sum of squares, settling took 226
_BLOCK = 8192  # patches whose distances to all centres are held at once
_CLOSE = 1e-4  # relative; float32 decides the nearest of two centres only when they differ by more


@dataclass(frozen=True, eq=False)
class Clusters:
    """Centres of clusters, and the scale on which distances are taken.

    A patch belongs to the nearest centre, by Euclidean distance of standardised and weighted
    columns at unit length (the order of cosines). A column that did not vary where the clusters
    were made counts nowhere. Clusters are named ``c01``, ``c02`` ... from the largest to the
    smallest of the sample.

    Attributes
    ----------
    centres : ndarray (k, dim) of float64
        Means of their patches on that scale: 1 long at most, shorter the more these differ.
    mean, spread : ndarray (dim,) of float64
        Mean and standard deviation (divided by n) of each column of the sample.
    sizes : ndarray (k,) of int64
        Patches of the sample in each cluster.
    encoder_id : str or None
        Whose vectors these are.
    within : ndarray (dim,) of float64 or None
        Weights of the columns: the share of each one's variance that lies within slides. None: 1.
    """

    centres: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    sizes: np.ndarray
    encoder_id: str | None = None
    within: np.ndarray | None = None

    @property
    def k(self):
        """How many clusters."""
        return len(self.centres)

    @property
    def dim(self):
        """Length of a vector."""
        return self.centres.shape[1]

    @property
    def names(self):
        """Name the clusters: ``c01``, ``c02`` ..."""
        return cluster_names(self.k)

    def place(self, vectors):
        """Bring vectors to the scale of the centres, in their own type.

        What is too large for that type becomes NaN. The mean patch has no direction, and stays 0.
        """
        share = np.ones(self.dim) if self.within is None else self.within
        weight = np.divide(share, self.spread, out=np.zeros(self.dim), where=self.spread > 0)
        moved = vectors - self.mean.astype(vectors.dtype)
        moved *= weight.astype(vectors.dtype)
        length = np.sqrt(np.einsum("ij,ij->i", moved, moved))
        length[length == 0] = 1
        length[np.isinf(length)] = np.nan
        moved /= length[:, None]
        return moved

    def assign(self, vectors):
        """Find the nearest centre of each patch.

        Does not depend on which patches come together, or on the number of threads: what float32
        cannot tell apart is decided in float64.

        Parameters
        ----------
        vectors : ndarray (n, dim)
            As stored: not standardised.

        Returns
        -------
        ndarray (n,) of int32
            0 for ``c01``.
        """
        vectors = self._checked(vectors)
        found = np.empty(len(vectors), dtype=np.int32)
        for start in range(0, len(vectors), _BLOCK):
            block = slice(start, start + _BLOCK)
            found[block] = self._nearest(vectors[block])
        return found

    def distance(self, vectors, labels=None):
        """Measure how far each patch is from its own centre, on the scale of the centres.

        Parameters
        ----------
        vectors : ndarray (n, dim)
        labels : ndarray (n,) of int, optional
            What `assign` said of them; default: it is asked.

        Returns
        -------
        ndarray (n,) of float64
            Below 2.
        """
        vectors = self._checked(vectors)
        found = np.empty(len(vectors))
        own = self.assign(vectors) if labels is None else labels
        for start in range(0, len(vectors), _BLOCK):
            block = slice(start, start + _BLOCK)
            away = self.place(vectors[block].astype("float64")) - self.centres[own[block]]
            found[block] = np.sqrt(np.einsum("ij,ij->i", away, away))
        return found

    def _checked(self, vectors):
        vectors = np.asarray(vectors)
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise SchemaError(
                f"vectors of shape {vectors.shape}; these clusters are of {self.dim} columns."
            )
        return vectors if vectors.dtype == np.float32 else vectors.astype("float64")

    def _nearest(self, vectors):
        squares = np.einsum("ij,ij->i", self.centres, self.centres)
        n = np.arange(len(vectors))
        with np.errstate(over="ignore", invalid="ignore"):  # huge values: float64 decides
            z = self.place(vectors).astype("float32", copy=False)
            # Without the patch's own square, which is the same for all centres.
            far = squares.astype("float32") - 2 * (z @ self.centres.T.astype("float32"))
            nearest = far.argmin(axis=1)
            first = far[n, nearest]
            far[n, nearest] = np.inf
            size = np.einsum("ij,ij->i", z, z) + squares[nearest]
            unsure = np.flatnonzero(~(far.min(axis=1) - first > _CLOSE * size))
        exact = self.place(vectors[unsure].astype("float64"))
        nearest[unsure] = (squares - 2 * (exact @ self.centres.T)).argmin(axis=1)
        return nearest


def cluster_names(k):
    """Name k clusters.

    Examples
    --------
    >>> cluster_names(3)
    ['c01', 'c02', 'c03']
    """
    width = max(2, len(str(k)))
    return [f"c{number:0{width}d}" for number in range(1, k + 1)]


def recommended_clusters(n_patients):
    """Recommend a number of clusters: 10 to 50 below 2,000 patients, from there on 200.

    Below, the square root of twice the number of patients, rounded to fives: a cluster should be
    found in enough patients for a hazard ratio. 200 is what was published for thousands of
    patients.

    References
    ----------
    Wulczyn et al., npj Digital Medicine 2021;4:71, for 200.

    Examples
    --------
    >>> [recommended_clusters(n) for n in (30, 120, 450, 1500, 3652)]
    [10, 15, 30, 50, 200]
    """
    if n_patients >= 2000:
        return 200
    return min(50, max(10, 5 * round(math.sqrt(2 * n_patients) / 5)))


def fit_clusters(sample, k, seed=0):
    """Find k clusters of patches by k-means on standardised, weighted columns at unit length.

    A column counts by the share of its variance that lies within slides (one less the intraclass
    correlation), by which a linear prediction of the tissue shrinks it: the rest is between slides,
    and mostly their staining. Where no slide has two patches, or an array does not say whose they
    are, all columns count alike.

    The best of 10 starts (k-means++; 3 for more than 50 clusters) on at most 20,000 of the patches
    goes on with all of them. On one thread, so that the result is the same bytes on any number of
    processors.

    Parameters
    ----------
    sample : PatchSample or ndarray (n, dim)
        Patches, as `sample_patches` draws them.
    k : int
        Clusters, at least 2.
    seed : int, default 0

    Returns
    -------
    Clusters

    Raises
    ------
    DataError
        When there are fewer distinct patches than clusters.
    SchemaError
        When ``k`` is below 2.

    References
    ----------
    Arthur & Vassilvitskii, Proc. 18th ACM-SIAM Symposium on Discrete Algorithms 2007:1027.
    Dhillon & Modha, Machine Learning 2001;42:143, for directions instead of places.
    Fisher, Statistical Methods for Research Workers, 1925, chapter 7 (intraclass correlation).
    """
    if k < 2:
        raise SchemaError(f"{count(k, 'cluster')}: expected at least 2.")
    vectors = np.asarray(getattr(sample, "vectors", sample), dtype="float32")
    mean, spread = _scale(vectors)
    facts = {
        "mean": mean,
        "spread": spread,
        "encoder_id": getattr(sample, "encoder_id", None),
        "within": _within(vectors, getattr(sample, "slide_id", None), spread),
    }
    blank = Clusters(np.zeros((0, len(mean))), sizes=np.zeros(0, dtype=np.int64), **facts)
    z = blank.place(vectors)
    with one_thread():
        labels = _kmeans(z, k, seed)
    sizes = np.bincount(labels, minlength=k)
    if not sizes.all():
        distinct = count(len(np.unique(z, axis=0)), "distinct patch", "distinct patches")
        raise DataError(f"{count(k, 'cluster')} of {distinct}: take fewer clusters.")
    centres = _means(z, labels, k)
    order = np.lexsort([*centres.T[::-1], -sizes])
    return Clusters(centres[order], sizes=sizes[order], **facts)


def _scale(vectors):
    """Mean and standard deviation of each column, summed in float64: 0 for a constant one."""
    mean = vectors.mean(axis=0, dtype="float64")
    squares = np.zeros(len(mean))
    for start in range(0, len(vectors), _BLOCK):
        away = vectors[start : start + _BLOCK] - mean
        squares += np.einsum("ij,ij->j", away, away)
    return mean, np.sqrt(squares / len(vectors))


def _within(vectors, slide_id, spread):
    """Share of each column's variance that lies within slides, (dim,), at most 1."""
    codes = np.zeros(len(vectors), dtype=int) if slide_id is None else pd.factorize(slide_id)[0]
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    if len(sizes) in (1, len(vectors)):
        return np.ones(len(spread))
    squares = np.zeros(len(spread))
    for rows in np.split(order, np.cumsum(sizes)[:-1]):
        own = vectors[rows].astype("float64")
        squares += np.square(own - own.mean(axis=0)).sum(axis=0)
    within = squares / (len(vectors) - len(sizes))
    return np.minimum(1, np.divide(within, spread**2, out=np.ones(len(spread)), where=spread > 0))


def _kmeans(z, k, seed):
    """Label patches by k-means; some labels stay unused where there are too few distinct ones."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if len(z) < k:
        return np.zeros(len(z), dtype=np.int32)
    with warnings.catch_warnings():
        # too few distinct: the caller's error; not settled after so many rounds: hardly worse
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(z) <= START_PATCHES:
            return _best_start(z, k, seed).labels_
        rows = np.random.default_rng(seed).permutation(len(z))[:START_PATCHES]
        best = _best_start(z[np.sort(rows)], k, seed)
        # tol=0: a limit would cost a copy of all patches, and be met in the same round
        fit = KMeans(k, init=best.cluster_centers_, n_init=1, max_iter=_ROUNDS, tol=0).fit(z)
        return fit.labels_


def _best_start(z, k, seed):
    """Fit k-means from several starts and keep the one with the smallest sum of squares."""
    from sklearn.cluster import KMeans, kmeans_plusplus

    # Half the time: scikit-learn draws the starts in float64, and would convert for every centre.
    wide = z.astype("float64")
    state = np.random.RandomState(seed)
    starts = [
        kmeans_plusplus(wide, k, random_state=state)[0].astype("float32")
        for _ in range(STARTS if k <= _MANY else FEW_STARTS)
    ]
    fits = [KMeans(k, init=start, n_init=1).fit(z) for start in starts]
    return min(fits, key=lambda fit: fit.inertia_)


def _means(z, labels, k):
    """Mean of each cluster's patches, summed in float64 in the order of the rows."""
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=k))
    return np.stack([z[rows].mean(axis=0, dtype="float64") for rows in np.split(order, ends[:-1])])
