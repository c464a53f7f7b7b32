import numpy as np
import pytest
from scipy.stats import norm, t

from tabular_trainers.uncertainty import (
    Draws,
    Influences,
    average,
    error_interval,
    error_p_value,
)


def test_p_value_of_the_normal_approximation():
    assert error_p_value(-0.02, 0.011) == pytest.approx(2 * norm.sf(0.02 / 0.011))
    assert error_p_value(-0.02, 0.011, 9) == pytest.approx(2 * t.sf(0.02 / 0.011, 9))
    assert np.isnan(error_p_value(0.1, 0.0))
    assert np.isnan(error_p_value(np.nan, 0.1))


def test_the_interval_is_clipped_and_stays_undefined():
    assert error_interval(0.7, 0.1) == pytest.approx((0.1, *norm.interval(0.95, 0.7, 0.1)))
    expected = t.interval(0.95, 9, 0.7, 0.1)
    assert error_interval(0.7, 0.1, freedom=9) == pytest.approx((0.1, *expected))
    assert error_interval(0.95, 0.1, (0.0, 1.0)).upper == 1.0
    assert error_interval(0.05, 0.1, (0.0, 1.0)).lower == 0.0
    assert np.isnan(error_interval(0.7, np.nan, (0.0, 1.0))[1:]).all()


def test_influences_keep_what_patients_have_in_common_out_of_the_difference():
    shared, own = np.random.default_rng(0).normal(0, [[0.01], [0.001]], (2, 100))
    one, other = Influences(0.7, shared + own, "a"), Influences(0.6, shared, "a")
    difference = one.minus(other)
    assert difference.estimate == pytest.approx(0.1)
    assert difference.interval().standard_error == pytest.approx(np.sqrt((own**2).sum()))
    assert one.minus(one).interval() == (0.0, 0.0, 0.0)
    # a difference may be below 0, down to -1, where an estimate may not
    lowest = Influences(0.1, shared, "a").minus(Influences(0.9, -99 * shared, "a")).interval()
    assert lowest.lower == -1.0


def test_draws_subtract_resample_by_resample():
    values = np.random.default_rng(0).normal(0.7, 0.03, 200)
    difference = Draws(0.7, values, "b").minus(Draws(0.6, values - 0.1, "b"))
    assert difference.estimate == pytest.approx(0.1)
    assert difference.interval() == pytest.approx((0.0, 0.1, 0.1))


def test_the_average_over_repeats():
    found = average([Influences(0.7, np.array([0.1, 0.3]), "a"), Influences(0.6, np.zeros(2), "a")])
    assert found.estimate == pytest.approx(0.65)
    assert found.values.tolist() == [0.05, 0.15]
