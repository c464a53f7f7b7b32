"""HIPT agrees with its authors' code, is loaded only from what they published, and says so."""

import argparse
import hashlib
import json
import runpy
import shutil

import numpy as np
import pytest
import torch

from tabular_trainers import SchemaError
from tabular_trainers.embed import load_encoder

CLOSE = 1e-4  # features are of size 1


@pytest.fixture(scope="module")
def golden(root):
    """Return the module that drew weights and images, and what the authors' code gave for them."""
    drawn = runpy.run_path(str(root / "tests" / "golden" / "hipt.py"))
    return drawn, json.loads((root / "tests" / "golden" / "hipt.json").read_text())


@pytest.fixture(scope="module")
def folder(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hipt")
    golden[0]["write_checkpoints"](folder)
    return folder


@pytest.fixture(scope="module")
def hipt(folder):
    return load_encoder("hipt", weights=folder)


def test_patches_agree_with_the_authors_code(hipt, golden):
    drawn, answers = golden
    images = np.stack([drawn["draw_image"](seed, 256, 256) for seed in range(drawn["PATCHES"])])
    found = hipt.encode(images)
    assert found.shape == (3, 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, answers["patches"], atol=CLOSE)


@pytest.mark.parametrize("name", ["tall", "wide", "one"])
def test_regions_agree_with_the_authors_code(hipt, golden, name):
    drawn, answers = golden
    image = drawn["draw_image"](7, *drawn["REGIONS"][name])
    patches, mean, region = hipt.encode_region(image, batch_size=4)
    expected = answers["regions"][name]
    np.testing.assert_allclose(patches[:, :4], expected["patches"], atol=CLOSE)
    np.testing.assert_allclose(mean, expected["mean"], atol=CLOSE)
    np.testing.assert_allclose(region, expected["region"], atol=CLOSE)
    assert patches.shape == (len(expected["patches"]), 384)


@pytest.mark.parametrize("name", ["learnt", "whole", "border", "narrow"])
def test_grids_agree_with_the_authors_code(hipt, golden, name):
    drawn, answers = golden
    found = hipt.encode_grid(drawn["draw_grid"](11, *drawn["GRIDS"][name]))
    np.testing.assert_allclose(found, answers["grids"][name], atol=CLOSE)


def test_a_region_does_not_depend_on_the_batch(hipt, golden):
    image = golden[0]["draw_image"](7, 512, 768)
    for one, other in zip(
        hipt.encode_region(image, batch_size=1), hipt.encode_region(image), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_its_facts(hipt, folder):
    digests = {
        file: hashlib.sha256((folder / file).read_bytes()).hexdigest()
        for file in ("vit256_small_dino.pth", "vit4k_xs_dino.pth")
    }
    assert hipt.id == "hipt vit256_sha256={} vit4k_sha256={}".format(*digests.values())
    assert hipt.pretrained_on == ("TCGA",)
    assert (hipt.dim, hipt.region_dim, hipt.patch_px, hipt.region_patches) == (384, 192, 256, 16)


def test_a_region_without_a_whole_patch_is_refused(hipt):
    with pytest.raises(SchemaError) as caught:
        hipt.encode_region(np.zeros((300, 200, 3), np.uint8))
    assert str(caught.value) == "region: 200 x 300 px holds no patch of 256 px."


@pytest.mark.parametrize("given", [None, "gone", "half"])
def test_missing_weights_say_where_they_are_to_be_had(folder, tmp_path, given):
    problem = "no weights given"
    weights = None
    if given:
        weights = tmp_path / given
        problem = f"{weights} is not a folder"
    if given == "half":
        weights.mkdir()
        shutil.copy(folder / "vit4k_xs_dino.pth", weights)
        problem = f"{weights} holds no vit256_small_dino.pth"
    with pytest.raises(SchemaError) as caught:
        load_encoder("hipt", weights=weights)
    assert str(caught.value) == (
        f"encoder hipt: {problem}. Download vit256_small_dino.pth (704 MB, sha256 6960cd5a8657...) "
        "and vit4k_xs_dino.pth (396 MB, sha256 2b0bd9e9a602...) from the authors "
        "(github.com/mahmoodlab/HIPT, folder HIPT_4K/Checkpoints, kept with Git LFS), put both in "
        "one folder, and name it: weights=FOLDER, or --weights FOLDER."
    )


def test_a_revision_is_refused(folder):
    with pytest.raises(SchemaError, match="a revision is for models of a hub; leave it out"):
        load_encoder("hipt", weights=folder, revision="main")


def _changed(folder, tmp_path, change):
    """Change the small checkpoint, in a copy of the folder."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "vit4k_xs_dino.pth"
    state = torch.load(path, weights_only=False)
    change(state)
    torch.save(state, path)
    return path


def _drop_teacher(state):
    del state["teacher"]


def _drop_a_tensor(state):
    del state["teacher"]["backbone.blocks.3.attn.qkv.bias"]


def _add_a_tensor(state):
    state["teacher"]["backbone.registers"] = torch.zeros(1)


def _other_shape(state):
    state["teacher"]["backbone.phi.0.weight"] = torch.zeros(192, 768)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _drop_teacher,
            "no tensors under 'teacher'; expected the checkpoint as its authors published it.",
        ),
        (
            _drop_a_tensor,
            "not the weights of this network: 1 of 78 missing (blocks.3.attn.qkv.bias).",
        ),
        (_add_a_tensor, "not the weights of this network: 1 unknown (registers)."),
        (
            _other_shape,
            "not the weights of this network: 1 of another shape (phi.0.weight (192, 768), "
            "expected (192, 384)).",
        ),
    ],
)
def test_another_checkpoint_is_refused(folder, tmp_path, change, message):
    path = _changed(folder, tmp_path, change)
    with pytest.raises(SchemaError) as caught:
        load_encoder("hipt", weights=tmp_path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_value_of_the_weights_is_in_the_id(hipt, folder, tmp_path):
    def change(state):
        state["teacher"]["backbone.norm.bias"][0] += 1

    _changed(folder, tmp_path, change)
    changed = load_encoder("hipt", weights=tmp_path)
    assert changed.id != hipt.id
    assert changed.id.split()[1] == hipt.id.split()[1]


def test_the_command_line_of_the_training_is_no_obstacle(folder):
    state = torch.load(folder / "vit256_small_dino.pth", weights_only=False)
    assert isinstance(state["args"], argparse.Namespace)  # as published; weights_only refuses it
