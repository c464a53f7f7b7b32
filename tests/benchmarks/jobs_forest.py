"""Forests to be timed: ours, scikit-survival's and R ranger's, and exact SHAP of ours."""

import cohorts
import numpy as np
from measure import Job

from tabular_trainers.metrics import harrell_c
from tabular_trainers.models import RandomSurvivalForest

SETTINGS = {"min_samples_leaf": 15, "max_features": "sqrt", "random_state": 0}


def ours(data, n_trees, threads=1):
    """Fit our forest; say its C on patients held out."""
    X, y, *test = cohorts.load(**data)
    forest = RandomSurvivalForest(n_trees=2, n_jobs=threads, **SETTINGS).fit(X[:200], y[:200])
    forest.n_trees = n_trees
    return Job(lambda: forest.fit(X, y), lambda fitted: _concordance(fitted, *test))


def scikit_survival(data, n_trees):
    """Fit scikit-survival's forest, which then keeps its curves, as ours does."""
    from sksurv.ensemble import RandomSurvivalForest as Peer

    X, y, *test = cohorts.load(**data)
    forest = Peer(n_estimators=2, n_jobs=1, **SETTINGS).fit(X[:200], y[:200])
    forest.n_estimators = n_trees
    return Job(lambda: forest.fit(X, y), lambda fitted: _concordance(fitted, *test))


def ranger(data, n_trees):
    """Fit R ranger's forest, split by the log-rank statistic."""
    from r_peers import r_job

    X, y, *_ = cohorts.load(**data)
    return r_job("ranger", X, y, n_trees=n_trees)


def shap_ours(data, n_trees, n_rows):
    """Explain the risk of patients exactly; say how far contributions are from adding up."""
    X, y, *_ = cohorts.load(**data)
    small = RandomSurvivalForest(n_trees=2, **SETTINGS).fit(X[:200], y[:200])
    small.shap_values(X[:2])
    forest = RandomSurvivalForest(n_trees=n_trees, **SETTINGS).fit(X, y)

    def facts(explained):
        base, contributions = explained
        risk = forest.predict(X[:n_rows])
        error = np.abs(base + contributions.sum(axis=1) - risk) / np.abs(risk)
        return {"largest relative error of the sum": float(error.max())}

    return Job(lambda: forest.shap_values(X[:n_rows]), facts)


def shap_permutation(data, n_trees, n_rows):
    """Explain scikit-survival's forest by permutations of the columns, once forth and back."""
    import shap
    from sksurv.ensemble import RandomSurvivalForest as Peer

    X, y, *_ = cohorts.load(**data)
    forest = Peer(n_estimators=n_trees, n_jobs=1, **SETTINGS).fit(X, y)
    explainer = shap.PermutationExplainer(forest.predict, X[:1], seed=0)
    shap.PermutationExplainer(lambda few: few.sum(axis=1), X[:1])(X[:1], silent=True)  # compiles
    most = 2 * X.shape[1] + 1
    return Job(lambda: explainer(X[1 : 1 + n_rows], max_evals=most, silent=True))


def _concordance(fitted, X, y):
    return {} if X is None else {"C": float(harrell_c(y, fitted.predict(X)))}
