"""Each patient's two sequences of a gene: the reference with the patient's variants applied."""

import hashlib
import logging
import os
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tabular_trainers.errors import count

from .genbank import reverse_complement
from .gene_coordinates import Gene
from .reference import IUPAC, plain_bases
from .variants import ABSENT, MISSING

_LOG = logging.getLogger("tabular_trainers")


@dataclass(frozen=True)
class GeneSequences:
    """The sequences of a gene in a cohort, each distinct one once, on the gene's strand.

    Attributes
    ----------
    gene : Gene
    reference : str
        A, C, G, T and N.
    sequences : dict of str to str
        By the sha256 of their letters; the reference is among them, whoever carries it.
    carriers : pandas.DataFrame
        ``patient_id, haplotype`` (1 or 2), ``sequence_sha256``: two rows a patient.
    edits : dict of str to tuple
        What made each sequence of the reference, by its sha256: ``(start, end, alt)`` (zero-based,
        half-open, in ``reference``, on the gene's strand), in order, none overlapping another.
    substitutions : pandas.DataFrame
        Applied single bases: ``patient_id, haplotype, offset`` (zero-based, in ``reference``),
        ``ref, alt``. A substitution of several bases has a row for each that differs.
    counts : dict of str to int
        ``haplotypes``; ``sequences`` (distinct ones that somebody carries); ``applied`` variants,
        each once for every haplotype with it, as are ``skipped_overlapping`` (they overlap one that
        was applied before), ``skipped_boundary`` (their REF reaches beyond the gene) and
        ``symbolic`` (``<DEL>``, ``*`` and breakends, skipped); ``unphased_heterozygous`` genotypes,
        ``missing_genotypes`` (alleles taken as the reference), ``haploid_genotypes`` (the second
        haplotype keeps the reference), ``several_phase_sets`` (patients whose phases in this gene
        do not hold across it); ``lower_case_bases`` and ``ambiguous_bases`` (now N) of the
        reference.
    """

    gene: Gene
    reference: str
    sequences: dict
    edits: dict
    carriers: pd.DataFrame
    substitutions: pd.DataFrame
    counts: dict


def hash_sequence(sequence):
    """Compute the sha256 of a sequence's letters, as hexadecimal text."""
    return hashlib.sha256(sequence.encode("ascii")).hexdigest()


def build_haplotypes(gene, reference, calls):
    """Apply each patient's variants to a gene.

    As ``bcftools consensus -H 1`` and ``-H 2`` do: the alleles of GT in the order they are written,
    whether phased or not. A variant that overlaps one applied before it on the same haplotype is
    skipped; an insertion or deletion may begin at the last base of the one before it, which is its
    anchor only, unless that one is an insertion. Variants are applied on the plus strand of the
    contig, and for genes on the minus strand the result is reverse-complemented.

    Parameters
    ----------
    gene : Gene
    reference : Reference
    calls : Calls

    Returns
    -------
    GeneSequences

    Raises
    ------
    SchemaError
        Where the reference does not reach over the gene.

    Notes
    -----
    Otherwise than bcftools, ``<DEL>`` is not applied, and a variant that reaches beyond the gene's
    end is skipped, not trimmed.
    """
    written = reference.written(gene.contig, gene.start, gene.end)
    plus = plain_bases(written)
    counts = Counter(
        lower_case_bases=sum(map(str.islower, written)),
        ambiguous_bases=sum(letter not in "ACGTN" for letter in written.upper()),
    )
    _tell_letters(gene, counts)
    genotypes = calls.genotypes[calls.genotypes["symbol"] == gene.symbol]
    _count_genotypes(genotypes, counts)
    groups = _haplotypes(genotypes, calls, len(calls.patients))
    alleles = calls.alleles[["start", "end", "ref", "alt"]].to_numpy(object)
    own = _oriented(plus, gene)
    reference_sha256 = hash_sequence(own)
    sequences, made_by = {reference_sha256: own}, {reference_sha256: ()}
    hashes, single = {}, []
    for key, members in groups.items():
        edits = _applicable(alleles, key, gene, counts, len(members))
        sequence = _oriented(_apply(plus, gene.start, edits), gene)
        sha256 = hash_sequence(sequence)
        if sha256 not in sequences:
            sequences[sha256], made_by[sha256] = sequence, _on_strand(edits, gene)
        hashes.update(dict.fromkeys(members, sha256))
        changed = [one for edit in edits for one in _substituted(edit, gene)]
        single += [(member, *one) for member in members for one in changed]
    carried = [hashes.get(h, reference_sha256) for h in range(2 * len(calls.patients))]
    counts.update(haplotypes=len(carried), sequences=len(set(carried)))
    return GeneSequences(
        gene=gene,
        reference=own,
        sequences=sequences,
        edits=made_by,
        carriers=_with_patients(np.arange(len(carried)), calls, {"sequence_sha256": carried}),
        substitutions=_substitutions(single, calls),
        counts={name: int(counts[name]) for name in _COUNTS},
    )


_COUNTS = (
    "haplotypes",
    "sequences",
    "applied",
    "skipped_overlapping",
    "skipped_boundary",
    "symbolic",
    "unphased_heterozygous",
    "missing_genotypes",
    "haploid_genotypes",
    "several_phase_sets",
    "lower_case_bases",
    "ambiguous_bases",
)


def _tell_letters(gene, counts):
    if counts["lower_case_bases"]:
        _LOG.info(
            "%s: %s of the reference in lower case (repeats) read as upper case.",
            gene.symbol,
            count(counts["lower_case_bases"], "base"),
        )
    if counts["ambiguous_bases"]:
        _LOG.warning(
            "%s: %s of the reference that stand for several bases read as N.",
            gene.symbol,
            count(counts["ambiguous_bases"], "code"),
        )


def _count_genotypes(genotypes, counts):
    first, second = genotypes["allele_1"].to_numpy(), genotypes["allele_2"].to_numpy()
    missing = (first == MISSING).astype(int) + (second == MISSING)
    absent = second == ABSENT
    known = (missing == 0) & ~absent
    unphased = known & (first != second) & ~genotypes["phased"].to_numpy()
    sets = genotypes[genotypes["phased"].to_numpy() & (first != second)]
    counts.update(
        missing_genotypes=int(missing.sum()),
        haploid_genotypes=int(absent.sum()),
        unphased_heterozygous=int(unphased.sum()),
        several_phase_sets=int((sets.groupby("patient")["phase_set"].nunique() > 1).sum()),
    )


def _haplotypes(genotypes, calls, n_patients):
    """Group haplotypes by what they carry: {alleles in order: haplotypes, each 2 * patient + 0|1}.

    Identical haplotypes are found here, before any sequence is built.
    """
    first, second = genotypes["allele_1"].to_numpy(), genotypes["allele_2"].to_numpy()
    patient = genotypes["patient"].to_numpy()
    haplotype = np.concatenate([2 * patient, 2 * patient + 1])
    allele = np.concatenate([first, second])
    record = np.concatenate([genotypes["record"].to_numpy()] * 2)
    carried = allele >= 0
    haplotype, allele, record = haplotype[carried], allele[carried], record[carried]
    start = calls.alleles["start"].to_numpy()[allele]
    order = np.lexsort((record, start, haplotype))
    haplotype, allele = haplotype[order], allele[order]
    bounds = np.searchsorted(haplotype, np.arange(2 * n_patients + 1))
    groups = {}
    for one in np.flatnonzero(np.diff(bounds)):
        key = tuple(allele[bounds[one] : bounds[one + 1]].tolist())
        groups.setdefault(key, []).append(int(one))
    return groups


def _applicable(alleles, key, gene, counts, times):
    """Choose the variants of a haplotype that can be applied: (start, end, ref, alt), in order."""
    edits, frozen, after_insertion = [], -1, False
    for start, end, ref, alt in alleles[list(key)]:
        if set(alt) - IUPAC.keys():
            counts["symbolic"] += times
            continue
        if start < gene.start or end > gene.end:
            counts["skipped_boundary"] += times
            continue
        anchored = _is_anchored(ref, alt)
        if start < frozen or (start == frozen and (not anchored or after_insertion)):
            counts["skipped_overlapping"] += times
            continue
        frozen, after_insertion = end - 1, len(alt) > len(ref)
        counts["applied"] += times
        # Of an indel the anchor stays as it is: the variant before may have changed it.
        edits.append((start + anchored, end, ref[anchored:], plain_bases(alt[anchored:])))
    return edits


def _is_anchored(ref, alt):
    """Tell whether a variant is an insertion or deletion only, behind a base that stays."""
    short, long = sorted((ref, alt), key=len)
    shared = len(os.path.commonprefix([short, long]))
    return len(short) < len(long) and shared > 0 and long.endswith(short[shared:])


def _apply(sequence, offset, edits):
    """Replace stretches of a sequence that begins at ``offset``."""
    parts, at = [], offset
    for start, end, _, alt in edits:
        parts += [sequence[at - offset : start - offset], alt]
        at = end
    return "".join([*parts, sequence[at - offset :]])


def _oriented(sequence, gene):
    return sequence if gene.strand == "+" else reverse_complement(sequence)


def _on_strand(edits, gene):
    """Give edits from the gene's first base on, on its strand."""
    if gene.strand == "+":
        return tuple((start - gene.start, end - gene.start, alt) for start, end, _, alt in edits)
    return tuple(
        (gene.end - end, gene.end - start, reverse_complement(alt))
        for start, end, _, alt in reversed(edits)
    )


def _substituted(edit, gene):
    """Yield the single bases that a variant of unchanged length replaces, on the gene's strand."""
    start, _, ref, alt = edit
    if len(ref) != len(alt):
        return
    for place, (old, new) in enumerate(zip(plain_bases(ref), alt, strict=True), start - gene.start):
        if old != new:
            if gene.strand == "+":
                yield place, old, new
            else:
                last = gene.end - gene.start - 1
                yield last - place, reverse_complement(old), reverse_complement(new)


def _substitutions(single, calls):
    single.sort()
    columns = list(zip(*single, strict=True)) or [()] * 4
    about = {
        "offset": np.array(columns[1], dtype=np.int64),
        "ref": pd.Series(columns[2], dtype=object),
        "alt": pd.Series(columns[3], dtype=object),
    }
    return _with_patients(np.array(columns[0], dtype=np.int64), calls, about)


def _with_patients(haplotypes, calls, columns):
    """Make a table with the patient and the number of a haplotype first."""
    patients = np.array(calls.patients, dtype=object)
    return pd.DataFrame(
        {"patient_id": patients[haplotypes // 2], "haplotype": haplotypes % 2 + 1, **columns}
    )
