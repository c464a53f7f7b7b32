"""Paths of penalties for Cox regressions, and the best penalty of inner folds."""

import numpy as np

from tabular_trainers.models.coordinate_descent import (
    ScaledColumns,
    elastic_net_path,
    largest_penalty,
)
from tabular_trainers.models.newton import ridge_path
from tabular_trainers.models.risk_sets import RiskSets
from tabular_trainers.models.rotation import column_chunks, make_design

TRIAL_TOLERANCE = 1e-3  # of a path that is only compared with others


class InnerPart:
    """An inner fold with a matrix of its own: its training part, and then the patients held out."""

    def __init__(self, model, train, test, y_train, y_test):
        self.n_train = len(train)
        self.whole = np.vstack([train, test])
        settings = model.l1_ratio, model.penalty_factor, model.max_iter
        self.problem = Problem(self.whole[: self.n_train], *settings)
        self.settings = settings
        self.sets = RiskSets(np.concatenate([y_train, y_test]), ties=model.ties)
        self.learned = RiskSets(y_train, ties=model.ties)

    def grid(self, n_penalties):
        """Penalties for all patients, so that the first but one leaves the last fit a column."""
        return Problem(self.whole, *self.settings).grid(self.sets, n_penalties)

    def margins(self, penalties):
        """Log hazards of all patients by the training part, (n, k)."""
        coef = self.problem.path(self.learned, penalties, tolerance=TRIAL_TOLERANCE).coef
        return margins_of(self.whole, self.problem.X.mean(axis=0, dtype=np.float64), coef)

    def held_out_likelihood(self, margins):
        """Log partial likelihood of all patients less that of the training part, (k,)."""
        return [
            self.sets.log_likelihood(eta) - self.learned.log_likelihood(eta[: self.n_train])
            for eta in margins.T
        ]


class Problem:
    """The matrix as its solver wants it: made once, and shared by all inner folds."""

    def __init__(self, X, l1_ratio, penalty_factor, max_iter):
        self.X, self.l1_ratio, self.max_iter = X, l1_ratio, max_iter
        p = X.shape[1]
        self.factor = np.ones(p) if penalty_factor is None else np.asarray(penalty_factor, float)
        self.columns = self.design = None

    def grid(self, sets, n_penalties):
        """Penalties from the smallest that leaves every coefficient at zero downwards."""
        # With ten events a column the end is as good as unpenalised; with fewer it is never chosen.
        lowest = 0.001 if 10 * self.X.shape[1] <= len(sets.dead) else 0.01
        if self.l1_ratio > 0:
            largest = largest_penalty(self._scaled(), sets, self.l1_ratio, self.factor)
        else:
            # No ridge penalty is so large: one at which no coefficient is worth mentioning.
            unit = self.factor / self._scaled().scale
            largest = 1000 * largest_penalty(self._scaled(), sets, 1.0, unit)
            lowest /= 10
        return (largest or 1e-12) * np.geomspace(1.0, lowest, n_penalties)

    def path(self, sets, penalties, start=None, tolerance=1e-4):
        """Fit the penalties, decreasing; ``tolerance`` is for those that are not ridge."""
        if self.l1_ratio > 0 and penalties.any() and self.factor.any():
            return elastic_net_path(
                self._scaled(),
                sets,
                penalties,
                self.l1_ratio,
                self.factor,
                start=start,
                max_iter=self.max_iter,
                tolerance=tolerance,
            )
        if self.design is None:
            self.design = make_design(self.X, self.factor)
        return ridge_path(
            self.X,
            sets,
            penalties,
            self.factor,
            start=start,
            max_iter=self.max_iter,
            design=self.design,
        )

    def margins(self, coef):
        """Log hazards of all patients, (n, k), each relative to the mean."""
        return margins_of(self.X, self.X.mean(axis=0, dtype=np.float64), coef)

    def _scaled(self):
        if self.columns is None:
            self.columns = ScaledColumns(self.X)
        return self.columns


def margins_of(X, centre, coef):
    """Give ``(X - centre) @ coef`` in float64, a few columns at a time."""
    X = np.asarray(X)
    out = np.zeros((len(X), *coef.shape[1:]))
    for columns in column_chunks(X.shape[1]):
        out += (X[:, columns] - centre[columns]) @ coef[columns]
    return out


def best_penalty(values, events, rule):
    """Position of the penalty that a rule chooses; never 0.

    Parameters
    ----------
    values : array of shape (n_folds, n_penalties)
        Cross-validated log partial likelihood of each inner fold.
    events : array of shape (n_folds,)
        Weight of the events held out.
    rule : {"min", "1se"}
    """
    total = values.sum(axis=0)
    best = 1 + int(np.argmax(total[1:]))
    if rule == "min":
        return best
    counted = events > 0
    weight, each = events[counted], values[counted] / events[counted, None]
    mean = total / weight.sum()
    variance = weight @ (each - mean) ** 2 / weight.sum() / max(len(weight) - 1, 1)
    near = mean[1:] >= mean[best] - np.sqrt(variance[best])
    return 1 + int(np.argmax(near))
