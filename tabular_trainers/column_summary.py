"""Summarise columns without values of patients, and compare them with those of another cohort."""

import numpy as np
import pandas as pd

from tabular_trainers.schema import empty

FEWEST = 5  # counts below it are not kept
MISSING_BLOCKS = "missing_blocks."  # indicators that the program adds


def summarise_columns(X, categorical):
    """Summarise each column of patients: numbers by mean and spread, labels by counts.

    Counts of 1 to 4 patients are left out, and where they could be told from the others the next
    smallest count too. Columns of 0 and 1 are held to the same: their mean is a count. Of a column
    of patches it is only said who has some.

    Parameters
    ----------
    X : DataFrame
        Columns ``block.column``.
    categorical : sequence of str

    Returns
    -------
    DataFrame
        Schema ``predictors``.
    """
    rows = []
    for name in X.columns:
        if name.startswith(MISSING_BLOCKS):
            continue
        block, variable = name.split(".", 1)
        values = X[name]
        known = values.dropna()
        head = (block, variable)
        sizes = (len(known), len(values) - len(known))
        if name in categorical:
            counts = known.astype(str).value_counts().sort_index()
            hidden = _hidden(counts.to_numpy())
            rows += [
                (*head, "categorical", level, *sizes, None, None, None if hide else int(number))
                for (level, number), hide in zip(counts.items(), hidden, strict=True)
            ] or [(*head, "categorical", None, *sizes, None, None, None)]
        elif not pd.api.types.is_numeric_dtype(values):
            rows.append((*head, "patches", None, *sizes, None, None, None))
        else:
            mean, spread = _moments(known.to_numpy(dtype=np.float64))
            rows.append((*head, "numeric", None, *sizes, mean, spread, None))
    frame = pd.DataFrame(rows, columns=list(empty("predictors").columns))
    numbers = dict.fromkeys(["mean", "standard_deviation"], "float64") | {"count": "Int64"}
    return frame.astype(numbers)


def compare_columns(run, cohort):
    """Compare two summaries of columns, row by row.

    Parameters
    ----------
    run, cohort : DataFrame
        From `summarise_columns`: of the patients a model was fitted on, and of others.

    Returns
    -------
    DataFrame
        Schema ``column_differences``. The standardised difference is that of means (of shares),
        cohort minus run, in units of the root mean variance of the two.

    References
    ----------
    Austin, Statistics in Medicine 2009;28:3083.
    """
    keys = ["block", "variable", "kind", "level"]
    both = run.merge(cohort, on=keys, how="outer", suffixes=("_run", "_cohort"), sort=False)
    sizes = {
        side: table.drop_duplicates(keys[:2]).set_index(keys[:2])[["n", "n_missing"]]
        for side, table in (("run", run), ("cohort", cohort))
    }
    known = {side: set(table.index) for side, table in sizes.items()}
    order = dict.fromkeys([*sizes["run"].index, *sizes["cohort"].index])
    order = {pair: i for i, pair in enumerate(order)}
    rows = []
    for row in both.itertuples():
        pair = (row.block, row.variable)
        moments, cells = {}, []
        for side in ("run", "cohort"):
            if pair not in known[side]:
                moments[side], cells = (np.nan, np.nan), [*cells, None, None, np.nan, np.nan]
                continue
            n, missing = sizes[side].loc[pair]
            moments[side] = _moments_of(row, side, n)
            mean, variance = moments[side]
            spread = np.sqrt(variance) if row.kind == "numeric" else np.nan
            cells += [int(n), missing / (n + missing), mean, spread]
        rows.append(
            (*pair, None if pd.isna(row.level) else row.level, row.kind, _status(row, pair, known),
             *cells, _standardised(moments["run"], moments["cohort"]), order[pair])
        )  # fmt: skip
    columns = list(empty("column_differences").columns)
    frame = pd.DataFrame(rows, columns=[*columns, "order"])
    frame = frame.sort_values(["order", "level"], kind="stable", na_position="first")
    frame = frame[columns].reset_index(drop=True)
    return frame.astype({"n_run": "Int64", "n_cohort": "Int64"})


def _hidden(counts):
    """Mark small counts, and the next smallest where the total would give them away."""
    hidden = (counts > 0) & (counts < FEWEST)
    while (
        hidden.any() and not hidden.all() and (hidden.sum() == 1 or counts[hidden].sum() < FEWEST)
    ):
        rest = np.where(hidden, np.iinfo(np.int64).max, counts)
        hidden[rest.argmin()] = True
    return hidden


def _moments(known):
    """Mean and standard deviation; NaN where they would tell of fewer than 5 patients."""
    ones, zeros = np.count_nonzero(known == 1), np.count_nonzero(known == 0)
    few = ones + zeros == len(known) and 0 < min(ones, zeros) < FEWEST
    if len(known) < FEWEST or few:
        return np.nan, np.nan
    return float(known.mean()), float(known.std(ddof=1))


def _moments_of(row, side, n):
    """Mean and variance of a column, or share and its variance of a level."""
    if row.kind == "numeric":
        return getattr(row, f"mean_{side}"), getattr(row, f"standard_deviation_{side}") ** 2
    number = getattr(row, f"count_{side}")
    if pd.isna(number):
        # a level that is in neither half of a merged row has no patient; a hidden count is unknown
        here = not pd.isna(getattr(row, f"n_{side}"))
        return (np.nan, np.nan) if here or not n else (0.0, 0.0)
    share = int(number) / n
    return share, share * (1 - share)


def _status(row, pair, known):
    if pair not in known["run"]:
        return "not known to the model"
    if pd.isna(row.n_run):
        return "level not seen in the run"
    if pd.isna(row.n_cohort):
        return "level not in the cohort"
    return "in both"


def _standardised(run, cohort):
    spread = np.sqrt((run[1] + cohort[1]) / 2)
    return float((cohort[0] - run[0]) / spread) if spread > 0 else np.nan
