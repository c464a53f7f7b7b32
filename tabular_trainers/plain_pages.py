"""Read the numbers of an uncompressed Parquet column where they lie, without decoding its lists.

Parquet notes for every number whether it begins a list. Arrow reads these levels one by one to
rebuild lists of which we know that all are of one length: four fifths of its time. Our stores keep
vectors plain and uncompressed, so the numbers stand at the end of each page. Whatever else a file
holds (compression, dictionaries, missing values, newer pages) is left to Arrow.

The layout is that of https://parquet.apache.org/docs/file-format/ (data pages of version 1); page
headers are Thrift's compact protocol.
"""

import numpy as np

_DATA_PAGE, _PLAIN = 0, 0


def plain_values(stream, group, column, dtype):
    """Read the numbers of one column of one row group.

    Parameters
    ----------
    stream : binary file
    group : pyarrow.parquet.RowGroupMetaData
    column : str
        Top-level name of a column of lists.
    dtype : str
        ``"float16"``, ``"float32"`` or ``"float64"``: what a number is stored as.

    Returns
    -------
    ndarray or None
        All numbers of all lists, shape (n,); None where the column is not plain.
    """
    chunks = [group.column(i) for i in range(group.num_columns)]
    own = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] == column]
    if len(own) != 1 or own[0].compression != "UNCOMPRESSED" or own[0].has_dictionary_page:
        return None
    stream.seek(own[0].data_page_offset)
    content = memoryview(stream.read(own[0].total_compressed_size))
    kind = np.dtype(dtype).newbyteorder("<")
    parts, position = [], 0
    while position < len(content):
        try:
            header, position = _struct(content, position)
            size = header[3]
            part = _page(content[position : position + size], header, kind)
        except (ValueError, KeyError, IndexError):
            return None
        if part is None:
            return None
        parts.append(part)
        position += size
    if position != len(content) or sum(map(len, parts)) != own[0].num_values:
        return None
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _page(content, header, kind):
    """Give the numbers of a page, or None where it holds anything besides levels and numbers."""
    facts = header.get(5, {})
    if header.get(1) != _DATA_PAGE or facts.get(2) != _PLAIN or header.get(2) != header.get(3):
        return None
    start = 0
    for _ in ("repetition levels", "definition levels"):
        start += 4 + int.from_bytes(content[start : start + 4], "little")
    if start + facts[1] * kind.itemsize != len(content):
        return None  # a missing value has levels and no number
    return np.frombuffer(content, kind, offset=start)


def _struct(content, position):
    """Read a struct of Thrift's compact protocol: {field: whole number or struct}, its end."""
    fields, field = {}, 0
    while content[position]:
        delta, kind = divmod(content[position], 16)
        position += 1
        if delta:
            field += delta
        else:
            number, position = _varint(content, position)
            field = _signed(number)
        fields[field], position = _value(content, position, kind)
    return fields, position + 1


def _value(content, position, kind):
    if kind in (1, 2):  # booleans
        return kind == 1, position
    if kind in (4, 5, 6):  # whole numbers
        number, position = _varint(content, position)
        return _signed(number), position
    if kind == 8:  # bytes, as in statistics
        size, position = _varint(content, position)
        return content[position : position + size], position + size
    if kind == 12:
        return _struct(content, position)
    raise ValueError(f"Thrift type {kind} in a page header")


def _varint(content, position):
    number, shift = 0, 0
    while True:
        byte = content[position]
        position += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, position


def _signed(number):
    return (number >> 1) ^ -(number & 1)
