"""Which columns a forest uses, and which it would miss."""

import numpy as np

from tabular_trainers.metrics import harrell_c


def split_importances(forest, n_columns):
    """Share of each column in the sum of the splits' statistics.

    Parameters
    ----------
    forest : Forest
    n_columns : int

    Returns
    -------
    array of shape (n_columns,)
        Sums to 1; all 0 when no tree has a split.
    """
    gain = np.bincount(forest.feature, weights=forest.gain, minlength=n_columns)
    return gain / max(gain.sum(), np.finfo(float).tiny)


def permutation_importance(forest, value, X, y, n_repeats, random_state):
    """Loss of Harrell's C when the values of a column are shuffled among the patients.

    Only the trees that look at a column are walked again, so that thousands of columns cost little.

    Parameters
    ----------
    forest : Forest
    value : array of shape (n_nodes,)
        Risk of a leaf.
    X : array of shape (n, p)
    y : structured array with fields event and time, shape (n,)
    n_repeats : int
    random_state : int

    Returns
    -------
    array of shape (p, n_repeats)

    References
    ----------
    Breiman, L. (2001). Random forests. Machine Learning 45.
    """
    X = np.array(X, dtype=np.float32)  # a copy: columns are shuffled in place
    rng = np.random.default_rng(random_state)
    shuffles = [rng.permutation(len(X)) for _ in range(n_repeats)]
    own = value[forest.leaves(X)]
    total = own.sum(axis=1)
    reference = harrell_c(y, total)
    split = forest.left != np.arange(len(forest.left))
    tree = np.repeat(np.arange(len(forest.roots)), np.diff([*forest.roots, len(forest.left)]))
    loss = np.zeros((X.shape[1], n_repeats))
    for j in np.unique(forest.feature[split]):
        users = np.unique(tree[split & (forest.feature == j)])
        part = forest.only(users)
        column = X[:, j].copy()
        for repeat, shuffle in enumerate(shuffles):
            X[:, j] = column[shuffle]
            moved = value[part.leaves(X)].sum(axis=1) - own[:, users].sum(axis=1)
            loss[j, repeat] = reference - harrell_c(y, total + moved)
        X[:, j] = column
    return loss
