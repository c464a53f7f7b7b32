"""Models fitted on all patients, and new patients scored by the one named before any scoring."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.demo import synthetic_cohort
from tabular_trainers.errors import SchemaError
from tabular_trainers.evaluation_plan import make_plan
from tabular_trainers.final_models import fit_final_models, model_facts, predict
from tabular_trainers.models import MODELS, find_model, predict_risk, predict_survival
from tabular_trainers.models.storage import load_model
from tabular_trainers.schema import validate
from tabular_trainers.tables import read_written


@pytest.fixture(scope="module")
def cohort():
    return synthetic_cohort(120, features={"clinical": 3, "genomics": 4}, seed=5)


@pytest.fixture(scope="module")
def run_folder(cohort, tmp_path_factory):
    """Hold what `predict` reads of a run."""
    folder = tmp_path_factory.mktemp("run")
    sets = ["clinical", "genomics", "clinical+genomics", "late:clinical+genomics"]
    plan = make_plan(cohort, feature_sets=sets, models=["cox", "xgb"], folds=3, n_trials=2)
    trials = fit_final_models(plan, folder / "models", model_facts("hash"))
    validate(trials, "trials", "trials")
    assert trials["fold"].isna().all()
    primary = {"feature_set": "clinical+genomics", "model": "cox"}
    (folder / "run.json").write_text(json.dumps({"primary_model": primary}))
    return folder


def test_every_feature_set_and_model_is_saved_with_its_input_schema(run_folder):
    paths = {str(p.relative_to(run_folder / "models")) for p in run_folder.rglob("*.skops")}
    assert paths == {
        f"{feature_set}/{model}.skops"
        for feature_set in ("clinical", "genomics", "clinical+genomics", "late-clinical+genomics")
        for model in ("cox", "xgb")
    }
    _, metadata = load_model(run_folder / "models" / "clinical" / "cox.skops")
    assert metadata["columns"] == {
        "clinical.x1": "numeric",
        "clinical.x2": "numeric",
        "clinical.x3": "numeric",
        "clinical.stage": "categorical",
    }
    assert metadata["config_hash"] == "hash"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_scores_are_those_of_the_primary_model(cohort, run_folder, tmp_path, suffix):
    out = predict(run_folder, cohort, out=tmp_path / f"scores{suffix}")
    scores = pd.read_csv(out) if suffix == ".csv" else read_written(out)
    validate(scores, "scores", str(out))
    pipeline, metadata = load_model(run_folder / "models" / "clinical+genomics" / "cox.skops")
    X = cohort.analysis_set("os").X[list(metadata["columns"])]
    spec = MODELS["survival"]["cox"]
    horizons = metadata["horizons"]
    one = scores[scores["time"] == horizons[0]].set_index("patient_id")
    np.testing.assert_allclose(
        one["risk"].loc[X.index], predict_risk(pipeline, spec, X), rtol=1e-12
    )
    curves = predict_survival(pipeline, spec, X, np.array(horizons[:1]))
    np.testing.assert_allclose(one["survival"].loc[X.index], curves[:, 0], rtol=1e-12)
    assert len(scores) == len(X) * len(horizons)


def test_scores_of_late_fusion_are_those_of_its_model(cohort, run_folder, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(run_folder, other)
    late = {"feature_set": "late:clinical+genomics", "model": "xgb"}
    (other / "run.json").write_text(json.dumps({"primary_model": late}))
    scores = pd.read_csv(predict(other, cohort, out=tmp_path / "scores.csv"))
    assert set(scores["feature_set"]) == {"late:clinical+genomics"}
    pipeline, metadata = load_model(other / "models" / "late-clinical+genomics" / "xgb.skops")
    assert set(metadata["parameters"]) == {"clinical", "genomics"}
    assert metadata["risk_scale"] == "log hazard relative to mean risks of the blocks"
    X = cohort.analysis_set("os").X[list(metadata["columns"])]
    row = find_model("xgb", "survival", late=True)
    one = scores[scores["time"] == metadata["horizons"][0]].set_index("patient_id").loc[X.index]
    np.testing.assert_allclose(one["risk"], predict_risk(pipeline, row, X), rtol=1e-12)
    curves = predict_survival(pipeline, row, X, np.array(metadata["horizons"][:1]))
    np.testing.assert_allclose(one["survival"], curves[:, 0], rtol=1e-12)


def test_columns_that_differ_are_all_named(cohort, run_folder, tmp_path):
    clinical = cohort.blocks["clinical"]
    table = clinical.table.rename(columns={"x1": "X1"}).assign(x2="text")
    changed = dataclasses.replace(clinical, table=table)
    other = dataclasses.replace(cohort, blocks={**cohort.blocks, "clinical": changed})
    with pytest.raises(SchemaError) as caught:
        predict(run_folder, other, out=tmp_path / "scores.csv")
    assert str(caught.value) == (
        "the cohort's columns differ from those of model cox (clinical+genomics): 1 column "
        "missing: clinical.x1; 1 column of another type: clinical.x2 (expected numeric); 1 column "
        "not known to the model: clinical.X1. Give the blocks the columns of the run."
    )
    assert not list(tmp_path.iterdir())


def test_a_block_that_the_new_cohort_lacks_is_named(cohort, run_folder, tmp_path):
    other = dataclasses.replace(cohort, blocks={"clinical": cohort.blocks["clinical"]})
    with pytest.raises(SchemaError) as caught:
        predict(run_folder, other, out=tmp_path / "scores.csv")
    assert str(caught.value) == (
        "the cohort has no block genomics, which model cox (clinical+genomics) was fitted on; its "
        "blocks: clinical."
    )


def test_patients_without_an_endpoint_are_scored(cohort, run_folder, tmp_path):
    unknown = dataclasses.replace(cohort, endpoints={})
    out = predict(run_folder, unknown, out=tmp_path / "scores.csv")
    assert pd.read_csv(out)["patient_id"].nunique() == 120


def test_a_folder_that_is_no_run_is_said(tmp_path, cohort):
    with pytest.raises(SchemaError) as caught:
        predict(tmp_path, cohort, out=tmp_path / "scores.csv")
    assert str(caught.value) == f"{tmp_path} holds no run.json: not the folder of a run."


def test_scores_have_a_known_format(run_folder, cohort):
    with pytest.raises(SchemaError) as caught:
        predict(run_folder, cohort, out="scores.xlsx")
    assert str(caught.value) == (
        "scores.xlsx: the name of the scores must end in .csv or .parquet."
    )
