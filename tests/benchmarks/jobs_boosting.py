"""Boosted Cox models to be timed: ours, and xgboost called directly with the same settings."""

import cohorts
import numpy as np
from measure import Job

from tabular_trainers.metrics import harrell_c
from tabular_trainers.models.boosting import BoostedCox

MAX_DEPTH = 4


def ours(data, n_trees, threads=1):
    """Fit our model, which calls xgboost; curves are left out, as xgboost has none."""
    X, y, *test = cohorts.load(**data)
    settings = {"max_depth": MAX_DEPTH, "score_only": True, "n_jobs": threads}
    BoostedCox(n_trees=2, **settings).fit(X[:200], y[:200])
    model = BoostedCox(n_trees=n_trees, **settings)
    return Job(
        lambda: model.fit(X, y),
        lambda fitted: (
            {"C": harrell_c(y, fitted.predict(X))}
            | (
                {}
                if test[0] is None
                else {"C of others": harrell_c(test[1], fitted.predict(test[0]))}
            )
        ),
    )


def xgboost_directly(data, n_trees, max_bin=64):
    """Fit with xgboost's own interface and our defaults."""
    import xgboost

    X, y, *_ = cohorts.load(**data)
    ours = BoostedCox()
    settings = {
        "objective": "survival:cox",
        "tree_method": "hist",
        "max_bin": max_bin,
        "max_depth": MAX_DEPTH,
        "eta": ours.learning_rate,
        "min_child_weight": ours.min_child_weight,
        "lambda": ours.reg_lambda,
        "subsample": ours.subsample,
        "colsample_bynode": ours.colsample,
        "nthread": 1,
        "seed": 0,
    }

    def fit(X, y, n_trees):
        label = np.where(y["event"], y["time"], -y["time"])
        table = xgboost.QuantileDMatrix(X, label=label, max_bin=max_bin, nthread=1)
        return xgboost.train(settings, table, n_trees)

    fit(X[:200], y[:200], 2)
    return Job(
        lambda: fit(X, y, n_trees),
        lambda fitted: {"C": harrell_c(y, fitted.predict(xgboost.DMatrix(X), output_margin=True))},
    )
