"""For whom: levels by hand, measures against the same on the patients of a level alone."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.demo import synthetic_cohort
from tabular_trainers.evaluation import evaluate
from tabular_trainers.metrics import concordance
from tabular_trainers.schema import validate
from tabular_trainers.subgroup_variables import MAX_PLACES, subgroup_variables
from tabular_trainers.subgroups import equal_differences, subgroup_table


def with_clinical(evaluation, **columns):
    """Put columns into the clinical block after the models were fitted; these groups are ours."""
    analysis = evaluation.plan.analysis
    added = pd.DataFrame(
        {f"clinical.{name}": values for name, values in columns.items()}, index=analysis.X.index
    )
    labelled = [name for name in added if added[name].dtype == object]
    X = pd.concat([analysis.X.drop(columns=added.columns, errors="ignore"), added], axis=1)
    analysis = dataclasses.replace(
        analysis, X=X, categorical=tuple(dict.fromkeys((*analysis.categorical, *labelled)))
    )
    plan = dataclasses.replace(evaluation.plan, analysis=analysis)
    return dataclasses.replace(evaluation, plan=plan)


@pytest.fixture(scope="module")
def survival():
    cohort = synthetic_cohort(300, features={"clinical": 3, "genomics": 3}, n_sites=12, seed=3)
    found = evaluate(cohort, models=["cox"], folds=3, n_resamples=200)
    # every tenth woman is known, so that few of them have the event
    sex = np.where(np.arange(300) % 25 == 0, "female", "male").astype(object)
    sex[:5] = None
    return with_clinical(found, sex=sex)


@pytest.fixture(scope="module")
def table(survival):
    found = subgroup_table(survival)
    validate(found, "subgroups", "subgroups")
    return found.set_index(["variable", "level"])


@pytest.fixture(scope="module")
def classification():
    cohort = synthetic_cohort(
        300, features={"clinical": 3, "genomics": 3}, kind="classification", seed=3
    )
    return evaluate(cohort, models=["logistic"], folds=3, n_trials=1, n_resamples=200)


def held_out(evaluation, at):
    """Return fold, and risk of the full feature set and of clinical, of patients at positions."""
    patients = evaluation.plan.analysis.patient_id[at]
    parts = [
        evaluation.predictions[evaluation.predictions["feature_set"] == name]
        .set_index("patient_id")
        .loc[patients]
        for name in (evaluation.plan.analysis.full, "clinical")
    ]
    return parts[0]["fold"].to_numpy(), np.column_stack([part["risk"] for part in parts])


def test_all_patients_have_the_numbers_of_the_other_tables(survival, table):
    row = table.loc[("all patients", "all patients")]
    metrics = survival.metrics[survival.metrics["fold"].isna()]
    for feature_set, names in (
        (survival.plan.analysis.full, ["estimate", "lower", "upper"]),
        ("clinical", ["baseline_estimate", "baseline_lower", "baseline_upper"]),
    ):
        own = metrics[metrics["feature_set"] == feature_set].set_index(["metric", "horizon"])
        expected = own.loc["harrell_c"].iloc[0][["estimate", "lower", "upper"]]
        assert row[names].tolist() == pytest.approx(expected.tolist(), abs=1e-12)
        if feature_set == "clinical":
            continue
        expected = own.loc[("observed_expected", survival.plan.tau)]
        names = [f"observed_expected{end}" for end in ("", "_lower", "_upper")]
        expected = expected[["estimate", "lower", "upper"]].tolist()
        assert row[names].tolist() == pytest.approx(expected, abs=1e-12)
    assert np.isnan(row["interaction_p_value"])


@pytest.mark.parametrize("level", ["I", "II", "III"])
def test_a_level_is_measured_on_its_patients_alone(survival, table, level):
    analysis = survival.plan.analysis
    at = np.flatnonzero((analysis.X["clinical.stage"] == level).to_numpy())
    fold, risks = held_out(survival, at)
    expected = concordance(analysis.y[at], risks, strata=fold, cluster=analysis.site[at])
    row = table.loc[("stage", level)]
    assert (row["n"], row["n_events"]) == (len(at), analysis.y["event"][at].sum())
    assert [row["estimate"], row["baseline_estimate"]] == pytest.approx(expected.estimate.tolist())
    assert [row["lower"], row["upper"]] == pytest.approx([end[0] for end in expected.interval()])
    difference = expected.difference(0, 1)
    names = ["difference", "difference_error", "difference_lower", "difference_upper"]
    assert row[names].tolist() == pytest.approx(list(difference[:4]))


def test_a_level_by_hand(survival, table):
    """Count the pairs of a fold one by one; Kaplan-Meier by lifelines."""
    from lifelines import KaplanMeierFitter

    analysis = survival.plan.analysis
    at = np.flatnonzero((analysis.X["clinical.stage"] == "II").to_numpy())
    y, (fold, risks) = analysis.y[at], held_out(survival, at)
    concordant = comparable = 0.0
    for i in np.flatnonzero(y["event"]):
        for j in range(len(at)):
            later = y["time"][j] > y["time"][i] or (
                y["time"][j] == y["time"][i] and not y["event"][j]
            )
            if fold[i] == fold[j] and later:
                comparable += 1
                concordant += (1 + np.sign(risks[i, 0] - risks[j, 0])) / 2
    row = table.loc[("stage", "II")]
    assert row["estimate"] == pytest.approx(concordant / comparable, abs=1e-12)
    tau = survival.plan.tau
    observed = 1 - KaplanMeierFitter().fit(y["time"], y["event"]).predict(tau)
    curves = survival.survival.query("feature_set == @analysis.full and time == @tau")
    own = curves[curves["patient_id"].isin(analysis.patient_id[at])]
    expected = (1 - own["survival"]).mean()
    assert row["observed_expected"] == pytest.approx(observed / expected, abs=1e-9)
    assert row["observed_expected_lower"] < row["observed_expected"]
    assert row["observed_expected"] < row["observed_expected_upper"]


def test_under_ten_events_nothing_is_measured_and_missing_values_are_left_out(survival, table):
    few, many = table.loc[("sex", "female")], table.loc[("sex", "male")]
    assert few["n_events"] < 10
    assert few["too_few"]
    assert not many["too_few"]
    assert few["n"] + many["n"] == 295
    measured = ["estimate", "difference", "observed_expected", "interaction_p_value"]
    assert few[measured].isna().all()
    assert np.isnan(many["interaction_p_value"])  # one level is left to compare


def test_the_interaction_is_a_wald_test_of_equal_differences(table):
    own = table.loc["stage"]
    difference, variance = own["difference"].to_numpy(), own["difference_error"].to_numpy() ** 2
    contrast = np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]])
    apart = contrast @ difference
    wald = apart @ np.linalg.solve(contrast @ np.diag(variance) @ contrast.T, apart)
    # two degrees of freedom: the upper tail of chi-squared is exp(-x / 2)
    assert own["interaction_p_value"].tolist() == pytest.approx([np.exp(-wald / 2)] * 3)


def test_the_interaction_test_holds_its_level_for_known_errors():
    generator = np.random.default_rng(0)
    errors = np.array([0.01, 0.02, 0.05, 0.03])
    drawn = generator.normal(0.03, errors, (4000, 4))
    rejected = np.mean([equal_differences(row, errors) < 0.05 for row in drawn])
    assert rejected == pytest.approx(0.05, abs=0.01)
    assert np.isnan(equal_differences([0.1, np.nan], [0.02, np.nan]))
    assert np.isnan(equal_differences([0.1, 0.0], [0.02, 0.0]))


def test_a_gain_in_one_sex_alone_is_seen():
    """Genomics ranks the women and says nothing of the men."""
    generator = np.random.default_rng(5)
    n = 600
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = generator.random(n) < 0.6, generator.exponential(1.0, n)
    cohort = synthetic_cohort(n, features={"clinical": 2, "genomics": 2}, seed=5)
    evaluation = evaluate(cohort, models=["cox"], folds=3, n_resamples=20)
    sex = generator.choice(["female", "male"], n).astype(object)
    noise = generator.normal(size=n)
    knows = np.where(sex == "female", -y["time"] + 0.5 * noise, noise)
    evaluation = with_clinical(evaluation, sex=sex)
    analysis = dataclasses.replace(evaluation.plan.analysis, y=y)
    by_patient = pd.Series(knows, index=analysis.patient_id)
    predictions = evaluation.predictions.copy()
    own = predictions["feature_set"] == analysis.full
    predictions.loc[own, "risk"] = by_patient.loc[predictions.loc[own, "patient_id"]].to_numpy()
    evaluation = dataclasses.replace(
        evaluation,
        plan=dataclasses.replace(evaluation.plan, analysis=analysis),
        predictions=predictions,
    )
    found = subgroup_table(evaluation).set_index(["variable", "level"])
    assert found.loc[("sex", "female"), "difference_lower"] > 0.1
    assert abs(found.loc[("sex", "male"), "difference"]) < 0.1
    assert found.loc[("sex", "male"), "interaction_p_value"] < 1e-6


def test_a_classification_is_measured_by_auroc(classification):
    from sklearn.metrics import roc_auc_score

    found = subgroup_table(classification)
    validate(found, "subgroups", "subgroups")
    assert set(found["metric"]) == {"auroc"}
    analysis = classification.plan.analysis
    row = found.set_index("level").loc["II"]
    at = np.flatnonzero((analysis.X["clinical.stage"] == "II").to_numpy())
    fold, risks = held_out(classification, at)
    values, pairs = [], []
    for k in np.unique(fold):
        y = analysis.y[at][fold == k]
        values.append([roc_auc_score(y, risk) for risk in risks[fold == k].T])
        pairs.append(y.sum() * (1 - y).sum())
    full, clinical = np.average(values, axis=0, weights=pairs)
    assert row["estimate"] == pytest.approx(full, abs=1e-12)
    assert row["difference"] == pytest.approx(full - clinical, abs=1e-12)
    assert row["difference_lower"] < row["difference"] < row["difference_upper"]
    assert row["observed_expected"] == pytest.approx(analysis.y[at].sum() / risks[:, 0].sum())
    assert np.isnan(row["horizon"])


def test_without_a_baseline_the_model_is_measured_alone(survival):
    analysis = dataclasses.replace(survival.plan.analysis, baseline=None)
    plan = dataclasses.replace(survival.plan, analysis=analysis)
    found = subgroup_table(dataclasses.replace(survival, plan=plan))
    validate(found, "subgroups", "subgroups")
    assert found["baseline_feature_set"].isna().all()
    assert found.loc[0, "estimate"] > 0.5
    assert found["difference"].isna().all()


def analysis_of(columns, categorical=(), event=None, **more):
    X = pd.DataFrame(columns)
    y = np.zeros(len(X), dtype=[("event", bool), ("time", float)])
    y["event"] = True if event is None else event
    return SimpleNamespace(
        X=X, y=y, categorical=categorical, **{"site": None, "cancer_type": None} | more
    )


def test_columns_are_found_by_the_words_of_their_names():
    text = {"clinical.Gender": list("fmfm"), "clinical.pT_stage": ["1", "2", "2", None]}
    numbers = {
        "clinical.stageGroup": [1.0, 1.0, 2.0, 2.0],
        "clinical.percentage": [1.0, 2.0, 3.0, 4.0],
        "clinical.ageAtDiagnosis": [40.0, 50.0, 60.0, 70.0],
        "clinical.age_at_menopause": [1.0, 2.0, 3.0, 4.0],
        "blood.age": [1.0, 2.0, 3.0, 4.0],
        "clinical.is_female": [1.0, 0.0, 1.0, 0.0],
    }
    found = subgroup_variables(analysis_of(text | numbers, tuple(text)))
    assert [variable.name for variable in found] == [
        "Gender", "ageAtDiagnosis, thirds", "pT_stage", "stageGroup",
    ]  # fmt: skip
    levels = {variable.name: {k: v.tolist() for k, v in variable.levels} for variable in found}
    assert levels["Gender"] == {"f": [0, 2], "m": [1, 3]}
    assert levels["pT_stage"] == {"1": [0], "2": [1, 2]}
    assert levels["stageGroup"] == {"1": [0, 1], "2": [2, 3]}


def test_thirds_of_age_by_hand():
    age = [50.0, 61.0, 70.0, 42.0, np.nan, 61.0, 80.0]
    (found,) = subgroup_variables(analysis_of({"clinical.AGE": age}))
    assert {name: at.tolist() for name, at in found.levels} == {
        "up to 50": [0, 3],
        "above 50, up to 61": [1, 5],
        "above 61": [2, 6],
    }
    assert subgroup_variables(analysis_of({"clinical.age": [50.0] * 7})) == []


def test_a_stage_of_many_values_or_one_is_left_out():
    many = {"clinical.stage": [float(i) for i in range(20)], "clinical.sex": ["m"] * 20}
    assert subgroup_variables(analysis_of(many, ("clinical.sex",))) == []


def test_sites_with_few_events_are_pooled_and_the_largest_shown():
    sites = [f"s{i:02d}" for i in range(20) for _ in range(12 + i)] + ["tiny"] * 3 + [None] * 2
    analysis = analysis_of({"clinical.x": np.zeros(len(sites))}, site=np.array(sites, object))
    (found,) = subgroup_variables(analysis)
    names = [name for name, _ in found.levels]
    assert names == [*(f"s{i:02d}" for i in range(19, 4, -1)), "6 other sites"]
    assert len(names) == MAX_PLACES + 1
    assert found.is_site
    assert sum(len(at) for _, at in found.levels) == len(sites) - 2
    nobody = analysis_of({"clinical.x": np.zeros(30)}, event=False,
                         site=np.repeat(["a", "b", "c"], [5, 15, 10]).astype(object))  # fmt: skip
    (found,) = subgroup_variables(nobody)
    assert [(name, len(at)) for name, at in found.levels] == [("b", 15), ("2 other sites", 15)]
