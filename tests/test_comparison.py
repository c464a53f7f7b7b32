from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.comparison import (
    CORRECTED_T,
    compare,
    corrected_resampled_t,
    holm,
    verdict,
)
from tabular_trainers.errors import DataError
from tabular_trainers.schema import validate
from tabular_trainers.uncertainty import Draws
from tests.survival_golden import GOLDEN

METHOD = "bootstrap (400 resamples of patients within folds)"
FOLD_EFFECT = {  # of each fold of each repeat
    "clinical": (0.02, -0.01, 0.03, 0.00),
    "genes": (0.03, 0.02, 0.02, 0.01),
    "clinical+genes": (0.00, 0.01, 0.02, -0.03),
}
ESTIMATES = {
    ("clinical", "cox"): 0.70,
    ("clinical", "xgb"): 0.68,
    ("genes", "cox"): 0.60,
    ("clinical+genes", "cox"): 0.73,
    ("clinical+genes", "xgb"): 0.69,
}


def evaluation(
    primary=("clinical+genes", "cox"), baseline="clinical", estimates=ESTIMATES, n_repeats=1
):
    random = np.random.default_rng(0)
    patients = random.normal(0, 0.03, 400)  # what all measures share: the patients drawn
    headline = {
        key: Draws(value, value + patients + random.normal(0, 0.005, 400), METHOD)
        for key, value in estimates.items()
    }
    parts = [(None, None)] + [(repeat, fold) for repeat in range(n_repeats) for fold in (0, 1)]
    rows = [
        {"feature_set": s, "model": m, "metric": metric, "repeat": repeat, "fold": fold,
         "estimate": value + (0 if fold is None else FOLD_EFFECT[s][2 * repeat + fold])}
        for (s, m), value in estimates.items()
        for metric in ("harrell_c", "brier")
        for repeat, fold in parts
    ]  # fmt: skip
    folds = [
        {"repeat": repeat, "fold": fold, "part": "test" if (i + fold) % 4 == 0 else "train"}
        for repeat, fold in parts[1:]
        for i in range(8)
    ]
    if primary is not None:
        primary = dict(zip(("feature_set", "model"), primary, strict=True))
    return SimpleNamespace(
        metrics=pd.DataFrame(rows), folds=pd.DataFrame(folds), headline=headline, primary=primary,
        baseline=baseline,
    )  # fmt: skip


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
    measured = evaluation().headline
    inner = measured["genes", "cox"].values - measured["clinical", "cox"].values
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


def test_with_repeats_each_row_has_the_corrected_resampled_t_beside_it():
    one, two = compare(evaluation()), compare(evaluation(n_repeats=2))
    validate(two, "comparisons")
    pd.testing.assert_frame_equal(two.iloc[: len(one)], one)
    added = two.iloc[len(one) :]
    assert set(added["method"]) == {CORRECTED_T}
    assert len(added) == len(one)
    assert not added["primary"].any()
    assert added["p_value_holm"].isna().all()
    # genes against clinical: -0.10 and the differences of the two effects of folds, 0.01 0.03 -0.01
    # 0.01: mean -0.09, variance 0.0008 / 3; 2 patients tested for 6 trained on
    row = added.iloc[0]
    error = np.sqrt((1 / 4 + 2 / 6) * 0.0008 / 3)
    assert row["difference"] == pytest.approx(-0.09)
    assert row["standard_error"] == pytest.approx(error)
    # the 0.975 quantile of Student's t with 3 degrees of freedom, from a printed table
    assert row["upper"] == pytest.approx(-0.09 + 3.18245 * error, abs=1e-6)


def test_corrected_resampled_t_agrees_with_a_t_test_without_the_correction():
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(0).normal(0.02, 0.05, 15)
    expected = ttest_1samp(values, 0)
    mean, error, lower, upper, p = corrected_resampled_t([*values, np.nan], test_to_train=0)
    assert p == pytest.approx(expected.pvalue)
    assert (lower, upper) == pytest.approx(tuple(expected.confidence_interval()))
    # Nadeau and Bengio: the variance is (1 / J + n_test / n_train) / (1 / J) times that
    wider = corrected_resampled_t(values, test_to_train=1 / 4)
    assert wider[1] == pytest.approx(error * np.sqrt(1 + 15 / 4))
    assert np.isnan(corrected_resampled_t([0.1, np.nan], 0.25)).all()
    assert np.isnan(corrected_resampled_t([0.1, 0.1], 0.25)[4])


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
