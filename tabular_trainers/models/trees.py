"""A forest as plain arrays: walk patients down to leaves.

A fitted forest is these arrays only, so that a saved model holds numbers and no foreign class.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from tabular_trainers.kernels import compile_kernel

_ROWS_AT_ONCE = 4096  # bounds the table of leaves for a large cohort


@dataclass(frozen=True)
class Forest:
    """Nodes of all trees, one after the other.

    Attributes
    ----------
    roots : int array of shape (n_trees,)
    left, right : int arrays of shape (n_nodes,)
        Children; a leaf points to itself.
    feature : int array of shape (n_nodes,)
        Column to look at; 0 at a leaf.
    threshold : float32 array of shape (n_nodes,)
        A patient goes left when the value, as float32, is at most this.
    missing_left : bool array of shape (n_nodes,)
        Whether a patient without the value goes left: as the split learned it, or with the
        majority where no training patient lacked it.
    weight : float array of shape (n_nodes,)
        Training patients in the node.
    gain : float32 array of shape (n_nodes,)
        Log-rank statistic of the split; 0 at a leaf.
    depth : int
        Splits from a root to the deepest leaf.
    """

    roots: np.ndarray
    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    weight: np.ndarray
    gain: np.ndarray
    depth: int

    def leaves(self, X):
        """Node in which each patient ends, of shape (n, n_trees)."""
        X = np.ascontiguousarray(X, dtype=np.float32)
        found = np.empty((len(X), len(self.roots)), dtype=np.int32)
        arrays = (self.roots, self.left, self.right, self.feature, self.threshold)
        _walk(X, *arrays, self.missing_left, found)
        return found

    def only(self, trees):
        """Give the forest of some of its trees."""
        return replace(self, roots=self.roots[trees])

    def mean_value(self, X, value):
        """Mean over trees of the value of the leaf each patient ends in.

        Parameters
        ----------
        X : array of shape (n, p)
        value : array of shape (n_nodes,) or (n_nodes, k)

        Returns
        -------
        array of shape (n,) or (n, k)
        """
        mean = np.zeros((len(X), *value.shape[1:]))
        for start in range(0, len(X), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            leaves = self.leaves(X[rows])
            for tree in range(leaves.shape[1]):  # one at a time: n x k numbers, not n x trees x k
                mean[rows] += value[leaves[:, tree]]
        return mean / len(self.roots)


@compile_kernel(
    "void(float32[:,::1], int32[::1], int32[::1], int32[::1], int32[::1], float32[::1],"
    " boolean[::1], int32[:,::1])"
)
def _walk(X, roots, left, right, feature, threshold, missing_left, found):
    for i in range(X.shape[0]):
        for tree in range(len(roots)):
            node = roots[tree]
            while left[node] != node:
                value = X[i, feature[node]]
                goes_left = missing_left[node] if np.isnan(value) else value <= threshold[node]
                node = left[node] if goes_left else right[node]
            found[i, tree] = node


class HoldsForest:
    """Keep a forest as separate arrays, which is what a saved model may hold."""

    def _keep(self, forest):
        for field in fields(Forest):
            setattr(self, f"{field.name}_", getattr(forest, field.name))
        leaf = forest.left == np.arange(len(forest.left))
        self.leaf_number_ = np.where(leaf, np.cumsum(leaf) - 1, 0).astype(np.int32)

    @property
    def forest_(self):
        """The trees as arrays."""
        return Forest(**{field.name: getattr(self, f"{field.name}_") for field in fields(Forest)})
