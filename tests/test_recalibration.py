"""Calibration in the large against R, and the hazard of patients' own follow-up."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.models import CoxRegression
from tabular_trainers.recalibration import in_the_large, logistic_in_the_large, own_hazard
from tests.survival_golden import outcome

GOLDEN = json.loads(
    (Path(__file__).parent / "golden" / "recalibration.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(("kind", "function"), [("poisson", in_the_large), ("logistic", None)])
def test_shift_and_standard_error_are_those_of_r(kind, function):
    golden = GOLDEN[kind]
    first, second = ("event", "hazard") if kind == "poisson" else ("label", "p")
    inputs = np.array(golden[first]), np.array(golden[second])
    function = function or logistic_in_the_large
    found = function(*inputs)
    assert found["estimate"] == pytest.approx(golden["estimate"], abs=1e-8)
    assert found["standard_error"] == pytest.approx(golden["standard_error"], rel=1e-7)
    half = 1.959963984540054 * golden["standard_error"]
    assert found["lower"] == pytest.approx(golden["estimate"] - half, abs=1e-7)
    assert found["upper"] == pytest.approx(golden["estimate"] + half, abs=1e-7)
    by_site = function(*inputs, golden["site"])
    assert by_site["estimate"] == found["estimate"]
    assert by_site["standard_error"] == pytest.approx(golden["by_site"], rel=1e-7)
    few = np.where(np.isin(golden["site"], ["a", "b", "c"]), "x", "y")
    assert function(*inputs, few)["standard_error"] == found["standard_error"]


@pytest.mark.parametrize("entry", [False, True])
def test_expected_events_are_those_of_r(entry):
    train, other = (pd.DataFrame(GOLDEN[name]) for name in ("train", "other"))
    y, y_other = (
        outcome(table["time"], table["event"], table["entry"] if entry else None)
        for table in (train, other)
    )
    model = CoxRegression(penalty=0, ties="breslow").fit(train[["x1", "x2"]].to_numpy(), y)
    X = other[["x1", "x2"]].to_numpy()
    observed, expected = own_hazard(
        lambda at, times: model.predict_survival(X[at], times), y_other, np.inf
    )
    np.testing.assert_array_equal(observed, other["event"])
    golden = GOLDEN["own_late" if entry else "own"]
    np.testing.assert_allclose(expected, golden, rtol=1e-6, atol=1e-9)


def test_follow_up_beyond_the_horizon_is_not_counted():
    y = outcome([1.0, 2.0, 5.0, 9.0], [True, True, True, False])
    rate = np.array([0.1, 0.2, 0.3, 0.4])
    observed, expected = own_hazard(
        lambda at, times: np.exp(-rate[at][:, None] * times), y, until=4.0
    )
    np.testing.assert_array_equal(observed, [True, True, False, False])
    np.testing.assert_allclose(expected, rate * [1.0, 2.0, 4.0, 4.0])


def test_many_patients_are_read_in_parts():
    random = np.random.default_rng(0)
    n = 1000
    y = outcome(random.exponential(3, n), random.random(n) < 0.5, np.zeros(n))
    y["entry"] = y["time"] * random.random(n)
    rate = random.exponential(0.2, n)
    sizes = []

    def predict(at, times):
        sizes.append(len(at) * len(times))
        return np.exp(-rate[at][:, None] * times)

    _, expected = own_hazard(predict, y, 6.0)
    end, start = np.minimum(y["time"], 6.0), np.minimum(y["entry"], 6.0)
    np.testing.assert_allclose(expected, rate * (end - start), atol=1e-12)
    assert max(sizes) < n**2 / 8


def test_what_cannot_be_estimated_is_missing():
    assert np.isnan(in_the_large([0, 0], [0.1, 0.2])["estimate"])
    assert np.isnan(logistic_in_the_large([1, 1], [0.1, 0.2])["lower"])
