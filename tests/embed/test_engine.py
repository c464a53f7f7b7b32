"""Slides become a store: whole, the same by any way of working, and no slide lost silently."""

import json

import numpy as np
import psutil
import pytest

from tabular_trainers import SchemaError
from tabular_trainers.embed import engine, extract_slides, load_encoder, slide_pipeline
from tabular_trainers.embed.patch_grid import lay_grid
from tabular_trainers.embed.patch_quality import score_quality
from tabular_trainers.embed.slide_reading import open_slide
from tabular_trainers.embed.store import open_store, read_slide
from tabular_trainers.embed.tissue_mask import TissueOptions, find_tissue
from tabular_trainers.tables import read_written
from tests.embed.small_slides import Linear, Overflowing, Pyramid, Small, write_slide

N = 3


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    for i in range(N):
        write_slide(folder / f"S{i}.tiff", i, 1280, 896, (200 + 90 * i, 1100, 130, 770))
    return folder


@pytest.fixture(scope="module")
def by_stain(slides, tmp_path_factory):
    out = tmp_path_factory.mktemp("stain") / "store"
    return extract_slides(slides, out, n_workers=2)


@pytest.fixture(scope="module")
def by_network(slides, tmp_path_factory):
    out = tmp_path_factory.mktemp("network") / "store"
    return extract_slides(slides, out, Linear(), n_workers=1)


def contents(folder):
    """Read every file below a folder: {relative path: bytes}."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def vectors(store, level="patch"):
    """Read all vectors of a store: {slide_id: (n, dim)}."""
    found = open_store(store, level)
    return {one.slide.slide_id: read_slide(one.file, level)[1] for one in found.slides}


def reasons(done):
    """Give {slide_id: (stage, reason)} of a run, having checked that the table says the same."""
    table = read_written(done.store / "failures.parquet").set_index("slide_id")
    found = {row.slide_id: (row.stage, row.reason) for row in done.failures.itertuples()}
    assert found == {row.Index: (row.stage, row.reason) for row in table.itertuples()}
    return found


def test_features_are_those_of_the_patches_one_by_one(slides, by_stain):
    encoder = load_encoder("stain")
    options = TissueOptions()
    for stored in open_store(by_stain.store).slides:
        frame, found = read_slide(stored.file)
        with open_slide(slides / f"{stored.slide.slide_id}.tiff") as slide:
            mask = find_tissue(slide.thumbnail(options.thumbnail_mpp), options.thumbnail_mpp)
            grid = lay_grid(slide, mask, 256, 0.5, options.min_tissue)
            assert len(grid) == len(frame) >= 3
            for i in range(len(grid)):
                image = slide.read_many(grid.x_um[[i]], grid.y_um[[i]], 256, 0.5)
                np.testing.assert_array_equal(found[[i]], encoder.encode(image))
                blur, artefact = score_quality(image)
                assert (frame["blur"][i], frame["artefact"][i]) == (blur[0], artefact[0])
        for name in ("x_um", "y_um", "tissue"):
            np.testing.assert_array_equal(frame[name], getattr(grid, name))
        assert set(frame["size_um"]) == {grid.size_um}


def test_a_store_says_what_it_holds(slides, by_stain):
    store = by_stain.store
    table = read_written(store / "slides.parquet")
    sizes = [len(found) for found in vectors(store).values()]
    assert table["slide_id"].tolist() == ["S0", "S1", "S2"]
    assert table["patient_id"].tolist() == ["S0", "S1", "S2"]
    assert table["path"].tolist() == [str(slides / f"S{i}.tiff") for i in range(N)]
    assert table["n_patches"].tolist() == sizes
    assert table[["width_px", "height_px", "status"]].values.tolist() == [[1280, 896, "done"]] * N
    np.testing.assert_allclose(table["mpp"], 0.5, rtol=1e-6)
    encoder = load_encoder("stain")
    assert set(table["encoder_id"]) == {encoder.id}
    assert table.attrs["metadata"]["encoder_id"] == encoder.id
    assert json.loads(table.attrs["metadata"]["feature_names"]) == list(encoder.feature_names)
    assert len(read_written(store / "failures.parquet")) == 0
    assert sorted(path.name for path in (store / "quality").iterdir()) == [
        f"S{i}.png" for i in range(N)
    ]
    assert by_stain.sheets == (store / "contact_sheet.png",)
    assert by_stain.n_patches == sum(sizes)
    assert by_stain.patients_assumed
    options = open_store(store).recipe.options
    assert options["patch_px"] == 256
    assert options["tissue"]["min_tissue"] == 0.5
    assert options["deterministic"] is False


@pytest.mark.parametrize("n_workers", [1, 3])
def test_any_number_of_readers_gives_the_same_bytes(slides, by_stain, tmp_path, n_workers):
    extract_slides(slides, tmp_path / "store", n_workers=n_workers)
    assert contents(tmp_path / "store") == contents(by_stain.store)


def test_any_batch_gives_the_same_features(slides, tmp_path):
    class Exact(Linear):
        dtype = "float32"

    encoder = Exact()
    extract_slides(slides, tmp_path, encoder, batch_size=8, n_workers=1)
    assert max(encoder.sizes) == 8
    for stored in open_store(tmp_path).slides:
        frame, found = read_slide(stored.file)
        with open_slide(slides / f"{stored.slide.slide_id}.tiff") as slide:
            images = slide.read_many(frame["x_um"], frame["y_um"], 128, 0.5)
        one_by_one = np.concatenate([encoder.encode(images[[i]]) for i in range(len(images))])
        np.testing.assert_allclose(found, one_by_one, rtol=1e-5, atol=1e-5)


def test_networks_are_stored_as_float16(slides, by_network):
    found = open_store(by_network.store)
    assert (found.dtype, found.dim) == ("float16", 8)
    stored = found.slides[1]
    frame, kept = read_slide(stored.file)
    with open_slide(slides / "S1.tiff") as slide:
        images = slide.read_many(frame["x_um"], frame["y_um"], 128, 0.5)
    expected = [Linear().encode(images[i : i + 32]) for i in range(0, len(images), 32)]
    np.testing.assert_array_equal(kept, np.concatenate(expected).astype(np.float16))


def test_a_second_run_leaves_all_alone(slides, by_network):
    before = {p: p.stat().st_mtime_ns for p in (by_network.store / "patch").iterdir()}
    encoder = Linear()
    again = extract_slides(slides, by_network.store, encoder, n_workers=1)
    assert (again.n_slides, again.n_before, again.n_patches) == (N, N, 0)
    assert encoder.sizes == [1]  # the blank one that it is tried on
    assert {p: p.stat().st_mtime_ns for p in (by_network.store / "patch").iterdir()} == before


def test_only_what_is_missing_torn_or_changed_is_read_again(slides, by_network, tmp_path):
    store = tmp_path / "store"
    mine = tmp_path / "slides"
    mine.mkdir()
    for i in range(N):
        (mine / f"S{i}.tiff").write_bytes((slides / f"S{i}.tiff").read_bytes())
    extract_slides(mine, store, Linear(), n_workers=1)
    before = contents(store)
    torn = store / "patch" / "S0.parquet"
    torn.write_bytes(torn.read_bytes()[:-100])
    left = torn.with_name("S0.parquet.partial-999999999")
    left.write_bytes(b"half")
    write_slide(mine / "S2.tiff", 9, 1280, 896, (200, 1100, 130, 500))
    again = extract_slides(mine, store, Linear(), n_workers=1)
    assert again.n_before == 1
    after = contents(store)
    assert not left.exists()
    assert after["patch/S0.parquet"] == before["patch/S0.parquet"]
    assert after["patch/S2.parquet"] != before["patch/S2.parquet"]
    assert read_written(store / "slides.parquet")["n_patches"].tolist() == [
        len(found) for found in vectors(store).values()
    ]


def test_slides_get_their_patients_without_being_read_again(slides, by_network, tmp_path):
    store = tmp_path / "store"
    extract_slides(slides, store, Linear(), n_workers=1)
    (tmp_path / "slides.csv").write_text(
        "slide_id,patient_id,path\n" + "".join(f"S{i},P,{slides}/S{i}.tiff\n" for i in range(N))
    )
    again = extract_slides(tmp_path / "slides.csv", store, Linear(), n_workers=1)
    assert (again.n_before, again.patients_assumed) == (N, False)
    assert set(read_written(store / "slides.parquet")["patient_id"]) == {"P"}
    assert {one.slide.patient_id for one in open_store(store).slides} == {"P"}
    for slide_id, found in vectors(by_network.store).items():
        np.testing.assert_array_equal(vectors(store)[slide_id], found)


def test_bad_slides_cost_themselves_only(slides, by_network, tmp_path, caplog):
    content = (slides / "S1.tiff").read_bytes()
    (tmp_path / "cut.tiff").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.svs").write_text("no slide")
    write_slide(tmp_path / "glass.tiff", tissue=None)
    write_slide(tmp_path / "unsized.tiff", mpp=None)
    paths = [*sorted(tmp_path.iterdir()), tmp_path / "gone.svs", *sorted(slides.iterdir())]
    rows = "".join(f"{path.stem},P,{path}\n" for path in paths)
    (tmp_path / "slides.csv").write_text("slide_id,patient_id,path\n" + rows)
    done = extract_slides(tmp_path / "slides.csv", tmp_path / "store", Linear(), n_workers=2)
    found = reasons(done)
    assert {slide_id: stage for slide_id, (stage, _) in found.items()} == {
        "cut": "open",
        "glass": "tissue",
        "gone": "open",
        "text": "open",
        "unsized": "open",
    }
    assert found["glass"][1].startswith("no tissue found")
    assert "--assume-mpp" in found["unsized"][1]
    assert found["gone"][1].startswith(f"gone.svs: no such file in {tmp_path}.")
    table = read_written(done.store / "slides.parquet").set_index("slide_id")
    assert table["status"].to_dict() == {
        **dict.fromkeys(found, "failed"),
        "glass": "no tissue",
        **dict.fromkeys(["S0", "S1", "S2"], "done"),
    }
    for slide_id, kept in vectors(by_network.store).items():
        np.testing.assert_array_equal(vectors(done.store)[slide_id], kept)
    said = [record.getMessage() for record in caplog.records]
    assert f"slide gone failed (open): {found['gone'][1]}" in said


def test_a_killed_reader_is_made_up_for(slides, by_stain, tmp_path):
    killed = []

    def kill(done, total, words):
        for child in psutil.Process().children()[: 1 if len(killed) < 3 else 0]:
            child.kill()
            killed.append(child.pid)

    done = extract_slides(slides, tmp_path / "store", n_workers=1, progress=kill)
    assert len(killed) == 3
    assert len(done.failures) == 0
    assert contents(tmp_path / "store") == contents(by_stain.store)


DEADLY = """
import os, signal
from tabular_trainers.embed import slide_tasks

def make_handler(settings):
    handler = slide_tasks.make_handler(settings)
    def deadly(what, file, *rest):
        if what == "patches" and "S1" in file[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return handler(what, file, *rest)
    return deadly
"""


def test_a_slide_that_kills_its_readers_is_given_up(slides, tmp_path, monkeypatch):
    (tmp_path / "deadly_readers_of_a_test.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(slide_pipeline, "READERS", "deadly_readers_of_a_test:make_handler")
    done = extract_slides(slides, tmp_path / "store", Linear(), n_workers=2)
    assert reasons(done) == {
        "S1": ("read", "reader process died 2 times (killed by signal 9)"),
    }
    assert set(vectors(done.store)) == {"S0", "S2"}


def test_batches_halve_when_memory_runs_out(slides, by_network, tmp_path, caplog):
    encoder = Small(room=3)
    with caplog.at_level("INFO", "tabular_trainers"):
        done = extract_slides(slides, tmp_path / "store", encoder, batch_size=16, n_workers=1)
    assert len(done.failures) == 0
    assert max(encoder.sizes) == 2
    said = [record.getMessage() for record in caplog.records if "memory ran out" in record.message]
    assert said == [
        f"the device's memory ran out; from now on batches of {n} patches." for n in (8, 4, 2)
    ]
    for slide_id, found in vectors(by_network.store).items():
        np.testing.assert_allclose(vectors(done.store)[slide_id], found, rtol=2e-3, atol=1e-3)


def test_memory_for_less_than_it_needs_fails_slides(slides, tmp_path):
    class Crowded(Small):
        def encode(self, images):
            self.room = 1 if not self.sizes else self.wanted  # tried on one patch, then less
            return super().encode(images)

    encoder = Crowded(room=1)
    encoder.wanted = 0
    done = extract_slides(slides / "S0.tiff", tmp_path / "one", encoder, n_workers=1)
    assert reasons(done) == {
        "S0": ("encode", "the device's memory does not hold a single patch"),
    }
    encoder = Crowded(room=1)
    encoder.wanted = 4
    options = {"batch_size": 8, "n_workers": 1, "deterministic": True}
    done = extract_slides(slides / "S0.tiff", tmp_path / "fixed", encoder, **options)
    assert reasons(done) == {
        "S0": (
            "encode",
            "the device's memory does not hold a batch of 8 patches, and --deterministic forbids "
            "to halve it; give a smaller --batch-size",
        ),
    }


def test_values_that_the_file_cannot_hold_fail_the_slide(slides, tmp_path):
    done = extract_slides(slides / "S0.tiff", tmp_path / "store", Overflowing(), n_workers=1)
    stage, reason = reasons(done)["S0"]
    assert stage == "encode"
    assert " not finite as float16 (rows " in reason
    assert not (tmp_path / "store" / "patch").exists()


def test_deterministic_batches_have_one_shape(slides, tmp_path):
    import torch

    threads = torch.get_num_threads()
    encoder = Linear()
    seen = []
    encode = encoder.encode
    encoder.encode = lambda images: seen.append(torch.get_num_threads()) or encode(images)
    options = {"batch_size": 7, "n_workers": 1, "deterministic": True}
    done = extract_slides(slides / "S0.tiff", tmp_path / "store", encoder, **options)
    assert set(encoder.sizes[1:]) == {7}
    assert set(seen[1:]) == {1}
    assert done.n_patches % 7
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    options = open_store(tmp_path / "store").recipe.options
    assert options["deterministic"] == {"batch_size": 7, "device": "cpu"}


def test_a_pyramid_gives_patches_and_regions(slides, tmp_path):
    done = extract_slides(slides, tmp_path / "store", Pyramid(), n_workers=2)
    assert len(done.failures) == 0
    encoder = Pyramid()
    for slide_id in ("S0", "S1", "S2"):
        frame, found = read_slide(done.store / "patch" / f"{slide_id}.parquet")
        regions, coarse = read_slide(done.store / "region" / f"{slide_id}.parquet", "region")
        assert regions["n_patches"].sum() == len(frame)
        assert found.shape == (len(frame), 8)
        assert coarse.shape == (len(regions), 3)
        with open_slide(slides / f"{slide_id}.tiff") as slide:
            images = slide.read_many(frame["x_um"], frame["y_um"], 128, 0.5)
            np.testing.assert_allclose(found, encoder.encode(images), rtol=2e-3, atol=2e-3)
            blur, _ = score_quality(images)
            np.testing.assert_array_equal(frame["blur"], blur)
            for row, vector in zip(regions.itertuples(), coarse, strict=True):
                size = round(row.width_um / 0.5), round(row.height_um / 0.5)
                image = slide.read(row.x_um, row.y_um, *size, 0.5)
                assert size[0] % 128 == size[1] % 128 == 0
                np.testing.assert_allclose(vector, image.mean(axis=(0, 1)), rtol=1e-3)
    torn = done.store / "region" / "S1.parquet"
    before = contents(done.store)
    torn.unlink()
    again = extract_slides(slides, done.store, Pyramid(), n_workers=1)
    assert again.n_before == 2
    assert contents(done.store) == before


def test_a_look_encodes_nothing(slides, tmp_path):
    encoder = Linear()
    done = extract_slides(slides, tmp_path / "store", encoder, n_workers=1, qc_only=True)
    assert encoder.sizes == []
    assert done.n_patches > 0
    assert sorted(path.name for path in (tmp_path / "store").rglob("*")) == [
        *("S0.png", "S1.png", "S2.png", "contact_sheet.png", "quality"),
    ]


def test_shards_make_the_store_of_one_run(slides, by_stain, tmp_path):
    for shard in ((2, 2), (1, 2)):
        done = extract_slides(slides, tmp_path / "store", n_workers=1, shard=shard)
        assert bool(done.sheets) == (shard == (1, 2))
    found = contents(tmp_path / "store")
    assert sorted(name for name in found if name.startswith("shards")) == [
        f"shards/{table}-0000{i}-of-00002.parquet"
        for table in ("failures", "slides")
        for i in (1, 2)
    ]
    kept = {name: content for name, content in found.items() if not name.startswith("shards")}
    assert kept == contents(by_stain.store)
    with pytest.raises(SchemaError, match=r"^--shard 4/4: nothing for this shard of 3 slides\.$"):
        extract_slides(slides, tmp_path / "store", shard=(4, 4))


def test_several_devices_make_the_store_of_one_run(slides, by_stain, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "all_devices", lambda device, name: ["cpu", "cpu"])
    (tmp_path / "slides").mkdir()
    for path in slides.iterdir():
        (tmp_path / "slides" / path.name).symlink_to(path)
    (tmp_path / "slides" / "bad.svs").write_text("no slide")
    seen = []
    done = extract_slides(
        tmp_path / "slides",
        tmp_path / "store",
        n_workers=1,
        progress=lambda *call: seen.append(call),
    )
    assert (done.n_slides, done.n_before) == (N + 1, 0)
    assert done.n_patches == by_stain.n_patches
    assert list(reasons(done)) == ["bad"]
    assert len(done.sheets) == 1
    assert seen[-1][:2] == (N + 1, N + 1)
    assert seen[-1][2].startswith("cpu: ")
    for slide_id, found in vectors(by_stain.store).items():
        np.testing.assert_array_equal(vectors(done.store)[slide_id], found)
    with pytest.raises(SchemaError, match="holds features of patch_px 256, not 224"):
        extract_slides(tmp_path / "slides", tmp_path / "store", patch_px=224)


def test_slides_are_fetched_and_let_go(slides, by_network, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    for i in range(N):
        memory.pipe(f"/bucket/S{i}.tiff", (slides / f"S{i}.tiff").read_bytes())
    options = {"n_workers": 2, "cache": tmp_path / "cache", "cache_gb": 0.01}
    done = extract_slides("memory://bucket/*.tiff", tmp_path / "store", Linear(), **options)
    assert len(done.failures) == 0
    assert list((tmp_path / "cache").iterdir()) == []
    for slide_id, found in vectors(by_network.store).items():
        np.testing.assert_array_equal(vectors(done.store)[slide_id], found)
    again = extract_slides("memory://bucket/*.tiff", tmp_path / "store", Linear(), **options)
    assert again.n_before == N


def test_progress_counts_up_to_the_end(slides, tmp_path):
    seen = []
    extract_slides(slides, tmp_path, Linear(), n_workers=1, progress=lambda *c: seen.append(c))
    done = [share for share, _, _ in seen]
    assert done == sorted(done)
    assert (done[-1], {total for _, total, _ in seen}) == (N, {N})
    assert seen[-1][2].endswith("patches/s, 0 s left")
