"""Kernels of the stain encoder that see objects: nuclei, and white areas.

Nuclei are where smoothed hematoxylin is above a threshold. Blobs are taken apart at their waists:
two peaks of the distance to the border are two nuclei if the way between them is narrow.
"""

import numpy as np

from tabular_trainers.kernels import compile_kernel

STEP = 3.0  # chamfer distance of one pixel
WAIST = 0.8  # depth between two nuclei over that of the smaller; wider, and they are one


@compile_kernel("void(float32[:,::1], float32[:,::1])")
def smooth(image, out):
    """Average over 5 x 5 pixels with weights 1 2 3 2 1; beyond the border the border goes on."""
    height, width = image.shape
    across = np.empty((height, width), dtype=np.float32)
    ninth = np.float32(1.0 / 9.0)
    two, three = np.float32(2.0), np.float32(3.0)
    for y in range(height):
        for x in range(width):
            a, b = image[y, max(x - 2, 0)], image[y, max(x - 1, 0)]
            c = image[y, x]
            d, e = image[y, min(x + 1, width - 1)], image[y, min(x + 2, width - 1)]
            across[y, x] = ((a + e) + two * (b + d) + three * c) * ninth
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        top, bottom = max(y - 2, 0), min(y + 2, height - 1)
        for x in range(width):
            out[y, x] = (
                (across[top, x] + across[bottom, x])
                + two * (across[above, x] + across[below, x])
                + three * across[y, x]
            ) * ninth


@compile_kernel("float64(float32[:,::1], float64, float64)")
def find_threshold(image, least, most):
    """Give Otsu's threshold (levels of 0.01), kept between ``least`` and ``most``."""
    counts = np.zeros(256, dtype=np.int64)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            counts[min(np.int64(image[y, x] * np.float32(100.0)), 255)] += 1
    whole = 0.0
    for k in range(256):
        whole += k * counts[k]
    n, below, sum_below, best, at = image.size, 0, 0.0, -1.0, 0
    for k in range(255):
        below += counts[k]
        sum_below += k * counts[k]
        if below == 0:
            continue
        if below == n:
            break
        apart = sum_below / below - (whole - sum_below) / (n - below)
        between = (below / n) * ((n - below) / n) * apart * apart
        if between > best:
            best, at = between, k
    return min(max((at + 1) * 0.01, least), most)


@compile_kernel("int64(boolean[:,::1], int32[:,::1], float64[:,::1])")
def label_blobs(mask, labels, blobs):
    """Label connected areas (8 neighbours) in the order of their first pixels; sum their moments.

    Rows are cut into runs of pixels; a run joins those that it touches in the row above.

    Parameters
    ----------
    mask : (h, w) bool
    labels : (h, w) int32, out
        From 1; 0 outside.
    blobs : (n, 6) float64, out
        Of each blob: pixels, and sums of x, y, x squared, y squared and x times y. There are at
        most ceil(h / 2) * ceil(w / 2) blobs.

    Returns
    -------
    int
        Number of areas.
    """
    height, width = mask.shape
    most = height * ((width + 1) // 2)
    start, stop = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
    parent = np.empty(most, dtype=np.int32)
    first = np.zeros(height + 1, dtype=np.int64)  # first run of each row
    n = 0
    for y in range(height):
        above, above_end = first[y - 1] if y > 0 else 0, n
        first[y] = n
        x = 0
        while x < width:
            if not mask[y, x]:
                x += 1
                continue
            start[n] = x
            while x < width and mask[y, x]:
                x += 1
            stop[n] = x
            parent[n] = n
            while above < above_end and stop[above] < start[n]:
                above += 1
            touching = above
            while touching < above_end and start[touching] <= x:
                a, b = touching, n
                while parent[a] != a:
                    a = parent[a]
                while parent[b] != b:
                    b = parent[b]
                # The earlier run stands for both, so that it is met first.
                parent[max(a, b)] = min(a, b)
                touching += 1
            n += 1
    first[height] = n
    found = 0
    number = np.empty(n, dtype=np.int32)
    for y in range(height):
        labels[y, :] = 0
        for k in range(first[y], first[y + 1]):
            if parent[k] == k:
                found += 1
                number[k] = found
                blobs[found - 1, :] = 0.0
            else:
                number[k] = number[parent[k]]
            blob = number[k] - 1
            a, b = np.float64(start[k]), np.float64(stop[k])
            labels[y, start[k] : stop[k]] = number[k]
            length = b - a
            sum_x = length * (a + b - 1.0) / 2.0
            sum_xx = ((b - 1.0) * b * (2.0 * b - 1.0) - (a - 1.0) * a * (2.0 * a - 1.0)) / 6.0
            blobs[blob, 0] += length
            blobs[blob, 1] += sum_x
            blobs[blob, 2] += length * y
            blobs[blob, 3] += sum_xx
            blobs[blob, 4] += length * y * y
            blobs[blob, 5] += sum_x * y
    return found


@compile_kernel(
    "void(boolean[:,::1], boolean[:,::1], float32[:,::1], float32[:,::1], float64[::1])",
    fastmath={"reassoc"},
)
def compare_stains(mask, white, hematoxylin, eosin, out):
    """Compare the inside of a mask with its outside.

    Parameters
    ----------
    mask, white : (h, w) bool
    hematoxylin, eosin : (h, w) float32
    out : (3,) float64, out
        Share of the pixels inside; mean hematoxylin inside minus outside; mean eosin outside the
        mask and white. Means are 0 where a part is empty.
    """
    whole, inside, n_inside, pink, n_pink = 0.0, 0.0, 0, 0.0, 0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            amount, rest = np.float64(hematoxylin[y, x]), not (mask[y, x] or white[y, x])
            whole += amount
            inside += amount * mask[y, x]
            n_inside += mask[y, x]
            pink += np.float64(eosin[y, x]) * rest
            n_pink += rest
    n_outside = mask.size - n_inside
    out[0] = n_inside / mask.size
    out[1] = 0.0
    if n_inside > 0 and n_outside > 0:
        out[1] = inside / n_inside - (whole - inside) / n_outside
    out[2] = pink / n_pink if n_pink > 0 else 0.0


@compile_kernel("void(boolean[:,::1], int32[:,::1])")
def measure_depth(mask, depth):
    """Compute the chamfer distance (3 a pixel, 4 a diagonal one) to the nearest pixel outside.

    The patch ends as if what it cuts went on beyond.
    """
    height, width = mask.shape
    far = 4 * (height + width)
    for y in range(height):
        for x in range(width):
            if not mask[y, x]:
                depth[y, x] = 0
                continue
            d = far
            if x > 0:
                d = min(d, depth[y, x - 1] + 3)
            if y > 0:
                d = min(d, depth[y - 1, x] + 3)
                if x > 0:
                    d = min(d, depth[y - 1, x - 1] + 4)
                if x + 1 < width:
                    d = min(d, depth[y - 1, x + 1] + 4)
            depth[y, x] = d
    for y in range(height - 1, -1, -1):
        for x in range(width - 1, -1, -1):
            d = depth[y, x]
            if d == 0:
                continue
            if x + 1 < width:
                d = min(d, depth[y, x + 1] + 3)
            if y + 1 < height:
                d = min(d, depth[y + 1, x] + 3)
                if x > 0:
                    d = min(d, depth[y + 1, x - 1] + 4)
                if x + 1 < width:
                    d = min(d, depth[y + 1, x + 1] + 4)
            depth[y, x] = d


def _is_peak(labels, depth, y, x, reach):
    """Whether no pixel of the same blob nearby is deeper, nor as deep and earlier."""
    height, width = labels.shape
    d, k = depth[y, x], labels[y, x]
    # Most pixels fail at a neighbour; what is deeper there is of the same blob.
    if (x + 1 < width and depth[y, x + 1] > d) or (y + 1 < height and depth[y + 1, x] > d):
        return False
    for v in range(max(y - reach, 0), min(y + reach + 1, height)):
        for u in range(max(x - reach, 0), min(x + reach + 1, width)):
            other = depth[v, u]
            if other >= d and labels[v, u] == k:
                if other > d or v < y or (v == y and u < x):
                    return False
    return True


def _depth_between(depth, x0, y0, x1, y1):
    """Give the least depth on the straight way between two pixels."""
    steps = max(abs(x1 - x0), abs(y1 - y0))
    least = min(depth[y0, x0], depth[y1, x1])
    for k in range(1, steps):
        x = np.int64(np.floor(x0 + (x1 - x0) * k / steps + 0.5))
        y = np.int64(np.floor(y0 + (y1 - y0) * k / steps + 0.5))
        least = min(least, depth[y, x])
    return least


def _roundness(blobs, k):
    """Give minor over major axis of the ellipse that has the second moments of a blob."""
    area = blobs[k, 0]
    x, y = blobs[k, 1] / area, blobs[k, 2] / area
    # A pixel is a square: its own second moment is 1/12.
    xx = blobs[k, 3] / area - x * x + 1.0 / 12.0
    yy = blobs[k, 4] / area - y * y + 1.0 / 12.0
    xy = blobs[k, 5] / area - x * y
    middle, half = (xx + yy) / 2.0, np.sqrt((xx - yy) * (xx - yy) / 4.0 + xy * xy)
    return np.sqrt(max(middle - half, 1.0 / 12.0) / (middle + half))


@compile_kernel(
    "int64(int32[:,::1], int32[:,::1], float64[:,::1], float32[:,::1], float64, int64,"
    " float64[:,::1])",
    helpers=(_is_peak, _depth_between, _roundness),
)
def find_nuclei(labels, depth, blobs, stain, smallest, reach, nuclei):
    """Take blobs apart into nuclei.

    Parameters
    ----------
    labels, depth : (h, w) int32
        From `label_blobs` and `measure_depth`.
    blobs : (n_blobs, 6) float64
    stain : (h, w) float32
        Smoothed hematoxylin.
    smallest : float64
        Blobs of fewer pixels are specks.
    reach : int64
        A peak is the deepest within so many pixels to each side; of equals the first is.
    nuclei : (n, 7) float64, out
        Of each nucleus: x and y of its deepest pixel, radius there in pixels, hematoxylin there,
        pixels (of a blob that is taken apart: an equal share), minor axis over major axis of its
        blob, and 1 if it is a blob of its own, else 0.

    Returns
    -------
    int
        Number of nuclei, at most n.
    """
    height, width = labels.shape
    home = np.empty(len(nuclei), dtype=np.int64)
    peaks = np.zeros(len(blobs), dtype=np.int64)
    found = 0
    for y in range(height):
        for x in range(width):
            d = depth[y, x]
            if d == 0 or found == len(nuclei):
                continue
            k = np.int64(labels[y, x] - 1)
            if blobs[k, 0] < smallest or not _is_peak(labels, depth, y, x, reach):
                continue
            joined = False
            for i in range(found if peaks[k] > 0 else 0):
                if home[i] != k:
                    continue
                x0, y0 = np.int64(nuclei[i, 0]), np.int64(nuclei[i, 1])
                smaller = min(nuclei[i, 2], d)
                # Two circles that far apart cannot be one nucleus, however long it is.
                if max(abs(x - x0), abs(y - y0)) * STEP > 6.0 * smaller:
                    continue
                if _depth_between(depth, x0, y0, x, y) >= WAIST * smaller:
                    joined = True
                    if d > nuclei[i, 2]:
                        nuclei[i, 0], nuclei[i, 1], nuclei[i, 2] = x, y, d
                    break
            if not joined:
                nuclei[found, 0], nuclei[found, 1], nuclei[found, 2] = x, y, d
                home[found] = k
                peaks[k] += 1
                found += 1
    for i in range(found):
        k = home[i]
        # Depth counts to the middle of the pixel outside: the border lies half a pixel before.
        nuclei[i, 2] = nuclei[i, 2] / STEP - 0.5
        nuclei[i, 3] = stain[np.int64(nuclei[i, 1]), np.int64(nuclei[i, 0])]
        nuclei[i, 4] = blobs[k, 0] / peaks[k]
        nuclei[i, 5] = _roundness(blobs, k)
        nuclei[i, 6] = 1.0 if peaks[k] == 1 else 0.0
    return found


@compile_kernel("void(float64[:,::1], float64[::1])")
def measure_spacing(nuclei, out):
    """Compute the distance in pixels from each nucleus to its nearest neighbour.

    Parameters
    ----------
    nuclei : (n, 7) float64
    out : (n,) float64, out
        Infinite where there is no other nucleus.
    """
    n = len(nuclei)
    for i in range(n):
        least = np.inf
        for j in range(n):
            if j != i:
                dx, dy = nuclei[i, 0] - nuclei[j, 0], nuclei[i, 1] - nuclei[j, 1]
                least = min(least, dx * dx + dy * dy)
        out[i] = np.sqrt(least)
