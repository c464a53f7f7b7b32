"""Bins of columns against numpy's own search, and the awkward numbers."""

import numpy as np
import pytest

from tabular_trainers.models.binning import MISSING, QUANTILE_BINS, bin_columns


def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6)).astype(np.float32)
    X[:, 1] = np.round(X[:, 1])
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:2, 2] = np.inf, -np.inf
    X[:, 3] = np.nan
    X[:, 4] = 3.0
    X[:, 5] = np.where(rng.random(300) < 0.9, 0.0, X[:, 5])  # most at one value
    return X


def test_a_bin_is_the_number_of_cuts_below():
    X = table()
    columns = bin_columns(X)
    assert len(columns) == 300
    for j in range(X.shape[1]):
        cuts = columns.cuts[j, : columns.n_cuts[j]]
        assert (np.diff(cuts) > 0).all()
        expected = np.searchsorted(cuts, X[:, j], side="left")
        expected[np.isnan(X[:, j])] = MISSING
        np.testing.assert_array_equal(columns.bins[j], expected)
        assert (columns.cuts[j, columns.n_cuts[j] :] == np.inf).all()
    assert list(columns.n_cuts[[3, 4]]) == [0, 0]
    assert columns.n_cuts[0] == QUANTILE_BINS - 1


def test_up_to_128_values_are_all_told_apart():
    few = np.arange(128.0).repeat(3)[:, None]
    assert (bin_columns(few).bins[0] == few[:, 0]).all()
    many = np.arange(129.0).repeat(3)[:, None]
    counts = np.bincount(bin_columns(many).bins[0])
    assert len(counts) == QUANTILE_BINS
    assert counts.max() <= 3 * counts.min()


@pytest.mark.parametrize("low", [0.0, 1.0, -1.0, 1e-30, 1e30])
def test_neighbouring_numbers_are_told_apart(low):
    values = np.array([low, np.nextafter(np.float32(low), np.float32(np.inf))], dtype=np.float32)
    columns = bin_columns(values[:, None])
    assert list(columns.bins[0]) == [0, 1]
    assert values[0] <= columns.cuts[0, 0] < values[1]


def test_binned_columns_are_taken_as_they_are():
    columns = bin_columns(table())
    assert bin_columns(columns) is columns
