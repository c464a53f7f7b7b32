import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.errors import DataError
from tabular_trainers.metrics import concordance, harrell_c
from tests.survival_golden import outcome, simulated

GOLDEN = json.loads(
    (Path(__file__).parent / "golden" / "concordance_error.json").read_text(encoding="utf-8")
)
PATIENTS = {name: np.array(values) for name, values in GOLDEN["patients"].items()}


@pytest.mark.parametrize("name", GOLDEN["one"])
@pytest.mark.parametrize("kind", ["one", "several"])
def test_estimate_covariance_and_influence_agree_with_r_survival_concordance(kind, name):
    expected = GOLDEN[kind][name]
    y = outcome(PATIENTS["time"], PATIENTS["event"], PATIENTS["entry"] if "entry" in name else None)
    strata = PATIENTS["fold"] if "strata" in name else None
    several = np.column_stack([PATIENTS[risk] for risk in ("a", "b", "risk3")])
    risks = several if kind == "several" else PATIENTS["b" if "strata" in name else "a"]
    clustered = "cluster" in name
    found = concordance(y, risks, strata, PATIENTS["site"] if clustered else None)
    np.testing.assert_allclose(found.estimate, np.atleast_1d(expected["estimate"]), atol=1e-12)
    np.testing.assert_allclose(found.covariance, np.atleast_2d(expected["covariance"]), atol=1e-14)
    influence = np.array(expected["influence"]).reshape(-1, len(found.estimate))
    if clustered:  # R gives the sums, sites in numeric order
        order = np.unique(PATIENTS["site"], return_inverse=True)[1]
        mine = np.zeros_like(influence)
        np.add.at(mine, order, found.influence)
    else:
        mine = found.influence
    np.testing.assert_allclose(mine, influence, atol=1e-14)


def by_definition(y, risk, strata):
    """Count the pairs of each patient one by one."""
    n = len(y)
    entry = y["entry"] if "entry" in y.dtype.names else np.full(n, -np.inf)
    concordant, comparable = np.zeros(n), np.zeros(n)
    for i, j in np.ndindex(n, n):
        now = y["time"][i]
        later = y["time"][j] > now or (y["time"][j] == now and not y["event"][j])
        if i != j and y["event"][i] and later and entry[j] < now and strata[i] == strata[j]:
            points = (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
            concordant[[i, j]] += points
            comparable[[i, j]] += 1
    return concordant, comparable


patients = st.tuples(
    st.integers(1, 6), st.booleans(), st.integers(-3, 3), st.integers(0, 2), st.integers(1, 6)
)


@settings(max_examples=120, deadline=None)
@given(st.lists(patients, min_size=4, max_size=30), st.booleans())
def test_every_patient_s_pairs_equal_the_definition(rows, late):
    time, event, risk, strata, before = map(np.array, zip(*rows, strict=True))
    y = outcome(time, event, time - before if late else None)
    concordant, comparable = by_definition(y, risk, strata)
    if not comparable.any():
        with pytest.raises(DataError, match="no comparable pairs"):
            concordance(y, risk, strata)
        return
    found = concordance(y, risk, strata)
    assert found.pairs[:, 0].tolist() == concordant.tolist()
    assert found.pairs[:, 1].tolist() == comparable.tolist()
    assert found.n_pairs == comparable.sum() / 2
    assert found.estimate[0] == pytest.approx(harrell_c(y, risk, strata), abs=1e-12)


def test_the_influence_is_the_derivative_of_the_weighted_concordance():
    y, risk, _ = simulated(40)
    strata = np.arange(40) % 2
    influence = concordance(y, risk, strata).influence[:, 0]
    step = 1e-5
    rows = np.concatenate([np.ones((40, 40)) + sign * step * np.eye(40) for sign in (1, -1)])
    up, down = np.split(harrell_c(y, risk, strata, rows), 2)
    np.testing.assert_allclose(influence, (up - down) / (2 * step), atol=1e-9)
    assert influence.sum() == pytest.approx(0, abs=1e-12)


def test_the_difference_of_two_risks():
    y, risk, _ = simulated(150)
    noisy = risk + np.random.default_rng(1).normal(size=150)
    found = concordance(y, np.column_stack([risk, noisy]))
    difference = found.difference(0, 1)
    error = np.sqrt(((found.influence[:, 0] - found.influence[:, 1]) ** 2).sum())
    assert difference.difference == found.estimate[0] - found.estimate[1]
    assert difference.standard_error == pytest.approx(error)
    half = 1.959963984540054 * error
    assert difference.lower == pytest.approx(difference.difference - half)
    assert difference.upper == pytest.approx(difference.difference + half)
    from scipy.stats import norm

    assert difference.p_value == pytest.approx(2 * norm.sf(difference.difference / error))
    other = found.difference(1, 0)
    assert (other.difference, other.lower) == (-difference.difference, -difference.upper)


def test_risks_that_order_everybody_alike_differ_by_nothing():
    y, risk, _ = simulated(200)
    found = concordance(y, np.column_stack([risk, np.exp(risk), risk]), np.arange(200) % 5)
    for i, j in ((0, 1), (1, 2), (0, 2)):
        difference = found.difference(i, j)
        assert difference[:4] == (0.0, 0.0, 0.0, 0.0)
        assert np.isnan(difference.p_value)


def test_what_rounding_leaves_of_two_equal_variances_is_no_error():
    found = concordance(*simulated(50)[:2])
    variance = found.covariance[0, 0]
    nearly = np.nextafter(variance, 0)
    covariance = np.array([[variance, nearly], [nearly, variance]])
    twice = dataclasses.replace(found, estimate=np.repeat(found.estimate, 2), covariance=covariance)
    assert twice.difference(0, 1).standard_error == 0.0


def test_a_constant_risk_and_a_perfect_one_have_no_error():
    y = outcome([1, 2, 3, 4, 5], [1, 1, 0, 1, 1])
    found = concordance(y, np.column_stack([np.ones(5), [5, 4, 3, 2, 1]]))
    assert found.estimate.tolist() == [0.5, 1.0]
    assert found.standard_error.tolist() == [0.0, 0.0]
    assert [limit.tolist() for limit in found.interval()] == [[0.5, 1.0], [0.5, 1.0]]


def test_the_interval_is_clipped_to_possible_values():
    y = outcome([1, 2, 3, 4, 5], [1, 1, 0, 1, 1])
    found = concordance(y, [5, 4, 3, 1, 2])
    assert found.interval()[1][0] == 1.0
    assert 0 < found.interval()[0][0] < found.estimate[0]


def test_patients_without_a_site_are_each_their_own():
    y, risk, _ = simulated(60)
    site = np.array(["a"] * 20 + ["b"] * 20 + [None] * 20, dtype=object)
    apart = np.array(["a"] * 20 + ["b"] * 20 + [f"own {i}" for i in range(20)])
    found = concordance(y, risk, cluster=site).covariance
    np.testing.assert_allclose(found, concordance(y, risk, cluster=apart).covariance)
    each = concordance(y, risk, cluster=np.arange(60)).covariance
    np.testing.assert_allclose(each, concordance(y, risk).covariance)


def test_messages():
    y, risk, _ = simulated(10)
    with pytest.raises(DataError, match=r"^risks, column 1: 1 of 10 values not finite\.$"):
        concordance(y, np.column_stack([risk, np.where(np.arange(10) == 4, np.nan, risk)]))
    with pytest.raises(DataError, match=r"^risks: 10 values expected, one a patient; got \(9,\)"):
        concordance(y, risk[:9])
    with pytest.raises(DataError, match=r"^risks: no column; expected at least one\.$"):
        concordance(y, np.empty((10, 0)))
    with pytest.raises(DataError, match=r"^cluster: 10 values expected, one a patient; got 9\.$"):
        concordance(y, risk, cluster=np.arange(9))
    late = outcome(y["time"], y["event"], np.where(np.arange(10) == 3, y["time"], 0))
    with pytest.raises(DataError, match=r"^y: 1 of 10 patients enter at or after their time\.$"):
        concordance(late, risk)
    with pytest.raises(DataError, match="^no comparable pairs within 10 strata"):
        concordance(y, risk, np.arange(10))
