"""Extraction of patch features into Parquet, once; installed as tabular_trainers.embed.

Nothing here imports torch, openslide or Pillow before it is used: the core installs without them.
"""

import importlib

# Public name -> module that holds it, as in the package above.
_HOMES = {
    "ENCODERS": "encoders",
    "extract_slides": "engine",
    "load_encoder": "encoders",
    "make_synthetic_slides": "synthetic_slides",
    "pool_store": "pool",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]
