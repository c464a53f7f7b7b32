"""The coordinates in which a ridge Cox regression is solved: standardised, or rotated if wide."""

from dataclasses import dataclass

import numpy as np

CHUNK = 256  # columns turned to float64 at a time
ROWS = 256  # rows turned to float64 at a time, few enough to stay in the cache


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

        scaled = coef * np.where(self.scale < np.inf, self.scale, 0.0)[:, None]
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
        for rows in _row_blocks(X):
            matrix[rows] = (X[rows] - centre) / spread
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
    sums, squares = np.zeros((2, X.shape[1]))
    for rows in _row_blocks(X):
        sums += (X[rows] - X[0]).sum(axis=0, dtype=np.float64)  # a constant column: exactly 0
    centre = X[0] + sums / len(X)
    for rows in _row_blocks(X):
        part = X[rows] - centre
        squares += np.einsum("ij,ij->j", part, part)
    spread = np.sqrt(squares / len(X))
    varies = spread > 16 * np.finfo(X.dtype).eps * np.abs(centre)
    return centre, np.where(varies, spread, np.inf)


def _row_blocks(X):
    return [slice(at, at + ROWS) for at in range(0, len(X), ROWS)]


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
