"""Random survival forest: trees split by the log-rank statistic, leaves hold cumulative hazards."""

import numpy as np
from sklearn.base import BaseEstimator

from tabular_trainers.models.growth import grow_forest
from tabular_trainers.models.spec import (
    MAX_BLOCK_COLUMNS,
    ModelSpec,
    refuse_entry,
    refuse_no_events,
)
from tabular_trainers.models.trees import HoldsForest, explain

LABEL = "Random survival forest"
MAX_TIMES = 64  # distinct event times; C differs by less than between seeds from unbinned times


class RandomSurvivalForest(HoldsForest, BaseEstimator):
    """Forest of survival trees on binned event times.

    Event times are binned to at most 64 with equal numbers of events; a censored patient counts as
    at risk up to the last bin that ended before. With 64 distinct event times or fewer nothing is
    lost.

    Parameters
    ----------
    n_trees : int
        Costs time in proportion; C moves by 0.01 between seeds at 100, by half of that at 400.
    min_samples_leaf : int
        Patients in a leaf, at least.
    max_features : float
        Share of the columns looked at in a split.
    n_jobs : int
        Threads for growing; does not change the result.
    random_state : int
        Seed of the bootstraps and of the columns looked at.

    Attributes
    ----------
    times_ : array of shape (n_times,)
        Ends of the bins.
    hazard_ : array of shape (n_leaves, n_times)
        Cumulative hazard (Nelson-Aalen) of every leaf.

    References
    ----------
    Ishwaran, H. et al. (2008). Random survival forests. Annals of Applied Statistics 2(3).
    """

    def __init__(
        self, n_trees=200, min_samples_leaf=15, max_features=0.2, n_jobs=1, random_state=0
    ):
        self.n_trees = n_trees
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, y, groups=None):
        """Grow the trees; ``groups`` is not needed, since nothing is tuned inside.

        Raises
        ------
        DataError
            When nobody had the event, or entry times are given.
        """
        refuse_entry(y, LABEL)
        refuse_no_events(y, LABEL)
        self.times_ = _bin_ends(y)
        forest, self.hazard_ = grow_forest(
            X,
            y["event"],
            _steps(y, self.times_),
            len(self.times_),
            n_trees=self.n_trees,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features,
            seed=self.random_state,
            n_jobs=self.n_jobs,
        )
        self._keep(forest)
        return self

    def predict(self, X):
        """Give the cumulative hazard, averaged over trees and over ``times_``, of shape (n,)."""
        return self.forest_.mean_value(X, self._leaf_risk())

    def predict_survival(self, X, times):
        """Give the mean over trees of exp(-cumulative hazard), of shape (n, n_times)."""
        leaf = self.leaf_number_[self.forest_.leaves(X)]
        survival = np.hstack([np.ones((len(self.hazard_), 1)), np.exp(-self.hazard_)])
        wanted = np.searchsorted(self.times_, np.asarray(times, dtype=np.float64), side="right")
        survival = survival[:, wanted]
        curves = np.zeros((len(X), len(wanted)))
        for tree in range(leaf.shape[1]):  # one tree at a time: n x n_times, not n x trees x times
            curves += survival[leaf[:, tree]]
        return np.clip(curves / leaf.shape[1], 0.0, 1.0)

    def shap_values(self, X):
        """Give base and contributions to the risk; exact, tree by tree."""
        return explain(self.forest_, self._leaf_risk(), X)

    def _leaf_risk(self):
        return self.hazard_.mean(axis=1)[self.leaf_number_]


def _bin_ends(y):
    """End at most 64 bins at event times, with about equal numbers of events in each."""
    times = np.sort(y["time"][y["event"].astype(bool)])
    distinct = np.unique(times)
    if len(distinct) <= MAX_TIMES:
        return distinct
    last = np.ceil(np.arange(1, MAX_TIMES + 1) * len(times) / MAX_TIMES).astype(int) - 1
    return np.unique(times[last])


def _steps(y, ends):
    """Give each patient a bin from 1: an event its own, a censoring the last that ended before."""
    return np.where(
        y["event"],
        np.searchsorted(ends, y["time"], side="left") + 1,
        np.searchsorted(ends, y["time"], side="right"),
    )


def _build(random_state=0, n_jobs=1, score_only=False, **parameters):
    return RandomSurvivalForest(random_state=random_state, n_jobs=n_jobs, **parameters)


def _space(trial, facts):
    largest = max(15, min(50, facts.n // 10))  # the default is always among them
    return {
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 5, largest, log=True),
        "max_features": trial.suggest_float("max_features", 0.05, 0.5, log=True),
    }


RSF = ModelSpec(
    label=LABEL,
    build=_build,
    space=_space,
    risk=lambda fitted, X: fitted.predict(X),
    risk_scale="cumulative hazard, mean over trees and event times",
    curve=lambda fitted, X, times: fitted.predict_survival(X, times),
    shap=lambda fitted, X, background, seed: fitted.shap_values(X),
    shap_kind="exact",
    supports_entry=False,
    handles_missing=False,
    scale=False,
    max_block_columns=MAX_BLOCK_COLUMNS,
)
