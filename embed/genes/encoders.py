"""The encoders of DNA: one row of facts each in ENCODERS, one small module each behind it.

An encoder is any object with

- ``id`` (str): its name, layer and the sha256 of its weights; equal ids give equal features,
- ``dim`` (int), ``feature_names`` (tuple of str, or None where dimensions have no names),
- ``pretrained_on`` (tuple of str): data sets, ``("unknown",)``, or ``()`` if not trained,
- ``max_tokens`` and ``max_bases`` (int, or None without a limit): what it takes at once, special
  tokens included; ``max_bases`` may be an estimate, ``fits(sequence)`` says it exactly,
- ``encode(sequences) -> float32 (n, dim)``: means over the tokens of whole sequences, without
  padding and special tokens,
- ``sum_tokens(windows) -> float64 (n, dim), int64 (n,)``: sums over, and number of, the tokens that
  begin in the core of each ``(sequence, start, end)``,
- ``masked`` (bool): whether it is a masked model, which also has
  ``log_likelihood_ratios(substitutions) -> float64 (n,)``, and counts its forwards in
  ``masked_calls``.
"""

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from tabular_trainers.embed.encoder_table import EncoderSpec, find_encoder

ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType(
    {
        "kmer": EncoderSpec(
            "kmer_spectrum", "k-mer, codon and GC spectra; no weights", needs_weights=False
        ),
        "nt": EncoderSpec(
            "nucleotide_transformer", "InstaDeep's Nucleotide Transformer, version 1 or 2"
        ),
        "hf-dna": EncoderSpec(
            "transformers_dna",
            "hf-dna:NAME_OR_DIR, a masked DNA model of transformers",
            takes_name=True,
        ),
    }
)


def load_encoder(
    name, weights=None, device="cpu", *, layer=None, revision=None, trust_remote_code=False
):
    """Load an encoder of DNA by its name.

    Parameters
    ----------
    name : str
        A key of ENCODERS; ``hf-dna:NAME_OR_DIR`` names a model after the colon.
    weights : path, optional
        Folder with the weights, as published on the Hugging Face hub.
    device : str, default "cpu"
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. Networks compute in float32 everywhere: rounding to
        half precision is as large as what a substitution changes.
    layer : int, optional
        Layer of a network whose output is pooled, 1 the first. Default: five sixths of the depth,
        rounded (20 of 24, which the authors' own example reads). Their probing found the best layer
        to differ between tasks and models, seldom the last.
    revision : str, optional
        Commit of a model that a hub holds.
    trust_remote_code : bool, default False
        Run Python code that comes with a model. Read it first.

    Returns
    -------
    object
        With the attributes and methods that the head of this module lists.

    Raises
    ------
    SchemaError
        For an unknown name, weights that are missing or are not this encoder's, and a layer that
        the network does not have.
    """
    row, model = find_encoder(name, ENCODERS)
    module = importlib.import_module(f"tabular_trainers.embed.genes.{row.module}")
    return module.load(
        model,
        weights=weights,
        device=device,
        layer=layer,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
