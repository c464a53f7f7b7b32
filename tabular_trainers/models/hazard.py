"""Breslow's baseline hazard and the curves that follow from a log hazard."""

import numpy as np

from tabular_trainers.models.risk_sets import RiskSets


def breslow(y, margin):
    """Baseline cumulative hazard at the distinct event times.

    Parameters
    ----------
    y : structured array with fields event, time and perhaps entry, shape (n,)
    margin : array of shape (n,)
        Log hazard ratios.

    Returns
    -------
    times, cumulative_hazard : arrays of shape (n_times,)

    References
    ----------
    Breslow, N. (1974). Covariance analysis of censored survival data. Biometrics 30.
    """
    sets = RiskSets(y)
    return sets.times, sets.baseline(margin)


def survival_curves(baseline_times, baseline_hazard, margin, times):
    """Survival probabilities exp(-H0(t) exp(margin)), of shape (n, n_times)."""
    padded = np.concatenate([[0.0], baseline_hazard])
    hazard = padded[np.searchsorted(baseline_times, np.asarray(times), side="right")]
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        return np.exp(-np.exp(margin[:, None] + np.log(hazard)[None, :]))


def margin_slope(y, margin, steepest=2.0):
    """Slope between 0 and ``steepest`` of a margin in a Cox regression with it alone.

    Returns
    -------
    float
        1 when the margins are as far apart as the outcome says, 0 when they say nothing or the
        opposite.
    """
    from scipy.optimize import minimize_scalar

    if not np.ptp(margin) > 0:
        return 0.0
    sets = RiskSets(y)
    found = minimize_scalar(
        lambda slope: -sets.log_likelihood(slope * margin),
        bounds=(0.0, steepest),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(found.x)
