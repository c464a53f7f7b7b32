import pandas as pd
import pytest

from tabular_trainers.errors import DataError, SchemaError
from tabular_trainers.folds import make_folds, read_folds
from tests.survival_golden import simulated


def write(folder, *splits):
    folder.mkdir()
    for k, (train, val) in enumerate(splits):
        table = pd.DataFrame({"train": pd.Series(train), "val": pd.Series(val)})
        table.to_csv(folder / f"splits_{k}.csv")
    return folder


def test_split_files_are_read_and_counted(tmp_path):
    # 001 is listed twice in one split (two slides); 009 is unknown; 007 is in no test part
    folder = write(
        tmp_path / "published",
        (["001", "001", "002", "009"], ["003", "004"]),
        (["003", "004"], ["001", "002"]),
    )
    folds = read_folds(folder, ["001", "002", "003", "004", "007"])
    assert folds.attrs["note"] == (
        "2 folds read from published; 1 patient of the analysis in no test fold; 1 id of the folds "
        "not in the analysis"
    )
    assert folds.to_numpy().tolist() == [
        ["001", 0, 0, "train"],
        ["002", 0, 0, "train"],
        ["003", 0, 0, "test"],
        ["004", 0, 0, "test"],
        ["003", 0, 1, "train"],
        ["004", 0, 1, "train"],
        ["001", 0, 1, "test"],
        ["002", 0, 1, "test"],
    ]


def test_overlapping_test_parts_become_repeats(tmp_path):
    folder = write(tmp_path / "s", (["a", "b"], ["c"]), (["a"], ["b", "c"]))
    folds = read_folds(str(folder), ["a", "b", "c"])
    assert folds["repeat"].unique().tolist() == [0, 1]
    assert folds["fold"].unique().tolist() == [0]


def test_a_run_s_own_folds_are_read(tmp_path):
    y, _, _ = simulated(60)
    folds = make_folds(y, range(60), n_splits=3)
    folds.to_parquet(tmp_path / "folds.parquet")
    found = read_folds(tmp_path / "folds.parquet", range(60))
    assert found.to_numpy().tolist() == folds.to_numpy().tolist()
    assert found.attrs["note"] == "3 folds read from folds.parquet"


def test_messages(tmp_path):
    def message(path, kind=SchemaError):
        with pytest.raises(kind) as caught:
            read_folds(path, ["a", "b", "c"])
        return str(caught.value).replace(str(tmp_path), "HERE")

    assert message(tmp_path / "five") == (
        "HERE/five: expected a number of folds, a folder of splits_0.csv, splits_1.csv, ... with "
        "the columns train and val, or a folds.parquet of an earlier run."
    )
    assert message(tmp_path / "x.parquet") == "HERE/x.parquet: no such file."
    (tmp_path / "empty").mkdir()
    assert message(tmp_path / "empty") == (
        "HERE/empty: no file splits_0.csv, splits_1.csv, ...; expected one a fold with the columns "
        "train and val."
    )
    both = write(tmp_path / "both", (["a", "b"], ["b", "c"]))
    assert message(both) == (
        "HERE/both/splits_0.csv: 1 patient in both train and val; expected each patient in one "
        "part."
    )
    pd.DataFrame({"train": ["a"], "valid": ["b"]}).to_csv(both / "splits_0.csv", index=False)
    assert message(both) == (
        "HERE/both/splits_0.csv: no column val; expected train and val, which hold patient ids. "
        "Found: train, valid."
    )
    (both / "splits_0.csv").rename(both / "splits_2.csv")
    assert message(both) == (
        "HERE/both: expected splits_0.csv to splits_0.csv; found splits_2.csv."
    )
    strangers = write(tmp_path / "strangers", (["1", "2"], ["3"]))
    assert message(strangers, DataError) == (
        "HERE/strangers: a fold has no train or no test patient in the analysis of 3 patients; ids "
        "are compared as text, exactly."
    )
