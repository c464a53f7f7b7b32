"""Forests: leaves against lifelines, accuracy against scikit-survival and scikit-learn."""

import numpy as np
import pytest

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


def test_a_leaf_is_nelson_and_aalen_of_its_patients():
    from lifelines import NelsonAalenFitter

    X, y, _ = drawn()
    y["time"] = np.ceil(y["time"] * 10)  # ties, and fewer than 64 distinct times
    model = RandomSurvivalForest(n_trees=1, min_samples_leaf=40).fit(X, y)
    leaf = model.forest_.leaves(X)[:, 0]
    drawn_times = _bootstrap_counts(model, y)
    for node in np.unique(leaf):
        members = (leaf == node) & (drawn_times > 0)
        reference = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(
            y["time"][members], y["event"][members], weights=drawn_times[members]
        )
        expected = [reference.predict(t) for t in model.times_]
        np.testing.assert_allclose(model.hazard_[model.leaf_number_[node]], expected, atol=1e-10)


def _bootstrap_counts(model, y):
    """Draw the first tree's bootstrap again, with the generator that the grower documents."""
    counts = np.zeros(len(y))
    state = int(np.random.SeedSequence(model.random_state).generate_state(1, np.uint64)[0])
    for _ in range(len(y)):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        counts[(state >> 33) % len(y)] += 1
    return counts


def test_the_root_split_maximises_the_log_rank_score_statistic():
    X, y, _ = drawn(n=90, p=3)
    model = RandomSurvivalForest(n_trees=1, min_samples_leaf=15, max_features=1.0).fit(X, y)
    weight = _bootstrap_counts(model, y)
    X = X.astype(np.float32)
    steps = forest._steps(y, model.times_)
    hazard = np.zeros(len(model.times_) + 1)
    for t in range(1, len(hazard)):
        deaths = weight[y["event"] & (steps == t)].sum()
        hazard[t] = hazard[t - 1] + deaths / max(weight[steps >= t].sum(), 1)
    score = y["event"] - hazard[steps]
    best = (-1.0, None)
    for j in range(3):
        for cut in np.unique(X[:, j]):
            left = X[:, j] <= cut
            if min((left & (weight > 0)).sum(), (~left & (weight > 0)).sum()) < 15:
                continue
            value = (weight * score)[left].sum() ** 2 / (weight[left].sum() * weight[~left].sum())
            best = max(best, (value, (j, left.tobytes())))
    found = X[:, model.feature_[0]] <= model.threshold_[0]
    agree = np.frombuffer(best[1][1], dtype=bool) == found
    assert model.feature_[0] == best[1][0]
    assert agree[weight > 0].all()


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
    steps = forest._steps(y, ends)
    counts = np.bincount(steps[y["event"]], minlength=65)[1:]
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1
    # an event lies in the bin that ends at or after it, a censoring is at risk up to an end before
    assert (y["time"] <= np.append(0, ends)[steps])[y["event"]].all()
    assert (y["time"] >= np.append(0, ends)[steps])[~y["event"]].all()
    few = y[:60]
    assert list(forest._bin_ends(few)) == sorted(set(few["time"][few["event"]]))


def test_leaves_hold_enough_patients_and_columns_may_be_constant():
    X, y, _ = drawn(n=200)
    X[:, 3] = 1.0
    model = RandomSurvivalForest(20, min_samples_leaf=25).fit(X, y)
    leaf = model.left_ == np.arange(len(model.left_))
    assert (model.weight_[leaf] >= 25).all()
    assert not (model.feature_[~leaf] == 3).any()


def test_contributions_of_a_stump_are_counted_by_hand():
    X, y, _ = drawn(n=100)
    X = X[:, :1]
    model = RandomSurvivalForest(1, min_samples_leaf=25).fit(X, y)
    base, contributions = model.shap_values(X)
    # one column: its contribution is the prediction less the mean over the training patients drawn
    leaf = model.left_ == np.arange(len(model.left_))
    risk = model.hazard_.mean(axis=1)
    assert base == pytest.approx(model.weight_[leaf] @ risk / model.weight_[leaf].sum(), rel=1e-12)
    np.testing.assert_allclose(contributions[:, 0], model.predict(X) - base, atol=1e-12)
