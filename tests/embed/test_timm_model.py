"""Models of timm: what timm itself computes, loaded from files alone, and strictly."""

import json

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf

from tabular_trainers import SchemaError
from tabular_trainers.embed import load_encoder
from tabular_trainers.embed.encoders import timm_model

NAME = "test_vit"  # timm's own for tests: 64 numbers, 160 px, six thin blocks
DIM, SIDE = 64, 160


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    model = timm.create_model(NAME, num_classes=7).eval()
    for tensor in model.parameters():
        torch.nn.init.normal_(tensor.data, std=0.2)
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def expected(model, images):
    """Return what timm's own preprocessing and model give for each image."""
    transform = create_transform(**{**resolve_data_config({}, model=model), "crop_pct": 1.0})
    pixels = torch.stack([transform(Image.fromarray(image)) for image in images])
    with torch.no_grad():
        return model.forward_head(model.forward_features(pixels), pre_logits=True).numpy()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("timm") / "weights.safetensors"
    save_file(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Return a folder as a model of the Hugging Face hub is laid out."""
    folder = tmp_path_factory.mktemp("timm") / "our_model"
    save_for_hf(model, folder, safe_serialization=True)
    return folder


def _ways(file, folder, tmp_path):
    state = {f"module.{key}": tensor for key, tensor in load_file(file).items()}
    torch.save({"state_dict": state}, tmp_path / "weights.pth")
    return {
        "file": (f"timm:{NAME}", file),
        "torch file": (f"timm:{NAME}.r160_in1k", tmp_path / "weights.pth"),
        "folder": (f"timm:{NAME}", folder),
        "hub's name, folder": ("timm:hf-hub:somebody/model", folder),
        "local-dir": (f"timm:local-dir:{folder}", None),
    }


@pytest.mark.parametrize("way", ["file", "torch file", "folder", "hub's name, folder", "local-dir"])
def test_features_are_those_of_timm(file, folder, tmp_path, images, expected, way):
    name, weights = _ways(file, folder, tmp_path)[way]
    encoder = load_encoder(name, weights=weights)
    assert (encoder.dim, encoder.patch_px, encoder.mpp) == (DIM, SIDE, 0.5)
    np.testing.assert_allclose(encoder.encode(images), expected, atol=1e-5)


def test_features_do_not_depend_on_the_batch(file, images):
    encoder = load_encoder(f"timm:{NAME}", weights=file)
    alone = np.concatenate([encoder.encode(images[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(alone, encoder.encode(images), atol=1e-5)


def test_the_folder_s_own_normalisation_is_used(model, folder, tmp_path, images):
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.7, 0.6, 0.7], "std": [0.2, 0.2, 0.2]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    found = load_encoder(f"timm:local-dir:{tmp_path}")
    pixels = torch.tensor(images / 255).permute(0, 3, 1, 2).float()
    pixels = (pixels - torch.tensor([0.7, 0.6, 0.7]).reshape(3, 1, 1)) / 0.2
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(pixels), pre_logits=True)
    np.testing.assert_allclose(found.encode(images), expected, atol=1e-4)
    assert found.id.split()[2] != load_encoder(f"timm:local-dir:{folder}").id.split()[2]


def test_a_model_that_gives_tokens_gives_its_class_token(model, tmp_path, images):
    config = {
        "architecture": NAME,
        "num_classes": 0,
        "model_args": {"num_classes": 0, "global_pool": ""},
        "pretrained_cfg": {
            "input_size": [3, SIDE, SIDE],
            "fixed_input_size": True,
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("head.")}
    save_file(state, tmp_path / "model.safetensors")
    pixels = torch.tensor(images / 127.5 - 1).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = model.forward_features(pixels)[:, 0]
    found = load_encoder(f"timm:local-dir:{tmp_path}").encode(images)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_model_without_a_vector_a_patch_is_refused(tmp_path):
    model = timm.create_model("test_resnet", num_classes=0, global_pool="")
    config = {
        "architecture": "test_resnet",
        "model_args": {"global_pool": ""},
        "pretrained_cfg": {"input_size": [3, 64, 64]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(SchemaError, match="expected one vector a patch: a model that pools"):
        load_encoder(f"timm:local-dir:{tmp_path}")


def test_what_it_was_trained_on_follows_from_the_name(file, folder):
    known = load_encoder(f"timm:{NAME}.r160_in1k", weights=file)
    assert known.pretrained_on == ("ImageNet-1k",)
    for name in (f"timm:{NAME}", f"timm:local-dir:{folder}"):
        weights = None if "local" in name else file
        assert load_encoder(name, weights=weights).pretrained_on == ("unknown",)


def test_the_id_holds_the_sha256_of_the_weights(file, tmp_path, model):
    one = load_encoder(f"timm:{NAME}", weights=file)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())
    assert load_encoder(f"timm:{NAME}", weights=copy).id == one.id
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state["norm.bias"][0] += 1
    save_file(state, copy)
    assert load_encoder(f"timm:{NAME}", weights=copy).id != one.id


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_vit2").state_dict(), path)
    with pytest.raises(SchemaError) as caught:
        load_encoder(f"timm:{NAME}", weights=path)
    assert str(caught.value).startswith(f"{path}: not the weights of this network: ")


def test_a_tensor_too_few_is_refused(tmp_path, model):
    """timm by itself would go on, with random numbers in its place."""
    path = tmp_path / "weights.safetensors"
    state = model.state_dict()
    del state["blocks.0.attn.qkv.bias"]
    save_file(state, path)
    with pytest.raises(SchemaError) as caught:
        load_encoder(f"timm:{NAME}", weights=path)
    total = len(state) + 1 - 2  # without the classifier's two
    assert str(caught.value) == (
        f"{path}: not the weights of this network: 1 of {total} missing (blocks.0.attn.qkv.bias)."
    )


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        (
            "timm:vit_small_patch16_244",
            "x",
            "encoder timm:vit_small_patch16_244: no model of timm. Did you mean "
            "'vit_small_patch16_224'?",
        ),
        (
            "timm:vit_small_patch16_224.dina",
            "x",
            "encoder timm:vit_small_patch16_224.dina: timm knows no such weights of this model. "
            "Did you mean 'vit_small_patch16_224.dino'?",
        ),
        (
            "timm:test_vit",
            "gone.pth",
            "encoder timm:test_vit: gone.pth is neither a file nor a folder. Give the file with "
            "the weights, or the folder with config.json and model.safetensors.",
        ),
        (
            "timm:local-dir:gone",
            None,
            "encoder timm:local-dir:gone: gone is neither a file nor a folder. Give the file with "
            "the weights, or the folder with config.json and model.safetensors.",
        ),
        (
            "timm:local-dir:gone",
            "gone",
            "encoder timm:local-dir:gone: names its folder already; leave out weights.",
        ),
        (
            "timm:gcvit_base.in1k",
            None,
            "encoder timm:gcvit_base.in1k: the Hugging Face hub has no weights of it. Download "
            "https://github.com/rwightman/pytorch-image-models/releases/download/"
            "v0.1-weights-morevit/gcvit_base_224_nvidia-f009139b.pth, and give that file: "
            "weights=FILE, or --weights FILE.",
        ),
    ],
)
def test_what_cannot_be_found_is_said(name, weights, message):
    with pytest.raises(SchemaError) as caught:
        load_encoder(name, weights=weights)
    assert str(caught.value) == message


def test_a_folder_of_another_model_is_refused(folder):
    with pytest.raises(SchemaError) as caught:
        load_encoder("timm:resnet18", weights=folder)
    assert str(caught.value) == (
        f"encoder timm:resnet18: {folder / 'config.json'} is of test_vit. Name that model: "
        "timm:test_vit, or timm:local-dir:FOLDER."
    )


def test_a_model_in_parts_is_read(model, folder, tmp_path, images):
    state = list(model.state_dict().items())
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    for number, part in enumerate((state[:40], state[40:]), start=1):
        save_file(dict(part), tmp_path / f"model-0000{number}-of-00002.safetensors")
    found = load_encoder(f"timm:local-dir:{tmp_path}").encode(images)
    np.testing.assert_array_equal(found, load_encoder(f"timm:local-dir:{folder}").encode(images))


def test_a_fetched_model_records_its_commit(folder, tmp_path, monkeypatch, images):
    """The hub's cache, as it lies on disk; a name without a tag is completed."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / f"models--timm--{NAME}.r160_in1k"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for path in folder.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    local = load_encoder(f"timm:local-dir:{folder}")
    for name in (NAME, f"{NAME}.r160_in1k", f"hf-hub:timm/{NAME}.r160_in1k"):
        encoder = load_encoder(f"timm:{name}")
        assert encoder.id.split()[1] == f"revision={commit}"
        assert encoder.id.split()[0].endswith(f"{NAME}.r160_in1k")
        assert encoder.pretrained_on == ("ImageNet-1k",)
        np.testing.assert_array_equal(encoder.encode(images), local.encode(images))


def test_a_folder_of_transformers_is_told(tmp_path, file):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "model.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(SchemaError, match="a model of transformers is named hf:FOLDER"):
        load_encoder(f"timm:local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("repository", "architecture", "saved", "millions"),
    [
        # Parameters as the model cards state them; the saved arguments are those of config.json.
        ("MahmoodLab/UNI", "vit_large_patch16_224", {}, 303),
        ("MahmoodLab/UNI2-h", "vit_giant_patch14_224", {}, 681),
        ("paige-ai/Virchow", "vit_huge_patch14_224", {"mlp_ratio": 5.3375}, 631),
        ("bioptimus/H-optimus-0", "vit_giant_patch14_reg4_dinov2", {"img_size": 224}, 1135),
    ],
)
def test_published_arguments_make_models_of_the_published_size(
    repository, architecture, saved, millions
):
    arguments = timm_model._published_arguments(repository)
    arguments = {key: timm_model._object_of(value) for key, value in arguments.items()}
    with torch.device("meta"):
        model = timm.create_model(architecture, num_classes=0, **{**saved, **arguments})
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions
