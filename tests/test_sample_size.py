import math

import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.sample_size import largest_r2, minimum_sample_size


@pytest.mark.parametrize(
    ("share", "largest"),
    [(0.5, 0.75), (0.4, 0.74), (0.3, 0.71), (0.2, 0.63), (0.1, 0.48), (0.05, 0.33), (0.01, 0.11)],
)
def test_largest_r2_as_published(share, largest):
    # Riley et al., BMJ 2020;368:m441, criterion 2
    assert round(largest_r2("classification", share), 2) == largest


def test_binary_example_as_published():
    # Documentation of pmsampsize (R and Stata): csrsquared 0.288, 24 parameters, prevalence 0.174
    # criterion 1: 24 / (-0.1 ln(1 - 0.288 / 0.9)) = 622.3; criterion 3: (1.96 / 0.05)^2 * 0.174 *
    # 0.826 = 220.9; criterion 2: largest R2 0.6032, S = 0.288 / (0.288 + 0.05 * 0.6032) = 0.9052
    found = minimum_sample_size("classification", 24, 0.174, r2=0.288)
    assert found == {
        "r2": 0.288, "shrinkage": 623, "optimism": 662, "overall_risk": 221, "patients": 662,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("n_parameters", "r2", "rate", "follow_up", "expected"),
    [
        # recurrent venous thrombo-embolism, Riley et al. 2019 and documentation of pmsampsize: 5143
        (30, 0.051, 0.065, 2.07, 5143),
        # tests of pmsampsize on CRAN, survival 3.1, 3.2, 3.7, 3.8 and 3.9, criterion 1
        (25, 0.051, 0.065, 2.07, 4286),
        (25, 0.065, 0.065, 2.07, 3335),
        (40, 0.06, 0.08, 5, 5798),
        (10, 0.03, 0.09, 3, 2950),
        (80, 0.3, 0.03, 5, 1974),
    ],
)
def test_survival_examples_as_published(n_parameters, r2, rate, follow_up, expected):
    found = minimum_sample_size("survival", n_parameters, rate * follow_up, [2], follow_up, r2)
    assert found["shrinkage"] == expected


def test_survival_counted_by_hand():
    # 0.2 events a patient, 2 years of follow-up each: rate 0.1. Largest R2: 1 - exp(2 (0.2 ln 0.2 -
    # 0.2)) = 0.64787; 15%: 0.09718; S = 0.09718 / (0.09718 + 0.05 * 0.64787) = 0.75
    found = minimum_sample_size("survival", 10, 0.2, [1, 3], 2)
    assert found["r2"] == pytest.approx(0.0971816, abs=1e-7)
    assert found["shrinkage"] == math.ceil(10 / (0.1 * 0.1142662))  # -ln(1 - 0.0971816 / 0.9)
    assert found["optimism"] == math.ceil(10 / (0.25 * 0.1387742))  # -ln(1 - 0.0971816 / 0.75)
    assert found["patients"] == found["shrinkage"] == 876


def test_overall_risk_is_known_within_the_margin_at_every_horizon():
    found = minimum_sample_size("survival", 1, 0.2, [1, 3], 2)["overall_risk"]
    reached = []
    for n in (found - 1, found):
        error = 1.96 * math.sqrt(0.1 / (2 * n))
        ends = [math.exp(-(0.1 + sign * error) * at) for at in (1, 3) for sign in (-1, 1)]
        middle = [math.exp(-0.1 * at) for at in (1, 1, 3, 3)]
        reached.append(max(abs(e - m) for e, m in zip(ends, middle, strict=True)) <= 0.05)
    assert reached == [False, True]


def test_impossible_values_are_refused():
    with pytest.raises(DataError, match="r2: expected a value above 0 and below 0.478"):
        minimum_sample_size("classification", 5, 0.1, r2=0.6)
    with pytest.raises(DataError, match="events_per_patient"):
        largest_r2("classification", 1.0)
