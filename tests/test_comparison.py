from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.comparison import compare, holm, normal_p_value, verdict
from tabular_trainers.errors import DataError
from tabular_trainers.schema import validate
from tests.survival_golden import GOLDEN

METHOD = "bootstrap (400 resamples of patients within folds)"
ESTIMATES = {
    ("clinical", "cox"): 0.70,
    ("clinical", "xgb"): 0.68,
    ("genes", "cox"): 0.60,
    ("clinical+genes", "cox"): 0.73,
    ("clinical+genes", "xgb"): 0.69,
}


def evaluation(primary=("clinical+genes", "cox"), baseline="clinical", estimates=ESTIMATES):
    random = np.random.default_rng(0)
    patients = random.normal(0, 0.03, 400)  # what all measures share: the patients drawn
    draws = {
        key: value + patients + random.normal(0, 0.005, 400) for key, value in estimates.items()
    }
    rows = [
        {"feature_set": s, "model": m, "metric": metric, "fold": fold, "estimate": value + added,
         "method": METHOD}
        for (s, m), value in estimates.items()
        for metric, fold, added in (
            ("harrell_c", None, 0), ("harrell_c", 1, 0.1), ("brier", None, 9)
        )
    ]  # fmt: skip
    if primary is not None:
        primary = dict(zip(("feature_set", "model"), primary, strict=True))
    return SimpleNamespace(
        metrics=pd.DataFrame(rows), headline_draws=draws, primary=primary, baseline=baseline
    )


def test_differences_are_paired_and_against_the_same_model():
    frame = compare(evaluation())
    validate(frame, "comparisons")
    pairs = frame[["feature_set", "model", "baseline_feature_set", "baseline_model"]]
    assert pairs.to_numpy().tolist() == [
        ["genes", "cox", "clinical", "cox"],
        ["clinical+genes", "cox", "clinical", "cox"],
        ["clinical+genes", "xgb", "clinical", "xgb"],
    ]
    assert frame["difference"].tolist() == pytest.approx([-0.10, 0.03, 0.01])
    # what the patients drawn have in common leaves the difference: sqrt(2) * 0.005, not 0.03
    assert frame["standard_error"].tolist() == pytest.approx([0.0071] * 3, rel=0.1)
    draws = evaluation().headline_draws
    inner = draws["genes", "cox"] - draws["clinical", "cox"]
    assert frame.loc[0, ["lower", "upper"]].tolist() == np.percentile(inner, [2.5, 97.5]).tolist()
    assert set(frame["method"]) == {f"paired {METHOD}"}


def test_one_is_primary_and_holm_is_over_the_others():
    frame = compare(evaluation())
    assert frame["primary"].tolist() == [False, True, False]
    assert np.isnan(frame.loc[1, "p_value_holm"])
    others = frame[~frame["primary"]]
    assert others["p_value_holm"].tolist() == holm(others["p_value"]).tolist()


def test_a_primary_of_two_models_is_added_and_named_by_the_user():
    primary = {
        "feature_set": "clinical+genes",
        "model": "xgb",
        "baseline_feature_set": "clinical",
        "baseline_model": "cox",
    }
    frame = compare(evaluation(), primary)
    assert len(frame) == 4
    assert frame["primary"].tolist() == [True, False, False, False]
    assert frame.loc[0, "difference"] == pytest.approx(-0.01)


def test_without_a_baseline_there_is_nothing_to_compare():
    frame = compare(evaluation(primary=None, baseline=None))
    assert len(frame) == 0
    validate(frame, "comparisons")


def test_holm_agrees_with_r_p_adjust_and_a_hand_case():
    assert holm(GOLDEN["holm"]["p"]).tolist() == pytest.approx(GOLDEN["holm"]["adjusted"])
    # 0.01 x 3 = 0.03; 0.03 x 2 = 0.06; 0.04 x 1 = 0.04, not below the 0.06 before it
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, np.nan, 0.8]).tolist()[0] == 1.0
    assert np.isnan(holm([0.9, np.nan, 0.8])[1])


def test_p_value_of_the_normal_approximation():
    from scipy.stats import norm

    assert normal_p_value(-0.02, 0.011) == pytest.approx(2 * norm.sf(0.02 / 0.011))
    assert np.isnan(normal_p_value(0.1, 0.0))
    assert np.isnan(normal_p_value(np.nan, 0.1))


@pytest.mark.parametrize(
    ("metric", "lower", "upper", "text"),
    [
        ("harrell_c", 0.001, 0.04, "adds: difference between 0.001 and 0.040"),
        ("harrell_c", 0.0003, 0.04, "adds: difference between 0.0003 and 0.040"),
        ("auroc", -0.05, -0.01, "worse: difference between -0.050 and -0.010"),
        ("harrell_c", -0.012, 0.034, "not shown: difference between -0.012 and 0.034"),
        ("harrell_c", 0.0, 0.034, "not shown: difference between 0 and 0.034"),
        ("brier", -0.05, -0.01, "adds: difference between -0.050 and -0.010"),
        ("brier", 0.01, 0.05, "worse: difference between 0.010 and 0.050"),
        ("harrell_c", np.nan, np.nan, "not shown: no interval could be computed"),
    ],
)
def test_the_verdict_reads_the_interval(metric, lower, upper, text):
    row = {"metric": metric, "difference": 0.01, "lower": lower, "upper": upper}
    found = verdict(pd.Series(row))
    assert found["text"] == text
    assert found["reads"] == text.split(":")[0]
    assert found["lower"] is None if np.isnan(lower) else found["lower"] == lower


def test_messages():
    def message(primary, baseline="clinical"):
        with pytest.raises(DataError) as caught:
            compare(evaluation(baseline=baseline), primary)
        return str(caught.value)

    assert message({"feature_set": "clincal", "model": "cox"}) == (
        "primary: unknown feature set 'clincal'; known: clinical, genes, clinical+genes. "
        "Did you mean 'clinical'?"
    )
    assert message({"feature_set": "genes", "model": "rsf"}) == (
        "primary: unknown model 'rsf'; known: cox, xgb."
    )
    assert message({"feature_set": "genes", "model": "xgb"}) == (
        "primary: genes was not evaluated with model xgb."
    )
    assert message({"feature_set": "genes", "model": "cox"}, baseline=None) == (
        "primary: no baseline feature set; expected one named clinical, or baseline_feature_set in "
        "primary."
    )
