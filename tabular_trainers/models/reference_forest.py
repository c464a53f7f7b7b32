"""Scikit-survival's random survival forest, for comparison with ours.

The fitted trees are kept as plain arrays, so that they are saved and explained like ours.
"""

import numpy as np
from sklearn.base import BaseEstimator

from tabular_trainers.models.spec import (
    MAX_BLOCK_COLUMNS,
    ModelSpec,
    refuse_entry,
    refuse_no_events,
)
from tabular_trainers.models.tree_explanation import explain
from tabular_trainers.models.trees import Forest, HoldsForest

LABEL = "Random survival forest, scikit-survival"


class ReferenceForest(HoldsForest, BaseEstimator):
    """``sksurv.ensemble.RandomSurvivalForest``, kept as arrays.

    Time and memory grow with patients x distinct times; meant for hundreds of patients.

    Parameters
    ----------
    n_trees : int
    min_samples_leaf : int
        Patients in a leaf, at least.
    max_features : float
        Share of columns tried at each split.
    n_jobs : int
        Threads.
    random_state : int
        Seed.

    Attributes
    ----------
    times_ : array of shape (n_times,)
        Distinct times of the training part.
    hazard_ : array of shape (n_leaves,)
        Cumulative hazard of each leaf, summed over the distinct event times.
    survival_ : array of shape (n_leaves, n_times)

    References
    ----------
    Poelsterl, S. (2020). scikit-survival: a library for time-to-event analysis built on top of
    scikit-learn. Journal of Machine Learning Research 21(212).
    """

    def __init__(
        self, n_trees=100, min_samples_leaf=15, max_features=0.3, n_jobs=1, random_state=0
    ):
        self.n_trees = n_trees
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, y, groups=None):
        """Grow the trees; ``groups`` is not needed, nothing is tuned inside.

        Raises
        ------
        DataError
            When nobody had the event, or entry times are given.
        """
        from sksurv.ensemble import RandomSurvivalForest
        from sksurv.util import Surv

        refuse_entry(y, LABEL)
        refuse_no_events(y, LABEL)
        engine = RandomSurvivalForest(
            n_estimators=self.n_trees,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features,
            n_jobs=self.n_jobs,
            random_state=self.random_state,
        ).fit(X, Surv.from_arrays(y["event"].astype(bool), y["time"]))
        trees = [tree.tree_ for tree in engine.estimators_]
        self._keep(_as_arrays(trees))
        leaf = np.concatenate([tree.children_left < 0 for tree in trees])
        value = np.concatenate([tree.value for tree in trees])[leaf]
        self.times_ = engine.unique_times_
        self.hazard_ = value[:, engine.is_event_time_, 0].sum(axis=1)
        self.survival_ = np.ascontiguousarray(value[:, :, 1])
        return self

    def predict(self, X):
        """Give the cumulative hazard, summed over the distinct event times, of shape (n,)."""
        return self.forest_.mean_value(X, self.hazard_[self.leaf_number_])

    def predict_survival(self, X, times):
        """Give the mean over trees of the leaves' Kaplan-Meier curves, of shape (n, n_times)."""
        padded = np.hstack([np.ones((len(self.survival_), 1)), self.survival_])
        wanted = np.searchsorted(self.times_, np.asarray(times, dtype=np.float64), side="right")
        curves = self.forest_.mean_value(X, padded[:, wanted][self.leaf_number_])
        return np.clip(curves, 0.0, 1.0)

    def shap_values(self, X):
        """Give base and contributions to the risk; exact, tree by tree."""
        return explain(self.forest_, self.hazard_[self.leaf_number_], X)


def _as_arrays(trees):
    """Join the nodes of scikit-learn trees into one forest."""
    sizes = [tree.node_count for tree in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    own = np.arange(sum(sizes))
    offset = np.repeat(roots, sizes)
    is_leaf = np.concatenate([tree.children_left < 0 for tree in trees])

    def joined(name, shift=0):
        return np.concatenate([getattr(tree, name) for tree in trees]) + shift

    left = np.where(is_leaf, own, joined("children_left", offset))
    right = np.where(is_leaf, own, joined("children_right", offset))
    threshold = joined("threshold")
    # Rounded down, a float32 threshold parts float32 values as the float64 one does.
    rounded = threshold.astype(np.float32)
    above = rounded > threshold
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    weight = joined("weighted_n_node_samples")
    return Forest(
        roots=roots.astype(np.int32),
        left=left.astype(np.int32),
        right=right.astype(np.int32),
        feature=np.where(is_leaf, 0, joined("feature")).astype(np.int32),
        threshold=np.where(is_leaf, np.float32(0), rounded),
        missing_left=weight[left] >= weight[right],
        weight=weight,
        gain=np.zeros(len(own), dtype=np.float32),
        depth=max(tree.max_depth for tree in trees),
    )


def _build(random_state=0, n_jobs=1, score_only=False, **parameters):
    return ReferenceForest(random_state=random_state, n_jobs=n_jobs, **parameters)


def _space(trial, facts):
    largest = max(15, min(50, facts.n // 10))  # the default is always among them
    return {
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 5, largest, log=True),
        "max_features": trial.suggest_float("max_features", 0.05, 0.5, log=True),
    }


SKSURV_RSF = ModelSpec(
    label=LABEL,
    build=_build,
    space=_space,
    risk=lambda fitted, X: fitted.predict(X),
    risk_scale="cumulative hazard, mean over trees and sum over event times",
    curve=lambda fitted, X, times: fitted.predict_survival(X, times),
    shap=lambda fitted, X, background, seed: fitted.shap_values(X),
    shap_kind="exact",
    supports_entry=False,
    handles_missing=False,
    scale=False,
    max_block_columns=MAX_BLOCK_COLUMNS,
    default=False,
    cost=8.0,
)
