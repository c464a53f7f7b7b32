"""Riley's minimum sample size for a regression model, from what is known before it is fitted."""

import math

from tabular_trainers.errors import DataError

SHRINKAGE = 0.9
OPTIMISM = 0.05  # in Nagelkerke's R2
MARGIN = 0.05  # of the overall risk
ASSUMED_SHARE = 0.15  # of the largest R2 that the outcome allows, where nothing is known
Z95 = 1.96


def largest_r2(kind, events_per_patient):
    """Largest Cox-Snell R2 that an outcome allows.

    Parameters
    ----------
    kind : str
        ``survival`` or ``classification``.
    events_per_patient : float
        Events over patients, above 0; classification: share of positives, below 1 too.

    Returns
    -------
    float

    Examples
    --------
    >>> round(largest_r2("classification", 0.1), 2), round(largest_r2("survival", 0.1346), 2)
    (0.48, 0.55)

    References
    ----------
    Riley et al., Statistics in Medicine 2019;38:1276, equation 23 and section 5.
    """
    share = events_per_patient
    if not 0 < share <= 1 or (kind == "classification" and share == 1):
        raise DataError("events_per_patient: expected a share of patients above 0 and below 1.")
    if kind == "classification":
        null = share * math.log(share) + (1 - share) * math.log(1 - share)
    else:
        null = share * math.log(share) - share
    return 1.0 - math.exp(2.0 * null)


def minimum_sample_size(
    kind, n_parameters, events_per_patient, horizons=(), mean_follow_up=None, r2=None
):
    """Riley's minimum number of patients to develop a regression model.

    The largest of three: an expected shrinkage of 0.9; an optimism of 0.05 in Nagelkerke's R2; and
    the overall risk known within 0.05 at each horizon (under a constant hazard), classification:
    the share of positives.

    Parameters
    ----------
    kind : str
        ``survival`` or ``classification``.
    n_parameters : int
        Candidate parameters: those the model may estimate, without the intercept.
    events_per_patient : float
        Events over patients; classification: share of positives.
    horizons : sequence of float, default=()
        Survival only.
    mean_follow_up : float, default=None
        Mean time under observation, in the unit of the horizons; survival only.
    r2 : float, default=None
        Cox-Snell R2 expected in new patients; default: 15% of the largest possible.

    Returns
    -------
    dict
        r2, shrinkage, optimism, overall_risk (patients each asks for) and patients, their largest.

    Examples
    --------
    >>> minimum_sample_size("classification", 24, 0.174, r2=0.288)["patients"]
    662

    References
    ----------
    Riley et al., Statistics in Medicine 2019;38:1276. Riley et al., BMJ 2020;368:m441 (15%).
    """
    largest = largest_r2(kind, events_per_patient)
    r2 = ASSUMED_SHARE * largest if r2 is None else r2
    if not 0 < r2 < min(SHRINKAGE, largest):
        raise DataError(
            f"r2: expected a value above 0 and below {min(SHRINKAGE, largest):.3f}; got {r2:g}."
        )
    needed = {
        "shrinkage": _for_shrinkage(n_parameters, r2, SHRINKAGE),
        "optimism": _for_shrinkage(n_parameters, r2, r2 / (r2 + OPTIMISM * largest)),
    }
    if kind == "classification":
        spread = events_per_patient * (1 - events_per_patient)
        needed["overall_risk"] = math.ceil((Z95 / MARGIN) ** 2 * spread)
    else:
        rate = events_per_patient / mean_follow_up
        needed["overall_risk"] = max(
            math.ceil(_time_for_margin(rate, at) / mean_follow_up) for at in horizons
        )
    return {"r2": r2, **needed, "patients": max(needed.values())}


def _for_shrinkage(n_parameters, r2, shrinkage):
    return math.ceil(n_parameters / ((shrinkage - 1) * math.log(1 - r2 / shrinkage)))


def _time_for_margin(rate, horizon):
    """Person-time after which the interval of exp(-rate * horizon) stays within the margin.

    The interval of the rate is rate -/+ 1.96 sqrt(rate / time); its lower end, where survival is
    higher, lies further away.
    """
    widest = math.log(1 + MARGIN * math.exp(rate * horizon)) / horizon
    return rate * (Z95 / widest) ** 2
