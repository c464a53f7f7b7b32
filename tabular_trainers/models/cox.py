"""Cox regression: unpenalised, ridge, elastic net or lasso; chooses the penalty if not given."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator

from tabular_trainers.errors import DataError
from tabular_trainers.folds import inner_folds
from tabular_trainers.metrics import harrell_c
from tabular_trainers.models.cox_path import InnerPart, Problem, best_penalty, margins_of
from tabular_trainers.models.hazard import curves_of
from tabular_trainers.models.risk_sets import RiskSets
from tabular_trainers.models.spec import (
    MAX_BLOCK_COLUMNS,
    ModelSpec,
    refuse_no_events,
    suggest_components,
)

LABEL = "Cox, elastic net"
RULES = ("min", "1se")
# Ridge, the lasso, and mixtures, closer together where a little of the lasso changes most.
L1_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)


class CoxRegression(BaseEstimator):
    """Cox regression with an elastic-net penalty.

    Minimises ``-log partial likelihood / total weight + penalty * sum_j penalty_factor_j *
    (l1_ratio |b_j| + (1 - l1_ratio) / 2 b_j^2)`` for the columns as given: nothing is standardised.

    Parameters
    ----------
    l1_ratio : float
        Share of the lasso in the penalty: 1 is the lasso, 0 ridge.
    penalty : float or None
        0 is an unpenalised fit. None: chosen among ``n_penalties`` values by the cross-validated
        partial likelihood, which uses whole risk sets for every inner fold and so stays stable with
        few events. (Choosing by inner C moved C both ways, within noise, and left the risks too
        close or too far apart.) Costs ``n_splits`` + 1 paths.
    ties : {"breslow", "efron"}
        How tied deaths share their risk set, as R ``survival::coxph``.
    penalty_factor : array of shape (p,) or None
        Relative penalties of the columns, at least 0, used as they are; 0 leaves a column
        unpenalised, such as clinical ones beside a wide embedding. None: 1 each.
    n_penalties : int
        Length of the path.
    n_splits : int
        Inner folds; they keep the groups given to ``fit``.
    penalty_rule : {"min", "1se"}
        The penalty of the best cross-validated partial likelihood, or the largest one that is
        within a standard error over folds of it. Never the first of the path, which has no
        coefficients and ranks nobody.
    max_iter : int
        Newton steps a penalty.
    random_state : int
        Seed of the inner folds.

    Attributes
    ----------
    coef_ : array of shape (p,)
    centre_ : array of shape (p,)
        Column means of the training part; the risk is ``(X - centre_) @ coef_``.
    penalty_ : float
    penalties_, coef_path_ : arrays of shape (n_penalties,) and (p, n_penalties), or None
        The path of all patients, where the penalty was chosen.
    chosen_parameters_ : dict
        Penalty and l1_ratio; with the other parameters as they are, they repeat this fit bit for
        bit without cross-validation.
    inner_value_ : float or None
        Mean Harrell's C of the chosen penalty over the inner folds.
    kkt_ : float
        Largest distance of a gradient to its subdifferential, over the largest gradient without
        coefficients.
    converged_ : bool
        False when the fit ran out of steps, or the likelihood rises towards infinite coefficients.

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
        ties="breslow",
        penalty_factor=None,
        n_penalties=50,
        n_splits=5,
        penalty_rule="min",
        max_iter=100,
        random_state=0,
    ):
        self.l1_ratio = l1_ratio
        self.penalty = penalty
        self.ties = ties
        self.penalty_factor = penalty_factor
        self.n_penalties = n_penalties
        self.n_splits = n_splits
        self.penalty_rule = penalty_rule
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X, y, groups=None, strata=None, sample_weight=None):
        """Fit at the penalty, or choose one first.

        Parameters
        ----------
        X : array of shape (n, p)
            Without missing values; standardised, unless its columns have one unit. Float32 halves
            time and memory of wide matrices.
        y : structured array with fields event, time and perhaps entry, shape (n,)
        groups : array of shape (n,), optional
            Site labels; a site stays in one inner fold.
        strata : array of shape (n,), optional
            Each stratum has a baseline hazard of its own.
        sample_weight : array of shape (n,), optional
            At least 0.

        Raises
        ------
        DataError
            When nobody had the event, a value is missing, or a parameter is out of its range.

        Warns
        -----
        ConvergenceWarning
            When the fit did not converge.
        """
        X = self._checked(X)
        refuse_no_events(y, LABEL)
        sets = RiskSets(y, strata, sample_weight, self.ties)
        if not sets.n_times:
            raise DataError(f"{LABEL}: all patients with an event have weight 0.")
        problem = Problem(X, self.l1_ratio, self.penalty_factor, self.max_iter)
        penalty, chosen = self.penalty, {}
        if penalty is None:
            penalty, chosen = self._choose(problem, sets, y, groups, strata, sample_weight)
        tolerance = 1e-5 if X.dtype == np.float32 else 1e-7
        path = problem.path(sets, np.array([penalty], dtype=np.float64), tolerance=tolerance)
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        centre = np.average(X, axis=0, weights=weight).astype(np.float64)
        coef = np.ascontiguousarray(path.coef[:, 0])
        hazard = sets.baseline(margins_of(X, centre, coef))
        # All at once, so that an interrupted fit leaves no half of a model behind.
        self.__dict__.update(
            centre_=centre,
            coef_=coef,
            penalty_=float(penalty),
            penalties_=chosen.get("penalties"),
            coef_path_=chosen.get("coef"),
            inner_value_=chosen.get("value"),
            chosen_parameters_={"l1_ratio": self.l1_ratio, "penalty": float(penalty)},
            kkt_=float(path.kkt[0]),
            converged_=bool(path.converged[0]),
            baseline_times_=sets.times,
            baseline_hazard_=hazard,
            baseline_stratum_=sets.stratum,
            strata_=None if strata is None else np.unique(strata).tolist(),
        )
        if not self.converged_:
            from sklearn.exceptions import ConvergenceWarning

            warnings.warn(
                f"{LABEL}: not converged at penalty {penalty:.3g} (KKT residual {self.kkt_:.1e}). "
                "A larger penalty, fewer columns or more max_iter help; without a penalty, "
                "columns that separate the events have no finite coefficient.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def fit_folds(self, folds):
        """Fit inner folds along one path of penalties, and choose the penalty for all of them.

        By the cross-validated partial likelihood and `penalty_rule`, unless the penalty is given.
        The path has half as many penalties as that of ``fit``: there are as many paths as trials.

        Parameters
        ----------
        folds : list of (X_train, X_test, y_train, y_test, groups)

        Returns
        -------
        risks : list of arrays of shape (n_test,)
            Log hazards of the patients held out from each fold.
        parameters : dict
            What was chosen: ``penalty``.
        """
        checked = [(self._checked(fold[0]), self._checked(fold[1]), *fold[2:4]) for fold in folds]
        parts = [InnerPart(self, *fold) for fold in checked]
        if self.penalty is None:
            grids = [part.grid((self.n_penalties + 1) // 2) for part in parts]
            penalties = min(grids, key=lambda grid: grid[0])
        else:
            penalties = np.array([self.penalty], dtype=np.float64)
        margins = [part.margins(penalties) for part in parts]
        best = 0
        if self.penalty is None:
            values = [
                part.held_out_likelihood(eta) for part, eta in zip(parts, margins, strict=True)
            ]
            events = np.array([fold[3]["event"].sum() for fold in folds], dtype=np.float64)
            best = best_penalty(np.array(values), events, self.penalty_rule)
        risks = [eta[part.n_train :, best] for part, eta in zip(parts, margins, strict=True)]
        return risks, {"penalty": float(penalties[best])}

    def predict(self, X):
        """Give the log hazard relative to the training mean, of shape (n,)."""
        return margins_of(X, self.centre_, self.coef_)

    def predict_survival(self, X, times, strata=None):
        """Give survival probabilities, of shape (n, n_times).

        Parameters
        ----------
        X : array of shape (n, p)
        times : array of shape (n_times,)
            In the unit of ``y``.
        strata : array of shape (n,), optional
            Needed if the fit had strata.

        Raises
        ------
        DataError
            When strata are missing, unknown, or were not fitted.
        """
        return curves_of(self, self.predict(X), times, strata, LABEL)

    def shap_values(self, X):
        """Give base and contributions to the log hazard; exact, since the risk is linear."""
        return 0.0, (X - self.centre_) * self.coef_

    def _checked(self, X):
        if not 0 <= self.l1_ratio <= 1:
            raise DataError(f"l1_ratio: expected from 0 to 1, got {self.l1_ratio!r}.")
        if self.penalty is not None and not 0 <= self.penalty < np.inf:
            raise DataError(f"penalty: expected at least 0, got {self.penalty!r}.")
        if self.penalty_rule not in RULES:
            known = ", ".join(RULES)
            raise DataError(f"penalty_rule: unknown {self.penalty_rule!r}; known: {known}.")
        X = np.asarray(X)
        if X.dtype != np.float32:
            X = X.astype(np.float64, copy=False)
        bad = int((~np.isfinite(X.sum(axis=0, dtype=np.float64))).sum())
        if bad:
            raise DataError(f"{LABEL}: {bad} of {X.shape[1]} columns hold missing values.")
        factor = self.penalty_factor
        if factor is not None:
            factor = np.asarray(factor, dtype=np.float64)
            if factor.shape != (X.shape[1],) or not (np.isfinite(factor) & (factor >= 0)).all():
                raise DataError(f"penalty_factor: expected {X.shape[1]} values of at least 0.")
        return X

    def _choose(self, problem, sets, y, groups, strata, sample_weight):
        """Give the penalty, and what was learned on the way."""
        penalties = problem.grid(sets, self.n_penalties)
        path = problem.path(sets, penalties)
        weight = sets.weight
        truth = y.copy()
        truth["event"] &= weight > 0
        values, events, held_out = [], [], []
        for train, test in inner_folds(
            truth, groups, n_splits=self.n_splits, seed=self.random_state
        ):
            part = np.zeros(len(y))
            part[train] = weight[train]
            inner = RiskSets(y, strata, part, self.ties)
            margin = problem.margins(problem.path(inner, penalties, start=path.coef).coef)
            values.append(
                [sets.log_likelihood(eta) - inner.log_likelihood(eta) for eta in margin.T]
            )
            events.append(weight[test] @ truth["event"][test])
            held_out.append((test, margin[test]))
        best = best_penalty(np.array(values), np.array(events), self.penalty_rule)
        scores = []
        for test, margin in held_out:
            inside = None if strata is None else np.asarray(strata)[test]
            weights = None if sample_weight is None else weight[test]
            try:
                scores.append(harrell_c(truth[test], margin[:, best], inside, weights))
            except DataError:  # no comparable pair within a stratum
                continue
        value = float(np.mean(scores)) if scores else None
        return penalties[best], {"penalties": penalties, "coef": path.coef, "value": value}


def _build(random_state=0, n_jobs=1, score_only=False, **parameters):
    return CoxRegression(random_state=random_state, **parameters)


def _space(trial, facts):
    l1_ratio = trial.suggest_categorical("l1_ratio", L1_RATIOS)
    return {"l1_ratio": l1_ratio, **suggest_components(trial, facts)}


COX = ModelSpec(
    label=LABEL,
    build=_build,
    space=_space,
    risk=lambda fitted, X: fitted.predict(X),
    risk_scale="log hazard relative to the training mean",
    curve=lambda fitted, X, times: fitted.predict_survival(X, times),
    shap=lambda fitted, X, background, seed: fitted.shap_values(X),
    shap_kind="exact",
    supports_entry=True,
    handles_missing=False,
    scale=True,
    max_block_columns=MAX_BLOCK_COLUMNS,
    coefficients=lambda fitted: fitted.coef_,
    intercept=lambda fitted: -float(fitted.centre_ @ fitted.coef_),
    self_tuning="the penalty of each trial by the cross-validated partial likelihood",
)
