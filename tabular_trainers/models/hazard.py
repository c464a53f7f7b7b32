"""Partial likelihood and baseline hazard of Breslow, shared by the models with a log hazard."""

import numpy as np


def event_table(y):
    """Distinct event times, and the number of events at each.

    Parameters
    ----------
    y : structured array with fields event and time, shape (n,)

    Returns
    -------
    times, counts : arrays of shape (n_times,)
    """
    times, counts = np.unique(y["time"][y["event"].astype(bool)], return_counts=True)
    return times, counts


def log_risk_sums(y, margin, times):
    """Log of the summed exp(margin) over the patients at risk at each time.

    Summed on the log scale, so that margins of any size neither overflow nor vanish.

    Parameters
    ----------
    margin : array of shape (n,) or (n, k)
    times : array of shape (n_times,)

    Returns
    -------
    array of shape (n_times,) or (n_times, k)
    """
    order = np.argsort(-y["time"], kind="stable")
    running = np.logaddexp.accumulate(margin[order], axis=0)
    at_risk = np.searchsorted(-y["time"][order], -times, side="right")
    return running[at_risk - 1]


def partial_log_likelihood(y, margin):
    """Log partial likelihood, ties after Breslow.

    Parameters
    ----------
    y : structured array with fields event and time, shape (n,)
    margin : array of shape (n,) or (n, k)
        Log hazard ratios; a column a model.

    Returns
    -------
    float or array of shape (k,)

    References
    ----------
    Breslow, N. (1974). Covariance analysis of censored survival data. Biometrics 30.
    """
    times, counts = event_table(y)
    event = y["event"].astype(bool)
    return margin[event].sum(axis=0) - counts @ log_risk_sums(y, margin, times)


def breslow(y, margin):
    """Baseline cumulative hazard at the distinct event times.

    Returns
    -------
    times, cumulative_hazard : arrays of shape (n_times,)
    """
    times, counts = event_table(y)
    with np.errstate(over="ignore"):  # a margin so low that its hazard is infinite: survival 0
        steps = counts * np.exp(-log_risk_sums(y, margin, times))
    return times, np.cumsum(steps)


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
    found = minimize_scalar(
        lambda slope: -partial_log_likelihood(y, slope * margin),
        bounds=(0.0, steepest),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(found.x)
