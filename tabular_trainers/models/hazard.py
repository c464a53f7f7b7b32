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


def calibration_slope(y, margin):
    """Slope of a margin in a Cox regression with it alone, ties after Breslow.

    Returns
    -------
    float
        1 when the margins are as far apart as the outcome says; 0 when they all are equal.
    """
    spread = float(np.std(margin))
    if not spread > 0:
        return 0.0
    z = (margin - margin.mean()) / spread
    times, counts = event_table(y)
    total = z[y["event"].astype(bool)].sum()
    order = np.argsort(-y["time"], kind="stable")
    last = np.searchsorted(-y["time"][order], -times, side="right") - 1
    slope, best = 0.0, -np.inf
    step = 0.0
    for _ in range(50):
        likelihood = slope * total - counts @ log_risk_sums(y, slope * z, times)
        if likelihood < best:  # overshot: halve the step
            step /= 2.0
            slope -= step
            continue
        best = likelihood
        weight = np.exp(slope * (z - z.max()) if slope > 0 else slope * (z - z.min()))
        sums = np.cumsum(np.column_stack([weight, weight * z, weight * z * z])[order], axis=0)[last]
        mean = sums[:, 1] / sums[:, 0]
        gradient = total - counts @ mean
        curvature = counts @ np.maximum(sums[:, 2] / sums[:, 0] - mean * mean, 0.0)
        if not curvature > 0 or abs(gradient) < 1e-9 * max(1.0, abs(total)):
            break
        step = float(np.clip(gradient / curvature, -2.0, 2.0))
        slope += step
    return slope / spread
