import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_trainers.errors import DataError
from tabular_trainers.meta_analysis import random_effects

GOLDEN = json.loads(
    (Path(__file__).parent / "golden" / "meta_analysis.json").read_text(encoding="utf-8")
)["cases"]
ON_THE_SCALE = ("estimate", "lower", "upper", "prediction_lower", "prediction_upper")
cohorts = st.lists(
    st.tuples(st.floats(-1, 1, allow_subnormal=False), st.floats(0.01, 1)), min_size=2, max_size=9
)


def columns(pairs):
    return np.array(pairs, dtype=float).T


@pytest.mark.parametrize("name", GOLDEN)
def test_metafor_gives_the_same(name):
    expected = GOLDEN[name]
    given = expected["estimates"], expected["standard_errors"]
    found = asdict(random_effects(*given))
    assert set(found) == set(expected) - {"estimates", "standard_errors"}
    # metafor's tau2 comes close to 0, never on it
    scale = {"tau2": min(given[1]) ** 2, "i2": 100}
    for key, value in found.items():
        tolerance = {"rel": 1e-8, "abs": 1e-10 * scale.get(key, 0)}
        assert value == pytest.approx(expected[key], **tolerance), key


def test_the_cases_are_hard_enough():
    zero = {
        name
        for name, case in GOLDEN.items()
        if random_effects(case["estimates"], case["standard_errors"]).tau2 == 0
    }
    assert zero >= {"homogeneous", "identical", "none_between"}
    assert GOLDEN["none_between"]["q"] > GOLDEN["none_between"]["k"] - 1
    assert GOLDEN["homogeneous"]["q"] < 1  # without its bound the factor would be 0.01
    assert {case["k"] for case in GOLDEN.values()} >= {2, 3, 4, 13, 20}


def test_by_hand():
    """Two cohorts of the same error s and difference d: tau2 = d^2 / 2 - s^2, Q = d^2 / 2 s^2."""
    found = random_effects([0.1, 0.5], [0.2, 0.2])
    assert found.estimate == pytest.approx(0.3)
    assert found.tau2 == pytest.approx(0.08 - 0.04)
    assert found.q == pytest.approx(2)
    assert found.h2 == pytest.approx(2)
    assert found.i2 == pytest.approx(50)
    assert found.standard_error == pytest.approx(np.sqrt(0.08 / 2))
    # t with one degree of freedom: 12.7062
    assert found.upper == pytest.approx(0.3 + 12.7062 * 0.2, abs=1e-4)
    assert found.prediction_upper == pytest.approx(0.3 + 12.7062 * np.sqrt(0.08), abs=1e-4)
    assert found.weights.tolist() == [0.5, 0.5]


def likelihood(tau2, values, variances):
    """Twice the restricted log likelihood of each of many values of tau2."""
    total = variances + np.reshape(tau2, (-1, 1))
    center = (values / total).sum(axis=1) / (1 / total).sum(axis=1)
    return -(
        np.log(total).sum(axis=1)
        + np.log((1 / total).sum(axis=1))
        + ((values - center[:, None]) ** 2 / total).sum(axis=1)
    )


wide = st.tuples(st.floats(-5, 5), st.floats(-3, 1).map(lambda power: 10**power))


@given(st.lists(wide, min_size=2, max_size=7))
def test_no_other_variance_is_likelier(pairs):
    values, errors = columns(pairs)
    found = random_effects(values, errors)
    grid = np.r_[0, np.geomspace(1e-9, 1e4, 5000)]
    best = likelihood(grid, values, errors**2).max()
    assert likelihood(found.tau2, values, errors**2)[0] >= best - 1e-9 * max(1, abs(best))


@given(cohorts, st.floats(-3, 3), st.floats(0.01, 100))
def test_shift_and_scale(pairs, shift, scale):
    values, errors = columns(pairs)
    plain = random_effects(values, errors)
    moved = random_effects(scale * (values + shift), scale * errors)
    for name in ON_THE_SCALE:
        expected = scale * (getattr(plain, name) + shift)
        assert getattr(moved, name) == pytest.approx(expected, rel=1e-6, abs=1e-6 * scale)
    assert moved.tau2 == pytest.approx(scale**2 * plain.tau2, rel=1e-4, abs=1e-8 * scale**2)
    assert moved.q == pytest.approx(plain.q, rel=1e-6, abs=1e-9)
    assert moved.i2 == pytest.approx(plain.i2, abs=1e-2)
    assert moved.weights == pytest.approx(plain.weights, abs=1e-4)


@given(cohorts, st.randoms(use_true_random=False))
def test_order_does_not_matter(pairs, random):
    mixed = random.sample(range(len(pairs)), len(pairs))
    plain, other = random_effects(*columns(pairs)), random_effects(*columns(pairs)[:, mixed])
    assert other.weights == pytest.approx(plain.weights[mixed], abs=1e-6)
    for name in (*ON_THE_SCALE, "standard_error", "q", "p_value"):
        assert getattr(other, name) == pytest.approx(getattr(plain, name), rel=1e-6, abs=1e-8)


@given(cohorts)
def test_the_numbers_agree_with_each_other(pairs):
    found = random_effects(*columns(pairs))
    assert found.weights.sum() == pytest.approx(1)
    assert found.prediction_lower <= found.lower <= found.estimate
    assert found.estimate <= found.upper <= found.prediction_upper
    assert (found.p_value < 0.05) == (found.lower > 0 or found.upper < 0)
    # the factor is never below 1: no interval is narrower than that of known variances
    known = np.sum(1 / (columns(pairs)[1] ** 2 + found.tau2)) ** -0.5
    assert found.standard_error >= known * (1 - 1e-12)


def test_the_interval_holds_the_truth():
    """6 cohorts of unequal errors; of 2,000 draws 99.2% (tau 0) and 93.4% (tau 0.03) held it."""
    random = np.random.default_rng(5)
    errors = np.array([0.008, 0.011, 0.013, 0.02, 0.03, 0.05])
    held = {}
    for tau in (0.0, 0.03):
        drawn = random.normal(random.normal(0.02, tau, (500, 6)), errors)
        found = [random_effects(estimates, errors) for estimates in drawn]
        held[tau] = np.mean([one.lower <= 0.02 <= one.upper for one in found])
    assert held[0.0] >= 0.97
    assert held[0.03] >= 0.92
    normal = [abs(one.estimate - 0.02) <= 1.96 * one.standard_error for one in found]
    assert np.mean(normal) < 0.9  # few cohorts: why it is not the normal distribution


@pytest.mark.parametrize(
    ("estimates", "errors", "message"),
    [
        ([0.1], [0.1], "at least two estimates"),
        ([0.1, 0.2], [0.1], "one standard error for each"),
        ([0.1, 0.2], [0.1, 0.0], "not above 0"),
        ([0.1, np.nan], [0.1, 0.1], "not a finite number"),
        ([0.1, 0.2], [0.1, np.inf], "not a finite number"),
    ],
)
def test_what_cannot_be_pooled_is_refused(estimates, errors, message):
    with pytest.raises(DataError, match=message):
        random_effects(estimates, errors)
