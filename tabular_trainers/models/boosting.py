"""XGBoost for survival and classification, with survival curves calibrated out of fold."""

import numpy as np
from sklearn.base import BaseEstimator

from tabular_trainers.folds import inner_folds
from tabular_trainers.models.hazard import breslow, margin_slope, survival_curves
from tabular_trainers.models.linear import refuse_one_class
from tabular_trainers.models.spec import (
    MAX_BLOCK_COLUMNS,
    ModelSpec,
    refuse_entry,
    refuse_no_events,
)

LABEL = "XGBoost"
MAX_BIN = 64  # 3.5 times faster than 256 bins on 1,500 columns, same concordance


class _Boosted(BaseEstimator):
    """The booster both tasks share; kept as bytes, so that a saved model holds only numbers."""

    def _boost(self, X, label, objective, base_score):
        import xgboost

        settings = {
            "objective": objective,
            "base_score": base_score,
            "tree_method": "hist",
            "max_bin": MAX_BIN,
            "max_depth": self.max_depth,
            "eta": self.learning_rate,
            "min_child_weight": self.min_child_weight,
            "lambda": self.reg_lambda,
            "subsample": self.subsample,
            "colsample_bynode": self.colsample,
            "nthread": self.n_jobs,
            "seed": self.random_state,
            "verbosity": 0,
        }
        table = xgboost.QuantileDMatrix(X, label=label, max_bin=MAX_BIN, nthread=self.n_jobs)
        booster = xgboost.train(settings, table, self.n_trees)
        return np.frombuffer(booster.save_raw("ubj"), dtype=np.uint8)

    def _output(self, X, booster=None, **kind):
        import xgboost

        engine = xgboost.Booster({"nthread": self.n_jobs, "verbosity": 0})
        engine.load_model(bytearray((self.booster_ if booster is None else booster).tobytes()))
        table = xgboost.DMatrix(np.asarray(X, dtype=np.float32), nthread=self.n_jobs)
        return engine.predict(table, **kind).astype(np.float64)

    def _margin(self, X, booster=None):
        return self._output(X, booster, output_margin=True)

    def _contributions(self, X):
        table = self._output(X, pred_contribs=True)
        return float(table[0, -1]) if len(table) else 0.0, table[:, :-1]


class BoostedCox(_Boosted):
    """Gradient-boosted trees on the Cox partial likelihood.

    The risk is the margin less its training mean. Margins of the patients a booster was fitted on
    are too far apart, so the baseline hazard and one slope for the curves are fitted on margins
    that boosters of inner folds give the patients held out from them.

    Parameters
    ----------
    n_trees : int
        Boosting rounds; costs time in proportion.
    max_depth : int
        Splits from root to leaf, at most.
    learning_rate : float
        Shrinkage of each tree.
    min_child_weight : float
        Sum of the partial likelihood's second derivatives in a leaf, at least; about the number
        of events expected there.
    reg_lambda : float
        Ridge penalty of the leaves.
    subsample, colsample : float
        Share of patients a tree, of columns a split.
    score_only : bool
        Skip the inner boosters; the risk is the same, survival curves are not available.
    n_splits : int
        Inner folds; they keep the groups given to ``fit``.
    n_jobs : int
        Threads.
    random_state : int
        Seed.

    Attributes
    ----------
    booster_ : uint8 array
        The booster in XGBoost's own format (ubj).
    slope_ : float
        Slope of the held-out margins, between 0 and 2; below 1 when they are too far apart.
    """

    def __init__(
        self,
        n_trees=100,
        max_depth=2,
        learning_rate=0.05,
        min_child_weight=2.0,
        reg_lambda=10.0,
        subsample=0.7,
        colsample=0.3,
        score_only=False,
        n_splits=5,
        n_jobs=1,
        random_state=0,
    ):
        self.n_trees = n_trees
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.subsample = subsample
        self.colsample = colsample
        self.score_only = score_only
        self.n_splits = n_splits
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, y, groups=None):
        """Boost on all patients; unless ``score_only``, calibrate on inner folds.

        Raises
        ------
        DataError
            When nobody had the event, or entry times are given.
        """
        refuse_entry(y, LABEL)
        refuse_no_events(y, LABEL)
        X = np.asarray(X, dtype=np.float32)
        self.booster_, self.centre_ = self._boost_cox(X, y)
        if self.score_only:
            return self
        margin = np.empty(len(y))
        for train, test in inner_folds(y, groups, n_splits=self.n_splits, seed=self.random_state):
            booster, centre = self._boost_cox(X[train], y[train])
            margin[test] = self._margin(X[test], booster) - centre
        self.slope_ = margin_slope(y, margin)
        self.baseline_times_, self.baseline_hazard_ = breslow(y, self.slope_ * margin)
        return self

    def predict(self, X):
        """Give the log hazard relative to the training mean, before calibration, of shape (n,)."""
        return self._margin(X) - self.centre_

    def predict_survival(self, X, times):
        """Give calibrated survival probabilities, of shape (n, n_times)."""
        if self.score_only:
            raise ValueError("fitted with score_only: no survival curves; fit without it.")
        margin = self.slope_ * self.predict(X)
        return survival_curves(self.baseline_times_, self.baseline_hazard_, margin, times)

    def shap_values(self, X):
        """Give base and contributions to the risk; exact up to XGBoost's single precision."""
        base, contributions = self._contributions(X)
        return base - self.centre_, contributions

    def _boost_cox(self, X, y):
        # Ranks keep the order and the ties of the times, which is all the partial likelihood uses,
        # and cannot collide in single precision; the sign marks censoring.
        rank = np.unique(y["time"], return_inverse=True)[1] + 1.0
        label = np.where(y["event"], rank, -rank)
        booster = self._boost(X, label, "survival:cox", base_score=1.0)
        return booster, float(self._margin(X, booster).mean())


class BoostedClassifier(_Boosted):
    """Gradient-boosted trees on the log loss.

    Parameters
    ----------
    n_trees : int
        Boosting rounds; costs time in proportion.
    max_depth : int
        Splits from root to leaf, at most.
    learning_rate : float
        Shrinkage of each tree.
    min_child_weight : float
        Sum of p (1 - p) in a leaf, at least.
    reg_lambda : float
        Ridge penalty of the leaves.
    subsample, colsample : float
        Share of patients a tree, of columns a split.
    n_jobs : int
        Threads.
    random_state : int
        Seed.
    """

    def __init__(
        self,
        n_trees=100,
        max_depth=2,
        learning_rate=0.05,
        min_child_weight=2.0,
        reg_lambda=10.0,
        subsample=0.7,
        colsample=0.3,
        n_jobs=1,
        random_state=0,
    ):
        self.n_trees = n_trees
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.subsample = subsample
        self.colsample = colsample
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, y, groups=None):
        """Boost on labels 0 and 1; ``groups`` is not needed, nothing is tuned inside.

        Raises
        ------
        DataError
            When only one class is in the training part.
        """
        refuse_one_class(y, LABEL)
        prevalence = float(np.mean(y))
        self.booster_ = self._boost(
            np.asarray(X, dtype=np.float32), y, "binary:logistic", base_score=prevalence
        )
        return self

    def predict(self, X):
        """Give the probability of the positive class, of shape (n,)."""
        return 0.5 * (1.0 + np.tanh(0.5 * self.log_odds(X)))

    def log_odds(self, X):
        """Give the log odds of the positive class, of shape (n,)."""
        return self._margin(X)

    def shap_values(self, X):
        """Give base and contributions to the log odds; exact up to XGBoost's single precision."""
        return self._contributions(X)


def _build_cox(random_state=0, n_jobs=1, score_only=False, **parameters):
    return BoostedCox(random_state=random_state, n_jobs=n_jobs, score_only=score_only, **parameters)


def _build_classifier(random_state=0, n_jobs=1, score_only=False, **parameters):
    return BoostedClassifier(random_state=random_state, n_jobs=n_jobs, **parameters)


def _space(trial, facts):
    return {
        "n_trees": trial.suggest_int("n_trees", 50, 200, step=50),
        "max_depth": trial.suggest_int("max_depth", 1, 4),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        "colsample": trial.suggest_float("colsample", 0.1, 1.0, log=True),
        "reg_lambda": trial.suggest_float("reg_lambda", 1.0, 30.0, log=True),
    }


_SHARED = {
    "label": LABEL,
    "space": _space,
    "risk": lambda fitted, X: fitted.predict(X),
    "shap": lambda fitted, X, background, seed: fitted.shap_values(X),
    "shap_kind": "exact",
    "supports_entry": False,
    "handles_missing": True,
    "scale": False,
    "max_block_columns": MAX_BLOCK_COLUMNS,
}

XGB_SURVIVAL = ModelSpec(
    build=_build_cox,
    risk_scale="log hazard relative to the training mean, before calibration",
    curve=lambda fitted, X, times: fitted.predict_survival(X, times),
    **_SHARED,
)

XGB_CLASSIFICATION = ModelSpec(
    build=_build_classifier,
    risk_scale="probability",
    curve=None,
    shap_scale="log odds",
    explained=lambda fitted, X: fitted.log_odds(X),
    **_SHARED,
)
