"""Numbers read where they lie are those that Arrow reads; what is not plain is left to Arrow."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.plain_pages import plain_values

PLAIN = {"compression": "none", "use_dictionary": False, "write_statistics": False}


def table_of(values, nullable=False, missing=()):
    """Make a table of vectors, with other columns around them."""
    item = pa.from_numpy_dtype(values.dtype)
    kind = pa.list_(pa.field("element", item, nullable=nullable), values.shape[1])
    flat = pa.array(
        values.ravel(), item, mask=np.isin(np.arange(values.size), missing) if nullable else None
    )
    vectors = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    number = pa.array(np.arange(len(values)))
    fields = [pa.field("embedding", kind, nullable=nullable), pa.field("embedding_number", "int64")]
    return pa.Table.from_arrays([vectors, number], schema=pa.schema(fields))


def both_ways(path, dtype):
    """Read every row group without Arrow and with it."""
    with open(path, "rb") as stream, pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            column = file.read_row_group(number).column("embedding").combine_chunks()
            found = plain_values(stream, file.metadata.row_group(number), "embedding", dtype)
            yield found, column.flatten()


@settings(max_examples=60)
@given(
    n=st.integers(1, 200),
    dim=st.sampled_from([1, 2, 7, 64]),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    row_group_size=st.sampled_from([1, 33, 1024]),
    data_page_size=st.sampled_from([100, 3000, 1 << 20]),
    batch=st.sampled_from([1, 50, 1024]),
    nullable=st.booleans(),
    statistics=st.booleans(),
)
def test_plain_columns_are_read(
    tmp_path_factory, n, dim, dtype, row_group_size, data_page_size, batch, nullable, statistics
):
    values = np.random.default_rng(n).normal(size=(n, dim)).astype(dtype)
    path = tmp_path_factory.getbasetemp() / "plain.parquet"
    layout = PLAIN | {"write_statistics": statistics, "write_page_checksum": nullable}
    pq.write_table(
        table_of(values, nullable),
        path,
        row_group_size=row_group_size,
        data_page_size=data_page_size,
        write_batch_size=batch,
        **layout,
    )
    parts = []
    for found, arrow in both_ways(path, dtype):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, arrow.to_numpy())
        parts.append(found)
    np.testing.assert_array_equal(np.concatenate(parts), values.ravel())


@pytest.mark.parametrize(
    "layout",
    [
        {"compression": "zstd"},
        {"use_dictionary": True},
        {"data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": "BYTE_STREAM_SPLIT"},
    ],
    ids=lambda layout: next(reversed(layout)),
)
def test_other_layouts_are_left_to_arrow(tmp_path, layout):
    values = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    pq.write_table(table_of(values), tmp_path / "x.parquet", **(PLAIN | layout))
    assert [found for found, _ in both_ways(tmp_path / "x.parquet", "float32")] == [None]


def test_a_missing_value_is_left_to_arrow(tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    pq.write_table(table_of(values, nullable=True, missing=[5]), tmp_path / "x.parquet", **PLAIN)
    ((found, arrow),) = both_ways(tmp_path / "x.parquet", "float32")
    assert found is None
    assert arrow.null_count == 1


def test_a_damaged_page_is_left_to_arrow(tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    path = tmp_path / "x.parquet"
    pq.write_table(table_of(values), path, **PLAIN)
    content = bytearray(path.read_bytes())
    group = pq.read_metadata(path).row_group(0)
    start = group.column(0).data_page_offset
    for position in range(start, start + 20):  # the page's header and its levels
        spoilt = content.copy()
        spoilt[position] ^= 0x7F
        path.write_bytes(spoilt)
        with open(path, "rb") as stream:
            found = plain_values(stream, group, "embedding", "float32")
        assert found is None or len(found) == values.size
