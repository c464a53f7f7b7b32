"""Score how blurred a patch is, and how much of it is ink or black."""

import numpy as np

from tabular_trainers.kernels import compile_kernel

from .ink_colours import BLACK, INK, mark_ink

_HALF = 5  # the published measure blurs once more over 11 pixels
_REACH = _HALF + 1


def score_quality(images):
    """Score patches by their pixels alone.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, h, w, 3)
        RGB, each side at least 8 pixels.

    Returns
    -------
    blur : ndarray of float32, shape (n,)
        0 (sharp) to 1 (no detail at all, as on glass). It depends on what is seen, so it is to be
        compared between patches of one stain and resolution; there is no limit that fits all.
    artefact : ndarray of float32, shape (n,)
        Share of pixels that have the colour of blue or green ink, or are black.

    References
    ----------
    Crete F, Dolmiere T, Ladret P, Nicolas M. The blur effect: perception and estimation with a new
    no-reference perceptual blur metric. Proc. SPIE 6492, 2007. doi:10.1117/12.702790
    """
    images = np.ascontiguousarray(images)
    blur = np.empty(len(images), dtype=np.float32)
    artefact = np.empty(len(images), dtype=np.float32)
    for i, image in enumerate(images):
        blur[i] = _blur(image)
        marks = mark_ink(image)
        artefact[i] = np.mean((marks == INK) | (marks == BLACK))
    return blur, artefact


@compile_kernel(
    "float64(Array(uint8, 3, 'C', readonly=True))", fastmath={"reassoc", "contract", "nsz"}
)
def _blur(image):
    """Compute the share of an image's edges that are left when it is blurred once more.

    Sobel's filter after a mean over 2 k + 1 pixels is a difference of four pixels: neighbours
    cancel, so that nothing is blurred here. Image sides are mirrored, as published code does.
    """
    height, width = image.shape[0], image.shape[1]
    grey = np.empty((height, width), dtype=np.float32)  # luminance, ITU-R BT.709
    for j in range(height):
        for i in range(width):
            grey[j, i] = (
                np.float32(0.2125) * np.float32(image[j, i, 0])
                + np.float32(0.7154) * np.float32(image[j, i, 1])
                + np.float32(0.0721) * np.float32(image[j, i, 2])
            )
    scale = np.float32(1.0 / (2 * _HALF + 1))
    zero, two = np.float32(0.0), np.float32(2.0)  # a bare 2 would widen all to 64 bits
    most = 0.0
    across = np.empty((height, width), dtype=np.float32)
    line = np.empty(width + 2 * _REACH, dtype=np.float32)
    # Edges along a row: smoothed over three rows, then differences within the row.
    total, lost = 0.0, 0.0
    for j in range(2, height - 1):
        for i in range(width):
            line[i + _REACH] = grey[j - 1, i] + two * grey[j, i] + grey[j + 1, i]
        for i in range(_REACH):
            line[i] = line[2 * _REACH - 1 - i]
            line[width + _REACH + i] = line[width + _REACH - 1 - i]
        row_total, row_lost = zero, zero
        for i in range(2 + _REACH, width - 1 + _REACH):
            sharp = abs(line[i + 1] - line[i - 1])
            soft = scale * abs(
                line[i + _REACH] + line[i + _HALF] - line[i - _HALF] - line[i - _REACH]
            )
            row_total += sharp
            row_lost += max(zero, sharp - soft)
        total += row_total
        lost += row_lost
    if total > 0:
        most = (total - lost) / total
    # Edges along a column: smoothed over three columns, then differences between rows.
    for j in range(height):
        for i in range(1, width - 1):
            across[j, i] = grey[j, i - 1] + two * grey[j, i] + grey[j, i + 1]
    column_total, column_lost = 0.0, 0.0
    for j in range(2, height - 1):
        far_up, up = max(j - _REACH, _REACH - 1 - j), max(j - _HALF, _HALF - 1 - j)
        down = min(j + _HALF, 2 * height - 1 - j - _HALF)
        far_down = min(j + _REACH, 2 * height - 1 - j - _REACH)
        row_total, row_lost = zero, zero
        for i in range(2, width - 1):
            sharp = abs(across[j + 1, i] - across[j - 1, i])
            soft = scale * abs(
                across[far_down, i] + across[down, i] - across[up, i] - across[far_up, i]
            )
            row_total += sharp
            row_lost += max(zero, sharp - soft)
        column_total += row_total
        column_lost += row_lost
    if column_total > 0:
        most = max(most, (column_total - column_lost) / column_total)
    return most if total > 0 or column_total > 0 else 1.0
