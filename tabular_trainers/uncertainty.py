"""An estimate that carries what its interval, and that of a paired difference, are read from.

Either bootstrap draws or influence values: both subtract number by number, so that a difference of
two measures on the same patients keeps what they have in common.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from tabular_trainers.bootstrap import interval

NORMAL_95 = NormalDist().inv_cdf(0.975)


class Interval(NamedTuple):
    """Standard error and 95% interval; NaN where they cannot be computed."""

    standard_error: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Draws:
    """An estimate with its bootstrap draws, (n_resamples,); the interval is of percentiles."""

    estimate: float
    values: np.ndarray
    method: str

    def interval(self):
        """Read the standard error and the interval from the draws."""
        return Interval(*interval(self.values))

    def minus(self, other):
        """Subtract what was measured on the same resamples."""
        return _minus(self, other)


@dataclass(frozen=True)
class Influences:
    """An estimate with the influence of each patient, or of each site, on it; normal interval.

    The standard error is the root of the sum of squared influences: the infinitesimal jackknife.
    ``limits`` are the least and the largest possible value, at which the interval is clipped.
    """

    estimate: float
    values: np.ndarray
    method: str
    limits: tuple = (0.0, 1.0)

    def interval(self):
        """Compute the standard error and the interval from the influences."""
        error = math.sqrt(float(self.values @ self.values))
        return normal_interval(self.estimate, error, self.limits)

    def minus(self, other):
        """Subtract what was measured on the same patients (or sites, in the same order)."""
        lowest, highest = self.limits
        span = highest - lowest
        return replace(_minus(self, other), limits=(-span, span))


def average(measured):
    """Average the same measure over repeats, its draws or influences included."""
    return replace(
        measured[0],
        estimate=float(np.mean([one.estimate for one in measured])),
        values=np.mean([one.values for one in measured], axis=0),
    )


def _minus(one, other):
    return replace(one, estimate=one.estimate - other.estimate, values=one.values - other.values)


def normal_interval(estimate, standard_error, limits=(-math.inf, math.inf)):
    """Compute the 95% interval of the normal approximation, clipped at the limits."""
    lowest, highest = limits
    half = NORMAL_95 * standard_error
    # written so that what is undefined stays so: max(lowest, nan) would be the limit
    lower, upper = np.clip([estimate - half, estimate + half], lowest, highest)
    return Interval(float(standard_error), float(lower), float(upper))


def normal_p_value(difference, standard_error):
    """Two-sided p value of a difference with this standard error; NaN where it has none."""
    if not (math.isfinite(difference) and standard_error > 0):
        return math.nan
    return math.erfc(abs(difference) / standard_error / math.sqrt(2))
