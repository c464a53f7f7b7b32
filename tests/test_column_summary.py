"""Columns summarised without values of patients, and compared with another cohort's."""

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.column_summary import compare_columns, summarise_columns
from tabular_trainers.schema import validate


def table(stage, age=None, **more):
    n = len(stage)
    columns = {"clinical.age": np.arange(n) if age is None else age, "clinical.stage": stage}
    return pd.DataFrame({**columns, **more}, index=[f"P{i}" for i in range(n)])


def summary(X):
    found = summarise_columns(X, ["clinical.stage"])
    return validate(found, "predictors")


def counts(*numbers):
    stage = [level for level, n in zip("ABCDE", numbers, strict=False) for _ in range(n)]
    found = summary(table(stage)).query("variable == 'stage'")
    return [None if pd.isna(value) else int(value) for value in found["count"]]


def test_counts_under_five_and_those_that_give_them_away_are_not_kept():
    assert counts(30, 20, 10) == [30, 20, 10]
    assert counts(30, 20, 3) == [30, None, None]  # 53 known less 50 would tell the 3
    assert counts(30, 4, 3, 20) == [30, None, None, 20]  # 7 together: which is which stays open
    assert counts(30, 2, 2, 20) == [30, None, None, None]
    assert counts(2, 3) == [None, None]


def test_means_that_are_counts_are_not_kept():
    few, many = np.zeros(40), np.zeros(40)
    few[:3], many[:9] = 1, 1
    X = table(["A"] * 40, **{"blood.few": few, "blood.many": many})
    X["blood.rare"] = np.nan
    X.iloc[:4, -1] = [1.5, 2.5, 3.5, 4.5]
    found = summary(X).set_index("variable")
    assert np.isnan(found.loc["few", "mean"])
    assert np.isnan(found.loc["rare", "mean"])
    assert found.loc["many", "mean"] == 9 / 40
    assert found.loc["rare", ["n", "n_missing"]].tolist() == [4, 36]
    assert found.loc["age", "standard_deviation"] == pytest.approx(np.arange(40).std(ddof=1))


def test_differences_are_in_pooled_standard_deviations():
    run = table(["A"] * 30 + ["B"] * 10)
    cohort = table(["A"] * 10 + ["C"] * 10, age=np.arange(20) * 2.0, **{"clinical.bmi": 1.0})
    cohort.iloc[:5, 0] = np.nan
    found = validate(compare_columns(summary(run), summary(cohort)), "column_differences")
    assert found["variable"].tolist() == ["age", "stage", "stage", "stage", "bmi"]
    assert found["status"].tolist() == [
        "in both",
        "in both",
        "level not in the cohort",
        "level not seen in the run",
        "not known to the model",
    ]
    age, a, b, c, bmi = found.to_dict("records")
    mean, other = np.arange(40), np.arange(5, 20) * 2.0
    pooled = np.sqrt((mean.var(ddof=1) + other.var(ddof=1)) / 2)
    assert age["standardised_difference"] == pytest.approx((other.mean() - mean.mean()) / pooled)
    assert age["missing_cohort"] == 5 / 20
    # shares 30/40 and 10/20: variances 3/16 and 1/4
    assert a["standardised_difference"] == pytest.approx((0.5 - 0.75) / np.sqrt(7 / 32))
    assert (b["value_run"], b["value_cohort"]) == (0.25, 0.0)
    assert (c["value_run"], c["value_cohort"]) == (0.0, 0.5)
    assert np.isnan(bmi["value_run"])
    assert pd.isna(bmi["n_run"])
