"""Read any table from any place, and write the program's own tables with their provenance."""

import csv
import hashlib
import io
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tabular_trainers.errors import SchemaError, count, listing, nearest, rows, the_folder
from tabular_trainers.schema import load_schema, schema_names, validate

READABLE = (
    ".csv",
    ".tsv",
    ".csv.gz",
    ".tsv.gz",
    ".csv.zip",
    ".tsv.zip",
    ".parquet",
    ".feather",
    ".npz",
)
# "None" and "null" stay text: in clinical tables they are also levels ("None" = no metastasis).
MISSING = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan")
# What a table's metadata may say of its columns: who made them, and how patches became a row.
ENCODER = ("encoder_id", "pretrained_on")
POOLING = ("how", "level", "by")
DESCRIPTIVE = "descriptive"  # "true" where all patients of the table had a say in its columns
ROWS_AT_ONCE = 1 << 20  # of a Parquet file, written at a time: a row group
STRIP_CELLS = 1 << 20  # of a Parquet file, read at a time


def resolve(uri, folder):
    """Place a relative path in a folder (path or URI); absolute paths and URIs stay as they are."""
    uri, folder = str(uri), str(folder)
    if "://" in uri or Path(uri).is_absolute():
        return uri
    return f"{folder.rstrip('/')}/{uri}" if "://" in folder else str(Path(folder) / uri)


def hash_file(uri):
    """Compute the sha256 of a file's bytes, as hexadecimal text."""
    digest = hashlib.sha256()
    with _open(uri) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_table(uri, text=()):
    """Read a table: csv or tsv (also .gz, .zip), parquet, feather, or npz of {id: vector}.

    Parameters
    ----------
    uri : str or path
        A path or any fsspec URI.
    text : collection of str
        Columns to read as text exactly as written (``001`` stays ``001``, ``NA`` stays ``NA``; only
        an empty cell is missing). Names that the table does not have are ignored.

    Returns
    -------
    pandas.DataFrame
        Rows in file order. An npz gives the column ``id`` and one column a dimension (``e000``).
        ``attrs`` has ``encoder_id``, ``pretrained_on``, and how patches were pooled (``how``,
        ``level``, ``by``) where a Parquet's metadata name them.

    Raises
    ------
    SchemaError
        When the file is missing, is not what its name says, is empty, or repeats a column.
    """
    uri = str(uri)
    name = table_name(uri)
    lower = name.lower()
    if not lower.endswith(READABLE):
        raise SchemaError(
            f"{name}: cannot read this kind of file; expected {listing(READABLE, 20)}."
        )
    with _open(uri) as stream:
        if lower.endswith(".npz"):
            frame = _read_npz(stream, name)
        elif lower.endswith(".parquet"):
            # Arrow reads a local file itself, at less cost than through Python's file object.
            with stream if "://" in uri else pa.OSFile(uri) as source:
                frame = _read_parquet(source, name)
        elif lower.endswith(".feather"):
            frame = _read_feather(stream, name)
        else:
            frame = _read_csv(stream, name, set(text))
    if frame.shape[0] == 0:
        raise SchemaError(f"{name}: the table is empty; expected a header and at least one row.")
    for column in set(text).intersection(frame.columns):
        frame[column] = _as_text(frame[column], name, column)
    return frame


def table_name(uri):
    """Give the file name of a path or URI, as messages show it."""
    return str(uri).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def write_tables(tables, folder, metadata=None):
    """Validate tables and write each as ``<name>.parquet`` into a folder.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        By the name of their contract.
    folder : path
        Made if need be.
    metadata : dict of str to str, optional
        Provenance to store in every file, e.g. ``{"config_hash": ..., "seed": "0"}``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        write_table(frame, name, folder / f"{name}.parquet", metadata)


def write_table(frame, name, path, metadata=None):
    """Validate one table and write it as Parquet; the same table gives the same bytes."""
    from tabular_trainers import __version__

    frame = validate(frame, name)
    facts = {
        "schema": name,
        "schema_version": load_schema(name)["version"],
        "package_version": __version__,
        **{str(key): str(value) for key, value in (metadata or {}).items()},
    }
    types = {
        "string": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
    }
    fields = [pa.field(f["name"], types[f["type"]]) for f in load_schema(name)["fields"]]
    schema = pa.schema(fields, metadata=dict(sorted(facts.items())))
    try:
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(0, max(len(frame), 1), ROWS_AT_ONCE):
                part = frame.iloc[start : start + ROWS_AT_ONCE]
                # never a second whole table: curves of a national cohort have ten million rows
                table = pa.Table.from_pandas(part, schema=schema, preserve_index=False)
                writer.write_table(table, ROWS_AT_ONCE)
    except BaseException:
        Path(path).unlink(missing_ok=True)  # half a table is none
        raise


def read_written(path, name=None):
    """Read a table that the program wrote and hold it against its contract.

    Parameters
    ----------
    path : path
        A Parquet file.
    name : str, optional
        The contract; default: the one that the file names.

    Returns
    -------
    pandas.DataFrame
        With the file's metadata in ``.attrs["metadata"]``.
    """
    path = Path(path)
    with _open(str(path)) as stream:
        try:
            table = pq.read_table(stream)
        except pa.ArrowInvalid as error:
            raise SchemaError(f"{path.name}: not a Parquet file.") from error
    facts = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    name = name or facts.get("schema") or path.stem
    frame = validate(table.to_pandas(ignore_metadata=True), name, path.name)
    frame.attrs["metadata"] = {k: v for k, v in facts.items() if k != "ARROW:schema"}
    return frame


def read_tables(folder, names=None):
    """Read the program's tables from a folder: all that are there, or those named.

    Returns
    -------
    dict of str to pandas.DataFrame
    """
    folder = Path(folder)
    if names is None:
        names = [name for name in schema_names() if (folder / f"{name}.parquet").is_file()]
    return {name: read_written(folder / f"{name}.parquet", name) for name in names}


def _open(uri):
    if "://" in uri:
        import fsspec

        try:
            return fsspec.open(uri, "rb").open()
        except FileNotFoundError as error:
            raise SchemaError(f"{table_name(uri)}: no such file at {uri}.") from error
    path = Path(uri)
    if path.is_file():
        return path.open("rb")
    if path.is_dir():
        raise SchemaError(f"{path.name}: a folder, not a table ({path}).")
    if not path.parent.is_dir():
        raise SchemaError(f"{path.name}: no such file, because there is no folder {path.parent}.")
    hint = nearest(path.name, sorted(entry.name for entry in path.parent.iterdir()))
    raise SchemaError(f"{path.name}: no such file in {the_folder(path.parent)}.{hint}")


def _read_npz(stream, name):
    try:
        with np.load(stream, allow_pickle=False) as archive:
            vectors = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError) as error:
        raise SchemaError(f"{name}: not an npz file of vectors ({error}).") from error
    if not vectors:
        raise SchemaError(f"{name}: the table is empty; expected one vector an id.")
    shapes = {vector.shape for vector in vectors.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise SchemaError(
            f"{name}: the arrays have shapes {listing(sorted(shapes))}; "
            "expected one vector of the same length for every id."
        )
    values = np.stack([vector.astype("float64") for vector in vectors.values()])
    width = max(3, len(str(values.shape[1] - 1)))
    frame = pd.DataFrame(values, columns=[f"e{i:0{width}d}" for i in range(values.shape[1])])
    frame.insert(0, "id", list(vectors))
    return frame


def _read_parquet(stream, name):
    """Read the columns strip by strip, so that no more than a strip's raw bytes are held at once.

    Read whole, a file's bytes stay in memory until its last column is decoded.
    """
    try:
        file = pq.ParquetFile(stream, pre_buffer=False)
        names = file.schema_arrow.names
        _check_header(names, name)
        width = max(1, STRIP_CELLS // max(1, file.metadata.num_rows))
        columns = []
        for first in range(0, len(names), width):
            strip = names[first : first + width]
            found = file.read(columns=strip)
            columns += [found.column(column) for column in strip]
        table = pa.Table.from_arrays(columns, schema=file.schema_arrow)
    except (pa.ArrowInvalid, OSError) as error:
        raise SchemaError(f"{name}: not a Parquet file.") from error
    frame = _as_frame(table)
    facts = table.schema.metadata or {}
    frame.attrs |= {
        key: facts[key.encode()].decode(errors="replace")
        for key in (*ENCODER, *POOLING, DESCRIPTIVE)
        if key.encode() in facts
    }
    return frame


def _read_feather(stream, name):
    import pyarrow.feather

    try:
        table = pyarrow.feather.read_table(stream)
    except (pa.ArrowInvalid, OSError) as error:
        raise SchemaError(f"{name}: not a Feather file.") from error
    _check_header(table.column_names, name)
    return _as_frame(table)


def _as_frame(table):
    """Give an Arrow table as a frame without a stored index; reset_index would copy all of it."""
    frame = table.to_pandas()
    frame.index = pd.RangeIndex(len(frame))
    return frame


def _read_csv(stream, name, text):
    content = _uncompressed(stream.read(), name)
    if b"\x00" in content[:65536]:
        raise SchemaError(f"{name}: not a CSV file (it holds binary data); save the table as CSV.")
    try:
        content = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SchemaError(
            f"{name}: not UTF-8 text (line {line}); save the table as CSV in UTF-8."
        ) from error
    separator = "\t" if ".tsv" in name.lower() else ","
    if not content.strip():
        raise SchemaError(f"{name}: the table is empty; expected a header and at least one row.")
    header = next(csv.reader(io.StringIO(content), delimiter=separator))
    if len(header) == 1 and any(other in header[0] for other in ";\t,|"):
        other = next(o for o in ";\t,|" if o in header[0])
        raise SchemaError(
            f"{name}: not a table with {'tabs' if separator == chr(9) else 'commas'} between its "
            f"columns; the header has one column, and {other!r} in it. Save it as CSV with commas, "
            "and with a point in decimal numbers."
        )
    _check_header([column for column in header if column], name)
    missing = {column: [""] if column in text else list(MISSING) for column in header}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(content),
                sep=separator,
                dtype=dict.fromkeys(text.intersection(header), str),
                na_values=missing,
                keep_default_na=False,
                index_col=False,
                low_memory=False,
                float_precision="round_trip",
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise SchemaError(
            f"{name}: not a CSV file; {_parser_words(error, content, separator)}"
        ) from error


def _uncompressed(content, name):
    """Unpack gz and zip by the first bytes, and refuse a workbook that is called a CSV."""
    import gzip
    import zipfile
    import zlib

    lower = name.lower()
    try:
        if lower.endswith(".gz"):
            return gzip.decompress(content)
        if lower.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members = [m for m in archive.namelist() if not m.endswith("/")]
                if len(members) != 1:
                    raise SchemaError(
                        f"{name}: {count(len(members), 'file')} inside; expected one."
                    )
                return archive.read(members[0])
    except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error) as error:
        kind = "gzip" if lower.endswith(".gz") else "zip"
        raise SchemaError(f"{name}: not a {kind} file.") from error
    if content.startswith(b"PK\x03\x04"):
        raise SchemaError(
            f"{name}: not a CSV file but a workbook or zip; open it and save the table as CSV."
        )
    return content


def _parser_words(error, content, separator):
    """Name the rows whose number of columns is not the header's, without showing any value."""
    lines = csv.reader(io.StringIO(content), delimiter=separator)
    try:
        width = len(next(lines))
        long = [i for i, line in enumerate(lines) if len(line) > width]
    except csv.Error:
        long = []
    if not long:
        return f"it cannot be parsed ({str(error).splitlines()[0]})."
    return (
        f"{count(len(long), 'row')} ({rows(long)}) "
        f"{'has' if len(long) == 1 else 'have'} more columns than the header's {width}."
    )


def _check_header(columns, name):
    repeated = sorted(column for column, times in Counter(columns).items() if times > 1)
    if repeated:
        raise SchemaError(
            f"{name}: column {listing(map(repr, repeated))} is there more than once; "
            "rename or remove the copies."
        )


def _as_text(series, name, column):
    """Read a column as text: whole numbers without a point, missing as None."""
    if pd.api.types.is_float_dtype(series.dtype):
        known = series.dropna()
        if not (known == known.round()).all():
            raise SchemaError(f"{name}, column {column}: holds fractions; expected ids or labels.")
        series = series.astype("Int64")
    values = series.astype(object)
    known = values.notna()
    return values.where(~known, values[known].astype(str)).where(known, None)
