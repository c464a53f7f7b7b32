"""The stain encoder against scikit-image and SciPy, and on patches that can be counted by hand."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tabular_trainers import SchemaError
from tabular_trainers.embed import load_encoder
from tabular_trainers.embed.encoders import stain, stain_kernels, stain_nuclei

PINK, BLUE, WHITE = (235, 170, 205), (80, 60, 140), (244, 243, 245)
MM2 = (256 * 0.5e-3) ** 2  # of a patch


def named(patch):
    """Encode one patch; give {name: value}."""
    encoder = load_encoder("stain")
    return dict(zip(encoder.feature_names, encoder.encode(patch[None])[0].tolist(), strict=True))


def painted(ellipses=(), colour=BLUE, ground=PINK, side=256):
    """Paint ellipses (x, y, radius across, radius down), in pixels, on an even ground."""
    patch = np.empty((side, side, 3), dtype=np.uint8)
    patch[:] = ground
    y, x = np.mgrid[:side, :side]
    for cx, cy, across, down in ellipses:
        patch[((x - cx) / across) ** 2 + ((y - cy) / down) ** 2 <= 1] = colour
    return patch


@pytest.fixture(scope="module")
def tissue():
    """Make patches with the structure of tissue: blurred noise in the colours of H&E."""
    from scipy import ndimage

    random = np.random.default_rng(5)
    patches = []
    for smoothing in (0.7, 2.0, 4.0):
        amount = ndimage.gaussian_filter(random.normal(size=(2, 256, 256)), (0, *2 * [smoothing]))
        amount = np.abs(amount / amount.std()) * 0.35
        density = np.einsum("khw,kc->hwc", amount, np.stack([stain.HEMATOXYLIN, stain.EOSIN]))
        noise = random.normal(scale=2, size=density.shape)
        patches.append(np.clip(255 * 10**-density + noise, 0, 255).round().astype(np.uint8))
    return np.stack(patches)


def colour(patch, unmixing):
    """Unmix a patch; give the workspace and the features of colour."""
    encoder, work = load_encoder("stain"), stain._Workspace(*patch.shape[:2])
    encoder._unmixing = unmixing.astype(np.float32)
    return work, encoder._measure_colour(patch, work)


def test_stains_are_those_of_scikit_image(tissue):
    from skimage.color import hed_from_rgb, rgb2hed, separate_stains

    for patch in tissue:
        patch = np.maximum(patch, 1)  # scikit-image reads a 0 as 1e-6, we as 1/255
        # scikit-image divides by log(1e-6): its unit is a density of 6.
        ours = colour(patch, hed_from_rgb)[0].stains
        np.testing.assert_allclose(ours, 6 * rgb2hed(patch)[..., :2].transpose(2, 0, 1), atol=1e-6)
        work, features = colour(patch, stain._unmixing())
        theirs = 6 * separate_stains(patch, stain._unmixing())
        np.testing.assert_allclose(work.stains, theirs[..., :2].transpose(2, 0, 1), atol=1e-6)
        assert features[0] == pytest.approx(theirs[..., 0].mean(), 1e-6)


def test_a_pure_stain_is_told_from_the_other():
    for k, vector in enumerate((stain.HEMATOXYLIN, stain.EOSIN)):
        patch = np.empty((32, 32, 3), dtype=np.uint8)
        patch[:] = np.round(255 * 10 ** -(0.5 * vector))
        found = named(patch)
        amounts = [found["hematoxylin_mean"], found["eosin_mean"]]
        assert amounts == pytest.approx([0.5 * (k == 0), 0.5 * (k == 1)], abs=0.01)
        assert found["residual_mean"] == pytest.approx(0, abs=0.005)


def test_statistics_are_those_of_numpy_and_scikit_image(tissue):
    from skimage.color import rgb2gray, rgb2hsv

    bin_width = {"hematoxylin": 0.0025, "saturation": 1 / 1024, "luminance": 1 / 1024}
    for patch in tissue:
        found = named(patch)
        channels = {
            "hematoxylin": colour(patch, stain._unmixing())[0].stains[0],
            "saturation": rgb2hsv(patch)[..., 1],
            "luminance": rgb2gray(patch),
            "green": patch[..., 1] / 255,
        }
        for name, values in channels.items():
            assert found[f"{name}_mean"] == pytest.approx(values.mean(dtype=float), abs=1e-6)
            assert found[f"{name}_sd"] == pytest.approx(values.std(dtype=float), abs=1e-6)
            for level in (5, 25, 50, 75, 95) if name in bin_width else ():
                wanted = np.quantile(values, level / 100)
                assert found[f"{name}_q{level:02d}"] == pytest.approx(wanted, abs=bin_width[name])


@pytest.mark.parametrize("distance", stain.DISTANCES_PX)
def test_pairs_are_those_of_scikit_image(tissue, distance):
    from skimage.feature import graycomatrix, graycoprops

    for patch in tissue:
        work = colour(patch, stain._unmixing())[0]
        levels = np.minimum(work.stains[0] * np.float32(20), 31).astype(np.uint8)
        np.testing.assert_array_equal(work.levels, levels)
        angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
        counts = graycomatrix(levels, [distance], angles, levels=32, symmetric=True)
        theirs = counts.sum(axis=3, keepdims=True) / counts.sum()
        ours = np.empty((32, 32))
        stain_kernels.count_pairs(levels, distance, ours)
        np.testing.assert_allclose(ours, theirs[..., 0, 0], rtol=1e-12)
        found = named(patch)
        for what in stain.PAIR_FEATURES:
            wanted = graycoprops(theirs, what)[0, 0]
            assert found[f"hematoxylin_{what}_{distance * 0.5:g}um"] == pytest.approx(wanted, 1e-6)


def test_patterns_are_those_of_scikit_image(tissue):
    from skimage.feature import local_binary_pattern

    for patch in tissue:
        luminance = colour(patch, stain._unmixing())[0].luminance
        theirs = local_binary_pattern(luminance, 8, 1, "uniform")[1:-1, 1:-1]
        flat = np.zeros(theirs.shape, dtype=bool)  # where rounding decides for scikit-image
        for y in (0, 2):
            for x in (0, 2):
                square = [luminance[v : v + 254, u : u + 254] for v in {y, 1} for u in {x, 1}]
                flat |= np.ptp(square, axis=0) == 0
        wanted = np.bincount(theirs[~flat].astype(int), minlength=10) / flat.size
        found = named(patch)
        names = [*(f"pattern_{k}" for k in range(9)), "pattern_mixed"]
        ours = np.array([found[name] for name in names])
        assert ours.sum() == pytest.approx(1)
        assert np.abs(ours - wanted).sum() <= flat.mean() + 3e-4  # our weights are 1024ths


def test_an_even_patch_has_one_pattern_and_no_edge():
    found = named(painted())
    assert found["pattern_8"] == 1
    assert found["gradient_mean"] == found["edge_coherence"] == 0
    assert found["hematoxylin_entropy_2um"] == found["hematoxylin_contrast_2um"] == 0
    assert found["hematoxylin_correlation_2um"] == 1


def test_edges_are_those_of_scipy(tissue):
    from scipy import ndimage

    for patch in tissue:
        grey = colour(patch, stain._unmixing())[0].luminance / 255
        across, down = (ndimage.sobel(grey, axis)[1:-1, 1:-1] / 8 for axis in (1, 0))
        length = np.hypot(across, down)
        tensor = np.array(
            [[(across**2).sum(), (across * down).sum()], [(across * down).sum(), (down**2).sum()]]
        )
        small, large = np.linalg.eigvalsh(tensor)
        wanted = [
            length.mean(),
            length.std(),
            (length > stain.EDGE).mean(),
            (large - small) / (large + small),
        ]
        found = named(patch)
        ours = [
            found[k] for k in ("gradient_mean", "gradient_sd", "edge_density", "edge_coherence")
        ]
        assert ours == pytest.approx(wanted, abs=1e-6)


def test_stripes_are_coherent():
    patch = painted()
    patch[::8] = BLUE
    assert named(patch)["edge_coherence"] == pytest.approx(1)


def test_the_threshold_is_otsu_s(tissue):
    from skimage.filters import threshold_otsu

    for patch in tissue:
        image = np.empty((256, 256), dtype=np.float32)
        stain_nuclei.smooth(colour(patch, stain._unmixing())[0].stains[0], image)
        levels = np.minimum(image * np.float32(100), 255).astype(np.uint8)
        wanted = (threshold_otsu(levels) + 1) / 100
        assert stain_nuclei.find_threshold(image, 0, 3) == pytest.approx(wanted)
        assert stain_nuclei.find_threshold(image, 0, 0.05) == 0.05
        assert stain_nuclei.find_threshold(image, 2.5, 3) == 2.5


def test_smoothing_is_that_of_scipy(tissue):
    from scipy import ndimage

    image = colour(tissue[0], stain._unmixing())[0].stains[0]
    weights = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]) / 81
    ours = np.empty_like(image)
    stain_nuclei.smooth(image, ours)
    wanted = ndimage.convolve(image.astype(float), weights, mode="nearest")
    np.testing.assert_allclose(ours, wanted, atol=1e-6)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.7, 1.0])
def test_blobs_are_those_of_scikit_image(share):
    from skimage import measure

    random = np.random.default_rng(3)
    for shape in ((61, 40), (17, 128)):
        mask = random.random(shape) < share
        wanted = measure.label(mask, connectivity=2)
        work = stain._Workspace(*shape)
        blobs = work.label(mask)
        assert len(blobs) == wanted.max()
        np.testing.assert_array_equal(work.labels, wanted)
        for region, blob in zip(measure.regionprops(wanted), blobs, strict=True):
            area, x, y, xx, yy, xy = blob
            assert area == region.area
            assert (y / area, x / area) == pytest.approx(region.centroid)
            central = region.moments_central
            ours = [yy - y * y / area, xx - x * x / area, xy - x * y / area]
            wants = [central[2, 0], central[0, 2], central[1, 1]]
            assert ours == pytest.approx(wants, abs=1e-6)


def test_depth_is_near_the_distance_to_the_border(tissue):
    from scipy import ndimage

    random = np.random.default_rng(4)
    mask = ndimage.gaussian_filter(random.normal(size=(90, 120)), 3) > 0
    depth = np.empty(mask.shape, dtype=np.int32)
    stain_nuclei.measure_depth(mask, depth)
    wanted = ndimage.distance_transform_edt(mask)
    assert (depth[~mask] == 0).all()
    # Chamfer 3-4 is at most 8 percent off (Borgefors 1986).
    assert np.abs(depth[mask] / 3 / wanted[mask] - 1).max() < 0.081


def test_discs_are_counted_and_measured():
    centres = [(40 + 60 * i, 50 + 70 * j) for i in range(4) for j in range(3)]
    found = named(painted([(x, y, 7, 7) for x, y in centres]))
    # 12 discs of 3.5 micrometres radius: pi 3.5^2 = 38.5 square micrometres each.
    assert found["nuclei_per_mm2"] == pytest.approx(12 / MM2, 1e-5)
    assert found["nuclear_blobs_per_mm2"] == pytest.approx(12 / MM2, 1e-5)
    assert found["nuclei_area_um2_mean"] == pytest.approx(38.5, rel=0.1)
    assert found["nuclei_radius_um_mean"] == pytest.approx(3.5, abs=0.45)
    assert found["nuclei_roundness_mean"] == pytest.approx(1, abs=0.02)
    assert found["nuclei_small_round_share"] == 1
    assert found["nuclei_touching_share"] == found["nuclei_large_per_mm2"] == 0
    assert found["nuclei_nearest_um_mean"] == pytest.approx(30, abs=0.01)
    assert found["nuclear_fraction"] == pytest.approx(12 * np.pi * 49 / 256**2, rel=0.1)


def test_inside_is_compared_with_outside(tissue):
    for patch in [*tissue, painted([(90, 90, 20, 30)]), painted([(90, 90, 60, 60)], WHITE)]:
        work = colour(patch, stain._unmixing())[0]
        stain._measure_nuclei(work)
        mask, rest = work.mask, ~work.mask & ~work.white
        wanted = [mask.mean(), 0, work.stains[1][rest].mean()]
        if mask.any():
            wanted[1] = work.smooth[mask].mean() - work.smooth[~mask].mean()
        found = named(patch)
        names = ("nuclear_fraction", "nuclear_contrast", "cytoplasm_eosin")
        assert [found[name] for name in names] == pytest.approx(wanted, rel=1e-5)
    assert mask.sum() == 0


def test_forms_are_told_apart():
    long = named(painted([(60 + 60 * i, 128, 4, 14) for i in range(3)]))
    assert long["nuclei_elongated_per_mm2"] == pytest.approx(3 / MM2, 1e-5)
    assert long["nuclei_small_round_per_mm2"] == 0
    assert long["nuclei_roundness_mean"] == pytest.approx(4 / 14, abs=0.06)
    large = named(painted([(60 + 60 * i, 128, 12, 12) for i in range(3)]))
    assert large["nuclei_large_per_mm2"] == pytest.approx(3 / MM2, 1e-5)
    assert large["nuclei_small_round_per_mm2"] == large["nuclei_elongated_per_mm2"] == 0


def test_touching_nuclei_are_taken_apart():
    chain = [(60 + 13 * i, 128, 7, 7) for i in range(5)]
    found = named(painted(chain))
    assert found["nuclear_blobs_per_mm2"] == pytest.approx(1 / MM2, 1e-5)
    assert found["nuclei_per_mm2"] == pytest.approx(5 / MM2, 1e-5)
    assert found["nuclei_touching_share"] == 1
    assert found["nuclei_nearest_um_mean"] == pytest.approx(6.5, abs=0.5)


def test_clumping_is_high_where_nuclei_lie_together():
    together = named(
        painted([(20 + 16 * i, 20 + 16 * j, 5, 5) for i in range(4) for j in range(4)])
    )
    apart = named(painted([(30 + 64 * i, 30 + 64 * j, 5, 5) for i in range(4) for j in range(4)]))
    assert together["nuclei_per_mm2"] == apart["nuclei_per_mm2"]
    assert together["nuclei_clumping"] > 2 * apart["nuclei_clumping"]
    # 16 nuclei in the first square of 32 micrometres (but those beyond pixel 64), 1 in each.
    assert together["nuclei_densest_per_mm2"] == pytest.approx(9 / 32e-3**2, 1e-5)
    assert apart["nuclei_densest_per_mm2"] == pytest.approx(1 / 32e-3**2, 1e-5)


def test_white_areas_are_found():
    found = named(painted([(80, 128, 40, 40), (200, 60, 6, 6)], colour=WHITE))
    assert found["white_fraction"] == pytest.approx(np.pi * (1600 + 36) / 256**2, rel=0.02)
    assert found["white_large_fraction"] == pytest.approx(np.pi * 1600 / 256**2, rel=0.02)
    assert found["white_areas_per_mm2"] == pytest.approx(2 / MM2, 1e-5)
    assert found["nuclei_per_mm2"] == 0
    assert found["nuclei_nearest_um_mean"] == 128


@pytest.mark.parametrize("value", [0, 1, 2, 128, 254, 255])
@pytest.mark.parametrize("side", [16, 17, 256])
def test_features_of_an_even_patch_are_finite(value, side):
    encoder = load_encoder("stain")
    features = encoder.encode(np.full((1, side, side, 3), value, dtype=np.uint8))
    assert features.shape == (1, encoder.dim)
    assert np.isfinite(features).all()


def test_features_of_noise_are_finite():
    noise = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), dtype=np.uint8)
    assert np.isfinite(load_encoder("stain").encode(noise)).all()


def test_bytes_depend_on_nothing_but_the_patch(tissue):
    encoder = load_encoder("stain")
    patches = np.concatenate([tissue, tissue[:, ::-1], painted([(80, 80, 9, 9)])[None]])
    wanted = encoder.encode(patches).tobytes()
    ones = np.concatenate([load_encoder("stain").encode(patch[None]) for patch in patches])
    assert ones.tobytes() == wanted
    with ThreadPoolExecutor(4) as pool:
        threads = pool.map(lambda patch: encoder.encode(patch[None]), patches)
        assert np.concatenate(list(threads)).tobytes() == wanted
    apart = np.zeros((len(patches), 300, 300, 3), dtype=np.uint8)[:, 20:276, 30:286]
    apart[:] = patches
    assert encoder.encode(apart).tobytes() == wanted


def test_facts_of_the_encoder():
    encoder = load_encoder("stain", device="cuda")
    assert encoder.dim == len(encoder.feature_names) == len(set(encoder.feature_names))
    assert (encoder.id, encoder.patch_px, encoder.mpp) == ("stain-1", 256, 0.5)
    assert (encoder.pretrained_on, encoder.dtype, encoder.in_reader) == ((), "float32", True)
    empty = encoder.encode(np.empty((0, 256, 256, 3), dtype=np.uint8))
    assert (empty.shape, empty.dtype) == ((0, encoder.dim), np.float32)


def test_wrong_input_is_refused():
    with pytest.raises(SchemaError, match="has no weights: leave out weights and revision"):
        load_encoder("stain", weights="w.pth", revision="main")
    encoder = load_encoder("stain")
    with pytest.raises(SchemaError, match=r"images are float64 \(1, 64, 64, 3\); expected uint8"):
        encoder.encode(np.zeros((1, 64, 64, 3)))
    with pytest.raises(SchemaError, match="patches of 15 x 64 pixels; expected at least 16 x 16"):
        encoder.encode(np.zeros((1, 64, 15, 3), dtype=np.uint8))
