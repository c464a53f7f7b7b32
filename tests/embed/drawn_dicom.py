"""Write a small slide in DICOM, element by element: no library that the tests have does."""

import io
import struct

import numpy as np
from PIL import Image

_LONG = {"OB", "SQ", "UN"}


def _element(group, number, kind, value):
    """Encode one element in explicit little endian."""
    if isinstance(value, str):
        value = value.encode()
        value += (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
    elif isinstance(value, int):
        value = struct.pack("<H" if kind == "US" else "<I", value)
    head = struct.pack("<HH", group, number) + kind.encode()
    if kind in _LONG:
        return head + b"\0\0" + struct.pack("<I", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def _item(*elements):
    inside = b"".join(elements)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(inside)) + inside


def write_dicom(path, image, mpp, series, instance, tile=64):
    """Write one level, at full resolution, as JPEG frames of TILED_FULL organisation."""
    height, width = image.shape[:2]
    frames = []
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            square = np.full((tile, tile, 3), 255, dtype=np.uint8)
            part = image[y : y + tile, x : x + tile]
            square[: part.shape[0], : part.shape[1]] = part
            jpeg = io.BytesIO()
            Image.fromarray(square).save(jpeg, "JPEG", quality=95, subsampling=0)
            frames.append(jpeg.getvalue() + b"\0" * (len(jpeg.getvalue()) % 2))
    storage = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL whole slide microscopy image
    spacing = f"{mpp / 1000}\\{mpp / 1000}"
    measures = _item(
        _element(0x0018, 0x0050, "DS", "0.001"), _element(0x0028, 0x0030, "DS", spacing)
    )
    shared = _item(_element(0x0028, 0x9110, "SQ", measures))
    optics = _item(_element(0x0048, 0x0106, "SH", "1"))
    meta = b"".join(
        [
            _element(0x0002, 0x0002, "UI", storage),
            _element(0x0002, 0x0003, "UI", instance),
            _element(0x0002, 0x0010, "UI", "1.2.840.10008.1.2.4.50"),  # JPEG baseline
        ]
    )
    body = [
        _element(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
        _element(0x0008, 0x0016, "UI", storage),
        _element(0x0008, 0x0018, "UI", instance),
        _element(0x0008, 0x0060, "CS", "SM"),
        _element(0x0020, 0x000D, "UI", "1.2.3"),
        _element(0x0020, 0x000E, "UI", series),
        _element(0x0020, 0x0013, "IS", "1"),
        _element(0x0020, 0x0052, "UI", "1.2.4"),
        _element(0x0020, 0x9311, "CS", "TILED_FULL"),
        _element(0x0028, 0x0002, "US", 3),
        _element(0x0028, 0x0004, "CS", "YBR_FULL_422"),
        _element(0x0028, 0x0006, "US", 0),
        _element(0x0028, 0x0008, "IS", str(len(frames))),
        _element(0x0028, 0x0010, "US", tile),
        _element(0x0028, 0x0011, "US", tile),
        _element(0x0028, 0x0100, "US", 8),
        _element(0x0028, 0x0101, "US", 8),
        _element(0x0028, 0x0102, "US", 7),
        _element(0x0028, 0x0103, "US", 0),
        _element(0x0048, 0x0006, "UL", width),
        _element(0x0048, 0x0007, "UL", height),
        _element(0x0048, 0x0105, "SQ", optics),
        _element(0x0048, 0x0302, "UL", 1),
        _element(0x0048, 0x0303, "UL", 1),
        _element(0x5200, 0x9229, "SQ", shared),
        struct.pack("<HH", 0x7FE0, 0x0010) + b"OB\0\0\xff\xff\xff\xff",
        _item(),  # an empty table of offsets
        *(_item(frame) for frame in frames),
        struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
    ]
    length = _element(0x0002, 0x0000, "UL", len(meta))
    path.write_bytes(b"\0" * 128 + b"DICM" + length + meta + b"".join(body))
    return path
