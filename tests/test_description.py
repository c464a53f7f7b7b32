from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import description
from tabular_trainers.sample_size import minimum_sample_size
from tabular_trainers.schema import validate
from tests.survival_golden import GOLDEN, golden_outcome, outcome


def test_follow_up_agrees_with_r_survfit_of_moved_censorings():
    found = description.follow_up(golden_outcome())
    expected = [int(t) for t in GOLDEN["curves"]["reverse_median"]]
    assert [found[name] for name in ("median", "lower", "upper")] == expected


def test_follow_up_under_late_entry_is_of_those_still_followed():
    # a, alone from 0 to 1, is left out; from 2 on all of b to f are at risk: the largest number
    y = outcome([1, 4, 6, 8, 9, 9], [0, 0, 1, 0, 0, 1], [0, 2, 2, 2, 2, 2])
    # censored at 4 (1 of 5), at 8 (1 of 3), at 9 (1 of 1 left beside the event): 4/5, 8/15, 0
    found = description.follow_up(y)
    assert (found["start"], found["median"]) == (2.0, 9.0)


def test_follow_up_that_never_comes_to_one_half():
    found = description.follow_up(outcome([1, 2, 3, 4], [1, 1, 1, 1]))
    assert found == {"median": None, "lower": None, "upper": None, "start": 0.0}


def test_candidate_parameters_counted_by_hand():
    draw = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "clinical.age": draw.normal(size=40),
            "clinical.stage": np.array(["I", "II", "III", "IV"])[np.arange(40) % 4],
            "clinical.same": 1.0,
            **{f"pathology.e{i:03d}": draw.normal(size=40) for i in range(120)},
        }
    )
    sets = {"clinical": X.columns[:3], "clinical+pathology": X.columns}
    patients = SimpleNamespace(
        X=X,
        y=outcome(np.arange(40) + 1.0, np.arange(40) % 4 == 0),
        categorical=("clinical.stage",),
        reduce=None,
        feature_sets=sets,
        endpoint=SimpleNamespace(kind="survival"),
    )
    names = ["feature_set", "model", "parameters"]
    trials = [("clinical", "cox", "{}"), ("clinical+pathology", "rsf", '{"components": 9}')]
    tried = [("clinical+pathology", "cox", f'{{"components": {k}}}') for k in (4, 6, 5)]
    rows = description.sample_size(
        patients, "cox", (20.0,), pd.DataFrame(trials + tried, columns=names)
    )
    # age, and three of the four stages; the constant column is left out
    assert [row["n_parameters"] for row in rows] == [4, 4 + 6]
    assert [row["n_columns"] for row in rows] == [4, 4 + 120]
    assert [row["events_per_parameter"] for row in rows] == [10 / 4, 10 / 10]
    # mean follow-up 20.5; 10 events of 40: largest R2 1 - exp(2 (0.25 ln 0.25 - 0.25)) = 0.6967
    assert rows[0]["r2"] == pytest.approx(0.15 * (1 - np.exp(0.5 * (np.log(0.25) - 1))))
    assert rows[1] == rows[1] | minimum_sample_size("survival", 10, 0.25, (20.0,), 20.5)


def analysis(dropped=True):
    X = pd.DataFrame(
        {
            "clinical.age": [40.0, 50.0, 60.0, 70.0, np.nan],
            "clinical.sex": ["f", "f", "f", "m", None],
            **{f"pathology.e{i:03d}": np.zeros(5) for i in range(41)},
        }
    )
    left = X[:2].assign(**{"clinical.age": [45.0, 55.0], "clinical.sex": ["m", "x"]})
    return SimpleNamespace(X=X, categorical=("clinical.sex",), dropped=left if dropped else None)


def test_table_one_beside_the_dropped():
    table = validate(description.table_one(analysis()), "table_one")
    columns = ["variable", "level", "part", "n", "n_missing", "text"]
    shown = table[columns].astype(object).where(table[columns].notna(), None)
    assert shown.to_numpy().tolist() == [
        ["age", None, "kept", 4, 1, "55 (47.5 to 62.5)"],
        ["age", None, "dropped", 2, 0, "50 (47.5 to 52.5)"],
        ["sex", "f", "kept", 4, 1, "3 (75%)"],
        ["sex", "f", "dropped", 2, 0, "0 (0%)"],
        ["sex", "m", "kept", 4, 1, "1 (25%)"],
        ["sex", "m", "dropped", 2, 0, "1 (50%)"],
        ["sex", "x", "kept", 4, 1, "0 (0%)"],
        ["sex", "x", "dropped", 2, 0, "1 (50%)"],
    ]
    # age: means 55 and 50, variances 500/3 and 50 -> 5 / sqrt((500/3 + 50) / 2)
    # sex f: 0.75 and 0, variances 0.1875 and 0 -> 0.75 / sqrt(0.09375)
    expected = [5 / np.sqrt((500 / 3 + 50) / 2)] * 2 + [0.75 / np.sqrt(0.09375)] * 2
    assert table["standardised_difference"][:4].tolist() == pytest.approx(expected)


def test_table_one_alone_and_by_block():
    table = validate(description.table_one(analysis(dropped=False)), "table_one")
    assert set(table["part"]) == {"kept"}
    assert table["standardised_difference"].isna().all()
    table = description.table_one(analysis(), blocks=["pathology"])
    assert len(table) == 82
    validate(description.table_one(analysis(), blocks=["radiology"]), "table_one")


def test_a_column_of_zeros_and_ones_is_counted():
    """Three of four have it: 3 (75%); the median of 0 and 1 would say nothing."""
    X = pd.DataFrame(
        {"clinical.margin": [1.0, 0.0, 1.0, 1.0, np.nan]},
        index=pd.Index(list("abcde"), name="patient_id"),
    )
    binary = SimpleNamespace(X=X, dropped=None, categorical=())
    table = description.table_one(binary)
    assert table[["variable", "level", "n", "n_missing", "text"]].to_numpy().tolist() == [
        ["margin", "1", 4, 1, "3 (75%)"]
    ]
