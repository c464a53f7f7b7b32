"""Patches as columns: the shares of a patient's patches in clusters made of training patients.

The clusters are learned like any other step of the preprocessing, inside a training part. Feature
sets, models and trials of one fold ask for the same ones; they are made once in a process.
"""

import dataclasses
import hashlib
import threading

import numpy as np
import pandas as pd

from tabular_trainers.errors import SchemaError, listing
from tabular_trainers.held_patches import held_patches
from tabular_trainers.patch_bags import place_of
from tabular_trainers.patch_clusters import fit_clusters
from tabular_trainers.patch_prevalence import check_clusters, prevalence
from tabular_trainers.patch_sample import sample_patches

SAMPLED = 100_000  # patches that clusters are made of, at most
KEPT_CLUSTERS = 32  # of the inner and outer training parts of five folds, and of all

_CLUSTERS, _SHARES, _LOCK = {}, {}, threading.Lock()


def clusters_of_bags(bags, k, seed=0):
    """Make clusters of the patches of some patients.

    At most 100,000 patches, drawn evenly over patients and slides (`sample_patches`), in k clusters
    (`fit_clusters`). Nothing of a patient who is not named reaches them.

    Parameters
    ----------
    bags : sequence of str
        Where the patches of each patient are (`patch_bags`); missing for patients without any.
    k : int
    seed : int, default 0

    Returns
    -------
    Clusters

    Raises
    ------
    DataError
        When there are fewer distinct patches than clusters.
    SchemaError
        When nobody has patches, or they are in several stores.
    """
    return _clusters(bags, k, seed)


def reference_of_bags(bags, k, seed=0):
    """Make clusters of the patches of all patients of a run: they give names, and nothing else.

    As `clusters_of_bags`, from the whole store also where that is large: the reference clusters of
    `explain-slides`, for the same number and seed.

    Parameters
    ----------
    bags : sequence of str
    k : int
    seed : int, default 0

    Returns
    -------
    Clusters
    """
    return _clusters(bags, k, seed, whole=True)


def shares_of_bags(bags, clusters):
    """Count which share of each patient's patches lies in each cluster.

    The shares of a patient's slides are averaged, so that each slide counts the same.

    Parameters
    ----------
    bags : sequence of str
        As for `clusters_of_bags`; of any store by the encoder of the clusters.
    clusters : Clusters

    Returns
    -------
    ndarray of shape (n_patients, k)
        Rows sum to 1; NaN for patients without patches.

    Raises
    ------
    SchemaError
        When a store is of another encoder.
    """
    found = np.full((len(bags), clusters.k), np.nan)
    of_store = {}
    for i, bag in enumerate(bags):
        if not pd.isna(bag):
            store, patient = place_of(bag)
            of_store.setdefault(store, []).append((i, patient))
    for store, wanted in of_store.items():
        rows, patients = zip(*wanted, strict=True)
        found[list(rows)] = _known_shares(held_patches(store), clusters, patients)
    return found


def as_arrays(clusters):
    """Take clusters apart into arrays and text, which a saved model may hold."""
    return {f.name: getattr(clusters, f.name) for f in dataclasses.fields(clusters)}


def _clusters(bags, k, seed, whole=False):
    places = [place_of(bag) for bag in bags if not pd.isna(bag)]
    stores = sorted({store for store, _ in places})
    if len(stores) != 1:
        raise SchemaError(
            f"clusters need the patches of one store, not of {listing(stores) or 'none'}."
        )
    held, patients = held_patches(stores[0]), tuple(sorted(patient for _, patient in places))
    whole = whole and held.n_patches < held.whole.n_patches  # else the same
    key = (held.state, whole, patients, k, seed)
    found = _CLUSTERS.get(key)
    if found is None:
        source = held.whole if whole else held
        found = fit_clusters(sample_patches(source, patients, SAMPLED, seed), k, seed)
        _keep(_CLUSTERS, key, found)
    return found


def _known_shares(held, clusters, patients):
    """Count the shares of patients who have not been counted with these clusters yet."""
    check_clusters(held, clusters)
    digest = hashlib.sha256(str(clusters.centres.shape).encode())
    for values in (clusters.centres, clusters.mean, clusters.spread, clusters.within):
        digest.update(np.ascontiguousarray(values))
    key = (held.state, digest.digest())
    known = _SHARES.get(key)
    if known is None:
        known = {}
        _keep(_SHARES, key, known)
    new = sorted(set(patients) - set(known))
    if new:
        counted = prevalence(held, clusters, "slide", new)
        known.update(zip(counted.index, counted.to_numpy(), strict=True))
    return np.stack([known[patient] for patient in patients])


def _keep(kept, key, value):
    with _LOCK:
        kept[key] = value
        while len(kept) > KEPT_CLUSTERS:
            del kept[next(iter(kept))]
