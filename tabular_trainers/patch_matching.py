"""Which clusters of two clusterings are the same tissue."""

import numpy as np
import pandas as pd

from tabular_trainers.errors import SchemaError


def match_clusters(reference, other):
    """Match other clusters one to one with those of a reference, by the distance of their centres.

    The sum of squared distances is the smallest possible (Hungarian algorithm), on the reference's
    scale. A centre has no length that can be carried over; it is taken to lie as far from the mean
    patch as patches do (root mean square), and its direction is read on the reference's scale.

    Parameters
    ----------
    reference, other : Clusters
        Of the same encoder; they may differ in number.

    Returns
    -------
    DataFrame
        A row for each of ``other``: ``cluster``, ``matched`` (its name in the reference; None where
        the reference has too few), ``distance``, and ``quality`` in 0..1: 1 - distance / distance
        to the nearest centre of the reference that is not the match, at least 0. 1: the same place;
        0: another cluster of the reference is as near, or there is no match.

    References
    ----------
    Kuhn, Naval Research Logistics Quarterly 1955;2:83. The quality is the simplified silhouette of
    a centre: Vendramin et al., Statistical Analysis and Data Mining 2010;3:209.
    """
    from scipy.optimize import linear_sum_assignment

    encoders = {c.encoder_id for c in (reference, other)} - {None}
    if reference.dim != other.dim or len(encoders) > 1:
        raise SchemaError("clusters of two encoders cannot be matched.")
    away = reference.place(_typical(other))[:, None, :] - reference.place(_typical(reference))
    squares = np.einsum("ijk,ijk->ij", away, away)
    rows, columns = linear_sum_assignment(squares)
    distances = np.sqrt(squares)
    found = pd.DataFrame(
        {"cluster": other.names, "matched": None, "distance": np.nan, "quality": 0.0}
    )
    own = distances[rows, columns]
    distances[rows, columns] = np.inf
    rival = distances[rows].min(axis=1)
    quality = 1 - np.divide(own, rival, out=np.ones(len(own)), where=rival > 0)
    found.loc[rows, "matched"] = np.array(reference.names, dtype=object)[columns]
    found.loc[rows, "distance"] = own
    found.loc[rows, "quality"] = np.clip(quality, 0, 1)
    return found


def _typical(clusters):
    """Give a patch of each centre's direction, as stored: (k, dim) of float64.

    The square of a standardised column is 1 on the mean, that of a weighted one its weight squared.
    """
    length = np.linalg.norm(clusters.centres, axis=1, keepdims=True)
    direction = np.divide(
        clusters.centres, length, out=np.zeros(clusters.centres.shape), where=length > 0
    )
    share = np.ones(clusters.dim) if clusters.within is None else clusters.within
    share = np.where(clusters.spread > 0, share, 0)
    unscaled = np.divide(clusters.spread, share, out=np.zeros(clusters.dim), where=share > 0)
    return clusters.mean + np.sqrt(share @ share) * unscaled * direction
