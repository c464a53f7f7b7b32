"""How much of each patient's tissue lies in each cluster of patches."""

import numpy as np
import pandas as pd

from tabular_trainers.errors import SchemaError, unknown_name

BY = ("slide", "patch")


def prevalence(patches, clusters, by="slide", patients=None, progress=None):
    """Count which share of each patient's patches lies in each cluster.

    Parameters
    ----------
    patches : PatchStore
    clusters : Clusters
    by : {"slide", "patch"}, default "slide"
        ``"slide"``: the shares of a patient's slides are averaged, so that each slide counts the
        same. ``"patch"``: all patches of a patient are one bag.
    patients : sequence of str, optional
        Default: all of the store.
    progress : callable, optional
        Called as ``progress(done, total, what)`` after each slide.

    Returns
    -------
    DataFrame
        A row a patient (sorted), a column a cluster (``c01`` ...); rows sum to 1.

    Raises
    ------
    SchemaError
        When the clusters are of another encoder, or ``by`` is unknown.
    DataError
        When some patients have no patch.
    """
    check_clusters(patches, clusters)
    slides = patches.slides_of(patients)
    counts = np.zeros((len(slides), clusters.k), dtype=np.int64)
    for done, slide in enumerate(slides["slide_id"]):
        counts[done] = np.bincount(label_slide(patches, clusters, slide), minlength=clusters.k)
        if progress is not None:
            progress(done + 1, len(slides), f"slide {slide}")
    return shares(pd.DataFrame(counts, columns=clusters.names), slides["patient_id"], by)


def shares(counts, patient_id, by="slide"):
    """Turn counts of patches a slide and cluster into shares a patient.

    Parameters
    ----------
    counts : DataFrame
        A row a slide, a column a cluster.
    patient_id : sequence of str
        Of each slide.
    by : {"slide", "patch"}, default "slide"
        As in `prevalence`.

    Returns
    -------
    DataFrame
        Indexed by ``patient_id``, sorted; rows sum to 1.
    """
    if by not in BY:
        raise SchemaError(unknown_name("unit", by, list(BY)))
    patient_id = pd.Index(np.asarray(patient_id), name="patient_id")
    counts = counts.set_axis(patient_id).astype("float64")
    if by == "slide":
        counts = counts.div(counts.sum(axis=1), axis=0)
    summed = counts.groupby(level=0, sort=True).sum()
    return summed.div(summed.sum(axis=1), axis=0)


def label_slide(patches, clusters, slide_id):
    """Find the cluster of each patch of a slide: (n_patches,) of int32, 0 for ``c01``."""
    return np.concatenate([clusters.assign(block) for block in patches.iterate(slide_id)])


def check_clusters(patches, clusters):
    """Raise SchemaError where clusters were made of another encoder's vectors."""
    if clusters.dim != patches.dim:
        raise SchemaError(
            f"{patches.folder.name}: vectors of {patches.dim} columns; these clusters are of "
            f"{clusters.dim}."
        )
    if clusters.encoder_id not in (None, patches.encoder_id):
        raise SchemaError(
            f"{patches.folder.name}: made by encoder {patches.encoder_id}; these clusters are of "
            f"vectors of {clusters.encoder_id}. Extract the slides with that one."
        )
