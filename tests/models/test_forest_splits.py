"""Splits of a survival tree: brute force, R's log-rank test, scikit-survival's tree."""

import json
from pathlib import Path

import numpy as np
import pytest
from sksurv.tree import SurvivalTree
from sksurv.util import Surv

from tabular_trainers.models import RandomSurvivalForest

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "log_rank.json").read_text())
WHOLE = {"n_trees": 1, "bootstrap": False, "max_features": 1.0}


def survival(event, time, entry=None):
    fields = [("event", bool), ("time", float)] + ([("entry", float)] if entry is not None else [])
    y = np.empty(len(time), dtype=fields)
    y["event"], y["time"] = event, time
    if entry is not None:
        y["entry"] = entry
    return y


def drawn(n, p=3, seed=0, late=False, missing=0.0, values=None, longest=60):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    if values is not None:
        X = np.floor(X * values)
    signal = X[:, 0] + (X[:, 1] > 0) * X[:, 2]
    time = np.minimum(np.ceil(8 * rng.exponential(np.exp(-signal))) + 1, longest)
    entry = np.where(rng.random(n) < 0.6, np.floor(rng.random(n) * time), 0.0) if late else None
    X[rng.random((n, p)) < missing] = np.nan
    return X.astype(np.float32), survival(rng.random(n) < 0.6, time, entry)


def log_rank(left, y, weight):
    """Log-rank statistic, time by time, as in a textbook (hypergeometric variance)."""
    entry = y["entry"] if "entry" in y.dtype.names else np.full(len(y), -np.inf)
    difference = variance = 0.0
    for t in np.unique(y["time"][y["event"] & (weight > 0)]):
        at_risk = (entry < t) & (t <= y["time"])
        dies = y["event"] & (y["time"] == t)
        n, n_left = weight[at_risk].sum(), weight[at_risk & left].sum()
        d, d_left = weight[dies].sum(), weight[dies & left].sum()
        difference += d_left - d * n_left / n
        if n > 1:
            variance += d * (n - d) / (n - 1) * n_left / n * (1 - n_left / n)
    return difference**2 / variance if variance > 1e-9 else 0.0


def cuts(X, members):
    """Every way a node's patients can be cut: at each value, missing ones left or right."""
    for column in range(X.shape[1]):
        values = X[:, column]
        unknown = np.isnan(values)
        for value in np.unique(values[members & ~unknown]):
            yield column, values <= value
            if (unknown & members).any():
                yield column, (values <= value) | unknown


def nodes(model, X, weight):
    """Yield each inner node with the patients in it."""
    forest = model.forest_
    waiting = [(0, weight > 0)]
    while waiting:
        node, members = waiting.pop()
        if forest.left[node] == node:
            continue
        value = X[:, forest.feature[node]]
        left = np.where(np.isnan(value), forest.missing_left[node], value <= forest.threshold[node])
        yield node, members, left
        waiting += [
            (forest.left[node], members & left),
            (forest.right[node], members & ~left),
        ]


def bootstrap_counts(model, y):
    """Draw the first tree's bootstrap again, with the generator that the kernel documents."""
    n = len(y)
    counts = np.zeros(n)
    order = np.lexsort(
        (~y["event"], np.searchsorted(np.unique(y["time"][y["event"]]), y["time"], "right"))
    )
    state = int(np.random.SeedSequence(model.random_state).generate_state(1, np.uint64)[0])
    for _ in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        counts[order[(state >> 33) % n]] += 1
    return counts


@pytest.mark.parametrize("bootstrap", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.25])
@pytest.mark.parametrize("late", [False, True])
def test_every_split_is_the_best_of_all(late, missing, bootstrap):
    X, y = drawn(110, seed=4, late=late, missing=missing)
    settings = WHOLE | {"bootstrap": bootstrap}
    model = RandomSurvivalForest(**settings, min_samples_leaf=6).fit(X, y)
    weight = bootstrap_counts(model, y) if bootstrap else np.ones(len(y))
    found = list(nodes(model, X, weight))
    assert len(found) > 5
    for node, members, left in found:
        best = 0.0
        for _, side in cuts(X, members):
            small = min((side & members).sum(), (~side & members).sum())
            if small >= 6:
                best = max(best, log_rank(side & members, y[:], weight * members))
        own = log_rank(left & members, y, weight * members)
        assert own == pytest.approx(best, rel=1e-9)
        assert model.gain_[node] == pytest.approx(best, rel=1e-6)  # kept in single precision


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_large_nodes_are_split_alike(late, missing):
    """Above some hundred patients a table is summed up; weights make its single precision show."""
    X, y = drawn(900, seed=7, late=late, missing=missing, values=8)
    weight = np.random.default_rng(1).uniform(0.3, 3.0, len(y))
    weight /= weight.mean()
    model = RandomSurvivalForest(**WHOLE, min_samples_leaf=20, max_depth=1)
    model.fit(X, y, sample_weight=7 * weight)
    ((_, members, left),) = nodes(model, X, weight)
    best = max(
        log_rank(side, y, weight) for _, side in cuts(X, members) if 20 <= side.sum() <= len(y) - 20
    )
    assert log_rank(left, y, weight) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize(
    ("time", "entry", "expected"),
    [("time", None, "chisq"), ("tied", None, "chisq_tied"), ("untied", "entry", "score_entry")],
)
def test_the_statistic_is_that_of_r(time, entry, expected):
    """R survdiff, and with entry the score test of coxph(Surv(entry, time, event) ~ group)."""
    y = survival(
        np.array(GOLDEN["event"]) == 1,
        np.array(GOLDEN[time], dtype=float),
        None if entry is None else np.array(GOLDEN[entry]),
    )
    X = np.array(GOLDEN["group"], dtype=float)[:, None]
    model = RandomSurvivalForest(**WHOLE, min_samples_leaf=1, max_depth=1).fit(X, y)
    assert model.gain_[0] == pytest.approx(GOLDEN[expected], rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_tree_is_that_of_scikit_survival(seed):
    X, y = drawn(120, p=4, seed=seed)
    reference = SurvivalTree(min_samples_leaf=5, min_samples_split=10, low_memory=False)
    reference.fit(X, Surv.from_arrays(y["event"], y["time"]))
    model = RandomSurvivalForest(**WHOLE, min_samples_leaf=5).fit(X, y)
    tree = reference.tree_
    everyone = np.ones(len(y), dtype=bool)
    waiting, compared, same = [(0, 0, everyone)], 0, True
    while waiting:
        ours, theirs, members = waiting.pop()
        found = None
        if model.left_[ours] != ours:
            found = X[:, model.feature_[ours]] <= model.threshold_[ours]
        expected = None
        if tree.children_left[theirs] >= 0:
            expected = X[:, tree.feature[theirs]] <= tree.threshold[theirs]
        if found is not None and expected is not None and (found == expected)[members].all():
            compared += 1
            waiting += [
                (model.left_[ours], tree.children_left[theirs], members & found),
                (model.right_[ours], tree.children_right[theirs], members & ~found),
            ]
        elif found is not None or expected is not None:
            values = [
                log_rank(side & members, y, members.astype(float))
                for _, side in cuts(X, members)
                if min((side & members).sum(), (~side & members).sum()) >= 5
            ]
            first, second = sorted(values)[-2:]
            assert first <= second * (1 + 1e-8)  # two cuts are equally good
            same = False
    assert compared >= 8
    if same:  # the leaves agree as well: mortality over the number of event times, survival curves
        n_times = len(np.unique(y["time"][y["event"]]))
        np.testing.assert_allclose(model.predict(X), reference.predict(X) / n_times, rtol=1e-10)
        steps = reference.predict_survival_function(X, return_array=True)
        curves = model.predict_survival(X, reference.unique_times_)
        np.testing.assert_allclose(curves, steps, atol=1e-7)
