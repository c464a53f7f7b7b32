"""The encoder ``stain``: about 100 named features of a patch, without weights.

Colours are unmixed into hematoxylin and eosin with fixed vectors (Ruifrok & Johnston 2001), so that
the features of a patch depend on nothing but its pixels. Sizes are in micrometres and assume the
encoder's 0.5 micrometres a pixel.

References
----------
Ruifrok & Johnston, Anal Quant Cytol Histol 23 (2001) 291-299: colour deconvolution.
Haralick et al., IEEE Trans Syst Man Cybern 3 (1973) 610-621: co-occurrence of levels.
Ojala et al., IEEE Trans Pattern Anal Mach Intell 24 (2002) 971-987: local binary patterns.
Otsu, IEEE Trans Syst Man Cybern 9 (1979) 62-66: threshold.
"""

import math

import numpy as np

from tabular_trainers.embed.encoders import stain_kernels as kernels
from tabular_trainers.embed.encoders import stain_nuclei as objects
from tabular_trainers.errors import SchemaError

PATCH_PX, MPP = 256, 0.5
SMALLEST_PX = 16

# Red, green and blue optical density of pure hematoxylin and eosin.
HEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])
# 10-fold attenuation is a density of 1; a value of 0 is read as 1, the darkest that can be told.
DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255.0).astype(np.float32)

DISTANCES_PX = (1, 4)  # grain, and half a nucleus
PAIR_FEATURES = ("contrast", "correlation", "energy", "homogeneity", "entropy")
DARK = 0.2
EDGE = 0.04  # luminance a pixel: a nucleus' rim or a fibre, above the noise of JPEG

NUCLEAR_LEAST, NUCLEAR_MOST = 0.2, 0.6  # bounds of the threshold, optical density of hematoxylin
SPECK_UM2, PEAK_REACH_UM = 6.0, 2.0
# Radius of the largest circle inside. A lymphocyte's nucleus measures about 7 micrometres across.
SMALL_UM, LARGE_UM = (2.0, 4.0), 4.75
ROUND, ELONGATED = 0.65, 0.5  # minor axis over major axis
NEAR_UM, DENSE_UM = 16.0, 32.0  # sides of the squares in which nuclei are counted
WHITE_LARGE_UM2, WHITE_LEAST_UM2 = 400.0, 20.0

STATISTICS = ("mean", "sd", "q05", "q25", "q50", "q75", "q95")
QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
LOWEST = np.array([low for low, _ in kernels.CHANNELS.values()])
WIDEST = np.array([high - low for low, high in kernels.CHANNELS.values()])

FEATURE_NAMES = (
    *(f"{channel}_{what}" for channel in kernels.CHANNELS for what in STATISTICS),
    *(f"{colour}_{what}" for colour in ("red", "green", "blue") for what in ("mean", "sd")),
    "hematoxylin_share",  # of all stain
    "hematoxylin_eosin_correlation",
    "eosin_fraction",  # pixels in which eosin is the stronger stain
    "dark_fraction",  # luminance below DARK: folds, dirt, ink
    *(f"hematoxylin_{what}_{d * MPP:g}um" for d in DISTANCES_PX for what in PAIR_FEATURES),
    *(f"pattern_{k}" for k in range(kernels.N_PATTERNS - 1)),  # bright neighbours, in one run
    "pattern_mixed",
    "gradient_mean",
    "gradient_sd",
    "edge_density",
    "edge_coherence",
    "nuclear_threshold",
    "nuclear_fraction",
    "nuclear_blobs_per_mm2",
    "nuclear_largest_blob_um2",
    "nuclear_contrast",  # hematoxylin inside minus outside
    "cytoplasm_eosin",  # mean eosin outside nuclei and white
    "nuclei_per_mm2",
    "nuclei_area_um2_mean",
    "nuclei_area_um2_sd",
    "nuclei_radius_um_mean",
    "nuclei_radius_um_sd",
    "nuclei_roundness_mean",  # minor over major axis, of nuclei that touch no other
    "nuclei_roundness_sd",
    "nuclei_hematoxylin_mean",
    "nuclei_hematoxylin_sd",
    "nuclei_touching_share",
    "nuclei_small_round_per_mm2",  # as lymphocytes have
    "nuclei_small_round_share",
    "nuclei_large_per_mm2",
    "nuclei_elongated_per_mm2",  # as fibroblasts have
    "nuclei_nearest_um_mean",
    "nuclei_nearest_um_sd",
    "nuclei_clumping",  # variance over mean of the counts in squares of 16 micrometres
    "nuclei_densest_per_mm2",  # in the fullest square of 32 micrometres
    "white_fraction",
    "white_large_fraction",  # glass, fat cells, lumens
    "white_areas_per_mm2",
)


def _unmixing():
    """Invert the stains' vectors; the third is what neither explains, at a right angle to both."""
    vectors = np.stack([HEMATOXYLIN, EOSIN, np.cross(HEMATOXYLIN, EOSIN)])
    vectors[2] /= np.linalg.norm(vectors[2])
    return np.linalg.inv(vectors)


def _uniform_patterns():
    """Give the pattern of each set of eight neighbours: how many, if they form one run; else 9."""
    sets = (np.arange(256)[:, None] >> np.arange(8)) & 1
    changes = (sets != np.roll(sets, 1, axis=1)).sum(axis=1)
    return np.where(changes <= 2, sets.sum(axis=1), kernels.N_PATTERNS - 1).astype(np.uint8)


class StainEncoder:
    """Measure colour, texture and nuclei of H&E patches.

    ``encode`` runs on one thread; a patch's features are the same bytes in any batch.
    """

    id = "stain-1"
    dim = len(FEATURE_NAMES)
    patch_px = PATCH_PX
    mpp = MPP
    pretrained_on = ()
    dtype = "float32"
    feature_names = FEATURE_NAMES
    in_reader = True

    def __init__(self):
        self._unmixing = _unmixing().astype(np.float32)
        self._patterns = _uniform_patterns()

    def encode(self, images):
        """Measure patches.

        Parameters
        ----------
        images : (n, h, w, 3) uint8
            RGB at 0.5 micrometres a pixel, at least 16 pixels high and wide.

        Returns
        -------
        (n, dim) float32
            Finite, in the order of ``feature_names``. Where there is no nucleus, what nuclei have
            is 0, and the nearest one is as far away as the patch is wide.

        Raises
        ------
        SchemaError
            For another shape or type.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise SchemaError(
                f"encoder stain: images are {images.dtype} {images.shape}; expected uint8 "
                "(n, height, width, 3)."
            )
        if min(images.shape[1:3]) < SMALLEST_PX:
            raise SchemaError(
                f"encoder stain: patches of {images.shape[2]} x {images.shape[1]} pixels; "
                f"expected at least {SMALLEST_PX} x {SMALLEST_PX}."
            )
        out = np.empty((len(images), self.dim), dtype=np.float32)
        work = _Workspace(*images.shape[1:3])
        for row, image in zip(out, images, strict=True):
            row[:] = np.concatenate(self._measure(np.ascontiguousarray(image), work))
        return out

    def _measure(self, patch, work):
        return (
            self._measure_colour(patch, work),
            *_measure_texture(work, self._patterns),
            _measure_nuclei(work),
            _measure_white(work),
        )

    def _measure_colour(self, patch, work):
        n = work.white.size
        sums = np.empty(18)
        kernels.measure_colour(
            patch.reshape(-1),
            DENSITY,
            self._unmixing,
            work.stains.reshape(2, -1),
            work.levels.reshape(-1),
            work.luminance.reshape(-1),
            work.white.reshape(-1),
            work.counts,
            sums,
        )
        mean = sums[:16:2] / n
        sd = np.sqrt(np.maximum(sums[1:16:2] / n - mean**2, 0.0))
        channels = np.empty((len(kernels.CHANNELS), len(STATISTICS)))
        channels[:, 0], channels[:, 1] = mean[:5], sd[:5]
        quantiles = np.empty((len(kernels.CHANNELS), len(QUANTILES)))
        kernels.read_quantiles(work.counts, LOWEST, WIDEST, QUANTILES, quantiles)
        channels[:, 2:] = quantiles
        stain = mean[0] + mean[1]
        spread = sd[0] * sd[1]
        return [
            *channels.ravel(),
            *np.stack([mean[5:], sd[5:]], axis=1).ravel(),
            mean[0] / stain if stain > 1e-9 else 0.0,
            (sums[16] / n - mean[0] * mean[1]) / spread if spread > 1e-9 else 0.0,
            sums[17] / n,
            work.counts[-1, : round(DARK * kernels.N_BINS)].sum() / n,
        ]


class _Workspace:
    """Arrays that the patches of a batch use one after the other: fresh ones cost a fifth more."""

    def __init__(self, height, width):
        self.stains = np.empty((2, height, width), dtype=np.float32)
        self.levels = np.empty((height, width), dtype=np.uint8)
        self.luminance = np.empty((height, width), dtype=np.uint8)
        self.white = np.empty((height, width), dtype=bool)
        self.counts = np.empty((len(kernels.CHANNELS), kernels.N_BINS), dtype=np.int64)
        self.smooth = np.empty((height, width), dtype=np.float32)
        self.mask = np.empty((height, width), dtype=bool)
        self.depth = np.empty((height, width), dtype=np.int32)
        self.labels = np.empty((height, width), dtype=np.int32)
        # With 8 neighbours two areas are at least a pixel apart: a quarter of the pixels at most.
        self.blobs = np.empty((-(-height // 2) * -(-width // 2), 6))
        self.nuclei = np.empty((height * width // 9, 7))

    def label(self, mask):
        """Find the areas of a mask: write their numbers to ``labels``, give their ``blobs``."""
        return self.blobs[: objects.label_blobs(mask, self.labels, self.blobs)]


def load(
    name, *, weights=None, device="cpu", precision=None, revision=None, trust_remote_code=False
):
    """Give the encoder; it has no weights and runs on the CPU, whatever the device.

    Raises
    ------
    SchemaError
        If weights or a revision are given.
    """
    given = {"weights": weights, "revision": revision}
    given = [option for option, value in given.items() if value is not None]
    if given:
        raise SchemaError(f"encoder stain has no weights: leave out {' and '.join(given)}.")
    return StainEncoder()


def _measure_texture(work, patterns):
    matrix = np.empty((kernels.N_LEVELS, kernels.N_LEVELS))
    pairs = np.empty((len(DISTANCES_PX), len(PAIR_FEATURES)))
    for distance, out in zip(DISTANCES_PX, pairs, strict=True):
        kernels.count_pairs(work.levels, distance, matrix)
        kernels.describe_pairs(matrix, out)
    shares = np.empty(kernels.N_PATTERNS)
    kernels.count_patterns(work.luminance, patterns, shares)
    edges = np.empty(4)
    kernels.measure_edges(work.luminance, EDGE, edges)
    return pairs.ravel(), shares, edges


def _measure_nuclei(work):
    height, width = work.white.shape
    mm2 = height * width * MPP**2 / 1e6
    objects.smooth(work.stains[0], work.smooth)
    threshold = objects.find_threshold(work.smooth, NUCLEAR_LEAST, NUCLEAR_MOST)
    np.greater(work.smooth, threshold, out=work.mask)
    blobs = work.label(work.mask)
    objects.measure_depth(work.mask, work.depth)
    smallest, reach = SPECK_UM2 / MPP**2, round(PEAK_REACH_UM / MPP)
    n = objects.find_nuclei(
        work.labels, work.depth, blobs, work.smooth, smallest, reach, work.nuclei
    )
    compared = np.empty(3)
    objects.compare_stains(work.mask, work.white, work.smooth, work.stains[1], compared)
    areas = blobs[:, 0] * MPP**2
    return [
        threshold,
        compared[0],
        (areas >= SPECK_UM2).sum() / mm2,
        areas.max(initial=0.0),
        *compared[1:],
        *_describe_nuclei(work.nuclei[:n], height, width, mm2),
    ]


def _describe_nuclei(nuclei, height, width, mm2):
    n = len(nuclei)
    side_um = max(height, width) * MPP
    if n == 0:
        return [0.0] * 14 + [side_um, 0.0, 0.0, 0.0]
    nearest = np.empty(n)
    objects.measure_spacing(nuclei, nearest)
    nearest = np.minimum(nearest * MPP, side_um)
    radius, axes, alone = nuclei[:, 2] * MPP, nuclei[:, 5], nuclei[:, 6] == 1.0
    small = (radius >= SMALL_UM[0]) & (radius <= SMALL_UM[1]) & (~alone | (axes >= ROUND))
    n_small = np.count_nonzero(small)
    touching = 1.0 - np.count_nonzero(alone) / n
    near = _count_in_squares(nuclei, height, width, NEAR_UM)
    dense = _count_in_squares(nuclei, height, width, DENSE_UM)
    return [
        n / mm2,
        *_mean_and_sd(nuclei[:, 4] * MPP**2),
        *_mean_and_sd(radius),
        *(_mean_and_sd(axes[alone]) if touching < 1.0 else (0.0, 0.0)),
        *_mean_and_sd(nuclei[:, 3]),
        touching,
        n_small / mm2,
        n_small / n,
        np.count_nonzero(radius > LARGE_UM) / mm2,
        np.count_nonzero(alone & (axes < ELONGATED)) / mm2,
        *_mean_and_sd(nearest),
        _mean_and_sd(near)[1] ** 2 / (n / len(near)),
        dense.max() / (DENSE_UM**2 / 1e6),
    ]


def _mean_and_sd(values):
    """Give mean and standard deviation; NumPy's own take several times as long on short arrays."""
    mean = values.sum() / len(values)
    apart = values - mean
    return mean, math.sqrt((apart * apart).sum() / len(values))


def _count_in_squares(nuclei, height, width, side_um):
    side = round(side_um / MPP)
    columns, rows = -(-width // side), -(-height // side)
    squares = nuclei[:, 1].astype(np.intp) // side * columns + nuclei[:, 0].astype(np.intp) // side
    return np.bincount(squares, minlength=columns * rows)


def _measure_white(work):
    areas = work.label(work.white)[:, 0] * MPP**2
    whole = work.white.size * MPP**2
    return [
        areas.sum() / whole,
        areas[areas >= WHITE_LARGE_UM2].sum() / whole,
        (areas >= WHITE_LEAST_UM2).sum() / (whole / 1e6),
    ]
