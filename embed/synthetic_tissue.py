"""The picture of one synthetic slide: where which tissue lies, and its pixels.

A plan says on a coarse grid where tissue, lymphocytes, glands and fat are to be. The pixels come
from the textures; whole glands, fat cells and lymphocytes are shown where their centre lies in the
plan, so that the mask of what is where is made together with the pixels.
"""

from dataclasses import dataclass

import numpy as np

from tabular_trainers.kernels import compile_kernel

from . import synthetic_textures

SLIDE_PX, MPP = 2304, 0.5
PLAN_PX = 4  # pixels of a slide along one cell of the plan
COARSE = 144  # cells of the noise that plans are made of, along a side
MASK_PX = 8  # pixels of a slide along one pixel of its mask
CLASSES = {"background": 0, "stroma": 1, "tumour": 2, "lymphocytes": 3, "fat": 4, "pen": 5}
BACKGROUND, STROMA, TUMOUR, LYMPHOCYTES, FAT, PEN = CLASSES.values()
NOWHERE, LAST = synthetic_textures.NOWHERE, synthetic_textures.SIDE_PX - 1
GLASS = 244  # brightness without tissue

# Red, green and blue optical density of the stains as these slides have them: near to, but not,
# the vectors that the stain encoder unmixes with, as in any real laboratory.
HEMATOXYLIN = np.array([0.66, 0.68, 0.32])
EOSIN = np.array([0.10, 0.92, 0.32])


@dataclass(frozen=True)
class Contents:
    """What a slide is to show, as shares of the tissue's area."""

    lymphocytes: float
    tumour: float
    fat: float


def draw_textures(seed):
    """Draw what all slides of a cohort are made of, by class.

    Returns
    -------
    dict of str to Texture
    """
    draw = {
        "stroma": synthetic_textures.draw_stroma,
        "tumour": synthetic_textures.draw_glands,
        "lymphocytes": synthetic_textures.draw_lymphocytes,
        "fat": synthetic_textures.draw_fat,
    }
    seeds = np.random.SeedSequence([seed, 1]).spawn(len(draw))
    return {
        name: function(np.random.default_rng(one))
        for (name, function), one in zip(draw.items(), seeds, strict=True)
    }


def plan_slide(random, contents):
    """Lay out a slide.

    Parameters
    ----------
    random : numpy.random.Generator
    contents : Contents

    Returns
    -------
    (SLIDE_PX / PLAN_PX,) * 2 uint8
        Class of each cell.
    """
    from scipy import ndimage

    def enlarge(field):
        return ndimage.zoom(
            field, SLIDE_PX / PLAN_PX / COARSE, order=1, grid_mode=True, mode="nearest"
        )

    def noise(smoothing):
        field = ndimage.gaussian_filter(random.standard_normal((COARSE, COARSE)), smoothing)
        return enlarge(field / field.std())

    side = SLIDE_PX // PLAN_PX
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    stretch, turn = random.uniform(0.88, 1.0), random.uniform(0, np.pi)
    across = np.hypot(
        x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / stretch
    )
    outline = 0.415 * (1 + 0.09 * noise(9)) + 0.003 * noise(1.5)
    tissue = (across < outline) & (across < 0.47)
    plan = np.where(tissue, STROMA, BACKGROUND).astype(np.uint8)
    shares = (
        ("fat", contents.fat, noise(12) + 4 * across),
        ("lymphocytes", contents.lymphocytes, noise(5)),
        ("tumour", contents.tumour, noise(10)),
    )
    n_tissue = tissue.sum()
    for name, share, field in shares:
        free = plan == STROMA
        wanted = min(share * n_tissue / max(free.sum(), 1), 1.0)
        plan[free & (field > np.quantile(field[free], 1 - wanted))] = CLASSES[name]
    return plan


_STAINS, _OFFSET, _PLACE = "uint8[:,:,::1]", "int16[:,:,::1]", "int64[::1]"


@compile_kernel(
    f"void(uint8[:,::1], {_STAINS}, {_PLACE}, {_STAINS}, {_OFFSET}, {_PLACE}, {_STAINS}, {_OFFSET},"
    f" {_PLACE}, {_STAINS}, {_OFFSET}, {_PLACE}, uint8[:,:,::1], uint8[:,:,::1], uint8[:,::1])",
)
def _compose(
    plan,
    stroma,
    stroma_place,
    tumour,
    tumour_offset,
    tumour_place,
    lymphocytes,
    lymphocytes_offset,
    lymphocytes_place,
    fat,
    fat_offset,
    fat_place,
    colours,
    image,
    mask,
):
    """Choose each pixel of a slide from the textures, and write down where it is from.

    Of each texture come amounts of hematoxylin and eosin, offsets to centres of objects, and its
    place: the row and column where it begins, and the direction in which it is read (1 or -1).
    """
    # Written out four times: calls from this loop made it 15 times slower.
    n = len(plan)
    for y in range(image.shape[0]):
        stroma_y = (stroma_place[2] * y + stroma_place[0]) & LAST
        tumour_y = (tumour_place[2] * y + tumour_place[0]) & LAST
        lymphocytes_y = (lymphocytes_place[2] * y + lymphocytes_place[0]) & LAST
        fat_y = (fat_place[2] * y + fat_place[0]) & LAST
        for x in range(image.shape[1]):
            own = plan[y // PLAN_PX, x // PLAN_PX]
            h, e, found = np.uint8(0), np.uint8(0), BACKGROUND
            u = (tumour_place[3] * x + tumour_place[1]) & LAST
            if tumour_offset[0, tumour_y, u] != NOWHERE:
                row = (y + tumour_place[2] * tumour_offset[0, tumour_y, u]) // PLAN_PX
                column = (x + tumour_place[3] * tumour_offset[1, tumour_y, u]) // PLAN_PX
                if 0 <= row < n and 0 <= column < n and plan[row, column] == TUMOUR:
                    found = TUMOUR
                    h, e = tumour[0, tumour_y, u], tumour[1, tumour_y, u]
            if found == BACKGROUND:
                u = (fat_place[3] * x + fat_place[1]) & LAST
                row = (y + fat_place[2] * fat_offset[0, fat_y, u]) // PLAN_PX
                column = (x + fat_place[3] * fat_offset[1, fat_y, u]) // PLAN_PX
                if 0 <= row < n and 0 <= column < n and plan[row, column] == FAT:
                    found = FAT
                    h, e = fat[0, fat_y, u], fat[1, fat_y, u]
            if found == BACKGROUND and own != BACKGROUND:
                found = LYMPHOCYTES if own == LYMPHOCYTES else STROMA
                shown = np.int64(own)
                u = (lymphocytes_place[3] * x + lymphocytes_place[1]) & LAST
                down = lymphocytes_offset[0, lymphocytes_y, u]
                if down != NOWHERE:
                    shown = BACKGROUND
                    row = (y + lymphocytes_place[2] * down) // PLAN_PX
                    across = lymphocytes_offset[1, lymphocytes_y, u]
                    column = (x + lymphocytes_place[3] * across) // PLAN_PX
                    if 0 <= row < n and 0 <= column < n:
                        shown = np.int64(plan[row, column])
                if shown == LYMPHOCYTES:
                    h, e = lymphocytes[0, lymphocytes_y, u], lymphocytes[1, lymphocytes_y, u]
                else:
                    u = (stroma_place[3] * x + stroma_place[1]) & LAST
                    h, e = stroma[0, stroma_y, u], stroma[1, stroma_y, u]
            mask[y, x] = found
            image[y, x, 0] = colours[h, e, 0]
            image[y, x, 1] = colours[h, e, 1]
            image[y, x, 2] = colours[h, e, 2]


def paint_slide(random, plan, textures, hematoxylin=1.0, eosin=1.0):
    """Paint a slide after its plan.

    Parameters
    ----------
    random : numpy.random.Generator
        Decides where in the textures the slide lies.
    plan : (n, n) uint8
        From `plan_slide`.
    textures : dict of str to Texture
    hematoxylin, eosin : float, default 1.0
        How strongly the slide is stained.

    Returns
    -------
    image : (SLIDE_PX, SLIDE_PX, 3) uint8
    mask : (SLIDE_PX, SLIDE_PX) uint8
        Class of each pixel.
    """
    arguments = []
    for name in ("stroma", "tumour", "lymphocytes", "fat"):
        begin = random.integers(0, synthetic_textures.SIDE_PX, 2)
        place = np.concatenate([begin, random.choice([-1, 1], 2)]).astype(np.int64)
        arguments.append(textures[name].stains)
        arguments += [place] if name == "stroma" else [textures[name].offset, place]
    amounts = np.arange(256) / synthetic_textures.AMOUNT
    density = (
        amounts[:, None, None] * hematoxylin * HEMATOXYLIN + amounts[None, :, None] * eosin * EOSIN
    )
    colours = np.round(GLASS * 10**-density).astype(np.uint8)
    image = np.empty((SLIDE_PX, SLIDE_PX, 3), dtype=np.uint8)
    mask = np.empty((SLIDE_PX, SLIDE_PX), dtype=np.uint8)
    _compose(plan, *arguments, colours, image, mask)
    return image, mask


def draw_pen(random, image, mask):
    """Draw the stroke of a felt-tip pen around a part of the tissue, into image and mask."""
    side = SLIDE_PX // PLAN_PX
    y, x = np.mgrid[:side, :side].astype(np.float32)
    start, turns = random.uniform(0, 2 * np.pi), random.uniform(0.5, 0.8)
    angle = start + np.linspace(0, 2 * np.pi * turns, 160)
    radius = side * (0.44 + 0.03 * np.sin(3 * angle + random.uniform(0, 6)))
    points = np.stack(
        [side / 2 + radius * np.sin(angle), side / 2 + radius * np.cos(angle)], axis=1
    )
    stroke = np.zeros((side, side), dtype=bool)
    width = random.uniform(7, 10)
    for row, column in points:
        top, left = int(row - width), int(column - width)
        part = np.s_[
            max(top, 0) : top + 2 * int(width) + 3, max(left, 0) : left + 2 * int(width) + 3
        ]
        stroke[part] |= np.hypot(y[part] - row, x[part] - column) < width
    stroke = stroke.repeat(PLAN_PX, axis=0).repeat(PLAN_PX, axis=1)
    ink = np.array([[0.10, 0.22, 0.62], [0.05, 0.45, 0.25], [0.12, 0.12, 0.14]])[random.integers(3)]
    image[stroke] = np.round(image[stroke] * ink).astype(np.uint8)
    mask[stroke] = PEN
