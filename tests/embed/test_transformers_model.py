"""Vision models of transformers: what its own pipeline gives, from local files, without pickles."""

import json
import pathlib

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import errors
from PIL import Image
from safetensors.torch import save_file

from tabular_trainers import SchemaError
from tabular_trainers.embed import load_encoder

SIDE = 28


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)


def _save(model, folder, **preprocessing):
    torch.manual_seed(3)
    for tensor in model.parameters():
        torch.nn.init.normal_(tensor.data, std=0.3)
    model.eval().save_pretrained(folder)
    options = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    transformers.BitImageProcessor(**{**options, **preprocessing}).save_pretrained(folder)
    return model


def _dinov2():
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=42, patch_size=14
    )
    return transformers.Dinov2Model(config)


def _vit(kind=transformers.ViTModel):
    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=SIDE,
        patch_size=14,
    )
    return kind(config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf") / "phikon-v2"
    _save(_dinov2(), folder)
    return folder


@pytest.mark.parametrize(
    ("model", "preprocessing"),
    [
        (_dinov2, {}),
        (_dinov2, {"image_mean": [0.7, 0.5, 0.6], "image_std": [0.2, 0.3, 0.1]}),
        (_dinov2, {"do_normalize": False, "rescale_factor": 1 / 127.5}),
        (_vit, {"do_center_crop": False, "size": {"height": SIDE, "width": SIDE}}),
        (lambda: _vit(transformers.ViTForImageClassification), {}),
    ],
)
def test_features_are_those_of_transformers(tmp_path, images, model, preprocessing):
    model = _save(model(), tmp_path, **preprocessing)
    encoder = load_encoder(f"hf:{tmp_path}")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    pixels = processor([Image.fromarray(image) for image in images], return_tensors="pt")
    with torch.no_grad():
        hidden = model.base_model(**pixels).last_hidden_state
    assert (encoder.dim, encoder.patch_px) == (24, SIDE)
    np.testing.assert_allclose(encoder.encode(images), hidden[:, 0], atol=1e-5)


def test_features_do_not_depend_on_the_batch(folder, images):
    encoder = load_encoder(f"hf:{folder}")
    alone = np.concatenate([encoder.encode(images[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(alone, encoder.encode(images), atol=1e-5)


def test_its_facts(folder, tmp_path):
    encoder = load_encoder(f"hf:{folder}")
    name, digest, settings = encoder.id.split()
    assert name == "hf:phikon-v2"
    assert encoder.pretrained_on == ("TCGA", "CPTAC", "GTEx", "about 100 other public cohorts")
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    named = load_encoder("hf:owkin/phikon-v2", weights=tmp_path)
    assert named.id.split() == ["hf:owkin/phikon-v2", digest, settings]
    changed = json.loads((tmp_path / "preprocessor_config.json").read_text())
    changed["image_mean"] = [0.1, 0.1, 0.1]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(changed))
    other = load_encoder("hf:owkin/phikon-v2", weights=tmp_path)
    assert other.id.split()[1] == digest
    assert other.id.split()[2] != settings


def test_a_torch_file_is_read_where_there_is_no_safetensors(folder, tmp_path, images):
    model = transformers.AutoModel.from_pretrained(folder)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    found = load_encoder(f"hf:{tmp_path}").encode(images)
    np.testing.assert_allclose(found, load_encoder(f"hf:{folder}").encode(images), atol=1e-6)


def test_what_a_model_card_says_can_be_written_by_hand(folder, tmp_path, images):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    by_hand = {"size": SIDE, "image_mean": processor.image_mean, "image_std": processor.image_std}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(by_hand))
    found = load_encoder(f"hf:{tmp_path}").encode(images)
    np.testing.assert_array_equal(found, load_encoder(f"hf:{folder}").encode(images))


def test_a_model_in_parts_is_read(folder, tmp_path, images):
    model = transformers.AutoModel.from_pretrained(folder)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    (tmp_path / "preprocessor_config.json").write_bytes(
        (folder / "preprocessor_config.json").read_bytes()
    )
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    found = load_encoder(f"hf:{tmp_path}")
    whole = load_encoder(f"hf:{folder}")
    np.testing.assert_array_equal(found.encode(images), whole.encode(images))
    assert found.id.split()[1] != whole.id.split()[1]


class _RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (self.path,))


def test_a_torch_file_that_would_run_code_is_refused(folder, tmp_path):
    trace = tmp_path / "trace"
    torch.save({"a": _RunsCode(trace)}, tmp_path / "pytorch_model.bin")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(SchemaError, match="opening it would run code that it carries; refused"):
        load_encoder(f"hf:{tmp_path}")
    assert not trace.exists()


def test_a_model_s_own_code_runs_only_when_asked(tmp_path, images, monkeypatch):
    monkeypatch.setattr(
        transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    folder, trace = tmp_path / "model", tmp_path / "trace"
    model = _save(_vit(), folder)
    # The names inside the model: transformers renames those it publishes only for its own models.
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "modeling_own.py").write_text(
        "import pathlib\n"
        "from transformers import ViTConfig, ViTModel\n"
        f"pathlib.Path({str(trace)!r}).touch()\n"
        "class OwnConfig(ViTConfig):\n    model_type = 'own'\n"
        "class OwnModel(ViTModel):\n    config_class = OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {
        "AutoConfig": "modeling_own.OwnConfig",
        "AutoModel": "modeling_own.OwnModel",
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SchemaError) as caught:
        load_encoder(f"hf:{folder}")
    assert str(caught.value) == (
        "encoder hf:model: brings Python code of its own (modeling_own.py), which is not run. Read "
        "it; if you trust it, say trust_remote_code=True, or --trust-remote-code."
    )
    assert not trace.exists()
    encoder = load_encoder(f"hf:{folder}", trust_remote_code=True)
    assert trace.exists()
    assert encoder.encode(images).shape == (8, 24)


def test_a_tensor_too_few_is_refused(tmp_path):
    model = _save(_vit(), tmp_path)
    state = model.state_dict()
    lacking = next(key for key in state if key.endswith("layernorm_after.bias"))
    del state[lacking]
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(SchemaError) as caught:
        load_encoder(f"hf:{tmp_path}")
    assert str(caught.value) == (
        f"model.safetensors in {tmp_path}: not the weights of this network: 1 missing ({lacking})."
    )


def test_a_model_without_a_class_token_is_refused(tmp_path):
    config = transformers.SwinConfig(
        image_size=SIDE, patch_size=7, embed_dim=8, depths=[1], num_heads=[1], window_size=2
    )
    _save(transformers.SwinModel(config), tmp_path)
    with pytest.raises(SchemaError) as caught:
        load_encoder(f"hf:{tmp_path}")
    assert str(caught.value) == (
        f"encoder hf:{tmp_path.name}: SwinModel is not a vision model with a class token, whose "
        "last vector would be the features. timm has more kinds of models."
    )


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "preprocessor_config.json",
            None,
            "{folder} holds no preprocessor_config.json; download it beside the weights, or, if "
            'the model has none, write it by its model card: {{"size": 224, "image_mean": [r, g, '
            'b], "image_std": [r, g, b]}}.',
        ),
        ("config.json", None, "{folder} holds no config.json; download it beside the weights."),
        (
            "preprocessor_config.json",
            {"crop_size": {"height": 28, "width": 14}},
            "{folder}/preprocessor_config.json: size {{'height': 28, 'width': 14}}; expected a "
            "square, patches are.",
        ),
        (
            "preprocessor_config.json",
            {"image_mean": None},
            "{folder}/preprocessor_config.json: no image_mean or image_std to normalise by.",
        ),
        (
            "model.safetensors",
            None,
            "encoder hf:{folder.name}: {folder} holds no model.safetensors or pytorch_model.bin. "
            "Download it from the model's page on huggingface.co, beside its config.json.",
        ),
    ],
)
def test_files_that_are_missing_or_wrong_are_said(folder, tmp_path, file, change, message):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if change is None:
        (tmp_path / file).unlink()
    else:
        given = json.loads((tmp_path / file).read_text()) | change
        (tmp_path / file).write_text(json.dumps(given))
    with pytest.raises(SchemaError) as caught:
        load_encoder(f"hf:{tmp_path}")
    assert str(caught.value) == message.format(folder=tmp_path)


BY_HAND = (
    " Without internet: elsewhere, download config.json and the weights (and, for hf:, "
    "preprocessor_config.json) from huggingface.co/owkin/phikon, whose owner is owkin, into one "
    "folder, bring it here, and name it: weights=FOLDER, or --weights FOLDER."
)


def test_a_hub_that_cannot_be_reached_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for revision, at in ((None, ""), ("v1", " at revision v1")):
        with pytest.raises(SchemaError) as caught:
            load_encoder("hf:owkin/phikon", revision=revision)
        assert str(caught.value) == (
            f"encoder hf:owkin/phikon: owkin/phikon{at} is not in this computer's cache, and the "
            "Hugging Face hub cannot be reached." + BY_HAND
        )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "GatedRepoError",
            "encoder hf:owkin/phikon: owkin/phikon is gated: its owner gives access to those who "
            "ask. Ask at huggingface.co/owkin/phikon, then run: hf auth login." + BY_HAND,
        ),
        (
            "RepositoryNotFoundError",
            "encoder hf:owkin/phikon: the Hugging Face hub has no model owkin/phikon, or shows it "
            "to its owner only. Check the name; if it is private, run: hf auth login." + BY_HAND,
        ),
        (
            "RevisionNotFoundError",
            "encoder hf:owkin/phikon: owkin/phikon has no revision v1.",
        ),
    ],
)
def test_what_the_hub_refuses_is_said(monkeypatch, kind, message):
    def refuse(*arguments, **options):
        raise getattr(errors, kind).__new__(getattr(errors, kind))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(SchemaError) as caught:
        load_encoder("hf:owkin/phikon", revision="v1")
    assert str(caught.value) == message


def test_the_commit_is_resolved_and_recorded(folder, tmp_path, monkeypatch, images):
    """The hub's cache, as it lies on disk: the folder of a snapshot is named by its commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--owkin--phikon-v2"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for path in folder.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for revision in (None, "main", commit):
        encoder = load_encoder("hf:owkin/phikon-v2", revision=revision)
        assert encoder.id.split()[:2] == ["hf:owkin/phikon-v2", f"revision={commit}"]
    np.testing.assert_array_equal(
        encoder.encode(images), load_encoder(f"hf:{folder}").encode(images)
    )
