"""Plain tables of mutations, one row a patient: what every learned feature is compared with."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tabular_trainers.embed.whole_files import written_whole
from tabular_trainers.errors import DataError, Problems, SchemaError, count, listing, nearest, rows
from tabular_trainers.tables import hash_file, read_table, table_name

MIN_PATIENTS = 5
_LOG = logging.getLogger("tabular_trainers")
_IDS = ("patient_id", "Tumor_Sample_Barcode")


def mutation_table(mutations, genes=None, min_patients=MIN_PATIENTS, patients=None):
    """Turn mutations into one row a patient.

    Parameters
    ----------
    mutations : Mutations
    genes : sequence of str, optional
        Default: those altered in ``min_patients`` patients. That choice looks at no outcome.
    min_patients : int, default 5
        Without effect where genes are named.
    patients : collection of str, optional
        Everyone who was sequenced. Default: of variant files all samples; of a MAF those with a
        mutation of any kind, because it lists nobody else.

    Returns
    -------
    pandas.DataFrame
        ``patient_id``; ``<gene>_mutated`` (1 with an altering mutation, else 0);
        ``<gene>_<consequence>`` (how many, silent ones too; columns without any are left out);
        ``<gene>_vaf`` (the largest of an altering mutation, 0 without one; left out where no VAF is
        known); ``burden`` (altering mutations in all genes of the source, also those not named).

    Raises
    ------
    SchemaError
        For genes without a mutation, with the nearest one, and for unknown patients only.
    DataError
        When no gene is altered in so many patients.
    """
    table, problems = mutations.table, Problems()
    ids = mutations.patients if patients is None else tuple(dict.fromkeys(map(str, patients)))
    if ids is None:
        ids = tuple(sorted(set(table["patient_id"])))
        _LOG.warning(
            "%s lists mutations only: the table has the %s with one; who was sequenced and has "
            "none needs a list of patients.",
            mutations.source,
            count(len(ids), "patient"),
        )
    else:
        table = _of_patients(table, ids, mutations.source, problems)
    altering = table[table["altering"]]
    if genes is None:
        times = altering.groupby("symbol")["patient_id"].nunique()
        genes = sorted(times.index[times >= min_patients])
        if not genes and not problems.messages:
            most = int(times.max()) if len(times) else 0
            raise DataError(
                f"{mutations.source}: no gene is altered in {count(min_patients, 'patient')}; the "
                f"most are {count(most, 'patient')}. Ask for fewer."
            )
    known = sorted(set(table["symbol"]))
    for gene in dict.fromkeys(genes):
        if gene not in known:
            problems.add(
                f"{mutations.source}: no mutation of gene {gene!r} in any patient."
                f"{nearest(gene, known)}"
            )
    problems.raise_if_any()
    for note in mutations.notes:
        _LOG.info("%s", note)
    return _wide(table, list(dict.fromkeys(genes)), ids)


def _of_patients(table, ids, source, problems):
    """Leave out mutations of others, and say how many patients that are."""
    theirs = table["patient_id"].isin(ids)
    others = sorted(set(table.loc[~theirs, "patient_id"]))
    if len(others) and not theirs.any():
        problems.add(
            f"{source}: none of its patients ({listing(others)}) is in the list of patients "
            f"({listing(ids)}); expected the same ids."
        )
    elif others:
        _LOG.warning(
            "%s: %s not in the list of patients left out: %s.",
            source,
            count(len(others), "patient"),
            listing(others),
        )
    return table[theirs]


def _wide(table, genes, ids):
    row = {patient: number for number, patient in enumerate(ids)}
    place = table["patient_id"].map(row).to_numpy(np.int64)
    symbols, altering = table["symbol"].to_numpy(object), table["altering"].to_numpy(bool)
    consequence, vaf = table["consequence"].to_numpy(object), table["vaf"].to_numpy(float)
    columns = {"patient_id": np.array(ids, dtype=object)}
    for gene in genes:
        own = symbols == gene
        counted = own & altering
        columns[f"{gene}_mutated"] = (_times(place[counted], ids) > 0).astype(np.int64)
        for term in sorted({term for term in consequence[own] if term is not None}):
            columns[f"{gene}_{term}"] = _times(place[own & (consequence == term)], ids)
        if np.isfinite(vaf[counted]).any():
            columns[f"{gene}_vaf"] = _largest(place[counted], vaf[counted], len(ids))
    columns["burden"] = _times(place[altering], ids)
    return pd.DataFrame(columns)


def _times(place, ids):
    return np.bincount(place, minlength=len(ids)).astype(np.int64)


def _largest(place, vaf, n):
    """Give the largest known VAF of each patient: 0 without a mutation, NaN if none is known."""
    known = np.isfinite(vaf)
    found = np.zeros(n)
    found[place] = np.nan
    best = np.full(n, -1.0)
    np.maximum.at(best, place[known], vaf[known])
    return np.where(best >= 0, best, found)


def read_patients(path):
    """Read a list of patients: a table with ``patient_id`` or ``Tumor_Sample_Barcode``.

    A table of one column needs no such name.

    Parameters
    ----------
    path : path or URI

    Returns
    -------
    tuple of str

    Raises
    ------
    SchemaError
        For a table without such a column, with empty cells or repeated patients.
    """
    name = table_name(path)
    frame = read_table(path, text=_IDS)
    columns = [column for column in _IDS if column in frame.columns] or list(frame.columns)
    if len(columns) > 1 and columns[0] not in _IDS:
        raise SchemaError(
            f"{name}: no column {_IDS[0]!r}; expected it, {_IDS[1]}, or a table of one column."
            f"{nearest(_IDS[0], columns)}"
        )
    column = columns[0]
    ids = read_table(path, text=[column])[column]
    problems = Problems()
    for positions, what in ((ids.isna(), "empty"), (ids.dropna().duplicated(), "repeated")):
        bad = positions.index[positions]
        if len(bad):
            problems.add(
                f"{name}, column {column}: {what} in {rows(bad)}; expected ids, once each."
            )
    problems.raise_if_any()
    return tuple(ids)


def write_mutation_table(table, out, sources, *, overwrite=False):
    """Write a table of mutations as Parquet, whole or not at all.

    Parameters
    ----------
    table : pandas.DataFrame
        As ``mutation_table`` makes it.
    out : path
    sources : sequence of path
        The files it was made from; their names and sha256 are stored with it.
    overwrite : bool, default False

    Raises
    ------
    SchemaError
        As ``check_output`` does.
    """
    from tabular_trainers import __version__

    out = Path(out)
    check_output(out, overwrite)
    facts = {
        "made_from": "\n".join(f"{table_name(s)} sha256 {hash_file(str(s))}" for s in sources),
        "package_version": __version__,
    }
    made = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(facts)
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as partial:
        pq.write_table(made, partial)


def check_output(out, overwrite):
    """Refuse, before any work, a name that is not Parquet's or is taken."""
    if Path(out).suffix != ".parquet":
        raise SchemaError(f"{out}: expected a name that ends in .parquet.")
    if Path(out).exists() and not overwrite:
        raise SchemaError(f"{out} exists already. Name another file, or add --overwrite.")
