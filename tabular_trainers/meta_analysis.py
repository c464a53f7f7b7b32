"""Pool estimates of several cohorts by a random-effects model."""

import math
from dataclasses import dataclass

import numpy as np

from tabular_trainers.errors import DataError

_GRID = 200  # points between which changes of sign of the score are looked for


@dataclass(frozen=True)
class RandomEffects:
    """What `random_effects` found.

    Attributes
    ----------
    k : int
        Number of estimates.
    estimate, standard_error, lower, upper, p_value : float
        Pooled mean with its 95% interval and two-sided p value, of Student's t with k - 1 degrees
        of freedom.
    tau2 : float
        Variance of the true values between cohorts.
    q, q_p_value : float
        Cochran's test that all true values are the same.
    i2 : float
        Percentage of the variance of an estimate that is between cohorts.
    h2 : float
        Variance of an estimate over what sampling alone would give it.
    prediction_lower, prediction_upper : float
        95% interval for the true value in one further cohort of the same kind.
    weights : ndarray of shape (k,)
        Share of each estimate in the pooled mean; they sum to 1.
    """

    k: int
    estimate: float
    standard_error: float
    lower: float
    upper: float
    p_value: float
    tau2: float
    q: float
    q_p_value: float
    i2: float
    h2: float
    prediction_lower: float
    prediction_upper: float
    weights: np.ndarray


def random_effects(estimates, standard_errors):
    """Pool independent estimates whose true values may differ between cohorts.

    The variance between cohorts is estimated by restricted maximum likelihood (REML). The standard
    error of the mean is that of Hartung and Knapp with its factor held at 1 or above (R metafor:
    ``method = "REML", test = "adhoc"``), with Student's t of k - 1 degrees of freedom. A normal
    interval is too narrow where cohorts are few; without the bound, this one is too where the
    estimates happen to agree. The prediction interval is that of metafor for this model:
    estimate +- t sqrt(standard_error^2 + tau2).

    It does not accept estimates that share patients: they must be independent.

    Parameters
    ----------
    estimates : array-like of shape (k,)
        One a cohort, at least two.
    standard_errors : array-like of shape (k,)
        In the unit of the estimates; above 0, taken as known.

    Returns
    -------
    RandomEffects

    Raises
    ------
    DataError
        Fewer than two estimates, one that is not a number, or a standard error that is not above 0.

    References
    ----------
    Viechtbauer, Journal of Educational and Behavioral Statistics 2005;30:261 (REML). Hartung &
    Knapp, Statistics in Medicine 2001;20:1771. Roever, Knapp & Friede, BMC Medical Research
    Methodology 2015;15:99 (the bound of 1; coverage with few and unequal studies). IntHout,
    Ioannidis & Borm, BMC Medical Research Methodology 2014;14:25 (coverage). Higgins, Thompson &
    Spiegelhalter, Journal of the Royal Statistical Society A 2009;172:137 (prediction). Higgins &
    Thompson, Statistics in Medicine 2002;21:1539 (I2, H2).

    Examples
    --------
    >>> found = random_effects([0.02, 0.05, 0.01, 0.03], [0.010, 0.012, 0.008, 0.015])
    >>> [round(value, 4) for value in (found.estimate, found.lower, found.upper, found.tau2)]
    [0.0259, -0.0025, 0.0542, 0.0002]
    """
    from scipy.special import chdtrc, stdtr, stdtrit

    values, variances = _checked(estimates, standard_errors)
    k = len(values)
    tau2 = _reml(values, variances)
    weights = 1 / (variances + tau2)
    weights /= weights.sum()
    center = values.mean()  # sums of differences from it keep their digits
    estimate = center + float(weights @ (values - center))
    mean_variance = 1 / np.sum(1 / (variances + tau2))
    factor = np.sum((values - estimate) ** 2 / (variances + tau2)) / (k - 1)
    error = math.sqrt(max(1.0, factor) * mean_variance)
    quantile = float(stdtrit(k - 1, 0.975))
    spread = quantile * math.sqrt(error**2 + tau2)
    q, typical_variance = _homogeneity(values, variances)
    return RandomEffects(
        k=k,
        estimate=float(estimate),
        standard_error=error,
        lower=float(estimate - quantile * error),
        upper=float(estimate + quantile * error),
        p_value=float(2 * stdtr(k - 1, -abs(estimate) / error)),
        tau2=tau2,
        q=q,
        q_p_value=float(chdtrc(k - 1, q)),
        i2=100 * tau2 / (tau2 + typical_variance),
        h2=tau2 / typical_variance + 1,
        prediction_lower=float(estimate - spread),
        prediction_upper=float(estimate + spread),
        weights=weights,
    )


def _checked(estimates, standard_errors):
    """Give the estimates and their variances as float64."""
    values = np.asarray(estimates, dtype=np.float64)
    errors = np.asarray(standard_errors, dtype=np.float64)
    if values.ndim != 1 or values.shape != errors.shape or len(values) < 2:
        raise DataError(
            f"estimates of shape {values.shape} and standard errors of shape {errors.shape}; "
            "expected at least two estimates, and one standard error for each."
        )
    if not (np.isfinite(values).all() and np.isfinite(errors).all() and (errors > 0).all()):
        raise DataError(
            "an estimate or standard error is not a finite number, or a standard error is not "
            "above 0; leave these cohorts out."
        )
    return values, errors**2


def _homogeneity(values, variances):
    """Compute Cochran's Q, and the typical sampling variance of Higgins & Thompson 2002."""
    weights = 1 / variances
    total = weights.sum()
    shares = weights / total
    deviations = values - values.mean()
    q = float(weights @ (deviations - shares @ deviations) ** 2)
    return q, float((len(values) - 1) / (total * (1 - np.sum(shares**2))))


def _reml(values, variances):
    """Find the variance between cohorts, at least 0, of the largest restricted likelihood.

    The likelihood can have several maxima. Each is a change of sign of its slope (the score) from
    plus to minus, so all are bracketed on a grid and found by Brent's method; Fisher scoring may
    stop at the wrong one, or go to and fro.
    """
    from scipy.optimize import brentq

    values = values - values.mean()
    # Beyond: 2 sum_{i<j} w_i w_j / sum w >= (k - 1) / 4t and sum w^2 r^2 <= k range^2 / t^2, as all
    # w = 1 / (v + t) are in [1 / 2t, 1 / t]; so the slope is negative.
    k = len(values)
    highest = max(variances.max(), 4 * k / (k - 1) * np.ptp(values) ** 2)
    grid = np.r_[0.0, np.geomspace(1e-6 * variances.min(), highest, _GRID)]
    slopes = _slope(grid[:, None], values, variances)
    turns = np.flatnonzero((slopes[:-1] > 0) & (slopes[1:] <= 0))
    found = [0.0] if slopes[0] <= 0 else []
    found += [
        brentq(_slope, grid[i], grid[i + 1], (values, variances), xtol=1e-300, rtol=1e-14)
        for i in turns
    ]
    return float(max(found, key=lambda tau2: _likelihood(tau2, values, variances)))


def _slope(tau2, values, variances):
    """Compute twice the slope of the restricted log likelihood, for one or (n, 1) variances."""
    weights = 1 / (variances + tau2)
    total = weights.sum(axis=-1, keepdims=True)
    residuals = values - (weights * values).sum(axis=-1, keepdims=True) / total
    squares = (weights**2).sum(axis=-1)
    return ((weights * residuals) ** 2).sum(axis=-1) - (total[..., 0] - squares / total[..., 0])


def _likelihood(tau2, values, variances):
    """Compute twice the restricted log likelihood, but for a constant."""
    weights = 1 / (variances + tau2)
    total = weights.sum()
    residuals = values - weights @ values / total
    return np.log(weights).sum() - math.log(total) - weights @ residuals**2
