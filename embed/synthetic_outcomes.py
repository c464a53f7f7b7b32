"""Times and events of patients whose true risk is known."""

import numpy as np

MEDIAN_MONTHS, SHAPE = 40.0, 1.2  # Weibull survival of a patient with log hazard ratio 0
EVENT_SHARE = 2 / 3
N_DRAWS = 25


def draw_outcome(random, risk):
    """Draw survival times and events for a true risk.

    Two thirds of the patients have the event: follow-up, uniform from 0, is as long as it takes for
    that. Of 25 draws the one with the median C of the true risk is kept, so that cohorts differ
    little in how hard they are.

    Parameters
    ----------
    random : numpy.random.Generator
    risk : ndarray of shape (n_patients,)
        Log hazard ratios.

    Returns
    -------
    time : ndarray of float64
        Months, in tenths, above 0.
    event : ndarray of bool
    """
    n = len(risk)
    scale = MEDIAN_MONTHS / np.log(2) ** (1 / SHAPE)
    draws = []
    for _ in range(N_DRAWS):
        death = scale * (random.standard_exponential(n) / np.exp(risk)) ** (1 / SHAPE)
        end = random.uniform(0, 1, n)
        # Patients have the event one by one as the follow-up grows.
        needed = death / end
        longest = np.sort(needed)[max(round(EVENT_SHARE * n), 1) - 1]
        event = needed <= longest
        time = np.ceil(np.where(event, death, end * longest) * 10) / 10
        draws.append((harrell_c(time, event, risk), time, event))
    draws.sort(key=lambda draw: draw[0])
    return draws[N_DRAWS // 2][1:]


def harrell_c(time, event, risk):
    """Compute Harrell's C by looking at every pair; of equal risks each counts half."""
    later = (time[None, :] > time[:, None]) | ((time[None, :] == time[:, None]) & ~event[None, :])
    comparable = event[:, None] & later
    higher = risk[:, None] > risk[None, :]
    equal = risk[:, None] == risk[None, :]
    return float((higher + 0.5 * equal)[comparable].mean()) if comparable.any() else float("nan")
