"""Write a tiled, pyramidal TIFF with JPEG tiles, as openslide reads it.

tifffile does this only with a further library (imagecodecs); Pillow writes no tiles. What is needed
of TIFF 6.0 (and its technical note 2 on JPEG) fits on a page: each level is a directory of tags
that point to its tiles, each tile a whole JPEG.
"""

import io
import struct

import numpy as np

from .requirements import need
from .whole_files import written_whole

TILE_PX = 256
SHORT, LONG, RATIONAL = 3, 4, 5  # types of TIFF values


def write_pyramid(path, image, mpp, downsamples=(1, 4), quality=85):
    """Write an image and smaller copies of it; the file is whole or absent.

    Parameters
    ----------
    path : path
    image : (h, w, 3) uint8
        RGB; height and width are multiples of each downsample.
    mpp : float
        Micrometres a pixel of ``image``; kept as the resolution, in pixels a centimetre.
    downsamples : sequence of int, optional
        Of the levels, the first one 1. Default: 1 and 4.
    quality : int, default 85
        Of the JPEG.
    """
    with written_whole(path) as partial, open(partial, "wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, 0))
        link = 4  # where the position of the next directory is written
        for downsample in downsamples:
            level = _shrink(image, downsample)
            offsets, lengths = _write_tiles(file, level, quality)
            tags = _tags(level, offsets, lengths, 1e4 / (mpp * downsample), downsample > 1)
            link = _write_directory(file, tags, link)


def _shrink(image, factor):
    """Average squares of pixels."""
    return np.asarray(need("PIL.Image").fromarray(image).reduce(factor))


def _write_tiles(file, level, quality):
    offsets, lengths, known = [], [], {}
    height, width, _ = level.shape
    for y in range(0, height, TILE_PX):
        for x in range(0, width, TILE_PX):
            tile = level[y : y + TILE_PX, x : x + TILE_PX]
            if tile.shape[:2] != (TILE_PX, TILE_PX):
                missing = [(0, TILE_PX - side) for side in tile.shape[:2]]
                tile = np.pad(tile, [*missing, (0, 0)], mode="edge")
            even = (tile == tile[0, 0]).all()  # mostly glass: written once for all
            colour = tile[0, 0].tobytes()
            if even and colour in known:
                offset, length = known[colour]
            else:
                encoded = _jpeg(tile, quality)
                offset, length = file.tell(), len(encoded)
                file.write(encoded)
                if even:
                    known[colour] = (offset, length)
            offsets.append(offset)
            lengths.append(length)
    return offsets, lengths


def _jpeg(tile, quality):
    stream = io.BytesIO()
    image = need("PIL.Image").fromarray(tile)
    image.save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    return stream.getvalue()


def _tags(level, offsets, lengths, pixels_a_cm, reduced):
    """List (tag, type, values) in the order of the tags, as TIFF wants them."""
    height, width, _ = level.shape
    resolution = (round(pixels_a_cm * 1000), 1000)
    return [
        (254, LONG, [int(reduced)]),  # NewSubfileType: a smaller copy
        (256, LONG, [width]),
        (257, LONG, [height]),
        (258, SHORT, [8, 8, 8]),  # BitsPerSample
        (259, SHORT, [7]),  # Compression: JPEG
        (262, SHORT, [6]),  # PhotometricInterpretation: YCbCr
        (277, SHORT, [3]),  # SamplesPerPixel
        (282, RATIONAL, resolution),
        (283, RATIONAL, resolution),
        (284, SHORT, [1]),  # PlanarConfiguration: interleaved
        (296, SHORT, [3]),  # ResolutionUnit: centimetre
        (322, LONG, [TILE_PX]),
        (323, LONG, [TILE_PX]),
        (324, LONG, offsets),
        (325, LONG, lengths),
        (530, SHORT, [2, 2]),  # YCbCrSubSampling
    ]


def _write_directory(file, tags, link):
    """Write a directory and what does not fit into it; give where its successor is named."""
    entries = []
    for tag, kind, values in tags:
        count = len(values) // 2 if kind == RATIONAL else len(values)
        packed = struct.pack(f"<{len(values)}{'H' if kind == SHORT else 'I'}", *values)
        if len(packed) > 4:
            file.write(b"\0" * (file.tell() % 2))
            packed, body = struct.pack("<I", file.tell()), packed
            file.write(body)
        entries.append(struct.pack("<HHI", tag, kind, count) + packed.ljust(4, b"\0"))
    file.write(b"\0" * (file.tell() % 2))
    start = file.tell()
    file.write(struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0))
    end = file.tell()
    file.seek(link)
    file.write(struct.pack("<I", start))
    file.seek(end)
    return end - 4
