"""The whole of explain-slides without slides: tables, page, names, refusals, and kills."""

import json
import re
import shutil

import bs4
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabular_trainers import cli, runs, tissue_job
from tabular_trainers.errors import SchemaError
from tabular_trainers.report import write_report
from tabular_trainers.schema import validate
from tabular_trainers.tables import read_written
from tests.patch_cohort import write_cohort

RUN = {"folds": 3, "n_trials": 1, "n_resamples": 10, "n_jobs": 1}
TABLES = {
    "patch_terms", "tissue_clusters", "tissue_examples", "tissue_matches", "tissue_scores",
    "tissue_selection", "tissue_stability", "tissue_steps", "tissue_thirds", "tissue_variance",
}  # fmt: skip


def make_run(folder, endpoint="os", models=("cox",), **settings):
    """Write a cohort with one to three slides a patient, and run on it."""
    write_cohort(folder, **settings)
    sets = ["clinical", "pathology", "clinical+pathology"]
    return runs.run(
        folder / "cohort.toml", endpoint=endpoint, models=list(models), feature_sets=sets,
        out=folder / "run", **RUN,
    )  # fmt: skip


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """Explain a run of a survival endpoint; later tests may explain it once more."""
    folder = tmp_path_factory.mktemp("tissue") / "cohort"
    run = make_run(folder)
    seen = []
    out = tissue_job.explain_slides(
        run, folder / "store", n_clusters=4, cases=3, n_jobs=1,
        progress=lambda *call: seen.append(call),
    )  # fmt: skip
    assert seen
    return folder, out


def text_of(path):
    page = bs4.BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    return re.sub(r"\s+", " ", page.get_text(" "))


def test_the_folder_is_whole_and_its_tables_keep_their_contracts(explained):
    folder, out = explained
    assert out == folder / "run" / "tissue"
    assert {path.name for path in out.iterdir()} == {
        *(f"{name}.parquet" for name in TABLES), "prevalence.parquet", "patches", "figures",
        "tissue.html", "tissue.json", "cluster_names.csv",
    }  # fmt: skip
    for name in TABLES:
        validate(read_written(out / f"{name}.parquet"), name)
    slides = pd.read_parquet(folder / "store" / "slides.parquet")
    assert {path.stem for path in (out / "patches").iterdir()} == set(slides["slide_id"])
    assert not (folder / "run" / "tissue.partial").exists()


def test_prevalences_are_the_shares_of_the_patches_and_are_marked_descriptive(explained):
    folder, out = explained
    shares = pd.read_parquet(out / "prevalence.parquet").set_index("patient_id")
    slides = pd.read_parquet(folder / "store" / "slides.parquet")
    for patient in shares.index[:6]:
        own = [
            read_written(out / "patches" / f"{slide}.parquet")["cluster"].value_counts(
                normalize=True
            )
            for slide in slides.loc[slides["patient_id"] == patient, "slide_id"]
        ]
        expected = sum(part.reindex(shares.columns, fill_value=0) for part in own) / len(own)
        np.testing.assert_allclose(shares.loc[patient], expected, atol=1e-12)
    facts = pq.read_schema(out / "prevalence.parquet").metadata
    assert facts[b"descriptive"] == b"true"
    assert len(facts[b"patients_sha256"]) == 64


def test_terms_of_patches_add_up_to_those_of_their_patients(explained):
    folder, out = explained
    checked = read_written(out / "patch_terms.parquet").set_index("patient_id")
    slides = pd.read_parquet(folder / "store" / "slides.parquet")
    for patient in checked.index[:6]:
        own = [
            read_written(out / "patches" / f"{slide}.parquet")["term"].mean()
            for slide in slides.loc[slides["patient_id"] == patient, "slide_id"]
        ]
        assert np.mean(own) == pytest.approx(checked.loc[patient, "patch_term"], abs=1e-9)


def test_the_page_and_the_report_say_what_the_tables_say(explained):
    folder, out = explained
    page, report = text_of(out / "tissue.html"), text_of(folder / "run" / "report.html")
    share = read_written(out / "tissue_variance.parquet").set_index("predictors")
    percent = f"{100 * share.loc['prevalence', 'r_squared']:.0f}%".replace("-", "−")
    for text in (page, report):
        assert f"Shares of 4 clusters explain {percent}" in text
        assert "Not cleared for release" in text
    assert "No pictures. They were not asked for." in page
    assert page.count("Observed:") == 3
    links = bs4.BeautifulSoup((folder / "run" / "report.html").read_text(), "html.parser")
    assert links.find("a", href="tissue/tissue.html")
    assert (folder / "run" / "figures" / "cluster_hazards.png").is_file()
    again = write_report(folder / "run")
    assert "Which tissue" in again.read_text(encoding="utf-8")


def test_names_are_spoken_and_nothing_is_computed_again(explained, monkeypatch):
    folder, out = explained
    before = {path.name: path.read_bytes() for path in out.glob("tissue_v*.parquet")}
    names = folder / "names.csv"
    names.write_text("cluster,name\nc01,stroma\nc02,stroma\nc03,lymphocytes\n")
    (out / "cluster_names.csv").write_text("cluster,name\nc01,fat\nc02,\n")
    monkeypatch.setattr(tissue_job, "compute_tables", None)
    with pytest.raises(SchemaError, match="is complete. Add --overwrite"):
        tissue_job.explain_slides(
            folder / "run", folder / "store", n_clusters=4, cases=3, names=names
        )
    tissue_job.explain_slides(
        folder / "run", folder / "store", n_clusters=4, cases=3, names=names, overwrite=True
    )
    assert {path.name: path.read_bytes() for path in out.glob("tissue_v*.parquet")} == before
    shares = pd.read_parquet(out / "prevalence.parquet").set_index("patient_id")
    found = pd.read_parquet(out / "composition.parquet").set_index("patient_id")
    assert list(found) == ["stroma", "lymphocytes", "c04"]
    np.testing.assert_allclose(found["stroma"], shares["c01"] + shares["c02"], atol=1e-15)
    rows = read_written(out / "tissue_clusters.parquet").set_index("cluster")
    assert rows["name"].to_dict() == {
        "c01": "stroma", "c02": "stroma", "c03": "lymphocytes", "c04": None,
    }  # fmt: skip
    assert "c03 lymphocytes" in text_of(out / "tissue.html")
    assert (out / "cluster_names_before.csv").read_text() == "cluster,name\nc01,fat\nc02,\n"
    assert (out / "cluster_names.csv").read_text().splitlines()[3:] == ["c03,lymphocytes", "c04,"]


@pytest.fixture
def command(capsys):
    """Return a function that runs the command here, and gives its exit code and stderr."""

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.app(["explain-slides", *map(str, arguments)], prog_name="tabular-trainers")
        return end.value.code or 0, capsys.readouterr().err

    return call


def test_all_that_is_wrong_is_told_at_once_before_anything_is_written(explained, command):
    folder, out = explained
    names = folder / "bad_names.csv"
    names.write_text("cluster,name\nc9,fat\n")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, err = command(
        folder / "run", "--store", folder / "store", "--clusters", 4, "--names", names,
        "--block", "patology", "--cases", "P001,P1",
    )  # fmt: skip
    assert code == 2
    lines = err.splitlines()
    assert lines[0] == "Error: 4 problems:"
    for number, words in enumerate(
        ("is complete. Add --overwrite", "'patology'", "'c9' is no cluster", "P1 is no"), 1
    ):
        assert words in lines[number], lines[number]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_model_that_found_nothing_has_nothing_to_explain(explained, command, tmp_path):
    folder, _ = explained
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run, ignore=shutil.ignore_patterns("tissue"))
    table = pq.read_table(run / "predictions.parquet")
    place = table.schema.get_field_index("risk")
    same = table.set_column(place, table.schema.field("risk"), pa.array(np.zeros(len(table))))
    pq.write_table(same.replace_schema_metadata(table.schema.metadata), run / "predictions.parquet")
    code, err = command(run, "--store", folder / "store")
    assert code == 2
    assert "pathology, cox: every patient of a fold got the same risk, so the model found" in err
    assert not list(run.glob("tissue*"))


def test_neither_run_nor_store(tmp_path, command):
    code, err = command(tmp_path, "--store", tmp_path)
    assert code == 2
    assert "not a store" in err
    assert "no run.json" in err
    assert list(tmp_path.iterdir()) == []


def test_what_stops_it_leaves_what_was_there_and_nothing_half(explained, command, monkeypatch):
    folder, out = explained
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tissue_job, "make_scene", stop)
    code, err = command(
        folder / "run", "--store", folder / "store", "--clusters", 4, "--cases", 3, "--overwrite"
    )
    assert code == 130
    assert "is still there. Run the same command again." in err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not (folder / "run" / "tissue.partial").exists()


def test_a_tissue_of_another_run_is_not_in_the_report(explained):
    folder, out = explained
    facts = json.loads((out / "tissue.json").read_text())
    kept = (out / "tissue.json").read_text()
    facts["run"]["config_hash"] = "0" * 64
    (out / "tissue.json").write_text(json.dumps(facts))
    assert "Which tissue" not in write_report(folder / "run").read_text(encoding="utf-8")
    (out / "tissue.json").write_text(kept)


@pytest.mark.slow  # over 10 s
def test_classification_speaks_of_odds_and_other_models_of_approximate_maps(tmp_path):
    run = make_run(tmp_path / "cohort", "grade", ("random_forest",))
    out = tissue_job.explain_slides(
        run, tmp_path / "cohort" / "store", n_clusters=3, cases="P003,P001", n_jobs=1
    )
    page = text_of(out / "tissue.html")
    assert "Odds ratio of clusters of patches" in (out / "tissue.html").read_text()
    assert "Approximate, as the risk of" in page
    assert page.index("Patient P001") > 0
    assert page.count("Observed: ") == 2
    occluded = read_written(out / "cluster_occlusion.parquet")
    patch = read_written(out / "patches" / "S003_0.parquet")
    own = occluded[occluded["patient_id"] == "P003"].set_index("cluster")["change"]
    np.testing.assert_array_equal(patch["term"], own.reindex(patch["cluster"]))
