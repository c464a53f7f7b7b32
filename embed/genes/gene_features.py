"""From haplotypes to features: what a patient's gene has that the reference has not.

The embedding of a mutated gene is almost that of the reference, so what is kept is the difference
of the two; the embedding itself would carry ancestry and noise.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .windows import WindowPlan


@dataclass(frozen=True)
class GeneWindows:
    """The windows of a gene in a cohort, each distinct one once.

    Attributes
    ----------
    plan : WindowPlan
    windows : dict of str to Window
        By key, in the order in which they are met: the reference's first.
    of_sequence : dict of str to list of str
        The keys of each distinct haplotype's windows, by its sha256.
    reference : list of str
        The keys of the reference's windows.
    n_carried : int
        Windows of all haplotypes of all patients: what would be encoded without counting any twice.
    """

    plan: WindowPlan
    windows: dict
    of_sequence: dict
    reference: list
    n_carried: int


def cut_gene(gene_sequences, encoder):
    """Cut every haplotype of a gene into windows.

    Parameters
    ----------
    gene_sequences : GeneSequences
    encoder : object
        As :mod:`.encoders` describes it.

    Returns
    -------
    GeneWindows
    """
    plan = WindowPlan(len(gene_sequences.reference), encoder)
    windows, of_sequence = {}, {}

    def keys(sequence, edits=()):
        cut = plan.cut(sequence, edits)
        for window in cut:
            windows.setdefault(window.key, window)
        return [window.key for window in cut]

    reference = keys(gene_sequences.reference)
    carried = gene_sequences.carriers["sequence_sha256"]
    for sha256 in carried.unique():
        edits = gene_sequences.edits[sha256]
        of_sequence[sha256] = keys(gene_sequences.sequences[sha256], edits)
    n_carried = int(carried.map({s: len(k) for s, k in of_sequence.items()}).sum())
    return GeneWindows(plan, windows, of_sequence, reference, n_carried)


def list_substitutions(gene_sequences, cut):
    """List the distinct substitutions of a gene, as an encoder's ratios take them.

    Parameters
    ----------
    gene_sequences : GeneSequences
    cut : GeneWindows

    Returns
    -------
    list of (str, int, str, str)
        The reference's window that holds it, offset there, reference base and what replaces it.
    pandas.Series of int
        For each row of ``gene_sequences.substitutions`` the number in that list.
    """
    frame = gene_sequences.substitutions
    number, distinct = {}, []
    for offset, ref, alt in sorted(
        set(zip(frame["offset"], frame["ref"], frame["alt"], strict=True))
    ):
        window, inside = cut.plan.window_of(gene_sequences.reference, int(offset))
        number[offset, ref, alt] = len(distinct)
        distinct.append((window.sequence, inside, ref, alt))
    rows = [number[row] for row in zip(frame["offset"], frame["ref"], frame["alt"], strict=True)]
    return distinct, pd.Series(rows, index=frame.index, dtype=np.int64)


def difference_features(gene_sequences, cut, vectors, names):
    """Compute each patient's difference to the reference, and their cosine distance.

    Parameters
    ----------
    gene_sequences : GeneSequences
    cut : GeneWindows
    vectors : dict of str to (ndarray of float64 (dim,), int)
        Sums over tokens and numbers of tokens, by window key.
    names : sequence of str
        Of the dimensions.

    Returns
    -------
    pandas.DataFrame
        Index ``patient_id``, in the order of the carriers. ``cosine_distance`` (float64): 1 -
        cosine of the mean vectors of haplotype and reference, averaged over both haplotypes; and
        ``diff_<name>`` (float32) a dimension: their difference, averaged likewise.
    """
    reference = _mean(cut.reference, vectors)
    differences, distances = {}, {}
    for sha256, keys in cut.of_sequence.items():
        own = reference if keys == cut.reference else _mean(keys, vectors)
        differences[sha256] = own - reference
        distances[sha256] = _cosine_distance(own, reference)
    carriers = gene_sequences.carriers
    order = {sha256: row for row, sha256 in enumerate(differences)}
    which = carriers["sequence_sha256"].map(order).to_numpy().reshape(-1, 2)  # two rows a patient
    matrix = np.array(list(differences.values()))
    distance = np.array(list(distances.values()))
    frame = pd.DataFrame(
        ((matrix[which[:, 0]] + matrix[which[:, 1]]) / 2).astype(np.float32),
        index=pd.Index(carriers["patient_id"].to_numpy()[::2], name="patient_id"),
        columns=[f"diff_{name}" for name in names],
    )
    frame.insert(0, "cosine_distance", (distance[which[:, 0]] + distance[which[:, 1]]) / 2)
    return frame


def ratio_features(gene_sequences, rows, ratios):
    """Sum up each patient's log-likelihood ratios over the substitutions of both haplotypes.

    Parameters
    ----------
    gene_sequences : GeneSequences
    rows : pandas.Series of int
    ratios : ndarray of float64
        As :func:`list_substitutions` numbers them; NaN where a substitution has none.

    Returns
    -------
    pandas.DataFrame
        Index ``patient_id``: ``llr_sum`` and ``llr_mean``. Missing for who has only changes without
        a ratio (insertions, deletions, substitutions at or into N); 0 for who has none at all.
    int
        Changes without a ratio, each once for every haplotype that carries it.
    """
    carriers = gene_sequences.carriers
    patients = pd.Index(carriers["patient_id"].to_numpy()[::2], name="patient_id")
    values = pd.Series(ratios[rows.to_numpy()], dtype=float)
    whose = gene_sequences.substitutions["patient_id"].to_numpy()
    grouped = values.groupby(whose)
    n = grouped.count().reindex(patients, fill_value=0)
    without = values.isna().groupby(whose).sum().reindex(patients, fill_value=0)
    of_sequence = {
        sha256: sum(end - start != len(alt) for start, end, alt in edits)
        for sha256, edits in gene_sequences.edits.items()
    }
    indels = carriers["sequence_sha256"].map(of_sequence).to_numpy().reshape(-1, 2).sum(1)
    without = without + indels
    total = grouped.sum().reindex(patients, fill_value=0.0).where((n > 0) | (without == 0))
    table = pd.DataFrame({"llr_sum": total, "llr_mean": total / n.clip(lower=1)})
    return table, int(without.sum())


def _mean(keys, vectors):
    """Average over all tokens of some windows, in float64."""
    found = [vectors[key] for key in keys]
    total = np.sum([vector for vector, _ in found], axis=0)
    with np.errstate(invalid="ignore"):  # nothing is left of the gene: no mean
        return np.divide(total, sum(n for _, n in found))


def _cosine_distance(one, other):
    """Compute 1 - cosine as half the squared distance of the unit vectors: it is tiny."""
    with np.errstate(invalid="ignore"):
        apart = one / np.linalg.norm(one) - other / np.linalg.norm(other)
    return float(apart @ apart / 2)
