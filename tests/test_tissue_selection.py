"""Forward selection: score tests against R, held-out patients without influence, no false steps."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import tissue_scores, tissue_selection
from tabular_trainers.errors import DataError
from tabular_trainers.metrics import concordance
from tabular_trainers.tissue import forward_selection, without_flagged
from tabular_trainers.tissue_inference import (
    Likelihood,
    clinical_matrix,
    independent_columns,
    pseudo_inverse,
)
from tabular_trainers.tissue_selection import score_statistics
from tests.test_tissue import by_fold, simulated
from tests.tissue_golden import GOLDEN, PREVALENCE, golden_patients


def test_score_statistics_agree_with_r():
    patients = golden_patients(entry=True)
    likelihood = Likelihood(patients)
    X, _ = clinical_matrix(patients)
    candidates = PREVALENCE.to_numpy()
    candidates = (candidates - candidates.mean(axis=0)) / candidates.std(axis=0, ddof=1)
    # all levels of stage: their sum is a constant, and says nothing
    for columns in (X, X[:, independent_columns(X, likelihood.groups)]):
        fitted = likelihood.fit(columns)
        found = score_statistics(fitted.local, columns, candidates)
        np.testing.assert_allclose(found, GOLDEN["score"], rtol=1e-6)


def test_a_column_of_the_model_says_nothing_more():
    patients = golden_patients()
    X, _ = clinical_matrix(patients)
    fitted = Likelihood(patients).fit(X)
    copies = np.column_stack([2 * X[:, 0] + 1, X[:, 1] + X[:, 2], np.ones(len(X))])
    found = score_statistics(fitted.local, X, copies)
    np.testing.assert_allclose(found, 0.0, atol=1e-12)


@pytest.fixture(params=["survival", "classification"])
def risks(request, monkeypatch):
    """Return a cohort and a list that gets the predictions of what is called."""
    seen = []

    def record(analysis, predictions, *rest):
        seen.append(predictions)
        return score_rows(analysis, predictions, *rest)

    score_rows = tissue_scores.score_rows
    monkeypatch.setattr(tissue_scores, "score_rows", record)
    monkeypatch.setattr(tissue_selection, "score_rows", record)
    monkeypatch.setattr(tissue_scores, "N_RIDGE", 2)  # scikit-learn checks much in little time
    return simulated(150, task=request.param), seen


def poisoned(patients, folds, fold):
    """Give the first half of a test part other outcomes and clinical values."""
    test = folds.loc[(folds["part"] == "test") & (folds["fold"] == fold), "patient_id"]
    at = patients.patient_id.get_indexer(test)[: len(test) // 2]
    y, clinical = patients.y.copy(), patients.clinical.copy()
    if patients.task == "survival":
        y["time"][at], y["event"][at] = y["time"][at[::-1]] * 7, ~y["event"][at]
    else:
        y[at] = 1 - y[at]
    clinical.iloc[at, 0] = -999.0
    return dataclasses.replace(patients, y=y, clinical=clinical), at


def test_held_out_patients_change_nothing_that_is_learned(risks):
    (prevalence, patients, folds, _), seen = risks
    fold = 1
    other, at = poisoned(patients, folds, fold)
    garbage = prevalence.copy()
    garbage.iloc[at] = np.eye(prevalence.shape[1])[np.arange(len(at)) % 3]
    given, poison = by_fold(prevalence, folds), by_fold(prevalence, folds)
    poison[0, fold] = garbage
    clean, dirty = (
        forward_selection(tables, cohort, folds).steps
        for tables, cohort in ((given, patients), (poison, other))
    )
    for tables, cohort in ((given, patients), (poison, other)):
        without_flagged(tables, cohort, folds, ["c05"])
    own = [table[table["fold"] == fold].reset_index(drop=True) for table in (clean, dirty)]
    assert len(own[0]) > 0
    pd.testing.assert_frame_equal(*own)
    chosen, dirty_chosen, *left_out = seen
    half = len(left_out) // 2
    for one, two in ((chosen, dirty_chosen), *zip(left_out[:half], left_out[half:], strict=True)):
        same = (one["fold"] == fold) & ~one["patient_id"].isin(patients.patient_id[at])
        assert same.sum() > 0
        assert one["risk"][same].tolist() == two["risk"][same].tolist()
        # the poison did reach those that it was given to
        changed = (one["fold"] == fold) & one["patient_id"].isin(patients.patient_id[at])
        assert (one["risk"][changed] != two["risk"][changed]).mean() > 0.9


@pytest.mark.parametrize("risks", ["survival"], indirect=True)  # AUROC: where it is made
def test_c_is_that_of_the_risks(risks):
    (prevalence, patients, folds, _), seen = risks
    scores = forward_selection(by_fold(prevalence, folds), patients, folds).scores
    both = seen[0].pivot(index=["patient_id", "fold"], columns="feature_set", values="risk")
    both = both.reset_index()
    y = patients.y[patients.patient_id.get_indexer(both["patient_id"])]
    columns = ["clinical", "clinical + selected clusters"]
    found = concordance(y, both[columns].to_numpy(), both["fold"])
    np.testing.assert_allclose(scores["estimate"], found.estimate, rtol=1e-12)
    difference = found.difference(1, 0)
    expected = difference.difference, difference.lower, difference.upper, difference.p_value
    names = ["difference", "difference_lower", "difference_upper", "p_value"]
    np.testing.assert_allclose(scores[names].iloc[1].astype(float), expected, rtol=1e-9)


def test_where_no_cluster_matters_hardly_any_is_chosen():
    n_folds = chosen = 0
    for seed in range(12):
        prevalence, patients, folds, _ = simulated(150, k=12, seed=seed, effect=0.0)
        found = forward_selection(by_fold(prevalence, folds), patients, folds)
        n_folds += 3
        chosen += found.steps[["repeat", "fold"]].drop_duplicates().shape[0]
        if found.steps.empty:
            assert found.frequency.empty
            assert found.scores["difference"].iloc[1] == 0.0
    assert chosen / n_folds < 0.15


def test_it_stops_when_told_and_tries_only_what_training_patients_have():
    prevalence, patients, folds, _ = simulated(400, k=6, effect=1.0)
    given = by_fold(prevalence, folds)
    one = forward_selection(given, patients, folds, most=1).steps
    assert one["step"].tolist() == [1, 1, 1]
    rare = prevalence.copy()
    rare["c02"] = np.where(np.arange(len(rare)) < 9, rare["c02"], 0.0)
    rare = rare.div(rare.sum(axis=1), axis=0)
    found = forward_selection(by_fold(rare, folds), patients, folds).steps
    assert (found["matched"] != "c02").all()
    assert (one["n_tried"] >= 5).all()


def test_clusters_of_folds_are_counted_by_what_they_match():
    prevalence, patients, folds, _ = simulated()
    given, matches = {}, []
    for fold in range(3):  # every fold numbers its clusters in its own way
        order = np.roll(prevalence.columns, fold)
        given[0, fold] = prevalence[order].set_axis(prevalence.columns, axis=1)
        matches.append(
            pd.DataFrame({"cluster": prevalence.columns, "matched": order, "quality": 1.0}).assign(
                repeat=0, fold=fold
            )
        )
    matches = pd.concat(matches)
    expected = forward_selection(by_fold(prevalence, folds), patients, folds)
    found = forward_selection(given, patients, folds, names={"c02": "fat"}, matches=matches)
    assert found.steps["cluster"].iloc[[0]].tolist() == ["c02"]
    assert found.steps["matched"].tolist() == expected.steps["matched"].tolist()
    assert found.frequency["name"].tolist()[0] == "fat"
    pd.testing.assert_frame_equal(found.scores, expected.scores)
    left = without_flagged(given, patients, folds, ["c02"], matches=matches)
    same = without_flagged(by_fold(prevalence, folds), patients, folds, ["c02"])
    np.testing.assert_allclose(left["estimate"], same["estimate"], atol=0.01)
    with pytest.raises(DataError, match="no row of repeat 0, fold 2, cluster c01, c02"):
        forward_selection(given, patients, folds, matches=matches[matches["fold"] != 2])


def test_without_clinical_columns_the_baseline_ranks_nobody():
    prevalence, patients, folds, _ = simulated()
    plain = dataclasses.replace(patients, clinical=None, categorical=())
    scores = forward_selection(by_fold(prevalence, folds), plain, folds).scores
    assert scores["model"].tolist() == ["no predictor", "selected clusters"]
    assert scores["estimate"].iloc[0] == 0.5
    assert scores["estimate"].iloc[1] > 0.65
    left = without_flagged(by_fold(prevalence, folds), plain, folds, ["c05"])
    assert left["model"].tolist() == ["all clusters", "clusters not flagged"]


def test_leaving_out_a_cluster_leaves_the_shares_of_the_others():
    values = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.2, 0.4, 0.4], [0.0, 0.1, 0.9]])
    kept = np.array([False, True, True])
    found = tissue_scores._divided(values, kept, train=np.array([0, 1, 3]))
    # who has nothing else gets the mean of the training part: of the first and the last
    expected = [[0.6, 0.4], [0.35, 0.65], [0.5, 0.5], [0.1, 0.9]]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_matrix_without_information_has_an_inverse_elsewhere():
    random = np.random.default_rng(0)
    X = random.normal(size=(30, 3)) * [1.0, 1e-3, 1e4]
    whole = X.T @ X
    np.testing.assert_allclose(pseudo_inverse(whole) @ whole, np.eye(3), atol=1e-8)
    twice = np.column_stack([X, X[:, 0]])
    found = pseudo_inverse(twice.T @ twice)
    np.testing.assert_allclose(twice @ found @ twice.T, X @ np.linalg.inv(whole) @ X.T, atol=1e-8)
