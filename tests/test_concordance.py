import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.errors import DataError
from tabular_trainers.metrics import harrell_c
from tests.survival_golden import GOLDEN, PATIENTS, golden_outcome, outcome, simulated

HARRELL = GOLDEN["harrell_c"]


def test_a_case_counted_by_hand():
    # patient  time  event  risk
    #   a       1     yes    3     a before b, c, d, e: risk higher than 2, 1, tie 3, 0 -> 3.5 of 4
    #   b       2     yes    2     b and c: both events at 2, not comparable
    #   c       2     yes    1     b before d, e: 2 < 3, 2 > 0 -> 1 of 2;  c: 1 < 3, 1 > 0 -> 1 of 2
    #   d       2     no     3     censored at the time of an event: comparable with b and c
    #   e       5     no     0     no pair of its own
    # concordant 3.5 + 1 + 1 = 5.5 of 4 + 2 + 2 = 8
    y = outcome([1, 2, 2, 2, 5], [1, 1, 1, 0, 0])
    assert harrell_c(y, [3, 2, 1, 3, 0]) == 5.5 / 8


@pytest.mark.parametrize(
    ("name", "entry", "arguments"),
    [
        ("plain", False, {}),
        ("strata", False, {"strata": PATIENTS["fold"]}),
        ("counts", False, {"strata": PATIENTS["fold"], "weights": PATIENTS["counts"]}),
        ("weights", False, {"strata": PATIENTS["fold"], "weights": PATIENTS["weights"]}),
        ("entry", True, {"strata": PATIENTS["fold"]}),
        ("entry_weights", True, {"weights": PATIENTS["weights"]}),
    ],
)
def test_harrell_c_agrees_with_r_survival_concordance(name, entry, arguments):
    found = harrell_c(golden_outcome(entry=entry), PATIENTS["risk"], **arguments)
    assert found == pytest.approx(HARRELL[name], abs=1e-12)


def test_harrell_c_agrees_with_scikit_survival():
    from sksurv.metrics import concordance_index_censored

    y, risk, _ = simulated(200)
    expected = concordance_index_censored(y["event"], y["time"], risk)[0]
    assert harrell_c(y, risk) == pytest.approx(expected, abs=1e-12)


def test_many_rows_of_weights_equal_one_at_a_time():
    y, risk, _ = simulated(80)
    rows = np.random.default_rng(0).integers(0, 4, (7, 80))
    strata = np.arange(80) % 3
    together = harrell_c(y, risk, strata, rows)
    assert together.tolist() == [harrell_c(y, risk, strata, row) for row in rows]


def test_a_multiplicity_equals_that_many_copies_of_a_patient():
    y, risk, _ = simulated(60, seed=3)
    counts = np.random.default_rng(1).integers(0, 4, 60)
    copies = np.repeat(np.arange(60), counts)
    expected = harrell_c(y[copies], risk[copies])
    assert harrell_c(y, risk, weights=counts) == pytest.approx(expected, abs=1e-12)


def test_strata_are_never_compared():
    y, risk, _ = simulated(90)
    strata = np.arange(90) % 3
    shifted = harrell_c(y, risk + 100 * strata, strata)
    assert shifted == harrell_c(y, risk, strata)


cohorts = st.lists(
    st.tuples(st.integers(1, 6), st.booleans(), st.integers(-3, 3), st.integers(0, 2)),
    min_size=4,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(cohorts)
def test_harrell_c_equals_the_definition_pair_by_pair(rows):
    time, event, risk, strata = map(np.array, zip(*rows, strict=True))
    concordant = comparable = 0.0
    for i, j in np.ndindex(len(rows), len(rows)):
        later = time[j] > time[i] or (time[j] == time[i] and not event[j])
        if event[i] and later and strata[i] == strata[j] and i != j:
            comparable += 1
            concordant += (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
    y = outcome(time, event)
    if not comparable:
        with pytest.raises(DataError, match="no comparable pairs"):
            harrell_c(y, risk, strata)
    else:
        assert harrell_c(y, risk, strata) == pytest.approx(concordant / comparable, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 60))
def test_monotone_transforms_leave_it_and_a_sign_flip_turns_it(seed, n):
    y, risk, _ = simulated(n, seed)
    if not y["event"][y["time"] < y["time"].max()].any():
        return
    c = harrell_c(y, risk)
    assert harrell_c(y, np.exp(risk)) == c
    assert harrell_c(y, -risk) == pytest.approx(1 - c, abs=1e-12)


def test_messages():
    y, risk, _ = simulated(10)
    with pytest.raises(DataError) as caught:
        harrell_c(outcome([1, 2, 3], [0, 0, 0]), [1, 2, 3])
    assert str(caught.value) == (
        "no comparable pairs: 3 patients, 0 of them with the event; expected at least one event "
        "with another patient still under observation. Use fewer or larger folds."
    )
    with pytest.raises(DataError, match=r"^risk: 1 of 10 values not finite\.$"):
        harrell_c(y, np.where(np.arange(10) == 4, np.nan, risk))
    with pytest.raises(DataError, match=r"^risk: 10 values expected, one a patient; got \(9,\)\.$"):
        harrell_c(y, risk[:9])
    with pytest.raises(DataError, match="structured array with the fields event and time"):
        harrell_c(np.zeros(10), risk)
