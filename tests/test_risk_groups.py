import numpy as np
import pandas as pd
import pytest

from tabular_trainers import description
from tabular_trainers.errors import DataError
from tabular_trainers.folds import make_folds
from tabular_trainers.left_truncation import curve_start
from tabular_trainers.metrics import inverse_weights, kaplan_meier
from tabular_trainers.schema import validate
from tests.survival_golden import GOLDEN, PATIENTS, golden_outcome, outcome, simulated

N = 120
IDS = np.array([f"p{i:03d}" for i in range(N)])


@pytest.mark.parametrize(("name", "strata"), [("plain", None), ("strata", PATIENTS["fold"])])
def test_log_rank_agrees_with_r_survdiff(name, strata):
    found = description.log_rank(golden_outcome(), PATIENTS["third"], strata)
    expected = GOLDEN["log_rank"][name] | {"degrees_of_freedom": 2}
    assert found == pytest.approx(expected, rel=1e-9)


def test_log_rank_needs_two_groups():
    with pytest.raises(DataError, match="expected at least two groups"):
        description.log_rank(golden_outcome(), np.zeros(90))


def test_thirds_are_cut_within_each_fold():
    folds = np.arange(90) % 3
    risk = np.random.default_rng(0).normal(size=90) + 100 * folds
    group = description.risk_thirds(risk, folds)
    for k in range(3):
        inside = folds == k
        names, sizes = np.unique(group[inside], return_counts=True)
        assert dict(zip(names, sizes, strict=True)) == {"low": 10, "middle": 10, "high": 10}
        assert risk[inside & (group == "low")].max() < risk[inside & (group == "middle")].min()
        assert risk[inside & (group == "middle")].max() < risk[inside & (group == "high")].min()
    tied = description.risk_thirds([1, 1, 1, 1, 1, 2])
    assert tied.tolist() == ["low"] * 5 + ["high"]


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


def test_curves_of_all_of_follow_up_and_of_thirds():
    y, _, folds, predictions, _ = tables(repeats=2)
    curves = description.kaplan_meier_curves("survival", y, IDS, folds, predictions)
    validate(curves, "kaplan_meier")
    columns = ["time", "survival", "lower", "upper", "n_at_risk", "n_events"]
    for name, reverse in (("overall", False), ("reverse", True)):
        curve = curves[curves["curve"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(curve[columns], kaplan_meier(y, reverse=reverse))
        assert set(curve["group"]) == {"all"}
    thirds = curves[curves["curve"] == "thirds"]
    assert thirds["group"].unique().tolist() == ["low", "middle", "high"]
    assert thirds["n_events"].sum() == y["event"].sum()  # of two repeats only the first is shown
    assert thirds.groupby("group")["n_at_risk"].max().sum() == N


def test_classification_has_no_curves():
    y = np.zeros(N, dtype=np.int8)
    curves = description.kaplan_meier_curves("classification", y, IDS, None, None)
    assert len(validate(curves, "kaplan_meier")) == 0


def test_calibration_in_fifths_of_predicted_risk_and_in_thirds_under_50_events():
    y, risk, _, predictions, survival = tables()
    horizons = (365.0, 1000.0)
    table = description.calibration("survival", y, IDS, predictions, survival, horizons)
    validate(table, "calibration")
    by_horizon = {at: int((y["event"] & (y["time"] <= at)).sum()) for at in horizons}
    assert by_horizon[365.0] < 50 <= by_horizon[1000.0]
    assert table.loc[table["horizon"] == 365, "n"].tolist() == [N // 3] * 3
    assert table.loc[table["horizon"] == 1000, "n"].tolist() == [N // 5] * 5
    assert table.groupby("horizon")["predicted"].is_monotonic_increasing.all()
    highest = np.argsort(risk)[-40:]
    curve = kaplan_meier(y[highest])
    last = curve[curve["time"] <= 365].iloc[-1]
    row = table[(table["horizon"] == 365) & (table["group"] == 2)].iloc[0]
    expected = [1 - last["survival"], 1 - last["upper"], 1 - last["lower"]]
    assert row[["observed", "lower", "upper"]].tolist() == pytest.approx(expected)
    predicted = 1 - np.exp(-365 / 1500 * np.exp(risk[highest]))
    assert row["predicted"] == pytest.approx(predicted.mean())


def late_tables():
    y, risk, folds, predictions, survival = tables()
    entry = np.random.default_rng(1).random(N) * np.minimum(y["time"], 600)
    late = outcome(y["time"], y["event"], entry)
    at = pd.Index(IDS).get_indexer(predictions["patient_id"])
    at_entry = np.exp(-entry[at] / 1500 * np.exp(risk[at]))
    return late, risk, folds, predictions.assign(survival_at_entry=at_entry), survival


def test_late_curves_start_where_enough_are_at_risk_and_thirds_start_together():
    y, risk, folds, predictions, _ = late_tables()
    curves = description.kaplan_meier_curves("survival", y, IDS, folds, predictions)
    validate(curves, "kaplan_meier")
    overall = curves[curves["curve"] == "overall"]
    start = overall["time"].iloc[0]
    at_risk = ((y["entry"] <= start) & (y["time"] > start)).sum()
    assert start > 0
    assert at_risk == overall["n_at_risk"].iloc[0] == 10
    # survival given alive at the start, factor by factor
    survival = 1.0
    for t in np.unique(y["time"][y["event"] & (y["time"] > start) & (y["time"] <= 700)]):
        exposed = (y["entry"] < t) & (y["time"] >= t)
        survival *= 1 - (y["event"] & (y["time"] == t)).sum() / exposed.sum()
    assert overall[overall["time"] <= 700]["survival"].iloc[-1] == pytest.approx(survival)
    thirds = curves[curves["curve"] == "thirds"].groupby("group")["time"].min()
    assert len(thirds) == 3
    assert thirds.nunique() == 1
    group = description.risk_thirds(predictions["risk"], predictions["fold"])
    members = pd.Index(IDS).get_indexer(predictions["patient_id"])
    starts = [curve_start(y[members[group == name]]) for name in ("low", "middle", "high")]
    assert thirds.iloc[0] == max(starts) > min(starts)


def test_late_calibration_is_of_the_risk_from_entry_on():
    y, risk, _, predictions, survival = late_tables()
    table = description.calibration("survival", y, IDS, predictions, survival, (365.0, 1000.0))
    validate(table, "calibration")
    came = y["entry"] < 365
    assert came.sum() < N
    assert table[table["horizon"] == 365]["n"].sum() == came.sum()
    given = np.exp(-(365 - y["entry"]) / 1500 * np.exp(risk))[came]
    highest = np.argsort(given)[: table[table["horizon"] == 365]["n"].iloc[-1]]
    row = table[table["horizon"] == 365].iloc[-1]
    assert row["predicted"] == pytest.approx(1 - given[highest].mean())
    weights = (inverse_weights(y, []).at_event[0] * (y["time"] <= 365))[came][highest]
    assert row["observed"] == pytest.approx(weights.mean())
    assert 0 <= row["lower"] < row["observed"] < row["upper"] <= 1
    # without censoring every weight is 1: Wilson's interval of the plain share
    everybody = outcome(y["time"], np.ones(N), y["entry"])
    table = description.calibration("survival", everybody, IDS, predictions, survival, (365.0,))
    row = table.iloc[-1]
    events = (everybody["time"] <= 365)[came][highest].sum()
    from scipy.stats import binomtest

    expected = binomtest(int(events), len(highest)).proportion_ci(method="wilson")
    assert row[["lower", "upper"]].tolist() == pytest.approx([expected.low, expected.high])


def test_a_group_not_followed_up_to_the_horizon_has_no_observed_risk():
    y = outcome(np.r_[np.full(N - 1, 100.0), 2000.0], np.arange(N) % 2)
    _, _, _, predictions, survival = tables()
    table = description.calibration("survival", y, IDS, predictions, survival, (1000.0,))
    assert table["observed"].isna().sum() == 4
    validate(table, "calibration")


def test_calibration_of_classification_has_wilson_intervals():
    y, risk, _, predictions, _ = tables()
    labels = y["event"].astype(np.int8)
    predictions["risk"] = 1 / (1 + np.exp(-predictions["risk"]))
    table = description.calibration("classification", labels, IDS, predictions, None, ())
    validate(table, "calibration")
    assert min(labels.sum(), (1 - labels).sum()) < 50  # so thirds
    lowest = np.argsort(risk)[:40]
    assert table.loc[0, "observed"] == pytest.approx(labels[lowest].mean())
    assert table["horizon"].isna().all()
    # Wilson for 10 of 20: (0.5 + z^2/40 +/- z sqrt(0.25/20 + z^2/1600)) / (1 + z^2/20), z = 1.96
    from scipy.stats import binomtest

    from tabular_trainers.risk_groups import _wilson

    expected = binomtest(10, 20).proportion_ci(method="wilson")
    assert _wilson(10, 20) == pytest.approx((0.5, expected.low, expected.high))


def test_equal_predictions_share_a_group():
    y, _, _, predictions, _ = tables()
    labels = y["event"].astype(np.int8)
    table = description.calibration(
        "classification", labels, IDS, predictions.assign(risk=0.4), None, ()
    )
    assert table[["group", "n"]].to_numpy().tolist() == [[0, N]]
