"""Scaled columns: scikit-learn's standardisation, and what may not be standardised."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from tabular_trainers.errors import DataError
from tabular_trainers.models.scaled_columns import ScaledColumns


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_agreement_with_scikit_learn(dtype, order):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(70, 6)) * [1, 1e-30, 1e30, 5, 1, 1] + [0, 0, 0, 2000, 1, 0]
    X = np.asarray(X, dtype=dtype, order=order)
    given = X.copy()
    columns, theirs = ScaledColumns(X), StandardScaler().fit(X.astype(np.float64))
    np.testing.assert_allclose(columns.scale[[0, 2, 3, 4, 5]], theirs.scale_[[0, 2, 3, 4, 5]])
    np.testing.assert_allclose(columns.scale, X.astype(np.float64).std(axis=0))
    assert columns.rows.dtype == dtype
    assert columns.rows.flags.c_contiguous
    np.testing.assert_allclose(columns.rows.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(columns.rows.std(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(X, given)


def test_integers_become_float64_and_a_constant_column_zeros():
    columns = ScaledColumns(np.array([[1, 5], [2, 5], [4, 5]]))
    assert columns.rows.dtype == np.float64
    np.testing.assert_array_equal(columns.rows[1], [0, 0, 0])
    assert columns.scale[1] == 1
    assert (ScaledColumns(np.full((9, 1), 0.1)).rows == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_missing_and_infinite_values_are_refused(value):
    X = np.ones((5, 3))
    X[3, 1] = value
    with pytest.raises(DataError, match="X: 1 of 3 columns hold missing or infinite values"):
        ScaledColumns(X)
