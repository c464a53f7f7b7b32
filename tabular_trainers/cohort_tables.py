"""The tables of a cohort: read each once, find rows by patient id, keep one row a patient."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError, Problems, SchemaError, count, listing, nearest, rows
from tabular_trainers.tables import hash_file, read_table, resolve, table_name


@dataclass(frozen=True)
class Rows:
    """The rows of one table that belong to patients of the cohort.

    Attributes
    ----------
    name : str
        File name, for messages.
    uri : str
    key : str
        Column with the patient id.
    frame : pandas.DataFrame
        Those rows; the index is the row's position in the file.
    ids : numpy.ndarray of str
        Patient id of each row.
    n_unknown : int
        Ids of the table that the clinical table does not have.
    """

    name: str
    uri: str
    key: str
    frame: pd.DataFrame
    ids: np.ndarray
    n_unknown: int

    def column(self, name, where):
        """Give one column, or raise a SchemaError that names the nearest one."""
        if name not in self.frame:
            raise SchemaError(missing_column(self.name, name, where, self.frame.columns))
        return self.frame[name]


class TableReader:
    """Read the tables of a cohort, each once, with its id and label columns as exact text.

    Parameters
    ----------
    folder : str
        Where relative tables are looked up.
    hint : str
        What to say when a table is not there.
    """

    def __init__(self, folder, hint=""):
        # Absolute, so that a place that was found before is not looked up in the folder once more.
        self.folder = folder if "://" in folder else str(Path(folder).absolute())
        self.hint = hint
        self._text = {}
        self._frames = {}
        self._hashes = {}

    def place(self, table):
        """Give the full path or URI of a table."""
        return resolve(table, self.folder)

    def as_text(self, table, *columns):
        """Ask for columns of a table to be read as text; call it before the first `read`."""
        wanted = self._text.setdefault(self.place(table), set())
        wanted.update(column for column in columns if column)

    def read(self, table):
        """Read a table; the same error again when it could not be read before."""
        uri = self.place(table)
        if uri not in self._frames:
            try:
                self._frames[uri] = read_table(uri, text=self._text.get(uri, ()))
            except SchemaError as error:
                there = "://" in uri or Path(uri).exists()
                self._frames[uri] = error if there else SchemaError(f"{error}{self.hint}")
        if isinstance(self._frames[uri], SchemaError):
            raise SchemaError(str(self._frames[uri]))
        return self._frames[uri]

    def hold(self, table, frame, source_hash):
        """Take a frame as a table's rows, and a hash as that of its bytes: of a store, say."""
        uri = self.place(table)
        self._frames[uri], self._hashes[uri] = frame, source_hash

    def hashes(self):
        """Give the sha256 of every table that was read, in the order of their names."""
        found = {uri for uri, frame in self._frames.items() if not isinstance(frame, SchemaError)}
        return [self._hashes.get(uri) or hash_file(uri) for uri in sorted(found)]

    def rows(self, table, key, where, clinical=None):
        """Find the rows of a table that belong to patients of the cohort.

        Parameters
        ----------
        table, key : str
        where : str
            Section of the cohort.toml, for messages.
        clinical : Rows, optional
            The clinical table's rows; None when this is the clinical table.

        Raises
        ------
        SchemaError
            When the id column is missing or has empty cells.
        DataError
            When no id is in the clinical table.
        """
        frame, name = self.read(table), table_name(table)
        if key not in frame:
            raise SchemaError(missing_column(name, key, where, frame.columns))
        ids = frame[key]
        empty = np.flatnonzero(ids.isna() | (ids == ""))
        if len(empty):
            raise SchemaError(
                f"{name}, column {key}: {len(empty)} of {count(len(ids), 'row')} "
                f"{'has' if len(empty) == 1 else 'have'} no patient id ({rows(empty)})."
            )
        ids = ids.to_numpy(object)
        if clinical is None:
            return Rows(name, self.place(table), key, frame, ids, 0)
        known = pd.Index(clinical.ids).unique()
        here = np.asarray(pd.Index(ids).isin(known))
        own = pd.Index(ids).unique()
        if not here.any():
            raise DataError(_nothing_matches(name, key, own, clinical, known))
        unknown = int((~own.isin(known)).sum())
        return Rows(name, self.place(table), key, frame[here], ids[here], unknown)


@dataclass(frozen=True)
class Reading:
    """What every part of a cohort needs while it is read.

    Attributes
    ----------
    reader : TableReader
    clinical : Rows
        Of the clinical table.
    set_apart : tuple of str
        Columns of the clinical table that a pattern does not take: site and cancer type.
    outcomes : dict of (str, str) to (str, str)
        Table and column of every endpoint's columns, to the endpoint's name and kind.
    problems : Problems
    notes : list of str
    """

    reader: TableReader
    clinical: Rows
    set_apart: tuple[str, ...]
    outcomes: dict
    problems: Problems
    notes: list


def missing_column(table, column, where, columns):
    """Say that a table lacks a column, and name the nearest one that it has."""
    return f"{table}: no column {column!r} ({where}).{nearest(column, list(columns))}"


def _nothing_matches(name, key, own, clinical, known):
    """Show both forms of the ids, and the change that would make them match."""
    plain = {
        "without leading zeros": lambda i: i.lstrip("0"),
        "in the same case": str.lower,
        "without spaces around them": str.strip,
        "without what follows the first 12 characters": lambda i: i[:12],
    }
    hint = ""
    for words, change in plain.items():
        if set(map(change, own)) & set(map(change, known)):
            hint = f" They would match {words}."
            break
    return (
        f"{name}, column {key}: none of its {count(len(own), 'id')} is in {clinical.name}, column "
        f"{clinical.key} (here {listing(map(repr, own), 3)}; "
        f"there {listing(map(repr, known), 3)}). "
        f"Ids are compared exactly as text.{hint} Correct the ids in one of the tables."
    )


def one_row_each(found, frame, where, pool=None, may_pool=False):
    """Keep one row a patient.

    Rows of a patient that agree in every column count once; others are pooled.

    Parameters
    ----------
    found : Rows
    frame : pandas.DataFrame
        The columns used, typed (float64, or text with None), row by row as in ``found``.
    where : str
        Section of the cohort.toml, for messages.
    pool : str, optional
        mean, max, first.
    may_pool : bool
        Whether the section has the option ``pool``, to be offered when rows disagree.

    Returns
    -------
    frame : pandas.DataFrame
        Index ``patient_id``, sorted.
    note : str or None
        What was collapsed or pooled.

    Raises
    ------
    SchemaError
        When rows of a patient differ and there is no way to pool them.
    """
    patients = pd.Index(found.ids, name="patient_id")
    frame = frame.set_axis(patients)
    repeated = patients.duplicated()
    if not repeated.any():
        return frame.sort_index(), None
    n_patients = int((~repeated).sum())
    first = pd.Series(np.arange(len(patients))[~repeated], index=patients[~repeated])
    first = first.loc[patients].to_numpy()
    text = [column for column in frame if frame[column].dtype == object]
    numbers = frame.drop(columns=text)
    differing = _differs(numbers.to_numpy(), first), _differs(frame[text].to_numpy(object), first)
    differs, differs_text = (found.any(axis=1) for found in differing)
    size = f"{count(len(frame), 'row')} of {count(n_patients, 'patient')}"
    if pool is None and not (differs | differs_text).any():
        words = "agree in every column used; one row a patient was kept"
        return frame[~repeated].sort_index(), f"{found.name}: {size} {words}."
    wrong = differs | differs_text if pool is None else differs_text
    if wrong.any() and pool != "first":
        ids = list(dict.fromkeys(patients[wrong]))
        lines = found.frame.index[patients.isin(ids)]
        places = f"patient{'s' if len(ids) > 1 else ''} {listing(ids)}; {rows(lines)}"
        columns = [c for c, d in zip(text, differing[1].any(axis=0), strict=True) if d]
        if pool is None:
            differ = differing[0].any(axis=0)
            columns += [c for c, d in zip(numbers, differ, strict=True) if d]
            columns = [column for column in frame if column in columns]
            words = f"there more than once, with different values in {listing(columns, 5)}"
            advice = "Keep one row a patient"
            option = f', or set pool = "mean", "max" or "first" in {where}.'
            advice += option if may_pool else f" ({where})."
        else:
            words = f"there more than once, with different labels in {listing(columns, 5)}"
            words += f", which {pool!r} cannot pool"
            advice = f'Leave those columns out, or set pool = "first" in {where}.'
        raise SchemaError(
            f"{found.name}, column {found.key}: {len(ids)} of {count(n_patients, 'patient id')} "
            f"{'is' if len(ids) == 1 else 'are'} {words} ({places}). {advice}"
        )
    pooled = frame[~repeated]
    if pool in ("mean", "max"):
        numeric = numbers.groupby(level=0)
        pooled = pd.concat([getattr(numeric, pool)(), pooled[text]], axis=1)[list(frame.columns)]
    several = int((pd.Series(patients).value_counts() > 1).sum())
    words = f"pooled by {pool} ({count(several, 'patient')} with several rows)"
    return pooled.sort_index(), f"{where}, {found.name}: {size} {words}."


def _differs(values, first):
    """Mark the values that differ from their patient's first row; missing equals missing."""
    other = values[first]
    return ~((values == other) | (pd.isna(values) & pd.isna(other)))


def label_text(values):
    """Write labels as text: whole numbers without a point, so that 1 and 1.0 are one label.

    Parameters
    ----------
    values : pandas.Series

    Returns
    -------
    pandas.Series of object
        Text, None where missing.
    """
    known = values.notna().to_numpy()
    out = np.full(len(values), None, dtype=object)
    for i, value in zip(np.flatnonzero(known), values[known], strict=True):
        if isinstance(value, float | np.floating) and float(value).is_integer():
            value = int(value)
        out[i] = str(value)
    return pd.Series(out, index=values.index, dtype=object)


def tables_of(options, clinical):
    """List the tables of a block, each with its id column."""
    tables = options.table if isinstance(options.table, list) else [options.table]
    keys = options.key if isinstance(options.key, list) else [options.key] * len(tables)
    for table, key in zip(tables, keys, strict=True):
        if table is None:
            yield clinical.uri, key or clinical.key
        else:
            yield table, key or default_key(table, clinical.key)


def default_key(table, patient_id):
    """Give the id column of a table for which none is named."""
    return "id" if str(table).lower().endswith(".npz") else patient_id
