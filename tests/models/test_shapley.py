"""Contributions of forests against Shapley's formula, subset by subset."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest

from tabular_trainers.models import RandomSurvivalForest
from tabular_trainers.models.classification_forest import ProbabilityForest

HORIZONS = [0.4, 1.1]


def drawn(n=90, p=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)).astype(np.float32)
    X[rng.random((n, p)) < 0.15] = np.nan
    time = rng.exponential(np.exp(-np.nan_to_num(X[:, 0]) * (np.nan_to_num(X[:, 1]) > 0)))
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = rng.random(n) < 0.7, time
    return X, y


def goes_left(forest, node, x):
    value = x[forest.feature[node]]
    return forest.missing_left[node] if np.isnan(value) else value <= forest.threshold[node]


def expectation(forest, value, root, x, known):
    """Value of a tree where only some columns are known; unknown splits by training weight."""
    if forest.left[root] == root:
        return value[root]
    left, right = forest.left[root], forest.right[root]
    if forest.feature[root] in known:
        return expectation(forest, value, left if goes_left(forest, root, x) else right, x, known)
    share = forest.weight[left] / forest.weight[root]
    return share * expectation(forest, value, left, x, known) + (1 - share) * expectation(
        forest, value, right, x, known
    )


def shapley(game, p):
    """Shapley values of a game over p players, from all its 2^p coalitions."""
    values = [np.zeros_like(game(frozenset())) for _ in range(p)]
    for player in range(p):
        others = [q for q in range(p) if q != player]
        for size in range(p):
            share = factorial(size) * factorial(p - size - 1) / factorial(p)
            for coalition in map(frozenset, combinations(others, size)):
                values[player] += share * (game(coalition | {player}) - game(coalition))
    return np.array(values)


def path_dependent(forest, value, x):
    def game(known):
        trees = [expectation(forest, value, root, x, known) for root in forest.roots]
        return np.mean(trees, axis=0)

    return shapley(game, len(x))


def interventional(forest, value, x, background):
    def game(known):
        mixed = background.copy()
        mixed[:, list(known)] = x[list(known)]
        return forest.mean_value(mixed, value).mean(axis=0)

    return shapley(game, len(x))


def survival_leaves(model):
    step = np.searchsorted(model.times_, HORIZONS, side="right") - 1
    return model.survival_.astype(float)[model.leaf_number_][:, step]


@pytest.mark.parametrize("target", ["risk", "survival"])
@pytest.mark.parametrize("kind", ["path-dependent", "interventional"])
def test_forest_contributions_are_shapley_values(kind, target):
    X, y = drawn()
    model = RandomSurvivalForest(3, min_samples_leaf=6, max_features=0.5).fit(X, y)
    value = model.risk_[model.leaf_number_] if target == "risk" else survival_leaves(model)
    times = None if target == "risk" else HORIZONS
    background = X[40:55] if kind == "interventional" else None
    base, contributions = model.shap_values(X[:6], times=times, background=background)
    predicted = model.predict(X[:6]) if times is None else model.predict_survival(X[:6], times)
    np.testing.assert_allclose(base + contributions.sum(axis=1), predicted, rtol=1e-6)
    for x, found in zip(X[:6], contributions, strict=True):
        if background is None:
            expected = path_dependent(model.forest_, value, x)
        else:
            expected = interventional(model.forest_, value, x, background)
        np.testing.assert_allclose(found, expected, atol=1e-7 if background is not None else 1e-12)


def test_contributions_to_a_probability_are_shapley_values():
    X, y = drawn(seed=2)
    model = ProbabilityForest(3, min_samples_leaf=6, max_features=0.5).fit(X, y["event"])
    _, contributions = model.shap_values(X[:4])
    for x, found in zip(X[:4], contributions, strict=True):
        np.testing.assert_allclose(found, path_dependent(model.forest_, model.value_, x), atol=1e-9)


def test_the_base_is_the_mean_over_those_it_speaks_of():
    X, y = drawn()
    model = RandomSurvivalForest(1, min_samples_leaf=6, bootstrap=False).fit(X, y)
    assert model.shap_values(X)[0] == pytest.approx(model.predict(X).mean(), rel=1e-12)
    base, _ = model.shap_values(X[:2], background=X[:30])
    assert base == pytest.approx(model.predict(X[:30]).mean(), rel=1e-12)


@pytest.mark.parametrize("n", [1, 64, 70])  # 64 patients are worked on side by side
def test_deep_trees_are_explained_as_the_shap_library_does(n):
    X, y = drawn(400, 3, seed=5)  # few columns: each comes back many times on a path
    X[:, 2] = X[:, 2] > 0
    model = RandomSurvivalForest(5, min_samples_leaf=1, max_features=1.0).fit(X, y)
    forest, value = model.forest_, model.risk_[model.leaf_number_]
    assert forest.depth > 12
    base, found = model.shap_values(X[:n])
    np.testing.assert_allclose(base + found.sum(axis=1), model.predict(X[:n]), rtol=1e-12)
    np.testing.assert_allclose(found, by_the_shap_library(forest, value, X[:n]), atol=1e-12)


def by_the_shap_library(forest, value, X):
    import shap

    trees = []
    for start, end in zip(forest.roots, [*forest.roots[1:], len(forest.left)], strict=True):
        nodes = np.arange(start, end)
        leaf = forest.left[nodes] == nodes
        left, right = (
            np.where(leaf, -1, side[nodes] - start) for side in (forest.left, forest.right)
        )
        trees.append(
            {
                "children_left": left,
                "children_right": right,
                "children_default": np.where(forest.missing_left[nodes], left, right),
                "features": np.where(leaf, -2, forest.feature[nodes]),
                "thresholds": forest.threshold[nodes].astype(float),
                "values": np.where(leaf, value[nodes], 0.0)[:, None] / len(forest.roots),
                "node_sample_weight": forest.weight[nodes],
            }
        )
    model = {"trees": trees, "internal_dtype": np.float64, "input_dtype": np.float32}
    explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
    return np.asarray(explainer.shap_values(X, check_additivity=False)).reshape(X.shape)


def test_a_tree_of_one_leaf_contributes_nothing():
    X, y = drawn()
    model = RandomSurvivalForest(2, min_samples_leaf=90).fit(X, y)
    base, found = model.shap_values(X[:3])
    assert not found.any()
    np.testing.assert_allclose(model.predict(X[:3]), base, rtol=1e-12)
