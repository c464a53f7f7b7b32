"""Kernels of the stain encoder: amounts of stain, their distributions, texture and edges.

Each kernel sees one patch, runs on one thread and sums in float64, in the order of the pixels: a
patch's numbers depend on nothing else.
"""

import numpy as np

from tabular_trainers.kernels import compile_kernel

N_BINS = 1024
CHANNELS = {  # range of their histograms
    "hematoxylin": (0.0, 2.56),
    "eosin": (0.0, 2.56),
    "residual": (-1.28, 1.28),
    "saturation": (0.0, 1.0),
    "luminance": (0.0, 1.0),
}
N_LEVELS = 32  # of hematoxylin in the co-occurrence matrix
LEVELS_A_UNIT = 20.0  # of optical density; the last level begins at 1.55
N_PATTERNS = 10  # rotation-invariant uniform patterns of eight neighbours
WHITE_LUMINANCE, WHITE_SATURATION = 0.8, 0.08
EOSIN = 0.15  # optical density of eosin below which a pixel counts as unstained


@compile_kernel(
    "void(uint8[::1], float32[::1], float32[:,::1], float32[:,::1], uint8[::1],"
    " uint8[::1], boolean[::1], int64[:,::1], float64[::1])",
    fastmath={"reassoc", "contract"},
)
def measure_colour(patch, density, unmixing, stains, levels, luminance, white, counts, sums):
    """Unmix the stains of n pixels and collect the distribution of each channel.

    Parameters
    ----------
    patch : (3 * n,) uint8
        Red, green and blue of each pixel in turn.
    density : (256,) float32
        Optical density of each pixel value.
    unmixing : (3, 3) float32
        Optical densities (red, green, blue) @ unmixing = amounts of the three stains.
    stains : (2, n) float32, out
        Hematoxylin and eosin of each pixel, at least 0.
    levels : (n,) uint8, out
        Hematoxylin in N_LEVELS levels.
    luminance : (n,) uint8, out
    white : (n,) bool, out
        Where there is glass, fat or a lumen: bright and without colour.
    counts : (5, N_BINS) int64, out
        Histograms of CHANNELS; what lies outside their range counts in the outermost bin.
    sums : (18,) float64, out
        Sum and sum of squares of each of CHANNELS and of red, green and blue; the sum of
        hematoxylin times eosin; the number of pixels in which eosin is the stronger stain.
    """
    # 256 pixels at a time and one kind of work a loop, on rows of two short buffers: so the
    # compiler does many pixels at once, which takes 0.6 of the time of one loop over everything.
    size, single, whole = 256, np.float32, np.int32
    at = np.empty(8 * size, dtype=np.int32)  # red, green, blue, then bins of CHANNELS
    value = np.empty(8 * size, dtype=np.float32)  # densities of the three, then CHANNELS
    red, green, blue, hematoxylin, eosin = 0, size, 2 * size, 3 * size, 4 * size
    residual, saturation, grey = 5 * size, 6 * size, 7 * size
    u00, u01, u02 = unmixing[0, 0], unmixing[0, 1], unmixing[0, 2]
    u10, u11, u12 = unmixing[1, 0], unmixing[1, 1], unmixing[1, 2]
    u20, u21, u22 = unmixing[2, 0], unmixing[2, 1], unmixing[2, 2]
    dense, share, lowest = single(N_BINS / 2.56), single(N_BINS), single(1.28)
    zero, half, full = single(0.0), single(0.5), single(255.0)
    none, one, last, last_level = whole(0), whole(1), whole(N_BINS - 1), whole(N_LEVELS - 1)
    in_red, in_green, in_blue = single(0.2125 / 255), single(0.7154 / 255), single(0.0721 / 255)
    sh, shh, se, see, sr, srr, ss, sss, sl, sll, she = (0.0,) * 11
    r1, r2, g1, g2, b1, b2, pink = (0,) * 7
    counts[:] = 0
    for start in range(0, len(white), size):
        m = min(size, len(white) - start)
        for x in range(m):
            for k in range(3):
                v = patch[3 * (start + x) + k]
                at[k * size + x] = v
                value[k * size + x] = density[v]
        for x in range(m):
            r, g, b = value[red + x], value[green + x], value[blue + x]
            h = r * u00 + g * u10 + b * u20
            e = r * u01 + g * u11 + b * u21
            value[hematoxylin + x] = h if h > zero else zero
            value[eosin + x] = e if e > zero else zero
            value[residual + x] = r * u02 + g * u12 + b * u22
        for x in range(m):
            i, j, k = at[red + x], at[green + x], at[blue + x]
            most = i if i > j else j
            most = most if most > k else k
            least = i if i < j else j
            least = least if least < k else k
            value[saturation + x] = single(most - least) / single(most if most > one else one)
            value[grey + x] = in_red * single(i) + in_green * single(j) + in_blue * single(k)
            r1 += i
            r2 += i * i
            g1 += j
            g2 += j * j
            b1 += k
            b2 += k * k
        for x in range(m):
            k = whole(value[hematoxylin + x] * dense)
            at[hematoxylin + x] = k if k < last else last
            k = whole(value[eosin + x] * dense)
            at[eosin + x] = k if k < last else last
            k = whole((value[residual + x] + lowest) * dense)
            k = k if k > none else none
            at[residual + x] = k if k < last else last
            k = whole(value[saturation + x] * share)
            at[saturation + x] = k if k < last else last
            k = whole(value[grey + x] * share)
            at[grey + x] = k if k < last else last
            strong = value[eosin + x] > single(EOSIN)
            pink += whole(value[eosin + x] > value[hematoxylin + x]) & whole(strong)
        for x in range(m):
            h, e = np.float64(value[hematoxylin + x]), np.float64(value[eosin + x])
            r = np.float64(value[residual + x])
            sh += h
            shh += h * h
            se += e
            see += e * e
            she += h * e
            sr += r
            srr += r * r
        for x in range(m):
            s, g = np.float64(value[saturation + x]), np.float64(value[grey + x])
            ss += s
            sss += s * s
            sl += g
            sll += g * g
        for x in range(m):
            stains[0, start + x] = value[hematoxylin + x]
        for x in range(m):
            stains[1, start + x] = value[eosin + x]
        for x in range(m):
            k = whole(value[hematoxylin + x] * single(LEVELS_A_UNIT))
            levels[start + x] = k if k < last_level else last_level
        for x in range(m):
            luminance[start + x] = whole(value[grey + x] * full + half)
        for x in range(m):
            bright = value[grey + x] > single(WHITE_LUMINANCE)
            white[start + x] = bright & (value[saturation + x] < single(WHITE_SATURATION))
        for x in range(m):
            for k in range(5):
                counts[k, at[(3 + k) * size + x]] += 1
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = sh, shh, se, see, sr, srr
    sums[6], sums[7], sums[8], sums[9] = ss, sss, sl, sll
    sums[10], sums[11] = r1 / 255.0, r2 / 65025.0
    sums[12], sums[13] = g1 / 255.0, g2 / 65025.0
    sums[14], sums[15] = b1 / 255.0, b2 / 65025.0
    sums[16], sums[17] = she, pink


@compile_kernel("void(int64[:,::1], float64[::1], float64[::1], float64[::1], float64[:,::1])")
def read_quantiles(counts, lowest, widest, levels, out):
    """Read quantiles from histograms, as if values were spread evenly within a bin.

    Parameters
    ----------
    counts : (n, n_bins) int64
    lowest, widest : (n,) float64
        Where each histogram begins and how far it reaches.
    levels : (k,) float64
        Ascending, above 0 and below 1.
    out : (n, k) float64, out
    """
    for i in range(len(counts)):
        total = counts[i].sum()
        reached, bin_at = 0, 0
        for k in range(len(levels)):
            wanted = levels[k] * total
            while reached + counts[i, bin_at] < wanted:
                reached += counts[i, bin_at]
                bin_at += 1
            inside = (wanted - reached) / counts[i, bin_at]
            out[i, k] = lowest[i] + (bin_at + inside) * widest[i] / counts.shape[1]


@compile_kernel("void(uint8[:,::1], int64, float64[:,::1])")
def count_pairs(levels, distance, matrix):
    """Count how often each two levels lie ``distance`` pixels apart, in four directions.

    The directions are 0, 45, 90 and 135 degrees; on a diagonal a step is one pixel along either
    axis, times the distance over the root of 2, rounded, as in scikit-image. A pair counts both
    ways.

    Parameters
    ----------
    levels : (h, w) uint8
        Below N_LEVELS.
    distance : int64
    matrix : (N_LEVELS, N_LEVELS) float64, out
        Frequencies: symmetric, with sum 1 (0 in a patch that is smaller than the distance).
    """
    height, width = levels.shape
    diagonal = np.int64(np.round(distance / np.sqrt(2.0)))
    # Two tables a direction, used in turn: neighbouring pixels often count the same pair, and the
    # second increment of an address would wait for the first.
    counts = np.zeros((8, N_LEVELS * N_LEVELS), dtype=np.int32)
    for y in range(height):
        row = levels[y]
        for x in range(width - distance):
            counts[0 + (x & 1), np.uint64(row[x]) * N_LEVELS + row[x + distance]] += 1
        if y + distance < height:
            below = levels[y + distance]
            for x in range(width):
                counts[2 + (x & 1), np.uint64(row[x]) * N_LEVELS + below[x]] += 1
        if y + diagonal < height:
            below = levels[y + diagonal]
            for x in range(width - diagonal):
                counts[4 + (x & 1), np.uint64(row[x]) * N_LEVELS + below[x + diagonal]] += 1
                counts[6 + (x & 1), np.uint64(row[x + diagonal]) * N_LEVELS + below[x]] += 1
    total = max(2 * counts.sum(), 1)
    for i in range(N_LEVELS):
        for j in range(N_LEVELS):
            both = 0
            for k in range(8):
                both += counts[k, i * N_LEVELS + j] + counts[k, j * N_LEVELS + i]
            matrix[i, j] = both / total


@compile_kernel("void(float64[:,::1], float64[::1])")
def describe_pairs(matrix, out):
    """Compute Haralick's contrast, correlation, energy, homogeneity and entropy (nats).

    Parameters
    ----------
    matrix : (n, n) float64
        Symmetric frequencies with sum 1.
    out : (5,) float64, out
        Where all pixels have one level, the correlation is 1.
    """
    n = len(matrix)
    mean = 0.0
    for i in range(n):
        for j in range(n):
            mean += i * matrix[i, j]
    variance, covariance, contrast, squares, homogeneity, entropy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        for j in range(n):
            p = matrix[i, j]
            if p == 0.0:
                continue
            apart = (i - j) * (i - j)
            contrast += p * apart
            homogeneity += p / (1.0 + apart)
            squares += p * p
            entropy -= p * np.log(p)
            variance += p * (i - mean) * (i - mean)
            covariance += p * (i - mean) * (j - mean)
    out[0] = contrast
    out[1] = covariance / variance if variance > 1e-15 else 1.0
    out[2] = np.sqrt(squares)
    out[3] = homogeneity
    out[4] = entropy


@compile_kernel("void(uint8[:,::1], uint8[::1], float64[::1])")
def count_patterns(image, pattern_of, out):
    """Count local binary patterns of eight neighbours on a circle of radius one pixel.

    Neighbours on the diagonals are interpolated between four pixels with whole-number weights, so
    that even patches are compared exactly. The outermost pixels have no full circle and are left
    out.

    Parameters
    ----------
    image : (h, w) uint8
    pattern_of : (256,) uint8
        Pattern of each set of neighbours that are at least as bright as the centre.
    out : (N_PATTERNS,) float64, out
        Share of the pixels with each pattern.
    """
    height, width = image.shape
    far, near = np.int32(724), np.int32(300)  # 1/sqrt(2) and the rest, in 1024ths
    corner, side = np.int32(far * far), np.int32(far * near)
    one = np.int32(1)
    bits = np.empty(width, dtype=np.int32)
    counts = np.zeros(256, dtype=np.int64)
    for y in range(1, height - 1):
        above, row, below = image[y - 1], image[y], image[y + 1]
        for x in range(1, width - 1):
            c = np.int32(row[x])
            n, s = np.int32(above[x]) - c, np.int32(below[x]) - c
            w, e = np.int32(row[x - 1]) - c, np.int32(row[x + 1]) - c
            ne, nw = np.int32(above[x + 1]) - c, np.int32(above[x - 1]) - c
            se, sw = np.int32(below[x + 1]) - c, np.int32(below[x - 1]) - c
            found = np.int32(e >= 0)
            found |= np.int32(corner * ne + side * (n + e) >= 0) * (one << 1)
            found |= np.int32(n >= 0) * (one << 2)
            found |= np.int32(corner * nw + side * (n + w) >= 0) * (one << 3)
            found |= np.int32(w >= 0) * (one << 4)
            found |= np.int32(corner * sw + side * (s + w) >= 0) * (one << 5)
            found |= np.int32(s >= 0) * (one << 6)
            found |= np.int32(corner * se + side * (s + e) >= 0) * (one << 7)
            bits[x] = found
        for x in range(1, width - 1):
            counts[bits[x]] += 1
    total = max((height - 2) * (width - 2), 1)
    out[:] = 0.0
    for k in range(256):
        out[pattern_of[k]] += counts[k] / total


@compile_kernel("void(uint8[:,::1], float64, float64[::1])", fastmath={"reassoc"})
def measure_edges(image, edge, out):
    """Measure Sobel gradients: mean, sd, share above ``edge``, and how far they share a direction.

    Parameters
    ----------
    image : (h, w) uint8
        Gradients are of image / 255 a pixel. The outermost pixels are left out.
    edge : float64
    out : (4,) float64, out
        The last is the coherence of the structure tensor: 0 where gradients have no common
        direction, 1 where all are parallel.
    """
    height, width = image.shape
    unit = 8.0 * 255.0
    wanted = (edge * unit) ** 2
    total, edges, xx, yy, xy = 0.0, 0, 0, 0, 0
    for y in range(1, height - 1):
        above, row, below = image[y - 1], image[y], image[y + 1]
        for x in range(1, width - 1):
            nw, ne = np.int32(above[x - 1]), np.int32(above[x + 1])
            sw, se = np.int32(below[x - 1]), np.int32(below[x + 1])
            right = ne - nw + se - sw + 2 * (np.int32(row[x + 1]) - np.int32(row[x - 1]))
            down = sw - nw + se - ne + 2 * (np.int32(below[x]) - np.int32(above[x]))
            square = np.float64(right * right + down * down)
            total += np.sqrt(square)
            edges += square > wanted
            xx += right * right
            yy += down * down
            xy += right * down
    inner = max((height - 2) * (width - 2), 1)
    out[0] = total / unit / inner
    out[1] = np.sqrt(max((xx + yy) / unit**2 / inner - out[0] * out[0], 0.0))
    out[2] = edges / inner
    whole = np.float64(xx + yy)
    apart = np.float64(xx - yy)
    out[3] = np.sqrt(apart * apart + 4.0 * np.float64(xy) ** 2) / whole if whole > 0.0 else 0.0
