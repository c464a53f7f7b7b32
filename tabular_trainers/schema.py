"""The contracts of the tables that the program writes: load them, and hold a table against one.

A contract is a Frictionless Table Schema (JSON) in ``data_schemas/``. pandera checks the values; it
is imported only when a table is validated.
"""

import functools
import importlib.resources
import json

import numpy as np
import pandas as pd

from tabular_trainers.errors import Problems, SchemaError, count, listing, rows, unknown_name

_SUFFIX = ".schema.json"
_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "a boolean",
}


def schema_names():
    """List the names of all contracts, sorted."""
    folder = importlib.resources.files("tabular_trainers.data_schemas")
    found = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX))


@functools.cache
def load_schema(name):
    """Read one contract.

    Parameters
    ----------
    name : str
        Name of a table, e.g. ``"folds"``.

    Returns
    -------
    dict
        The Table Schema as it stands in its file. It is shared: do not change it.

    Raises
    ------
    SchemaError
        When there is no such contract.
    """
    if name not in schema_names():
        raise SchemaError(unknown_name("table", name, schema_names()))
    folder = importlib.resources.files("tabular_trainers.data_schemas")
    return json.loads((folder / f"{name}{_SUFFIX}").read_text(encoding="utf-8"))


def empty(name):
    """Make a table of a contract without rows, with the contract's columns and types."""
    fields = load_schema(name)["fields"]
    return pd.DataFrame({field["name"]: pd.Series(dtype=_dtype(field)) for field in fields})


def validate(frame, name, where=None):
    """Hold a table against its contract, and cast its columns where that loses nothing.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table; its index is ignored.
    name : str
        Name of the contract.
    where : str, optional
        What to call the table in messages; default: its name.

    Returns
    -------
    pandas.DataFrame
        A new table with the contract's columns, in its order and with its types, and a fresh index.

    Raises
    ------
    SchemaError
        With everything that is wrong: missing and unknown columns, types, missing values, values
        out of bounds, repeated keys.
    """
    contract = load_schema(name)
    where = where or name
    fields = {field["name"]: field for field in contract["fields"]}
    source = f"{name}{_SUFFIX}"
    problems = Problems()
    repeated = frame.columns[frame.columns.duplicated()].unique()
    if len(repeated):
        problems.add(f"{where}: column {listing(map(repr, repeated))} is there more than once.")
        problems.raise_if_any()
    missing = [column for column in fields if column not in frame.columns]
    unknown = [column for column in frame.columns if column not in fields]
    if missing:
        problems.add(f"{where}: no column {listing(map(repr, missing))}; expected by {source}.")
    if unknown:
        problems.add(
            f"{where}: unknown column {listing(map(repr, unknown))}; "
            f"expected {listing(fields, 30)} ({source})."
        )
    cast = {}
    for column, field in fields.items():
        if column not in frame.columns:
            continue
        series, bad = _cast(frame[column].reset_index(drop=True), field)
        if len(bad):
            problems.add(
                f"{where}, column {column}: {len(bad)} of {count(len(frame), 'row')} "
                f"{'is' if len(bad) == 1 else 'are'} not {_WORDS[field['type']]} ({rows(bad)}); "
                f"expected by {source}."
            )
        else:
            cast[column] = series
    # The columns are new already, and a national cohort has ten million rows of curves: a copy
    # here, and one of pandera's, would be the most memory of its run.
    result = pd.DataFrame(cast, copy=False)
    for message in _pandera_messages(result, contract, where, source):
        problems.add(message)
    problems.raise_if_any()
    return result


def _required(field):
    return field.get("constraints", {}).get("required", False)


def _dtype(field):
    if field["type"] == "integer":
        return "int64" if _required(field) else "Int64"
    if field["type"] == "boolean":
        return "bool" if _required(field) else "boolean"
    return {"string": "object", "number": "float64"}[field["type"]]


def _cast(series, field):
    """Cast a column without loss; also give the positions of the values that do not fit.

    A missing value in a required column is left as it is, for the check of missing values to find.
    """
    kind, missing = field["type"], series.isna().to_numpy()
    if kind == "string":
        good = np.ones(len(series), dtype=bool)
        # Compiled, and so first: a loop over a million rows of curves takes seconds.
        if pd.api.types.infer_dtype(series, skipna=True) not in ("string", "empty"):
            good = missing | np.array([isinstance(value, str) for value in series], dtype=bool)
        return series.astype(object).where(~missing, None), np.flatnonzero(~good)
    if kind == "boolean":
        good = missing | np.array([isinstance(v, bool | np.bool_) for v in series], dtype=bool)
        target = "boolean" if missing.any() or not _required(field) else "bool"
    else:
        is_bool = np.full(len(series), pd.api.types.is_bool_dtype(series.dtype))
        if pd.api.types.is_numeric_dtype(series.dtype):
            number = pd.to_numeric(series).astype("float64").to_numpy(na_value=np.nan)
        else:  # text is not a number, even when it reads like one
            is_bool = np.array([isinstance(v, bool | np.bool_) for v in series], dtype=bool)
            typed = [v if not isinstance(v, str) else None for v in series]
            number = pd.to_numeric(pd.Series(typed, dtype=object), errors="coerce").to_numpy(float)
        good = missing | (~np.isnan(number) & ~is_bool)
        if kind == "number":
            return pd.Series(number), np.flatnonzero(~good)
        with np.errstate(invalid="ignore"):
            good &= missing | (np.isfinite(number) & (np.floor(number) == number))
        target = "Int64" if missing.any() or not _required(field) else "int64"
    bad = np.flatnonzero(~good)
    return (series if len(bad) else series.astype(target)), bad


def _pandera_messages(frame, contract, where, source):
    """Check missing values, bounds, choices and the primary key with pandera; one message each."""
    import pandera.errors
    import pandera.pandas as pandera

    texts, columns = {}, {}
    for field in contract["fields"]:
        column, rules = field["name"], field.get("constraints", {})
        if column not in frame:
            continue
        checks = []
        if "minimum" in rules:
            checks.append(pandera.Check.ge(rules["minimum"], error="minimum"))
            texts[column, "minimum"] = f"below {rules['minimum']}", f">= {rules['minimum']}"
        if "maximum" in rules:
            checks.append(pandera.Check.le(rules["maximum"], error="maximum"))
            texts[column, "maximum"] = f"above {rules['maximum']}", f"<= {rules['maximum']}"
        if "enum" in rules:
            checks.append(pandera.Check.isin(rules["enum"], error="enum"))
            choices = listing(map(repr, rules["enum"]))
            texts[column, "enum"] = "none of the known words", f"one of {choices}"
        texts[column, "not_nullable"] = "empty", _WORDS[field["type"]]
        columns[column] = pandera.Column(None, checks, nullable=not rules.get("required", False))
    try:
        pandera.DataFrameSchema(columns).validate(frame, lazy=True, inplace=True)
    except pandera.errors.SchemaErrors as error:
        failures = error.failure_cases
        for (column, check), group in failures.groupby(["column", "check"], sort=False):
            found = sorted(int(i) for i in group["index"])
            wrong, right = texts[column, check]
            yield (
                f"{where}, column {column}: {len(found)} of {count(len(frame), 'row')} "
                f"{'is' if len(found) == 1 else 'are'} {wrong} ({rows(found)}); "
                f"expected {right} ({source})."
            )
    key = contract.get("primaryKey", [])
    if key and all(column in frame for column in key):
        repeated = np.flatnonzero(frame.duplicated(key, keep="first"))
        if len(repeated):
            yield (
                f"{where}: {count(len(repeated), 'row')} repeat{'s' if len(repeated) == 1 else ''} "
                f"the key ({', '.join(key)}) of an earlier row ({rows(repeated)}); "
                f"expected each key once ({source})."
            )
