import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.censoring import product_limit, time_of_quantile
from tabular_trainers.metrics import inverse_weights, kaplan_meier, survival_at
from tests.survival_golden import GOLDEN, PATIENTS, golden_outcome, outcome, simulated

CURVES = GOLDEN["curves"]


def check(curve, golden, shift=0.0):
    """Compare at R's times; R has no row at 0, and rows of its own where patients enter."""
    times = np.array(golden["time"])
    rows = curve.set_index("time").loc[np.floor(times + shift)]
    for name in ("survival", "n_at_risk", "n_events"):
        np.testing.assert_allclose(rows[name], golden[name], atol=1e-12, err_msg=name)
    for name in ("lower", "upper"):
        expected = np.array(golden[name], dtype=float)
        known = np.isfinite(expected)
        np.testing.assert_allclose(rows[name][known], expected[known], atol=1e-10, err_msg=name)


def test_kaplan_meier_agrees_with_r_survfit():
    check(kaplan_meier(golden_outcome()), CURVES["overall"])
    check(kaplan_meier(golden_outcome(), PATIENTS["counts"]), CURVES["counts"])
    check(kaplan_meier(golden_outcome(entry=True)), CURVES["entry"])


def test_reverse_curve_agrees_with_r_survfit_of_moved_censorings():
    golden = {
        name: np.array(values, dtype=float)[np.array(CURVES["reverse"]["n_events"]) > 0]
        for name, values in CURVES["reverse"].items()
    }
    check(kaplan_meier(golden_outcome(), reverse=True), golden)


def test_medians_agree_with_r_quantile():
    names = ("median", "lower", "upper")
    found = time_of_quantile(kaplan_meier(golden_outcome()))
    assert [found[name] for name in names] == CURVES["overall_median"]
    found = time_of_quantile(kaplan_meier(golden_outcome(), reverse=True))
    assert [found[name] for name in names] == [int(t) for t in CURVES["reverse_median"]]
    found = time_of_quantile(kaplan_meier(outcome([1, 2, 3, 4], [1, 1, 1, 0])))
    assert [found["median"], found["lower"]] == CURVES["even_median"][:2] == [2.5, 1]
    assert CURVES["even_median"][2] is None
    assert np.isnan(found["upper"])


def test_a_curve_counted_by_hand():
    # times 2+ (censored), 3, 3+, 5: at 3, 3 at risk and 1 event -> 2/3; at 5, 1 at risk -> 0
    y = outcome([2, 3, 3, 5], [0, 1, 0, 1])
    curve = kaplan_meier(y)
    assert curve["time"].tolist() == [0, 2, 3, 5]
    assert curve["survival"].tolist() == pytest.approx([1, 1, 2 / 3, 0])
    assert curve["n_at_risk"].tolist() == [4, 4, 3, 1]
    # censoring: at 2, 1 of 4 -> 3/4; at 3 the event has left, 1 of 2 -> 3/8
    assert survival_at(y, [2.9, 3, 10]).tolist() == pytest.approx([1, 2 / 3, 0])
    inverse = inverse_weights(y, [2, 3, 4])
    assert inverse.at_event[0].tolist() == pytest.approx([0, 4 / 3, 0, 8 / 3])
    assert inverse.beyond[0].tolist() == pytest.approx([4 / 3, 8 / 3, 8 / 3])


def test_nobody_followed_beyond_gives_weight_zero_not_infinity():
    y = outcome([1, 2, 3], [1, 0, 0])
    assert inverse_weights(y, [3, 9]).beyond.tolist() == [[0, 0]]


def test_kernel_and_curve_agree_in_every_replicate():
    rows = np.random.default_rng(0).integers(0, 3, (5, 90)).astype(float)
    times = np.array([7.0, 1.0, 30.0])
    for entry in (False, True):
        y = golden_outcome(entry=entry)
        _, at = product_limit(y, times, rows, reverse=False)
        for found, row in zip(at, rows, strict=True):
            curve = kaplan_meier(y, row)
            expected = [curve[curve["time"] <= t]["survival"].iloc[-1] for t in times]
            np.testing.assert_allclose(found, expected, atol=1e-12)


def test_censoring_weights_agree_with_scikit_survival():
    from sksurv.nonparametric import CensoringDistributionEstimator

    y, _, _ = simulated(150)
    events = y["event"]
    expected = CensoringDistributionEstimator().fit(y).predict_ipcw(y)
    np.testing.assert_allclose(inverse_weights(y, []).at_event[0][events], expected[events])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 3)), min_size=1),
    st.booleans(),
)
def test_curves_never_rise_and_stay_probabilities(rows, reverse):
    time, event, weights = map(np.array, zip(*rows, strict=True))
    curve = kaplan_meier(outcome(time, event), reverse=reverse)
    values = curve["survival"].to_numpy()
    assert (np.diff(values) <= 1e-12).all()
    assert ((values >= 0) & (values <= 1)).all()
    inside = curve.dropna()
    assert (inside["lower"] <= inside["survival"] + 1e-12).all()
    assert (inside["survival"] <= inside["upper"] + 1e-12).all()
    left, at = product_limit(outcome(time, event), np.arange(10.0), weights[None] * 0.3, reverse)
    assert (np.diff(at[0]) <= 1e-12).all()
    assert np.isfinite(left).all()
