import numpy as np
import pytest

from tabular_trainers.metrics import calibration_slope, observed_expected, survival_at
from tests.survival_golden import GOLDEN, PATIENTS, golden_outcome, outcome, simulated

HORIZON = GOLDEN["horizon"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("plain", {}),
        ("strata", {"strata": PATIENTS["fold"]}),
        ("counts", {"strata": PATIENTS["fold"], "weights": PATIENTS["counts"]}),
        ("weights", {"strata": PATIENTS["fold"], "weights": PATIENTS["weights"]}),
    ],
)
def test_survival_slope_agrees_with_r_coxph(name, arguments):
    survival = PATIENTS["survival"][:, None]
    found = calibration_slope(golden_outcome(), survival, [HORIZON], **arguments)
    assert found == pytest.approx([GOLDEN["cox_slope"][name]], abs=1e-7)


def test_classification_slope_agrees_with_r_glm():
    y, probability = PATIENTS["event"], PATIENTS["probability"]
    expected = GOLDEN["logistic_slope"]
    assert calibration_slope(y, probability) == pytest.approx(expected["plain"], abs=1e-7)
    found = calibration_slope(y, probability, weights=PATIENTS["counts"])
    assert found == pytest.approx(expected["counts"], abs=1e-7)


def test_slope_is_one_for_the_truth_and_half_for_doubled_predictions():
    y, risk, _ = simulated(4000)
    truth = np.exp(-1000 / 1500 * np.exp(risk))
    doubled = np.exp(-np.exp(2 * np.log(-np.log(truth))))
    found = [calibration_slope(y, s, [1000.0])[0] for s in (truth, doubled)]
    assert found[0] == pytest.approx(1.0, abs=0.06)
    assert found[1] == pytest.approx(0.5, abs=0.05)
    assert observed_expected(y, truth, [1000.0])[0] == pytest.approx(1.0, abs=0.06)


def test_certain_predictions_stay_finite_and_hopeless_ones_are_undefined():
    y, risk, _ = simulated(60)
    survival = np.exp(-1000 / 1500 * np.exp(risk))
    survival[np.argsort(risk)[:3]] = 1.0
    survival[np.argsort(risk)[-3:]] = 0.0
    assert np.isfinite(calibration_slope(y, survival, [1000.0])).all()
    assert np.isnan(calibration_slope(y, np.full(60, 0.5), [1000.0])).all()
    separated = outcome(np.arange(1.0, 21), np.arange(20) < 10)
    assert np.isnan(calibration_slope(separated, np.linspace(0.1, 0.9, 20), [11.0])).all()
    labels = np.arange(20) < 10
    assert np.isnan(calibration_slope(labels, np.linspace(0.9, 0.1, 20)))
    assert np.isnan(calibration_slope(labels, np.full(20, 0.5)))


def test_rows_of_weights_equal_one_at_a_time():
    y, risk, _ = simulated(100)
    survival = np.exp(-1000 / 1500 * np.exp(risk))
    rows = np.random.default_rng(0).integers(0, 3, (4, 100))
    strata = np.arange(100) % 4
    found = calibration_slope(y, survival, [1000.0], strata, rows)
    one = [calibration_slope(y, survival, [1000.0], strata, row)[0] for row in rows]
    np.testing.assert_allclose(found[:, 0], one, atol=1e-7)
    observed = observed_expected(y, survival, [1000.0], rows)[:, 0]
    expected = [
        (1 - survival_at(y, [1000.0], row)[0]) / np.average(1 - survival, weights=row)
        for row in rows
    ]
    np.testing.assert_allclose(observed, expected, atol=1e-12)


def test_observed_over_expected_counted_by_hand():
    # Kaplan-Meier at 2: 3 at risk at 1, 1 event -> 2/3; mean predicted risk (0.5 + 0.2 + 0.2) / 3
    y = outcome([1, 2, 3], [1, 0, 1])
    found = observed_expected(y, [[0.5], [0.8], [0.8]], [2.0])
    assert found == pytest.approx([(1 / 3) / 0.3])
    assert observed_expected([1, 0, 0, 1], [0.5, 0.25, 0.25, 0.25]) == pytest.approx(2 / 1.25)
