"""Pyramidal TIFFs are read by openslide and by Pillow, independently of each other."""

import numpy as np
import pytest

from tabular_trainers.embed.pyramid_tiff import write_pyramid


@pytest.fixture
def image():
    """Make a smooth picture, so that JPEG keeps it nearly as it is, with a glass half."""
    y, x = np.mgrid[:520, :776] / 100
    picture = np.stack([np.sin(x) + 1, np.cos(y) + 1, np.sin(x + y) + 1], axis=-1) * 120
    picture[:, 400:] = 244
    return picture.round().astype(np.uint8)


def test_both_readers_give_the_image_back(tmp_path, image):
    import openslide
    from PIL import Image

    path = tmp_path / "slide.tiff"
    write_pyramid(path, image, 0.25)
    small = np.asarray(Image.fromarray(image).resize((194, 130), Image.Resampling.BOX))
    with Image.open(path) as file:
        assert file.n_frames == 2
        for frame, wanted in enumerate((image, small)):
            file.seek(frame)
            found = np.asarray(file.convert("RGB")).astype(int)
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).mean() < 2
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((776, 520), (194, 130))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.25)
        found = np.asarray(slide.read_region((200, 100), 0, (300, 400)))[..., :3].astype(int)
        assert np.abs(found - image[100:500, 200:500]).mean() < 2


def test_even_tiles_are_written_once(tmp_path):
    glass = np.full((2048, 2048, 3), 244, dtype=np.uint8)
    write_pyramid(tmp_path / "glass.tiff", glass, 0.5)
    one = np.full((256, 256, 3), 244, dtype=np.uint8)
    write_pyramid(tmp_path / "one.tiff", one, 0.5)
    # 64 tiles a level instead of 1 cost 8 bytes each, for where they lie and how long they are.
    sizes = [(tmp_path / name).stat().st_size for name in ("glass.tiff", "one.tiff")]
    assert sizes[0] - sizes[1] < 8 * 70


def test_nothing_is_left_under_the_name_of_a_file_that_failed(tmp_path, image):
    with pytest.raises(TypeError):
        write_pyramid(tmp_path / "slide.tiff", image.astype(float)[..., :2], 0.25)
    assert not (tmp_path / "slide.tiff").exists()
