"""The features of one gene: each distinct window and substitution computed once, or found again."""

import hashlib

import numpy as np

from tabular_trainers.errors import DataError

from .gene_features import cut_gene, difference_features, list_substitutions, ratio_features
from .haplotypes import build_haplotypes
from .vector_cache import VectorCache

# Windows between two saves: with a large network on a CPU a minute or two, without one a second.
CHUNK = {True: 32, False: 2048}


def extract_gene(gene, reference, calls, encoder, cache, progress=None):
    """Compute the features of one gene for every patient.

    Parameters
    ----------
    gene : Gene
    reference : Reference
    calls : Calls
    encoder : object
        As :mod:`.encoders` describes it.
    cache : path
        Folder with what was computed before; what is computed now is added.
    progress : callable, optional
        Called as ``progress(done, total, what)``.

    Returns
    -------
    pandas.DataFrame
        Index ``patient_id``, the features without the gene's name.
    dict
        What was done: a row of the contract ``gene_runs``.

    Raises
    ------
    SchemaError
        Where the reference does not reach over the gene.
    DataError
        When a vector is not finite.
    """
    gene_sequences = build_haplotypes(gene, reference, calls)
    cut = cut_gene(gene_sequences, encoder)
    known = VectorCache(cache, encoder.id, encoder.dim)
    windows = list(cut.windows.values())
    encoded = _compute(
        list(cut.windows),
        known,
        lambda chosen: _encode(encoder, [windows[n] for n in chosen]),
        CHUNK[encoder.masked],
        _teller(progress, f"{gene.symbol}: windows"),
    )
    vectors, n_tokens = known.get(list(cut.windows))
    vectors = dict(zip(cut.windows, zip(vectors, n_tokens, strict=True), strict=True))
    names = encoder.feature_names or [f"e{n:03d}" for n in range(encoder.dim)]
    frame = difference_features(gene_sequences, cut, vectors, names)
    row = {
        "symbol": gene.symbol,
        "contig": gene.contig,
        "start": gene.start,
        "end": gene.end,
        "strand": gene.strand,
        "windows": cut.n_carried,
        "distinct_windows": len(cut.windows),
        "encoded_windows": encoded,
        "substitutions": None,
        "without_ratio": None,
        "masked_windows": None,
        "unscored_changes": None,
        **gene_sequences.counts,
    }
    if encoder.masked:
        substitutions, rows = list_substitutions(gene_sequences, cut)
        keys = [_ratio_key(one) for one in substitutions]
        ratios = VectorCache(cache, f"{encoder.id} ratios", 1)
        before = encoder.masked_calls
        _compute(
            keys,
            ratios,
            lambda chosen: _ratios(encoder, substitutions, chosen),
            CHUNK[True],
            _teller(progress, f"{gene.symbol}: substitutions"),
        )
        values = ratios.get(keys)[0][:, 0]
        table, unscored = ratio_features(gene_sequences, rows, values)
        frame = frame.join(table)
        row |= {
            "substitutions": len(substitutions),
            "without_ratio": int(np.isnan(values).sum()),
            "masked_windows": encoder.masked_calls - before,
            "unscored_changes": unscored,
        }
    return frame, row


def _teller(progress, what):
    return lambda done, total: progress and progress(done, total, what)


def _encode(encoder, windows):
    sums, counts = encoder.sum_tokens([(w.sequence, w.start, w.end) for w in windows])
    if not np.isfinite(sums).all():
        raise DataError("the encoder gave values that are not finite.")
    return sums, counts


def _ratios(encoder, substitutions, chosen):
    values = encoder.log_likelihood_ratios([substitutions[n] for n in chosen])
    return values[:, None], np.ones(len(chosen), dtype=np.int64)


def _ratio_key(substitution):
    sequence, offset, ref, alt = substitution
    return hashlib.sha256(f"{offset} {ref} {alt} {sequence}".encode("ascii")).hexdigest()


def _compute(keys, cache, compute, chunk, tell):
    """Compute what the cache lacks and keep it, some at a time; return how many that were.

    What is computed together is the same before and after a stop, so the numbers are, to the bit.
    """
    computed = 0
    for first in range(0, len(keys), chunk):
        missing = [n for n in range(first, min(first + chunk, len(keys))) if keys[n] not in cache]
        if missing:
            vectors, counts = compute(missing)
            cache.put([keys[n] for n in missing], vectors, counts)
            computed += len(missing)
        tell(min(first + chunk, len(keys)), len(keys))
    return computed
