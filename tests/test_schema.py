import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.errors import SchemaError
from tabular_trainers.schema import empty, load_schema, schema_names, validate
from tabular_trainers.tables import read_written, write_table

FOLDS = pd.DataFrame(
    {
        "patient_id": ["1", "2", "1", "2"],
        "repeat": 0,
        "fold": [0, 0, 1, 1],
        "part": ["train", "test", "test", "train"],
    }
)


def message(frame, name="folds", where=None):
    with pytest.raises(SchemaError) as caught:
        validate(frame, name, where)
    return str(caught.value)


def test_every_contract_is_whole():
    for name in schema_names():
        contract = load_schema(name)
        fields = [field["name"] for field in contract["fields"]]
        assert contract["name"] == name
        assert contract["version"]
        assert len(set(fields)) == len(fields)
        assert set(contract.get("primaryKey", [])) <= set(fields)
        for field in contract["fields"]:
            assert field["type"] in {"string", "integer", "number", "boolean"}, (name, field)
            assert field["description"].endswith("."), (name, field)


def test_an_empty_table_of_every_contract_is_valid(tmp_path):
    for name in schema_names():
        validate(empty(name), name)
        write_table(empty(name), name, tmp_path / "t.parquet")
        pd.testing.assert_frame_equal(read_written(tmp_path / "t.parquet"), empty(name))


def test_columns_are_cast_and_ordered():
    shuffled = FOLDS[["part", "fold", "patient_id", "repeat"]].astype({"fold": float})
    found = validate(shuffled.set_index(pd.Index([5, 5, 5, 5])), "folds")
    pd.testing.assert_frame_equal(found, FOLDS)


def test_messages():
    assert message(FOLDS.drop(columns="part").assign(z=1)) == (
        "2 problems:\n"
        "- folds: no column 'part'; expected by folds.schema.json.\n"
        "- folds: unknown column 'z'; expected patient_id, repeat, fold, part (folds.schema.json)."
    )
    assert message(FOLDS.assign(fold=[0, 0, 1.5, 1]), where="my.parquet") == (
        "my.parquet, column fold: 1 of 4 rows is not a whole number (row 3); expected by "
        "folds.schema.json."
    )
    assert message(FOLDS.assign(patient_id=[1, "2", "1", "2"])) == (
        "folds, column patient_id: 1 of 4 rows is not text (row 1); expected by folds.schema.json."
    )
    assert message(FOLDS.assign(fold=[0, -1, 1, 1], part=["train", "both", "test", None])) == (
        "3 problems:\n"
        "- folds, column fold: 1 of 4 rows is below 0 (row 2); expected >= 0 (folds.schema.json).\n"
        "- folds, column part: 1 of 4 rows is empty (row 4); expected text (folds.schema.json).\n"
        "- folds, column part: 1 of 4 rows is none of the known words (row 2); expected one of "
        "'train', 'test' (folds.schema.json)."
    )
    assert message(FOLDS.assign(fold=0)) == (
        "folds: 2 rows repeat the key (patient_id, repeat, fold) of an earlier row (rows 3, 4); "
        "expected each key once (folds.schema.json)."
    )


def test_text_that_reads_like_a_number_is_no_number():
    assert message(FOLDS.assign(fold=["0", "0", "1", "1"])).startswith(
        "folds, column fold: 4 of 4 rows are not a whole number"
    )


def test_unknown_contract_names_the_nearest():
    with pytest.raises(SchemaError, match=r"unknown table 'fold'; .* Did you mean 'folds'\?"):
        load_schema("fold")


def tables_of(name):
    """Draw tables that fulfil a contract, from the contract itself."""
    contract = load_schema(name)
    columns = {}
    for field in contract["fields"]:
        rules = field.get("constraints", {})
        low, high = rules.get("minimum"), rules.get("maximum")
        if "enum" in rules:
            values = st.sampled_from(rules["enum"])
        elif field["type"] == "string":
            values = st.text(max_size=5)
        elif field["type"] == "integer":
            values = st.integers(low if low is not None else -(2**40), high or 2**40)
        elif field["type"] == "boolean":
            values = st.booleans()
        else:
            values = st.floats(low, high, allow_nan=False, allow_infinity=False)
        columns[field["name"]] = values if rules.get("required") else st.none() | values
    key = contract.get("primaryKey", [])
    return st.lists(
        st.fixed_dictionaries(columns),
        max_size=4,
        unique_by=(lambda row: tuple(row[c] for c in key)) if key else None,
    ).map(lambda rows: pd.DataFrame(rows, columns=list(columns), dtype=object))


@pytest.mark.parametrize("name", schema_names())
def test_write_read_validate_round_trip(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)

    @settings(max_examples=6)
    @given(tables_of(name))
    def round_trip(frame):
        valid = validate(frame, name)
        write_table(frame, name, folder / "t.parquet")
        found = read_written(folder / "t.parquet")
        pd.testing.assert_frame_equal(found, valid)
        for column in frame:
            for written, read in zip(frame[column], found[column], strict=True):
                assert (pd.isna(written) and pd.isna(read)) or written == read

    round_trip()


def test_missing_values_keep_whole_numbers_whole():
    metrics = empty("metrics").reindex(range(2))
    for field in load_schema("metrics")["fields"]:
        if field.get("constraints", {}).get("required"):
            fill = {"string": "a", "integer": 1, "number": 0.5}[field["type"]]
            metrics[field["name"]] = fill
    metrics["fold"] = np.array([2**53 + 1, None], dtype=object)
    found = validate(metrics, "metrics")["fold"]
    assert found.dtype == "Int64"
    assert found.iloc[0] == 2**53 + 1
