"""Patches as columns: clusters are a step of the fold; held-out patients reach none of it."""

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.cluster import KMeans

from tabular_trainers import SchemaError, held_patches, load_cohort, make_folds, patch_composition
from tabular_trainers.cohort_review import check
from tabular_trainers.errors import DataError
from tabular_trainers.evaluation import evaluate_plan, fit_fold
from tabular_trainers.evaluation_plan import make_plan
from tabular_trainers.explanation import explain
from tabular_trainers.final_models import predict
from tabular_trainers.fold_clusters import match_folds, reference_clusters
from tabular_trainers.models.storage import load_model, save_model
from tabular_trainers.patch_bags import bag_of
from tabular_trainers.patch_clusters import fit_clusters
from tabular_trainers.patch_prevalence import prevalence
from tabular_trainers.patch_sample import sample_patches
from tabular_trainers.patch_store import open_patches
from tabular_trainers.preprocess import Preprocessor
from tabular_trainers.runs import run
from tabular_trainers.schema import validate
from tabular_trainers.validation import validate_on
from tests.patch_stores import tissue_bags, write_store

TOML = """
title = "Drawn tissue"
time_zero = "diagnosis"
[clinical]
table = "clinical.csv"
[endpoints.os]
kind = "survival"
time = "time"
unit = "months"
event = "event"
event_values = [1]
[endpoints.relapse]
kind = "classification"
label = "relapse"
positive = 1
[blocks.clinical]
columns = ["age"]
[blocks.tissue]
table = "store"
reduce = { clusters = 4 }
"""
N = 60


def draw(folder, seed=0, n_slides=2, **facts):
    """Write a cohort whose risk is the share of one kind of tissue."""
    bags, kinds = tissue_bags(N, n_slides, 30, seed=seed)
    folder.mkdir(exist_ok=True)
    write_store(folder / "store", bags, **facts)
    rng = np.random.default_rng(seed)
    share = pd.Series({slide: (kind == 0).mean() for slide, kind in kinds.items()})
    share = share.groupby([slide.partition("-")[0] for slide in share.index]).mean()
    time = rng.exponential(20 * np.exp(-3 * (share - share.mean())))
    table = pd.DataFrame({"patient_id": share.index, "age": rng.normal(60, 9, N).round()})
    table["time"], table["event"] = np.minimum(time, 60).round(2) + 0.01, time < 60
    table["relapse"] = (share > share.median()).to_numpy()
    flags = ["event", "relapse"]
    table.astype(dict.fromkeys(flags, int)).to_csv(folder / "clinical.csv", index=False)
    (folder / "cohort.toml").write_text(TOML)
    return folder / "cohort.toml"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("drawn") / "cohort")


@pytest.fixture(scope="module")
def cohort(config):
    return load_cohort(config)


@pytest.fixture
def fresh(monkeypatch):
    """Keep nothing of what other tests computed."""
    monkeypatch.setattr(patch_composition, "_CLUSTERS", {})
    monkeypatch.setattr(patch_composition, "_SHARES", {})
    monkeypatch.setattr(held_patches, "_STORES", {})


def test_a_store_is_a_block_of_one_column_that_says_where_the_patches_are(cohort, config):
    block = cohort.blocks["tissue"]
    assert list(block.table) == ["patches"]
    assert block.table["patches"]["P007"] == bag_of(config.parent / "store", "P007")
    assert (block.n_columns, block.n_rows, block.encoder_id) == (4, 2 * N, "drawn-1")
    assert block.pretrained_on == ()
    assert any("patches of 120 slides of 60 patients" in note for note in cohort.notes)
    assert "tissue (4)" in repr(cohort)
    analysis = cohort.analysis_set("os")
    assert analysis.reduce == {"tissue": {"clusters": 4}}
    assert analysis.categorical == ()


def test_columns_become_the_shares_of_an_independent_k_means(cohort):
    X = cohort.analysis_set("os").X
    train, test = X.iloc[:40], X.iloc[40:]
    learned = Preprocessor(reduce={"tissue": {"clusters": 4}}, scale=False).fit(train)
    assert list(learned.get_feature_names_out()) == ["clinical.age", *_names(4)]
    store = open_patches(cohort.blocks["tissue"].table["patches"].iloc[0].split('"')[1])
    slides = store.slides.set_index("slide_id")["patient_id"]
    vectors = {slide: store.vectors(slide).astype(float) for slide in slides.index}
    known = np.vstack([v for slide, v in vectors.items() if slides[slide] in train.index])

    def place(vectors):
        z = (vectors - known.mean(axis=0)) / known.std(axis=0)
        return z / np.linalg.norm(z, axis=1, keepdims=True)

    found = KMeans(4, n_init=20, random_state=7).fit(place(known))
    order = np.argsort(-np.bincount(found.labels_))
    rank = np.argsort(order)
    for part in (train, test):
        ours = learned.transform(part)[:, 1:]
        np.testing.assert_allclose(ours.sum(axis=1), 1, rtol=0, atol=1e-12)
        for i, patient in enumerate(part.index):
            of_slides = [
                np.bincount(rank[found.predict(place(vectors[s]))], minlength=4)
                for s in slides.index[slides == patient]
            ]
            share = np.mean([counts / counts.sum() for counts in of_slides], axis=0)
            np.testing.assert_allclose(ours[i], share, rtol=0, atol=1e-12)


def test_standardised_shares_split_exactly_into_terms(cohort):
    X = cohort.analysis_set("os").X
    learned = Preprocessor(reduce={"tissue": {"clusters": 4}}).fit(X.iloc[:40])
    matrix = learned.transform(X.iloc[:40])
    np.testing.assert_allclose(matrix.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(matrix.std(axis=0), 1, atol=1e-12)
    coef = np.array([0.3, -1.0, 2.0, 0.0, 0.5])
    terms, base = learned.linear_terms(X, coef)
    assert list(terms) == ["clinical.age", *_names(4)]
    np.testing.assert_allclose(terms.sum(axis=1) + base, learned.transform(X) @ coef, atol=1e-12)
    assert list(learned.feature_names_in_) == ["clinical.age", "tissue.patches"]


@pytest.mark.parametrize("keep_missing", [False, True])
def test_a_patient_without_patches_gets_the_mean_shares_or_none(cohort, keep_missing):
    X = cohort.analysis_set("os").X.copy()
    X.loc["P003", "tissue.patches"] = None
    learned = Preprocessor(
        reduce={"tissue": {"clusters": 4}}, scale=False, keep_missing=keep_missing
    )
    matrix = pd.DataFrame(learned.fit_transform(X), X.index).iloc[:, 1:]
    if keep_missing:
        assert matrix.loc["P003"].isna().all()
        assert matrix.drop("P003").notna().all(axis=None)
    else:
        others = matrix.drop("P003").mean()
        np.testing.assert_allclose(matrix.loc["P003"], others, rtol=1e-12)


def test_feature_sets_and_models_of_a_fold_share_one_clustering(cohort, fresh, monkeypatch):
    made, fit = [], patch_composition.fit_clusters

    def counted(sample, k, seed):
        made.append(len(sample.vectors))
        return fit(sample, k, seed)

    monkeypatch.setattr(patch_composition, "fit_clusters", counted)
    plan = make_plan(cohort, "os", ["tissue", "clinical+tissue"], ["cox", "rsf"], 3, n_trials=2)
    for feature_set in ("tissue", "clinical+tissue"):
        for model in ("cox", "rsf"):
            fit_fold(plan, feature_set, model, 0, 0)
    assert len(made) == 4  # the training part, and three inner ones
    assert made[-1] == max(made) == 40 * 2 * 30


def test_held_out_patients_reach_nothing_that_is_learned(cohort, config, tmp_path, fresh):
    """Garbage in place of half of the test patients' vectors changes these patients only."""
    folds = make_folds(cohort.analysis_set("os").y, cohort.patients, None, 3)
    held_out = folds[(folds["fold"] == 0) & (folds["part"] == "test")]["patient_id"].tolist()
    poisoned, others = held_out[::2], held_out[1::2]
    shutil.copytree(config.parent, tmp_path / "cohort")
    bags, _ = tissue_bags(N, 2, 30)
    rng = np.random.default_rng(5)
    for slide, (patient, vectors) in bags.items():
        if patient in poisoned:
            vectors = rng.normal(0, 1, vectors.shape) * rng.choice([1e-3, 1e15])
            bags[slide] = patient, vectors.astype("float32")
    write_store(tmp_path / "cohort" / "store", bags)
    bad = load_cohort(tmp_path / "cohort" / "cohort.toml")
    risks, changed = {}, 0
    for model in ("cox", "rsf", "xgb"):
        tables, learned = [], []
        for each in (cohort, bad):
            plan = make_plan(each, "os", ["clinical+tissue"], [model], folds, n_trials=2)
            tables.append(fit_fold(plan, "clinical+tissue", model, 0, 0))
            X = plan.analysis.X.iloc[plan.positions(0, 0)[0]]
            ways, seed = plan.analysis.reduce, plan.fold_seed(0, 0)
            learned.append(Preprocessor(reduce=ways, random_state=seed).fit(X))
            risks[model, len(tables)] = learned[-1].transform(X)
        np.testing.assert_array_equal(risks[model, 1], risks[model, 2])
        for part in ("centres", "mean", "spread", "sizes"):
            ours, theirs = (each.bags_["tissue.patches"][part] for each in learned)
            np.testing.assert_array_equal(ours, theirs)
        pd.testing.assert_frame_equal(tables[0]["trials"], tables[1]["trials"])
        ours, theirs = (t["predictions"].set_index("patient_id")["risk"] for t in tables)
        pd.testing.assert_series_equal(ours[others], theirs[others])
        changed += (ours[poisoned] != theirs[poisoned]).sum()
    assert changed  # the poison is there


@pytest.mark.parametrize("late", ["", "late:"])
def test_a_saved_model_scores_patients_of_another_store(cohort, tmp_path, late):
    from tabular_trainers import final_models
    from tabular_trainers.saved_models import load_saved

    feature_set = f"{late}clinical+tissue"
    plan = make_plan(cohort, "os", [feature_set], ["cox"], 3, n_trials=2)
    final_models.fit_final_models(plan, tmp_path / "models", {})
    saved = load_saved(tmp_path / "models", feature_set, "cox")
    assert saved.metadata["columns"] == {"clinical.age": "numeric", "tissue.patches": "patches"}
    own, _ = saved.features(cohort)
    other = load_cohort(draw(tmp_path / "other", seed=0))
    theirs, extra = saved.features(other)
    assert extra == []
    np.testing.assert_array_equal(saved.risk(own), saved.risk(theirs))  # the same patches elsewhere
    unlike = load_cohort(draw(tmp_path / "unlike", encoder_id="drawn-2"))
    with pytest.raises(SchemaError, match="made by encoder drawn-2; these clusters are of vectors"):
        saved.risk(saved.features(unlike)[0])


def test_a_saved_pipeline_gives_the_same_numbers(cohort, tmp_path):
    from tabular_trainers.models import make_model

    analysis = cohort.analysis_set("relapse")
    model = make_model("logistic", "classification", reduce=analysis.reduce, parameters={})
    model.fit(analysis.X, analysis.y)
    save_model(model, tmp_path / "model.skops")
    again, _ = load_model(tmp_path / "model.skops")
    np.testing.assert_array_equal(
        again[-1].predict(again[0].transform(analysis.X)),
        model[-1].predict(model[0].transform(analysis.X)),
    )


def test_of_a_large_store_patches_are_drawn_evenly_within_a_bound(cohort, fresh, monkeypatch):
    folder = cohort.blocks["tissue"].table["patches"].iloc[0].split('"')[1]
    whole = open_patches(folder)
    monkeypatch.setattr(held_patches, "HELD_BYTES", whole.dim * 4 * N * 20)  # 20 of 60 a patient
    held = held_patches.held_patches(folder)
    assert set(held.slides["n_patches"]) == {10}
    assert held.note().startswith("1,200 of 3,600 patches are used, at most 20 of each patient")
    assert held_patches.hold(whole).n_patches == 1200
    clusters = patch_composition.clusters_of_bags(cohort.blocks["tissue"].table["patches"], 4)
    assert clusters.sizes.sum() == 1200
    named = patch_composition.reference_of_bags(cohort.blocks["tissue"].table["patches"], 4)
    every = fit_clusters(sample_patches(whole), 4)  # as explain-slides makes them
    np.testing.assert_array_equal(named.centres, every.centres)
    assert named.sizes.sum() == 3600
    bags = cohort.blocks["tissue"].table["patches"]
    few = patch_composition.shares_of_bags(bags, clusters)
    every = prevalence(whole, clusters).loc[bags.index].to_numpy()
    assert 0 < np.abs(few - every).mean() < 0.06  # 20 patches: standard error below 0.11
    own = held.vectors("P005-2")
    assert (own[:, None] == whole.vectors("P005-2")).all(axis=2).any(axis=1).all()


def test_each_slide_of_a_patient_counts_the_same(tmp_path, fresh):
    bags, _ = tissue_bags(6, 2, 30)
    bags["P002-2"] = "P002", bags["P002-2"][1][:3]
    store = write_store(tmp_path / "store", bags)
    places = [bag_of(store, f"P{i:03d}") for i in range(1, 7)]
    clusters = patch_composition.clusters_of_bags(places, 3)
    one, other = (
        np.bincount(clusters.assign(bags[slide][1]), minlength=3) / n
        for slide, n in (("P002-1", 30), ("P002-2", 3))
    )
    assert (one != other).any()
    found = patch_composition.shares_of_bags(places, clusters)[1]
    np.testing.assert_allclose(found, (one + other) / 2, rtol=0, atol=1e-15)


def test_a_store_that_is_written_anew_is_read_anew(tmp_path, fresh):
    bags, _ = tissue_bags(6, 1, 30)
    store = write_store(tmp_path / "store", bags)
    places = [bag_of(store, f"P{i:03d}") for i in range(1, 7)]
    first = patch_composition.clusters_of_bags(places, 3)
    shares = patch_composition.shares_of_bags(places, first)
    assert patch_composition.clusters_of_bags(places, 3) is first
    changed = {slide: (patient, -vectors) for slide, (patient, vectors) in bags.items()}
    shutil.rmtree(store)
    write_store(store, changed)
    again = patch_composition.clusters_of_bags(places, 3)
    np.testing.assert_allclose(again.mean, -first.mean, rtol=1e-6)
    assert (patch_composition.shares_of_bags(places, first) != shares).any()


def test_fewer_patches_than_clusters_name_the_block(cohort):
    X = cohort.analysis_set("os", ["tissue"]).X
    with pytest.raises(DataError, match=r"blocks.tissue: .*take fewer clusters"):
        Preprocessor(reduce={"tissue": {"clusters": 5000}}).fit(X)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('reduce = { clusters = 4 }', ""), r"store: a store of patches, not a table .*embed pool "
         r"store --out pathology.parquet.*reduce = \{ clusters = 10 \}"),
        (('table = "store"', 'table = "clinical.csv"'), r"clinical.csv: not a store of patches "
         r"\(a file\).*embed slides wrote.*pca"),
        (('table = "store"', 'table = "stoer"'), r"stoer: not a store of patches \(no such folder"),
        (('table = "store"', ""), "needs one store of patches as table"),
        (('table = "store"', 'table = "store"\npool = "mean"'), "pool has no meaning"),
        (("clusters = 4", "clusters = 1"), "expected 2 clusters or more"),
        (("clusters = 4", "clusters = 4, pca = 2"), "expected { pca"),
        (("clusters = 4", "cluster = 4"), "clusters"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_such_a_block_is_said(config, tmp_path, change, said):
    wrong = tmp_path / "cohort.toml"
    wrong.write_text(config.read_text().replace(*change))
    with pytest.raises(SchemaError, match=said):
        load_cohort(wrong, config.parent)


def test_patients_of_another_cohort_are_told_apart(config, tmp_path):
    bags, _ = tissue_bags(3, 1, 5)
    strangers = {f"X{slide}": (f"X{patient}", v) for slide, (patient, v) in bags.items()}
    shutil.copy(config, tmp_path)
    shutil.copy(config.parent / "clinical.csv", tmp_path)
    write_store(tmp_path / "store", strangers)
    with pytest.raises(DataError, match="store, column patient_id: none of its 3 ids is in"):
        load_cohort(tmp_path / "cohort.toml")
    write_store(tmp_path / "store", {**strangers, **bags})
    cohort = load_cohort(tmp_path / "cohort.toml")
    assert list(cohort.blocks["tissue"].table.index) == ["P001", "P002", "P003"]
    assert any("3 ids are not in clinical.csv" in note for note in cohort.notes)


def test_many_clusters_for_few_patients_are_warned_of(config, tmp_path):
    for k, warned in ((50, 0), (51, 1)):
        toml = tmp_path / f"{k}.toml"
        toml.write_text(config.read_text().replace("clusters = 4", f"clusters = {k}"))
        said = check(load_cohort(toml, config.parent))
        assert f"block tissue: {k} clusters, 60 patients (60 with os, 60 with relapse)." in said
        told = [line for line in said if "51 clusters of patches for 60 patients" in line]
        assert len(told) == warned


def test_the_hash_of_the_cohort_covers_the_store(config, tmp_path):
    shutil.copytree(config.parent, tmp_path / "cohort")
    config = tmp_path / "cohort" / "cohort.toml"
    before = load_cohort(config).source_hash
    assert load_cohort(config).source_hash == before
    bags, _ = tissue_bags(N, 2, 31)
    write_store(tmp_path / "cohort" / "store", bags)
    assert load_cohort(config).source_hash != before


def test_a_table_of_clusters_of_all_patients_is_no_block_of_theirs(cohort, config, tmp_path):
    folder = config.parent / "store"
    store = open_patches(folder)
    bags = [bag_of(folder, patient) for patient in store.patients]
    shares = prevalence(store, patch_composition.reference_of_bags(bags, 4)).reset_index()
    toml = tmp_path / "cohort.toml"
    toml.write_text(
        config.read_text()
        .replace("reduce = { clusters = 4 }", "")
        .replace('"store"', f'"{tmp_path / "prevalence.parquet"}"')
    )
    shares.to_parquet(tmp_path / "prevalence.parquet")
    assert load_cohort(toml, config.parent).blocks["tissue"].n_columns == 4  # made elsewhere
    table = pa.Table.from_pandas(shares).replace_schema_metadata({"descriptive": "true"})
    pq.write_table(table, tmp_path / "prevalence.parquet")
    with pytest.raises(
        SchemaError, match=r"60 patients of this cohort .*reduce = { clusters = 4 }"
    ):
        load_cohort(toml, config.parent)


def test_clusters_of_folds_are_named_as_those_of_all_patients(cohort):
    """These kinds of tissue are so far apart that every fold finds them."""
    names = ["tissue", "late:clinical+tissue"]
    plan = make_plan(cohort, "os", names, ["cox", "rsf"], 2, n_trials=1)
    references = reference_clusters(plan)
    assert list(references) == ["tissue"]
    matches = match_folds(plan, references)
    validate(matches, "cluster_matches")
    assert len(matches) == 2 * 4
    assert (matches["quality"] > 0.9).all()
    assert (matches["cluster"] != matches["matched"]).any()  # sizes differ between folds
    shap, blocks = explain(evaluate_plan(plan, n_resamples=10))
    store = open_patches(cohort.blocks["tissue"].table["patches"].iloc[0].split('"')[1])
    everybody = prevalence(store, references["tissue"]).stack()
    for _, own in shap[shap["block"] == "tissue"].groupby(["feature_set", "model"]):
        assert set(own["feature"]) == set(references["tissue"].names)
        of_all = everybody.loc[list(zip(own["patient_id"], own["feature"], strict=True))]
        np.testing.assert_allclose(own["value"], of_all, rtol=0, atol=1e-12)
    keys = ["patient_id", "feature_set", "model"]
    sums, totals = (table.groupby(keys)["contribution"].sum() for table in (shap, blocks))
    np.testing.assert_allclose(sums, totals.loc[sums.index], rtol=0, atol=1e-10)
    assert match_folds(plan, {}) is None


@pytest.mark.slow
def test_processes_change_nothing(cohort):
    """Each makes the clusters for itself."""
    plan = make_plan(cohort, "os", ["tissue", "clinical+tissue"], ["cox"], 3, n_trials=1)
    references = reference_clusters(plan)
    found = []
    for n_jobs in (1, 2):
        evaluation = evaluate_plan(plan, n_jobs, n_resamples=10)
        matches = match_folds(plan, references, n_jobs)
        found.append([evaluation.predictions, evaluation.survival, matches])
    for ours, theirs in zip(*found, strict=True):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


@pytest.mark.slow
def test_two_classes_late_fusion_missing_patches_and_other_patients(config, tmp_path):
    toml = draw(tmp_path / "cohort")
    toml.write_text(
        TOML.replace("[clinical]", 'missing_blocks = "impute"\n[clinical]', 1).replace(
            "[endpoints.os]", 'site = "site"\n[endpoints.os]'
        )
    )
    clinical = pd.read_csv(toml.parent / "clinical.csv").assign(site=np.arange(N) % 3)
    clinical.to_csv(toml.parent / "clinical.csv", index=False)
    bags, _ = tissue_bags(N, 2, 30)
    with_patches = {slide: bag for slide, bag in bags.items() if bag[0] > "P006"}
    write_store(toml.parent / "store", with_patches)
    out = run(
        toml, endpoint="relapse", feature_sets=["tissue", "late:clinical+tissue"],
        models=["logistic"], folds=3, n_trials=1, out=tmp_path / "run", n_jobs=1,
        n_resamples=20,
    )  # fmt: skip
    probes = pd.read_parquet(out / "probes.parquet").set_index(["probe", "subject"])["estimate"]
    assert np.isfinite(probes["site_from_block", "tissue"])
    assert np.isfinite(probes["permuted_outcome", "late:clinical+tissue"])
    metrics = pd.read_parquet(out / "metrics.parquet")
    own = metrics[(metrics["feature_set"] == "tissue") & metrics["fold"].isna()]
    own = own.set_index(["model", "metric"])["estimate"]
    assert own["logistic", "auroc"] > 0.8
    assert len(pd.read_parquet(out / "cluster_matches.parquet")) == 3 * 4
    report = (out / "report.html").read_text()
    for words in (
        "4 clusters of patches, made inside each training part",
        "grouped into 4 clusters (block tissue) inside each training part",
        "Names of the clusters of block tissue are those of clusters of all patients",
        "Arthur D, Vassilvitskii S.",
    ):
        assert words in report
    assert b"P007" not in (out / "predictors.parquet").read_bytes()
    scores = pd.read_csv(predict(out, toml, out=tmp_path / "scores.csv"))
    assert len(scores) == N
    assert scores["risk"].notna().all()
    others = draw(tmp_path / "others", seed=3)
    table = pd.read_csv(others.parent / "clinical.csv")
    table.assign(patient_id="X" + table["patient_id"]).to_csv(
        others.parent / "clinical.csv", index=False
    )
    bags, _ = tissue_bags(N, 2, 30, seed=3)
    write_store(others.parent / "store", {s: (f"X{p}", v) for s, (p, v) in bags.items()})
    others.write_text(TOML.replace("[clinical]", 'missing_blocks = "impute"\n[clinical]', 1))
    found = validate_on(out, others, out=tmp_path / "validation", n_resamples=20)
    differences = pd.read_parquet(found / "column_differences.parquet")
    tissue = differences[differences["block"] == "tissue"]
    assert tissue[["variable", "kind", "n_run", "n_cohort"]].to_numpy().tolist() == [
        ["patches", "patches", N - 6, N]
    ]


def _names(k):
    return [f"tissue.c{i:02d}" for i in range(1, k + 1)]
