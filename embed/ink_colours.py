"""Tell ink and blackness from stained tissue by colour: one rule for slides and for patches.

Haematoxylin and eosin both take more green than red out of white light (optical densities of red,
green and blue: 0.65, 0.70, 0.29 and 0.07, 0.99, 0.11; Ruifrok and Johnston 2001, Analytical and
Quantitative Cytology and Histology 23:291-299). So what is clearly darker in red than in green is
no such stain but blue or green ink. What is dark in all three channels and has hardly a colour is
black: ink, or what a scanner writes where it did not scan. Red ink cannot be told from blood, nor
violet ink from dense nuclei; both are left alone.
"""

import numpy as np

from tabular_trainers.kernels import compile_kernel

GREEN_OVER_RED = 16  # of 255; JPEG noise of grey glass stays well below
MIN_COLOUR = 40  # largest minus smallest channel: a faint green cast of the glass is no ink
MAX_BLACK = 75  # the brightest channel of a black pixel; of dense nuclei it is blue, at about 120
MAX_BLACK_COLOUR = 30


@compile_kernel(
    "void(Array(uint8, 3, 'C', readonly=True), uint8[:,::1], int32, int32, int32, int32)"
)
def _mark(image, marks, green_over_red, min_colour, max_black, max_black_colour):
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            red = np.int32(image[row, column, 0])
            green = np.int32(image[row, column, 1])
            blue = np.int32(image[row, column, 2])
            brightest = max(red, green, blue)
            colour = brightest - min(red, green, blue)
            mark = np.uint8(0)
            if green - red >= green_over_red and colour >= min_colour:
                mark = np.uint8(1)
            elif brightest <= max_black and colour <= max_black_colour:
                mark = np.uint8(2)
            marks[row, column] = mark


def mark_ink(image):
    """Mark pixels of ink.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w, 3)
        RGB.

    Returns
    -------
    ndarray of uint8, shape (h, w)
        1 where blue or green ink, 2 where black, else 0.
    """
    image = np.ascontiguousarray(image)
    marks = np.empty(image.shape[:2], dtype=np.uint8)
    _mark(image, marks, GREEN_OVER_RED, MIN_COLOUR, MAX_BLACK, MAX_BLACK_COLOUR)
    return marks
