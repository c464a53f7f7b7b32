"""Saved models: no pickle, nothing half-written, and no class that is not ours."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.pipeline import Pipeline

from tabular_trainers.errors import SchemaError
from tabular_trainers.models import load_model, make_model, save_model, storage


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"clinical.age": rng.normal(size=60), "clinical.size": rng.normal(size=60)})
    label = (X["clinical.age"] + rng.normal(size=60) > 0).to_numpy().astype(np.int8)
    return make_model("logistic", "classification", parameters={"C": 1.0}).fit(X, label)


METADATA = {"columns": ["clinical.age"], "risk_scale": "probability", "levels": {"a": ["I", "é"]}}


def test_metadata_travels_with_the_model(model, tmp_path):
    path = tmp_path / "clinical+blood" / "logistic.skops"
    save_model(model, path, METADATA)
    loaded, metadata = load_model(path)
    assert metadata == METADATA
    np.testing.assert_array_equal(loaded[-1].coef_, model[-1].coef_)
    assert os.listdir(path.parent) == ["logistic.skops"]
    names = zipfile.ZipFile(path).namelist()
    assert all(name.endswith((".npy", ".json")) for name in names)


def test_a_failed_write_leaves_the_old_model(model, tmp_path, monkeypatch):
    path = tmp_path / "model.skops"
    save_model(model, path, {"version": 1})

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(model, path, {"version": 2})
    monkeypatch.undo()
    assert load_model(path)[1] == {"version": 1}
    assert os.listdir(tmp_path) == ["model.skops"]


class Stranger:
    """A class that no model has."""

    def __init__(self):
        self.value = 1


def _rewrite(path, change):
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def test_an_unknown_type_is_refused(model, tmp_path):
    path = tmp_path / "model.skops"
    save_model(model, path, {})

    def tamper(entries):
        text = entries["schema.json"].decode()
        entries["schema.json"] = (
            text.replace('"tabular_trainers.models.linear"', '"subprocess"')
            .replace('"RidgeLogistic"', '"Popen"')
            .encode()
        )

    _rewrite(path, tamper)
    with pytest.raises(SchemaError) as caught:
        load_model(path)
    assert str(caught.value) == (
        f"{path}: holds types that no model of this package has: subprocess.Popen. "
        "It was not opened; fit the model again."
    )


def test_a_stranger_inside_a_pipeline_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    content = skops.io.dumps(Pipeline([("model", Stranger())]))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in (entries | {storage.METADATA: b"{}"}).items():
            archive.writestr(name, part)
    with pytest.raises(
        SchemaError, match="holds types that no model of this package has: .*Strang"
    ):
        load_model(path)


def test_files_that_are_no_models(model, tmp_path):
    path = tmp_path / "model.skops"
    with pytest.raises(SchemaError) as caught:
        load_model(path)
    assert str(caught.value) == f"{path}: no such file; expected a model written by a run."
    save_model(model, path, {})
    whole = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(), "w"):
        pass
    for content, kind in (
        (b"", "BadZipFile"),
        (whole[:200], "BadZipFile"),
        (_without(whole, storage.METADATA), "KeyError"),
        (_without(whole, "schema.json"), "KeyError"),
    ):
        path.write_bytes(content)
        with pytest.raises(SchemaError) as caught:
            load_model(path)
        assert str(caught.value) == (
            f"{path}: not a model written by this package, or damaged ({kind}). "
            "Fit the model again."
        )


def _without(content, name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.namelist():
            if entry != name:
                new.writestr(entry, old.read(entry))
    return buffer.getvalue()


def test_only_our_classes_are_trusted():
    assert all(name.startswith("tabular_trainers.") for name in storage.trusted_types())
    assert "tabular_trainers.preprocess.Preprocessor" in storage.trusted_types()
    json.dumps(storage.trusted_types())
