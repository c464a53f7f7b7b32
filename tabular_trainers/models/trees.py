"""A forest as plain arrays: walk patients down to leaves, and explain a sum of leaf values exactly.

A fitted forest is these arrays only, so that a saved model holds numbers and no foreign class.
"""

from dataclasses import dataclass

import numpy as np

ROWS_AT_ONCE = 4096  # keeps the walk's index arrays in cache for large tables


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
    threshold : float array of shape (n_nodes,)
        A patient goes left when the value, as float32, is at most this.
    weight : float array of shape (n_nodes,)
        Training patients in the node.
    depth : int
        Steps that bring every patient to a leaf.
    """

    roots: np.ndarray
    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    weight: np.ndarray
    depth: int

    def leaves(self, X):
        """Node in which each patient ends, of shape (n, n_trees)."""
        X = np.ascontiguousarray(X, dtype=np.float32)
        found = np.empty((len(X), len(self.roots)), dtype=np.int64)
        for start in range(0, len(X), ROWS_AT_ONCE):
            rows = X[start : start + ROWS_AT_ONCE]
            here = np.arange(len(rows))[:, None]
            node = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
            for _ in range(self.depth):
                goes_left = rows[here, self.feature[node]] <= self.threshold[node]
                node = np.where(goes_left, self.left[node], self.right[node])
            found[start : start + ROWS_AT_ONCE] = node
        return found

    def mean_value(self, X, value):
        """Mean over trees of the value of the leaf each patient ends in, of shape (n,)."""
        return value[self.leaves(X)].mean(axis=1)


class HoldsForest:
    """Keep a forest as separate arrays, which is what a saved model may hold."""

    def _keep(self, forest):
        self.roots_, self.left_, self.right_ = forest.roots, forest.left, forest.right
        self.feature_, self.threshold_ = forest.feature, forest.threshold
        self.weight_, self.depth_ = forest.weight, forest.depth
        leaf = forest.left == np.arange(len(forest.left))
        self.leaf_number_ = np.where(leaf, np.cumsum(leaf) - 1, 0)

    @property
    def forest_(self):
        """The trees as arrays."""
        return Forest(
            self.roots_,
            self.left_,
            self.right_,
            self.feature_,
            self.threshold_,
            self.weight_,
            self.depth_,
        )


def explain(forest, value, X):
    """Shapley values of the mean leaf value, following the training patients at unknown splits.

    Parameters
    ----------
    forest : Forest
    value : array of shape (n_nodes,)
        Value of a leaf; ignored at other nodes.
    X : array of shape (n, q)

    Returns
    -------
    base : float
        Mean over the training patients.
    contributions : array of shape (n, q)
        ``base + contributions.sum(axis=1)`` is ``forest.mean_value(X, value)``.

    References
    ----------
    Lundberg, S. et al. (2020). From local explanations to global understanding with explainable AI
    for trees. Nature Machine Intelligence 2.
    """
    import shap

    n_trees = len(forest.roots)
    ends = np.append(forest.roots[1:], len(forest.left))
    trees, base = [], 0.0
    for start, end in zip(forest.roots, ends, strict=True):
        nodes = np.arange(start, end)
        leaf = forest.left[nodes] == nodes
        weight = forest.weight[nodes]
        base += float(weight[leaf] @ value[nodes][leaf]) / weight[0] / n_trees
        trees.append(
            {
                "children_left": np.where(leaf, -1, forest.left[nodes] - start),
                "children_right": np.where(leaf, -1, forest.right[nodes] - start),
                "children_default": np.where(leaf, -1, forest.left[nodes] - start),
                "features": np.where(leaf, -2, forest.feature[nodes]),
                "thresholds": forest.threshold[nodes],
                "values": np.where(leaf, value[nodes], 0.0)[:, None] / n_trees,
                "node_sample_weight": weight,
            }
        )
    explainer = shap.TreeExplainer(
        {"trees": trees, "internal_dtype": np.float64, "input_dtype": np.float32}
    )
    X = np.ascontiguousarray(X, dtype=np.float32)
    contributions = explainer.shap_values(X, check_additivity=False)
    return base, np.asarray(contributions, dtype=np.float64).reshape(X.shape)
