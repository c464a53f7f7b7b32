"""XGBoost for survival and classification, with survival curves calibrated out of fold."""

import numpy as np

from tabular_trainers.models.booster import Boosted, SharedMatrix, margins_of
from tabular_trainers.models.hazard import curves_of, margin_slope
from tabular_trainers.models.linear import refuse_one_class
from tabular_trainers.models.risk_sets import RiskSets
from tabular_trainers.models.spec import ModelSpec, refuse_no_events

LABEL = "XGBoost"
# Mean inner C in four TCGA cohorts, of clinical with 150 and 400 genomic columns: .669 whole, .668
# as 32 components. Whole columns cost two to five times the time, and can be named in explanations.
MAX_BLOCK_COLUMNS = 500


class BoostedCox(Boosted):
    """Gradient-boosted trees on the Cox partial likelihood.

    XGBoost's own likelihood knows neither entry times nor strata. With either it is given gradient
    and curvature of ours, which also chooses the rounds; without them all is XGBoost's. The two
    agree, except that ours breaks ties after Breslow, while XGBoost's own counts for each of
    several patients tied in time only some of the deaths tied with his.

    The risk is the margin less its training mean. Margins of the patients a booster was fitted on
    are too far apart, so the baseline hazard and one slope for the curves are fitted on margins
    that boosters of inner folds give the patients held out from them. The same boosters choose the
    number of rounds, unless it is given.

    Parameters
    ----------
    n_trees : int or None
        Boosting rounds; costs time in proportion. None: those, from 70 to 300, with the highest
        partial likelihood of the patients held out from the inner folds.
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
        Skip what only survival curves need; the risk is the same.
    n_splits : int
        Inner folds; they keep the groups given to ``fit``.
    device : str
        Where XGBoost fits: ``"cpu"`` or ``"cuda"``. A model predicts on the processor.
    n_jobs : int
        Threads.
    random_state : int
        Seed.

    Attributes
    ----------
    booster_ : uint8 array
        The booster in XGBoost's own format (ubj).
    chosen_parameters_ : dict
        ``n_trees``; given to a new model, it repeats this fit bit for bit.
    slope_ : float
        Slope of the held-out margins, between 0 and 2; below 1 when they are too far apart.
    """

    def __init__(
        self,
        n_trees=None,
        max_depth=2,
        learning_rate=0.07,
        min_child_weight=2.0,
        reg_lambda=10.0,
        subsample=0.7,
        colsample=0.3,
        score_only=False,
        n_splits=5,
        device="cpu",
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
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, y, groups=None, strata=None):
        """Boost on all patients; unless ``score_only``, calibrate on inner folds.

        Parameters
        ----------
        X : array of shape (n, p), or what ``prepare`` makes of it
        y : structured array with fields event, time and perhaps entry, shape (n,)
        groups : array of shape (n,), optional
            Site labels; a site stays in one inner fold.
        strata : array of shape (n,), optional
            Each stratum has a baseline hazard of its own.

        Raises
        ------
        DataError
            When nobody had the event, or a patient enters at or after his time.
        """
        refuse_no_events(y, LABEL)
        booster, table, margins = self._fit_boosters(X, y, groups, not self.score_only, strata)
        self.centre_ = float(margins_of(booster, table).mean())
        if margins is not None:
            sets = RiskSets(y, strata)
            self.slope_ = margin_slope(y, margins, strata=strata)
            self.baseline_times_, self.baseline_stratum_ = sets.times, sets.stratum
            self.baseline_hazard_ = sets.baseline(self.slope_ * margins)
            self.strata_ = None if strata is None else np.unique(strata).tolist()
        return self

    def predict(self, X):
        """Give the log hazard relative to the training mean, before calibration, of shape (n,)."""
        return self._margin(X) - self.centre_

    def predict_survival(self, X, times, strata=None):
        """Give calibrated survival probabilities, of shape (n, n_times).

        Raises
        ------
        DataError
            When strata are missing, unknown, or were not fitted.
        """
        if self.score_only:
            raise ValueError("fitted with score_only: no survival curves; fit without it.")
        return curves_of(self, self.slope_ * self.predict(X), times, strata, LABEL)

    def shap_values(self, X):
        """Give base and contributions to the risk; exact up to XGBoost's single precision."""
        base, contributions = self._contributions(X)
        return base - self.centre_, contributions

    def _settings(self, y):
        cox = {"objective": "survival:cox", "eval_metric": "cox-nloglik", "base_score": 1.0}
        return super()._settings(y) | cox

    def _label(self, y):
        # Ranks keep the order and the ties of the times, which is all the partial likelihood uses,
        # and cannot collide in single precision; the sign marks censoring.
        rank = np.unique(y["time"], return_inverse=True)[1] + 1.0
        return np.where(y["event"], rank, -rank)

    def _loss_weight(self, y):
        return float(y["event"].sum())  # XGBoost gives the loss an event

    def _likelihood(self, y, strata):
        if strata is None and "entry" not in y.dtype.names:
            return None
        return RiskSets(y, strata)


class BoostedClassifier(Boosted):
    """Gradient-boosted trees on the log loss.

    Parameters
    ----------
    n_trees : int or None
        Boosting rounds; costs time in proportion. None: those, from 70 to 300, with the least log
        loss of the patients held out from inner folds.
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
    n_splits : int
        Inner folds; they keep the groups given to ``fit``.
    device : str
        Where XGBoost fits: ``"cpu"`` or ``"cuda"``. A model predicts on the processor.
    n_jobs : int
        Threads.
    random_state : int
        Seed.

    Attributes
    ----------
    booster_ : uint8 array
        The booster in XGBoost's own format (ubj).
    chosen_parameters_ : dict
        ``n_trees``; given to a new model, it repeats this fit bit for bit.
    """

    def __init__(
        self,
        n_trees=None,
        max_depth=2,
        learning_rate=0.07,
        min_child_weight=2.0,
        reg_lambda=10.0,
        subsample=0.7,
        colsample=0.3,
        n_splits=5,
        device="cpu",
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
        self.n_splits = n_splits
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, y, groups=None):
        """Boost on labels 0 and 1; ``groups`` keep sites in one inner fold.

        Raises
        ------
        DataError
            When only one class is in the training part.
        """
        refuse_one_class(y, LABEL)
        self._fit_boosters(X, y, groups, held_out_margins=False)
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

    def _settings(self, y):
        logistic = {"objective": "binary:logistic", "eval_metric": "logloss"}
        return super()._settings(y) | logistic | {"base_score": float(np.mean(y))}

    def _label(self, y):
        return y

    def _loss_weight(self, y):
        return float(len(y))


def _build_cox(random_state=0, n_jobs=1, score_only=False, **parameters):
    return BoostedCox(random_state=random_state, n_jobs=n_jobs, score_only=score_only, **parameters)


def _build_classifier(random_state=0, n_jobs=1, score_only=False, **parameters):
    return BoostedClassifier(random_state=random_state, n_jobs=n_jobs, **parameters)


def _space(trial, facts):
    # A tree of depth d has up to 2^d leaves: at least ten events for each, and the default, 2.
    deepest = min(max(int(np.log2(max(facts.n_events, 1) / 10)), 2), 4)
    return {
        "max_depth": trial.suggest_int("max_depth", 1, deepest),
        "colsample": trial.suggest_float("colsample", 0.1, 1.0, log=True),
        "reg_lambda": trial.suggest_float("reg_lambda", 1.0, 30.0, log=True),
    }


_SHARED = {
    "label": LABEL,
    "space": _space,
    "risk": lambda fitted, X: fitted.predict(X),
    "shap": lambda fitted, X, background, seed: fitted.shap_values(X),
    "shap_kind": "exact",
    "handles_missing": True,
    "scale": False,
    "max_block_columns": MAX_BLOCK_COLUMNS,
    "prepare": SharedMatrix,
    "self_tuning": "the number of boosting rounds by the held-out loss of inner folds",
}

XGB_SURVIVAL = ModelSpec(
    build=_build_cox,
    risk_scale="log hazard relative to the training mean, before calibration",
    curve=lambda fitted, X, times: fitted.predict_survival(X, times),
    supports_entry=True,
    **_SHARED,
)

XGB_CLASSIFICATION = ModelSpec(
    build=_build_classifier,
    risk_scale="probability",
    curve=None,
    shap_scale="log odds",
    explained=lambda fitted, X: fitted.log_odds(X),
    supports_entry=False,
    **_SHARED,
)
