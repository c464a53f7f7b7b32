"""Scikit-survival's elastic-net Cox, for comparison with ours."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator

from tabular_trainers.folds import inner_folds
from tabular_trainers.metrics import harrell_c
from tabular_trainers.models.hazard import breslow, survival_curves
from tabular_trainers.models.risk_sets import RiskSets
from tabular_trainers.models.spec import (
    MAX_BLOCK_COLUMNS,
    ModelSpec,
    refuse_entry,
    refuse_no_events,
)

LABEL = "Cox, elastic net, scikit-survival"
TOLERANCE = 1e-9  # optimality within 0.3% of the penalty; the engine's own 1e-7 leaves 4%


class ReferenceCoxnet(BaseEstimator):
    """``sksurv.linear_model.CoxnetSurvivalAnalysis`` with a penalty chosen on inner folds.

    Parameters
    ----------
    l1_ratio : float
        Share of the lasso in the penalty, above 0 and at most 1.
    penalty : float or None
        None: chosen among ``n_penalties`` values by the cross-validated partial likelihood.
    n_penalties : int
        Length of the path.
    n_splits : int
        Inner folds; they keep the groups given to ``fit``.
    max_iter : int
        Passes over the columns, for the whole path.
    random_state : int
        Seed of the inner folds.

    Attributes
    ----------
    coef_ : array of shape (p,)
    centre_ : array of shape (p,)
        Column means of the training part; the risk is ``(X - centre_) @ coef_``.
    chosen_parameters_ : dict
        Parameters that repeat this fit bit for bit without cross-validation.
    inner_value_ : float or None
        Mean Harrell's C of the chosen penalty over the inner folds.
    penalty_ : float
        Larger than asked for where the engine did not reach the end of the path.

    References
    ----------
    Simon, N. et al. (2011). Regularization paths for Cox's proportional hazards model via
    coordinate descent. Journal of Statistical Software 39(5).
    """

    def __init__(
        self,
        l1_ratio=0.5,
        penalty=None,
        n_penalties=50,
        n_splits=5,
        max_iter=10_000,
        random_state=0,
    ):
        self.l1_ratio = l1_ratio
        self.penalty = penalty
        self.n_penalties = n_penalties
        self.n_splits = n_splits
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X, y, groups=None):
        """Fit the path down to the penalty, on standardised columns without missing values.

        Raises
        ------
        DataError
            When nobody had the event, or entry times are given.
        """
        refuse_entry(y, LABEL)
        refuse_no_events(y, LABEL)
        self.centre_ = X.mean(axis=0)
        X = X - self.centre_
        penalties = self._grid(X, y)
        self.inner_value_ = None
        last = float(self.penalty or self._choose(X, y, groups, penalties))
        path = np.append(penalties[penalties > last], last)
        coef = self._path(X, y, path)
        self.penalty_ = float(path[coef.shape[1] - 1])
        self.coef_ = np.ascontiguousarray(coef[:, -1])
        self.chosen_parameters_ = {"l1_ratio": self.l1_ratio, "penalty": self.penalty_}
        self.baseline_times_, self.baseline_hazard_ = breslow(y, X @ self.coef_)
        return self

    def predict(self, X):
        """Give the log hazard relative to the training mean, of shape (n,)."""
        return (X - self.centre_) @ self.coef_

    def predict_survival(self, X, times):
        """Give survival probabilities, of shape (n, n_times)."""
        return survival_curves(self.baseline_times_, self.baseline_hazard_, self.predict(X), times)

    def shap_values(self, X):
        """Give base and contributions to the log hazard; exact, since the risk is linear."""
        return 0.0, (X - self.centre_) * self.coef_

    def _grid(self, X, y):
        """Penalties from the smallest that leaves every coefficient at zero downwards."""
        _, residual, _ = RiskSets(y).derivatives(np.zeros(len(y)))
        largest = float(np.abs(X.T @ residual).max()) / len(y) / self.l1_ratio
        # With ten events a column the end is as good as unpenalised; with fewer it is never chosen.
        lowest = 0.001 if 10 * X.shape[1] <= y["event"].sum() else 0.01
        return max(largest, 1e-12) * np.geomspace(1.0, lowest, self.n_penalties)

    def _path(self, X, y, penalties):
        """Fit the path; coefficients (p, n_reached), at least one column.

        The engine ends it early where the likelihood hardly changes any more, and fails as a whole
        where its weights grow too large: then the path is cut until it does not.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sksurv.linear_model import CoxnetSurvivalAnalysis
        from sksurv.util import Surv

        outcome = Surv.from_arrays(y["event"].astype(bool), y["time"])
        reach = len(penalties)
        while reach:
            engine = CoxnetSurvivalAnalysis(
                alphas=penalties[:reach],
                l1_ratio=self.l1_ratio,
                max_iter=self.max_iter,
                tol=TOLERANCE,
            )
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="all coefficients are zero")
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    return engine.fit(X, outcome).coef_
            except ArithmeticError:
                reach = reach * 3 // 4
        return np.zeros((X.shape[1], 1))

    def _choose(self, X, y, groups, penalties):
        sets = RiskSets(y)
        value = np.zeros(len(penalties))
        held_out = []
        for train, test in inner_folds(y, groups, n_splits=self.n_splits, seed=self.random_state):
            coef = self._path(X[train], y[train], penalties)
            coef = np.pad(coef, ((0, 0), (0, len(penalties) - coef.shape[1])), mode="edge")
            margin, learned = X @ coef, RiskSets(y[train])
            value += [
                sets.log_likelihood(eta) - learned.log_likelihood(eta[train]) for eta in margin.T
            ]
            held_out.append((y[test], margin[test]))
        # Never the first penalty: its model is empty and ranks nobody.
        best = 1 + int(np.argmax(value[1:]))
        scores = [harrell_c(truth, margin[:, best]) for truth, margin in held_out]
        self.inner_value_ = float(np.mean(scores))
        return penalties[best]


def _build(random_state=0, n_jobs=1, score_only=False, **parameters):
    return ReferenceCoxnet(random_state=random_state, **parameters)


SKSURV_COXNET = ModelSpec(
    label=LABEL,
    build=_build,
    space=lambda trial, facts: {},
    risk=lambda fitted, X: fitted.predict(X),
    risk_scale="log hazard relative to the training mean",
    curve=lambda fitted, X, times: fitted.predict_survival(X, times),
    shap=lambda fitted, X, background, seed: fitted.shap_values(X),
    shap_kind="exact",
    supports_entry=False,
    handles_missing=False,
    scale=True,
    max_block_columns=MAX_BLOCK_COLUMNS,
    coefficients=lambda fitted: fitted.coef_,
    intercept=lambda fitted: -float(fitted.centre_ @ fitted.coef_),
    self_tuning="the penalty by the cross-validated partial likelihood over five inner folds",
    default=False,
)
