"""Turn a table of user columns into a matrix of numbers, learned on the training part only.

The steps are the same for every model; what differs (standardise or not, leave missing values or
not, how wide a block may be before it is reduced) comes from the model's row. All of it is linear
in an expanded matrix (numbers, missing indicators, one-hot levels), so the coefficients of a linear
model map back to the user's columns exactly.
"""

import copy
from collections import Counter

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from tabular_trainers.column_values import (
    indicated_columns,
    label_texts,
    levels_of,
    means,
    medians,
    numbers_of,
    useless_columns,
)
from tabular_trainers.errors import DataError, SchemaError, count, listing, nearest
from tabular_trainers.patch_bags import COLUMN as PATCHES
from tabular_trainers.patch_clusters import Clusters
from tabular_trainers.patch_composition import as_arrays, clusters_of_bags, shares_of_bags
from tabular_trainers.principal_components import principal_axes

DEFAULT_COMPONENTS = 32  # about one for five events in cohorts of a few hundred patients


class Preprocessor(TransformerMixin, BaseEstimator):
    """Impute, encode, standardise and reduce the columns of a feature set.

    Columns are named ``block.column``. Everything is learned in ``fit``, so that inside a fold
    nothing is known of the test part:

    - columns that are constant, all missing or an exact copy of an earlier column are left out;
    - a missing number becomes the training median (behind a reduction the mean, so that a patient
      without the block lies at the centre of the components); an indicator column is added where at
      least 5% and 10 patients are missing, once for columns missing in the same patients;
    - a categorical column becomes one column a level; missing is a level of its own if seen in
      training; an unseen level is zero in all of them;
    - a block named in ``reduce``, or with more numeric columns than ``max_block_columns``, is
      replaced by its principal components (columns standardised first);
    - of a block of patches, the column ``block.patches`` is replaced by the shares of a patient's
      patches in clusters of the training patients' patches: ``block.c01``, ``block.c02`` ...
      A patient without patches gets the mean shares.

    Parameters
    ----------
    categorical : sequence of str
        Names of categorical columns; those that are not in the table are ignored.
    reduce : dict or None
        ``{block: {"pca": k}}``; 0 leaves the block as it is, however wide. ``{block: {"clusters":
        k}}`` of a block of patches.
    scale : bool
        Centre and standardise. One-hot levels and missing indicators are centred only, so that a
        level with three patients does not become the largest column of the matrix. Components
        share one factor a block, so that the first has unit variance and later ones stay smaller.
    keep_missing : bool
        Leave missing numbers as NaN, for models that handle them; no indicators then.
    max_block_columns : int or None
        Wider blocks are reduced by default; None means never.
    default_components : int
        Components of a block that is reduced by default.
    random_state : int
        Seed of the clusters of patches; all else is exact.

    Attributes
    ----------
    outputs_ : DataFrame
        One row an output column: name, block, feature, is_component.
    dropped_ : dict
        Column left out: reason.
    given_ : list of str
        Columns seen in ``fit``.
    columns_ : list of str
        The same with shares in place of patches.
    bags_ : dict
        Column of patches: its clusters, taken apart into arrays (`clusters`).
    """

    def __init__(
        self,
        categorical=(),
        reduce=None,
        scale=True,
        keep_missing=False,
        max_block_columns=None,
        default_components=DEFAULT_COMPONENTS,
        random_state=0,
    ):
        self.categorical = categorical
        self.reduce = reduce
        self.scale = scale
        self.keep_missing = keep_missing
        self.max_block_columns = max_block_columns
        self.default_components = default_components
        self.random_state = random_state

    def fit(self, X, y=None):
        """Learn medians, levels, scales and components from the training part.

        Raises
        ------
        DataError
            When a categorical column has 100 levels or more, or no usable column is left.
        SchemaError
            When a column that is not categorical holds text, a number is infinite, or patches
            cannot be put into clusters.
        """
        self._fit(X)
        return self

    def fit_transform(self, X, y=None):
        """Learn from the training part and give its matrix, as ``fit`` and ``transform`` would."""
        return self._matrix(*self._fit(X))

    def _fit(self, X):
        """Learn everything; return the standardised training part and what is absent in it."""
        self.given_ = [str(c) for c in X.columns]
        self._fit_clusters(X)
        X = self.with_shares(X)
        columns = [str(c) for c in X.columns]
        wanted = set(self.categorical)
        self.columns_ = columns
        self.numeric_ = [c for c in columns if c not in wanted]
        self.levels_ = {c: levels_of(X[c], c) for c in columns if c in wanted}
        self.dropped_ = {
            c: "constant" if levels else "all missing"
            for c, levels in self.levels_.items()
            if len(levels) < 2
        }

        raw = numbers_of(X, self.numeric_)
        missing = np.isnan(raw)
        self.dropped_ |= useless_columns(raw, missing, self.numeric_)
        kept = np.array([c not in self.dropped_ for c in self.numeric_], dtype=bool)
        kept_names = [c for c, keep in zip(self.numeric_, kept, strict=True) if keep]
        components = self._components_wanted(kept_names)
        of_patches = {_block(c) for c in self.bags_}
        reduced = np.array(
            [_block(c) in components or _block(c) in of_patches for c in self.numeric_], dtype=bool
        )

        self.fill_ = means(raw, missing)
        self.fill_[~reduced] = medians(raw[:, ~reduced], missing[:, ~reduced])
        self.used_ = np.flatnonzero(kept)
        self.indicators_ = (
            np.zeros(0, dtype=np.int64)
            if self.keep_missing
            else indicated_columns(raw, missing, reduced, kept)
        )
        self._name_expanded()

        z = self._expand(X, raw, missing)
        self.centre_ = z.mean(axis=0) if len(z) else np.zeros(z.shape[1])
        spread = z.std(axis=0)
        spread[len(self.used_) :] = 1.0
        self.spread_ = np.where(spread > 0, spread, 1.0)
        z -= self.centre_
        z /= self.spread_
        self._reduce_blocks(z, components)
        self._name_outputs()
        if not len(self.output_names_):
            raise DataError(
                f"{listing(columns)}: no column varies in the training part; "
                "expected at least one. "
                "Add columns, or leave out this feature set."
            )
        return z, self._absent(z, missing)

    def transform(self, X):
        """Give the matrix a model is fitted on, float64 of shape (n_patients, n_outputs)."""
        return self._matrix(*self._standardised(X))

    def _matrix(self, z, absent):
        """Give the outputs from standardised columns; ``absent`` is None where nothing is NaN."""
        parts = [z[:, self.direct_]]
        if not self.scale:
            parts[0] = parts[0] * self.spread_[self.direct_] + self.centre_[self.direct_]
        for block, positions in self.block_positions_.items():
            values = z[:, positions]
            if absent is not None:
                values[absent[:, positions]] = 0.0
            scores = values @ self.loadings_[block]
            if absent is not None:
                scores[absent[:, positions].all(axis=1)] = np.nan
            parts.append(scores)
        return np.ascontiguousarray(np.hstack(parts))

    def clusters(self, block):
        """Give the clusters of a block of patches.

        Parameters
        ----------
        block : str

        Returns
        -------
        Clusters
        """
        check_is_fitted(self, "bags_")
        return Clusters(**self.bags_[f"{block}.{PATCHES}"])

    def with_shares(self, X):
        """Replace columns of patches by the shares of each patient's patches in the clusters.

        Parameters
        ----------
        X : DataFrame of shape (n_patients, n_columns)

        Returns
        -------
        DataFrame
            The other columns and then the shares, which are NaN for a patient without patches;
            where no column is of patches, ``X``.
        """
        check_is_fitted(self, "bags_")
        if not self.bags_:
            return X
        parts = [X.drop(columns=list(self.bags_))]
        for name in self.bags_:
            block = _block(name)
            clusters = self.clusters(block)
            names = [f"{block}.{cluster}" for cluster in clusters.names]
            shares = shares_of_bags(X[name], clusters)
            parts.append(pd.DataFrame(shares, index=X.index, columns=names))
        return pd.concat(parts, axis=1)

    def given_shares(self):
        """Give the same preprocessing for tables of which `with_shares` has replaced the patches.

        Returns
        -------
        Preprocessor
        """
        check_is_fitted(self, "bags_")
        same = copy.copy(self)
        same.bags_, same.given_ = {}, list(self.columns_)
        return same

    def first_components(self, k):
        """Positions of the outputs that ``default_components=k`` would have given.

        Of a fit with more components: the same patients and blocks need one fit for all sizes.

        Parameters
        ----------
        k : int

        Returns
        -------
        array of int
        """
        check_is_fitted(self, "output_names_")
        kept, start = [np.arange(len(self.direct_))], len(self.direct_)
        for block, loadings in self.loadings_.items():
            stop = start + loadings.shape[1]
            given = (self.reduce or {}).get(block) is not None
            kept.append(np.arange(start, stop if given else min(stop, start + k)))
            start = stop
        return np.concatenate(kept)

    def linear_terms(self, X, coef):
        """Split ``transform(X) @ coef`` into contributions of the user's columns.

        Parameters
        ----------
        X : DataFrame of shape (n_patients, n_columns)
        coef : array of shape (n_outputs,)

        Returns
        -------
        terms : DataFrame of shape (n_patients, n_columns)
            Zero for columns left out; each column has mean zero over the training part.
        base : float
            ``terms.sum(axis=1) + base`` equals ``transform(X) @ coef``.
        """
        weight, base = self._expanded_weights(coef)
        z, _ = self._standardised(X)
        terms = np.zeros((len(X), len(self.columns_)))
        where = {c: j for j, c in enumerate(self.columns_)}
        np.add.at(terms, (slice(None), [where[c] for c in self.expanded_source_]), z * weight)
        return pd.DataFrame(terms, index=X.index, columns=self.columns_), base

    def linear_weights(self, coef):
        """Give the terms of `linear_terms` as straight lines in the numbers of the user's columns.

        Parameters
        ----------
        coef : array of shape (n_outputs,)

        Returns
        -------
        slopes, offsets : Series
            Index: the numeric columns. Where a number x is known, its term is ``slope * x +
            offset``; zero for columns left out.
        """
        weight, _ = self._expanded_weights(coef)
        slopes = pd.Series(0.0, index=self.numeric_)
        offsets = slopes.copy()
        at_zero = -self.centre_ / self.spread_ * weight
        n_used, n_indicators = len(self.used_), len(self.indicators_)
        slopes.iloc[self.used_] = (weight / self.spread_)[:n_used]
        offsets.iloc[self.used_] = at_zero[:n_used]
        # A known number's indicator of being missing is zero, which is not its mean.
        offsets.iloc[self.indicators_] += at_zero[n_used : n_used + n_indicators]
        return slopes, offsets

    def _expanded_weights(self, coef):
        """Carry coefficients of the outputs back to the standardised expanded columns."""
        if self.keep_missing:
            raise ValueError("linear terms need imputed numbers; build with keep_missing=False.")
        check_is_fitted(self, "output_names_")
        coef = np.asarray(coef, dtype=np.float64)
        weight = np.zeros(len(self.expanded_))
        n_direct = len(self.direct_)
        weight[self.direct_] = coef[:n_direct]
        base = 0.0
        if not self.scale:
            base = float(self.centre_[self.direct_] @ weight[self.direct_])
            weight[self.direct_] *= self.spread_[self.direct_]
        start = n_direct
        for block, positions in self.block_positions_.items():
            loadings = self.loadings_[block]
            weight[positions] = loadings @ coef[start : start + loadings.shape[1]]
            start += loadings.shape[1]
        return weight, base

    @property
    def outputs_(self):
        """One row an output column: name, block, feature, is_component."""
        check_is_fitted(self, "output_names_")
        return pd.DataFrame(
            {
                "name": self.output_names_,
                "block": [_block(name) for name in self.output_names_],
                "feature": self.output_features_,
                "is_component": self.output_is_component_,
            }
        )

    @property
    def feature_names_in_(self):
        """Names of the columns seen in ``fit``."""
        check_is_fitted(self, "given_")
        return np.array(self.given_, dtype=object)

    def get_feature_names_out(self, input_features=None):
        """Names of the output columns."""
        check_is_fitted(self, "output_names_")
        return np.array(self.output_names_, dtype=object)

    def _fit_clusters(self, X):
        self.bags_ = {}
        for block, given in (self.reduce or {}).items():
            own = [c for c in self.given_ if _block(c) == block]
            if "clusters" not in (given or {}) or not own:
                continue
            if own != [f"{block}.{PATCHES}"]:
                raise SchemaError(
                    f"blocks.{block}, reduce: clusters are made of the patches of a store, in one "
                    f"column {PATCHES}; got {listing(own)}."
                )
            try:
                found = clusters_of_bags(X[own[0]], int(given["clusters"]), self.random_state)
            except DataError as error:
                raise DataError(f"blocks.{block}: {error}") from error
            self.bags_[own[0]] = as_arrays(found)

    def _components_wanted(self, kept_names):
        wanted = {}
        for block, width in Counter(_block(c) for c in kept_names).items():
            given = (self.reduce or {}).get(block)
            if given is not None:
                if set(given) != {"pca"} and set(given) != {"clusters"}:
                    raise SchemaError(
                        f"blocks.{block}, reduce: {listing(given)} is not known; expected "
                        "{ pca = number of components } or { clusters = number of clusters }."
                    )
                if given.get("pca"):
                    wanted[block] = int(given["pca"])
            elif self.max_block_columns is not None and width > self.max_block_columns:
                wanted[block] = int(self.default_components)
        return wanted

    def _name_expanded(self):
        used = [self.numeric_[j] for j in self.used_]
        indicated = [self.numeric_[j] for j in self.indicators_]
        self.expanded_ = used + [f"{c} missing" for c in indicated]
        self.expanded_source_ = used + indicated
        for column, levels in self.levels_.items():
            if column not in self.dropped_:
                self.expanded_ += [f"{column}={level}" for level in levels]
                self.expanded_source_ += [column] * len(levels)

    def _expand(self, X, raw, missing):
        """Numbers, missing indicators and one-hot levels side by side."""
        expanded = np.zeros((len(raw), len(self.expanded_)))
        end = len(self.used_)
        expanded[:, :end] = raw[:, self.used_]
        if missing.any():
            np.copyto(expanded[:, :end], self.fill_[self.used_], where=missing[:, self.used_])
        start, end = end, end + len(self.indicators_)
        expanded[:, start:end] = missing[:, self.indicators_]
        for column, levels in self.levels_.items():
            if column not in self.dropped_:
                position = {level: end + k for k, level in enumerate(levels)}
                for i, label in enumerate(label_texts(X[column])):
                    if label in position:
                        expanded[i, position[label]] = 1.0
                end += len(levels)
        return expanded

    def _standardised(self, X):
        check_is_fitted(self, "output_names_")
        absent_columns = [c for c in self.given_ if c not in X.columns]
        if absent_columns:
            hint = nearest(absent_columns[0], [c for c in X.columns if c not in self.given_])
            raise SchemaError(
                f"{count(len(absent_columns), 'column')} of the {len(self.given_)} the model was "
                f"fitted on not in the table: {listing(absent_columns)}.{hint}"
            )
        X = self.with_shares(X)
        raw = numbers_of(X, self.numeric_)
        missing = np.isnan(raw)
        z = self._expand(X, raw, missing)
        z -= self.centre_
        z /= self.spread_
        return z, self._absent(z, missing)

    def _absent(self, z, missing):
        """Put NaN where a number is missing, for models that handle it; say where, or None."""
        if not self.keep_missing or not missing.any():
            return None
        absent = np.zeros(z.shape, dtype=bool)
        absent[:, : len(self.used_)] = missing[:, self.used_]
        z[absent] = np.nan
        return absent

    def _reduce_blocks(self, z, components):
        self.loadings_, self.block_positions_ = {}, {}
        blocks = np.array([_block(self.numeric_[j]) for j in self.used_], dtype=object)
        direct = np.ones(z.shape[1], dtype=bool)
        for block, wanted in components.items():
            positions = np.flatnonzero(blocks == block)
            direct[positions] = False
            self.block_positions_[block] = positions
            self.loadings_[block] = principal_axes(z[:, positions], wanted, self.scale)
        self.direct_ = np.flatnonzero(direct)

    def _name_outputs(self):
        self.output_names_ = [self.expanded_[j] for j in self.direct_]
        self.output_features_ = [_column(self.expanded_source_[j]) for j in self.direct_]
        self.output_is_component_ = [False] * len(self.direct_)
        for block, loadings in self.loadings_.items():
            names = [f"pc{k + 1:02d}" for k in range(loadings.shape[1])]
            self.output_names_ += [f"{block}.{name}" for name in names]
            self.output_features_ += names
            self.output_is_component_ += [True] * len(names)


def reduces_by_default(columns, categorical, reduce, max_block_columns):
    """Tell whether a block is reduced to ``default_components``, as nobody said otherwise.

    Parameters
    ----------
    columns, categorical : sequence of str
        Names as ``block.column``.
    reduce : dict or None
    max_block_columns : int or None

    Returns
    -------
    bool
    """
    if max_block_columns is None:
        return False
    numeric = Counter(_block(str(c)) for c in columns if c not in set(categorical))
    return any(
        width > max_block_columns and (reduce or {}).get(block) is None
        for block, width in numeric.items()
    )


def _block(name):
    return name.split(".", 1)[0]


def _column(name):
    return name.split(".", 1)[-1]
