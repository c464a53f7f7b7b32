"""Features of the authors' own code of HIPT, on weights and images drawn by seed.

Run outside the project, with a checkout of github.com/mahmoodlab/HIPT and what it imports:
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python hipt.py CHECKOUT/HIPT_4K > hipt.json

Tests call ``write_checkpoints`` and ``draw_image`` to have the same weights and images again. The
numbers of NumPy's RandomState are the same in every version.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

SEED = 20220616
# Heights and widths in pixels. 37 and 103 px beyond whole patches: half of each is rounded to even.
PATCHES = 3
REGIONS = {"tall": (3 * 256 + 37, 2 * 256 + 103), "wide": (2 * 256, 3 * 256), "one": (256, 300)}
GRIDS = {"learnt": (14, 14), "whole": (16, 16), "border": (5, 16), "narrow": (16, 1)}


def _transformer(dim, depth):
    yield "cls_token", (1, 1, dim)
    yield "pos_embed", (1, 197, dim)
    for block in range(depth):
        for name, shape in (
            ("norm1", (dim,)),
            ("attn.qkv", (3 * dim, dim)),
            ("attn.proj", (dim, dim)),
            ("norm2", (dim,)),
            ("mlp.fc1", (4 * dim, dim)),
            ("mlp.fc2", (dim, 4 * dim)),
        ):
            yield f"blocks.{block}.{name}.weight", shape
            yield f"blocks.{block}.{name}.bias", shape[:1]
    yield "norm.weight", (dim,)
    yield "norm.bias", (dim,)


def _draw(draw, name, shape):
    """Draw what makes each part show in the features, so that an error in any of them does.

    Tokens start small (0.05): then also the 1e-6 that LayerNorm adds to a variance shows.
    """
    values = draw.standard_normal(shape)
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.2 * values
    if name in ("cls_token", "pos_embed"):
        return 0.05 * values
    if name.endswith("bias"):
        return (0.01 if name.startswith(("patch_embed", "phi")) else 0.1) * values
    scale = 0.1 if name.startswith(("patch_embed", "phi")) else 1.5
    return scale * values / np.sqrt(np.prod(shape[1:]))


def _checkpoint(prefix, shapes, seed):
    """Return a checkpoint as DINO's training script writes it."""
    import torch

    draw = np.random.RandomState(seed)
    teacher = {
        f"{prefix}backbone.{name}": torch.tensor(_draw(draw, name, shape), dtype=torch.float32)
        for name, shape in shapes
    }
    for layer in ("mlp.0.weight", "mlp.0.bias", "last_layer.weight_g", "last_layer.weight_v"):
        teacher[f"{prefix}head.{layer}"] = torch.zeros(2)
    return {
        "student": {"module.backbone.cls_token": torch.zeros(2)},
        "teacher": teacher,
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
    }


def write_checkpoints(folder):
    """Write both checkpoints, named and laid out as published, into a folder."""
    import torch

    stem = [("patch_embed.proj.weight", (384, 3, 16, 16)), ("patch_embed.proj.bias", (384,))]
    phi = [("phi.0.weight", (192, 384)), ("phi.0.bias", (192,))]
    patches = _checkpoint("module.", [*stem, *_transformer(384, 12)], SEED)
    regions = _checkpoint("", [*phi, *_transformer(192, 6)], SEED + 1)
    torch.save(patches, Path(folder) / "vit256_small_dino.pth")
    torch.save(regions, Path(folder) / "vit4k_xs_dino.pth")


def draw_image(seed, height, width):
    """Draw coarse colours with fine noise: uint8 (height, width, 3)."""
    draw = np.random.RandomState(seed)
    coarse = draw.randint(0, 200, (height // 32 + 1, width // 32 + 1, 3))
    image = coarse.repeat(32, axis=0).repeat(32, axis=1)[:height, :width]
    return (image + draw.randint(0, 56, (height, width, 3))).astype(np.uint8)


def draw_grid(seed, rows, columns):
    """Draw vectors of patches on a grid: float32 (rows, columns, 384)."""
    return np.random.RandomState(seed).standard_normal((rows, columns, 384)).astype(np.float32)


def answer(checkout):
    """Compute the features that the authors' code gives."""
    sys.path.insert(0, checkout)
    import torch
    from hipt_4k import HIPT_4K
    from hipt_model_utils import eval_transforms

    def rounded(tensor):
        return np.asarray(tensor, np.float64).round(6).tolist()

    with tempfile.TemporaryDirectory() as folder:
        write_checkpoints(folder)
        cpu = torch.device("cpu")
        paths = [f"{folder}/{name}" for name in ("vit256_small_dino.pth", "vit4k_xs_dino.pth")]
        model = HIPT_4K(*paths, cpu, cpu).eval()
    transform = eval_transforms()
    answers = {"torch": torch.__version__, "patches": [], "regions": {}, "grids": {}}
    with torch.no_grad():
        for seed in range(PATCHES):
            pixels = transform(draw_image(seed, 256, 256))[None]
            answers["patches"].append(rounded(model.model256(pixels)[0]))
        for name, (height, width) in REGIONS.items():
            found = model.forward_asset_dict(transform(draw_image(7, height, width))[None])
            answers["regions"][name] = {
                "mean": rounded(found["features_mean256"][0]),
                "region": rounded(found["features_cls4k"][0]),
                # The place of each patch shows in its first four numbers.
                "patches": rounded(found["features_cls256"][:, :4]),
            }
        for name, (rows, columns) in GRIDS.items():
            grid = torch.from_numpy(draw_grid(11, rows, columns)).permute(2, 0, 1)[None]
            answers["grids"][name] = rounded(model.model4k(grid)[0])
    return answers


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # the authors' code prints as it loads
        answers = answer(sys.argv[1])
    print(json.dumps(answers, separators=(",", ":")))
