"""The table of encoders: each keeps the contract; names that are wrong are told from the right."""

import runpy

import numpy as np
import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file

from tabular_trainers import SchemaError
from tabular_trainers.embed import ENCODERS, load_encoder


def _hipt(folder, root):
    runpy.run_path(str(root / "tests" / "golden" / "hipt.py"))["write_checkpoints"](folder)
    return "hipt", folder


def _timm(folder, root):
    save_file(timm.create_model("test_vit").state_dict(), folder / "weights.safetensors")
    return "timm:test_vit", folder / "weights.safetensors"


def _hf(folder, root):
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    size = {"height": 28, "width": 28}
    transformers.BitImageProcessor(size=size, crop_size=size).save_pretrained(folder)
    return f"hf:{folder}", None


# One maker of small random weights, in the published layout, for each encoder.
MAKERS = {"stain": lambda folder, root: ("stain", None), "hipt": _hipt, "timm": _timm, "hf": _hf}
of_networks = pytest.mark.parametrize(
    "made", [key for key, row in ENCODERS.items() if row.needs_weights], indirect=True
)


@pytest.fixture(scope="module", params=ENCODERS)
def made(request, root, tmp_path_factory):
    """Return a row's key, the name to load, its weights, and the encoder."""
    torch.manual_seed(0)
    name, weights = MAKERS[request.param](tmp_path_factory.mktemp(request.param), root)
    return request.param, name, weights, load_encoder(name, weights=weights)


@pytest.fixture(scope="module")
def images(made):
    side = made[3].patch_px
    coarse = np.random.default_rng(1).integers(0, 200, (8, side // 4 + 1, side // 4 + 1, 3))
    return coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :side, :side].astype(np.uint8)


def test_its_facts_are_of_the_right_kind(made):
    key, _, _, encoder = made
    assert encoder.id.split()[0].partition(":")[0].partition("-")[0] == key
    assert isinstance(encoder.dim, int)
    assert isinstance(encoder.patch_px, int)
    assert isinstance(encoder.mpp, float)
    assert isinstance(encoder.in_reader, bool)
    assert isinstance(encoder.pretrained_on, tuple)
    assert encoder.dtype == ("float16" if ENCODERS[key].needs_weights else "float32")
    names = encoder.feature_names
    assert names is None or len(set(names)) == len(names) == encoder.dim


def test_the_weights_sha256_is_in_the_id(made):
    key, _, _, encoder = made
    digests = [part.partition("sha256=")[2] for part in encoder.id.split() if "sha256=" in part]
    assert len(digests) == {"stain": 0, "hipt": 2}.get(key, 1)
    assert all(len(digest) == 64 and int(digest, 16) for digest in digests)


def test_features_are_float32_one_row_a_patch(made, images):
    encoder = made[3]
    found = encoder.encode(images)
    assert found.shape == (8, encoder.dim)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert encoder.encode(images[:0]).shape == (0, encoder.dim)


def test_features_are_equal_for_batch_1_and_batch_8(made, images):
    encoder = made[3]
    alone = np.concatenate([encoder.encode(images[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(alone, encoder.encode(images), atol=1e-5, rtol=1e-5)


def test_patches_differ_and_are_not_changed(made, images):
    encoder, before = made[3], images.copy()
    found = encoder.encode(images)
    assert len(np.unique(found.round(6), axis=0)) == 8
    np.testing.assert_array_equal(images, before)


def test_loading_again_gives_the_same(made, images):
    _, name, weights, encoder = made
    again = load_encoder(name, weights=weights)
    assert again.id == encoder.id
    np.testing.assert_array_equal(again.encode(images[:2]), encoder.encode(images[:2]))


@of_networks
def test_a_network_says_its_precision_and_obeys_it(made, images):
    _, name, weights, encoder = made
    assert encoder.precision == "float32"
    half = load_encoder(name, weights=weights, precision="bfloat16")
    assert half.precision == "bfloat16"
    difference = np.abs(half.encode(images) - encoder.encode(images)).max()
    assert 1e-5 < difference < 0.5
    with pytest.raises(SchemaError) as caught:
        load_encoder(name, weights=weights, precision="float61")
    assert str(caught.value) == (
        "unknown precision 'float61'; known: float32, bfloat16, float16. Did you mean 'float16'?"
    )


@of_networks
def test_a_network_refuses_patches_of_another_size(made):
    encoder = made[3]
    side = encoder.patch_px
    with pytest.raises(SchemaError) as caught:
        encoder.encode(np.zeros((2, side, side + 1, 3), np.uint8))
    assert str(caught.value) == (
        f"images: uint8 of shape (2, {side}, {side + 1}, 3); expected uint8 of shape (n, {side}, "
        f"{side}, 3)."
    )


@of_networks
@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device 'gpu': expected cpu, cuda, or cuda:0, cuda:1, ..."),
        ("cuda:", "device 'cuda:': expected cpu, cuda, or cuda:0, cuda:1, ..."),
        ("cuda:one", "device 'cuda:one': expected cpu, cuda, or cuda:0, cuda:1, ..."),
        (
            "cuda",
            f"device cuda: PyTorch {torch.__version__} sees no graphics card here. Ask for one in "
            "the job, or check the driver with nvidia-smi, or give the device cpu.",
        ),
        ("cuda:5", "device cuda:5: there are 2 graphics cards, numbered from 0."),
    ],
)
def test_a_device_that_is_not_there_is_said(made, device, message, monkeypatch):
    _, name, weights, _ = made
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: ":5" in device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SchemaError) as caught:
        load_encoder(name, weights=weights, device=device)
    assert str(caught.value) == message


@of_networks
def test_a_build_of_torch_for_cpus_is_said(made, monkeypatch):
    _, name, weights, _ = made
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SchemaError) as caught:
        load_encoder(name, weights=weights, device="cuda")
    assert str(caught.value) == (
        f"device cuda: PyTorch {torch.__version__} sees no graphics card here. It is built for "
        "CPUs only: install the build for your card (pytorch.org), or give the device cpu."
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stian", "unknown encoder 'stian'; known: stain, hipt, timm, hf. Did you mean 'stain'?"),
        ("timm", "encoder 'timm': expected timm:NAME (timm:NAME, any model of timm)."),
        ("hipt:4k", "encoder 'hipt:4k': nothing follows 'hipt'; expected hipt."),
    ],
)
def test_a_wrong_name_is_refused(name, message):
    with pytest.raises(SchemaError) as caught:
        load_encoder(name)
    assert str(caught.value) == message
