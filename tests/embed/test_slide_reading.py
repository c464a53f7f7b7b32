"""Reading is physical: what lies where is checked against plain matrix products and openslide."""

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from tabular_trainers import SchemaError
from tabular_trainers.embed import slide_reading
from tabular_trainers.embed.slide_reading import open_slide
from tests.embed.drawn_dicom import write_dicom
from tests.embed.drawn_slides import average, noise, shrink, write_pyramid

MPP = 0.25
WIDTH, HEIGHT = 600, 420
SIZES = ((300, 210), (80, 56))  # down by 2 and by 7.5, which is no power of 2


@pytest.fixture(scope="module")
def image():
    return noise(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def pyramid(image, tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "S1.tiff"
    return write_pyramid(path, image, MPP, SIZES)


@pytest.fixture
def slide(pyramid):
    with open_slide(pyramid) as opened:
        yield opened


def levels(image):
    return [image, *(shrink(image, *size) for size in SIZES)]


def test_openslide_reads_what_the_tests_write(pyramid):
    with openslide.OpenSlide(pyramid) as plain:
        assert plain.properties["openslide.vendor"] == "generic-tiff"
        assert plain.level_dimensions == ((WIDTH, HEIGHT), *SIZES)
        assert plain.level_downsamples == (1.0, 2.0, 7.5)


def test_facts_of_a_slide(slide):
    assert (slide.mpp, slide.width_px, slide.height_px) == (MPP, WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("asked", "real"),
    [(0.25, 0.25), (0.252, 0.25), (0.2526, 0.2526), (0.497, 0.5), (0.5, 0.5), (1.0, 1.0)],
)
def test_a_level_within_one_percent_is_taken_as_it_is(slide, asked, real):
    assert slide.pixel_mpp(asked) == real


@pytest.mark.parametrize(
    ("asked", "level"), [(0.25, 0), (0.2477, 0), (0.5, 1), (0.505, 1), (1.875, 2)]
)
def test_a_level_as_it_is_comes_pixel_by_pixel(slide, image, asked, level):
    stored = levels(image)[level]
    mpp = slide.pixel_mpp(asked)
    got = slide.read(20 * mpp, 12 * mpp, 40, 32, asked)
    np.testing.assert_array_equal(got, stored[12:44, 20:60])


def test_a_read_between_two_pixels_of_a_level_blends_none(slide, image):
    # 31 level-0 pixels are 15.5 of level 1: openslide itself would give means of neighbours.
    got = slide.read(31 * MPP, 0.0, 30, 20, 0.5)
    stored = levels(image)[1]
    np.testing.assert_array_equal(got, stored[:20, 16:46])


@pytest.mark.parametrize(
    ("asked", "level"), [(0.3, 0), (0.4321, 0), (0.8, 1), (1.0, 1), (1.8, 1), (3.0, 2), (0.22, 0)]
)
@pytest.mark.parametrize(
    ("x_px", "y_px"), [(0, 0), (37, 53), (-45, 15), (480, 300), (120, -200), (900, 900)]
)
def test_other_resolutions_are_averages_over_areas(slide, image, asked, level, x_px, y_px):
    stored = levels(image)[level]
    step = WIDTH / stored.shape[1]
    expected = average(stored, x_px / step, y_px / step, 50, 40, asked / (MPP * step))
    got = slide.read(x_px * MPP, y_px * MPP, 50, 40, asked)
    # openslide is asked for whole pixels of level 0, so level 2, of 7.5 of them, is off by up to
    # half of one: 1/15 of its pixel, at the slide's edge from white.
    assert np.abs(got - expected).max() <= (6 if level == 2 else 0.51)


def test_a_planted_square_lies_where_it_was_planted(tmp_path):
    image = np.full((800, 1000, 3), 255, dtype=np.uint8)
    image[200:300, 400:600] = (200, 30, 90)  # at 0.25: x 100 to 150 um, y 50 to 75 um
    path = write_pyramid(tmp_path / "square.tiff", image, 0.25, [(500, 400), (125, 100)])
    with open_slide(path) as slide:
        for mpp in (0.25, 0.5, 1.0, 1.25, 2.0, 2.5):
            seen = slide.read(50.0, 25.0, round(150 / mpp), round(75 / mpp), mpp)
            ys, xs = np.nonzero(seen[..., 1] < 140)
            box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) * mpp
            np.testing.assert_allclose(box + [50, 25, 50, 25], [100, 50, 150, 75], atol=mpp / 2)


def test_many_reads_are_the_same_as_single_ones(slide):
    x, y = np.array([0.0, 31.7, -10.0, 140.0]), np.array([5.0, 60.2, 90.0, -3.0])
    for mpp in (0.25, 0.6, 2.0):
        many = slide.read_many(x, y, 24, mpp)
        assert many.shape == (4, 24, 24, 3)
        assert many.dtype == np.uint8
        for got, left, top in zip(many, x, y, strict=True):
            np.testing.assert_array_equal(got, slide.read(left, top, 24, 24, mpp))


@pytest.mark.parametrize("mpp", [0.25, 0.61, 1.0])
def test_large_reads_go_block_by_block(slide, mpp, monkeypatch):
    whole = slide.read(-5.0, -5.0, 170, 130, mpp)
    monkeypatch.setattr(slide_reading, "BLOCK_PX", 64)
    in_blocks = slide.read(-5.0, -5.0, 170, 130, mpp).astype(int)
    assert np.abs(in_blocks - whole).max() <= (0 if mpp == 0.25 else 1)


@pytest.mark.parametrize(("mpp", "level"), [(1.0, 1), (4.0, 2), (0.505, 1), (1.9, 2)])
def test_a_thumbnail_has_exactly_the_resolution_asked_for(slide, image, mpp, level):
    got = slide.thumbnail(mpp)
    width, height = int(np.ceil(150 / mpp)), int(np.ceil(105 / mpp))
    assert got.shape == (height, width, 3)
    stored = levels(image)[level]
    expected = average(stored, 0, 0, width, height, mpp / (150 / stored.shape[1]))
    assert np.abs(got - expected).max() <= 0.51


def test_outside_of_the_slide_is_white(slide):
    assert slide.read(-500.0, 0.0, 16, 16, 0.25).min() == 255
    assert slide.read(1000.0, 1000.0, 16, 16, 2.0).min() == 255


def test_a_slide_that_is_coarser_than_asked_is_refused(slide):
    with pytest.raises(SchemaError) as caught:
        slide.read_many([0.0], [0.0], 16, 0.1)
    assert str(caught.value) == (
        "S1.tiff: 0.1 um a pixel was asked for, but the slide was scanned at 0.25; enlarged, it "
        "would show no more. Ask for 0.25 or more, or leave this slide out."
    )
    with pytest.raises(SchemaError, match="mpp is -1; expected"):
        slide.read(0, 0, 8, 8, -1)


def test_the_real_slide_agrees_with_openslide(real_data):
    path = real_data("wsi") / "CMU-1-Small-Region.svs"
    with open_slide(path) as slide, openslide.OpenSlide(path) as plain:
        assert (slide.mpp, slide.width_px, slide.height_px) == (0.499, 2220, 2967)
        assert slide.pixel_mpp(0.5) == 0.499
        assert slide.pixel_mpp(1.0) == 1.0
        for x, y in ((0, 0), (768, 1024), (2100, 2900)):
            expected = Image.new("RGBA", (256, 256), "white")
            expected.alpha_composite(plain.read_region((x, y), 0, (256, 256)))
            got = slide.read(x * 0.499, y * 0.499, 256, 256, 0.5)
            np.testing.assert_array_equal(got, np.asarray(expected)[..., :3])
        region = np.asarray(plain.read_region((600, 900), 0, (600, 600)))[..., :3]
        expected = average(region, 0, 0, 256, 256, 1 / 0.499)
        got = slide.read(600 * 0.499, 900 * 0.499, 256, 256, 1.0)
        assert np.abs(got - expected).max() <= 0.51


def test_transparency_is_white(tmp_path):
    image = np.zeros((40, 40, 4), dtype=np.uint8)
    image[:, :20] = (200, 100, 0, 255)
    image[:20, 20:] = (200, 100, 0, 128)
    Image.fromarray(image).save(tmp_path / "S1.png")
    with open_slide(tmp_path / "S1.png", mpp=0.5) as slide:
        got = slide.read(0, 0, 60, 40, 0.5)
        half = slide.read(0, 0, 20, 20, 1.0)
    np.testing.assert_array_equal(got[:, :20], np.full((40, 20, 3), (200, 100, 0)))
    # 255 - (255 - colour) * 128 / 255, rounded
    np.testing.assert_array_equal(got[:20, 20:40], np.full((20, 20, 3), (227, 177, 127)))
    assert got[20:, 20:].min() == 255
    assert got[:, 40:].min() == 255
    np.testing.assert_array_equal(half[:10, 10:], np.full((10, 10, 3), (227, 177, 127)))


@pytest.mark.parametrize("name", ["S1.png", "S1.jpg", "S1.tif"])
def test_plain_images_are_read_with_a_given_resolution(tmp_path, image, name):
    path = tmp_path / name
    Image.fromarray(image).save(path, quality=100)
    with pytest.raises(SchemaError, match="--assume-mpp"):
        open_slide(path)
    with open_slide(path, assume_mpp=0.5) as slide:
        got = slide.read(10.0, 5.0, 64, 48, 0.5).astype(int)
        coarse = slide.read(10.0, 5.0, 32, 24, 1.0)
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(got, expected[10:58, 20:84])
    assert np.abs(coarse - average(expected, 20, 10, 32, 24, 2.0)).max() <= 0.51


@pytest.mark.parametrize(("unit", "um"), [("CENTIMETER", 1e4), ("INCH", 25400)])
def test_a_tiff_without_tiles_says_its_resolution_in_its_tags(tmp_path, image, unit, um):
    path = tmp_path / "S1.tiff"
    tifffile.imwrite(
        path, image, photometric="rgb", resolution=(um / 0.4,) * 2, resolutionunit=unit
    )
    assert openslide.OpenSlide.detect_format(path) is None
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.4, rel=1e-6)
        np.testing.assert_array_equal(slide.read(0, 0, 30, 30, 0.4), image[:30, :30])


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "LA"])
def test_colours_in_other_modes_become_rgb(tmp_path, image, mode):
    path = tmp_path / ("S1.tif" if mode == "CMYK" else "S1.png")
    other = Image.fromarray(image).convert(mode)
    other.save(path)
    with open_slide(path, mpp=0.5) as slide:
        got = slide.read(0, 0, 100, 100, 0.5)
    np.testing.assert_array_equal(got, np.asarray(other.convert("RGB"))[:100, :100])


def test_a_slide_without_resolution_names_the_option(tmp_path, image):
    path = tmp_path / "S1.tiff"
    tifffile.imwrite(
        path, image, photometric="rgb", tile=(64, 64), metadata=None, resolution=(1, 1)
    )
    with pytest.raises(SchemaError) as caught:
        open_slide(path)
    assert str(caught.value).startswith("S1.tiff: the file ")
    assert "--assume-mpp" in str(caught.value)
    with open_slide(path, assume_mpp=0.3) as slide:
        assert slide.mpp == 0.3


def test_a_printer_s_resolution_is_none(tmp_path, image):
    path = write_pyramid(tmp_path / "S1.tiff", image, 25400 / 72)  # 72 dots an inch
    with pytest.raises(SchemaError, match=r"says 352\.8 um a pixel, which no scanner has"):
        open_slide(path)
    with open_slide(path, assume_mpp=0.5) as slide:
        assert slide.mpp == 0.5


def test_a_given_resolution_goes_before_the_file_s_and_an_assumed_one_behind(pyramid):
    with open_slide(pyramid, assume_mpp=0.5) as slide:
        assert slide.mpp == MPP
    with open_slide(pyramid, mpp=0.5, assume_mpp=1.0) as slide:
        assert slide.mpp == 0.5
        assert slide.pixel_mpp(1.0) == 1.0
    with pytest.raises(SchemaError, match=r"S1.tiff: --assume-mpp is 40 um a pixel; expected 0.05"):
        open_slide(pyramid, assume_mpp=40)


def test_pixels_must_be_square(tmp_path, image):
    path = write_pyramid(tmp_path / "S1.tiff", image, (0.25, 0.26))
    with pytest.raises(SchemaError, match=r"S1.tiff: pixels of 0.25 by 0.26 um; expected square"):
        open_slide(path)
    nearly = write_pyramid(tmp_path / "S2.tiff", image, (0.25, 0.251))
    with open_slide(nearly) as slide:
        assert slide.mpp == pytest.approx(0.2505)


def test_a_missing_file_is_named_with_the_nearest(pyramid):
    with pytest.raises(SchemaError, match=r"S1.tif: no such file in .* Did you mean 'S1.tiff'\?"):
        open_slide(pyramid.with_name("S1.tif"))
    with pytest.raises(SchemaError, match="no such file, because there is no folder"):
        open_slide(pyramid.parent / "gone" / "S1.tiff")
    with pytest.raises(SchemaError, match=r": a folder, and no .dcm files in it; expected those"):
        open_slide(pyramid.parent)


def test_a_folder_of_dicom_files_is_one_slide(tmp_path):
    image = np.full((150, 200, 3), 240, dtype=np.uint8)
    image[50:100, 60:160] = (180, 60, 140)
    write_dicom(tmp_path / "b.dcm", image, 0.5, "1.2.5", "1.2.6")
    (tmp_path / "a.dcm").write_bytes(b"no image")
    with open_slide(tmp_path) as slide:
        assert (slide.mpp, slide.width_px, slide.height_px) == (0.5, 200, 150)
        got = slide.read(0, 0, 200, 150, 0.5).astype(int)
        coarse = slide.read(30.0, 25.0, 50, 25, 1.0).astype(int)
    assert np.abs(got - image).mean() < 2  # JPEG
    assert np.abs(coarse - (180, 60, 140)).max() < 15
    write_dicom(tmp_path / "c.dcm", image[::-1], 0.5, "1.2.7", "1.2.8")
    with pytest.raises(SchemaError, match=r"its .dcm files belong to 2 slides .series.; give each"):
        open_slide(tmp_path)
    with open_slide(tmp_path / "c.dcm") as slide:
        assert np.abs(slide.read(0, 0, 200, 150, 0.5) - image[::-1].astype(int)).mean() < 2
    for path in tmp_path.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(SchemaError, match=r"a folder, and openslide cannot open its files \("):
        open_slide(tmp_path)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_a_file_that_is_cut_off_is_an_error_in_words(tmp_path, image, kept):
    whole = tmp_path / "whole.png"
    Image.fromarray(image).save(whole)
    content = whole.read_bytes()
    cut = tmp_path / "S1.png"
    cut.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(SchemaError, match=r"^S1.png: "):
        open_slide(cut, mpp=0.5)


def test_a_slide_that_is_cut_off_is_an_error_in_words(real_data, tmp_path):
    content = (real_data("wsi") / "CMU-1-Small-Region.svs").read_bytes()
    refused = 0
    for kept in (0, 100, len(content) // 4, len(content) // 2):
        cut = tmp_path / "S1.svs"
        cut.write_bytes(content[:kept])
        try:
            with open_slide(cut) as slide:
                slide.read(0, 0, slide.width_px, slide.height_px, slide.mpp)
        except (SchemaError, OSError) as error:
            assert str(error).startswith("S1.svs: ")  # noqa: PT017 (either of two errors)
            refused += 1
    assert refused == 4


def test_damage_inside_a_slide_is_found_where_it_lies(pyramid, tmp_path):
    with tifffile.TiffFile(pyramid) as file:
        start, length = file.pages[0].dataoffsets[30], file.pages[0].databytecounts[30]
    content = bytearray(pyramid.read_bytes())
    content[start : start + length] = bytes(length)
    path = tmp_path / "S2.tiff"
    path.write_bytes(content)
    with open_slide(path) as slide:  # tile 30 of 10 a row: columns 0 to 63, rows 192 to 255
        assert slide.read(0, 0, 64, 64, MPP).shape == (64, 64, 3)
        with pytest.raises(OSError, match=r"S2.tiff: cannot be read at level-0 pixel \(0, 192\)"):
            slide.read(0, 192 * MPP, 64, 64, MPP)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "S1.svs").write_text("not a slide")
    with pytest.raises(SchemaError, match="S1.svs: not a slide or image that openslide or Pillow"):
        open_slide(tmp_path / "S1.svs")
    Image.fromarray(np.zeros((50, 50), dtype=np.uint16)).save(tmp_path / "S2.png")
    with pytest.raises(SchemaError, match=r"S2.png: pixels of more than 8 bits"):
        open_slide(tmp_path / "S2.png", mpp=1.0)


def test_an_image_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    Image.new("RGB", (300, 300)).save(tmp_path / "S1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    with pytest.raises(SchemaError, match=r"S1.png: too large for an image without tiles"):
        open_slide(tmp_path / "S1.png", mpp=0.5)


def test_a_missing_library_names_the_extra(pyramid, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openslide", None)
    with pytest.raises(SchemaError, match=r'pip install "tabular-trainers\[slides\]"'):
        open_slide(pyramid)
