"""Cox and logistic regressions of a few columns: maximum likelihood, Wald and score tests."""

import math
from typing import NamedTuple

import numpy as np

from tabular_trainers.errors import DataError
from tabular_trainers.models.risk_sets import RiskSets
from tabular_trainers.models.spec import MAX_BLOCK_COLUMNS
from tabular_trainers.preprocess import Preprocessor
from tabular_trainers.tissue_patients import site_strata
from tabular_trainers.uncertainty import NORMAL_95

MIN_CLASS = 10  # patients of either class that a site needs for an intercept of its own
DEPENDENT = 1e-7  # a column with this share of its spread left beside the others is their sum
NO_INFORMATION = 1e-11  # relative eigenvalues of a Hessian below it
INFINITE = 10.0  # a standard error of a log ratio above it: the likelihood has no maximum
STEPS = 50


class Effect(NamedTuple):
    """Ratio for one standard deviation more, with its 95% interval and two-sided p value (Wald)."""

    ratio: float
    lower: float
    upper: float
    p_value: float


NO_EFFECT = Effect(math.nan, math.nan, math.nan, math.nan)


class Likelihood:
    """The likelihood of the outcome given log hazards or log odds, stratified by site.

    Survival: the partial likelihood of Cox, ties after Efron, a baseline hazard a site; patients of
    unknown site share one. Classification: logistic, with an intercept for each site that has 10
    patients of either class, and one for all others (an intercept for every small site would bias
    the odds ratios away from 1; Neyman & Scott, Econometrica 1948;16:1).

    Parameters
    ----------
    patients : Patients

    Attributes
    ----------
    intercepts : ndarray of shape (n_patients, n_intercepts)
        Columns to be fitted beside the others; none for Cox.
    """

    def __init__(self, patients):
        strata = site_strata(patients)
        n = len(patients.y)
        if patients.task == "survival":
            self.at = RiskSets(patients.y, strata, ties="efron").at
            self.intercepts = np.zeros((n, 0))
            self.groups = np.zeros(n, dtype=np.int64) if strata is None else strata
        else:
            positive = np.asarray(patients.y, dtype=np.float64)
            self.groups = _large_sites(strata, positive)
            codes = np.unique(self.groups)
            self.intercepts = (self.groups[:, None] == codes).astype(np.float64)
            self.at = lambda eta: _LocalLogistic(positive, eta)

    def fit(self, X, start=None, ridge=None):
        """Maximise the likelihood, less half the sum of ``ridge`` times squared coefficients.

        Newton's method with halved steps, to a change of the log likelihood below 1e-11 of it. A
        coefficient without a finite maximum stops growing then, and its error is huge.

        Parameters
        ----------
        X : array of shape (n_patients, p)
        start : array of shape (p,), optional
        ridge : array of shape (p,), optional

        Returns
        -------
        Fitted
        """
        X = np.ascontiguousarray(X, dtype=np.float64)
        ridge = np.zeros(X.shape[1]) if ridge is None else np.asarray(ridge, dtype=np.float64)
        coef = np.zeros(X.shape[1]) if start is None else np.asarray(start, dtype=np.float64)
        local, value = self._value(X, coef, ridge)
        for _ in range(STEPS):
            gradient = X.T @ local.residual() - ridge * coef
            hessian = local.hessian(X) + np.diag(ridge)
            step = pseudo_inverse(hessian) @ gradient
            for _ in range(STEPS):
                proposed, better = self._value(X, coef + step, ridge)
                if better >= value - 1e-12 * (1.0 + abs(value)):
                    break
                step = step / 2
            coef, local, gain, value = coef + step, proposed, better - value, better
            if abs(gain) <= 1e-11 * (1.0 + abs(value)):
                break
        return Fitted(coef, local, local.hessian(X) + np.diag(ridge))

    def _value(self, X, coef, ridge):
        with np.errstate(over="ignore"):
            local = self.at(X @ coef)
        return local, local.log_likelihood - 0.5 * float(ridge @ coef**2)


class Fitted(NamedTuple):
    """Coefficients, the likelihood around them, and minus its Hessian (p, p)."""

    coef: np.ndarray
    local: object
    hessian: np.ndarray

    def effect(self, j):
        """Give the ratio of column j; NaN where the likelihood has no finite maximum."""
        variance = float(pseudo_inverse(self.hessian)[j, j])
        error = math.sqrt(variance) if variance > 0 else math.nan
        if not 0 < error < INFINITE:
            return NO_EFFECT
        estimate = float(self.coef[j])
        ends = estimate - NORMAL_95 * error, estimate + NORMAL_95 * error
        p_value = math.erfc(abs(estimate) / error / math.sqrt(2))
        return Effect(math.exp(estimate), *map(math.exp, ends), p_value)


class _LocalLogistic:
    """The Bernoulli likelihood around given log odds, as ``RiskSets.at`` gives that of Cox."""

    def __init__(self, positive, eta):
        probability = 0.5 * (1.0 + np.tanh(0.5 * eta))
        self.log_likelihood = float(positive @ eta - np.logaddexp(0.0, eta).sum())
        self._residual = positive - probability
        self._weight = probability * (1.0 - probability)

    def residual(self):
        return self._residual

    def hessian(self, X):
        return X.T @ (X * self._weight[:, None])


def _large_sites(strata, positive):
    """Keep the codes of sites with enough patients of either class; all others share one."""
    if strata is None:
        return np.zeros(len(positive), dtype=np.int64)
    codes = strata + 1  # 0: of unknown site, which is with the others
    sizes, cases = np.bincount(codes), np.bincount(codes, weights=positive)
    large = np.minimum(cases, sizes - cases) >= MIN_CLASS
    return np.where(large[codes], codes, 0)


def pseudo_inverse(matrix):
    """Invert a symmetric matrix; directions without information stay at 0.

    Examples
    --------
    >>> import numpy as np
    >>> pseudo_inverse(np.array([[4.0, 0.0], [0.0, 0.0]])).tolist()
    [[0.25, 0.0], [0.0, 0.0]]
    """
    scale = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    unit = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    values, axes = np.linalg.eigh(matrix * np.outer(unit, unit))
    kept = values > NO_INFORMATION * max(values.max(initial=0.0), 1e-300)
    turned = axes[:, kept] * unit[:, None]
    return (turned / values[kept]) @ turned.T


def clinical_matrix(patients, fitted=None):
    """Turn the clinical columns into numbers, as a model of the run would see them.

    Parameters
    ----------
    patients : Patients
    fitted : Preprocessor, optional
        Learned on other patients; default: learned on these.

    Returns
    -------
    matrix : ndarray of shape (n_patients, p)
        No column without clinical columns, or where none of them varies.
    fitted : Preprocessor or None
    """
    nothing = np.zeros((len(patients.y), 0)), None
    if patients.clinical is None:
        return nothing
    if fitted is not None:
        return fitted.transform(patients.clinical), fitted
    fitted = Preprocessor(patients.categorical, scale=True, max_block_columns=MAX_BLOCK_COLUMNS)
    try:
        return fitted.fit_transform(patients.clinical), fitted
    except DataError:  # no column varies
        return nothing


def independent_columns(X, groups):
    """Leave out columns that, within the groups, are a sum of earlier ones.

    Such as one level of each categorical column: the levels sum to 1.

    Parameters
    ----------
    X : ndarray of shape (n_patients, p)
    groups : ndarray of int, shape (n_patients,)
        Strata, in which constants say nothing.

    Returns
    -------
    ndarray of int
        Positions of the columns kept.
    """
    inside = within(X, groups)
    kept, basis = [], np.zeros((len(X), 0))
    for j in range(X.shape[1]):
        column = inside[:, j]
        size = np.linalg.norm(column)
        rest = column - basis @ (basis.T @ column)
        rest -= basis @ (basis.T @ rest)  # once more: what rounding left
        if size > 0 and np.linalg.norm(rest) > DEPENDENT * max(size, np.linalg.norm(X[:, j])):
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
            kept.append(j)
    return np.array(kept, dtype=np.int64)


def within(X, groups):
    """Take the mean of its group from each value."""
    codes = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.zeros((len(sizes), X.shape[1]))
    np.add.at(sums, codes, X)
    return X - (sums / sizes[:, None])[codes]
