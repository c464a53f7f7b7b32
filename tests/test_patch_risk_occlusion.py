"""Leaving out a cluster: the same as pooling the other patches by hand and asking the model."""

import numpy as np
import pytest

from tabular_trainers.errors import DataError, SchemaError
from tabular_trainers.explanation import fit_again
from tabular_trainers.feature_sets import is_late
from tabular_trainers.models import find_model
from tabular_trainers.patch_prevalence import prevalence
from tabular_trainers.patch_risk import patch_terms
from tabular_trainers.patch_risk_occlusion import occlusion
from tabular_trainers.patch_risk_subject import choose_subject
from tabular_trainers.patch_store import open_patches
from tabular_trainers.schema import validate
from tests.patch_cohort import STATISTICS, score_only, write_cohort
from tests.patch_stores import write_store

NAMES = ["c01", "c02", "c03", "c04"]


def draw_labels(patches):
    """Three clusters at random; one slide and one patient have a single one, c04 nobody."""
    rng = np.random.default_rng(0)
    labels = {}
    for row in patches.slides.itertuples():
        labels[row.slide_id] = rng.integers(0, 3, row.n_patches).astype("int16")
        if row.slide_id == "S001_1" or row.patient_id == "P000":
            labels[row.slide_id][:] = 1
    return labels


def by_hand(reopened, subject, patches, labels, patient, cluster):
    """Fit, pool, predict: with all patches and without a cluster."""
    plan = reopened.plan
    fold, parameters = next(
        (fold, parameters)
        for fold, parameters in reopened.chosen(subject.feature_set, subject.model)
        if patient in plan.analysis.patient_id[plan.positions(0, fold)[1]]
    )
    pipeline = fit_again(plan, subject.feature_set, subject.model, 0, fold, parameters)
    spec = find_model(subject.model, plan.task, is_late(subject.feature_set))
    row = plan.analysis.X.loc[[patient], list(plan.analysis.feature_sets[subject.feature_set])]
    bags = [
        patches.vectors(slide).astype("float64")[labels[slide] != cluster]
        for slide in patches.slides.loc[patches.slides["patient_id"] == patient, "slide_id"]
    ]
    bags = [bag for bag in bags if len(bag)]
    if not bags:
        return np.nan
    units = bags if subject.by == "slide" else [np.concatenate(bags)]
    statistics = STATISTICS[subject.how].values()
    pooled = np.mean([np.concatenate([s(unit) for s in statistics]) for unit in units], axis=0)
    other = row.copy()
    other[list(subject.columns)] = pooled
    ask = spec.explained or spec.risk
    with_all, without = (ask(pipeline[-1], pipeline[0].transform(X))[0] for X in (row, other))
    return with_all - without


@pytest.mark.parametrize(
    ("changes", "endpoint", "model"),
    [
        ({"n": 150}, "os", "rsf"),
        ({"by": "patch", "how": "mean+std", "dtype": "float16"}, "os", "cox"),
        ({"how": "max"}, "grade", "logistic"),
    ],
)
def test_occlusion_is_what_pooling_by_hand_gives(tmp_path, changes, endpoint, model):
    folder = write_cohort(tmp_path / "cohort", **{"n": 60, **changes})
    sets = ["clinical+pathology"]
    reopened, patches = score_only(folder, endpoint, [model], sets)
    subject = choose_subject(reopened, patches, feature_set=sets[0])
    assert not subject.exact
    labels = draw_labels(patches)
    found = occlusion(reopened, subject, patches, labels, NAMES)
    table = validate(found, "cluster_occlusion").set_index(["patient_id", "cluster"])
    assert len(table) == 4 * len(patches.patients)
    for patient in ("P000", "P001", "P002", "P017"):
        for cluster, name in enumerate(NAMES):
            row = table.loc[(patient, name)]
            expected = by_hand(reopened, subject, patches, labels, patient, cluster)
            assert row["change"] == pytest.approx(expected, abs=1e-9, nan_ok=True), (patient, name)
    assert table.groupby("patient_id")["share"].sum().to_numpy() == pytest.approx(1)
    assert np.isnan(table.loc[("P000", "c02"), "change"])  # it has no others
    assert (table.xs("c04", level="cluster")["change"] == 0).all()  # nobody has it
    assert (table.xs("c01", level="cluster")["change"] != 0).mean() > 0.5


@pytest.mark.slow  # over 10 s
def test_clusters_of_the_fold_lose_the_patches_of_another_clustering(tmp_path):
    """The block's shares are counted again among the other patches, by the fold's own centres."""
    folder = write_cohort(tmp_path / "cohort", n=150)
    with (folder / "cohort.toml").open("a") as file:
        file.write('[blocks.tissue]\ntable = "store"\nreduce = { clusters = 5 }\n')
    late = "late:clinical+tissue"
    reopened, patches = score_only(folder, "os", ["rsf"], ["tissue", late])
    subject = choose_subject(reopened, patches, "tissue")
    labels = draw_labels(patches)
    found = occlusion(reopened, subject, patches, labels, NAMES)
    changes = found.set_index(["patient_id", "cluster"])["change"]
    plan = reopened.plan
    fold, parameters = reopened.chosen("tissue", "rsf")[1]
    pipeline = fit_again(plan, "tissue", "rsf", 0, fold, parameters)
    spec = find_model("rsf", plan.task)
    ids = plan.analysis.patient_id[plan.positions(0, fold)[1]]
    clusters = pipeline[0].clusters("tissue")
    kept = {
        row.slide_id: (row.patient_id, patches.vectors(row.slide_id)[labels[row.slide_id] != 2])
        for row in patches.slides.itertuples()
    }
    others = open_patches(write_store(tmp_path / "others", kept))
    shares = prevalence(others, clusters, patients=ids)
    X = plan.analysis.X.loc[ids, ["tissue.patches"]]
    Z = pipeline[0].given_shares().transform(shares.add_prefix("tissue."))
    expected = spec.risk(pipeline[-1], pipeline[0].transform(X)) - spec.risk(pipeline[-1], Z)
    ours = changes.xs("c03", level="cluster")[ids]
    np.testing.assert_allclose(ours, expected, atol=1e-9)
    assert ours.std() > 0
    subject = choose_subject(reopened, patches, feature_set=late)
    with pytest.raises(DataError, match="clusters cannot be left out of a late fusion with block"):
        occlusion(reopened, subject, patches, labels, NAMES)


def test_in_a_linear_model_occlusion_follows_from_the_terms(tmp_path):
    """Risk minus the mean of the terms that are left: the exact terms say the same."""
    reopened, patches = score_only(write_cohort(tmp_path / "cohort", n=60))
    subject = choose_subject(reopened, patches)
    labels, terms = draw_labels(patches), patch_terms(reopened, subject, patches)
    table = occlusion(reopened, subject, patches, labels, NAMES, n_jobs=2)
    changes = table.set_index(["patient_id", "cluster"])["change"]
    for patient in ("P001", "P005"):
        slides = patches.slides.loc[patches.slides["patient_id"] == patient, "slide_id"]
        left = [terms.terms(slide)[labels[slide] != 1] for slide in slides]
        left = np.mean([own.mean() for own in left if len(own)])
        whole = np.mean([terms.terms(slide).mean() for slide in slides])
        assert changes[patient, "c02"] == pytest.approx(whole - left, abs=1e-9)


def test_quantiles_and_other_stores_are_refused(tmp_path):
    folder = write_cohort(tmp_path / "cohort", n=60, how="quantiles")
    reopened, patches = score_only(folder)
    subject = choose_subject(reopened, patches)
    assert subject.approximate == "the block was pooled by quantiles, not by mean"
    with pytest.raises(DataError, match="pooled by quantiles: to leave out a cluster, every"):
        occlusion(reopened, subject, patches, draw_labels(patches), NAMES)
    folder = write_cohort(tmp_path / "other", n=60, how="max")
    reopened, patches = score_only(folder)
    subject = choose_subject(reopened, patches)
    slides = {s: (p, patches.vectors(s) + 0.1) for s, p in
              patches.slides[["slide_id", "patient_id"]].itertuples(index=False)}  # fmt: skip
    moved = open_patches(write_store(tmp_path / "moved", slides))
    with pytest.raises(SchemaError, match="the patches of 60 patients of 60 do not add up"):
        occlusion(reopened, subject, moved, draw_labels(moved), NAMES)
