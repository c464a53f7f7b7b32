"""Breslow's baseline and the curves against R survival (tests/golden/cox_models.R)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.models.hazard import breslow, margin_slope, survival_curves


@pytest.fixture(scope="module")
def golden():
    return json.loads((Path(__file__).parents[1] / "golden" / "cox_models.json").read_text())


@pytest.fixture(scope="module")
def y(golden):
    y = np.empty(len(golden["time"]), dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = golden["event"], golden["time"]
    return y


def test_breslow_baseline(golden, y):
    times, hazard = breslow(y, np.array(golden["margin"]))
    np.testing.assert_array_equal(times, golden["event_times"])
    np.testing.assert_allclose(hazard, golden["baseline_hazard"], rtol=1e-12)


def test_survival_curves_are_those_of_r(golden, y):
    margin = np.array(golden["x"]) @ np.array(golden["coefficients"])
    curves = survival_curves(*breslow(y, margin), margin[:3], golden["curve_times"])
    np.testing.assert_allclose(curves.T, golden["curves"], rtol=1e-7)


def test_a_count_by_hand():
    # At risk at time 1: all three, e^0 + e^1 + e^0; at time 2: the last two. One event at each.
    y = np.array([(True, 1.0), (True, 2.0), (False, 3.0)], dtype=[("event", bool), ("time", float)])
    margin = np.array([0.0, 1.0, 0.0])
    _, hazard = breslow(y, margin)
    steps = [1 / (2 + np.e), 1 / (2 + np.e) + 1 / (1 + np.e)]
    np.testing.assert_allclose(hazard, steps, rtol=1e-14)


def test_margins_of_any_size_neither_overflow_nor_vanish(y):
    margin = np.linspace(-2000.0, 2000.0, len(y))
    curves = survival_curves(*breslow(y, margin), margin, [0.0, 5.0, 100.0])
    assert np.isfinite(curves).all()
    assert (np.diff(curves, axis=1) <= 0).all()
    np.testing.assert_array_equal(curves[:, 0], 1.0)


def test_margin_slope_is_the_coefficient_of_cox(y, golden):
    from lifelines import CoxPHFitter

    # distinct times: lifelines breaks ties after Efron
    time = np.arange(1.0, len(y) + 1)[np.argsort(np.argsort(y["time"], kind="stable"))]
    distinct = y.copy()
    distinct["time"] = time
    margin = np.array(golden["margin"])
    frame = pd.DataFrame({"time": time, "event": y["event"], "margin": margin})
    theirs = CoxPHFitter().fit(frame, "time", "event").params_["margin"]
    assert margin_slope(distinct, margin) == pytest.approx(theirs, abs=1e-4)
    assert margin_slope(distinct, -margin) == pytest.approx(0.0, abs=1e-4)
    assert margin_slope(distinct, np.ones(len(y))) == 0.0


def test_margin_slope_knows_entry_and_strata(y, golden):
    from lifelines import CoxPHFitter

    time = np.arange(1.0, len(y) + 1)[np.argsort(np.argsort(y["time"], kind="stable"))]
    late = np.empty(len(y), dtype=[("event", bool), ("time", float), ("entry", float)])
    late["event"], late["time"] = y["event"], time
    late["entry"] = np.where(np.arange(len(y)) % 3, 0.6 * time, 0.0)
    margin, strata = np.array(golden["margin"]), np.arange(len(y)) % 2
    frame = pd.DataFrame({name: late[name] for name in late.dtype.names})
    frame["margin"], frame["stratum"] = margin, strata
    fitted = CoxPHFitter().fit(frame, "time", "event", entry_col="entry", strata="stratum")
    found = margin_slope(late, margin, strata=strata)
    assert found == pytest.approx(fitted.params_["margin"], abs=1e-4)
    assert abs(found - margin_slope(late, margin)) > 1e-3
