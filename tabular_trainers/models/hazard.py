"""Breslow's baseline hazard and the curves that follow from a log hazard."""

import numpy as np

from tabular_trainers.errors import DataError
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


def curves_of(fitted, margin, times, strata, label):
    """Give survival probabilities from the baseline of each patient's stratum, (n, n_times).

    Parameters
    ----------
    fitted : estimator
        With ``baseline_times_``, ``baseline_hazard_`` and ``baseline_stratum_`` as `RiskSets` has
        them, and the names of its strata, or None, in ``strata_``.
    margin : array of shape (n,)
    times : array of shape (n_times,)
    strata : array of shape (n,) or None
    label : str
        What errors call the model.

    Raises
    ------
    DataError
        When strata are missing, unknown, or were not fitted.
    """
    known = fitted.strata_
    if known is None:
        if strata is not None:
            raise DataError(f"{label}: strata are given, but the fit had none.")
        return survival_curves(fitted.baseline_times_, fitted.baseline_hazard_, margin, times)
    if strata is None:
        raise DataError(f"{label}: the fit had strata; give those of these patients.")
    strata = np.asarray(strata)
    unknown = np.setdiff1d(strata, known).tolist()
    if unknown:
        raise DataError(f"{label}: strata {unknown[:10]} were not in the fit.")
    out = np.empty((len(margin), len(times)))
    for code, name in enumerate(known):
        own, rows = fitted.baseline_stratum_ == code, strata == name
        baseline = fitted.baseline_times_[own], fitted.baseline_hazard_[own]
        out[rows] = survival_curves(*baseline, margin[rows], times)
    return out


def margin_slope(y, margin, steepest=2.0, strata=None):
    """Slope between 0 and ``steepest`` of a margin in a Cox regression with it alone.

    Parameters
    ----------
    y : structured array with fields event, time and perhaps entry, shape (n,)
    margin : array of shape (n,)
    steepest : float, default 2.0
    strata : array of shape (n,), optional
        Each stratum has risk sets of its own.

    Returns
    -------
    float
        1 when the margins are as far apart as the outcome says, 0 when they say nothing or the
        opposite.
    """
    from scipy.optimize import minimize_scalar

    if not np.ptp(margin) > 0:
        return 0.0
    sets = RiskSets(y, strata)
    found = minimize_scalar(
        lambda slope: -sets.log_likelihood(slope * margin),
        bounds=(0.0, steepest),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(found.x)
