"""Stores of others, written here as TRIDENT, CLAM and STAMP write them, and pooled like ours."""

import json
import logging

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from tabular_trainers import DataError, SchemaError, cli
from tabular_trainers.embed import pool_store

SLIDES = {"S1": ("P1", 3), "S2": ("P1", 5), "S3": ("P0", 2)}


def vectors(slide, dtype="float32", dim=4):
    seed, (_, n) = int(slide[1]), SLIDES[slide]
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(dtype)


def write_trident(path, values, encoder="uni_v1", **more):
    """As save_h5 of trident/IO.py: a chunk a row, attributes on both datasets."""
    facts = {"patch_size": 256, "target_magnification": 20, "overlap": 0} | more
    with h5py.File(path, "w") as file:
        shape = (None, *values.shape[1:])
        features = file.create_dataset(
            "features", data=values, maxshape=shape, chunks=(1, *values.shape[1:])
        )
        features.attrs.update({"name": path.stem, "savetodir": "x", "encoder": encoder})
        coords = file.create_dataset("coords", data=np.zeros((len(values), 2), dtype="int64"))
        coords.attrs.update(facts | {"name": path.stem, "patch_size_level0": 512})


def write_clam(path, values):
    """As save_hdf5 of CLAM: two datasets and no attributes."""
    with h5py.File(path, "w") as file:
        file["features"] = values
        file["coords"] = np.zeros((len(values), 2), dtype="int32")


def write_stamp(path, values, name="feats"):
    """As stamp/preprocessing: half precision, facts on the file itself."""
    with h5py.File(path, "w") as file:
        file["coords"] = np.zeros((len(values), 2), dtype="float32")
        file[name] = values.astype("float16")
        facts = {"extractor": "chief-ctranspath", "unit": "um", "feat_type": "tile"}
        sizes = {"tile_size_um": 256.0, "tile_size_px": np.int64(224)}
        file.attrs.update(facts | sizes | {"stamp_version": "2.1.0", "code_hash": "abcd1234"})


def write_folder(folder, write, ending=".h5", **how):
    folder.mkdir(parents=True)
    for slide in SLIDES:
        write(folder / f"{slide}{ending}", vectors(slide), **how)
    return folder


@pytest.fixture
def slides(tmp_path):
    path = tmp_path / "slides.csv"
    lines = [f"{slide},{patient},x" for slide, (patient, _) in SLIDES.items()]
    path.write_text("\n".join(["slide_id,patient_id,path", *lines]))
    return path


def read(path):
    table = pq.read_table(path)
    facts = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
    values = np.column_stack([table.column(i) for i in range(1, table.num_columns)])
    return table.column("patient_id").to_pylist(), values, facts


def check(path, dtype="float32"):
    """Hold a pooled table against the means of slides and of patients; return its metadata."""
    patients, found, facts = read(path)
    means = {slide: vectors(slide, dtype).astype("float64").mean(0) for slide in SLIDES}
    assert patients == ["P0", "P1"]
    right = [means["S3"], (means["S1"] + means["S2"]) / 2]
    np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-12)
    return facts


def test_trident(tmp_path, slides):
    folder = write_folder(tmp_path / "features_uni_v1", write_trident)
    facts = check(pool_store(folder, tmp_path / "out.parquet", slides=slides).path)
    assert facts["encoder_id"] == "uni_v1"
    assert json.loads(facts["pretrained_on"]) == ["unknown"]
    options = {"patch_size": 256, "target_magnification": 20, "overlap": 0}
    assert json.loads(facts["options"]) == options


def test_trident_without_the_name_of_its_encoder(tmp_path, slides):
    folder = write_folder(tmp_path / "features", write_trident, encoder="None")
    facts = check(pool_store(folder, tmp_path / "out.parquet", slides=slides).path)
    assert facts["encoder_id"] == "unknown"


def test_clam_keeps_vectors_twice_and_they_are_read_once(tmp_path, slides, monkeypatch):
    write_folder(tmp_path / "clam" / "h5_files", write_clam)
    write_folder(tmp_path / "clam" / "pt_files", lambda path, _: path.touch(), ".pt")
    facts = check(pool_store(tmp_path / "clam", tmp_path / "out.parquet", slides=slides).path)
    assert facts["encoder_id"] == "unknown"


@pytest.mark.parametrize("name", ["feats", "patch_embeddings"])
def test_stamp_in_subfolders(tmp_path, slides, name):
    folder = tmp_path / "chief-ctranspath-abcd1234"
    write_folder(folder / "site", write_stamp, name=name)
    facts = check(pool_store(folder, tmp_path / "out.parquet", slides=slides).path, "float16")
    assert facts["encoder_id"] == "chief-ctranspath"
    assert json.loads(facts["options"]) == {"tile_size_um": 256.0, "tile_size_px": 224}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("batch", [False, True])
def test_arrays_and_tensors(tmp_path, slides, dtype, batch):
    shaped = {s: vectors(s, dtype)[None] if batch else vectors(s, dtype) for s in SLIDES}
    (tmp_path / "npy").mkdir()
    (tmp_path / "pt").mkdir()
    (tmp_path / "h5").mkdir()
    for slide, values in shaped.items():
        np.save(tmp_path / "npy" / f"{slide}.npy", values)
        torch.save(torch.from_numpy(values), tmp_path / "pt" / f"{slide}.pt")
        write_clam(tmp_path / "h5" / f"{slide}.h5", values)
    for kind in ("npy", "pt", "h5"):
        check(pool_store(tmp_path / kind, tmp_path / f"{kind}.parquet", slides=slides).path, dtype)


def test_a_brain_float_tensor_is_widened(tmp_path):
    values = torch.arange(6, dtype=torch.bfloat16).reshape(3, 2)
    (tmp_path / "pt").mkdir()
    torch.save({"features": values}, tmp_path / "pt" / "S1.pt")
    _, found, _ = read(pool_store(tmp_path / "pt", tmp_path / "out.parquet").path)
    np.testing.assert_array_equal(found, [[2.0, 3.0]])


def test_long_files_are_read_in_blocks(tmp_path):
    values = np.random.default_rng(0).normal(size=(9000, 2))
    (tmp_path / "h5").mkdir()
    write_clam(tmp_path / "h5" / "S1.h5", values)
    done = pool_store(tmp_path / "h5", tmp_path / "out.parquet", "quantiles")
    right = np.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9], axis=0).ravel()
    np.testing.assert_allclose(read(done.path)[1], [right], rtol=1e-12)
    assert done.n_vectors == 9000


def test_who_is_left_out_is_told(tmp_path, caplog):
    folder = write_folder(tmp_path / "h5", write_clam)
    write_clam(folder / "S3.h5", np.empty((0, 4), dtype="float32"))
    slides = tmp_path / "slides.csv"
    slides.write_text("slide_id,patient_id\nS1,P1\nS3,P0\nS9,P9\n")
    with caplog.at_level(logging.WARNING, "tabular_trainers"):
        done = pool_store(folder, tmp_path / "out.parquet", slides=slides)
    assert read(done.path)[0] == ["P1"]
    assert caplog.messages == [
        "1 file is not in slides.csv, and left out: S2.",
        "1 slide without vectors (an empty file): S3.",
        "1 slide without vectors (no file): S9.",
        "2 patients have no features: P0, P9.",
    ]


def test_without_a_table_each_file_is_a_patient(tmp_path, caplog):
    folder = write_folder(tmp_path / "h5", write_clam)
    with caplog.at_level(logging.WARNING, "tabular_trainers"):
        patients, _, _ = read(pool_store(folder, tmp_path / "out.parquet").path)
    assert patients == ["S1", "S2", "S3"]
    assert caplog.messages == ["No table of slides: each file is taken as a patient of its own."]


def refusal(folder, tmp_path, kind=SchemaError, **how):
    with pytest.raises(kind) as caught:
        pool_store(folder, tmp_path / "out.parquet", **how)
    assert not (tmp_path / "out.parquet").exists()
    return str(caught.value)


def test_two_encoders_are_refused(tmp_path):
    folder = write_folder(tmp_path / "h5", write_trident)
    write_trident(folder / "S2.h5", vectors("S2"), "conch_v15", patch_size=512)
    assert refusal(folder, tmp_path) == (
        "h5: not all were made alike, and so cannot be pooled together. Unlike 2 slides: 1 slide "
        "(S2): encoder conch_v15, not uni_v1, patch_size 512, not 256. Extract one kind again, "
        "into a store of its own."
    )


def test_every_file_that_is_not_one_is_told(tmp_path):
    folder = write_folder(tmp_path / "h5", write_clam)
    (folder / "S1.h5").write_bytes(b"not HDF5")
    with h5py.File(folder / "S2.h5", "w") as file:
        file["coords"] = np.zeros((3, 2))
    write_clam(folder / "S3.h5", np.zeros(7))
    lines = refusal(folder, tmp_path).splitlines()
    assert lines[0] == "3 problems:"
    assert lines[1].startswith("- S1.h5: not a whole HDF5 file (")
    assert lines[2:] == [
        "- S2.h5: no vectors; expected a dataset features, feats, patch_embeddings, found coords.",
        "- S3.h5: vectors of shape (7,) and type float64; expected (n, dim) or (1, n, dim) of "
        "float16, float32 or float64.",
    ]


class Planted:
    """What a pickle would run when it is loaded."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


def test_no_code_is_run(tmp_path):
    for ending in ("pt", "npy"):
        (tmp_path / ending).mkdir()
    torch.save(Planted(), tmp_path / "pt" / "S1.pt")
    np.save(tmp_path / "npy" / "S1.npy", np.array([Planted()], dtype=object), allow_pickle=True)
    assert refusal(tmp_path / "pt", tmp_path).startswith(
        "S1.pt: not a tensor that can be loaded without running code ("
    )
    assert refusal(tmp_path / "npy", tmp_path).startswith("S1.npy: not an array of numbers (")


def test_a_pt_file_without_a_tensor_is_refused(tmp_path):
    (tmp_path / "pt").mkdir()
    torch.save({"coords": torch.zeros(3, 2)}, tmp_path / "pt" / "S1.pt")
    assert refusal(tmp_path / "pt", tmp_path) == (
        "S1.pt: no tensor; expected one of shape (n, dim)."
    )


def test_folders_that_cannot_be_read(tmp_path):
    assert refusal(tmp_path / "none", tmp_path) == f"{tmp_path / 'none'}: no such folder."
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty", tmp_path) == (
        f"{tmp_path / 'empty'}: neither slides.parquet, as embed slides writes it, nor a file that "
        "ends in .h5, .pt, .npy."
    )
    folder = write_folder(tmp_path / "mixed", write_clam)
    np.save(folder / "S4.npy", np.zeros((2, 4)))
    assert refusal(folder, tmp_path) == (
        f"{folder}: files that end in .h5, .npy; expected one kind. Name a folder that has one."
    )
    write_folder(tmp_path / "twice" / "a", write_clam)
    write_folder(tmp_path / "twice" / "b", write_clam)
    assert refusal(tmp_path / "twice", tmp_path) == (
        f"{tmp_path / 'twice'}: 3 names in several subfolders (S1, S2, S3); expected one file a "
        "slide."
    )


def test_no_regions_in_stores_of_others(tmp_path):
    folder = write_folder(tmp_path / "h5", write_clam)
    assert refusal(folder, tmp_path, level="both") == (
        f"{folder}: not a store of embed slides, so it has patches only."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,patient_id\nS1,P1\n", "s.csv: no column 'slide_id'. Did you mean 'slide'?"),
        ("slide_id,patient_id\nS1,P1\nS1,P2\n", "s.csv, column slide_id: row 2 name a slide"),
        ("slide_id,patient_id\nS1,\nS2,P2\n", "s.csv, column patient_id: empty in row 1."),
    ],
)
def test_tables_of_slides_that_are_none(tmp_path, text, message):
    folder = write_folder(tmp_path / "h5", write_clam)
    (tmp_path / "s.csv").write_text(text)
    assert message in refusal(folder, tmp_path, slides=tmp_path / "s.csv")


def test_a_table_of_other_slides_is_refused(tmp_path):
    folder = write_folder(tmp_path / "h5", write_clam)
    (tmp_path / "s.csv").write_text("slide_id,patient_id\nS1.svs,P1\n")
    assert refusal(folder, tmp_path, DataError, slides=tmp_path / "s.csv") == (
        "s.csv: no slide_id is the name of a file of h5 without its ending; the files are like "
        "'S1', the ids like 'S1.svs'."
    )


def test_the_command_takes_a_table_of_slides(tmp_path, slides):
    folder = write_folder(tmp_path / "h5", write_clam)
    out = tmp_path / "out.parquet"
    ended = CliRunner().invoke(
        cli.app,
        ["embed", "pool", str(folder), "--slides", str(slides), "--out", str(out)],
    )
    assert ended.exit_code == 0
    assert ended.stdout.startswith("2 patients from 3 slides, 4 features.\n")
    check(out)
