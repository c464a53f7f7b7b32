"""Pooling against plain NumPy in float64, on stores written by hand after their contract."""

import dataclasses
import json
import logging

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tabular_trainers import DataError, SchemaError, cli, run
from tabular_trainers.embed import pool_store
from tabular_trainers.embed import store as stores
from tabular_trainers.embed.pooling_statistics import HOW, as_float
from tabular_trainers.tables import write_table

RECIPE = stores.Recipe("tiny-1", {"mpp": 0.5, "patch_px": 256}, ("TCGA",))


def write_vectors(store, slide, patient, values, level="patch", **recipe):
    """Write one slide's vectors into a store."""
    n = len(values)
    names = {"patch": ["size_um", "tissue", "blur", "artefact"],
             "region": ["width_um", "height_um", "n_patches", "tissue"]}[level]  # fmt: skip
    columns = {name: np.ones(n) for name in ["x_um", "y_um", *names]}
    columns = {name: column.astype(KINDS.get(name, float)) for name, column in columns.items()}
    facts = stores.SlideFacts(slide, patient, f"{slide}.svs", 0.5, 100, 100, 10)
    made = dataclasses.replace(RECIPE, **recipe)
    stores.write_slide(store, columns, values, made, facts, level)


KINDS = {"tissue": "float32", "blur": "float32", "artefact": "float32", "n_patches": "int64"}


def write_list(store, slides):
    """Write slides.parquet from rows of (slide, patient, number of patches, status)."""
    frame = pd.DataFrame(slides, columns=["slide_id", "patient_id", "n_patches", "status"])
    frame = frame.assign(path="x.svs", mpp=0.5, width_px=100, height_px=100, encoder_id="tiny-1")
    store.mkdir(parents=True, exist_ok=True)
    write_table(frame, "slides", store / "slides.parquet")


def vectors(seed, n, dim=5, dtype="float32"):
    return np.random.default_rng(seed).normal(3, 2, (n, dim)).astype(dtype)


@pytest.fixture
def store(tmp_path):
    """Three patients: one of two slides and a failed one, one of one, one without tissue."""
    folder = tmp_path / "store"
    slides = [("s2", "p1", 7), ("s1", "p1", 3), ("s3", "p0", 4)]
    for seed, (slide, patient, n) in enumerate(slides):
        write_vectors(folder, slide, patient, vectors(seed, n))
        write_vectors(folder, slide, patient, vectors(seed + 9, n - 2, dim=2), "region")
    listed = [(*slide, "done") for slide in slides]
    write_list(folder, [*listed, ("s4", "p2", 0, "no tissue"), ("s5", "p1", 0, "failed")])
    return folder


def read(path):
    """Read a pooled table: ids, column names, values."""
    table = pq.read_table(path)
    values = np.column_stack([table.column(i) for i in range(1, table.num_columns)])
    return table.column("patient_id").to_pylist(), table.column_names[1:], values


# Independent of the package: NumPy on all rows at once, in float64.
EXPECTED = {
    "mean": lambda x: [x.mean(0)],
    "mean+std": lambda x: [x.mean(0), x.std(0)],
    "quantiles": lambda x: list(np.quantile(x, [0.1, 0.25, 0.5, 0.75, 0.9], axis=0)),
    "max": lambda x: [x.max(0)],
}


def expected(how, *bags):
    """Pool each bag with NumPy and average the bags."""
    pooled = [np.concatenate(EXPECTED[how](bag.astype("float64"))) for bag in bags]
    return np.mean(pooled, axis=0)


@pytest.mark.parametrize("how", list(HOW))
@pytest.mark.parametrize("by", ["slide", "patch"])
@pytest.mark.parametrize("level", ["patch", "region", "both"])
def test_agrees_with_numpy(store, tmp_path, how, by, level):
    done = pool_store(store, tmp_path / "out.parquet", how=how, by=by, level=level)
    patients, names, found = read(done.path)
    assert patients == ["p0", "p1"]
    parts = []
    if level != "region":
        parts.append({"s1": vectors(1, 3), "s2": vectors(0, 7), "s3": vectors(2, 4)})
    if level != "patch":
        parts.append({"s1": vectors(10, 1, 2), "s2": vectors(9, 5, 2), "s3": vectors(11, 2, 2)})
    right = []
    for own in (("s3",), ("s1", "s2")):
        bags = [[part[slide] for slide in own] for part in parts]
        bags = [[np.concatenate(bag)] if by == "patch" else bag for bag in bags]
        right.append(np.concatenate([expected(how, *bag) for bag in bags]))
    np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-12)
    assert len(set(names)) == len(names) == done.n_features
    assert done.n_slides == 3
    assert done.n_patients == 2
    assert done.n_vectors == {"patch": 14, "region": 8, "both": 22}[level]


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ("mean", ["e000", "e001"]),
        ("mean+std", ["e000", "e001", "e000_std", "e001_std"]),
        ("max", ["e000_max", "e001_max"]),
        (
            "quantiles",
            [f"e00{i}_q{q}" for q in (10, 25, 50, 75, 90) for i in (0, 1)],
        ),
    ],
)
def test_names_say_what_a_column_is(tmp_path, how, names):
    write_list(tmp_path, [("s", "p", 3, "done")])
    write_vectors(tmp_path, "s", "p", vectors(0, 3, 2))
    _, found, _ = read(pool_store(tmp_path, tmp_path / "out.parquet", how).path)
    assert found == names


def test_named_features_keep_their_names(tmp_path):
    write_list(tmp_path, [("s", "p", 3, "done")])
    named = ("hematoxylin_mean", "nuclei")
    write_vectors(tmp_path, "s", "p", vectors(0, 3, 2), feature_names=named)
    _, found, _ = read(pool_store(tmp_path, tmp_path / "out.parquet", "mean+std").path)
    assert found == ["hematoxylin_mean", "nuclei", "hematoxylin_mean_std", "nuclei_std"]


def test_regions_and_patches_have_names_of_their_own(store, tmp_path):
    _, found, _ = read(pool_store(store, tmp_path / "out.parquet", level="both").path)
    assert found == ["e000", "e001", "e002", "e003", "e004", "r000", "r001"]


def test_the_table_says_where_it_comes_from(store, tmp_path):
    done = pool_store(store, tmp_path / "out.parquet", "max", by="patch")
    facts = {k.decode(): v.decode() for k, v in pq.read_schema(done.path).metadata.items()}
    assert facts.pop("package_version")
    assert facts == RECIPE.metadata() | {"how": "max", "level": "patch", "by": "patch"}
    assert json.loads(facts["pretrained_on"]) == ["TCGA"]


def test_who_lacks_features_is_told(store, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "tabular_trainers"):
        done = pool_store(store, tmp_path / "out.parquet")
    assert done.without == ("p2",)
    assert caplog.messages == [
        "1 slide without vectors (failed): s5.",
        "1 slide without vectors (no tissue): s4.",
        "1 patient has no features: p2.",
    ]


@pytest.mark.parametrize("how", list(HOW))
def test_row_groups_do_not_matter(tmp_path, monkeypatch, how):
    values = vectors(3, 50, dtype="float16")
    found = []
    for size in (1, 7, 50):
        folder = tmp_path / str(size)
        monkeypatch.setattr(stores, "ROW_GROUP", size)
        write_list(folder, [("s", "p", 50, "done")])
        write_vectors(folder, "s", "p", values)
        found.append(pool_store(folder, folder / "out.parquet", how).path.read_bytes())
    assert found[0] == found[1] == found[2]


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    how=st.sampled_from(list(HOW)),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    n=st.integers(1, 40),
    dim=st.integers(1, 9),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    shift=st.sampled_from([0.0, 1000.0]),
    seed=st.integers(0, 9),
)
def test_in_blocks_as_in_one(how, dtype, n, dim, cuts, shift, seed):
    values = (np.random.default_rng(seed).normal(size=(n, dim)) + shift).astype(dtype)
    whole, cut = HOW[how](dim), HOW[how](dim)
    whole.add(as_float(values))
    for block in np.split(values, sorted(min(at, n) for at in cuts)):
        cut.add(as_float(np.ascontiguousarray(block)))
    assert whole.n == cut.n == n
    found = whole.result()
    np.testing.assert_array_equal(found, cut.result())
    np.testing.assert_allclose(found, expected(how, values), rtol=1e-12, atol=1e-12)


def test_every_float16_is_widened_without_loss():
    halves = np.arange(1 << 16, dtype="uint16").view("float16").reshape(256, 256)
    found = as_float(halves)
    np.testing.assert_array_equal(found.view("uint32"), halves.astype("float32").view("uint32"))


def test_files_of_two_encoders_are_refused(store, tmp_path):
    write_vectors(store, "s2", "p1", vectors(0, 7), encoder_id="tiny-2")
    with pytest.raises(SchemaError) as caught:
        pool_store(store, tmp_path / "out.parquet")
    assert str(caught.value) == (
        "store, patches: not all were made alike, and so cannot be pooled together. Unlike "
        "2 slides: 1 slide (s2): encoder tiny-2, not tiny-1. Extract one kind again, into a store "
        "of its own."
    )
    assert not (tmp_path / "out.parquet").exists()


def test_files_of_other_sizes_and_options_are_refused(store, tmp_path):
    write_vectors(store, "s3", "p0", vectors(0, 4, 6))
    write_vectors(store, "s2", "p1", vectors(0, 4), options={"mpp": 0.25, "patch_px": 256})
    with pytest.raises(SchemaError) as caught:
        pool_store(store, tmp_path / "out.parquet")
    assert "1 slide (s3): mpp 0.5, not 0.25, 6 dimensions, not 5. Extract" in str(caught.value)


def test_a_missing_and_a_torn_file_are_told_together(store, tmp_path):
    (store / "patch" / "s2.parquet").unlink()
    path = store / "patch" / "s3.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SchemaError) as caught:
        pool_store(store, tmp_path / "out.parquet")
    again = "Run embed slides again: it writes what is missing."
    assert str(caught.value) == (
        f"2 problems:\n- s2.parquet: no such file in {store / 'patch'}. {again}\n"
        f"- s3.parquet: not a whole Parquet file. {again}"
    )


@pytest.mark.parametrize("how", ["mean", "mean+std", "max"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(store, tmp_path, monkeypatch, how, bad):
    monkeypatch.setattr(np, "isfinite", lambda values: np.ones(np.shape(values), bool))
    values = vectors(0, 7)
    values[3, 2] = bad
    write_vectors(store, "s2", "p1", values)
    monkeypatch.undo()
    with pytest.raises(SchemaError) as caught:
        pool_store(store, tmp_path / "out.parquet", how)
    assert str(caught.value) == "slide s2: patch vectors that are not finite; extract again."


def test_a_store_without_regions_says_so(store, tmp_path):
    for path in (store / "region").iterdir():
        path.unlink()
    with pytest.raises(SchemaError) as caught:
        pool_store(store, tmp_path / "out.parquet", level="both")
    assert str(caught.value) == (
        "store: no regions, as its encoder gives none. Pool level 'patch'."
    )


def test_wrong_options_come_in_one_message(store, tmp_path):
    (tmp_path / "there.parquet").touch()
    with pytest.raises(SchemaError) as caught:
        pool_store(store, tmp_path / "there.parquet", "means", "slides", "slides")
    assert str(caught.value) == (
        "4 problems:\n"
        "- unknown pooling 'means'; known: mean, mean+std, quantiles, max. Did you mean 'mean'?\n"
        "- unknown level 'slides'; known: patch, region, both.\n"
        "- unknown unit 'slides'; known: slide, patch. Did you mean 'slide'?\n"
        f"- {tmp_path / 'there.parquet'} exists already. Name another file, or add --overwrite."
    )


def test_no_patch_at_all_is_an_error(tmp_path):
    write_list(tmp_path, [("s", "p", 0, "no tissue")])
    with pytest.raises(DataError, match="no slide has a patch; failures.parquet says why"):
        pool_store(tmp_path, tmp_path / "out.parquet")


def test_a_store_that_is_not_finished_is_refused(store, tmp_path):
    (store / "slides.parquet").unlink()
    with pytest.raises(SchemaError) as caught:
        pool_store(store, tmp_path / "out.parquet")
    assert str(caught.value) == (
        f"{store}: no slides.parquet, which embed slides writes at its end. Run it again: it goes "
        "on where it was."
    )


def test_nothing_half_written(store, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="No space left"):
        pool_store(store, tmp_path / "out.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_the_command_ends_with_the_lines_for_the_cohort(store, tmp_path):
    out = tmp_path / "pathology.parquet"
    ended = CliRunner().invoke(cli.app, ["embed", "pool", str(store), "--out", str(out)])
    assert ended.exit_code == 0
    assert ended.stdout == (
        "2 patients from 3 slides, 5 features.\nName it in cohort.toml:\n\n[blocks.pathology]\n"
        f'table = "{out}"\nkey = "patient_id"\n\n{out}\n'
    )
    again = CliRunner().invoke(cli.app, ["embed", "pool", str(store), "--out", str(out)])
    assert again.exit_code == 2
    assert again.stderr == (
        f"Error: {out} exists already. Name another file, or add --overwrite.\n"
    )


def test_our_stores_are_read_where_numbers_lie(store, tmp_path, monkeypatch):
    right = pool_store(store, tmp_path / "one.parquet").path.read_bytes()
    path = store / "patch" / "s2.parquet"
    pq.write_table(pq.read_table(path, partitioning=None), path, compression="zstd")
    assert pool_store(store, tmp_path / "two.parquet").path.read_bytes() == right
    monkeypatch.delattr(pq.ParquetFile, "read_row_group")
    with pytest.raises(AttributeError):
        pool_store(store, tmp_path / "three.parquet")
    write_vectors(store, "s2", "p1", vectors(0, 7))
    assert pool_store(store, tmp_path / "four.parquet").path.read_bytes() == right


COHORT = """
title = "Drawn patients with slides"
time_zero = "diagnosis"
[clinical]
table = "clinical.csv"
[endpoints.os]
kind = "survival"
time = "days"
unit = "days"
event = "dead"
event_values = [1]
[blocks.clinical]
columns = ["age"]
"""


@pytest.mark.slow
def test_from_a_store_to_a_report(tmp_path):
    draw = np.random.default_rng(0)
    patients = [f"TCGA-02-{i:04d}" for i in range(60)]
    risk = draw.normal(size=60)
    clinical = pd.DataFrame({"patient_id": patients, "age": draw.normal(60, 8, 60)})
    clinical["days"] = np.ceil(draw.exponential(900 * np.exp(-2 * risk)) + 1)
    clinical["dead"] = (draw.random(60) < 0.8).astype(int)
    clinical.to_csv(tmp_path / "clinical.csv", index=False)
    slides = []
    for number, (patient, level) in enumerate(zip(patients, risk, strict=True)):
        n = 5 + number % 7
        values = draw.normal(size=(n, 3)) + [level, 0, 0]
        write_vectors(tmp_path / "store", f"s{number}", patient, values.astype("float16"))
        slides.append((f"s{number}", patient, n, "done"))
    write_list(tmp_path / "store", slides)
    out = tmp_path / "pathology.parquet"
    ended = CliRunner().invoke(
        cli.app, ["embed", "pool", str(tmp_path / "store"), "--out", str(out)]
    )
    lines = ended.stdout.split("\n\n")[1]
    (tmp_path / "cohort.toml").write_text(f"{COHORT}{lines}\n")
    folder = run(
        tmp_path / "cohort.toml",
        feature_sets=["clinical", "clinical+pathology"],
        models=["cox"],
        folds=2,
        n_trials=1,
        n_resamples=40,
        n_jobs=1,
        out=tmp_path / "run",
    )
    facts = json.loads((folder / "run.json").read_text())
    assert facts["sources"] == ["TCGA"]
    assert facts["blocks"]["pathology"]["n_columns"] == 3
    known = {name: facts["blocks"]["pathology"][name] for name in ("encoder_id", "pretrained_on")}
    assert known == {"encoder_id": "tiny-1", "pretrained_on": ["TCGA"]}
    assert facts["blocks"]["pathology"]["pretraining_overlap"] == ["TCGA"]
    assert facts["blocks"]["clinical"]["pretrained_on"] is None
    report = (folder / "report.html").read_text()
    seen = (
        "The encoder of block pathology (tiny-1) was pretrained on TCGA, from which this cohort "
        "comes: it has seen these slides, though not their outcomes."
    )
    assert report.count(f"‡ {seen}") >= 5
    metrics = pd.read_parquet(folder / "metrics.parquet")
    c = metrics[(metrics["metric"] == "harrell_c") & metrics["fold"].isna()]
    c = c.set_index("feature_set")["estimate"]
    assert c["clinical+pathology"] > c["clinical"] + 0.1
