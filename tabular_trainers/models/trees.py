"""A forest as plain arrays: walk patients down to leaves, and explain a sum of leaf values exactly.

Whatever library grew the trees, only these arrays are kept, so that a saved model holds numbers and
no foreign class.
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


def flatten(trees):
    """Join scikit-learn trees (``tree_`` objects) to a `Forest`."""
    counts = [tree.node_count for tree in trees]
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)

    def joined(parts, kind):
        return np.concatenate([np.asarray(part, dtype=kind) for part in parts])

    own = np.arange(sum(counts))
    left, right = (
        joined([side(t) + o for t, o in zip(trees, offsets, strict=True)], np.int64)
        for side in (lambda t: t.children_left, lambda t: t.children_right)
    )
    leaf = joined([t.children_left == -1 for t in trees], bool)
    return Forest(
        roots=offsets,
        left=np.where(leaf, own, left),
        right=np.where(leaf, own, right),
        feature=np.where(leaf, 0, joined([t.feature for t in trees], np.int64)),
        threshold=joined([t.threshold for t in trees], np.float64),
        weight=joined([t.weighted_n_node_samples for t in trees], np.float64),
        depth=max(int(t.max_depth) for t in trees),
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
