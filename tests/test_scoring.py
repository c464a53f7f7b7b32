import numpy as np
import pandas as pd
import pytest

from tabular_trainers import metrics
from tabular_trainers.bootstrap import bootstrap_weights
from tabular_trainers.errors import DataError
from tabular_trainers.folds import make_folds
from tabular_trainers.schema import validate
from tests.survival_golden import outcome, simulated

N = 150
HORIZONS = (365.0, 1000.0)
TIMES = np.unique([*HORIZONS, *metrics.time_grid(1000.0)])
IDS = np.array([f"p{i:03d}" for i in range(N)])


def held_out(risk, folds, feature_set="clinical", model="cox"):
    test = folds[folds["part"] == "test"].drop(columns="part")
    risk = pd.Series(risk, index=IDS).loc[test["patient_id"]].to_numpy()
    return test.assign(feature_set=feature_set, model=model, risk=risk)


def curves(predictions):
    table = predictions.reset_index(drop=True).drop(columns="risk")
    table = table.loc[table.index.repeat(len(TIMES))]
    cumulative = np.exp(predictions["risk"].to_numpy())[:, None] * TIMES / 1500
    return table.assign(time=np.tile(TIMES, len(predictions)), survival=np.exp(-cumulative).ravel())


def scored(y, folds, predictions, survival=None, **arguments):
    arguments = {"horizons": HORIZONS, "n_resamples": 50, "seed": 1} | arguments
    kind = "classification" if y.dtype.names is None else "survival"
    return metrics.score(kind, y, IDS, folds, predictions, survival, **arguments)


@pytest.fixture(scope="module")
def example():
    y, risk, _ = simulated(N)
    folds = make_folds(y, IDS, n_splits=3)
    predictions = held_out(risk, folds)
    table, headline = scored(y, folds, predictions, curves(predictions))
    fold = predictions.set_index("patient_id")["fold"].loc[IDS].to_numpy()
    return y, risk, folds, fold, table, headline


def test_every_estimate_is_that_of_the_single_measure(example):
    y, risk, _, fold, table, _ = example
    validate(table, "metrics")
    survival = np.exp(-np.exp(risk)[:, None] * TIMES / 1500)
    at = np.searchsorted(TIMES, HORIZONS)
    expected = {
        ("harrell_c", None): metrics.harrell_c(y, risk, fold),
        ("uno_c", None): metrics.uno_c(y, risk, 1000.0, fold),
        ("integrated_brier", None): metrics.integrated_brier(y, survival, TIMES),
    }
    for name, values in {
        "auc": metrics.auc(y, risk, HORIZONS, fold),
        "brier": metrics.brier(y, survival[:, at], HORIZONS),
        "observed_expected": metrics.observed_expected(y, survival[:, at], HORIZONS),
        "calibration_slope": metrics.calibration_slope(y, survival[:, at], HORIZONS, fold),
    }.items():
        expected |= {(name, h): value for h, value in zip(HORIZONS, values, strict=True)}
    overall = table[table["fold"].isna()]
    found = {
        (row.metric, None if np.isnan(row.horizon) else row.horizon): row.estimate
        for row in overall.itertuples()
    }
    few = found.pop(("integrated_calibration_index", 365.0))
    assert np.isnan(few)  # a test of its own
    index = metrics.integrated_calibration_index(y, survival[:, at], HORIZONS)
    expected["integrated_calibration_index", 1000.0] = index[1]
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-9), key
    inside = overall[overall["metric"].isin(["harrell_c", "brier", "auc"])]
    assert (inside["lower"] < inside["estimate"]).all()
    assert (inside["estimate"] < inside["upper"]).all()
    assert found.keys() == expected.keys()
    drawn = overall[(overall["metric"] != "harrell_c") & overall["estimate"].notna()]
    assert set(drawn["method"]) == {"bootstrap (50 resamples of patients within folds)"}
    by_horizon = overall[overall["metric"] == "brier"].set_index("horizon")["n_events"]
    assert by_horizon[365.0] == (y["event"] & (y["time"] <= 365)).sum()
    assert (overall["n"] == N).all()


def test_calibration_index_is_left_empty_under_50_events(example):
    y, risk, _, fold, table, _ = example
    rows = table[table["metric"] == "integrated_calibration_index"].set_index("horizon")
    assert rows.loc[365.0, "n_events"] < 50 <= rows.loc[1000.0, "n_events"]
    empty = rows.loc[365.0]
    assert empty["method"] == "not computed: fewer than 50 events by then"
    assert empty[["estimate", "standard_error", "lower", "upper"]].isna().all()
    survival = np.exp(-np.exp(risk)[:, None] * 1000.0 / 1500)
    weights = metrics.bootstrap_weights(fold, n_resamples=50, seed=1)
    draws = metrics.integrated_calibration_index(y, survival, [1000.0], weights)[:, 0]
    found = rows.loc[1000.0, ["standard_error", "lower", "upper"]].tolist()
    assert found == pytest.approx(metrics.interval(draws))


def test_rows_of_one_fold(example):
    y, risk, _, fold, table, _ = example
    rows = table[table["fold"].notna()]
    assert rows[["standard_error", "lower", "upper", "method"]].isna().all(axis=None)
    harrell = rows[rows["metric"] == "harrell_c"].set_index("fold")["estimate"]
    for k in range(3):
        one = fold == k
        assert harrell[k] == pytest.approx(metrics.harrell_c(y[one], risk[one]))
    assert rows[rows["metric"] == "harrell_c"]["n"].sum() == N


def test_draws_are_those_of_weighted_measures_with_censoring_estimated_anew(example):
    y, risk, _, fold, table, _ = example
    weights = metrics.bootstrap_weights(fold, n_resamples=50, seed=1)
    uno = metrics.interval(metrics.uno_c(y, risk, 1000.0, fold, weights))
    row = table[(table["metric"] == "uno_c") & table["fold"].isna()].iloc[0]
    assert (row["standard_error"], row["lower"], row["upper"]) == pytest.approx(uno)
    survival = np.exp(-np.exp(risk)[:, None] * TIMES / 1500)
    errors = metrics.interval(metrics.integrated_brier(y, survival, TIMES, weights))
    row = table[(table["metric"] == "integrated_brier") & table["fold"].isna()].iloc[0]
    assert (row["standard_error"], row["lower"], row["upper"]) == pytest.approx(errors)


def test_harrell_c_has_the_infinitesimal_jackknife(example):
    y, risk, folds, fold, table, headline = example
    expected = metrics.concordance(y, risk, fold)
    row = table[(table["metric"] == "harrell_c") & table["fold"].isna()].iloc[0]
    assert row["method"] == "infinitesimal jackknife"
    assert row["standard_error"] == pytest.approx(expected.standard_error[0])
    lower, upper = expected.interval()
    assert (row["lower"], row["upper"]) == pytest.approx((lower[0], upper[0]))
    np.testing.assert_allclose(headline["clinical", "cox"].values, expected.influence[:, 0])


@pytest.mark.parametrize(("n_sites", "summed"), [(12, True), (9, False)])
def test_with_ten_sites_influences_are_summed_by_site(example, n_sites, summed):
    y, risk, folds, fold, _, _ = example
    site = np.array([f"site {i % n_sites}" for i in range(N)])
    expected = metrics.concordance(y, risk, fold, site if summed else None)
    table, headline = scored(y, folds, held_out(risk, folds), site=site)
    row = table[(table["metric"] == "harrell_c") & table["fold"].isna()].iloc[0]
    by_site = ", summed by site (t, 11 degrees of freedom)"
    assert row["method"] == "infinitesimal jackknife" + by_site * summed
    assert row["standard_error"] == pytest.approx(expected.standard_error[0])
    lower, upper = expected.interval()
    assert (row["lower"], row["upper"]) == pytest.approx((lower[0], upper[0]))
    assert len(headline["clinical", "cox"].values) == (n_sites if summed else N)


def test_a_patient_in_no_test_fold_has_no_influence(example):
    y, risk, folds, _, _, _ = example
    some = held_out(risk, folds).iloc[10:]
    _, headline = scored(y, folds, some)
    gone = ~np.isin(IDS, some["patient_id"])
    assert gone.sum() == 10
    values = headline["clinical", "cox"].values
    assert (values[gone] == 0).all()
    assert (values[~gone] != 0).any()


def test_the_order_of_rows_and_other_models_change_nothing(example):
    y, risk, folds, _, table, headline = example
    one, other = held_out(risk, folds), held_out(-risk, folds, "all", "xgb")
    both = pd.concat([other, one]).sample(frac=1, random_state=0)
    again, more = scored(y, folds, both, curves(pd.concat([one, other])))
    mine = headline["clinical", "cox"].values
    assert more["clinical", "cox"].values.tolist() == mine.tolist()
    mine = again[again["model"] == "cox"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, table, check_exact=False, rtol=1e-9)
    np.testing.assert_allclose(
        more["all", "xgb"].values, -headline["clinical", "cox"].values, atol=1e-15
    )


def repeated(y, first, second):
    folds = make_folds(y, IDS, n_splits=3, n_repeats=2)
    predictions = held_out(first, folds)
    later = predictions["repeat"] == 1
    predictions.loc[later, "risk"] = held_out(second, folds)["risk"][later]
    fold = [
        predictions[predictions["repeat"] == r].set_index("patient_id")["fold"].loc[IDS].to_numpy()
        for r in (0, 1)
    ]
    return folds, predictions, fold


def test_over_repeats_measures_and_influences_are_averaged():
    y, risk, _ = simulated(N)
    noisy = risk + np.random.default_rng(1).normal(size=N)
    folds, predictions, fold = repeated(y, risk, noisy)
    table, headline = scored(y, folds, predictions)
    one, other = metrics.concordance(y, risk, fold[0]), metrics.concordance(y, noisy, fold[1])
    influence = (one.influence[:, 0] + other.influence[:, 0]) / 2
    np.testing.assert_allclose(headline["clinical", "cox"].values, influence)
    row = table[(table["metric"] == "harrell_c") & table["fold"].isna()].iloc[0]
    assert row["estimate"] == pytest.approx((one.estimate[0] + other.estimate[0]) / 2)
    assert row["standard_error"] == pytest.approx(np.sqrt((influence**2).sum()))
    # the same patients are measured twice: less is gained than from as many others
    assert row["standard_error"] > np.hypot(one.standard_error[0], other.standard_error[0]) / 2
    assert len(table[table["fold"].notna() & (table["metric"] == "harrell_c")]) == 6


def test_over_repeats_draws_are_averaged_and_draw_the_same_patients():
    y, risk, _ = simulated(N)
    labels = y["event"].astype(np.int8)
    chance = 1 / (1 + np.exp(-risk))
    folds, predictions, fold = repeated(labels, chance, chance**2 * (np.arange(N) % 5 + 1) / 5)
    values = [
        predictions[predictions["repeat"] == r].set_index("patient_id")["risk"].loc[IDS].to_numpy()
        for r in (0, 1)
    ]
    _, headline = scored(labels, folds, predictions, horizons=())
    weights = metrics.bootstrap_weights(fold[0], n_resamples=50, seed=1)
    each = [metrics.auroc(labels, values[r], fold[r], weights) for r in (0, 1)]
    np.testing.assert_allclose(headline["clinical", "cox"].values, np.mean(each, axis=0))


def test_classification():
    y, risk, _ = simulated(N)
    labels = y["event"].astype(np.int8)
    probability = 1 / (1 + np.exp(-risk))
    folds = make_folds(labels, IDS, n_splits=3)
    predictions = held_out(probability, folds, model="logistic")
    table, headline = scored(labels, folds, predictions, horizons=())
    validate(table, "metrics")
    fold = predictions.set_index("patient_id")["fold"].loc[IDS].to_numpy()
    found = table[table["fold"].isna()].set_index("metric")["estimate"]
    expected = {
        "auroc": metrics.auroc(labels, probability, fold),
        "auprc": metrics.auprc(labels, probability, fold),
        "brier": metrics.brier(labels, probability),
        "log_loss": metrics.log_loss(labels, probability),
        "observed_expected": metrics.observed_expected(labels, probability),
        "calibration_slope": metrics.calibration_slope(labels, probability),
        "integrated_calibration_index": metrics.integrated_calibration_index(labels, probability),
    }
    assert found.to_dict() == pytest.approx(expected, abs=1e-9)
    weights = metrics.bootstrap_weights(fold, n_resamples=50, seed=1)
    np.testing.assert_allclose(
        headline["clinical", "logistic"].values, metrics.auroc(labels, probability, fold, weights)
    )


@pytest.mark.parametrize("kind", ["survival", "classification"])
def test_headline_gives_what_score_gives(example, kind):
    y, risk, folds, _, _, _ = example
    y, risk = (y, risk) if kind == "survival" else (y["event"] * 1, 1 / (1 + np.exp(-risk)))
    predictions = held_out(risk, folds)
    _, expected = scored(y, folds, predictions, horizons=())
    found = metrics.headline(kind, y, IDS, folds, predictions, None, 50, 1)["clinical"]
    expected = expected["clinical", "cox"]
    assert found.estimate == pytest.approx(expected.estimate)
    assert found.method == expected.method
    np.testing.assert_allclose(found.values, expected.values)


def late_example(landmark=None, n_resamples=50):
    y, risk, _ = simulated(N)
    entry = np.random.default_rng(1).random(N) * np.minimum(y["time"], 500)
    y = outcome(y["time"], y["event"], entry)
    folds = make_folds(y, IDS, n_splits=3)
    predictions = held_out(risk, folds)
    survival = curves(predictions)
    at = pd.Index(IDS).get_indexer(predictions["patient_id"])
    predictions["survival_at_entry"] = np.exp(-entry[at] / 1500 * np.exp(risk[at]))
    table, _ = scored(y, folds, predictions, survival, landmark=landmark, n_resamples=n_resamples)
    validate(table, "metrics")
    return y, risk, folds, predictions, survival, table


def test_with_entry_times_every_estimate_is_that_of_the_single_measure():
    y, risk, folds, predictions, _, table = late_example(landmark=400.0)
    fold = predictions.set_index("patient_id")["fold"].loc[IDS].to_numpy()
    survival = np.exp(-np.exp(risk)[:, None] * TIMES / 1500)
    at = np.searchsorted(TIMES, HORIZONS)
    given = {"survival_at_entry": np.exp(-np.exp(risk) * y["entry"] / 1500)}
    counts = bootstrap_weights(fold, n_resamples=50, seed=1)
    single = {
        ("harrell_c", None): lambda w: metrics.harrell_c(y, risk, fold, w),
        ("uno_c", None): lambda w: metrics.uno_c(y, risk, 1000.0, fold, w, landmark=400.0),
        ("auc", 1000.0): lambda w: metrics.auc(y, risk, [1000.0], fold, w, landmark=400.0),
        ("integrated_brier", None): lambda w: metrics.integrated_brier(
            y, survival, TIMES, w, **given
        ),
    }
    for k, horizon in zip(at, HORIZONS, strict=True):
        own = (y, survival[:, [k]], [horizon])
        single["brier", horizon] = lambda w, own=own: metrics.brier(*own, w, **given)
        single["observed_expected", horizon] = lambda w, own=own: metrics.observed_expected(
            *own, w, **given
        )
        single["calibration_slope", horizon] = lambda w, own=own: metrics.calibration_slope(
            *own, fold, w
        )
    overall = table[table["fold"].isna()].set_index(["metric", "horizon"])
    at_risk = (y["entry"] <= 400) & (y["time"] > 400)
    for (name, horizon), measure in single.items():
        row = overall.loc[(name, np.nan if horizon is None else horizon)]
        assert row["estimate"] == pytest.approx(np.ravel(measure(None))[0], abs=1e-9), name
        if name != "harrell_c":
            drawn = np.ravel(measure(counts))
            assert row["standard_error"] == pytest.approx(drawn.std(ddof=1), rel=1e-6), name
        came = N if horizon is None else (y["entry"] < horizon).sum()
        assert row["n"] == (at_risk.sum() if name in ("uno_c", "auc") else came)
    early = overall.loc[("auc", 365.0)]
    assert np.isnan(early["estimate"])
    assert early["method"] == "not computed: the horizon is not after the landmark"
    words = f"within folds); {at_risk.sum()} of {N} patients at risk at landmark 400"
    assert overall.loc[("auc", 1000.0), "method"].endswith(words)
    first = table[table["fold"] == 0].set_index(["metric", "horizon"])
    inside = fold == 0
    came = inside & (y["entry"] < 365)
    losses = metrics.inverse_weights(y, [365.0])
    events = y["event"] & (y["time"] <= 365)
    p = survival[:, at[0]] / given["survival_at_entry"]
    error = losses.at_event[0] * events * p**2
    error += losses.at_entry[0] * losses.beyond[0, 0] * (y["time"] > 365) * (1 - p) ** 2
    assert first.loc[("brier", 365.0), "estimate"] == pytest.approx(error[came].mean())
    row = first.loc[("auc", 1000.0)]
    at_event = metrics.inverse_weights(metrics.at_landmark(y, 400.0)[1], []).at_event[0]
    weight = np.zeros(N)
    weight[at_risk] = at_event
    cases = np.flatnonzero(at_risk & inside & y["event"] & (y["time"] <= 1000))
    controls = at_risk & inside & (y["time"] > 1000)
    above = [(risk[i] > risk[controls]).mean() for i in cases]
    assert row["n"] == (at_risk & inside).sum()
    assert row["estimate"] == pytest.approx(np.average(above, weights=weight[cases]))


def test_with_entry_times_and_no_landmark_two_measures_say_what_they_need():
    y, _, folds, predictions, survival, table = late_example()
    overall = table[table["fold"].isna()]
    index = overall["metric"] == "integrated_calibration_index"
    lacking = overall[overall["estimate"].isna() & ~index]
    assert lacking["metric"].tolist() == ["uno_c", "auc", "auc"]
    assert lacking["method"].unique().tolist() == [
        "not computed: with entry times (left truncation) give the endpoint a landmark"
    ]
    table, _ = scored(y, folds, predictions, survival, landmark=9000.0)
    rows = table[table["metric"] == "uno_c"]
    assert rows["method"].tolist() == ["not computed: no patient is at risk at the landmark"]
    with pytest.raises(DataError, match="expected survival_at_entry"):
        scored(y, folds, predictions.drop(columns="survival_at_entry"), survival)


def test_messages(example):
    y, risk, folds, _, _, _ = example
    predictions = held_out(risk, folds)
    stranger = predictions.assign(patient_id=predictions["patient_id"] + "x")
    with pytest.raises(DataError, match="predictions: 150 rows of patients that are not in"):
        scored(y, folds, stranger)
    survival = curves(predictions)
    with pytest.raises(DataError, match="expected every held-out patient at every time, once"):
        scored(y, folds, predictions, survival.iloc[1:])
    with pytest.raises(DataError, match="no prediction at horizon 1000"):
        scored(y, folds, predictions, survival[survival["time"] < 999])
    nobody = y.copy()
    nobody["event"] = False
    with pytest.raises(DataError, match="harrell_c of clinical, cox: no comparable pair within"):
        scored(nobody, folds, predictions)
