"""Shapley values of a forest: each tree's share of every column in a patient's leaf value, exact.

A leaf's value counts for a coalition of columns as a product over the columns on its path: 1 or 0
where the column is known, as the patient goes its way or not, and otherwise the share of the
training patients who do. Of such a game the Shapley value is an integral over t from 0 to 1 (Owen
1972): with ``o`` for the 1 or 0 of a column and ``z`` for its share, column i of a leaf gets

    value (o_i - z_i) * integral of the product over j != i of (t o_j + (1 - t) z_j)

The integrand is a polynomial, so that Gauss-Legendre quadrature with half as many points as columns
on the path gives it exactly, and without the differences of large numbers that inverting a system
of weights has. Sums over leaves are made on the way up: a node costs each patient a few
multiplications a point, where TreeSHAP spends depth squared a leaf.
"""

import numpy as np

from tabular_trainers.kernels import compile_kernel

_LANES = 64  # patients side by side, so that the compiler uses vectors: 2.8 s, with 16 of them 5.9
_LEAST_SHARE = 1e-12  # of a node that no training patient is in


def explain(forest, value, X, background=None):
    """Shapley values of the mean leaf value, exact for each tree.

    Two questions can be asked of an unknown column. Path-dependent (no background): follow both
    sides of its splits, weighted by the training patients of the node; interventional: put in the
    values of the background patients, one after the other, and average.

    Parameters
    ----------
    forest : Forest
    value : array of shape (n_nodes,) or (n_nodes, k)
        Value of a leaf; ignored at other nodes.
    X : array of shape (n, q)
    background : array of shape (m, q), optional
        Cost grows in proportion to m.

    Returns
    -------
    base : float or array of shape (k,)
        Mean over the training patients, or over the background.
    contributions : array of shape (n, q) or (n, q, k)
        ``base + contributions.sum(axis=1)`` is ``forest.mean_value(X, value)``.

    References
    ----------
    Lundberg, S. et al. (2020). From local explanations to global understanding with explainable AI
    for trees. Nature Machine Intelligence 2.
    Janzing, D. et al. (2020). Feature relevance quantification in explainable AI: a causal problem.
    AISTATS.
    Owen, G. (1972). Multilinear extensions of games. Management Science 18(5).
    """
    X = np.ascontiguousarray(X, dtype=np.float32)
    value = np.asarray(value, dtype=np.float64)
    values = value.reshape(len(value), -1)
    given = _path_dependent if background is None else _interventional
    base, contributions = given(forest, values, X, background)
    if value.ndim == 1:
        return float(base[0]), contributions[:, :, 0]
    return base, contributions


def _path_dependent(forest, values, X, _):
    n, p = X.shape
    leaf = forest.left == np.arange(len(forest.left))
    sizes = np.diff(np.append(forest.roots, len(forest.left)))
    of_all = np.repeat(forest.weight[forest.roots], sizes)[leaf]
    base = (forest.weight[leaf] / of_all) @ values[leaf] / len(forest.roots)
    rows = np.zeros((p, -(-n // _LANES) * _LANES), dtype=np.float32)
    rows[:, :n] = X.T
    arrays = (forest.roots, forest.left, forest.right, forest.feature, forest.threshold)
    weight = np.asarray(forest.weight, dtype=np.float64)
    depth = int(forest.depth)
    rules = _rules(min(depth, p)) / np.array([1.0, len(forest.roots)])[:, None, None]
    contributions = np.empty((n, p, values.shape[1]))
    for k in range(values.shape[1]):
        found = np.zeros(rows.shape)
        own = np.ascontiguousarray(values[:, k])
        _add_shapley(rows, *arrays, forest.missing_left, weight, own, depth, rules, found)
        contributions[:, :, k] = found[:, :n].T
    return base, contributions


def _rules(most_columns):
    """Give points and weights on 0 to 1 by their number, enough of them for so many columns."""
    most = max(1, -(-most_columns // 2))
    rules = np.zeros((2, most + 1, most))
    for number in range(1, most + 1):
        points, weights = np.polynomial.legendre.leggauss(number)
        rules[0, number, :number] = (points + 1) / 2
        rules[1, number, :number] = weights / 2
    return rules


def _factors(position, n_points, points, share, previous_share, table):
    """Fill in what a node multiplies with, for each point and for o = 0 and 1."""
    for q in range(n_points):
        t = points[q]
        out, known = (1.0 - t) * share, (1.0 - t) * share + t
        table[position, q, 0] = out
        table[position, q, 1] = known
        table[position, q, 2] = 1.0 / out
        table[position, q, 3] = 1.0 / known
        if previous_share >= 0:  # the column was looked at above: what it gave there is taken out
            before, was_known = (1.0 - t) * previous_share, (1.0 - t) * previous_share + t
            table[position, q, 4] = out / before
            table[position, q, 5] = out / was_known
            table[position, q, 6] = known / was_known


def _descend(own, above, n_points, factors, going, before, repeats):
    """Multiply the products of the node above with what this one adds."""
    for q in range(n_points):
        if repeats:
            never, lost, still = factors[q, 4], factors[q, 5], factors[q, 6]
            for s in range(_LANES):
                own[q, s] = above[q, s] * (
                    never + before[s] * (lost - never) + going[s] * (still - lost)
                )
        else:
            out, known = factors[q, 0], factors[q, 1]
            for s in range(_LANES):
                own[q, s] = above[q, s] * (known if going[s] > 0.5 else out)


def _divided_sum(sums, n_points, factors, going, total):
    """Sum over the points what is below a node without the node's own column."""
    for s in range(_LANES):
        total[s] = 0.0
    for q in range(n_points):
        out, known = factors[q, 2], factors[q, 3]
        for s in range(_LANES):
            total[s] += sums[q, s] * (known if going[s] > 0.5 else out)


def _order(root, left, right, feature, weight, nodes, levels, previous, shares):
    """List a tree's nodes, each before what is below it, with what their path says of them.

    ``previous`` is the level at which the same column was last decided above a node, 0 for none.
    Returns how many nodes there are, and how many columns the path with the most of them has.
    """
    path = np.zeros(len(nodes) + 1, dtype=np.int64)  # position of the node of each level
    waiting = np.empty(len(nodes) + 1, dtype=np.int64)
    level_of = np.empty(len(nodes) + 1, dtype=np.int64)
    columns = np.zeros(len(nodes) + 1, dtype=np.int64)  # on the path to the node of each level
    waiting[0], level_of[0], n_waiting, n, most = root, 0, 1, 0, 0
    while n_waiting > 0:
        n_waiting -= 1
        node, level = waiting[n_waiting], level_of[n_waiting]
        nodes[n], levels[n], previous[n], shares[n] = node, level, 0, 1.0
        path[level] = n
        if level > 0:
            above = nodes[path[level - 1]]
            shares[n] = max(weight[node] / weight[above], _LEAST_SHARE)
            for higher in range(level - 1, 0, -1):
                if feature[nodes[path[higher - 1]]] == feature[above]:
                    previous[n] = higher
                    shares[n] *= shares[path[higher]]
                    break
            columns[level] = columns[level - 1] + (1 if previous[n] == 0 else 0)
            most = max(most, columns[level])
        if left[node] != node:
            waiting[n_waiting], level_of[n_waiting] = right[node], level + 1
            waiting[n_waiting + 1], level_of[n_waiting + 1] = left[node], level + 1
            n_waiting += 2
        n += 1
    return n, most


@compile_kernel(
    "void(float32[:,::1], int32[::1], int32[::1], int32[::1], int32[::1], float32[::1],"
    " boolean[::1], float64[::1], float64[::1], int64, float64[:,:,::1], float64[:,::1])",
    fastmath={"reassoc", "contract"},
    helpers=(_factors, _descend, _divided_sum, _order),
)
def _add_shapley(
    rows,
    roots,
    left,
    right,
    feature,
    threshold,
    missing_left,
    weight,
    value,
    depth,
    rules,
    found,
):
    most_points = rules.shape[2]
    largest = 0
    for tree in range(len(roots)):
        end = roots[tree + 1] if tree + 1 < len(roots) else len(left)
        largest = max(largest, end - roots[tree])
    nodes, levels = np.empty(largest, dtype=np.int64), np.empty(largest, dtype=np.int64)
    previous, shares = np.empty(largest, dtype=np.int64), np.empty(largest)
    factors = np.empty((largest, most_points, 7))
    path = np.zeros(depth + 1, dtype=np.int64)
    products = np.ones((depth + 1, most_points, _LANES))
    sums = np.zeros((depth + 1, most_points, _LANES))
    going = np.ones((depth + 1, _LANES))
    total, before = np.empty(_LANES), np.empty(_LANES)
    for tree in range(len(roots)):
        n, n_columns = _order(
            roots[tree], left, right, feature, weight, nodes, levels, previous, shares
        )
        n_points = max(1, (n_columns + 1) // 2)
        points, weights = rules[0, n_points], rules[1, n_points]
        for position in range(1, n):
            path[levels[position]] = position
            higher = previous[position]
            was = shares[path[higher]] if higher > 0 else -1.0
            _factors(position, n_points, points, shares[position], was, factors)
        for start in range(0, rows.shape[1], _LANES):
            open_level = 0
            for position in range(1, n + 1):
                level = levels[position] if position < n else 1
                while open_level >= level:  # all below these nodes is summed up
                    done = path[open_level]
                    column = feature[nodes[path[open_level - 1]]]
                    _divided_sum(
                        sums[open_level], n_points, factors[done], going[open_level], total
                    )
                    for s in range(_LANES):
                        found[column, start + s] += (going[open_level, s] - shares[done]) * total[s]
                    higher = previous[done]
                    if higher > 0:
                        was = path[higher]
                        _divided_sum(sums[open_level], n_points, factors[was], going[higher], total)
                        for s in range(_LANES):
                            found[column, start + s] -= (going[higher, s] - shares[was]) * total[s]
                    for q in range(n_points):
                        for s in range(_LANES):
                            sums[open_level - 1, q, s] += sums[open_level, q, s]
                    open_level -= 1
                if position == n:
                    break
                path[level], open_level = position, level
                node, above = nodes[position], nodes[path[level - 1]]
                column, higher = feature[above], previous[position]
                is_left = left[above] == node
                for s in range(_LANES):
                    x = rows[column, start + s]
                    goes_left = missing_left[above] if np.isnan(x) else x <= threshold[above]
                    before[s] = going[higher, s] if higher > 0 else 1.0
                    going[level, s] = before[s] if goes_left == is_left else 0.0
                _descend(
                    products[level],
                    products[level - 1],
                    n_points,
                    factors[position],
                    going[level],
                    before,
                    higher > 0,
                )
                leaf = left[node] == node
                for q in range(n_points):
                    share = weights[q] * value[node] if leaf else 0.0
                    for s in range(_LANES):
                        sums[level, q, s] = share * products[level, q, s]


def _interventional(forest, values, X, background):
    import shap

    n_trees = len(forest.roots)
    ends = np.append(forest.roots[1:], len(forest.left))
    trees = []
    for start, end in zip(forest.roots, ends, strict=True):
        nodes = np.arange(start, end)
        leaf = forest.left[nodes] == nodes
        left = np.where(leaf, -1, forest.left[nodes] - start)
        right = np.where(leaf, -1, forest.right[nodes] - start)
        trees.append(
            {
                "children_left": left,
                "children_right": right,
                "children_default": np.where(forest.missing_left[nodes], left, right),
                "features": np.where(leaf, -2, forest.feature[nodes]),
                "thresholds": forest.threshold[nodes].astype(np.float64),
                "values": np.where(leaf[:, None], values[nodes], 0.0) / n_trees,
                "node_sample_weight": forest.weight[nodes],
            }
        )
    model = {"trees": trees, "internal_dtype": np.float64, "input_dtype": np.float32}
    background = np.ascontiguousarray(background, dtype=np.float32)
    base = forest.mean_value(background, values).mean(axis=0)
    explainer = shap.TreeExplainer(model, data=background, feature_perturbation="interventional")
    contributions = np.asarray(explainer.shap_values(X, check_additivity=False), dtype=np.float64)
    return np.atleast_1d(base), contributions.reshape(*X.shape, -1)
