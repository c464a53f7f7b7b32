"""Ridge-penalised logistic regression whose penalty is chosen inside the training part."""

import numpy as np
from sklearn.base import BaseEstimator

from tabular_trainers.errors import DataError
from tabular_trainers.folds import inner_folds
from tabular_trainers.models.spec import MAX_BLOCK_COLUMNS, ModelSpec, suggest_components

LABEL = "Logistic regression, ridge"


class RidgeLogistic(BaseEstimator):
    """Logistic regression with a ridge penalty.

    Parameters
    ----------
    C : float or None
        Inverse penalty, as in scikit-learn. None: chosen by the cross-validated log loss, which
        costs ``n_splits`` fits for each of ``n_penalties`` values.
    n_penalties : int
        Values of C tried, evenly spaced on the log scale.
    n_splits : int
        Inner folds; they keep the groups given to ``fit``.
    random_state : int
        Seed of the inner folds.

    Attributes
    ----------
    coef_ : array of shape (p,)
    intercept_ : float
    chosen_parameters_ : dict
        Parameters that repeat this fit bit for bit.
    inner_value_ : float or None
        Mean AUROC of the chosen C over the inner folds.
    """

    def __init__(self, C=None, n_penalties=13, n_splits=5, random_state=0):
        self.C = C
        self.n_penalties = n_penalties
        self.n_splits = n_splits
        self.random_state = random_state

    def fit(self, X, y, groups=None):
        """Fit on a standardised matrix without missing values and labels 0 and 1.

        Raises
        ------
        DataError
            When only one class is in the training part.
        """
        refuse_one_class(y, LABEL)
        self.inner_value_ = None
        C = self.C if self.C is not None else self._choose(X, y, groups)
        self.coef_, self.intercept_ = _fit(X, y, C)
        self.chosen_parameters_ = {"C": float(C)}
        return self

    def fit_folds(self, folds):
        """Fit inner folds with the same penalties, and choose the one with the least log loss.

        Parameters
        ----------
        folds : list of (X_train, X_test, y_train, y_test, groups)

        Returns
        -------
        risks : list of arrays of shape (n_test,)
            Log odds of the patients held out from each fold.
        parameters : dict
            What was chosen: ``C``.
        """
        grid = self._grid() if self.C is None else [self.C]
        margins = [_margins(train, y_train, test, grid) for train, test, y_train, _, _ in folds]
        loss = sum(
            _losses(fold[3], held_out) for fold, held_out in zip(folds, margins, strict=True)
        )
        best = int(np.argmin(loss))
        return [held_out[best] for held_out in margins], {"C": float(grid[best])}

    def predict(self, X):
        """Give the probability of the positive class, of shape (n,)."""
        return _probability(self.log_odds(X))

    def log_odds(self, X):
        """Give the log odds of the positive class, of shape (n,)."""
        return X @ self.coef_ + self.intercept_

    def _grid(self):
        return np.geomspace(1e-5, 10.0, self.n_penalties)

    def _choose(self, X, y, groups):
        from sklearn.metrics import roc_auc_score

        grid = self._grid()
        splits = inner_folds(y, groups, n_splits=self.n_splits, seed=self.random_state)
        loss, scores = np.zeros(len(grid)), []
        for train, test in splits:
            truth, margins = y[test], _margins(X[train], y[train], X[test], grid)
            loss += _losses(truth, margins)
            if 0 < truth.sum() < len(truth):
                scores.append([roc_auc_score(truth, m) for m in margins])
        best = int(np.argmin(loss))
        self.inner_value_ = float(np.mean([row[best] for row in scores])) if scores else 0.5
        return float(grid[best])


def refuse_one_class(y, label):
    """Raise when only one class is in the training part.

    Raises
    ------
    DataError
        When every label is the same.
    """
    if len(np.unique(y)) < 2:
        raise DataError(
            f"{label}: all {len(y)} patients in the training part have the same label; "
            "expected both classes. Use fewer folds."
        )


def _fit(X, y, C):
    """Ridge is unchanged by a rotation, so wide data are solved in n dimensions."""
    from sklearn.linear_model import LogisticRegression

    centre = X.mean(axis=0)
    Z, back = X - centre, None
    if Z.shape[1] > len(Z):
        left, sizes, axes = np.linalg.svd(Z, full_matrices=False)
        Z, back = left * sizes, axes.T
    engine = LogisticRegression(C=C, max_iter=1000, tol=1e-6).fit(Z, y)
    coef = engine.coef_[0] if back is None else back @ engine.coef_[0]
    return coef, float(engine.intercept_[0] - centre @ coef)


def _margins(train, y_train, test, grid):
    """Give the log odds of patients held out, for each C."""
    fits = (_fit(train, y_train, C) for C in grid)
    return [test @ coef + intercept for coef, intercept in fits]


def _losses(truth, margins):
    """Give the log loss, summed over patients, for each C."""
    from sklearn.metrics import log_loss

    losses = [log_loss(truth, _probability(m), labels=[0, 1]) for m in margins]
    return np.array(losses) * len(truth)


def _probability(log_odds):
    return 0.5 * (1.0 + np.tanh(0.5 * log_odds))  # the logistic function, without overflow


def _build(random_state=0, n_jobs=1, score_only=False, **parameters):
    return RidgeLogistic(random_state=random_state, **parameters)


LOGISTIC = ModelSpec(
    label=LABEL,
    build=_build,
    space=suggest_components,
    risk=lambda fitted, X: fitted.predict(X),
    risk_scale="probability",
    curve=None,
    shap=lambda fitted, X, background, seed: (fitted.intercept_, X * fitted.coef_),
    shap_kind="exact",
    supports_entry=False,
    handles_missing=False,
    scale=True,
    max_block_columns=MAX_BLOCK_COLUMNS,
    coefficients=lambda fitted: fitted.coef_,
    intercept=lambda fitted: fitted.intercept_,
    shap_scale="log odds",
    explained=lambda fitted, X: fitted.log_odds(X),
    self_tuning="the penalty of each trial by the cross-validated log loss of inner folds",
)
