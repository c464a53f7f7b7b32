"""Contributions: they add up to the prediction, for every model, on held-out patients."""

import itertools

import numpy as np
import pytest

from tabular_trainers import explanation
from tabular_trainers.demo import synthetic_cohort
from tabular_trainers.evaluation import evaluate
from tabular_trainers.explanation import explain
from tabular_trainers.feature_sets import is_late
from tabular_trainers.models import MODELS, find_model

KEYS = ["patient_id", "feature_set", "model"]


@pytest.fixture(scope="module", params=["survival", "classification"])
def explained(request):
    cohort = synthetic_cohort(
        120, features={"clinical": 3, "genomics": 6}, kind=request.param, n_sites=9, seed=2
    )
    evaluation = evaluate(
        cohort,
        feature_sets=["clinical+genomics", "late:clinical+genomics"],
        folds=2,
        n_trials=2,
        n_resamples=10,
    )
    return evaluation, *explain(evaluation)


def test_base_and_contributions_add_up_to_the_held_out_prediction(explained):
    """Fitting again with the chosen hyper-parameters gives the evaluated model, bit for bit."""
    evaluation, shap, blocks = explained
    task = evaluation.plan.task
    risk = evaluation.predictions.set_index(KEYS)["risk"]
    for table in (shap, blocks):
        total = table.groupby(KEYS)["contribution"].sum() + table.groupby(KEYS)["base"].first()
        pairs = itertools.product(evaluation.plan.analysis.feature_sets, evaluation.plan.models)
        for feature_set, model in pairs:
            spec = find_model(model, task, is_late(feature_set))
            ours = total.xs((feature_set, model), level=KEYS[1:], drop_level=False)
            if spec.shap_scale == "log odds":
                ours = 1 / (1 + np.exp(-ours))
            truth = risk.reindex(ours.index)
            tolerance = 1e-5 * (truth.max() - truth.min())
            assert len(ours) > 0
            np.testing.assert_allclose(ours, truth, atol=tolerance, rtol=0)


def test_exact_contributions_cover_every_patient_a_block(explained):
    evaluation, _, blocks = explained
    counts = blocks.groupby(["feature_set", "model"])["patient_id"].nunique()
    for (_, model), n in counts.items():
        kind = MODELS[evaluation.plan.task][model].shap_kind
        assert n == (120 if kind == "exact" else explanation.SAMPLED_PATIENTS)


def test_one_hot_columns_are_summed_to_their_source(explained):
    _, shap, _ = explained
    clinical = shap[shap["block"] == "clinical"]
    assert set(clinical["feature"]) <= {"x1", "x2", "x3", "stage", "other"}
    assert clinical.loc[clinical["feature"] == "stage", "value"].isna().all()


def test_values_are_those_of_the_patients_table(explained):
    evaluation, shap, _ = explained
    X = evaluation.plan.analysis.X
    rows = shap[(shap["block"] == "genomics") & (shap["feature"] == "x1")]
    assert len(rows) > 0
    np.testing.assert_array_equal(rows["value"], X.loc[rows["patient_id"], "genomics.x1"])


def test_the_largest_features_go_by_name_and_the_rest_into_other(explained, monkeypatch):
    evaluation, full, blocks = explained
    monkeypatch.setattr(explanation, "SHOWN_FEATURES", 3)
    monkeypatch.setattr(explanation, "SHOWN_PATIENTS", 30)
    shap, _ = explain(evaluation)
    model = evaluation.plan.models[0]
    rows = shap[(shap["model"] == model) & (shap["feature_set"] == "clinical+genomics")]
    assert rows["patient_id"].nunique() == 30
    named = rows[rows["feature"] != "other"]
    assert len(named[["block", "feature"]].drop_duplicates()) == 3
    sums = rows.groupby(["patient_id", "block"])["contribution"].sum()
    expected = blocks[(blocks["model"] == model) & (blocks["feature_set"] == "clinical+genomics")]
    expected = expected.set_index(["patient_id", "block"])["contribution"].reindex(sums.index)
    np.testing.assert_allclose(sums, expected, atol=1e-12)
    sizes = full[(full["model"] == model) & (full["feature_set"] == "clinical+genomics")]
    sizes = sizes.groupby(["block", "feature"])["contribution"].apply(lambda c: c.abs().mean())
    smallest_named = sizes.loc[list(map(tuple, named[["block", "feature"]].to_numpy()))].min()
    assert (
        smallest_named >= sizes.sort_values().iloc[-6]
    )  # fewer patients, so not exactly the top 3


def test_a_planted_block_carries_the_contributions(explained):
    """The genomics block is drawn with an effect of 0.5, noise features with none."""
    _, shap, _ = explained
    size = shap.groupby(["block", "feature"])["contribution"].apply(lambda c: c.abs().mean())
    assert size["genomics", "x1"] > size["genomics", "x6"]
