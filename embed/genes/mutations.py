"""The mutations of a cohort, one a row: from a MAF, or from genotypes that were read."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tabular_trainers.errors import Problems, SchemaError, labels, listing, nearest, rows

from .consequences import ALTERING, ALTERING_IN_MAF, OTHER_IN_MAF
from .reference import IUPAC

_NEEDED = ("Hugo_Symbol", "Tumor_Sample_Barcode", "Variant_Classification")
_DEPTHS = ("t_alt_count", "t_ref_count", "t_depth")


@dataclass(frozen=True)
class Mutations:
    """Mutations of patients.

    Attributes
    ----------
    table : pandas.DataFrame
        ``patient_id, symbol, consequence`` (None if unknown), ``altering`` (whether it counts as a
        mutation of the gene), ``vaf`` (0 to 1, NaN if unknown).
    patients : tuple of str or None
        Everyone who was sequenced; None where that is not known, as of a MAF.
    source : str
        What messages call it.
    notes : tuple of str
        What the user must know to read the table.
    """

    table: pd.DataFrame
    patients: tuple | None
    source: str
    notes: tuple


def read_maf(path):
    """Read the mutations of a MAF, gzipped or not.

    A mutation counts as altering in nine classes: Frame_Shift_Del, Frame_Shift_Ins, In_Frame_Del,
    In_Frame_Ins, Missense_Mutation, Nonsense_Mutation, Nonstop_Mutation, Splice_Site and
    Translation_Start_Site. All other classes (Silent, Intron, 3'UTR, RNA, ...) do not count.

    Parameters
    ----------
    path : path
        With the columns ``Hugo_Symbol, Tumor_Sample_Barcode, Variant_Classification``. The VAF is
        ``t_alt_count`` divided by ``t_depth`` (or by the sum with ``t_ref_count``), else the one
        column with ``VAF`` in its name, in percent where a value is above 1.

    Returns
    -------
    Mutations
        A MAF lists mutations only, so it does not say who was sequenced and has none.

    Raises
    ------
    SchemaError
        With all that is wrong: missing columns, empty cells, unknown classes, a broken file.
    """
    path = Path(path)
    frame, vaf_column = _read(path)
    problems = Problems()
    for column in _NEEDED:
        empty = np.flatnonzero(frame[column] == "")
        if len(empty):
            problems.add(f"{path.name}, column {column}: empty in {rows(empty)}; expected a value.")
    classes = frame["Variant_Classification"]
    known = (*ALTERING_IN_MAF, *OTHER_IN_MAF)
    unknown = ~classes.isin([*known, ""])
    if unknown.any():
        problems.add(
            f"{path.name}, column Variant_Classification: {int(unknown.sum()):,} of "
            f"{len(frame):,} rows have none of the classes of a MAF "
            f"({labels(classes[unknown])}).{nearest(classes[unknown].iloc[0], known)}"
        )
    vaf, note = _vaf(frame, vaf_column, path.name, problems)
    problems.raise_if_any()
    return Mutations(
        table=pd.DataFrame(
            {
                "patient_id": frame["Tumor_Sample_Barcode"],
                "symbol": frame["Hugo_Symbol"],
                "consequence": classes.str.lower().str.replace("'", "_", regex=False),
                "altering": classes.isin(ALTERING_IN_MAF),
                "vaf": vaf,
            }
        ),
        patients=None,
        source=path.name,
        notes=(note,) if note else (),
    )


def _read(path):
    """Read the columns that are used, as text; also name that of the VAF."""
    if not path.is_file():
        raise SchemaError(f"{path.name}: no such file ({path}).")
    try:
        header, skipped = _header(path)
        problems = Problems()
        for column in _NEEDED:
            if header.count(column) != 1:
                there = "no column" if column not in header else "more than one column"
                problems.add(
                    f"{path.name}: {there} {column!r}; expected a MAF with the columns "
                    f"{listing(_NEEDED)}.{nearest(column, header)}"
                )
        problems.raise_if_any()
        named = [column for column in header if "vaf" in column.lower()]
        vaf_column = named[0] if len(named) == 1 else None
        frame = pd.read_csv(
            path,
            sep="\t",
            skiprows=skipped,
            usecols=lambda column: column in (*_NEEDED, *_DEPTHS, vaf_column),
            dtype=str,
            keep_default_na=False,
            quoting=3,  # quotes are letters, as in 5'UTR
            compression="gzip" if path.name.lower().endswith(".gz") else None,
        )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SchemaError(
            f"{path.name}: a broken or truncated gzip file; copy it again."
        ) from error
    except UnicodeDecodeError as error:
        raise SchemaError(f"{path.name}: not UTF-8 text; expected a MAF.") from error
    except pd.errors.ParserError as error:
        raise SchemaError(f"{path.name}: rows of different lengths; expected a MAF.") from error
    if frame.empty:
        raise SchemaError(f"{path.name}: no mutations in it; expected at least one row.")
    return frame.fillna(""), vaf_column


def _header(path):
    """Find the line with the names of the columns, after lines of comments."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8") as stream:
        for number, line in enumerate(stream):
            if not line.startswith("#") and line.strip():
                return line.rstrip("\r\n").split("\t"), number
    raise SchemaError(f"{path.name}: an empty file; expected a MAF.")


def _vaf(frame, column, name, problems):
    """Compute the share of reads with the mutation, and say where it is from."""
    missing = np.full(len(frame), np.nan)
    if "t_alt_count" in frame and ("t_depth" in frame or "t_ref_count" in frame):
        other = "t_depth" if "t_depth" in frame else "t_ref_count"
        alt, total = (_numbers(frame[c], c, name, problems) for c in ("t_alt_count", other))
        total = total if other == "t_depth" else alt + total
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(total > 0, alt / total, np.nan), ""
    if column is None:
        return missing, ""
    values = _numbers(frame[column], column, name, problems)
    percent = bool((values > 1).any())
    shares = values / 100 if percent else values
    wrong = np.flatnonzero((shares < 0) | (shares > 1))
    if len(wrong):
        problems.add(
            f"{name}, column {column}: {rows(wrong)} out of bounds; expected shares of reads, or "
            "percent."
        )
    return shares, f"VAF is column {column} of {name}{', in percent' if percent else ''}."


def _numbers(series, column, name, problems):
    values = pd.to_numeric(series, errors="coerce").to_numpy(float)
    bad = np.flatnonzero(np.isnan(values) & ~series.isin(["", ".", "NA", "NaN"]).to_numpy())
    if len(bad):
        problems.add(f"{name}, column {column}: {rows(bad)} not a number; expected numbers.")
    return values


def mutations_of_calls(calls):
    """List the variants that patients carry, once whether on one haplotype or both.

    Parameters
    ----------
    calls : Calls
        A variant counts as altering where its consequence is of Ensembl's impact HIGH or MODERATE.
        Where no file has consequences, every variant counts, and a note says so.

    Returns
    -------
    Mutations
    """
    both = [
        calls.genotypes[["patient", column, "vaf"]].set_axis(["patient", "allele", "vaf"], axis=1)
        for column in ("allele_1", "allele_2")
    ]
    carried = pd.concat(both)
    carried = carried[carried["allele"] >= 0]
    largest = carried.groupby(["patient", "allele"], as_index=False)["vaf"].max()
    alleles = calls.alleles.iloc[largest["allele"]].reset_index(drop=True)
    # "*" says that another record's deletion reaches here; <*> and <NON_REF> mean no variant.
    real = [set(alt) <= IUPAC.keys() or alt not in ("*", "<*>", "<NON_REF>") for alt in alleles.alt]
    told = alleles["consequence"]
    patients = np.array(calls.patients, dtype=object)
    table = pd.DataFrame(
        {
            "patient_id": patients[largest["patient"].to_numpy()],
            "symbol": alleles["symbol"],
            "consequence": told,
            "altering": told.isin(ALTERING) if calls.annotated else True,
            "vaf": largest["vaf"],
        }
    )[np.array(real, dtype=bool)]
    notes = (
        ()
        if calls.annotated
        else (
            "no consequences (CSQ or ANN) in the variant files: every variant counts as a "
            "mutation, common and silent ones too.",
        )
    )
    return Mutations(table.reset_index(drop=True), calls.patients, "the variant files", notes)
