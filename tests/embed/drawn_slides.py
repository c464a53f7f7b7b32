"""Slides that are drawn, so that what is where is known; and reading by plain matrix products."""

import numpy as np
import tifffile
from scipy import ndimage

GLASS = (243, 242, 244)


def shrink(image, width, height):
    """Average an image over the area of each new pixel: a matrix for the rows, one for columns."""
    return np.rint(average(image, 0, 0, width, height, image.shape[1] / width)).astype(np.uint8)


def average(image, x, y, width, height, factor):
    """Average squares of ``factor`` pixels from (x, y) on, white outside; float."""

    def shares(start, n_new, n_old):
        edges = start + factor * np.arange(n_new + 1)
        low = np.maximum(edges[:-1, None], np.arange(n_old))
        high = np.minimum(edges[1:, None], np.arange(n_old) + 1)
        return np.maximum(high - low, 0) / factor

    down = shares(y, height, image.shape[0])
    across = shares(x, width, image.shape[1])
    dark = 255.0 - image.astype(float)  # outside adds no darkness
    return 255.0 - np.einsum("ab,bcd,ec->aed", down, dark, across, optimize=True)


def write_pyramid(path, image, mpp, sizes=(), tile=64, **options):
    """Write a tiled TIFF that openslide reads, with levels of the given (width, height)."""
    per_cm = 1e4 / mpp if np.isscalar(mpp) else tuple(1e4 / value for value in mpp)
    resolution = per_cm if isinstance(per_cm, tuple) else (per_cm, per_cm)
    common = {
        "tile": (tile, tile),
        "photometric": "rgb",
        "compression": "zlib",
        "resolutionunit": "CENTIMETER",
        "metadata": None,
        **options,
    }
    with tifffile.TiffWriter(path) as file:
        file.write(image, resolution=resolution, **common)
        for width, height in sizes:
            file.write(shrink(image, width, height), subfiletype=1, **common)
    return path


def noise(height, width, seed=0):
    """Draw noise that is smooth enough to tell where a read lies to a fraction of a pixel."""
    rough = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = ndimage.gaussian_filter(rough, (2, 2, 0))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return np.rint(255 * smooth).astype(np.uint8)


def draw_glass(height, width, colour=GLASS, seed=0):
    """Draw empty glass with the noise of a camera."""
    rng = np.random.default_rng(seed)
    glass = np.array(colour) + rng.normal(0, 1.5, size=(height, width, 1))
    glass = glass + rng.normal(0, 0.7, size=(height, width, 3))
    return np.clip(np.rint(glass), 0, 255).astype(np.uint8)


def stain(image, where, strength=1.0, seed=0):
    """Stain an area with haematoxylin and eosin in varying amounts; changes the image."""
    rng = np.random.default_rng(seed)
    shape = image.shape[:2]
    nuclei = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    eosin = 0.35 + 0.6 * ndimage.gaussian_filter(rng.normal(size=shape), 4)
    haematoxylin = 0.15 + 1.5 * np.maximum(nuclei, 0)
    density = np.multiply.outer(np.maximum(haematoxylin, 0), (0.65, 0.70, 0.29))
    density += np.multiply.outer(np.maximum(eosin, 0.05), (0.07, 0.99, 0.11))
    stained = image * np.exp(-strength * density)
    image[where] = np.rint(stained).astype(np.uint8)[where]
    return image


def disc(shape, y, x, radius):
    rows, columns = np.indices(shape, sparse=True)
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def overlap(one, other):
    """Compute the intersection over the union of two masks."""
    return (one & other).sum() / (one | other).sum()
