"""Variance explained: ridge against glmnet, the whole of it against loops with scikit-learn."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from tabular_trainers import tissue_variance
from tabular_trainers.bootstrap import bootstrap_weights
from tabular_trainers.errors import DataError, SchemaError
from tabular_trainers.tissue import explained_variance
from tabular_trainers.tissue_variance import PENALTIES, choose_ridge
from tests.test_tissue import simulated
from tests.tissue_golden import GOLDEN, IDS, PREVALENCE, RISK, golden_patients


@pytest.mark.parametrize("number", [0, 1, 2])
def test_ridge_agrees_with_glmnet(number, monkeypatch):
    known = GOLDEN["ridge"]
    monkeypatch.setattr(tissue_variance, "PENALTIES", np.array(known["penalties"][number])[None])
    X, z = np.array(known["X"]), np.array(known["z"])
    coef, penalty = choose_ridge(X, z, np.arange(len(z)) % 4, np.ones((1, 3)))
    np.testing.assert_allclose(coef, known["coef"][number], rtol=1e-6)
    assert penalty == known["penalties"][number]


def by_hand(columns, factors, risk):
    """R-squared and predictions by loops over folds, penalties and inner folds."""
    out = np.zeros(len(risk))
    z, folds = np.array(risk["risk"]), np.array(risk["fold"])
    columns = [np.array(block, dtype=float) for block in columns]
    for fold in np.unique(folds):
        z[folds == fold] = (z[folds == fold] - z[folds == fold].mean()) / z[folds == fold].std()
        for block in columns:
            block[folds == fold] -= block[folds == fold].mean(axis=0)
    for fold in np.unique(folds):
        train = folds != fold
        scaled = [block / np.sqrt((block[train] ** 2).mean(axis=0)) for block in columns]
        best = (np.inf,)
        for factor in factors:
            X = np.hstack([b / np.sqrt(f) for b, f in zip(scaled, factor, strict=True)])
            for penalty in PENALTIES:
                error = 0.0
                for inner in np.unique(folds[train]):
                    some, other = train & (folds != inner), folds == inner
                    fitted = Ridge(penalty * some.sum(), fit_intercept=False).fit(X[some], z[some])
                    error += ((z[other] - fitted.predict(X[other])) ** 2).sum()
                if error < best[0] - 1e-9:
                    fitted = Ridge(penalty * train.sum(), fit_intercept=False)
                    best = error, fitted.fit(X[train], z[train]).predict(X)
        out[~train] = best[1][~train]
    return 1 - ((z - out) ** 2).sum() / (z**2).sum(), z, out


def test_all_of_it_agrees_with_loops():
    patients = golden_patients()
    age = patients.clinical["clinical.age"].to_numpy()[:, None]
    only_age = dataclasses.replace(
        patients, clinical=patients.clinical[["clinical.age"]], categorical=()
    )
    table = explained_variance(PREVALENCE, RISK, only_age, n_resamples=50, seed=3)
    found = table.set_index("predictors")
    tissue = PREVALENCE.to_numpy()
    expected, z, out = by_hand([tissue], [(1.0,)], RISK)
    assert found.loc["prevalence", "r_squared"] == pytest.approx(expected, abs=1e-9)
    assert found.loc["clinical", "r_squared"] == pytest.approx(
        by_hand([age], [(1.0,)], RISK)[0], abs=1e-9
    )
    both = by_hand([tissue, age], [(1.0, 1.0), (1.0, 0.1), (1.0, 0.01)], RISK)[0]
    assert found.loc["both", "r_squared"] == pytest.approx(both, abs=1e-9)
    assert found["n"].tolist() == [len(IDS)] * 3
    assert found["n_columns"].tolist() == [4, 1, 5]
    # four sites are too few to be drawn, so patients are
    weights, folds = bootstrap_weights(RISK["fold"], None, 50, 3), RISK["fold"].to_numpy()
    draws = []
    for row in weights:
        at = np.repeat(np.arange(len(z)), row)
        squares = [
            sum(((v - v[folds[at] == f].mean())[folds[at] == f] ** 2).sum() for f in range(4))
            for v in ((z - out)[at], z[at])
        ]
        draws.append(1 - squares[0] / squares[1])
    limits = np.percentile(draws, [2.5, 97.5])
    np.testing.assert_allclose(found.loc["prevalence", ["lower", "upper"]].astype(float), limits)
    assert found.loc["prevalence", "method"].startswith("bootstrap (50 resamples of patients")


def test_noise_explains_nothing_and_may_be_worse():
    prevalence, patients, _, risk = simulated(120, k=20)
    random = np.random.default_rng(0)
    found = [
        explained_variance(
            prevalence, risk.assign(risk=random.normal(size=len(risk))), patients, n_resamples=50
        ).set_index("predictors")["r_squared"]
        for _ in range(20)
    ]
    found = pd.concat(found, axis=1)
    assert (found.median(axis=1).abs() < 0.05).all()
    assert (found.min(axis=1) < 0).all()
    assert (found.max(axis=1) < 0.2).all()


def test_risks_are_compared_within_folds():
    prevalence, patients, _, risk = simulated()
    expected = explained_variance(prevalence, risk, patients, n_resamples=20)
    other = risk.assign(risk=risk["risk"] * (1 + risk["fold"]) - 1000 * risk["fold"])
    pd.testing.assert_frame_equal(
        explained_variance(prevalence, other, patients, n_resamples=20), expected
    )
    twice = pd.concat([risk, risk.assign(repeat=1)])
    found = explained_variance(prevalence, twice, patients, n_resamples=20)
    pd.testing.assert_frame_equal(found, expected)


def test_clinical_columns_are_learned_from_training_patients_alone(monkeypatch):
    prevalence, patients, _, risk = simulated()
    seen = []

    def record(own, fitted=None):
        if fitted is None:
            seen.append(set(own.patient_id))
        return clinical_matrix(own, fitted)

    clinical_matrix = tissue_variance.clinical_matrix
    monkeypatch.setattr(tissue_variance, "clinical_matrix", record)
    explained_variance(prevalence, risk, patients, n_resamples=2)
    parts = [set(own["patient_id"]) for _, own in risk.groupby("fold")]
    everybody = set(patients.patient_id)
    assert seen == [everybody - part for part in parts] * 2  # clinical, and both


def test_a_fold_of_equal_risks_is_left_out():
    prevalence, patients, _, risk = simulated()
    flat = risk.assign(risk=risk["risk"].where(risk["fold"] != 2, 7.0))
    rest = explained_variance(prevalence, risk[risk["fold"] != 2], patients, n_resamples=20)
    found = explained_variance(prevalence, flat, patients, n_resamples=20)
    pd.testing.assert_frame_equal(found, rest)
    with pytest.raises(DataError, match="fewer than two test folds in which risks differ"):
        explained_variance(prevalence, risk[risk["fold"] == 0], patients)
    with pytest.raises(DataError, match="all are equal within every test fold"):
        explained_variance(prevalence, risk.assign(risk=1.0), patients)


def test_predictions_of_two_models_are_refused():
    prevalence, patients, _, risk = simulated()
    with pytest.raises(SchemaError, match="240 rows of a patient held out before"):
        explained_variance(prevalence, pd.concat([risk, risk]), patients)
    with pytest.raises(SchemaError, match="240 values not finite"):
        explained_variance(prevalence, risk.assign(risk=np.nan), patients)
