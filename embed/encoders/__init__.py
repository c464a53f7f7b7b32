"""The encoders of patches: one row of facts each in ENCODERS, one small module each behind it.

An encoder is any object with

- ``id`` (str): its name, revision and the sha256 of its weights; equal ids give equal features,
- ``dim`` (int), ``patch_px`` (int), ``mpp`` (float, micrometres a pixel): what it gives and wants,
- ``pretrained_on`` (tuple of str): data sets, ``("unknown",)``, or ``()`` if not trained,
- ``dtype`` (str): ``"float16"`` for networks, ``"float32"`` for measured features, as stored,
- ``feature_names`` (tuple of str, or None where dimensions have no names),
- ``in_reader`` (bool): True when it is plain NumPy and is computed where patches are read,
- ``encode(images uint8 (n, h, w, 3)) -> float32 (n, dim)``;

a pyramid also has ``region_patches`` (patches along a region's side), ``region_dim`` and
``encode_region(image uint8 (H, W, 3), batch_size=...) -> patches (n, dim), mean (dim,), region``.
"""

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from tabular_trainers.embed.encoder_table import EncoderSpec, find_encoder

ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType(
    {
        "stain": EncoderSpec(
            "stain", "about 100 named stain and texture features; no weights", needs_weights=False
        ),
        "hipt": EncoderSpec("hipt", "HIPT: 256 px patches and 4,096 px regions"),
        "timm": EncoderSpec("timm_model", "timm:NAME, any model of timm", takes_name=True),
        "hf": EncoderSpec(
            "transformers_model",
            "hf:NAME_OR_DIR, a vision model of transformers",
            takes_name=True,
        ),
    }
)


def load_encoder(
    name,
    weights=None,
    device="cpu",
    *,
    precision=None,
    revision=None,
    trust_remote_code=False,
):
    """Load an encoder by its name.

    Parameters
    ----------
    name : str
        A key of ENCODERS; ``timm:NAME`` and ``hf:NAME_OR_DIR`` name a model after the colon.
    weights : path, optional
        File or folder with the weights.
    device : str, default "cpu"
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    precision : str, optional
        ``"float32"``, ``"bfloat16"`` or ``"float16"``. Default: float32 on a CPU, elsewhere
        bfloat16 where the device has it and float16 where not.
    revision : str, optional
        Commit or tag of a model that a hub holds.
    trust_remote_code : bool, default False
        Run Python code that comes with a model. Read it first.

    Returns
    -------
    object
        With the attributes and methods that the head of this module lists.

    Raises
    ------
    SchemaError
        For an unknown name, and for weights that are missing or are not this encoder's.
    """
    row, model = find_encoder(name, ENCODERS)
    module = importlib.import_module(f"{__name__}.{row.module}")
    return module.load(
        model,
        weights=weights,
        device=device,
        precision=precision,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
