"""Blur against the published measure in scikit-image; ink against what was painted."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import blur_effect

from tabular_trainers.embed.ink_colours import BLACK, INK, PERHAPS, mark_ink
from tabular_trainers.embed.patch_quality import score_quality
from tabular_trainers.embed.slide_reading import open_slide
from tests.embed.drawn_slides import draw_glass, noise, stain


def tissue(n=4, size=96):
    where = np.ones((size, size), dtype=bool)
    return np.stack([stain(draw_glass(size, size, seed=i), where, seed=i) for i in range(n)])


@pytest.fixture
def real_patches(real_data):
    with open_slide(real_data("wsi") / "CMU-1-Small-Region.svs") as slide:
        place = np.arange(3) * 128.0
        return slide.read_many(np.tile(place + 400, 3), np.repeat(place + 600, 3), 256, 0.5)


@pytest.mark.parametrize("shape", [(96, 96), (8, 8), (31, 64), (64, 13)])
def test_blur_is_that_of_scikit_image(shape):
    images = np.stack([noise(*shape, seed=seed) for seed in range(5)])
    expected = [blur_effect(image, channel_axis=-1) for image in images]
    np.testing.assert_allclose(score_quality(images)[0], expected, atol=2e-6)


def test_blur_of_real_patches_is_that_of_scikit_image(real_patches):
    expected = [blur_effect(image, channel_axis=-1) for image in real_patches]
    np.testing.assert_allclose(score_quality(real_patches)[0], expected, atol=2e-6)


def test_what_is_blurred_scores_higher(real_patches):
    scores = [
        score_quality(
            np.stack([ndimage.gaussian_filter(image, (s, s, 0)) for image in real_patches])
        )[0]
        for s in (0, 1, 2, 4)
    ]
    assert (np.diff(scores, axis=0) > 0.05).all()
    assert scores[0].max() < 0.5 < scores[2].min()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_what_has_no_detail_is_blurred(value):
    blur, _ = score_quality(np.full((2, 32, 32, 3), value, dtype=np.uint8))
    assert blur.tolist() == [1.0, 1.0]


def test_blur_does_not_depend_on_orientation_or_on_the_other_patches():
    images = tissue()
    alone = [score_quality(image[None])[0][0] for image in images]
    together = score_quality(images)[0]
    assert together.tolist() == alone
    turned = score_quality(np.ascontiguousarray(images.transpose(0, 2, 1, 3)))[0]
    np.testing.assert_allclose(turned, together, atol=1e-6)


@pytest.mark.parametrize("ink", [(40, 70, 170), (30, 120, 70), (35, 35, 40), (0, 0, 0)])
def test_artefact_is_the_share_of_ink(ink):
    images = tissue()
    clean = score_quality(images)[1]
    assert clean.max() < 0.01
    images[:, :24] = ink
    images[2, 24:48] = ink
    expected = np.array([24, 24, 48, 24]) / 96
    np.testing.assert_allclose(score_quality(images)[1], expected, atol=0.01)


def test_clean_patches_of_a_real_slide_score_low(real_patches):
    assert score_quality(real_patches)[1].max() < 0.06


def test_scores_are_shares():
    images = np.random.default_rng(0).integers(0, 256, size=(20, 16, 16, 3), dtype=np.uint8)
    for scores in score_quality(images):
        assert scores.dtype == np.float32
        assert scores.shape == (20,)
        assert (scores >= 0).all()
        assert (scores <= 1).all()
    assert [len(scores) for scores in score_quality(images[:0])] == [0, 0]


def test_marks_are_the_rules_as_written():
    image = np.random.default_rng(1).integers(0, 256, size=(300, 300, 3), dtype=np.uint8)
    red, green, blue = np.moveaxis(image.astype(int), -1, 0)
    brightest = image.max(axis=2).astype(int)
    colour = brightest - image.min(axis=2)
    ink = green - red >= 20
    black = (brightest <= 90) & (colour <= 30)
    perhaps = ((red <= 140) & (green - red >= -3)) | ((brightest <= 120) & (colour <= 40))
    expected = np.select([ink, black, perhaps], [INK, BLACK, PERHAPS], 0)
    np.testing.assert_array_equal(mark_ink(image), expected)
    assert set(np.unique(expected)) == {0, INK, BLACK, PERHAPS}


def test_a_view_that_is_not_contiguous_is_read_right():
    image = noise(40, 60)
    np.testing.assert_array_equal(mark_ink(image[::2, ::3]), mark_ink(image[::2, ::3].copy()))
    frozen = noise(40, 60)[None]
    frozen.flags.writeable = False
    assert score_quality(frozen)[0].shape == (1,)
