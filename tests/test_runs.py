"""The main job: a whole folder whose tables keep their contracts, the same from any start."""

import dataclasses
import json

import pandas as pd
import pytest

from tabular_trainers import plots_labels, runs
from tabular_trainers.demo import synthetic_cohort
from tabular_trainers.errors import SchemaError
from tabular_trainers.parallel import use_cluster
from tabular_trainers.schema import schema_names, validate
from tabular_trainers.tables import read_written
from tests.dask_workers import ONE_THREAD, dask_workers

SETTINGS = {
    "feature_sets": ["clinical+genomics"],
    "models": ["cox", "rsf"],
    "folds": 2,
    "n_trials": 2,
    "n_resamples": 20,
    "n_jobs": 1,
}
OF_OTHER_COMMANDS = {"column_differences", "scores"} | {
    "comparison",  # of a batch
    "pool_cohorts",
    "pools",
    "cluster_matches",  # of runs with a block of patches
    "failures",  # of a store
    "patches",
    "regions",
    "slides",
    "gene_failures",  # of features of genes
    "gene_runs",
    "cluster_occlusion",  # of explain-slides
    "patch_terms",
    "tissue_clusters",
    "tissue_examples",
    "tissue_matches",
    "tissue_patches",
    "tissue_scores",
    "tissue_selection",
    "tissue_stability",
    "tissue_steps",
    "tissue_thirds",
    "tissue_variance",
}
PATIENT_FREE = "S0"  # every patient id of a synthetic cohort starts so


@pytest.fixture(scope="module")
def cohort():
    return synthetic_cohort(120, features={"clinical": 3, "genomics": 4}, n_sites=9, seed=6)


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    seen = []
    out = tmp_path_factory.mktemp("runs") / "run"
    runs.run(cohort, out=out, progress=lambda *call: seen.append(call), **SETTINGS)
    return out, seen


def test_the_folder_holds_every_table_model_and_the_report(finished):
    out, _ = finished
    tables = {path.stem for path in out.glob("*.parquet")}
    assert tables == set(schema_names()) - OF_OTHER_COMMANDS
    assert len(list(out.rglob("*.skops"))) == 2 * 2
    assert (out / "report.html").stat().st_size > 10_000
    assert list((out / "figures").glob("*.png"))
    assert {path.name for path in out.iterdir() if path.suffix != ".parquet"} == {
        "run.json",
        "report.html",
        "figures",
        "models",
    }
    assert [path.name for path in out.parent.iterdir()] == ["run"]


def test_every_table_keeps_its_contract_and_carries_its_provenance(finished):
    import pyarrow.parquet

    out, _ = finished
    facts = json.loads((out / "run.json").read_text())
    for path in out.glob("*.parquet"):
        validate(read_written(path), path.stem, str(path))
        metadata = pyarrow.parquet.read_schema(path).metadata
        assert metadata[b"config_hash"].decode() == facts["config_hash"]


def test_progress_ends_when_all_is_done(finished):
    _, seen = finished
    done, total, what = seen[-1]
    assert done == total == len(seen)
    assert what == "report"


@pytest.fixture
def without_drawing(monkeypatch):
    """Spare the drawing where only tables and models are compared."""
    monkeypatch.setattr("tabular_trainers.report.write_report", lambda folder: None)


@pytest.mark.usefixtures("without_drawing")
def test_number_of_processes_does_not_change_a_byte_of_the_tables(cohort, finished, tmp_path):
    out, _ = finished
    _assert_same_run(out, runs.run(cohort, out=tmp_path / "run", **{**SETTINGS, "n_jobs": 2}))


def _assert_same_run(out, again):
    for path in sorted(out.glob("*.parquet")):
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    first, second = (json.loads((folder / "run.json").read_text()) for folder in (out, again))
    first.pop("timings")
    second.pop("timings")
    assert first == second
    for path in sorted(out.rglob("*.skops")):
        assert path.read_bytes() == (again / path.relative_to(out)).read_bytes(), path.name


@pytest.mark.slow
@pytest.mark.usefixtures("without_drawing")
def test_dask_does_not_change_a_byte_and_a_worker_may_die(cohort, finished, tmp_path):
    out, seen = finished

    with dask_workers(2, *ONE_THREAD, "--no-nanny") as dask, use_cluster(dask.name):

        def kill_one(done, total, what):
            if done == len(seen) // 3:
                dask.workers[0].kill()

        again = runs.run(cohort, out=tmp_path / "run", progress=kill_one, **SETTINGS)
        assert dask.workers[0].poll() is not None
    _assert_same_run(out, again)


@pytest.mark.usefixtures("without_drawing")
def test_a_stopped_run_goes_on_where_it_stopped(cohort, finished, tmp_path, caplog):
    out, seen = finished
    stop_after = len(seen) // 2

    def interrupt(done, total, what):
        if done == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.run(cohort, out=tmp_path / "run", progress=interrupt, **SETTINGS)
    assert not (tmp_path / "run").exists()
    with caplog.at_level("INFO", logger="tabular_trainers"):
        again = runs.run(cohort, out=tmp_path / "run", **SETTINGS)
    assert (
        f"reused {stop_after} of {len(seen) - 1} results of the run that was stopped"
        in caplog.messages
    )
    for path in sorted(out.glob("*.parquet")):
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_another_seed_starts_clean(cohort, tmp_path, caplog):
    def interrupt(done, total, what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.run(cohort, out=tmp_path / "run", progress=interrupt, **SETTINGS)
    with caplog.at_level("INFO", logger="tabular_trainers"), pytest.raises(KeyboardInterrupt):
        runs.run(cohort, out=tmp_path / "run", progress=interrupt, seed=1, **SETTINGS)
    assert any(message.startswith("started clean") for message in caplog.messages)


def test_a_complete_run_is_not_replaced(cohort, finished):
    out, _ = finished
    with pytest.raises(SchemaError, match="holds a complete run"):
        runs.run(cohort, out=out, **SETTINGS)


def test_run_json_names_what_was_decided_before_scoring(finished):
    out, _ = finished
    facts = json.loads((out / "run.json").read_text())
    assert facts["primary_model"] == {"feature_set": "clinical+genomics", "model": "cox"}
    assert facts["primary"]["metric"] == "harrell_c"
    assert facts["verdict"]["reads"] in ("adds", "worse", "not shown")
    comparisons = pd.read_parquet(out / "comparisons.parquet")
    primary = comparisons[comparisons["primary"]]
    assert len(primary) == 1
    assert primary["model"].item() == "selected"
    assert facts["verdict"]["lower"] == pytest.approx(primary["lower"].item())


def test_no_patient_is_named_in_run_json(finished):
    out, _ = finished
    assert PATIENT_FREE not in (out / "run.json").read_text()


@pytest.mark.parametrize(
    ("kind", "model", "combiner", "scale"),
    [
        ("survival", "rsf", "Cox regression stratified by inner fold", "log hazard relative"),
        ("classification", "random_forest", "logistic regression with an intercept", "log odds"),
    ],
)
def test_a_run_with_late_fusion_says_what_it_did(tmp_path, kind, model, combiner, scale):
    """Patients without the block stay; the scale of contributions is that of the fusion."""
    cohort = synthetic_cohort(
        120, features={"clinical": 2, "genomics": 3}, kind=kind, missing_blocks=0.2, seed=6
    )
    late = "late:clinical+genomics"
    sets = {"feature_sets": ["clinical+genomics", late], "models": [model], "n_trials": 1}
    cohort = dataclasses.replace(cohort, missing_blocks="impute")
    out = runs.run(cohort, out=tmp_path / "run", **{**SETTINGS, **sets})
    html = (out / "report.html").read_text(encoding="utf-8")
    for words in ("clinical + genomics (late fusion)", "Late fusion: each block had", combiner):
        assert words in html
    assert "A patient without a block had 0, the mean, for its risk" in html
    assert late not in html
    facts = json.loads((out / "run.json").read_text())
    assert facts["primary"]["feature_set"] == facts["full"] == "clinical+genomics"
    assert plots_labels.scale_words(facts, late, model).startswith(scale)
    assert not plots_labels.scale_words(facts, "clinical", model).startswith(scale)
    blocks = read_written(out / "shap_blocks.parquet")
    assert "missing_blocks" in set(blocks.loc[blocks["feature_set"] == late, "block"])
    assert {path.name for path in (out / "models").iterdir()} == {
        "clinical",
        "clinical+genomics",
        "late-clinical+genomics",
    }
