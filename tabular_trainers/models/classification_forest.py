"""Random forest for two classes, explained exactly on the probability scale."""

import numpy as np
from sklearn.base import BaseEstimator

from tabular_trainers.models.binning import bin_columns
from tabular_trainers.models.growth import Times, grow_forest
from tabular_trainers.models.linear import refuse_one_class
from tabular_trainers.models.spec import MAX_BLOCK_COLUMNS, ModelSpec
from tabular_trainers.models.tree_explanation import explain
from tabular_trainers.models.trees import HoldsForest

LABEL = "Random forest"


class ProbabilityForest(HoldsForest, BaseEstimator):
    """Forest of classification trees split by Gini impurity; leaves hold probabilities.

    Parameters
    ----------
    n_trees : int
        Costs time in proportion.
    min_samples_leaf : int
        Patients in a leaf, at least.
    max_features : float
        Share of the columns looked at in a split.
    n_jobs : int
        Threads for growing; does not change the result.
    random_state : int
        Seed of the bootstraps and of the columns looked at.

    References
    ----------
    Breiman, L. (2001). Random forests. Machine Learning 45.

    Attributes
    ----------
    value_ : array of shape (n_nodes,)
        Share of the positive class among the training patients of a leaf.
    """

    def __init__(self, n_trees=200, min_samples_leaf=5, max_features=0.2, n_jobs=1, random_state=0):
        self.n_trees = n_trees
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, y, groups=None):
        """Grow the trees on labels 0 and 1; ``groups`` is not needed, nothing is tuned inside.

        Raises
        ------
        DataError
            When only one class is in the training part.
        """
        refuse_one_class(y, LABEL)
        label = np.asarray(y) == 1
        # With one time that everyone is at risk at, the log-rank statistic of a cut is proportional
        # to its decrease in Gini impurity, and a leaf's hazard is its share of the positive class.
        once, never = np.ones(len(label), dtype=np.int64), np.zeros(len(label), dtype=np.int64)
        times = Times(label, once, once, never, once, np.ones(1, dtype=np.int64))
        grown = grow_forest(
            X,
            times,
            n_trees=self.n_trees,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features,
            seed=self.random_state,
            n_jobs=self.n_jobs,
        )
        self._keep(grown.forest)
        self.value_ = grown.risk[self.leaf_number_]
        return self

    def predict(self, X):
        """Give the probability of the positive class, of shape (n,)."""
        return self.forest_.mean_value(X, self.value_)

    def shap_values(self, X):
        """Give base and contributions to the probability; exact, tree by tree."""
        return explain(self.forest_, self.value_, X)


def _build(random_state=0, n_jobs=1, score_only=False, **parameters):
    return ProbabilityForest(random_state=random_state, n_jobs=n_jobs, **parameters)


def _space(trial, facts):
    largest = max(5, min(50, facts.n // 10))  # the default is always among them
    return {
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 2, largest, log=True),
        "max_features": trial.suggest_float("max_features", 0.05, 0.5, log=True),
    }


RANDOM_FOREST = ModelSpec(
    label=LABEL,
    build=_build,
    space=_space,
    risk=lambda fitted, X: fitted.predict(X),
    risk_scale="probability",
    curve=None,
    shap=lambda fitted, X, background, seed: fitted.shap_values(X),
    shap_kind="exact",
    supports_entry=False,
    handles_missing=True,
    scale=False,
    max_block_columns=MAX_BLOCK_COLUMNS,
    prepare=bin_columns,
    cost=8.0,
)
