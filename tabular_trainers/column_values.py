"""Look over the columns of a training part: types, levels, fillings, and what is of no use."""

from collections import Counter

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError, SchemaError, count, listing

MAX_LEVELS = 100  # a categorical with this many levels is an identifier or free text
MIN_MISSING_SHARE = 0.05  # a missing indicator needs this share of the training part ...
MIN_MISSING_PATIENTS = 10  # ... and this many patients, otherwise it fits noise
MISSING_LEVEL = "(missing)"


def label_texts(values):
    """Levels as text, so that 1 and "1" are one level; missing is a level of its own."""
    missing = values.isna().to_numpy()
    values = values.to_numpy(dtype=object)
    return [
        MISSING_LEVEL if none else str(value) for value, none in zip(values, missing, strict=True)
    ]


def levels_of(values, name):
    """List the levels of a categorical column, sorted; none where all are missing.

    Raises
    ------
    DataError
        When there are 100 or more: an identifier or free text.
    """
    levels = sorted(set(label_texts(values)))
    if len(levels) >= MAX_LEVELS:
        raise DataError(
            f"column {name}: {len(levels)} distinct labels among {count(len(values), 'patient')}; "
            f"expected fewer than {MAX_LEVELS} for a categorical column. "
            "Group its labels, or leave it out of the block."
        )
    return [] if levels == [MISSING_LEVEL] else levels


def numbers_of(X, columns):
    """Give numeric columns as float64 of shape (n_patients, n_columns), missing as NaN.

    Raises
    ------
    SchemaError
        When a column holds text, or a number is infinite.
    """
    table = X[columns]
    # Asked once a type, not a column: there may be thousands. bool counts as numeric.
    wrong = {kind for kind in set(table.dtypes) if not pd.api.types.is_numeric_dtype(kind)}
    text = [c for c, kind in zip(columns, table.dtypes, strict=True) if kind in wrong]
    if text:
        raise SchemaError(
            f"{listing(text)}: {count(len(text), 'column')} with text; expected numbers. "
            "Name such columns under 'categorical' in cohort.toml."
        )
    raw = table.to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(raw).all() and np.isinf(raw).any():
        infinite = [c for c, bad in zip(columns, np.isinf(raw).any(axis=0), strict=True) if bad]
        raise SchemaError(f"{listing(infinite)}: infinite values; expected finite numbers.")
    return raw


def useless_columns(raw, missing, names):
    """Name the numeric columns that are all missing, constant, or a copy of an earlier one."""
    reasons, seen = {}, {}
    lowest = np.fmin.reduce(raw, axis=0, initial=np.inf)  # fmin and fmax pass over NaN
    highest = np.fmax.reduce(raw, axis=0, initial=-np.inf)
    # Copies share their range: of the other columns no bytes are compared, a tenth of a wide fit.
    ranges = Counter(zip(lowest.tolist(), highest.tolist(), strict=True))
    for j, name in enumerate(names):
        if lowest[j] > highest[j]:
            reasons[name] = "all missing"
        elif lowest[j] == highest[j]:
            reasons[name] = "constant"
        elif ranges[lowest[j], highest[j]] > 1:
            earlier = seen.setdefault(raw[:, j].tobytes(), name)
            if earlier != name:
                reasons[name] = f"copy of {earlier}"
    return reasons


def medians(raw, missing):
    """Give the median of each column, missing left out; 0 where all are missing."""
    some = missing.any(axis=0)
    median = np.zeros(raw.shape[1])
    if len(raw):
        median[~some] = np.median(raw[:, ~some], axis=0)
    for j in np.flatnonzero(some & ~missing.all(axis=0)):
        median[j] = np.median(raw[~missing[:, j], j])
    return median


def means(raw, missing):
    """Give the mean of each column, missing left out; 0 where all are missing."""
    observed = len(raw) - np.count_nonzero(missing, axis=0)
    return np.nansum(raw, axis=0) / np.maximum(observed, 1)


def indicated_columns(raw, missing, reduced, kept):
    """Positions of the columns whose missingness gets a column of its own."""
    enough = max(MIN_MISSING_SHARE * len(raw), MIN_MISSING_PATIENTS)
    often = missing.sum(axis=0) >= enough
    often &= missing.sum(axis=0) <= len(raw) - MIN_MISSING_PATIENTS
    # A number that already says the same (missing_blocks.<block>) makes an indicator redundant.
    whole = kept & ~missing.any(axis=0)
    zero_one = whole & ((raw == 0) | (raw == 1)).all(axis=0)
    seen = {(raw[:, j] == 1).tobytes() for j in np.flatnonzero(zero_one)}
    chosen = []
    for j in np.flatnonzero(often & ~reduced):
        pattern = missing[:, j].tobytes()
        if pattern not in seen:
            seen.add(pattern)
            chosen.append(j)
    return np.array(chosen, dtype=np.int64)
