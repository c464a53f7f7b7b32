"""The page of a patient: chosen patches, charts, with a slide and without."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tabular_trainers.embed.case_pages import (
    Case,
    CaseSlide,
    _composition_chart,
    _place_number,
    _survival_chart,
    draw_case_page,
    top_patches,
)
from tabular_trainers.embed.cluster_looks import cluster_looks
from tabular_trainers.embed.slide_reading import open_slide
from tests.embed.small_slides import write_slide
from tests.embed.written_words import misplaced, watch_words

CLUSTERS = ("c01", "c02", "c03")


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    cohort = pd.DataFrame(rng.dirichlet([2, 1, 1], 30), columns=list(CLUSTERS))
    times = np.linspace(0, 60, 50)
    return Case(
        "P1",
        ("risk +0.42",),
        cohort.iloc[3],
        cohort,
        (("age", "63"), ("stage", "III")),
        times,
        np.exp(-0.02 * times),
        "months",
    )


def test_top_patches_are_the_strongest_of_each_direction():
    raising, lowering = top_patches(np.array([0.5, -0.1, 2.0, 0.0, 0.3, -4.0]), n=2)
    assert raising.tolist() == [2, 0]
    assert lowering.tolist() == [5, 1]
    raising, lowering = top_patches(np.array([0.5, 0.0]))
    assert raising.tolist() == [0]
    assert lowering.tolist() == []


def test_a_page_with_its_slide_and_one_without(case, tmp_path, monkeypatch):
    written = watch_words(monkeypatch)
    looks = cluster_looks(CLUSTERS)
    frame = pd.DataFrame({"x_um": [128.0, 192.0], "y_um": 128.0, "size_um": 64.0})
    shown = CaseSlide("S1", frame, np.array([0, 2]), np.array([0.4, -0.2]))
    with open_slide(write_slide(tmp_path / "S1.tiff")) as slide:
        path = tmp_path / "with.png"
        draw_case_page(case, path, banner="Not cleared.", looks=looks, shown=shown, slide=slide)
    draw_case_page(case, tmp_path / "without.png", banner="Not cleared.", looks=looks)
    sizes = []
    for name in ("with", "without"):
        with Image.open(tmp_path / f"{name}.png") as page:
            sizes.append(page.size)
    assert [width for width, _ in sizes] == [1754, 1754 - 555 - 20]
    assert sizes[0][1] > sizes[1][1] + 400
    assert misplaced(written) == []
    said = [words for words, *_ in written]
    assert said.count("Not cleared.") == 2
    assert "Slide S1: 2 patches." in said
    assert {"age", "63", "+0.40", "−0.20", "raise the risk most"} <= set(said)


def test_numbers_of_small_patches_stand_beside_them_and_off_each_other():
    size, taken = (300, 200), []
    for corner in ([100, 100], [108, 100], [108, 108], [0, 0], [292, 192]):
        x, y = _place_number(np.array(corner), 8, size, taken)
        assert 0 <= x <= size[0] - 16
        assert 0 <= y <= size[1] - 16
        assert all(max(abs(x - a), abs(y - b)) >= 16 for a, b in taken)
        taken.append((x, y))
    assert taken[0] == (84, 84)
    assert _place_number(np.array([50, 60]), 40, size, []) == (50, 60)


def test_charts_say_where_the_patient_stands(case, monkeypatch):
    """Of 30 patients 27 have less of c02, and two as much, with herself: (27 + 29) / 60 = 93%."""
    import matplotlib.axes

    words, lines = [], []
    real = matplotlib.axes.Axes.text, matplotlib.axes.Axes.plot
    monkeypatch.setattr(
        matplotlib.axes.Axes,
        "text",
        lambda self, x, y, text, **more: words.append(text) or real[0](self, x, y, text, **more),
    )
    monkeypatch.setattr(
        matplotlib.axes.Axes,
        "plot",
        lambda self, *what, **more: lines.append(what) or real[1](self, *what, **more),
    )
    shares = np.linspace(0.10, 0.39, 30)
    cohort = pd.DataFrame({"c01": 1 - shares, "c02": shares})
    cohort.iloc[27] = cohort.iloc[28]
    case = replace(case, cohort=cohort, composition=cohort.iloc[28])
    _composition_chart(case, cluster_looks(["c01", "c02"]))
    assert words == ["7", "93", "percentile"]  # c01 first, being more: (1 + 3) / 60
    low, first, middle, third, high = np.quantile(
        100 * cohort["c02"], [0.05, 0.25, 0.5, 0.75, 0.95]
    )
    assert lines[4][0] == pytest.approx([low, high])
    assert lines[5][0] == pytest.approx([first, third])
    assert lines[6][0] == pytest.approx([middle, middle])
    assert lines[7][:2] == pytest.approx((38.0, 1))
    lines.clear()
    _survival_chart(case)
    assert (lines[0][0][0], lines[0][1][0]) == (0.0, 1.0)
    assert lines[0][1][1:] == list(case.survival)
