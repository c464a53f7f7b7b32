"""Colours and textures of clusters, the same in every picture of a report.

The first six colours are of Okabe and Ito; their purple is left out, as it is close to the green
without red or green cones. The other six were chosen from a grid of sRGB colours so that the least
distance (OKLab) between any two, and from the grey of what has no colour of its own, is large for
normal vision, protanopia, deuteranopia and tritanopia (matrices of Machado, Oliveira and Fernandes,
2009). More than twelve would be told apart by nobody: clusters beyond them have the same colours
with stripes, then with dots.
"""

from dataclasses import dataclass

import numpy as np

COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0)),
    *((90, 20, 20), (34, 20, 188), (202, 244, 202), (132, 62, 76), (62, 20, 104), (216, 20, 244)),
)
GREY = (190, 190, 190)
TEXTURES = ("plain", "stripes", "dots")


@dataclass(frozen=True)
class Look:
    """How one cluster is called and drawn.

    Parameters
    ----------
    cluster : str
        Its id, ``c07``.
    label : str
        Its name, or its id where it has none; clusters of one label look the same.
    colour : tuple of int
        RGB.
    texture : {"plain", "stripes", "dots"}
    """

    cluster: str
    label: str
    colour: tuple
    texture: str = "plain"

    @property
    def is_other(self):
        """Whether the cluster has no colour of its own."""
        return self.colour == GREY


def cluster_looks(clusters, names=None, order=None):
    """Give each cluster its look.

    Parameters
    ----------
    clusters : sequence of str
        Ids in the order of the clustering, so that patch label ``i`` is ``clusters[i]``.
    names : mapping of str to str, optional
        Names by id. Clusters of one name share a look.
    order : sequence of str, optional
        Ids from the most to the least important; colours without a texture go first to the first
        of them. Default: those with a name, then the order of ``clusters``.

    Returns
    -------
    tuple of Look
        One a cluster, in the order of ``clusters``.
    """
    names = {str(k): str(v).strip() for k, v in (names or {}).items() if str(v).strip()}
    order = list(order or sorted(clusters, key=lambda cluster: cluster not in names))
    labels = {cluster: names.get(cluster, cluster) for cluster in clusters}
    looks = {}
    for cluster in [*order, *clusters]:
        label = labels[cluster]
        if label not in looks:
            texture, colour = divmod(len(looks), len(COLOURS))
            has_own = texture < len(TEXTURES)
            looks[label] = (COLOURS[colour], TEXTURES[texture]) if has_own else (GREY, "plain")
    return tuple(Look(cluster, labels[cluster], *looks[labels[cluster]]) for cluster in clusters)


def texture_pixels(shape, texture):
    """Mark the pixels of an area that carry a texture's mark.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    texture : {"plain", "stripes", "dots"}

    Returns
    -------
    ndarray of bool, of that shape
    """
    rows, columns = np.indices(shape, sparse=True)
    if texture == "stripes":
        return (rows + columns) % 8 < 3
    if texture == "dots":
        shifted = columns + 4 * (rows // 8 % 2)
        return (rows % 8 - 3.5) ** 2 + (shifted % 8 - 3.5) ** 2 < 5.5
    return np.zeros(shape, dtype=bool)


def mark_colour(colour):
    """Give the colour of a texture's marks: white on what is dark, dark on what is light."""
    light = np.dot(colour, (0.2126, 0.7152, 0.0722)) > 120
    share = 0.55 if light else 0.75
    towards = np.full(3, 0 if light else 255)
    return tuple(np.rint((1 - share) * np.asarray(colour) + share * towards).astype(int).tolist())


def swatch_pixels(look, width_px, height_px):
    """Draw a small area with the look of a cluster, for a legend.

    Parameters
    ----------
    look : Look or None
        None for clusters without a look of their own.
    width_px, height_px : int

    Returns
    -------
    ndarray of uint8, shape (height_px, width_px, 3)
    """
    colour = GREY if look is None else look.colour
    pixels = np.empty((height_px, width_px, 3), dtype=np.uint8)
    pixels[:] = colour
    if look is not None:
        pixels[texture_pixels(pixels.shape[:2], look.texture)] = mark_colour(colour)
    return pixels
