"""Terms of patches: they add up to the risk of every held-out patient, or the store is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import held_patches, patch_composition, runs
from tabular_trainers.errors import DataError, SchemaError
from tabular_trainers.feature_sets import blocks_of
from tabular_trainers.models import MODELS
from tabular_trainers.patch_risk import patch_terms
from tabular_trainers.patch_risk_subject import choose_subject
from tabular_trainers.patch_store import open_patches
from tabular_trainers.reopened_run import reopen_run
from tabular_trainers.schema import validate
from tabular_trainers.tissue_inputs import default_clusters
from tests.patch_cohort import DIM, SETTINGS, score_only, write_cohort
from tests.patch_stores import write_store


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One whole run of several feature sets and models, with repeats and a final part."""
    folder = write_cohort(tmp_path_factory.mktemp("patch_risk") / "cohort")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tabular_trainers.report.write_report", lambda folder: None)
        runs.run(
            folder / "cohort.toml",
            endpoint="os",
            models=["rsf", "cox"],
            feature_sets=["pathology", "clinical+pathology"],
            n_repeats=2,
            holdout=0.3,
            n_resamples=10,
            n_jobs=1,
            out=folder / "run",
            **SETTINGS,
        )
    return folder


def check_terms(reopened, patches, found):
    """Hold the terms against the vectors, patient by patient, and against predictions.parquet."""
    subject, table = found.subject, validate(found.patients, "patch_terms").set_index("patient_id")
    said = reopened.risk(subject.feature_set, subject.model)
    assert (table["difference"].abs() <= table["bound"]).all()
    for patient, row in table.iterrows():
        slides = patches.slides.loc[patches.slides["patient_id"] == patient, "slide_id"]
        terms = [found.terms(slide) for slide in slides]
        mean = np.mean([t.mean() for t in terms])
        if subject.by == "patch":
            mean = np.concatenate(terms).mean()
        assert mean + row["constant"] == pytest.approx(row["risk"], abs=1e-9)
        assert row["n_patches"] == sum(map(len, terms))
    if reopened.plan.task == "survival":
        np.testing.assert_array_equal(table["risk"], said[table.index])
    else:
        np.testing.assert_allclose(1 / (1 + np.exp(-table["risk"])), said[table.index], atol=1e-9)
    return table


@pytest.mark.parametrize("feature_set", ["pathology", "clinical+pathology"])
def test_terms_add_up_to_the_risk_of_every_patient(ran, feature_set):
    """With missing clinical values, several slides a patient, repeats and a final part."""
    reopened, patches = reopen_run(ran / "run"), open_patches(ran / "store")
    subject = choose_subject(reopened, patches, feature_set=feature_set)
    assert (subject.block, subject.model, subject.how, subject.by) == (
        "pathology", "cox", "mean", "slide",
    )  # fmt: skip
    assert subject.exact
    assert subject.scale == "log hazard relative to the training mean"
    found = patch_terms(reopened, subject, patches)
    table = check_terms(reopened, patches, found)
    assert len(table) == reopened.facts["n_patients"] < 90
    assert table["patch_term"].std() > 0.1
    assert (table["constant"].nunique() > 3) == (feature_set != "pathology")
    # The same split as the run's own explanation, which maps the table's columns.
    blocks = pd.read_parquet(ran / "run" / "shap_blocks.parquet")
    own = blocks["feature_set"].eq(feature_set) & blocks["model"].eq("cox")
    shap = blocks[own & blocks["block"].eq("pathology")].set_index("patient_id")["contribution"]
    np.testing.assert_allclose(table["patch_term"], shap[table.index], atol=1e-9)


def test_terms_are_linear_in_the_vectors_of_the_patches(ran):
    reopened, patches = reopen_run(ran / "run"), open_patches(ran / "store")
    found = patch_terms(reopened, choose_subject(reopened, patches), patches)
    slide = patches.slides["slide_id"].iloc[3]
    patient = patches.slides["patient_id"].iloc[3]
    scorer = found.scorers[found.fold_of[patient]]
    by_hand = [
        sum(float(x) * w for x, w in zip(vector, scorer.slopes, strict=True)) + scorer.offset
        for vector in patches.vectors(slide)
    ]
    np.testing.assert_allclose(found.terms(slide), by_hand, rtol=1e-12)
    sizes = np.concatenate(
        [np.abs(found.terms(s)) for s, p in
         patches.slides[["slide_id", "patient_id"]].itertuples(index=False) if p in found.fold_of]
    )  # fmt: skip
    assert found.limit == pytest.approx(np.quantile(sizes, 0.99), rel=0.02)  # of long slides a part


@pytest.mark.parametrize(
    "changes",
    [
        {"by": "patch", "dtype": "float16", "reduce": "reduce = { pca = 3 }"},
        {"missing": "impute"},
    ],
)
def test_terms_add_up_for_every_kind_of_block_and_fusion(tmp_path, changes):
    folder = write_cohort(tmp_path / "cohort", **changes)
    sets = ["clinical+pathology", "late:clinical+pathology"]
    reopened, patches = score_only(folder, feature_sets=sets)
    for feature_set in sets:
        subject = choose_subject(reopened, patches, feature_set=feature_set)
        assert subject.by == changes.get("by", "slide")
        table = check_terms(reopened, patches, patch_terms(reopened, subject, patches))
        assert list(table.index) == list(patches.patients)
        assert table["patch_term"].std() > 0.1


@pytest.mark.parametrize("most", [None, 900])
def test_terms_of_clusters_made_in_the_fold(tmp_path, monkeypatch, most):
    """Also where the shares were counted on some of the patches, as of a store beyond memory."""
    if most is not None:
        monkeypatch.setattr(held_patches, "HELD_BYTES", most * DIM * 2)
        for module, name in ((held_patches, "_STORES"), (patch_composition, "_SHARES")):
            monkeypatch.setattr(module, name, {})
    folder = write_cohort(tmp_path / "cohort", dtype="float16", missing="impute")
    block = '[blocks.tissue]\ntable = "store"\nreduce = { clusters = 4 }\n'
    with (folder / "cohort.toml").open("a") as file:
        file.write(block)
    sets = ["clinical+tissue", "late:clinical+tissue"]
    reopened, patches = score_only(folder, feature_sets=[*sets, "pathology"])
    assert choose_subject(reopened, patches).block == "pathology"
    assert choose_subject(reopened, patches, "tissue").feature_set == "clinical+tissue"
    slides = {s: (p, 2 - patches.vectors(s)) for s, p in
              patches.slides[["slide_id", "patient_id"]].itertuples(index=False)}  # fmt: skip
    other = open_patches(write_store(tmp_path / "other", slides))
    with pytest.raises(SchemaError, match="Give the store that block tissue names in the cohort"):
        patch_terms(reopened, choose_subject(reopened, other, "tissue"), other)
    for feature_set in sets:
        subject = choose_subject(reopened, patches, feature_set=feature_set)
        assert (subject.block, subject.how, subject.exact) == ("tissue", "clusters", True)
        found = patch_terms(reopened, subject, patches)
        table = found.patients
        assert (table["difference"].abs() <= table["bound"]).all()
        assert table["difference"].abs().max() < 1e-9
        assert table["patch_term"].std() > 0.01
        assert table["n_patches"].sum() == patches.n_patches if most is None else most
        for slide in patches.slides["slide_id"][:4]:
            terms = found.terms(slide)
            assert len(terms) == len(patches.vectors(slide))
            assert len(np.unique(terms)) <= 4


@pytest.mark.parametrize("endpoint", ["os", "grade"])
def test_every_linear_model_has_terms_that_add_up(tmp_path, endpoint):
    """Each row of MODELS that names its coefficients; log odds where the risk is a probability."""
    task = {"os": "survival", "grade": "classification"}[endpoint]
    linear = [name for name, row in MODELS[task].items() if row.coefficients is not None]
    reopened, patches = score_only(write_cohort(tmp_path / "cohort"), endpoint, linear)
    for name in linear:
        subject = choose_subject(reopened, patches, model=name)
        assert (subject.scale == "log odds") == (endpoint == "grade")
        seen = []
        given = {"progress": lambda *call, seen=seen: seen.append(call)}
        check_terms(reopened, patches, patch_terms(reopened, subject, patches, **given))
        assert [call[:2] for call in seen] == [(1, 3), (2, 3), (3, 3)]
    if endpoint == "grade":
        assert reopened.survival_of("P001", "pathology", linear[0]) is None


def test_a_store_with_other_patches_is_refused(ran, tmp_path):
    """One patch moved by a little is enough; also a patient who has none in the store."""
    reopened, patches = reopen_run(ran / "run"), open_patches(ran / "store")
    subject = choose_subject(reopened, patches)
    patient = reopened.plan.analysis.patient_id[-1]
    slides = {
        row.slide_id: (row.patient_id, patches.vectors(row.slide_id).copy())
        for row in patches.slides.itertuples()
    }
    slide = next(s for s, (p, _) in slides.items() if p == patient)
    slides[slide][1][0] += 0.05
    other = open_patches(write_store(tmp_path / "moved", slides))
    with pytest.raises(SchemaError, match=rf"1 patient of {len(reopened.plan.analysis.y)} do not"):
        patch_terms(reopened, subject, other)
    fewer = {s: own for s, own in slides.items() if own[0] != patient}
    other = open_patches(write_store(tmp_path / "fewer", fewer))
    with pytest.raises(SchemaError, match=f"no patch of 1 patient .*: {patient}. Give the store"):
        patch_terms(reopened, subject, other)


def test_predictions_of_other_models_are_refused(ran):
    reopened, patches = reopen_run(ran / "run"), open_patches(ran / "store")
    moved = reopened.predictions.assign(risk=reopened.predictions["risk"] + 0.01)
    other = dataclasses.replace(reopened, predictions=moved)
    with pytest.raises(SchemaError, match="another risk than predictions.parquet has"):
        patch_terms(other, choose_subject(other, patches), patches)


def test_the_subject_is_what_the_store_was_pooled_to(ran, tmp_path):
    reopened, patches = reopen_run(ran / "run"), open_patches(ran / "store")
    subject = choose_subject(reopened, patches)
    assert subject.feature_set == "pathology"  # alone, where it was run
    assert subject.columns == tuple(f"pathology.e{j:03d}" for j in range(DIM))
    assert blocks_of(reopened.facts["full"]) == ["clinical", "pathology"]
    for given, words in [
        ({"feature_set": "clinical"}, "unknown feature set with pathology 'clinical'; known: pat"),
        ({"model": "xgb"}, "unknown model of the run 'xgb'; known: rsf, cox"),
        ({"block": "pathologie"}, "unknown block of the run 'pathologie'; known: clinical, path"),
    ]:
        with pytest.raises(DataError, match=words):
            choose_subject(reopened, patches, **given)
    with pytest.raises(SchemaError, match="clinical: its table does not say that it was pooled"):
        choose_subject(reopened, patches, block="clinical")
    slides = {"A": ("P000", np.ones((2, DIM), "float32"))}
    other = open_patches(write_store(tmp_path / "other", slides, encoder_id="other-1"))
    with pytest.raises(SchemaError, match="its encoder is drawn-1, that of the store other-1"):
        choose_subject(reopened, other)
    names = [f"n{j}" for j in range(DIM)]
    other = open_patches(write_store(tmp_path / "names", slides, feature_names=json.dumps(names)))
    with pytest.raises(SchemaError, match="none of its columns is a feature of the store"):
        choose_subject(reopened, other)


def test_of_several_blocks_of_a_store_one_is_named(tmp_path):
    folder = write_cohort(tmp_path / "cohort")
    with (folder / "cohort.toml").open("a") as file:
        file.write('[blocks.again]\ntable = "pathology.parquet"\ncolumns = ["e000"]\n')
    reopened, patches = score_only(folder, feature_sets=["pathology", "again"])
    with pytest.raises(SchemaError, match="blocks pathology, again may come .* with --block"):
        choose_subject(reopened, patches)
    assert choose_subject(reopened, patches, feature_set="again").columns == ("again.e000",)


def test_as_many_clusters_as_the_explained_block_has(tmp_path):
    folder = write_cohort(tmp_path / "cohort")
    with (folder / "cohort.toml").open("a") as file:
        file.write('[blocks.tissue]\ntable = "store"\nreduce = { clusters = 7 }\n')
    reopened, patches = score_only(folder, feature_sets=["pathology", "tissue"])
    blocks = {name: choose_subject(reopened, patches, name) for name in ("pathology", "tissue")}
    found = {name: default_clusters(reopened, subject, 450) for name, subject in blocks.items()}
    assert found == {"pathology": 30, "tissue": 7}


def test_a_forest_has_no_exact_terms_and_says_so(ran):
    reopened, patches = reopen_run(ran / "run"), open_patches(ran / "store")
    subject = choose_subject(reopened, patches, model="rsf")
    assert not subject.exact
    with pytest.raises(DataError, match="as the risk of rsf is not a sum over columns"):
        patch_terms(reopened, subject, patches)


def test_a_run_is_opened_where_its_cohort_went(ran, tmp_path):
    facts = json.loads((ran / "run" / "run.json").read_text())
    assert facts["cohort_file"] == str(ran / "cohort.toml")
    assert facts["data"] is None
    moved = tmp_path / "moved"
    shutil.copytree(ran, moved, ignore=shutil.ignore_patterns("store"))
    shutil.move(moved / "cohort.toml", moved / "other.toml")
    (moved / "tables").mkdir()
    for name in ("clinical.csv", "pathology.parquet"):
        shutil.move(moved / name, moved / "tables" / name)
    reopened = reopen_run(moved / "run", moved / "other.toml", moved / "tables")
    first = reopen_run(ran / "run")
    pd.testing.assert_frame_equal(reopened.plan.analysis.X, first.plan.analysis.X)
    np.testing.assert_array_equal(reopened.plan.analysis.y, first.plan.analysis.y)
    assert reopened.plan.fold_seed(1, 2) == first.plan.fold_seed(1, 2)


def test_a_run_whose_cohort_changed_is_refused(ran, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(ran, changed, ignore=shutil.ignore_patterns("store"))
    path = changed / "run" / "run.json"
    facts = json.loads(path.read_text())
    with (changed / "clinical.csv").open("a") as file:
        file.write("P999,60,f,,3,1,1\n")
    with pytest.raises(SchemaError, match="sha256 differs. Give the cohort of this run"):
        reopen_run(changed / "run", changed / "cohort.toml")
    path.write_text(json.dumps({**facts, "cohort_file": str(tmp_path / "gone.toml")}))
    with pytest.raises(SchemaError, match="its cohort is not at .*gone.toml any more"):
        reopen_run(changed / "run")
    path.write_text(json.dumps({**facts, "cohort_file": None}))
    with pytest.raises(SchemaError, match="names no cohort.toml: .* in memory, .* Give it"):
        reopen_run(changed / "run")
    path.write_text(json.dumps({**facts, "n_patients": facts["n_patients"] + 1}))
    with pytest.raises(SchemaError, match="was changed after it was read"):
        reopen_run(changed / "run")


def test_the_curve_of_a_patient_is_that_of_its_own_fold(ran):
    reopened = reopen_run(ran / "run")
    patient = reopened.plan.analysis.patient_id[5]
    curve = reopened.survival_of(patient, "pathology", "cox")
    whole = pd.read_parquet(ran / "run" / "survival.parquet")
    own = whole.query(
        "patient_id == @patient and repeat == 0 and feature_set == 'pathology' and model == 'cox'"
    )
    np.testing.assert_array_equal(curve, own[["time", "survival"]])
    assert list(curve["time"]) == list(reopened.plan.times)
