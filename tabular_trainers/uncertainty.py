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

    def p_value(self):
        """Test against 0, two-sided, by the normal approximation with the draws' error."""
        return error_p_value(self.estimate, self.interval().standard_error)

    def minus(self, other):
        """Subtract what was measured on the same resamples."""
        return _minus(self, other)


@dataclass(frozen=True)
class Influences:
    """An estimate with the influence of each patient, or of each site, on it.

    The standard error is the root of the sum of squared influences: the infinitesimal jackknife.
    The interval is normal, or, where ``freedom`` is finite, Student's t with so many degrees of
    freedom. ``limits`` are the least and the largest possible value, at which it is clipped.
    """

    estimate: float
    values: np.ndarray
    method: str
    limits: tuple = (0.0, 1.0)
    freedom: float = math.inf

    def interval(self):
        """Compute the standard error and the interval from the influences."""
        return error_interval(self.estimate, self._error(), self.limits, self.freedom)

    def p_value(self):
        """Test against 0, two-sided."""
        return error_p_value(self.estimate, self._error(), self.freedom)

    def _error(self):
        return math.sqrt(float(self.values @ self.values))

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


def error_interval(estimate, standard_error, limits=(-math.inf, math.inf), freedom=math.inf):
    """Compute the 95% interval, normal or Student's t, clipped at the limits.

    A standard error that was summed over a few sites is itself uncertain: with 10 of them a normal
    interval held the truth in 91% of simulated cohorts, one of t with a degree of freedom less
    than there are sites in 94% (tests/benchmarks/COVERAGE.md). Cameron & Miller, Journal of Human
    Resources 2015;50:317.
    """
    from scipy.special import stdtrit

    lowest, highest = limits
    quantile = NORMAL_95 if math.isinf(freedom) else float(stdtrit(freedom, 0.975))
    half = quantile * standard_error
    # written so that what is undefined stays so: max(lowest, nan) would be the limit
    lower, upper = np.clip([estimate - half, estimate + half], lowest, highest)
    return Interval(float(standard_error), float(lower), float(upper))


def error_p_value(difference, standard_error, freedom=math.inf):
    """Two-sided p value of a difference with this standard error; NaN where it has none."""
    from scipy.special import stdtr

    if not (math.isfinite(difference) and standard_error > 0):
        return math.nan
    if math.isinf(freedom):
        return math.erfc(abs(difference) / standard_error / math.sqrt(2))
    return float(2.0 * stdtr(freedom, -abs(difference) / standard_error))
