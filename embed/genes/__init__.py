"""Extraction of gene features, once: variants -> haplotypes -> one row a patient and gene.

Nothing here imports torch, transformers or pysam before it is used.
"""

import importlib

# Public name -> module that holds it.
_HOMES = {
    "ENCODERS": "encoders",
    "extract_genes": "gene_engine",
    "load_encoder": "encoders",
    "make_synthetic_variants": "synthetic_variants",
    "tokenize": "tokens",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]
