"""Genotypes of patients in chosen genes, from VCF or BCF files."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError, Problems, count, listing, nearest

from .contig_names import match_contig
from .reference import agrees
from .variant_files import list_variant_files, read_records
from .variant_records import ABSENT, MISSING, genotype_reader

REFERENCE = -1
_LOG = logging.getLogger("tabular_trainers")


@dataclass(frozen=True)
class Calls:
    """What patients carry, an alternative allele at a time.

    Attributes
    ----------
    patients : tuple of str
        All patients of the files, or those asked for: also who carries nothing.
    alleles : pandas.DataFrame
        The distinct alternative alleles of each gene: ``symbol``, ``start``, ``end`` (zero-based,
        half-open: the span of ``ref``), ``ref``, ``alt`` (upper case) and ``consequence`` (on this
        gene, in the words of the Sequence Ontology, e.g. ``frameshift_variant``; None where the
        file has none).
    genotypes : pandas.DataFrame
        Every call but those of two reference alleles, in file order: ``symbol`` (of the gene),
        ``patient`` (row of ``patients``), ``record`` (number of the record), ``allele_1``,
        ``allele_2`` (row of ``alleles``; -1 reference, -2 missing, -3 not there, of a haploid
        call), ``phased``, ``phase_set`` (text, None where there is none) and ``vaf`` (the largest
        share of reads with a carried alternative allele; NaN where depths are missing).
    annotated : bool
        Whether any file tells consequences.
    counts : dict of str to int
        ``records`` read, ``not_passed`` (of those: FILTER is neither PASS nor missing; they are
        used all the same) and ``left_out`` (samples of the files that were not asked for).
    """

    patients: tuple
    alleles: pd.DataFrame
    genotypes: pd.DataFrame
    annotated: bool
    counts: dict


def read_variants(paths, genes, reference=None, patients=None):
    """Read the genotypes of patients in one gene or several.

    Parameters
    ----------
    paths : path or sequence of paths
        VCF, VCF.gz or BCF, of many samples or one; or one CSV with the columns ``patient_id`` and
        ``path``, relative paths being those beside it. A sample's name is the patient's id, but a
        file of one sample in a CSV is that patient's. A patient's genes may be spread over several
        files (one a chromosome), but each gene must be in one. Who has no record at a place has the
        reference there. Compressed files that have an index are read where the genes lie only.
    genes : Gene or sequence of Gene
    reference : Reference, optional
        Every record's REF is held against it, to find the wrong genome build.
    patients : collection of str, optional
        The cohort. Default: all samples.

    Returns
    -------
    Calls

    Raises
    ------
    SchemaError
        With all that is wrong: files that are missing, truncated or unsorted, without genotypes or
        without the gene's contig, bases of another reference, patients who are in no file, and
        files without any patient of the cohort.
    DataError
        When no patient is left.

    Notes
    -----
    Filters are not applied, as ``bcftools consensus`` applies none: records that did not pass are
    used, counted and said. Choose before with ``bcftools view -f PASS``.
    """
    genes = [genes] if hasattr(genes, "symbol") else list(genes)
    problems = Problems()
    files = list_variant_files(paths, problems)
    problems.raise_if_any()  # what follows needs the headers
    found = [sample.patient_id for file in files for sample in file.samples]
    names = tuple(dict.fromkeys(found if patients is None else map(str, patients)))
    left_out = _check_patients(files, names, patients is not None, problems)
    _check_contigs(files, genes, problems)
    collected = _Collected({name: row for row, name in enumerate(names)})
    for file in files:
        if any(sample.patient_id in collected.row_of for sample in file.samples):
            _read_file(file, genes, reference, collected, problems)
    problems.raise_if_any()
    if not names:
        raise DataError("the variant files have no samples, so there are no patients.")
    _tell(collected, left_out)
    return Calls(
        patients=names,
        alleles=collected.alleles_frame(),
        genotypes=collected.genotypes_frame(),
        annotated=any(file.annotations.fields for file in files),
        counts={
            "records": collected.records,
            "not_passed": collected.not_passed,
            "left_out": left_out,
        },
    )


def _check_patients(files, names, chosen, problems):
    """Hold the cohort against the samples; return how many samples it leaves out."""
    if not chosen:
        return 0
    have = {sample.patient_id for file in files for sample in file.samples}
    absent = [name for name in names if name not in have]
    if absent:
        problems.add(
            f"{count(len(absent), 'patient')} of the cohort {'is' if len(absent) == 1 else 'are'} "
            f"in no variant file: {listing(absent)}; expected a sample for each of the "
            f"{len(names):,}.{nearest(absent[0], sorted(have - set(names)))}"
        )
    for file in files:
        own = [sample.patient_id for sample in file.samples]
        if own and not set(own) & set(names):
            problems.add(
                f"{file.name}: {'sample' if len(own) == 1 else 'none of its samples'} "
                f"({listing(own)}) {'is not' if len(own) == 1 else 'is'} in the cohort; leave the "
                f"file out, or correct the names.{nearest(own[0], names)}"
            )
    return len(have - set(names))


def _check_contigs(files, genes, problems):
    """Refuse a gene whose contig no file knows: nobody could have a variant there."""
    known = list(dict.fromkeys(contig for file in files for contig in file.contigs))
    silent = [file for file in files if not file.contigs]
    for contig in dict.fromkeys(gene.contig for gene in genes):
        if not silent and not any(match_contig(contig, file.contigs) for file in files):
            own = [gene.symbol for gene in genes if gene.contig == contig]
            problems.add(
                f"{listing(file.name for file in files)}: no contig {contig!r}, where "
                f"{listing(own)} lie{'s' if len(own) == 1 else ''}; it has {listing(known)}."
                f"{nearest(contig, known)}"
            )


class _Collected:
    """What has been read so far, each distinct allele once."""

    def __init__(self, row_of):
        self.row_of = row_of
        self.alleles, self.rows = {}, []
        self.records = self.not_passed = 0
        self.file_of = {}  # (patient, gene) -> file, to notice a gene that is in two

    def allele(self, symbol, start, ref, alt, consequence):
        key = (symbol, start, ref, alt)
        if key not in self.alleles:
            self.alleles[key] = len(self.alleles), consequence
        return self.alleles[key][0]

    def alleles_frame(self):
        keys = list(self.alleles)
        return pd.DataFrame(
            {
                "symbol": pd.Series([symbol for symbol, *_ in keys], dtype=object),
                "start": np.array([start for _, start, *_ in keys], dtype=np.int64),
                "end": np.array([start + len(ref) for _, start, ref, _ in keys], dtype=np.int64),
                "ref": pd.Series([ref for *_, ref, _ in keys], dtype=object),
                "alt": pd.Series([alt for *_, alt in keys], dtype=object),
                "consequence": pd.Series([c for _, c in self.alleles.values()], dtype=object),
            }
        )

    def genotypes_frame(self):
        kinds = {
            "symbol": object,
            **dict.fromkeys(("patient", "record", "allele_1", "allele_2"), np.int64),
            "phased": bool,
            "phase_set": object,
            "vaf": float,
        }
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(kinds)
        return pd.DataFrame(
            {
                name: pd.Series(list(values), dtype=kind)
                for (name, kind), values in zip(kinds.items(), columns, strict=True)
            }
        )


def _read_file(file, genes, reference, collected, problems):
    """Add the records of one file that touch a gene."""
    columns = [(s.column, collected.row_of[s.patient_id]) for s in file.samples
               if s.patient_id in collected.row_of]  # fmt: skip
    read_genotypes = genotype_reader(columns)
    wrong = {"without": [], "ploidy": [], "allele": []}
    mismatched, compared, twice = {}, {}, set()
    for gene, record in read_records(file, genes, problems):
        place = f"{record.contig}:{record.start + 1}"
        collected.records += 1
        collected.not_passed += record.filter not in ("PASS", ".", "")
        if reference is not None:
            compared[gene.symbol] = compared.get(gene.symbol, 0) + 1
            if not _fits(record, gene, reference):
                mismatched.setdefault(gene.symbol, []).append(place)
        if "GT" not in record.format:
            wrong["without"].append(place)
            continue
        found, bad = read_genotypes(record)
        if bad:
            wrong[bad].append(place)
            continue
        ids = {
            number: collected.allele(
                gene.symbol, record.start, record.ref, alt,
                file.annotations.consequence(record, number, gene.symbol),
            )
            for number, alt in enumerate(record.alts, 1)
            if any(number in (call.allele_1, call.allele_2) for _, call, _ in found)
        }  # fmt: skip
        ids.update({0: REFERENCE, MISSING: MISSING, ABSENT: ABSENT})
        for patient, call, vaf in found:
            if collected.file_of.setdefault((patient, gene.symbol), file) is not file:
                twice.add(patient)
            collected.rows.append(
                (gene.symbol, patient, collected.records, ids[call.allele_1],
                 ids[call.allele_2], call.phased, call.phase_set, vaf)
            )  # fmt: skip
    _add_problems(file, reference, wrong, mismatched, compared, problems)
    if twice:
        names = [name for name, row in collected.row_of.items() if row in twice]
        problems.add(
            f"{file.name}: genes of {count(len(names), 'patient')} ({listing(names)}) are in an "
            "earlier file as well; expected each gene of a patient in one file."
        )


def _fits(record, gene, reference):
    """Hold REF against the reference, as far as that reaches."""
    first, last = reference.contigs[reference.contig(gene.contig)]
    start, end = max(first, record.start), min(last, record.end)
    if start >= end:
        return True
    part = record.ref[start - record.start : end - record.start]
    return agrees(part, reference.written(gene.contig, start, end))


def _add_problems(file, reference, wrong, mismatched, compared, problems):
    for symbol, places in mismatched.items():
        problems.add(
            f"{file.name}: REF of {len(places):,} of {count(compared[symbol], 'variant')} in "
            f"{symbol} is not what {reference.name} has there ({listing(places)}); expected "
            "variants and reference of the same genome build."
        )
    texts = {
        "without": ("without genotypes (no GT)", "a file with genotypes of samples"),
        "ploidy": ("with more than two alleles a patient", "haploid or diploid genotypes"),
        "allele": ("with genotypes that cannot be read", "allele numbers up to that of ALT"),
    }
    for kind, places in wrong.items():
        if places:
            text, expected = texts[kind]
            problems.add(
                f"{file.name}: {count(len(places), 'record')} {text} ({listing(places)}); "
                f"expected {expected}."
            )


def _tell(collected, left_out):
    if collected.not_passed:
        _LOG.warning(
            "%s of %s did not pass the filters of the file and are used all the same; choose "
            "before with bcftools view -f PASS.",
            f"{collected.not_passed:,}",
            count(collected.records, "record"),
        )
    if left_out:
        _LOG.info("%s of the variant files not in the cohort are left out.",
                  count(left_out, "sample"))  # fmt: skip
