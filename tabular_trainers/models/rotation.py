"""The coordinates in which a ridge Cox regression is solved: standardised, or rotated if wide."""

from dataclasses import dataclass

import numpy as np

from tabular_trainers.kernels import compile_kernel

CHUNK = 256  # columns turned to float64 at a time


@dataclass(frozen=True)
class Design:
    """A matrix in the coordinates that are solved in, and the way back; shared by inner folds.

    With more penalised columns than patients the penalised ones are rotated to at most as many
    dimensions as there are patients, which loses nothing: a ridge solution is a combination of the
    patients' rows. Otherwise columns are standardised, and their penalties with them.

    Attributes
    ----------
    matrix : array of shape (n, q)
        Float32 where the columns were and are not rotated, else float64.
    penalty_factor : array of shape (q,)
    centre : array of shape (p,)
        Column means.
    """

    matrix: np.ndarray
    penalty_factor: np.ndarray
    centre: np.ndarray
    scale: np.ndarray  # (p,): a column is scale times its standardised one
    kept: np.ndarray  # columns that are only standardised
    rotated: np.ndarray  # columns that are rotated
    rows: np.ndarray | None = None  # (r, n rotated): the patients that span them
    triangle: np.ndarray | None = None  # (r, r): rows = triangle @ orthonormal

    def coefficients(self, b):
        """Give coefficients of the columns, (p, k), for those of the matrix, (q, k)."""
        from scipy.linalg import solve_triangular

        out = np.zeros((len(self.centre), b.shape[1]))
        out[self.kept] = b[: len(self.kept)]
        if self.rows is not None:
            turned = solve_triangular(self.triangle, b[len(self.kept) :], lower=True, trans="T")
            out[self.rotated] = self.rows.T @ turned
        return out / self.scale[:, None]

    def start(self, coef):
        """Give the coefficients of the matrix, (q, k), for those of the columns, (p, k)."""
        from scipy.linalg import solve_triangular

        scaled = np.where(self.scale[:, None] < np.inf, coef * self.scale[:, None], 0.0)
        if self.rows is None:
            return scaled
        turned = solve_triangular(self.triangle, self.rows @ scaled[self.rotated], lower=True)
        return np.vstack([scaled[self.kept], turned])


def make_design(X, penalty_factor=None):
    """Standardise the columns of X, or rotate them where there are more than patients.

    Parameters
    ----------
    X : array of shape (n, p)
        Float32 or float64, finite.
    penalty_factor : array of shape (p,), optional
        Relative penalties, at least 0; 0 leaves a column unpenalised. Default: 1.

    Returns
    -------
    Design
    """
    X = np.ascontiguousarray(X, dtype=np.float32 if X.dtype == np.float32 else np.float64)
    n, p = X.shape
    factor = np.ones(p) if penalty_factor is None else np.asarray(penalty_factor, np.float64)
    centre, spread = _centre_and_spread(X)
    rotated = np.flatnonzero(factor > 0)
    if len(rotated) <= n:
        relative = np.minimum(factor / spread / spread, 1e250)  # so penalties stay finite
        relative[spread == np.inf] = 1.0  # and the coefficient of a constant column is 0
        matrix = np.empty_like(X)
        _standardise(X, centre, spread, matrix)
        return Design(matrix, relative, centre, spread, np.arange(p), np.arange(0))
    kept = np.flatnonzero(factor == 0)
    # Penalties alike for all columns and entries of order one: x_j / sqrt(factor_j), over the most.
    varies = spread[rotated] < np.inf
    unit = np.sqrt(factor[rotated])
    largest = float((spread[rotated] / unit)[varies].max(initial=0.0)) or 1.0
    scale = spread.copy()
    scale[rotated] = np.where(varies, unit * largest, np.inf)
    scaled = np.empty((n, len(rotated)))
    for columns in column_chunks(len(rotated)):
        j = rotated[columns]
        scaled[:, columns] = (X[:, j] - centre[j]) / scale[j]
    turned, triangle, pivots = _turn(scaled)
    matrix = np.hstack([(X[:, kept] - centre[kept]) / scale[kept], turned])
    relative = np.zeros(matrix.shape[1])
    relative[len(kept) :] = 1.0 / largest**2
    return Design(matrix, relative, centre, scale, kept, rotated, scaled[pivots], triangle)


def column_chunks(p):
    """Slices of at most ``CHUNK`` columns."""
    return [slice(at, min(at + CHUNK, p)) for at in range(0, p, CHUNK)]


def _centre_and_spread(X):
    """Means and standard deviations of the columns; infinite for one that does not vary."""
    sums, low, high = np.zeros((3, X.shape[1]))
    _sums_and_ranges(X, sums, low, high)
    centre = np.clip(X[0] + sums / len(X), low, high)
    reach = np.maximum(high - centre, centre - low)
    varies = reach > 16 * np.finfo(X.dtype).eps * np.maximum(np.abs(low), np.abs(high))
    reach = np.where(varies, reach, 1.0)
    squares = np.zeros(X.shape[1])
    _squares(X, centre, reach, squares)
    return centre, np.where(varies, reach * np.sqrt(squares / len(X)), np.inf)


@compile_kernel(
    "void(float32[:,::1], float64[::1], float64[::1], float64[::1])",
    "void(float64[:,::1], float64[::1], float64[::1], float64[::1])",
)
def _sums_and_ranges(X, sums, low, high):
    """Sum the columns relative to their first value, and find their least and largest value."""
    origin = X[0].astype(np.float64)
    low[:], high[:] = origin, origin
    for i in range(X.shape[0]):
        row = X[i]
        for j in range(X.shape[1]):
            value = np.float64(row[j])
            sums[j] += value - origin[j]
            low[j], high[j] = min(low[j], value), max(high[j], value)


@compile_kernel(
    "void(float32[:,::1], float64[::1], float64[::1], float64[::1])",
    "void(float64[:,::1], float64[::1], float64[::1], float64[::1])",
)
def _squares(X, centre, reach, squares):
    """Sum the squares of each column over that of its reach: finite for columns of any scale."""
    for i in range(X.shape[0]):
        row = X[i]
        for j in range(X.shape[1]):
            part = (np.float64(row[j]) - centre[j]) / reach[j]
            squares[j] += part * part


@compile_kernel(
    "void(float32[:,::1], float64[::1], float64[::1], float32[:,::1])",
    "void(float64[:,::1], float64[::1], float64[::1], float64[:,::1])",
)
def _standardise(X, centre, scale, out):
    for i in range(X.shape[0]):
        row, to = X[i], out[i]
        for j in range(X.shape[1]):
            to[j] = (np.float64(row[j]) - centre[j]) / scale[j]


def _turn(scaled):
    """Give matrix (n, r) and triangle (r, r): scaled = matrix Q', scaled[pivots] = triangle Q'.

    By the Cholesky factor of the patients' inner products, largest pivot first, so that it stops
    at their rank.
    """
    from scipy.linalg.lapack import dpstrf

    n = len(scaled)
    factor, pivots, rank, _ = dpstrf(scaled @ scaled.T, lower=1)
    factor, pivots = np.tril(factor)[:, :rank], pivots - 1
    matrix = np.empty((n, rank))
    matrix[pivots] = factor
    return matrix, factor[:rank], pivots[:rank]
