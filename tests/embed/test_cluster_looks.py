"""Clusters look the same everywhere, and different from each other, also to the colour-blind."""

import itertools

import numpy as np
import pytest

from tabular_trainers.embed.cluster_looks import (
    COLOURS,
    GREY,
    TEXTURES,
    cluster_looks,
    mark_colour,
    texture_pixels,
)

# Machado, Oliveira and Fernandes, 2009, severity 1.0: linear RGB as it is seen.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def oklab(colours, matrix):
    """Ottosson, 2020: coordinates in which distance is about what is seen; 0.02 is just seen."""
    rgb = np.asarray(colours, dtype=float) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.asarray(matrix).T, 0, 1)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    ).T  # fmt: skip
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    ).T  # fmt: skip


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart_by_all(vision):
    seen = oklab([*COLOURS, GREY], VISION[vision])
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert min(distances) > 0.08


def test_looks_do_not_repeat_before_there_are_no_more():
    clusters = [f"c{i:03d}" for i in range(1, 201)]
    looks = cluster_looks(clusters)
    n_own = len(COLOURS) * len(TEXTURES)
    assert len({(look.colour, look.texture) for look in looks[:n_own]}) == n_own
    assert {look.texture for look in looks[: len(COLOURS)]} == {"plain"}
    assert all(look.is_other for look in looks[n_own:])
    assert not any(look.is_other for look in looks[:n_own])
    assert [look.cluster for look in looks] == clusters


def test_clusters_of_one_name_look_alike_and_come_first():
    looks = cluster_looks(["c01", "c02", "c03"], {"c03": "fat ", "c02": "fat", "c01": ""})
    assert [look.label for look in looks] == ["c01", "fat", "fat"]
    assert looks[1].colour == looks[2].colour == COLOURS[0]
    assert looks[0].colour == COLOURS[1]


def test_the_important_ones_get_the_first_colours():
    clusters = [f"c{i:02d}" for i in range(1, 41)]
    looks = cluster_looks(clusters, order=["c40", "c39"])
    assert (looks[39].colour, looks[38].colour) == (COLOURS[0], COLOURS[1])
    assert looks[0].colour == COLOURS[2]
    assert looks[37].is_other


def test_textures_are_seen_and_differ():
    marks = {texture: texture_pixels((64, 64), texture) for texture in TEXTURES}
    assert not marks["plain"].any()
    for texture in ("stripes", "dots"):
        assert 0.2 < marks[texture].mean() < 0.45
    assert (marks["stripes"] != marks["dots"]).mean() > 0.2
    for colour in COLOURS:
        near, far = oklab([colour, mark_colour(colour)], VISION["normal"])
        assert np.linalg.norm(near - far) > 0.25
