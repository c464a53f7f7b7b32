"""How much of a model's risk the tissue explains, and how much the clinical columns do."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from tabular_trainers.bootstrap import bootstrap_method
from tabular_trainers.errors import DataError
from tabular_trainers.held_out import draw_resamples, weight_table
from tabular_trainers.schema import empty
from tabular_trainers.tissue_inference import clinical_matrix
from tabular_trainers.tissue_patients import held_out_risks, with_tissue
from tabular_trainers.uncertainty import Draws, average

PENALTIES = np.geomspace(1e2, 1e-4, 25)  # of standardised columns, over the mean squared error
CLINICAL_SHARES = (1.0, 0.1, 0.01)  # penalty of clinical columns, of that of prevalences
MAX_PARTS = 5  # inner parts, made of whole folds, that choose the penalty


def explained_variance(prevalence, risk, patients, *, n_resamples=500, seed=0):
    """Share of the variance of out-of-fold risks that prevalences and clinical columns explain.

    Risks are standardised within their test fold, because those of different folds come from
    different models; prevalences and clinical columns are taken relative to their mean in the fold.
    A ridge regression, learned on the patients of all other folds, predicts them. R-squared is one
    less the squared errors over the squared risks, both about their means in the fold; it is below
    0 where the prediction is worse than none. The folds are those of the run, so sites stay in one
    part. The penalty is chosen by the squared error of inner parts, made of whole folds of the
    training part; beside the prevalences, clinical columns have a penalty of their own, which is
    never the larger one.

    Intervals are of a bootstrap of patients, or of sites where there are 10 or more, within folds;
    risks and predictions stay as they are.

    Parameters
    ----------
    prevalence : DataFrame
        A row a patient (index or column ``patient_id``), a column a cluster; sums of 1.
    risk : DataFrame
        patient_id, repeat, fold, risk: out of fold, of one feature set and model.
    patients : Patients
        Those without prevalences are left out.
    n_resamples : int, default=500
    seed : int, default=0

    Returns
    -------
    DataFrame
        Schema ``tissue_variance``: a row for prevalences; with clinical columns one for these, and
        one for both. With repeats the mean over them.

    Raises
    ------
    DataError
        When there are fewer than two folds with risks that differ.

    References
    ----------
    Hoerl & Kennard, Technometrics 1970;12:55.
    """
    table, patients = with_tissue(prevalence, patients)
    held_out = held_out_risks(risk, patients)
    if held_out.groupby("repeat")["fold"].nunique().min() < 2:
        raise DataError("risk: fewer than two test folds in which risks differ; expected two.")
    folds = held_out.assign(patient_id=patients.patient_id[held_out["at"]], part="test")
    drawing = (patients.patient_id, folds, patients.site, n_resamples, seed)
    resamples = draw_resamples(*drawing)
    method = bootstrap_method(n_resamples, patients.site)
    rows = []
    for predictors in ("prevalence", "clinical", "both"):
        if predictors != "prevalence" and patients.clinical is None:
            continue
        measured, widths, penalties = [], [], []
        for _, part in held_out.groupby("repeat", sort=True):
            predicted = _predict(predictors, table.to_numpy(), patients, part)
            weights = weight_table(resamples, part["at"].to_numpy())
            draws = _r_squared(part, predicted.risk, weights)
            measured.append(Draws(float(draws[0]), draws[1:], method))
            widths += predicted.widths
            penalties += predicted.penalties
        found = average(measured)
        rows.append(
            (predictors, found.estimate, *found.interval(), method, held_out["at"].nunique(),
             int(np.median(widths)), float(np.median(penalties)))
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(empty("tissue_variance").columns))


class _Predicted(NamedTuple):
    """Predicted risks in the order of the held-out patients; columns and penalty of each fold."""

    risk: np.ndarray
    widths: list
    penalties: list


def _predict(predictors, values, patients, part):
    """Predict the risks of every fold of a repeat by the patients of the others."""
    at, codes = part["at"].to_numpy(), part["fold"].to_numpy()
    risk, out = part["risk"].to_numpy(), np.zeros(len(part))
    widths, penalties = [], []
    for fold in np.unique(codes):
        test = codes == fold
        blocks = [values[at]] if predictors != "clinical" else []
        if predictors != "prevalence":
            _, fitted = clinical_matrix(patients.take(at[~test]))
            if fitted is not None:
                blocks.append(clinical_matrix(patients.take(at), fitted)[0])
        X = np.hstack(blocks) if blocks else np.zeros((len(at), 0))
        for one in np.unique(codes):
            X[codes == one] -= X[codes == one].mean(axis=0)
        scale = np.sqrt((X[~test] ** 2).mean(axis=0))
        X = X[:, scale > 1e-12] / scale[scale > 1e-12]
        first = blocks[0].shape[1] if len(blocks) > 1 else X.shape[1]
        factor = np.zeros((len(CLINICAL_SHARES) if len(blocks) > 1 else 1, len(scale)))
        factor[:] = 1.0
        factor[:, first:] = np.array(CLINICAL_SHARES)[: len(factor), None]
        factor = factor[:, scale > 1e-12]
        coef, penalty = choose_ridge(X[~test], risk[~test], codes[~test], factor)
        out[test] = X[test] @ coef
        widths.append(X.shape[1])
        penalties.append(penalty)
    return _Predicted(out, widths, penalties)


def choose_ridge(X, y, parts, factors):
    """Fit a ridge regression whose penalty is chosen by the squared error of inner parts.

    Minimises ``mean((y - X b)^2) + penalty * sum_j factor_j b_j^2``, without an intercept.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Centred within folds and standardised.
    y : ndarray of shape (n,)
    parts : ndarray of shape (n,)
        Fold of each patient: at most 5 inner parts are made of whole folds. Of one fold alone every
        fifth patient is a part.
    factors : ndarray of shape (k, p)
        Relative penalties of the columns to choose among.

    Returns
    -------
    coef : ndarray of shape (p,)
    penalty : float
    """
    if X.shape[1] == 0:
        return np.zeros(0), float(PENALTIES[0])
    inner = _inner_parts(parts)
    sums = [_Sums.of(X[inner == k], y[inner == k]) for k in np.unique(inner)]
    whole = _Sums.total(sums)
    best = None
    for number, factor in enumerate(factors):
        error = np.zeros(len(PENALTIES))
        for held_out in sums:
            error += held_out.squared_errors(whole.less(held_out).ridge(factor))
        k = int(np.argmin(error))  # of equal ones the largest penalty
        if best is None or error[k] < best[0]:
            best = error[k], number, k
    _, number, k = best
    return whole.ridge(factors[number])[:, k], float(PENALTIES[k])


class _Sums(NamedTuple):
    """What a ridge regression needs of some patients."""

    n: int
    gram: np.ndarray
    product: np.ndarray
    square: float

    @classmethod
    def of(cls, X, y):
        return cls(len(y), X.T @ X, X.T @ y, float(y @ y))

    @classmethod
    def total(cls, parts):
        return cls(*(sum(values) for values in zip(*parts, strict=True)))

    def less(self, other):
        return _Sums(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    def ridge(self, factor):
        """Coefficients for every penalty, (p, n_penalties)."""
        unit = 1.0 / np.sqrt(factor)
        values, axes = np.linalg.eigh(self.gram / self.n * np.outer(unit, unit))
        turned = axes.T @ (unit * self.product / self.n)
        return unit[:, None] * (
            axes @ (turned[:, None] / (np.maximum(values, 0.0)[:, None] + PENALTIES))
        )

    def squared_errors(self, coef):
        fitted = np.einsum("pk,pk->k", coef, self.gram @ coef)
        return self.square - 2 * self.product @ coef + fitted


def _inner_parts(parts):
    names, codes = np.unique(parts, return_inverse=True)
    if len(names) > 1:
        return codes % MAX_PARTS
    return np.arange(len(parts)) % MAX_PARTS


def _r_squared(part, predicted, weights):
    """Give R-squared for every row of weights, errors and risks about their means in the fold."""
    risk, codes = part["risk"].to_numpy(), part["fold"].to_numpy()
    error, total = (_squares(values, codes, weights) for values in (risk - predicted, risk))
    return 1.0 - np.divide(error, total, out=np.full(len(total), np.nan), where=total > 0)


def _squares(values, codes, weights):
    """Sum squared distances from the weighted mean of the fold, for every row of weights."""
    total = weights @ values**2
    for fold in np.unique(codes):
        inside = weights[:, codes == fold]
        total -= (inside @ values[codes == fold]) ** 2 / np.maximum(inside.sum(axis=1), 1e-300)
    return total
