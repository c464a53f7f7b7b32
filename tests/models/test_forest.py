"""Forests: leaves against lifelines, accuracy against scikit-survival and scikit-learn."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.metrics import harrell_c
from tabular_trainers.models import RandomSurvivalForest, forest
from tabular_trainers.models.classification_forest import ProbabilityForest


def drawn(n=300, p=8, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    signal = X[:, 0] + (X[:, 1] > 0) * X[:, 2]
    event_time, censoring = rng.exponential(np.exp(-signal)), rng.exponential(2.0, n)
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = event_time <= censoring, np.minimum(event_time, censoring)
    return X, y, (rng.logistic(size=n) < 2 * signal).astype(np.int8)


@pytest.mark.parametrize("late", [False, True])
def test_a_leaf_has_the_curves_of_its_patients(late):
    from lifelines import KaplanMeierFitter, NelsonAalenFitter

    X, y, _ = drawn()
    y["time"] = np.ceil(y["time"] * 10)  # ties
    if late:
        entered = np.empty(len(y), dtype=[*y.dtype.descr, ("entry", float)])
        entered["event"], entered["time"] = y["event"], y["time"]
        entered["entry"] = np.where(np.arange(len(y)) % 3, 0, np.floor(y["time"] * 0.7))
        y = entered
    weight = np.random.default_rng(2).integers(1, 4, len(y))
    model = RandomSurvivalForest(1, min_samples_leaf=40, bootstrap=False)
    model.fit(X, y, sample_weight=weight)
    leaf = model.forest_.leaves(X)[:, 0]
    event_times = np.unique(y["time"][y["event"]])
    assert len(np.unique(leaf)) > 3
    for node in np.unique(leaf):
        own = leaf == node
        entry = y["entry"][own] if late else None
        fitters = (NelsonAalenFitter(nelson_aalen_smoothing=False), KaplanMeierFitter())
        for fitter in fitters:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # weights that are no counts; early risk sets
                fitter.fit(y["time"][own], y["event"][own], entry=entry, weights=weight[own])
        number = model.leaf_number_[node]
        expected = [fitters[0].predict(t) for t in model.times_]
        np.testing.assert_allclose(model.hazard_[number], expected, rtol=1e-6)
        expected = [fitters[1].predict(t) for t in model.times_]
        np.testing.assert_allclose(model.survival_[number], expected, rtol=1e-6, atol=1e-7)
        mean = np.mean([fitters[0].predict(t) for t in event_times])
        assert model.risk_[number] == pytest.approx(mean, rel=1e-10)


@pytest.mark.parametrize("max_features", [0.3, 1.0])
def test_concordance_is_that_of_scikit_survival(max_features):
    from sksurv.ensemble import RandomSurvivalForest as Reference
    from sksurv.util import Surv

    X, y, _ = drawn()
    X_test, y_test, _ = drawn(n=1000, seed=1)
    ours = np.mean(
        [
            harrell_c(
                y_test,
                RandomSurvivalForest(100, 10, max_features, random_state=s)
                .fit(X, y)
                .predict(X_test),
            )
            for s in range(3)
        ]
    )
    reference = Reference(
        100, min_samples_leaf=10, max_features=max_features, low_memory=True, random_state=0
    )
    reference.fit(X, Surv.from_arrays(y["event"], np.ceil(y["time"] * 20)))
    assert ours == pytest.approx(harrell_c(y_test, reference.predict(X_test)), abs=0.012)


def test_classification_is_that_of_scikit_learn():
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    X, _, label = drawn()
    X_test, _, truth = drawn(n=1000, seed=1)
    ours = ProbabilityForest(200, 5, 0.4).fit(X, label).predict(X_test)
    reference = RandomForestClassifier(200, min_samples_leaf=5, max_features=0.4, random_state=0)
    theirs = reference.fit(X, label).predict_proba(X_test)[:, 1]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.98
    assert roc_auc_score(truth, ours) == pytest.approx(roc_auc_score(truth, theirs), abs=0.01)


def test_times_are_binned_only_beyond_64_event_times():
    _, y, _ = drawn(n=600)
    ends = forest._bin_ends(y)
    assert len(ends) == 64
    assert set(ends) <= set(y["time"][y["event"]])
    last = forest._times(y, ends).last
    counts = np.bincount(last[y["event"]], minlength=65)[1:]
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1
    # an event lies in the bin that ends at or after it, a censoring is at risk up to an end before
    assert (y["time"] <= np.append(0, ends)[last])[y["event"]].all()
    assert (y["time"] >= np.append(0, ends)[last])[~y["event"]].all()
    few = y[:60]
    assert list(forest._bin_ends(few)) == sorted(set(few["time"][few["event"]]))


def test_curves_are_those_of_the_leaves_also_beyond_64_event_times():
    X, y, _ = drawn(n=600)
    model = RandomSurvivalForest(1, min_samples_leaf=60, bootstrap=False).fit(X, y)
    own = model.forest_.leaves(X)[:, 0] == model.forest_.leaves(X)[0, 0]
    alive = at = 1.0
    for t in np.unique(y["time"][own & y["event"]]):
        if t > model.times_[31]:
            break
        at_risk = own & (y["time"] >= t)
        alive *= 1 - (own & y["event"] & (y["time"] == t)).sum() / at_risk.sum()
    at = model.predict_survival(X[:1], [0.0, model.times_[31]])
    np.testing.assert_allclose(at, [[1.0, alive]], rtol=1e-6)


def test_leaves_hold_enough_patients_and_columns_may_be_constant():
    X, y, _ = drawn(n=200)
    X[:, 3] = 1.0
    model = RandomSurvivalForest(20, min_samples_leaf=25).fit(X, y)
    leaf = model.left_ == np.arange(len(model.left_))
    assert (model.weight_[leaf] >= 25).all()
    assert not (model.feature_[~leaf] == 3).any()


def test_hazard_and_survival_are_means_over_trees():
    X, y, _ = drawn()
    model = RandomSurvivalForest(5).fit(X, y)
    times = np.array([0.0, 0.3, 1.0])
    leaf = model.leaf_number_[model.forest_.leaves(X)]
    step = np.searchsorted(model.times_, times[1:], side="right") - 1
    for curves, predicted in (
        (model.hazard_, model.predict_cumulative_hazard(X, times)),
        (model.survival_, model.predict_survival(X, times)),
    ):
        expected = curves.astype(float)[leaf].mean(axis=1)[:, step]
        np.testing.assert_allclose(predicted[:, 1:], expected, rtol=1e-12)
    assert (model.predict_cumulative_hazard(X, times)[:, 0] == 0).all()
    # documented: neither is a function of the other
    gap = model.predict_survival(X, times) - np.exp(-model.predict_cumulative_hazard(X, times))
    assert np.abs(gap).max() > 0.01


def test_out_of_bag_risk_is_that_of_the_trees_a_patient_was_not_drawn_for():
    X, y, _ = drawn(n=120)
    model = RandomSurvivalForest(6, bootstrap=True, oob_score=True, random_state=3).fit(X, y)
    rank = np.searchsorted(np.unique(y["time"][y["event"]]), y["time"], side="right")
    order = np.lexsort((~y["event"], rank))
    seeds = np.random.SeedSequence(3).generate_state(6, np.uint64)
    values = model.risk_[model.leaf_number_[model.forest_.leaves(X)]]
    out = np.ones((120, 6), dtype=bool)
    for tree, seed in enumerate(seeds):
        state = int(seed)
        for _ in range(120):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            out[order[(state >> 33) % 120], tree] = False
    known = out.any(axis=1)
    assert not known.all()  # with six trees somebody is always drawn
    expected = (values * out).sum(axis=1)[known] / out[known].sum(axis=1)
    np.testing.assert_allclose(model.oob_prediction_[known], expected, rtol=1e-12)
    assert np.isnan(model.oob_prediction_[~known]).all()
    assert model.oob_score_ == harrell_c(y[known], model.oob_prediction_[known])
    assert not hasattr(RandomSurvivalForest(2).fit(X, y), "oob_prediction_")


def test_subsamples_and_depth():
    X, y, _ = drawn(n=200)
    model = RandomSurvivalForest(
        3, bootstrap=False, max_samples=0.5, max_depth=2, min_samples_leaf=5
    ).fit(X, y)
    assert (model.weight_[model.roots_] == 100).all()
    assert model.depth_ == 2
    assert len(model.risk_) <= 3 * 4
    default = RandomSurvivalForest(3).fit(X, y)
    assert (default.weight_[default.roots_] == 126).all()  # 63.2%, each once
    everyone = RandomSurvivalForest(2, bootstrap=False, max_features=1.0).fit(X, y)
    assert (everyone.weight_[everyone.roots_] == 200).all()
    half = len(everyone.left_) // 2  # the same patients and columns: the same tree twice
    np.testing.assert_array_equal(everyone.feature_[:half], everyone.feature_[half:])


@pytest.mark.parametrize(("given", "tried"), [(0.25, 4), (3, 3), ("sqrt", 4), (1.0, 16), (99, 16)])
def test_columns_looked_at(given, tried):
    from tabular_trainers.models.growth import columns_tried

    assert columns_tried(given, 16) == tried


def test_weights_are_relative_and_zero_leaves_out():
    X, y, _ = drawn(n=150)
    X, y["time"] = np.round(X, 1), np.ceil(y["time"] * 10)  # the same cuts for all and for some
    settings = {"n_trees": 1, "bootstrap": False, "max_features": 1.0, "min_samples_leaf": 10}
    plain = RandomSurvivalForest(**settings).fit(X, y)
    tripled = RandomSurvivalForest(**settings).fit(X, y, sample_weight=np.full(150, 3.0))
    np.testing.assert_array_equal(plain.predict(X), tripled.predict(X))
    kept = np.arange(150) % 4 > 0
    without = RandomSurvivalForest(**settings).fit(X[kept], y[kept])
    zero = RandomSurvivalForest(**settings).fit(X, y, sample_weight=kept.astype(float))
    np.testing.assert_array_equal(without.feature_, zero.feature_)
    np.testing.assert_allclose(without.weight_ / kept.sum(), zero.weight_ / 150, rtol=1e-12)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-1.0, "weights: expected finite values of at least 0"),
        (np.nan, "weights: 1 of 150 values not finite"),
        (np.inf, "weights: 1 of 150 values not finite"),
    ],
)
def test_weights_that_are_none(weight, message):
    X, y, _ = drawn(n=150)
    weights = np.ones(150)
    weights[3] = weight
    with pytest.raises(DataError, match=message):
        RandomSurvivalForest(n_trees=1).fit(X, y, sample_weight=weights)
    with pytest.raises(DataError, match="150 values expected, one a patient"):
        RandomSurvivalForest(n_trees=1).fit(X, y, sample_weight=weights[:-1])
    with pytest.raises(DataError, match="all patients with an event have weight 0"):
        RandomSurvivalForest(n_trees=1).fit(X, y, sample_weight=~y["event"])


def test_missing_values_go_where_the_split_learned():
    rng = np.random.default_rng(0)
    X, y, _ = drawn(n=400, p=3)
    worse = rng.random(400) < 0.3
    y["time"][worse] /= 20  # not measured in patients who do badly
    X[worse, 2] = np.nan
    model = RandomSurvivalForest(1, bootstrap=False, max_features=1.0, max_depth=1).fit(X, y)
    assert model.feature_[0] == 2
    assert model.threshold_[0] == np.inf or not model.missing_left_[0]
    known, unknown = np.array([[0.0, 0.0, -5.0]]), np.array([[0.0, 0.0, np.nan]])
    assert model.predict(unknown) > model.predict(known)
    # a column that was always known: with the many
    complete = RandomSurvivalForest(1, bootstrap=False, max_depth=1, max_features=1.0)
    complete.fit(np.nan_to_num(X), y)
    heavier = complete.weight_[1] >= complete.weight_[2]
    assert complete.missing_left_[0] == heavier


def test_importances_find_the_columns_that_matter():
    X, y, _ = drawn(n=500)
    X_test, y_test, _ = drawn(n=500, seed=1)
    model = RandomSurvivalForest(50).fit(X, y)
    split = model.split_importances_
    assert split.shape == (8,)
    assert split.sum() == pytest.approx(1)
    loss = model.permutation_importance(X_test, y_test, n_repeats=2, random_state=5)
    assert loss.shape == (8, 2)
    assert set(np.argsort(split)[-3:]) == {0, 1, 2}
    assert loss.mean(axis=1).argmax() == 0
    # against shuffling the whole table and predicting again
    rng = np.random.default_rng(5)
    for repeat in range(2):
        shuffled = X_test.copy()
        shuffled[:, 0] = shuffled[rng.permutation(500), 0]
        drop = harrell_c(y_test, model.predict(X_test)) - harrell_c(y_test, model.predict(shuffled))
        assert loss[0, repeat] == pytest.approx(drop, abs=1e-12)
    unused = RandomSurvivalForest(1, max_features=1.0, max_depth=1).fit(X, y)
    assert (
        unused.permutation_importance(X_test, y_test)[unused.split_importances_ == 0] == 0
    ).all()


def test_threads_and_concurrent_fits_give_the_same_trees():
    X, y, _ = drawn()
    expected = RandomSurvivalForest(12, random_state=4).fit(X, y).predict(X)
    threads = RandomSurvivalForest(12, random_state=4, n_jobs=3).fit(X, y).predict(X)
    np.testing.assert_array_equal(threads, expected)
    with ThreadPoolExecutor(2) as pool:
        fits = [pool.submit(RandomSurvivalForest(12, random_state=4).fit, X, y) for _ in range(2)]
        for one in fits:
            np.testing.assert_array_equal(one.result().predict(X), expected)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_interrupted_fit_leaves_nothing(monkeypatch, n_jobs):
    from tabular_trainers.models import growth

    X, y, _ = drawn()
    trees = iter(range(100))

    def interrupted(*arguments):
        if next(trees) == 3:
            raise KeyboardInterrupt
        return growth_tree(*arguments)

    growth_tree = growth.grow_tree
    monkeypatch.setattr(growth, "grow_tree", interrupted)
    model = RandomSurvivalForest(8, n_jobs=n_jobs)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert not [name for name in vars(model) if name.endswith("_")]


def test_late_entrants_count_only_once_they_are_there():
    """With everyone's entry before the first event nothing changes; a late one changes the tree."""
    X, y, _ = drawn()
    entered = np.empty(len(y), dtype=[*y.dtype.descr, ("entry", float)])
    entered["event"], entered["time"], entered["entry"] = y["event"], y["time"], 0.0
    expected = RandomSurvivalForest(5).fit(X, y).predict(X)
    np.testing.assert_array_equal(RandomSurvivalForest(5).fit(X, entered).predict(X), expected)
    entered["entry"] = y["time"] * 0.8
    assert (RandomSurvivalForest(5).fit(X, entered).predict(X) != expected).any()
    entered["entry"][7] = y["time"][7]
    with pytest.raises(DataError, match="1 of 300 patients enter at or after their time"):
        RandomSurvivalForest(5).fit(X, entered)


def awkward(name):
    """Draw patients of whom something is out of the ordinary."""
    rng = np.random.default_rng(11)
    X, y, _ = drawn(n=60, p=5)
    if name == "one column":
        X = X[:, :1]
    elif name == "one event":
        y["event"] = np.arange(60) == 17
    elif name == "ties everywhere":
        y["time"] = 1.0
    elif name == "constant and duplicate columns":
        X[:, 1], X[:, 3] = 2.0, X[:, 0]
    elif name == "more columns than patients":
        X = rng.normal(size=(60, 200))
    elif name == "tiny and huge":
        X[:, 0] *= 1e-30
        X[:, 1] *= 1e30
    elif name == "infinite":
        X[:5, 0], X[5:9, 0] = np.inf, -np.inf
    elif name == "nothing known":
        X[:] = np.nan
    elif name == "some unknown":
        X[rng.random(X.shape) < 0.5] = np.nan
        X[:, 2] = np.nan
    elif name == "all leave before the first event":
        y["event"] = y["time"] == y["time"].max()
    return X, y


@pytest.mark.filterwarnings("error", "ignore:The set_:PendingDeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [
        "one column",
        "one event",
        "ties everywhere",
        "constant and duplicate columns",
        "more columns than patients",
        "tiny and huge",
        "infinite",
        "nothing known",
        "some unknown",
        "all leave before the first event",
    ],
)
def test_awkward_patients_are_fitted_and_explained(name):
    X, y = awkward(name)
    model = RandomSurvivalForest(10, min_samples_leaf=4, oob_score=True).fit(X, y)
    risk = model.predict(X)
    curves = model.predict_survival(X, [0.0, 0.5, 1e6])
    assert np.isfinite(risk).all()
    assert (risk >= 0).all()
    assert np.isfinite(curves).all()
    assert (np.diff(curves, axis=1) <= 0).all()
    base, contributions = model.shap_values(X)
    np.testing.assert_allclose(base + contributions.sum(axis=1), risk, atol=1e-9)
    if name in ("one column", "tiny and huge", "some unknown", "infinite"):
        assert np.ptp(risk) > 0  # and it does find splits


def test_contributions_of_a_stump_are_counted_by_hand():
    X, y, _ = drawn(n=100)
    X = X[:, :1]
    model = RandomSurvivalForest(1, min_samples_leaf=25).fit(X, y)
    base, contributions = model.shap_values(X)
    # one column: its contribution is the prediction less the mean over the training patients drawn
    leaf = model.left_ == np.arange(len(model.left_))
    risk = model.risk_
    assert base == pytest.approx(model.weight_[leaf] @ risk / model.weight_[leaf].sum(), rel=1e-12)
    np.testing.assert_allclose(contributions[:, 0], model.predict(X) - base, atol=1e-12)
