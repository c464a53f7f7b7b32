"""Read published folds: a folder of split files, or the table of an earlier run."""

import os
from pathlib import Path

import pandas as pd

from tabular_trainers.errors import DataError, SchemaError, count, listing


def read_folds(path, patient_id):
    """Read published folds.

    Parameters
    ----------
    path : str or path-like
        Folder of ``splits_0.csv, splits_1.csv, ...`` with columns ``train`` and ``val`` that hold
        patient ids, or a ``folds.parquet`` of an earlier run.
    patient_id : array-like of shape (n_patients,)
        Patients of the analysis; ids are compared as text, exactly.

    Returns
    -------
    DataFrame
        Schema ``folds``, of these patients only. Where a patient is tested in two splits, every
        split becomes a repeat. ``.attrs["note"]`` counts patients that are in no fold, and ids
        that are not in the analysis.

    Raises
    ------
    SchemaError
        If a file is missing or breaks its contract, or a patient is in both parts of a fold.
    DataError
        If no patient of a fold is in the analysis.
    """
    path = Path(os.fspath(path))
    patient_id = pd.Index(patient_id).astype(str)
    if path.is_dir():
        folds = _read_split_files(path)
    elif path.suffix == ".parquet":
        folds = _read_parquet(path)
    else:
        raise SchemaError(
            f"{path}: expected a number of folds, a folder of splits_0.csv, splits_1.csv, ... "
            "with the columns train and val, or a folds.parquet of an earlier run."
        )
    known = folds["patient_id"].isin(patient_id)
    n_unknown = folds.loc[~known, "patient_id"].nunique()
    n_folds = folds.groupby(["repeat", "fold"]).ngroups
    folds = folds[known].reset_index(drop=True)
    parts = folds.groupby(["repeat", "fold"])["part"].nunique()
    if len(parts) < n_folds or (parts < 2).any():
        raise DataError(
            f"{path}: a fold has no train or no test patient in the analysis of "
            f"{count(len(patient_id), 'patient')}; ids are compared as text, exactly."
        )
    tested = folds.loc[folds["part"] == "test", "patient_id"]
    n_never = len(patient_id) - tested.nunique()
    note = f"{n_folds} folds read from {path.name}"
    if n_never:
        note += f"; {count(n_never, 'patient')} of the analysis in no test fold"
    if n_unknown:
        note += f"; {count(n_unknown, 'id')} of the folds not in the analysis"
    folds.attrs["note"] = note
    return folds


def _read_split_files(folder):
    files = sorted(folder.glob("splits_*.csv"), key=_split_number)
    if not files:
        raise SchemaError(
            f"{folder}: no file splits_0.csv, splits_1.csv, ...; expected one a fold with the "
            "columns train and val."
        )
    if [_split_number(file) for file in files] != list(range(len(files))):
        raise SchemaError(
            f"{folder}: expected splits_0.csv to splits_{len(files) - 1}.csv; "
            f"found {listing(file.name for file in files)}."
        )
    splits = []
    for file in files:
        table = pd.read_csv(file, dtype=str)
        missing = [name for name in ("train", "val") if name not in table.columns]
        if missing:
            raise SchemaError(
                f"{file}: no column {listing(missing)}; expected train and val, which hold patient "
                f"ids. Found: {listing(table.columns)}."
            )
        # a patient with several slides can be listed several times
        ids = {part: table[part].dropna().drop_duplicates() for part in ("train", "val")}
        both = ids["val"].isin(ids["train"]).sum()
        if both:
            raise SchemaError(
                f"{file}: {count(int(both), 'patient')} in both train and val; expected each "
                "patient in one part."
            )
        splits.append(ids)
    tested = pd.concat([ids["val"] for ids in splits])
    overlap = tested.duplicated().any()
    parts = []
    for k, ids in enumerate(splits):
        repeat, fold = (k, 0) if overlap else (0, k)
        for part, name in (("train", "train"), ("val", "test")):
            parts.append(
                pd.DataFrame(
                    {"patient_id": ids[part], "repeat": repeat, "fold": fold, "part": name}
                )
            )
    return pd.concat(parts, ignore_index=True)


def _split_number(file):
    number = file.stem.removeprefix("splits_")
    if not number.isdecimal():
        raise SchemaError(f"{file}: expected a name such as splits_0.csv.")
    return int(number)


def _read_parquet(path):
    from tabular_trainers.schema import validate

    if not path.exists():
        raise SchemaError(f"{path}: no such file.")
    folds = pd.read_parquet(path)
    folds = validate(folds, "folds", str(path))
    per_fold = folds[folds["part"] == "test"].groupby(["repeat", "patient_id"]).size()
    if (per_fold > 1).any():
        raise SchemaError(
            f"{path}: {count(int((per_fold > 1).sum()), 'patient')} tested twice in one repeat; "
            "expected each patient in at most one test part of a repeat."
        )
    return folds
