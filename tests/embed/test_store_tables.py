"""The tables of a store: never more than its files say, merged by shards in any order."""

import itertools
import os
import platform
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import SchemaError
from tabular_trainers.embed.slide_list import SlideSource
from tabular_trainers.embed.store import Recipe, SlideFacts, describe_slide, read_slide, write_slide
from tabular_trainers.embed.store_tables import NO_TISSUE, done_slides, write_tables
from tabular_trainers.schema import empty
from tabular_trainers.tables import read_written

RECIPE = Recipe("encoder-1", {"patch_px": 256})
IDS = [f"S{i}" for i in range(6)]


@pytest.fixture
def source(tmp_path):
    """Return a function that gives a slide whose file has so many bytes."""

    def make(slide_id, n_bytes=10, **changed):
        path = tmp_path / f"{slide_id}.svs"
        path.write_bytes(b"x" * n_bytes)
        return SlideSource(slide_id, changed.pop("patient_id", slide_id), str(path), **changed)

    return make


def write(store, source, n=2, recipe=RECIPE, **changed):
    given = {"mpp": 0.5, "width_px": 9, "height_px": 9, "source_bytes": 10, "given_mpp": None}
    facts = SlideFacts(source.slide_id, source.patient_id, source.path, **given | changed)
    place = np.arange(n, dtype=float)
    columns = dict.fromkeys(("x_um", "y_um"), place) | {"size_um": np.full(n, 128.0)}
    columns |= dict.fromkeys(("tissue", "blur", "artefact"), np.zeros(n, np.float32))
    return write_slide(store, columns, np.ones((n, 4), np.float32), recipe, facts)


def failed(sources, reason="cut off"):
    rows = [(s.slide_id, s.patient_id, s.path, "open", reason) for s in sources]
    return pd.DataFrame(rows, columns=list(empty("failures")))


def table(store, name="slides"):
    return read_written(store / f"{name}.parquet")


def state(store):
    """Give {slide_id: status} and {slide_id: reason} of a store's tables."""
    slides, failures = table(store), table(store, "failures")
    assert slides["slide_id"].is_monotonic_increasing
    return (
        dict(zip(slides["slide_id"], slides["status"], strict=True)),
        dict(zip(failures["slide_id"], failures["reason"], strict=True)),
    )


def done(store, sources, recipe=RECIPE, levels=("patch",), **options):
    return set(done_slides(store, sources, recipe, levels, **options))


def test_done_is_what_is_whole_and_the_same(tmp_path, source):
    store = tmp_path / "store"
    given = {"same": {}, "grown": {"n_bytes": 11}, "torn": {}, "new": {}}
    given |= {"stated": {"mpp": 0.25}, "assumed": {"assume_mpp": 0.3}, "own": {"assume_mpp": 0.3}}
    sources = {slide_id: source(slide_id, **options) for slide_id, options in given.items()}
    for slide_id in set(sources) - {"new"}:
        stored = write(store, sources[slide_id], given_mpp={"assumed": 0.5}.get(slide_id))
    stored = write(store, sources["torn"])
    stored.file.write_bytes(stored.file.read_bytes()[:50])
    assert done(store, sources.values()) == {"same", "own"}
    # what is to be made anew is gone, so that no table takes it for done
    assert sorted(path.stem for path in (store / "patch").iterdir()) == ["own", "same"]
    (tmp_path / "same.svs").unlink()
    assert done(store, sources.values()) == {"same", "own"}
    assert done(store, sources.values(), overwrite=True) == set()
    assert list((store / "patch").iterdir()) == []


def test_a_pyramid_is_done_with_both_files(tmp_path, source):
    store = tmp_path / "store"
    write(store, source("S0"))
    assert done(store, [source("S0")], levels=("region", "patch")) == set()


def test_another_maker_is_refused_and_nothing_touched(tmp_path, source):
    store = tmp_path / "store"
    stored = write(store, source("S0"))
    other = Recipe("encoder-2", {"patch_px": 224, "mpp": 0.5})
    with pytest.raises(SchemaError) as caught:
        done(store, [source("S0")], other)
    message = (
        f"{store}: holds features of encoder encoder-1, not encoder-2, mpp unset, not 0.5, "
        "patch_px 256, not 224 (S0.parquet). One store holds one kind of features: give another "
        "--out, or --overwrite to extract these slides anew."
    )
    assert str(caught.value) == message
    # also where only slides of other runs lie there
    with pytest.raises(SchemaError) as caught:
        done(store, [source("S1")], other)
    assert str(caught.value) == message
    assert describe_slide(stored.file) == stored


def test_a_slide_gets_another_patient_and_keeps_its_vectors(tmp_path, source):
    store = tmp_path / "store"
    stored = write(store, source("S0"), 2000)
    before, vectors = read_slide(stored.file)
    undisturbed = write(tmp_path / "other", source("S0", patient_id="P"), 2000)
    found = done_slides(store, [source("S0", patient_id="P")], RECIPE, ("patch",))
    assert found["S0"].slide.patient_id == "P"
    assert describe_slide(stored.file) == found["S0"]
    after, again = read_slide(stored.file)
    pd.testing.assert_frame_equal(before, after)
    np.testing.assert_array_equal(again, vectors)
    assert stored.file.read_bytes() == undisturbed.file.read_bytes()


def test_left_overs_of_the_dead_are_removed(tmp_path, source):
    store = tmp_path / "store"
    (store / "patch").mkdir(parents=True)
    (store / "quality").mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here, elsewhere = platform.node(), "other-node-2"
    gone = [f"patch/A.parquet.partial-{here}-{ended.pid}", f"quality/A.png.partial-{ended.pid}"]
    gone += [
        f"patch/S0.parquet.partial-{elsewhere}-7",
        f"slides.parquet.partial-{here}-{ended.pid}",
    ]
    kept = [f"patch/S0.parquet.partial-{here}-{os.getpid()}", "patch/notes.partial-copy"]
    kept += [f"patch/A.parquet.partial-{elsewhere}-7", f"slides.parquet.partial-{elsewhere}-7"]
    for name in gone + kept:
        (store / name).write_bytes(b"half")
    done(store, [source("S0")])
    left = {str(path.relative_to(store)) for path in store.rglob("*.partial-*")}
    assert left == set(kept)


def test_tables_of_one_run(tmp_path, source):
    store = tmp_path / "store"
    sources = [source(slide_id) for slide_id in IDS]
    stored = {s.slide_id: write(store, s) for s in sources[:3]}
    failures = pd.concat([failed(sources[3:5]), failed(sources[5:], NO_TISSUE)])
    assert write_tables(store, RECIPE, stored, failures, IDS)
    statuses, reasons = state(store)
    assert list(statuses.values()) == ["done"] * 3 + ["failed"] * 2 + ["no tissue"]
    assert reasons == {"S3": "cut off", "S4": "cut off", "S5": NO_TISSUE}
    assert table(store).attrs["metadata"]["encoder_id"] == "encoder-1"
    assert table(store)["n_patches"].tolist() == [2, 2, 2, 0, 0, 0]


def test_a_later_run_keeps_what_it_did_not_look_at(tmp_path, source):
    store = tmp_path / "store"
    sources = [source(slide_id) for slide_id in IDS]
    stored = {"S0": write(store, sources[0])}
    write_tables(store, RECIPE, stored, failed(sources[1:4]), IDS[:4])
    # S1 is mended, S2 fails otherwise, S3 is not among the slides of this run, S4 is new
    stored = {"S1": write(store, sources[1]), "S4": write(store, sources[4])}
    write_tables(store, RECIPE, stored, failed(sources[2:3], "again"), ["S1", "S2", "S4"])
    statuses, reasons = state(store)
    assert statuses == {
        **dict.fromkeys(["S0", "S1", "S4"], "done"),
        **dict.fromkeys(["S2", "S3"], "failed"),
    }
    assert reasons == {"S2": "again", "S3": "cut off"}


def test_tables_say_no_more_than_the_files(tmp_path, source):
    store = tmp_path / "store"
    sources = [source(slide_id) for slide_id in IDS[:3]]
    stored = {s.slide_id: write(store, s) for s in sources}
    stored["S0"].file.unlink()
    other = stored.pop("S2").file
    other.write_bytes(other.read_bytes()[:-9])
    write_tables(store, RECIPE, stored, failed([]), ["S0", "S1"])
    statuses, reasons = state(store)
    assert statuses == {"S1": "done", "S2": "failed"}
    assert reasons == {"S2": "S2.parquet: not a whole Parquet file."}


def shards(store, sources):
    """Make three shards' work: the arguments of write_tables of each."""
    work = []
    for number in (1, 2, 3):
        own = sources[number - 1 :: 3]
        stored = {own[0].slide_id: write(store, own[0])}
        work.append((stored, failed(own[1:]), [s.slide_id for s in own], (number, 3)))
    return work


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_shards_merge_in_any_order(tmp_path, source, order):
    store = tmp_path / "store"
    work = shards(store, [source(slide_id) for slide_id in IDS])
    last = [write_tables(store, RECIPE, *work[i]) for i in order]
    assert last == [False, False, True]
    statuses, reasons = state(store)
    assert statuses == {s: "done" if s in ("S0", "S1", "S2") else "failed" for s in IDS}
    assert list(reasons) == ["S3", "S4", "S5"]


@pytest.mark.parametrize("step", range(1, 5))
def test_a_shard_that_comes_between_is_seen(tmp_path, source, monkeypatch, step):
    """Shard 2 runs to its end before the n-th rename of shard 1: no row may be missing then."""
    store = tmp_path / "store"
    work = shards(store, [source(slide_id) for slide_id in IDS])
    replace, renames = os.replace, []

    def interrupted(old, new):
        if "parquet" in str(new):
            renames.append(new)
            if len(renames) == step:
                with pytest.MonkeyPatch.context() as another_process:
                    another_process.setattr(os, "getpid", lambda: 1)
                    write_tables(store, RECIPE, *work[1])
        replace(old, new)

    write_tables(store, RECIPE, *work[2])
    monkeypatch.setattr(os, "replace", interrupted)
    write_tables(store, RECIPE, *work[0])
    assert len(renames) > 4 or step < 3  # merged once more
    statuses, reasons = state(store)
    assert statuses == {s: "done" if s in ("S0", "S1", "S2") else "failed" for s in IDS}
    assert list(reasons) == ["S3", "S4", "S5"]


def test_a_run_of_all_takes_the_place_of_shards(tmp_path, source):
    store = tmp_path / "store"
    sources = [source(slide_id) for slide_id in IDS]
    for work in shards(store, sources):
        write_tables(store, RECIPE, *work)
    stored = {s.slide_id: write(store, s) for s in sources[:5]}
    write_tables(store, RECIPE, stored, failed(sources[5:], "again"), IDS)
    assert not (store / "shards").exists()
    assert state(store)[1] == {"S5": "again"}


def test_a_mended_slide_leaves_the_failures_of_all_shards(tmp_path, source):
    store = tmp_path / "store"
    work = shards(store, [source(slide_id) for slide_id in IDS])
    for one in work:
        write_tables(store, RECIPE, *one)
    stored, _, ids, shard = work[2]
    stored |= {"S5": write(store, source("S5"))}
    write_tables(store, RECIPE, stored, failed([]), ids, shard)
    write_tables(store, RECIPE, *work[0])
    assert list(state(store)[1]) == ["S3", "S4"]
