"""HIPT: a vector a patch of 256 px, and a vector a region of up to 16 x 16 such patches."""

from pathlib import Path

import numpy as np

from tabular_trainers.embed.pretraining import HIPT
from tabular_trainers.embed.requirements import need
from tabular_trainers.embed.weights import (
    check_shapes,
    missing_weights,
    read_state_dict,
    sha256_of,
)
from tabular_trainers.errors import SchemaError, listing

from .networks import Network, choose_precision, find_device
from .vision_transformer import Transformer, block_shapes

PATCH_PX = 256
TOKEN_PX = 16
DIM, DEPTH, HEADS = 384, 12, 6
REGION_DIM, REGION_DEPTH, REGION_HEADS = 192, 6, 6
FILES = ("vit256_small_dino.pth", "vit4k_xs_dino.pth")
ADVICE = (
    "Download vit256_small_dino.pth (704 MB, sha256 6960cd5a8657...) and vit4k_xs_dino.pth (396 "
    "MB, sha256 2b0bd9e9a602...) from the authors (github.com/mahmoodlab/HIPT, folder "
    "HIPT_4K/Checkpoints, kept with Git LFS), put both in one folder, and name it: weights=FOLDER, "
    "or --weights FOLDER."
)


class Hipt(Network):
    """The two vision transformers of HIPT, as their authors run them.

    Parameters
    ----------
    patches, regions : dict
        Tensors of ViT-256 and ViT-4K by name.
    facts : dict
        The sha256 of each file.
    device : torch.device
        Where they run.
    precision : str
        Of the arithmetic.

    References
    ----------
    Chen et al. (2022), Scaling vision transformers to gigapixel images via hierarchical
    self-supervised learning, CVPR.
    """

    region_patches = 16
    region_dim = REGION_DIM

    def __init__(self, patches, regions, facts, device, precision):
        self._patches = {name: tensor.to(device) for name, tensor in patches.items()}
        self._regions = {name: tensor.to(device) for name, tensor in regions.items()}
        self._patch_transformer = Transformer(self._patches, DEPTH, HEADS)
        self._region_transformer = Transformer(self._regions, REGION_DEPTH, REGION_HEADS)
        half = (0.5, 0.5, 0.5)
        super().__init__(
            self._class_tokens, "hipt", facts, PATCH_PX, half, half, HIPT, device, precision
        )

    def _class_tokens(self, pixels):
        weight, bias = (self._patches[f"patch_embed.proj.{name}"] for name in ("weight", "bias"))
        grid = need("torch").nn.functional.conv2d(pixels, weight, bias, stride=TOKEN_PX)
        rows, columns = grid.shape[2:]
        return self._patch_transformer(grid.flatten(2).transpose(1, 2), rows, columns)

    def encode_region(self, image, batch_size=32):
        """Compute the features of a region: of its patches, their mean, and of the whole.

        Parameters
        ----------
        image : uint8 array (H, W, 3)
            At least 256 px a side. What exceeds whole patches is cut off evenly on both sides.
        batch_size : int, default 32
            Patches at a time.

        Returns
        -------
        patches : float32 array (n, 384)
            Row by row.
        mean : float32 array (384,)
            Over all patches of the region, tissue or not, as the authors take it.
        region : float32 array (192,)

        Raises
        ------
        SchemaError
            When the image holds no whole patch, or is not uint8.
        """
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise SchemaError(
                f"region: {image.dtype} of shape {image.shape}; expected uint8 of shape (H, W, 3)."
            )
        rows, columns = image.shape[0] // PATCH_PX, image.shape[1] // PATCH_PX
        if not rows or not columns:
            raise SchemaError(
                f"region: {image.shape[1]} x {image.shape[0]} px holds no patch of {PATCH_PX} px."
            )
        tiles = _tiles(image, rows, columns)
        patches = np.concatenate(
            [self.encode(tiles[i : i + batch_size]) for i in range(0, len(tiles), batch_size)]
        )
        region = self.encode_grid(patches.reshape(rows, columns, DIM))
        return patches, patches.mean(axis=0), region

    def encode_grid(self, grid):
        """Compute the vector of a region from those of its patches.

        Parameters
        ----------
        grid : float32 array (rows, columns, 384)
            What ``encode`` gave.

        Returns
        -------
        float32 array (192,)
        """
        torch = need("torch")
        functional = torch.nn.functional
        rows, columns, _ = grid.shape
        with torch.inference_mode():
            tokens = torch.from_numpy(np.ascontiguousarray(grid)).to(self.device)
            with self._arithmetic():
                weight, bias = self._regions["phi.0.weight"], self._regions["phi.0.bias"]
                tokens = functional.gelu(functional.linear(tokens, weight, bias))
                tokens = tokens.reshape(1, rows * columns, REGION_DIM)
                return self._region_transformer(tokens, rows, columns)[0].float().cpu().numpy()


def _tiles(image, rows, columns):
    """Cut a region into whole patches, row by row: (rows * columns, 256, 256, 3).

    Half a pixel of margin goes to the even number, as torchvision's CenterCrop rounds.
    """
    top = round((image.shape[0] - rows * PATCH_PX) / 2)
    left = round((image.shape[1] - columns * PATCH_PX) / 2)
    whole = image[top : top + rows * PATCH_PX, left : left + columns * PATCH_PX]
    tiles = whole.reshape(rows, PATCH_PX, columns, PATCH_PX, 3).swapaxes(1, 2)
    return tiles.reshape(rows * columns, PATCH_PX, PATCH_PX, 3)


def _teacher(path, expected):
    """Read the tensors of the teacher, without those of its training head."""
    state = read_state_dict(path)
    if not isinstance(state.get("teacher"), dict):
        raise SchemaError(
            f"{path}: no tensors under 'teacher'; expected the checkpoint as its authors published "
            "it."
        )
    tensors = {}
    for name, tensor in state["teacher"].items():
        name = name.removeprefix("module.").removeprefix("backbone.")
        if not name.startswith("head."):
            tensors[name] = tensor
    check_shapes(path, {name: tensor.shape for name, tensor in tensors.items()}, expected)
    return {name: tensor.float() for name, tensor in tensors.items()}


def load(name, weights, device, precision, revision, trust_remote_code):
    """Load HIPT from the two checkpoints as published.

    Parameters
    ----------
    name : str
        Empty.
    weights : path
        The folder with ``vit256_small_dino.pth`` and ``vit4k_xs_dino.pth``.
    device : str
        Where to run.
    precision : str or None
        Of the arithmetic.
    revision : None
        Not for HIPT: files are identified by their sha256.
    trust_remote_code : bool
        Without effect.

    Returns
    -------
    Hipt

    Raises
    ------
    SchemaError
        When a file is missing or is not what was published.
    """
    if weights is None:
        raise missing_weights("hipt", "no weights given", ADVICE)
    folder = Path(weights)
    if missing := [file for file in FILES if not (folder / file).is_file()]:
        problem = f"{folder} holds no {listing(missing)}"
        if not folder.is_dir():
            problem = f"{folder} is not a folder"
        raise missing_weights("hipt", problem, ADVICE)
    if revision is not None:
        raise SchemaError("encoder hipt: a revision is for models of a hub; leave it out.")
    device = find_device(device)
    precision = choose_precision(device, precision)
    stem = {
        "patch_embed.proj.weight": (DIM, 3, TOKEN_PX, TOKEN_PX),
        "patch_embed.proj.bias": (DIM,),
    }
    phi = {"phi.0.weight": (REGION_DIM, DIM), "phi.0.bias": (REGION_DIM,)}
    patches = _teacher(folder / FILES[0], stem | block_shapes(DIM, DEPTH))
    regions = _teacher(folder / FILES[1], phi | block_shapes(REGION_DIM, REGION_DEPTH))
    facts = {
        "vit256_sha256": sha256_of([folder / FILES[0]]),
        "vit4k_sha256": sha256_of([folder / FILES[1]]),
    }
    return Hipt(patches, regions, facts, device, precision)
