"""Tell ink and blackness from stained tissue by colour: one rule for slides and for patches.

Haematoxylin and eosin both take more green than red out of white light (optical densities of red,
green and blue: 0.65, 0.70, 0.29 and 0.07, 0.99, 0.11; Ruifrok and Johnston 2001, Analytical and
Quantitative Cytology and Histology 23:291-299). So what is clearly darker in red than in green is
no such stain but blue or green ink. What is dark in all three channels and has hardly a colour is
black: ink, or what a scanner writes where it did not scan. Ink over tissue keeps some of the
tissue's colour; it is told apart only where it goes on from surer ink. Red ink cannot be told from
blood, nor violet ink from dense nuclei; both are left alone.
"""

import numpy as np

from tabular_trainers.kernels import compile_kernel

INK, BLACK, PERHAPS = 1, 2, 3
# Of 255, and in float32: whole numbers would be widened to 64 bits, at eight times the time.
_GREEN_OVER_RED = np.float32(20)  # JPEG noise of glass stays well below
_BLACK, _BLACK_COLOUR = np.float32(90), np.float32(30)  # largest channel; minus the smallest
# Haematoxylin alone, as dark in red as ink is, has 6 less of green than of red.
_PERHAPS_RED, _PERHAPS_OVER = np.float32(140), np.float32(-3)
_PERHAPS_BLACK, _PERHAPS_BLACK_COLOUR = np.float32(120), np.float32(40)


def mark_ink(image):
    """Mark pixels that have the colour of ink.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w, 3)
        RGB.

    Returns
    -------
    ndarray of uint8, shape (h, w)
        INK (blue or green), BLACK, PERHAPS (ink if it touches such), or 0.
    """
    image = np.ascontiguousarray(image)
    marks = np.empty(image.shape[:2], dtype=np.uint8)
    _mark(image, marks)
    return marks


@compile_kernel("void(Array(uint8, 3, 'C', readonly=True), uint8[:,::1])")
def _mark(image, marks):
    height, width = marks.shape
    for row in range(height):
        line = image[row].reshape(width * 3)
        for column in range(width):
            red = np.float32(line[3 * column])
            green = np.float32(line[3 * column + 1])
            blue = np.float32(line[3 * column + 2])
            over = green - red
            brightest = max(red, max(green, blue))
            colour = brightest - min(red, min(green, blue))
            if over >= _GREEN_OVER_RED:
                mark = np.uint8(INK)
            elif (brightest <= _BLACK) & (colour <= _BLACK_COLOUR):
                mark = np.uint8(BLACK)
            elif ((red <= _PERHAPS_RED) & (over >= _PERHAPS_OVER)) | (
                (brightest <= _PERHAPS_BLACK) & (colour <= _PERHAPS_BLACK_COLOUR)
            ):
                mark = np.uint8(PERHAPS)
            else:
                mark = np.uint8(0)
            marks[row, column] = mark
