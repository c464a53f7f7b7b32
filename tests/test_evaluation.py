"""Evaluation: nested by construction, the same from any number of processes, honest about folds."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.comparison import compare
from tabular_trainers.demo import synthetic_cohort
from tabular_trainers.errors import DataError
from tabular_trainers.evaluation import evaluate, evaluate_plan, fit_fold
from tabular_trainers.evaluation_plan import fold_numbers, make_plan
from tabular_trainers.repeat_measures import BEFORE_LANDMARK

SETTINGS = {"models": ("cox", "rsf"), "folds": 3, "n_trials": 2}
RESAMPLES = {"n_resamples": 20}


@pytest.fixture(scope="module")
def cohort():
    return synthetic_cohort(150, features={"clinical": 3, "genomics": 5}, n_sites=12, seed=1)


@pytest.fixture(scope="module")
def evaluation(cohort):
    return evaluate(cohort, **SETTINGS, **RESAMPLES)


def test_every_patient_is_predicted_once_by_every_feature_set_and_model(cohort, evaluation):
    counts = evaluation.predictions.groupby(["feature_set", "model"])["patient_id"]
    assert set(counts.groups) == {
        (feature_set, model)
        for feature_set in ("clinical", "genomics", "clinical+genomics")
        for model in ("cox", "rsf", "selected")
    }
    assert (counts.nunique() == 150).all()
    assert (counts.size() == 150).all()
    assert np.isfinite(evaluation.predictions["risk"]).all()


def test_survival_is_predicted_at_the_horizons_and_on_a_grid(evaluation):
    times = np.unique(evaluation.survival["time"])
    assert set(evaluation.plan.horizons) <= set(times)
    assert 50 <= len(times) <= 50 + len(evaluation.plan.horizons)
    assert times.max() == evaluation.plan.tau


def test_outcomes_of_held_out_patients_do_not_reach_their_predictions(cohort, evaluation):
    """Swap the outcomes of the patients of one test fold: what that fold predicts must not move."""
    plan = make_plan(cohort, **SETTINGS)
    _, test = plan.positions(0, 0)
    y = plan.analysis.y.copy()
    y[test] = y[test][::-1]
    X = plan.analysis.X.copy()
    swapped = dataclasses.replace(plan, analysis=dataclasses.replace(plan.analysis, y=y, X=X))
    again = evaluate_plan(swapped, **RESAMPLES)
    keys = ["patient_id", "feature_set", "model"]
    risks = [
        e.predictions.query("fold == 0 and model != 'selected'").set_index(keys)["risk"]
        for e in (evaluation, again)
    ]
    pd.testing.assert_series_equal(*risks)
    others = [
        e.predictions.query("fold == 1 and model == 'cox'")["risk"] for e in (evaluation, again)
    ]
    assert not np.array_equal(*others)  # the swap does reach the folds that train on them


def test_selected_is_the_model_with_the_best_value_inside_the_training_part(evaluation):
    chosen = evaluation.trials[evaluation.trials["chosen"]]
    value = chosen.set_index(["feature_set", "fold", "model"])["value"]
    risks = evaluation.predictions.set_index(["feature_set", "fold", "model"])["risk"].sort_index()
    for feature_set in ("clinical", "genomics"):
        for _, fold in fold_numbers(evaluation.folds):
            values = {model: value[feature_set, fold, model] for model in ("cox", "rsf")}
            best = max(values, key=values.get)
            np.testing.assert_array_equal(
                risks[feature_set, fold, "selected"], risks[feature_set, fold, best]
            )


def test_number_of_processes_changes_nothing(cohort, evaluation):
    again = evaluate(cohort, **SETTINGS, **RESAMPLES, n_jobs=2)
    for name in (
        "predictions",
        "survival",
        "metrics",
        "calibration",
        "decision_curve",
        "kaplan_meier",
        "trials",
    ):
        pd.testing.assert_frame_equal(getattr(evaluation, name), getattr(again, name))


def test_finished_folds_are_used_again(cohort, evaluation, tmp_path):
    evaluate(cohort, **SETTINGS, **RESAMPLES, store=tmp_path)
    seen = []
    kept = tmp_path / "fold-clinical-cox-0-0" / "predictions.parquet"
    table = pd.read_parquet(kept)
    table.assign(risk=table["risk"] + 1000).to_parquet(kept)
    again = evaluate(cohort, **SETTINGS, **RESAMPLES, store=tmp_path, progress=seen.append)
    rows = again.predictions.query("feature_set == 'clinical' and model == 'cox' and fold == 0")
    assert (rows["risk"] > 500).all()
    assert len(seen) == 3 * 2 * 3


def test_the_primary_comparison_is_named_before_any_fit(cohort):
    assert make_plan(cohort).primary == {
        "feature_set": "clinical+genomics",
        "model": "selected",
        "baseline_feature_set": "clinical",
        "baseline_model": "selected",
        "metric": "harrell_c",
    }
    one = make_plan(cohort, models=["cox"])
    assert one.primary["model"] == one.primary["baseline_model"] == "cox"
    assert make_plan(cohort, feature_sets=["clinical"]).primary is None


def test_the_concordance_comes_near_the_truth():
    """A linear truth: Cox on all blocks must come near the C of the true risk.

    With 5 + 3 informative columns of 400 patients the error of the fitted risk costs about 0.01,
    and the standard error of C is about 0.015.
    """
    drawn = synthetic_cohort(400, features={"clinical": 3, "genomics": 5}, censoring=0.3, seed=3)
    found = evaluate(drawn, models=["cox"], feature_sets=["clinical+genomics"], **RESAMPLES)
    overall = found.metrics[found.metrics["fold"].isna() & (found.metrics["metric"] == "harrell_c")]
    estimates = overall.set_index("feature_set")["estimate"]
    assert estimates["clinical+genomics"] == pytest.approx(drawn.truth.harrell_c, abs=0.04)
    assert estimates["clinical"] < estimates["clinical+genomics"] - 0.02


def test_patients_outside_the_given_folds_are_counted(cohort):
    plan = make_plan(cohort, **SETTINGS)
    lost = set(plan.analysis.patient_id[:7])
    folds = plan.folds[~plan.folds["patient_id"].isin(lost)]
    smaller = make_plan(cohort, folds=folds, models=["cox"])
    last = smaller.analysis.flow.iloc[-1]
    assert (last["description"], last["n_dropped"], last["n_patients"]) == (
        "in no test fold of the given folds",
        7,
        143,
    )
    assert not lost & set(smaller.analysis.patient_id)
    train, test = smaller.positions(0, 0)
    assert len(train) + len(test) == 143


def test_an_unknown_model_is_named_with_the_nearest(cohort):
    with pytest.raises(DataError) as caught:
        make_plan(cohort, models=["coxx"])
    assert str(caught.value) == (
        "unknown survival model 'coxx'; known: cox, rsf, xgb, sksurv_rsf, sksurv_coxnet. "
        "Did you mean 'cox'?"
    )


def test_models_that_ignore_entry_times_refuse_before_anything_runs():
    with pytest.raises(DataError) as caught:
        make_plan(synthetic_cohort(100, entry=True), models=["cox", "sksurv_rsf", "sksurv_coxnet"])
    assert str(caught.value) == (
        "endpoint os has entry times (left truncation), which sksurv_rsf, sksurv_coxnet cannot "
        "take. Choose from: cox, rsf, xgb."
    )


@pytest.fixture(scope="module")
def late_cohort():
    return synthetic_cohort(200, features={"clinical": 3}, entry=True)


def with_landmark(cohort, landmark):
    endpoint = dataclasses.replace(cohort.endpoint(), landmark=landmark)
    return dataclasses.replace(cohort, endpoints={endpoint.name: endpoint})


def test_late_entry_is_fitted_and_measured(late_cohort):
    found = evaluate(
        with_landmark(late_cohort, 365.0), models=["cox", "rsf", "xgb"], folds=3, n_trials=1,
        **RESAMPLES,
    )  # fmt: skip
    overall = found.metrics[found.metrics["fold"].isna()]
    assert len(overall) > 20
    few = overall["method"].str.startswith("not computed: fewer than 50 events")
    early = (overall["metric"] == "auc") & (overall["horizon"] <= 365)
    assert overall.loc[~few & ~early, ["estimate", "lower", "upper"]].notna().all(axis=None)
    assert (overall.loc[early, "method"] == BEFORE_LANDMARK).all()
    overall = overall[~early]
    y = pd.DataFrame(found.plan.analysis.y, index=found.plan.analysis.patient_id)
    at_risk = ((y["entry"] <= 365) & (y["time"] > 365)).sum()
    by_landmark = overall[overall["metric"].isin(["uno_c", "auc"])]
    assert (by_landmark["n"] == at_risk).all()
    words = f"{at_risk} of {len(y)} patients at risk at landmark 365"
    assert by_landmark["method"].str.endswith(words).all()
    decisions = found.decision_curve
    assert set(decisions["horizon"]) == {at for at in found.plan.horizons if at > 365}
    assert decisions["method"].str.endswith(words).all()


def test_without_a_landmark_the_tables_say_what_to_give(late_cohort):
    found = evaluate(late_cohort, models=["cox"], folds=2, **RESAMPLES)
    overall = found.metrics[found.metrics["fold"].isna()].set_index("metric")
    lacking = overall.loc[["uno_c", "auc"]]
    assert lacking["estimate"].isna().all()
    assert lacking["method"].unique().tolist() == [
        "not computed: with entry times (left truncation) give the endpoint a landmark"
    ]
    assert len(found.decision_curve) == 0
    others = overall.drop(index=["uno_c", "auc", "integrated_calibration_index"])
    assert others["estimate"].notna().all()


def test_nothing_of_held_out_patients_reaches_a_late_fusion(cohort):
    """Swap features and outcomes of one test part: what is learned of the rest must not move."""
    late = "late:clinical+genomics"
    plan = make_plan(cohort, feature_sets=[late], models=["cox"], folds=3, n_trials=2)
    assert plan.primary["feature_set"] == late
    first = fit_fold(plan, late, "cox", 0, 0)
    train, test = plan.positions(0, 0)
    X, y = plan.analysis.X.copy(), plan.analysis.y.copy()
    X.iloc[test], y[test] = X.iloc[test[::-1]].to_numpy(), y[test][::-1]
    swapped = dataclasses.replace(plan, analysis=dataclasses.replace(plan.analysis, X=X, y=y))
    again = fit_fold(swapped, late, "cox", 0, 0)
    pd.testing.assert_frame_equal(first["trials"], again["trials"])
    assert set(json.loads(first["trials"]["parameters"].item())) == {"clinical", "genomics"}
    np.testing.assert_array_equal(again["predictions"]["risk"], first["predictions"]["risk"][::-1])
    y[train] = y[train][::-1]
    other = fit_fold(swapped, late, "cox", 0, 0)  # a swap in the training part does reach it
    assert not np.array_equal(other["predictions"]["risk"], again["predictions"]["risk"])


def test_late_fusion_stands_beside_the_others(cohort):
    """It is compared, but never what others are compared with, and models are chosen within it."""
    sets = ["clinical+genomics", "late:genomics+clinical"]
    found = evaluate(cohort, feature_sets=sets, **SETTINGS, **RESAMPLES)
    late = "late:clinical+genomics"
    assert list(found.plan.analysis.feature_sets) == ["clinical", "clinical+genomics", late]
    assert found.primary["feature_set"] == "clinical+genomics"
    counts = found.predictions[found.predictions["feature_set"] == late].groupby("model").size()
    assert counts.to_dict() == {"cox": 150, "rsf": 150, "selected": 150}
    curves = found.survival[found.survival["feature_set"] == late]
    assert curves["survival"].between(0, 1).all()
    rows = compare(found)
    assert (rows["feature_set"] == late).sum() >= 3
    assert (rows["baseline_feature_set"] != late).all()


def test_survival_at_entry_is_that_of_the_fold_model(late_cohort):
    plan = make_plan(late_cohort, models=["rsf"], folds=2, n_trials=1)
    # asked for at its own entry only: the survival table of a plan with that one time must agree
    first = fit_fold(plan, "clinical", "rsf", 0, 0)["predictions"].iloc[7]
    entry = float(plan.analysis.y["entry"][plan.analysis.patient_id.get_loc(first["patient_id"])])
    asked = dataclasses.replace(plan, times=np.array([entry]))
    curve = fit_fold(asked, "clinical", "rsf", 0, 0)["survival"].set_index("patient_id")
    assert curve.loc[first["patient_id"], "survival"] == first["survival_at_entry"] < 1


def test_a_landmark_stands_before_the_largest_horizon_with_patients_at_risk(late_cohort):
    with pytest.raises(DataError, match=r"landmark 1900 days is not before the largest horizon"):
        make_plan(with_landmark(late_cohort, 1900.0), models=["cox"])
    with pytest.raises(DataError, match=r"landmark 0.01: none of 200 patients is at risk then"):
        make_plan(with_landmark(late_cohort, 0.01), models=["cox"])


def test_classification_runs_the_same_way():
    drawn = synthetic_cohort(150, features={"clinical": 3, "genomics": 4}, kind="classification")
    found = evaluate(drawn, models=["logistic", "random_forest"], folds=3, n_trials=2, **RESAMPLES)
    assert found.survival is None
    assert found.plan.horizons == ()
    assert found.predictions["risk"].between(0, 1).all()
    overall = found.metrics[found.metrics["fold"].isna()]
    assert {"auroc", "auprc", "brier", "log_loss"} <= set(overall["metric"])
