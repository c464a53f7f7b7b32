"""What one row says of many patches: mean, standard deviation, quantiles, largest value.

A pooling takes the patches in blocks, in the order of the file. Sums run over rows in that order in
float64, so how the rows are cut into blocks does not change one bit of the result.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from tabular_trainers.kernels import compile_kernel

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_HALVES = []  # the float32 of each of the 65,536 float16, made when first needed


class Mean:
    """The mean of each column; rows are summed in float64.

    Parameters
    ----------
    dim : int
        Columns.
    """

    suffixes = ("",)

    def __init__(self, dim):
        self.n = 0
        self.sums = np.zeros(dim)

    def add(self, values):
        """Add rows: float32 or float64 of shape (n, dim)."""
        _add_sums(values, self.sums)
        self.n += len(values)

    def result(self):
        """Return the statistics, those of one suffix after the other: (n_suffixes * dim,)."""
        return self.sums / self.n


class MeanStd(Mean):
    """The mean, and the standard deviation around it (divided by n), of each column.

    Squares are updated row by row, so that nothing cancels where a mean is far from zero.

    References
    ----------
    Youngs & Cramer, Technometrics 1971;13:657; see Chan, Golub & LeVeque, The American Statistician
    1983;37:242.
    """

    suffixes = ("", "_std")

    def __init__(self, dim):
        super().__init__(dim)
        self.squares = np.zeros(dim)

    def add(self, values):
        """Add rows: float32 or float64 of shape (n, dim)."""
        _add_squares(values, self.sums, self.squares, self.n)
        self.n += len(values)

    def result(self):
        """Return the statistics, those of one suffix after the other: (n_suffixes * dim,)."""
        return np.concatenate([self.sums / self.n, np.sqrt(self.squares / self.n)])


class Max:
    """The largest value of each column.

    Parameters
    ----------
    dim : int
        Columns.
    """

    suffixes = ("_max",)

    def __init__(self, dim):
        self.n = 0
        self.largest = np.full(dim, -np.inf)

    def add(self, values):
        """Add rows: float32 or float64 of shape (n, dim)."""
        if len(values):
            np.maximum(self.largest, values.max(axis=0), out=self.largest)
        self.n += len(values)

    def result(self):
        """Return the statistics, those of one suffix after the other: (n_suffixes * dim,)."""
        return self.largest


class Quantiles:
    """The quantiles 0.1, 0.25, 0.5, 0.75 and 0.9 of each column, exact: all rows are kept.

    Between two values they are interpolated linearly, as `numpy.quantile` does. Memory: twice the
    rows, so 100,000 patches of 1,024 float32 take 0.8 GB.

    Parameters
    ----------
    dim : int
        Columns.
    """

    suffixes = tuple(f"_q{round(100 * q)}" for q in QUANTILES)

    def __init__(self, dim):
        self.n = 0
        self.blocks = []

    def add(self, values):
        """Add rows: float32 or float64 of shape (n, dim)."""
        self.blocks.append(np.array(values))
        self.n += len(values)

    def result(self):
        """Return the statistics, those of one suffix after the other: (n_suffixes * dim,)."""
        rows = np.concatenate(self.blocks)
        self.blocks = []
        # A column's values side by side: sorting them then takes half the time.
        columns = np.ascontiguousarray(rows.T)
        del rows
        columns.sort(axis=1)
        found = []
        for q in QUANTILES:
            place = q * (self.n - 1)
            low = int(place)
            high = min(low + 1, self.n - 1)
            first, second = (columns[:, i].astype("float64") for i in (low, high))
            found.append(first + (place - low) * (second - first))
        return np.concatenate(found)


HOW: Mapping[str, type] = MappingProxyType(
    {"mean": Mean, "mean+std": MeanStd, "quantiles": Quantiles, "max": Max}
)


def as_float(values):
    """Turn float16 into float32 without loss; give float32 and float64 as they are.

    Parameters
    ----------
    values : ndarray of float16, float32 or float64, shape (n, dim), C-contiguous

    Returns
    -------
    ndarray
        Of float32 or float64, the same shape.
    """
    if values.dtype != np.float16:
        return values
    if not _HALVES:
        # NumPy's own cast takes three times as long as looking each up.
        _HALVES.append(np.arange(1 << 16, dtype="uint16").view("float16").astype("float32"))
    wide = np.empty(values.shape, dtype="float32")
    _look_up(values.view("uint16").ravel(), _HALVES[0], wide.ravel())
    return wide


_ROWS = "Array({}, 2, 'C', readonly=True)"


@compile_kernel(*(f"void({_ROWS.format(kind)}, float64[::1])" for kind in ("float32", "float64")))
def _add_sums(values, sums):
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            sums[j] += values[i, j]


@compile_kernel(
    *(
        f"void({_ROWS.format(kind)}, float64[::1], float64[::1], int64)"
        for kind in ("float32", "float64")
    )
)
def _add_squares(values, sums, squares, n):
    """Add rows to the sums, and to the sums of squares around the mean, of n rows before."""
    for i in range(values.shape[0]):
        n += 1
        weight = 1.0 / (float(n) * (n - 1)) if n > 1 else 0.0
        for j in range(values.shape[1]):
            value = np.float64(values[i, j])
            sums[j] += value
            gap = n * value - sums[j]
            squares[j] += gap * gap * weight


@compile_kernel("void(Array(uint16, 1, 'C', readonly=True), float32[::1], float32[::1])")
def _look_up(halves, table, wide):
    for i in range(halves.size):
        wide[i] = table[halves[i]]
