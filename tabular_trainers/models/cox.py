"""Cox regression with an elastic-net penalty that is chosen inside the training part."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator

from tabular_trainers.folds import inner_folds
from tabular_trainers.metrics import harrell_c
from tabular_trainers.models.hazard import breslow, partial_log_likelihood, survival_curves
from tabular_trainers.models.spec import (
    MAX_BLOCK_COLUMNS,
    ModelSpec,
    refuse_entry,
    refuse_no_events,
)

LABEL = "Cox, elastic net"
TOLERANCE = 1e-9  # optimality within 0.3% of the penalty; the engine's own 1e-7 leaves 4%


class CoxRegression(BaseEstimator):
    """Elastic-net Cox regression.

    Minimises ``-log partial likelihood / n + penalty * (l1_ratio * |b|_1 + (1 - l1_ratio) / 2 *
    |b|_2^2)``, ties after Breslow, along a path of decreasing penalties.

    Parameters
    ----------
    l1_ratio : float
        Share of the lasso in the penalty, above 0 and at most 1.
    penalty : float or None
        None: chosen among ``n_penalties`` values by the cross-validated partial likelihood, which
        uses whole risk sets for every inner fold and so stays stable with few events. (Choosing by
        inner C moved C both ways, within noise, and left the risks too close or too far apart.)
        Costs ``n_splits`` more paths.
    n_penalties : int
        Length of the path.
    n_splits : int
        Inner folds; they keep the groups given to ``fit``.
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
    converged_ : bool
        False when the end of the path had to be left out.

    References
    ----------
    Simon, N. et al. (2011). Regularization paths for Cox's proportional hazards model via
    coordinate descent. Journal of Statistical Software 39(5).
    Verweij, P. and van Houwelingen, H. (1993). Cross-validation in survival analysis. Statistics
    in Medicine 12(24).
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
        """Fit the path down to the penalty.

        Parameters
        ----------
        X : array of shape (n, p)
            Standardised, without missing values.
        y : structured array with fields event and time, shape (n,)
        groups : array of shape (n,), optional
            Site labels; a site stays in one inner fold.

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
        if self.penalty is not None:
            last = float(self.penalty)
        else:
            last = self._choose(X, y, groups, penalties)
        path = np.append(penalties[penalties > last], last)
        reached = self._path(X, y, path)
        if reached.shape[1] < len(path):  # but this penalty was asked for
            alone = self._path(X, y, path[-1:])
            if alone.shape[1]:
                reached = np.hstack([np.zeros((X.shape[1], len(path) - 1)), alone])
        self.converged_ = reached.shape[1] == len(path)
        self.penalty_ = float(path[reached.shape[1] - 1])
        self.coef_ = np.ascontiguousarray(reached[:, -1])
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
        times, hazard = breslow(y, np.zeros(len(y)))
        padded = np.concatenate([[0.0], hazard])
        residual = y["event"] - padded[np.searchsorted(times, y["time"], side="right")]
        largest = float(np.abs(X.T @ residual).max()) / len(y) / self.l1_ratio
        # With ten events a column the end is as good as unpenalised; with fewer it is never chosen.
        lowest = 0.001 if 10 * X.shape[1] <= y["event"].sum() else 0.01
        return max(largest, 1e-12) * np.geomspace(1.0, lowest, self.n_penalties)

    def _path(self, X, y, penalties):
        """Fit the path; coefficients (p, n_reached).

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
        # The first penalty of a whole path leaves nothing; one alone has no such answer.
        return np.zeros((X.shape[1], min(len(penalties) - 1, 1)))

    def _choose(self, X, y, groups, penalties):
        value = np.zeros(len(penalties))
        held_out = []
        for train, test in inner_folds(y, groups, n_splits=self.n_splits, seed=self.random_state):
            coef = self._path(X[train], y[train], penalties)
            coef = np.pad(coef, ((0, 0), (0, len(penalties) - coef.shape[1])), mode="edge")
            margin = X @ coef
            value += partial_log_likelihood(y, margin)
            value -= partial_log_likelihood(y[train], margin[train])
            held_out.append((y[test], margin[test]))
        # Never the first penalty: its model is empty and ranks nobody, the second costs nothing.
        best = 1 + int(np.argmax(value[1:]))
        scores = [harrell_c(truth, margin[:, best]) for truth, margin in held_out]
        self.inner_value_ = float(np.mean(scores))
        return float(penalties[best])


def _build(random_state=0, n_jobs=1, score_only=False, **parameters):
    return CoxRegression(random_state=random_state, **parameters)


COX = ModelSpec(
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
)
