import gzip
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabular_trainers import tables
from tabular_trainers.errors import SchemaError
from tabular_trainers.tables import (
    hash_file,
    read_table,
    read_tables,
    read_written,
    resolve,
    write_table,
    write_tables,
)

CSV = "patient_id,age,sex\n001,61.5,f\n002,,m\n"


def message(call, *arguments):
    with pytest.raises(SchemaError) as caught:
        call(*arguments)
    return str(caught.value)


def as_csv(path):
    path.write_text(CSV)


def as_tsv(path):
    path.write_text(CSV.replace(",", "\t"))


def as_gzip(path):
    path.write_bytes(gzip.compress(CSV.encode()))


def as_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside.csv", CSV)


def as_parquet(path):
    pd.DataFrame({"patient_id": ["001", "002"], "age": [61.5, None], "sex": ["f", "m"]}).to_parquet(
        path
    )


def as_feather(path):
    pd.DataFrame({"patient_id": ["001", "002"], "age": [61.5, None], "sex": ["f", "m"]}).to_feather(
        path
    )


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.csv", as_csv),
        ("t.tsv", as_tsv),
        ("t.csv.gz", as_gzip),
        ("t.csv.zip", as_zip),
        ("t.parquet", as_parquet),
        ("t.feather", as_feather),
    ],
)
def test_every_format_gives_the_same_table(tmp_path, name, write):
    write(tmp_path / name)
    found = read_table(tmp_path / name, text=["patient_id", "not_there"])
    assert found["patient_id"].tolist() == ["001", "002"]
    assert found["age"].tolist()[0] == 61.5
    assert np.isnan(found["age"].tolist()[1])
    assert found["sex"].tolist() == ["f", "m"]


def test_a_uri_is_read_through_fsspec(tmp_path):
    import fsspec

    with fsspec.open("memory://cohort/t.csv", "w") as stream:
        stream.write(CSV)
    assert read_table("memory://cohort/t.csv").shape == (2, 3)
    assert "no such file" in message(read_table, "memory://cohort/other.csv")


def test_npz_gives_ids_exactly_as_they_are(tmp_path):
    np.savez(tmp_path / "t.npz", **{"001": np.float32([1, 2]), "1": np.float32([3, 4])})
    found = read_table(tmp_path / "t.npz")
    assert found.columns.tolist() == ["id", "e000", "e001"]
    assert found["id"].tolist() == ["001", "1"]
    assert found[["e000", "e001"]].to_numpy().tolist() == [[1, 2], [3, 4]]


def test_text_columns_stay_exactly_as_written(tmp_path):
    (tmp_path / "t.csv").write_text("id,site,x\n001,NA,NA\n1e5,,None\n 7,06,1\n")
    found = read_table(tmp_path / "t.csv", text=["id", "site"])
    assert found["id"].tolist() == ["001", "1e5", " 7"]
    assert found["site"].tolist() == ["NA", None, "06"]  # only an empty cell is missing
    assert found["x"].isna().tolist() == [True, False, False]  # None may be a label


def test_whole_numbers_become_ids_without_a_point(tmp_path):
    pd.DataFrame({"id": [1.0, 2.0], "n": [3, 4]}).to_parquet(tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet", text=["id", "n"])
    assert found["id"].tolist() == ["1", "2"]
    assert found["n"].tolist() == ["3", "4"]


def test_numbers_are_read_to_the_last_bit(tmp_path):
    values = np.random.default_rng(0).normal(size=50)
    pd.DataFrame({"x": values}).to_csv(tmp_path / "t.csv", index=False)
    assert np.array_equal(read_table(tmp_path / "t.csv")["x"], values)


@pytest.mark.parametrize("strip_cells", [1, 100, 1 << 20])
@pytest.mark.parametrize("place", ["file", "memory"])
def test_parquet_read_in_strips_is_the_table_that_pandas_reads(
    tmp_path, monkeypatch, strip_cells, place
):
    monkeypatch.setattr(tables, "STRIP_CELLS", strip_cells)
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(50, 7)).astype("float32")).rename(
        columns="x.{}".format
    )
    table["x"] = np.where(random.random(50) < 0.5, np.nan, 1.0)  # also the start of other names
    table["whole"] = pd.array([None, *range(49)], dtype="Int64")
    table["site"] = pd.Categorical(random.choice(["a", "b"], 50))
    table["many"] = [[1, 2]] * 50
    table.index = pd.Index([f"P{i}" for i in range(50)], name="stored")
    path = tmp_path / "t.parquet"
    table.to_parquet(path, row_group_size=20)
    uri = path
    if place == "memory":
        import fsspec

        uri = f"memory://strips/{strip_cells}.parquet"
        with fsspec.open(uri, "wb") as stream:
            stream.write(path.read_bytes())
    found = read_table(uri)
    pd.testing.assert_frame_equal(found, pd.read_parquet(path).reset_index(drop=True))
    found.loc[0, "x"] = 5.0  # not a view of what cannot be written


def test_parquet_with_a_repeated_column(tmp_path):
    columns = [pa.array([1.0])] * 3
    pq.write_table(pa.Table.from_arrays(columns, names=["a", "b", "a"]), tmp_path / "t.parquet")
    assert message(read_table, tmp_path / "t.parquet") == (
        "t.parquet: column 'a' is there more than once; rename or remove the copies."
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", b"", "t.csv: the table is empty; expected a header and at least one row."),
        ("t.csv", b"a,b\n", "t.csv: the table is empty; expected a header and at least one row."),
        (
            "t.csv",
            b"a,b,a\n1,2,3\n",
            "t.csv: column 'a' is there more than once; rename or remove the copies.",
        ),
        (
            "t.csv",
            b"\x00\x01\x02binary",
            "t.csv: not a CSV file (it holds binary data); save the table as CSV.",
        ),
        (
            "t.csv",
            b"PK\x03\x04 a workbook",
            "t.csv: not a CSV file but a workbook or zip; open it and save the table as CSV.",
        ),
        (
            "t.csv",
            "id,größe\n1,2\n".encode("latin-1"),
            "t.csv: not UTF-8 text (line 1); save the table as CSV in UTF-8.",
        ),
        (
            "t.csv",
            b"id;age\n1;2\n",
            "t.csv: not a table with commas between its columns; the header has one column, and "
            "';' in it. Save it as CSV with commas, and with a point in decimal numbers.",
        ),
        (
            "t.csv",
            b"id,age\n1,2\n2,3,4\n",
            "t.csv: not a CSV file; 1 row (row 2) has more columns than the header's 2.",
        ),
        ("t.csv.gz", b"id,age\n1,2\n", "t.csv.gz: not a gzip file."),
        ("t.csv.zip", b"id,age\n1,2\n", "t.csv.zip: not a zip file."),
        ("t.parquet", b"id,age\n1,2\n", "t.parquet: not a Parquet file."),
        ("t.feather", b"id,age\n1,2\n", "t.feather: not a Feather file."),
        (
            "t.xlsx",
            b"PK",
            "t.xlsx: cannot read this kind of file; expected .csv, .tsv, .csv.gz, .tsv.gz, "
            ".csv.zip, .tsv.zip, .parquet, .feather, .npz.",
        ),
    ],
)
def test_bad_files(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert message(read_table, tmp_path / name) == expected


def test_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "clinical.csv").write_text(CSV)
    assert message(read_table, tmp_path / "clincal.csv") == (
        f"clincal.csv: no such file in {tmp_path}. Did you mean 'clinical.csv'?"
    )
    assert message(read_table, tmp_path / "no" / "a.csv") == (
        f"a.csv: no such file, because there is no folder {tmp_path / 'no'}."
    )


def test_npz_of_other_things(tmp_path):
    np.savez(tmp_path / "t.npz", a=np.zeros(2), b=np.zeros(3))
    assert message(read_table, tmp_path / "t.npz") == (
        "t.npz: the arrays have shapes (2,), (3,); expected one vector of the same length for "
        "every id."
    )
    np.savez(tmp_path / "t.npz", a=np.array([{"a": 1}], dtype=object))  # would need pickle
    assert message(read_table, tmp_path / "t.npz").startswith("t.npz: not an npz file of vectors")


def test_resolve():
    assert resolve("a.csv", "/data") == "/data/a.csv"
    assert resolve("/b/a.csv", "/data") == "/b/a.csv"
    assert resolve("a.csv", "s3://bucket/x/") == "s3://bucket/x/a.csv"
    assert resolve("s3://bucket/a.csv", "/data") == "s3://bucket/a.csv"


FOLDS = pd.DataFrame(
    {"patient_id": ["1", "2"], "repeat": 0, "fold": [0, 0], "part": ["train", "test"]}
)


def test_written_tables_come_back_with_their_provenance(tmp_path):
    write_tables({"folds": FOLDS}, tmp_path, {"config_hash": "abc", "seed": 7})
    found = read_tables(tmp_path)
    assert list(found) == ["folds"]
    pd.testing.assert_frame_equal(found["folds"], FOLDS)
    facts = found["folds"].attrs["metadata"]
    assert facts["schema"] == "folds"
    assert facts["schema_version"] == "1"
    assert facts["config_hash"] == "abc"
    assert facts["seed"] == "7"
    assert facts["package_version"]


def test_the_same_table_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_table(FOLDS, "folds", tmp_path / f"{name}.parquet", {"seed": "1"})
    assert hash_file(str(tmp_path / "a.parquet")) == hash_file(str(tmp_path / "b.parquet"))
    write_table(FOLDS, "folds", tmp_path / "c.parquet", {"seed": "2"})
    assert hash_file(str(tmp_path / "a.parquet")) != hash_file(str(tmp_path / "c.parquet"))


def test_a_large_table_is_written_piece_by_piece(tmp_path, monkeypatch):
    """Row groups, and so the bytes, are those that Arrow makes of the whole table."""
    monkeypatch.setattr("tabular_trainers.tables.ROWS_AT_ONCE", 2)
    frame = pd.concat([FOLDS.assign(repeat=k) for k in range(5)], ignore_index=True)
    write_table(frame, "folds", tmp_path / "folds.parquet", {"seed": "1"})
    pd.testing.assert_frame_equal(read_tables(tmp_path)["folds"], frame)
    whole = pq.read_table(tmp_path / "folds.parquet")
    pq.write_table(whole, tmp_path / "whole.parquet", row_group_size=2)
    same = [(tmp_path / f"{name}.parquet").read_bytes() for name in ("folds", "whole")]
    assert same[0] == same[1]


def test_a_table_that_cannot_be_written_to_its_end_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tabular_trainers.tables.ROWS_AT_ONCE", 1)
    calls = iter([None])
    original = pa.Table.from_pandas

    def failing(*given, **named):
        next(calls)  # the second call ends it
        return original(*given, **named)

    arrow = vars(pa) | {"Table": SimpleNamespace(from_pandas=failing)}
    monkeypatch.setattr("tabular_trainers.tables.pa", SimpleNamespace(**arrow))
    with pytest.raises(StopIteration):
        write_table(FOLDS, "folds", tmp_path / "folds.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_breaks_its_contract_is_not_written(tmp_path):
    with pytest.raises(SchemaError):
        write_table(FOLDS.assign(part="both"), "folds", tmp_path / "folds.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "folds.parquet").write_text("a,b")
    assert message(read_written, tmp_path / "folds.parquet") == "folds.parquet: not a Parquet file."
