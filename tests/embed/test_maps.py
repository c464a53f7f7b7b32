"""Maps show each patch where it is, in the colour that the legend gives to its cluster or term."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tabular_trainers.embed.cluster_looks import COLOURS, GREY, cluster_looks
from tabular_trainers.embed.maps import (
    cluster_legend,
    colour_clusters,
    colour_terms,
    draw_cluster_map,
    draw_risk_map,
    looks_on_slide,
    patch_places,
    risk_colours,
    risk_legend,
    scale_end,
    view_patches,
)
from tabular_trainers.embed.slide_reading import open_slide
from tests.embed.small_slides import write_slide
from tests.embed.written_words import misplaced, watch_words

SIZE_UM = 64.0


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = write_slide(tmp_path_factory.mktemp("maps") / "S1.tiff")
    with open_slide(path) as slide:
        yield slide


@pytest.fixture
def frame():
    """Patches of 64 um on the tissue of small_slides: 8 columns, 4 rows."""
    x, y = np.meshgrid(128 + SIZE_UM * np.arange(8), 128 + SIZE_UM * np.arange(4))
    return pd.DataFrame({"x_um": x.ravel(), "y_um": y.ravel(), "size_um": SIZE_UM})


def middle(image, view, patch):
    """Give the median colour of the inner half of a patch."""
    at = [patch["x_um"] - view.x_um + SIZE_UM / 4, patch["y_um"] - view.y_um + SIZE_UM / 4]
    left, top = (round(value / view.px_um) for value in at)
    side = round(SIZE_UM / 2 / view.px_um)
    return np.median(np.asarray(image)[top : top + side, left : left + side], axis=(0, 1))


@pytest.mark.parametrize("size", [(600, 400), (3000, 2000)])  # the latter enlarged
def test_a_view_holds_all_patches_with_room_and_a_true_scale(slide, frame, size):
    view = view_patches(slide, frame, *size)
    height, width = view.pixels.shape[:2]
    assert 0.9 < max(width / size[0], height / size[1]) <= 1
    assert view.x_um <= 128 - SIZE_UM
    assert view.x_um + width * view.px_um >= 128 + 9 * SIZE_UM
    # The tissue of small_slides begins at 128 um: the view is dark from there on.
    dark = view.pixels[..., 1].astype(int) < 215
    left = np.flatnonzero(dark.mean(axis=0) > 0.3)[0]
    assert view.x_um + left * view.px_um == pytest.approx(128, abs=2 * view.px_um)


@pytest.mark.parametrize("size", [(600, 400), (3000, 2000)])
def test_each_patch_lies_where_it_is(slide, frame, size):
    view = view_patches(slide, frame, *size)
    places = patch_places(view, frame)
    x_um = view.x_um + (np.arange(places.shape[1]) + 0.5) * view.px_um
    y_um = view.y_um + (np.arange(places.shape[0]) + 0.5) * view.px_um
    column, row = (np.floor((v - 128) / SIZE_UM) for v in (x_um, y_um))
    expected = row[:, None] * 8 + column[None]
    inside = ((row >= 0) & (row < 4))[:, None] & ((column >= 0) & (column < 8))[None]
    assert (places == np.where(inside, expected, -1)).all()


def test_a_patch_has_the_colour_of_its_cluster(slide, frame):
    view = view_patches(slide, frame, 600, 400)
    looks = cluster_looks(["c01", "c02", "c03"], {"c03": "fat", "c01": "fat"})
    labels = np.arange(len(frame)) % 3
    image = colour_clusters(view, frame, labels, looks)
    assert looks[0].colour == looks[2].colour == COLOURS[0]
    assert looks[1].colour == COLOURS[1]
    for row, label in enumerate(labels):
        seen = middle(image, view, frame.iloc[row])
        distances = [np.abs(seen - colour).sum() for colour in (*COLOURS, GREY)]
        assert int(np.argmin(distances)) == (1 if label == 1 else 0)


def test_a_patch_has_the_colour_of_its_term(slide, frame):
    view = view_patches(slide, frame, 600, 400)
    terms = np.linspace(-2, 2, len(frame))
    image = colour_terms(view, frame, terms, 1.0)
    for row, term in enumerate(terms):
        seen = middle(image, view, frame.iloc[row])
        assert np.abs(seen - risk_colours(np.array([term]))[0]).max() < 45
        if abs(term) > 0.4:
            assert (seen[0] > seen[2]) == (term > 0)


@pytest.mark.parametrize("limit", [1e-4, 0.0123, 0.99, 1.0, 1.01, 7.71, 8.0, 9.9, 123.0])
def test_a_scale_ends_little_above_its_limit_in_a_short_number(limit):
    end = scale_end(limit)
    assert limit * (1 - 1e-9) <= end <= 1.51 * limit
    assert len(f"{end / 2:e}".split("e")[0].rstrip("0.").replace(".", "")) <= 2


def test_what_a_legend_leaves_out_is_grey_on_the_map():
    looks = cluster_looks([f"c{i:02d}" for i in range(1, 41)])
    labels = np.repeat(np.arange(30), np.arange(30, 0, -1))  # 30 patches of c01, 29 of c02, ...
    own = looks_on_slide(labels, looks)
    assert own[:16] == looks[:16]
    assert all(look.is_other for look in own[16:])
    assert [look.cluster for look in own] == [look.cluster for look in looks]


def test_a_legend_gives_shares_and_counts_the_rest(monkeypatch):
    written = watch_words(monkeypatch)
    looks = cluster_looks([f"c{i:02d}" for i in range(1, 41)], {"c02": "fat", "c03": "fat"})
    labels = np.array([1] * 30 + [2] * 20 + [0] * 49 + [38])
    cluster_legend(labels, looks, 900)
    assert [words for words, *_ in written] == ["fat  50%", "c01  49%", "1 other cluster  1%"]


@pytest.mark.parametrize("width", [500, 1352])
@pytest.mark.parametrize("long", [False, True])
def test_no_words_of_a_legend_are_cut_off_or_lie_on_others(monkeypatch, width, long):
    written = watch_words(monkeypatch)
    clusters = [f"c{i:03d}" for i in range(1, 201)]
    names = {"c003": "stroma with many scattered plasma cells, " * 6} if long else {}
    labels = np.random.default_rng(0).integers(0, 200, 3000)
    looks = looks_on_slide(labels, cluster_looks(clusters, names))
    cluster_legend(labels, looks, width)
    risk_legend(np.array([-1e-4, 2e-4]), 3.1e-5, "log hazard", width)
    risk_legend(np.array([-1e4, 2e4]), 3.1e4, "log odds", width)
    assert len(written) > 17 + 4 + 4 - 1
    assert misplaced(written) == []


def test_a_risk_legend_says_the_mean_and_what_lies_beyond(monkeypatch):
    written = watch_words(monkeypatch)
    risk_legend(np.array([-0.5, 3.0]), 1.6, "log hazard", 600)
    assert [words for words, *_ in written] == [
        *("≤ −1.6", "−0.8", "0", "+0.8", "≥ +1.6"),
        "term of a patch (log hazard); mean +1.25",
    ]


def test_a_map_on_a_page_is_that_of_its_legend(slide, frame, tmp_path):
    labels = np.r_[np.repeat(np.arange(12), 2), np.arange(12, 20)]  # 20 clusters, 16 are shown
    looks = cluster_looks([f"c{i:02d}" for i in range(1, 41)])
    draw_cluster_map(slide, frame, labels, looks, tmp_path / "map.png", title="S1")
    view = view_patches(slide, frame, 666, 860)
    expected = colour_clusters(view, frame, labels, looks_on_slide(labels, looks))
    with Image.open(tmp_path / "map.png") as page:
        seen = np.asarray(page.convert("RGB"))
    width, height = expected.size
    left = 24 + width + 20
    tops = [
        top
        for top in range(seen.shape[0] - height)
        if (seen[top : top + height, left : left + width] == np.asarray(expected)).all()
    ]
    assert len(tops) == 1
    tissue = seen[tops[0] : tops[0] + height, 24 : 24 + width]
    assert (tissue == view.pixels).all()
    assert sum(look.is_other for look in looks_on_slide(labels, looks)[:20]) == 4


def test_maps_are_written_whole(slide, frame, tmp_path):
    looks = cluster_looks([f"c{i:02d}" for i in range(1, 201)])
    labels = np.arange(len(frame)) * 6
    draw_cluster_map(slide, frame, labels, looks, tmp_path / "clusters.png", title="S1")
    draw_risk_map(
        slide, frame, np.linspace(-1, 1, 32), tmp_path / "risk.png", limit=0.9, title="S1"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clusters.png", "risk.png"]
    with Image.open(tmp_path / "risk.png") as page:
        assert page.size[0] == 1400
