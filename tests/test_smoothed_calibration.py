import json
from pathlib import Path

import numpy as np
import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.metrics import integrated_calibration_index
from tests.survival_golden import outcome, simulated

GOLDEN = json.loads(
    (Path(__file__).parent / "golden" / "calibration_index.json").read_text(encoding="utf-8")
)
PATIENTS = {name: np.array(values) for name, values in GOLDEN["patients"].items()}
HORIZONS, SURVIVAL = GOLDEN["horizons"], np.array(GOLDEN["survival"])
Y = outcome(PATIENTS["time"], PATIENTS["event"])


@pytest.mark.parametrize("name", ["plain", "counts", "weights"])
def test_survival_agrees_with_r_coxph(name):
    weights = None if name == "plain" else PATIENTS[name]
    found = integrated_calibration_index(Y, SURVIVAL, HORIZONS, weights)
    assert found == pytest.approx(GOLDEN["index"][name], abs=1e-9)


def test_delayed_entry_agrees_with_r_coxph():
    y = outcome(PATIENTS["time"], PATIENTS["event"], PATIENTS["entry"])
    at_entry = GOLDEN["at_entry"]
    found = integrated_calibration_index(y, SURVIVAL, HORIZONS, survival_at_entry=at_entry)
    assert found == pytest.approx(GOLDEN["index"]["entry"], abs=1e-9)
    with pytest.raises(DataError, match="needs the predicted survival at entry"):
        integrated_calibration_index(y, SURVIVAL, HORIZONS)


def test_classification_agrees_with_r_glm():
    y, probability = PATIENTS["event"], PATIENTS["probability"]
    expected = GOLDEN["logistic"]
    assert integrated_calibration_index(y, probability) == pytest.approx(
        expected["plain"], abs=1e-9
    )
    found = integrated_calibration_index(y, probability, weights=PATIENTS["counts"])
    assert found == pytest.approx(expected["counts"], abs=1e-9)


def test_rows_of_weights_equal_one_at_a_time():
    rows = np.random.default_rng(0).integers(0, 3, (5, len(Y)))
    found = integrated_calibration_index(Y, SURVIVAL, HORIZONS, rows)
    one = [integrated_calibration_index(Y, SURVIVAL, HORIZONS, row) for row in rows]
    np.testing.assert_allclose(found, one, atol=1e-9)
    labels, probability = PATIENTS["event"], PATIENTS["probability"]
    found = integrated_calibration_index(labels, probability, weights=rows)
    one = [integrated_calibration_index(labels, probability, weights=row) for row in rows]
    np.testing.assert_allclose(found, one, atol=1e-9)


def test_truth_is_near_zero_and_a_known_distortion_is_found():
    y, risk, _ = simulated(6000)
    truth = np.exp(-1000 / 1500 * np.exp(risk))
    # hazards predicted half as large: the curve should find the true risk again
    halved = np.sqrt(truth)
    found = [integrated_calibration_index(y, s, [1000.0])[0] for s in (truth, halved)]
    assert found[0] < 0.015
    assert found[1] == pytest.approx(np.abs(halved - truth).mean(), abs=0.012)


def test_equal_predictions_compare_with_the_observed_risk():
    # at 1 four are at risk and one has the event, at 2 three and one:
    # exp(-(1/4 + 1/3)) survive by the Breslow estimate, which is Efron's without ties
    y = outcome([1, 2, 3, 4], [1, 1, 0, 0])
    found = integrated_calibration_index(y, np.full((4, 1), 0.8), [2.5])
    assert found == pytest.approx([abs(1 - np.exp(-(1 / 4 + 1 / 3)) - 0.2)], abs=1e-12)
    labels = [1, 0, 0, 0]
    assert integrated_calibration_index(labels, np.full(4, 0.4)) == pytest.approx(0.15, abs=1e-9)


def test_knots_that_fall_together_leave_a_straight_line():
    y, risk, _ = simulated(300)
    survival = np.exp(-1000 / 1500 * np.exp(np.where(risk > 1, 1.0, -0.2)))
    found = integrated_calibration_index(y, survival, [1000.0])
    assert 0 < found[0] < 0.2
    labels, probability = y["event"], np.where(risk > 1, 0.8, 0.4)
    # two predictions and two coefficients: the curve is the share of positives of each
    expected = sum(
        abs(labels[probability == p].mean() - p) * (probability == p).mean() for p in (0.8, 0.4)
    )
    assert integrated_calibration_index(labels, probability) == pytest.approx(expected, abs=1e-9)


def test_nothing_to_fit_is_undefined():
    y = outcome(np.arange(1.0, 21), np.arange(20) > 10)
    assert np.isnan(integrated_calibration_index(y, np.linspace(0.1, 0.9, 20), [5.0])).all()
    separated = np.arange(20) < 10
    assert np.isnan(integrated_calibration_index(separated, np.linspace(0.9, 0.1, 20)))
