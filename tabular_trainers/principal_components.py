"""Principal axes of a block, decomposed once for all that ask for them in a process."""

import hashlib
import threading

import numpy as np

MOST_COMPONENTS = 64  # that tuning asks for; so many are decomposed, whoever asks for fewer
KEPT_AXES = 32  # decompositions: the inner and outer training parts of five folds, and of all


def principal_axes(z, wanted, scale):
    """Compute the loadings of the first components of standardised columns.

    Parameters
    ----------
    z : array of shape (n_patients, n_columns)
    wanted : int
        Components, at most; fewer where the columns span fewer.
    scale : bool
        Divide all by one factor, so that the first component has unit variance.

    Returns
    -------
    array of shape (n_columns, k)
    """
    axes, first = _known_axes(z, max(wanted, MOST_COMPONENTS))
    axes = axes[:, :wanted]
    return np.ascontiguousarray(axes / np.sqrt(first / len(z)) if scale else axes)


def _known_axes(z, wanted):
    """Decompose a block once: models and feature sets of a fold ask for the same components."""
    key = (hashlib.sha256(np.ascontiguousarray(z)).digest(), z.shape, wanted)
    found = _AXES.get(key)
    if found is None:
        found = _decompose(z, wanted)
        with _AXES_LOCK:
            _AXES[key] = found
            while len(_AXES) > KEPT_AXES:
                del _AXES[next(iter(_AXES))]
    return found


_AXES, _AXES_LOCK = {}, threading.Lock()


def _decompose(z, wanted):
    """Give the leading axes (n_columns, k), of unit length, and the largest eigenvalue.

    Decomposes whichever of the two cross products is smaller; signs are fixed by the largest
    loading, so that the same data give the same components.
    """
    from scipy.linalg import eigh

    n, p = z.shape
    gram = z @ z.T if n < p else z.T @ z
    k = min(wanted, max(n - 1, 1), p)
    values, vectors = eigh(gram, subset_by_index=[len(gram) - k, len(gram) - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    k = max(1, int((values > values[0] * 1e-10).sum()))
    values, vectors = values[:k], vectors[:, :k]
    axes = z.T @ vectors / np.sqrt(values) if n < p else vectors
    largest = np.abs(axes).argmax(axis=0)
    axes = np.ascontiguousarray(axes * np.where(axes[largest, np.arange(k)] < 0, -1.0, 1.0))
    axes.setflags(write=False)  # several models hold it
    return axes, values[0]
