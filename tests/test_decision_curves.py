import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.folds import make_folds
from tabular_trainers.metrics import decision_curve, net_benefit, score
from tabular_trainers.schema import validate
from tests.survival_golden import outcome, simulated

GOLDEN = json.loads(
    (Path(__file__).parent / "golden" / "calibration_index.json").read_text(encoding="utf-8")
)
PATIENTS = {name: np.array(values) for name, values in GOLDEN["patients"].items()}
HORIZONS, RISK = GOLDEN["horizons"], 1 - np.array(GOLDEN["survival"])
THRESHOLDS = GOLDEN["thresholds"]
Y = outcome(PATIENTS["time"], PATIENTS["event"])
N = 120
IDS = np.array([f"p{i:03d}" for i in range(N)])


@pytest.mark.parametrize("name", ["plain", "counts"])
@pytest.mark.parametrize("k", [0, 1])
def test_agrees_with_r_survfit_of_the_treated(name, k):
    weights = None if name == "plain" else PATIENTS[name]
    expected = GOLDEN["net_benefit"][name][k]
    found = net_benefit(Y, RISK[:, k], HORIZONS[k], THRESHOLDS, weights)
    assert found == pytest.approx(expected["model"], abs=1e-12)
    everybody = net_benefit(Y, np.ones(len(Y)), HORIZONS[k], THRESHOLDS, weights)
    assert everybody == pytest.approx(expected["all"], abs=1e-12)


def test_counted_by_hand():
    labels = [1, 0, 1, 0, 0]
    probability = [0.9, 0.6, 0.4, 0.3, 0.1]
    # at 0.25: of 5, 2 true and 2 false positives: 2/5 - 2/5 * 0.25/0.75
    # at 0.4 (at or above): 2 true, 1 false: 2/5 - 1/5 * 0.4/0.6; at 0.95 nobody is treated
    expected = [2 / 5 - 2 / 5 / 3, 2 / 5 - 1 / 5 * 2 / 3, 0.0]
    assert net_benefit(labels, probability, thresholds=[0.25, 0.4, 0.95]) == pytest.approx(expected)
    # the same patients without censoring: events at 1 and 2, the others followed beyond 3
    y = outcome([1, 5, 2, 6, 7], [1, 1, 1, 0, 0])
    assert net_benefit(y, probability, 3.0, [0.25, 0.4, 0.95]) == pytest.approx(expected)


def test_rows_of_weights_equal_one_at_a_time():
    rows = np.random.default_rng(0).integers(0, 3, (5, len(Y))) * 0.7
    found = net_benefit(Y, RISK[:, 0], HORIZONS[0], THRESHOLDS, rows)
    one = [net_benefit(Y, RISK[:, 0], HORIZONS[0], THRESHOLDS, row) for row in rows]
    np.testing.assert_allclose(found, one, atol=1e-12)


def test_what_it_does_not_take():
    late = outcome([2.0, 3.0], [1, 0], [0.0, 1.0])
    with pytest.raises(DataError, match="Give a landmark"):
        net_benefit(late, [0.5, 0.5], 2.5)
    with pytest.raises(DataError, match="thresholds: expected increasing values"):
        net_benefit([0, 1], [0.5, 0.5], thresholds=[0.5, 1.0])
    with pytest.raises(DataError, match="probability: expected values between"):
        net_benefit([0, 1], [0.5, 1.5])
    with pytest.raises(DataError, match="horizon: expected a time"):
        net_benefit(Y, RISK[:, 0])


def tables(repeats=1):
    y, risk, _ = simulated(N)
    folds = make_folds(y, IDS, n_splits=3, n_repeats=repeats)
    test = folds[folds["part"] == "test"].drop(columns="part")
    at = pd.Index(IDS).get_indexer(test["patient_id"])
    predictions = test.assign(feature_set="clinical", model="cox", risk=risk[at])
    survival = pd.concat(
        predictions.drop(columns="risk").assign(
            time=time, survival=np.exp(-time / 1500 * np.exp(risk[at]))
        )
        for time in (365.0, 500.0, 1000.0)
    )
    return y, risk, folds, predictions, survival


def test_table_of_curves_is_of_all_patients_and_of_the_resamples_of_the_metrics():
    y, risk, folds, predictions, survival = tables(repeats=2)
    given = ("survival", y, IDS, folds, predictions, survival)
    horizons = (365.0, 1000.0)
    table = validate(decision_curve(*given, horizons=horizons, n_resamples=60), "decision_curve")
    assert set(table["horizon"]) == set(horizons)
    assert table["method"].unique().tolist() == [
        "bootstrap (60 resamples of patients within folds)"
    ]
    row = table[(table["horizon"] == 1000) & (table["threshold"] == 0.3)].iloc[0]
    predicted = 1 - np.exp(-1000 / 1500 * np.exp(risk))
    assert row["net_benefit"] == pytest.approx(net_benefit(y, predicted, 1000.0, [0.3])[0])
    assert row["treat_all"] == pytest.approx(net_benefit(y, np.ones(N), 1000.0, [0.3])[0])
    assert row["lower"] < row["net_benefit"] < row["upper"]
    # below the lowest prediction all are treated: the interval is that of the observed risk,
    # which is observed/expected times the mean prediction, drawn from the same resamples
    everybody = survival.assign(survival=0.0)
    given = ("survival", y, IDS, folds, predictions, everybody)
    table = decision_curve(*given, horizons=horizons, n_resamples=60)
    row = table[(table["horizon"] == 1000) & (table["threshold"] == 0.5)].iloc[0]
    metrics, _ = score(*given, horizons=horizons, n_resamples=60)
    ratio = metrics[
        (metrics["metric"] == "observed_expected")
        & (metrics["horizon"] == 1000)
        & metrics["fold"].isna()
    ].iloc[0]
    assert row["net_benefit"] == row["treat_all"]
    # every risk is 1, so the observed risk r is observed/expected; at 0.5 the benefit is 2 r - 1
    for name, other in (("net_benefit", "estimate"), ("lower", "lower"), ("upper", "upper")):
        assert row[name] == pytest.approx(2 * ratio[other] - 1)


def test_thresholds_are_shared_by_the_models_of_a_horizon():
    y, _, folds, predictions, survival = tables()
    low = survival.assign(model="rsf", survival=1 - (1 - survival["survival"]) / 10)
    both = pd.concat([survival, low])
    table = decision_curve(
        "survival", y, IDS, folds, predictions, both, horizons=(1000.0,), n_resamples=20
    )
    own = table.groupby("model")["threshold"].apply(list)
    assert own["cox"] == own["rsf"]
    assert len(own["cox"]) <= 50
    none = table[(table["model"] == "rsf") & (table["threshold"] > 0.12)]
    assert (none[["net_benefit", "lower", "upper"]] == 0).all(axis=None)


def test_classification_and_entry():
    y, risk, folds, predictions, survival = tables()
    labels = y["event"].astype(np.int8)
    predictions["risk"] = 1 / (1 + np.exp(-predictions["risk"]))
    table = decision_curve("classification", labels, IDS, folds, predictions, n_resamples=20)
    validate(table, "decision_curve")
    assert table["horizon"].isna().all()
    row = table[table["threshold"] == 0.5].iloc[0]
    assert row["net_benefit"] == pytest.approx(
        (labels[risk >= 0].sum() - (1 - labels[risk >= 0]).sum()) / N
    )
    late = outcome(y["time"], y["event"], np.random.default_rng(0).random(N) * 0.9 * y["time"])
    table = decision_curve("survival", late, IDS, folds, predictions, survival, horizons=(365.0,))
    assert len(validate(table, "decision_curve")) == 0


def test_at_a_landmark_it_is_of_the_patients_at_risk_then():
    y, risk, folds, predictions, survival = tables()
    late = outcome(y["time"], y["event"], np.random.default_rng(0).random(N) * 0.9 * y["time"])
    with pytest.raises(DataError, match="Give a landmark"):
        net_benefit(late, np.zeros(N), 1000.0)
    with pytest.raises(DataError, match="horizon 1000: expected one after the landmark, 1000"):
        net_benefit(late, np.zeros(N), 1000.0, landmark=1000.0)
    table = decision_curve(
        "survival", late, IDS, folds, predictions, survival,
        horizons=(365.0, 1000.0), n_resamples=20, landmark=500.0,
    )  # fmt: skip
    validate(table, "decision_curve")
    kept = (late["entry"] <= 500) & (late["time"] > 500)
    restarted = outcome(late["time"][kept] - 500, late["event"][kept])
    predicted = 1 - np.exp(-500 / 1500 * np.exp(risk))[kept]
    assert table["horizon"].unique().tolist() == [1000.0]
    row = table[table["threshold"] == 0.3].iloc[0]
    assert row["net_benefit"] == pytest.approx(net_benefit(restarted, predicted, 500.0, [0.3])[0])
    everybody = net_benefit(restarted, np.ones(kept.sum()), 500.0, [0.3])[0]
    assert row["treat_all"] == pytest.approx(everybody)
    assert row["method"].endswith(f"; {kept.sum()} of {N} patients at risk at landmark 500")
    with pytest.raises(DataError, match="no prediction at the landmark, 501"):
        decision_curve(
            "survival", late, IDS, folds, predictions, survival,
            horizons=(1000.0,), n_resamples=20, landmark=501.0,
        )  # fmt: skip
