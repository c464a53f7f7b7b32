"""Textures of synthetic tissue: amounts of hematoxylin and eosin, drawn once for all slides.

Each texture is a square that goes on seamlessly at its sides. Whatever must not be cut in half (a
gland, a fat cell, a lymphocyte) tells for each of its pixels how far away its centre lies: a slide
shows the whole of it, or nothing.
"""

from dataclasses import dataclass

import numpy as np

SIDE_PX = 1024  # at 0.5 micrometres; a power of two, so that positions wrap by their bits
AMOUNT = 100.0  # texture value of an optical density of 1
NOWHERE = -32768  # offset of pixels that belong to no object


@dataclass(frozen=True)
class Texture:
    """One seamless square.

    Attributes
    ----------
    stains : (2, SIDE_PX, SIDE_PX) uint8
        Hematoxylin and eosin, in hundredths of optical density.
    offset : (2, SIDE_PX, SIDE_PX) int16
        Rows and columns from a pixel to its object's centre; NOWHERE without an object.
    """

    stains: np.ndarray
    offset: np.ndarray


class _Canvas:
    """Two stain planes and the offsets of objects, with a pen that goes on at the sides."""

    def __init__(self, hematoxylin=0.0, eosin=0.0):
        self.stains = np.empty((2, SIDE_PX, SIDE_PX), dtype=np.float32)
        self.stains[0], self.stains[1] = hematoxylin, eosin
        self.offset = np.full((2, SIDE_PX, SIDE_PX), NOWHERE, dtype=np.int16)

    def window(self, x, y, reach):
        """Give the pixels around a point: index, and distances to it across and down."""
        steps = np.arange(-int(reach) - 2, int(reach) + 3)
        columns, rows = int(np.floor(x)) + steps, int(np.floor(y)) + steps
        index = np.ix_(rows % SIDE_PX, columns % SIDE_PX)
        return index, (columns - x)[None, :], (rows - y)[:, None]

    def paint(self, index, cover, hematoxylin, eosin):
        """Lay amounts of stain over what is there; ``cover`` is 0 to 1 a pixel."""
        for plane, amount in zip(self.stains, (hematoxylin, eosin), strict=True):
            plane[index] += cover * (amount - plane[index])

    def own(self, index, inside, dx, dy):
        """Let an object own the pixels inside it."""
        for plane, distance in zip(self.offset, (dy, dx), strict=True):
            steps = np.broadcast_to(-np.round(distance), inside.shape)
            plane[index] = np.where(inside, steps, plane[index])

    def texture(self):
        """Give what was drawn."""
        stains = np.clip(np.round(self.stains * AMOUNT), 0, 255).astype(np.uint8)
        return Texture(stains, self.offset)


def _cover(distance, softness):
    """Turn a signed distance to a border, in pixels (inside > 0), into 0 to 1."""
    return np.clip(distance / softness + 0.5, 0.0, 1.0)


def _draw_nucleus(canvas, random, x, y, long, short, angle, amount, vesicular=0.0, owner=False):
    """Draw one nucleus: an ellipse with clumped chromatin, paler inside where it is vesicular."""
    index, dx, dy = canvas.window(x, y, long)
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = dy * np.cos(angle) - dx * np.sin(angle)
    far = np.sqrt((along / long) ** 2 + (across / short) ** 2)
    chromatin = random.normal(scale=0.13, size=far.shape).astype(np.float32)
    depth = amount * (1 - vesicular * np.clip(1.15 - far, 0, 1) + chromatin)
    if vesicular:
        spot = random.normal(scale=0.25, size=2) * (long, short)  # the nucleolus
        near = np.hypot(along - spot[0], across - spot[1])
        depth = np.maximum(depth, amount * 1.25 * _cover(1.6 - near, 1.5))
    canvas.paint(index, _cover((1 - far) * short, 1.8), depth, 0.12)
    if owner:
        canvas.own(index, far <= 1 + 0.5 / short, dx, dy)


def _noise(random, *smoothing):
    """Make seamless noise with mean 0 and sd 1, smoothed (Gaussian) along rows and columns."""
    waves = np.fft.rfft2(random.standard_normal((SIDE_PX, SIDE_PX)))
    frequencies = np.fft.fftfreq(SIDE_PX)[:, None], np.fft.rfftfreq(SIDE_PX)[None, :]
    for frequency, sigma in zip(frequencies, smoothing, strict=True):
        waves *= np.exp(-2 * (np.pi * frequency * sigma) ** 2)
    noise = np.fft.irfft2(waves, s=(SIDE_PX, SIDE_PX)).astype(np.float32)
    return (noise - noise.mean()) / noise.std()


def _scattered(random, spacing, jitter=0.35):
    """Scatter points evenly: a hexagonal grid, each point moved by some of the spacing."""
    columns = round(SIDE_PX / spacing)
    rows = 2 * round(SIDE_PX / spacing / np.sqrt(3))
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    points = np.stack([(x + (y % 2) / 2) / columns, y / rows], axis=1) * SIDE_PX
    return (points + random.uniform(-jitter, jitter, points.shape) * spacing) % SIDE_PX


def draw_stroma(random):
    """Draw wavy pink fibres with clefts between them, and spindle-shaped nuclei along them."""
    wave = 34 * _noise(random, 90, 90)
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    bent = (rows + np.round(wave).astype(int)) % SIDE_PX
    fibres = (
        0.6 * _noise(random, 1.6, 45)[bent, columns] + 0.5 * _noise(random, 5, 80)[bent, columns]
    )
    fine = _noise(random, 0.8, 5)[bent, columns]
    canvas = _Canvas()
    eosin = 0.30 + 0.10 * fibres + 0.03 * fine
    cleft = _cover(-fibres - 1.25, 0.5)
    canvas.stains[1] = np.maximum(eosin, 0.1) * (1 - 0.8 * cleft)
    canvas.stains[0] = (0.07 + 0.015 * fibres + 0.01 * fine) * (1 - cleft)
    slope = -np.gradient(wave, axis=1)
    for x, y in _scattered(random, 52):
        if random.random() < 0.25:
            continue
        angle = np.arctan(slope[int(y) % SIDE_PX, int(x) % SIDE_PX]) + random.normal(scale=0.12)
        long, short = random.uniform(8, 13), random.uniform(2.3, 3.4)
        _draw_nucleus(canvas, random, x, y, long, short, angle, random.uniform(0.55, 0.85))
    for x, y in random.uniform(0, SIDE_PX, (20, 2)):  # a lymphocyte here and there
        size = random.uniform(5.2, 6.6)
        _draw_nucleus(canvas, random, x, y, size, size * 0.93, 0.0, random.uniform(0.9, 1.1))
    return canvas.texture()


def draw_lymphocytes(random):
    """Draw crowded small, round, dark nuclei with hardly any cytoplasm."""
    canvas = _Canvas(0.13, 0.17)
    canvas.stains[0] += 0.02 * _noise(random, 3, 3)
    canvas.stains[1] += 0.05 * _noise(random, 6, 6)
    for x, y in _scattered(random, 17.5, jitter=0.2):
        if random.random() < 0.12:
            continue
        size = random.uniform(5.2, 7.0)
        round_ = random.uniform(0.86, 1.0)
        angle, amount = random.uniform(0, np.pi), random.uniform(0.85, 1.15)
        _draw_nucleus(canvas, random, x, y, size, size * round_, angle, amount, owner=True)
    return canvas.texture()


def draw_glands(random):
    """Draw glands: a lumen, tall cells around it, large pale nuclei along their base."""
    canvas = _Canvas(0.07, 0.30)
    placed = np.empty((0, 3))
    for size in np.sort(random.uniform(56, 112, 1500))[::-1]:  # the large ones first
        x, y = random.uniform(0, SIDE_PX, 2)
        apart = np.abs(placed[:, :2] - (x, y))
        apart = np.hypot(*np.minimum(apart, SIDE_PX - apart).T)
        if (apart > placed[:, 2] + size - 8).all():
            placed = np.vstack([placed, (x, y, size)])
            _draw_gland(canvas, random, x, y, size)
    return canvas.texture()


def _draw_gland(canvas, random, x, y, size):
    waves = [(k, random.uniform(0, 0.09) / np.sqrt(k), random.uniform(0, 6.28)) for k in (2, 3, 4)]
    stretch, turn = random.uniform(0.78, 1.0), random.uniform(0, np.pi)

    def border(angle):
        """Give the radius at an angle: an ellipse with a few waves, at most ``size``."""
        a = angle - turn
        ellipse = size * 0.88 / np.sqrt(np.cos(a) ** 2 + (np.sin(a) / stretch) ** 2)
        return ellipse * (1 + sum(h * np.sin(k * a + p) for k, h, p in waves) * 0.7)

    index, dx, dy = canvas.window(x, y, size)
    far, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    edge = border(angle)
    wall = random.uniform(38, 46)  # height of the cells
    lumen = np.maximum(edge - wall, 0.12 * size)
    inside = edge - far
    grain = random.normal(scale=0.02, size=far.shape)
    canvas.paint(index, _cover(inside, 2.0), 0.19 + grain, 0.27 + 2 * grain)
    canvas.paint(index, _cover(lumen - far, 3.0), 0.02, random.choice([0.01, 0.01, 0.10]))
    rim = _cover(2.5 - np.abs(lumen - far), 2.0) * 0.7  # the cells' brush border
    canvas.paint(index, rim, 0.16, 0.42)
    rows = 2 if random.random() < 0.6 else 1
    for row in range(rows):
        around = 2 * np.pi * (size * 0.88 - 11 - 15 * row)
        n = max(int(around / (15.5 + 4 * row)), 6)
        angles = 2 * np.pi * (np.arange(n) + random.uniform(-0.2, 0.2, n)) / n
        for a in angles:
            if row and random.random() < 0.35:
                continue
            r = border(a) - random.uniform(10, 14) - 15 * row
            long, short = random.uniform(8.5, 11.0), random.uniform(6.2, 7.6)
            amount = random.uniform(0.52, 0.72)
            px, py = x + r * np.cos(a), y + r * np.sin(a)
            lean = a + random.normal(scale=0.25)
            _draw_nucleus(canvas, random, px, py, long, short, lean, amount, vesicular=0.35)
    canvas.own(index, inside > 0, dx, dy)


def draw_fat(random):
    """Draw fat cells: empty, with a thin membrane, a flat nucleus at some."""
    canvas = _Canvas()
    points = _scattered(random, 92, jitter=0.22)
    near = np.full((2, SIDE_PX, SIDE_PX), np.inf, dtype=np.float32)  # nearest and second nearest
    which = np.zeros((2, SIDE_PX, SIDE_PX), dtype=np.int16)
    for number, (x, y) in enumerate(points):
        index, dx, dy = canvas.window(x, y, 130)
        far = np.hypot(dx, dy).astype(np.float32)
        first, second = near[0][index], near[1][index]
        nearer = far < first
        canvas.own(index, nearer, dx, dy)
        near[1][index] = np.where(nearer, first, np.minimum(second, far))
        which[1][index] = np.where(
            nearer, which[0][index], np.where(far < second, number, which[1][index])
        )
        near[0][index] = np.where(nearer, far, first)
        which[0][index] = np.where(nearer, number, which[0][index])
    membrane = _cover(2.2 - (near[1] - near[0]) / 2, 1.6)
    canvas.paint(np.s_[:, :], membrane, 0.06, 0.30)
    middle = np.flatnonzero(membrane.ravel() > 0.95)
    for pixel in random.choice(middle, size=60, replace=False):
        y, x = divmod(pixel, SIDE_PX)
        one, other = points[which[:, y, x]]
        angle = np.arctan2(*(other - one)[::-1]) + np.pi / 2
        _draw_nucleus(canvas, random, x, y, 9, 2.6, angle, 0.7)
    return canvas.texture()
