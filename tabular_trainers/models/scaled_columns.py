"""A matrix made ready for repeated passes over its columns."""

import numpy as np

from tabular_trainers.errors import DataError
from tabular_trainers.kernels import compile_kernel


class ScaledColumns:
    """The columns of a matrix as contiguous rows with mean 0 and standard deviation 1.

    Made once, it serves any number of paths on the same patients, such as those of inner folds
    (patients of another fold have weight 0). Float32 stays float32, anything else is float64.

    Parameters
    ----------
    X : array of shape (n, p)

    Attributes
    ----------
    rows : array of shape (p, n)
        A constant column is a row of zeros.
    scale : array of shape (p,)
        Standard deviations, 1 for a constant column.

    Raises
    ------
    DataError
        When a value is missing or infinite.
    """

    def __init__(self, X):
        X = np.asarray(X)
        dtype = np.float32 if X.dtype == np.float32 else np.float64
        self.rows = np.array(X.T, dtype=dtype, order="C")  # always a copy: scaled in place
        self.scale = np.empty(len(self.rows))
        _standardise(self.rows, self.scale)
        bad = int((~np.isfinite(self.scale)).sum())
        if bad:
            raise DataError(
                f"X: {bad} of {len(self.rows)} columns hold missing or infinite values."
            )


@compile_kernel(
    "void(float32[:,::1], float64[::1])",
    "void(float64[:,::1], float64[::1])",
    fastmath={"reassoc", "contract"},
)
def _standardise(rows, scale):
    """Subtract the mean of each row and divide by its standard deviation, in place."""
    n = rows.shape[1]
    for j in range(rows.shape[0]):
        row = rows[j]
        origin = np.float64(row[0])  # a constant column becomes exact zeros
        total = 0.0
        for i in range(n):
            total += np.float64(row[i]) - origin
        centre = origin + total / n
        square = 0.0
        for i in range(n):
            part = np.float64(row[i]) - centre
            square += part * part
        scale[j] = np.sqrt(square / n) if square != 0.0 else 1.0
        inverse = 1.0 / scale[j]
        for i in range(n):
            row[i] = (np.float64(row[i]) - centre) * inverse
