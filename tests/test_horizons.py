import numpy as np
import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.metrics import default_horizons, horizon_note, numbers_at_risk
from tests.survival_golden import outcome, simulated


def test_years_in_every_unit():
    y, _, _ = simulated(400)
    folds = np.arange(400) % 5
    assert default_horizons(y, "days", folds) == (365.0, 1095.0, 1825.0)
    for unit, a_year in (("weeks", 7), ("months", 365.25 / 12), ("years", 365.25)):
        scaled = outcome(y["time"] / a_year, y["event"])
        expected = {"weeks": (52, 157, 261), "months": (12, 36, 60), "years": (1, 3, 5)}[unit]
        assert default_horizons(scaled, unit, folds) == expected
    assert horizon_note((365.0, 1095.0, 1825.0), y, "days") == (
        "horizons of 1, 3 and 5 years; all have at least 10 events before, and 10% of patients and "
        "5 in every fold followed beyond"
    )


def test_each_of_the_three_rules_drops_a_horizon():
    # 100 patients: 9 events by year 1, so it needs one more; all others are followed to year 8
    time = np.r_[np.linspace(0.1, 0.9, 9), np.linspace(1.1, 2.9, 20), np.full(71, 8.0)]
    y = outcome(time, time < 5)
    assert default_horizons(y, "years") == (3.0, 5.0)
    time[29:90] = 4.0  # 10 of 100 are followed beyond year 5: just enough
    y = outcome(time, time < 3)
    assert default_horizons(y, "years") == (3.0, 5.0)
    time[90] = 4.0  # 9 of 100
    assert default_horizons(outcome(time, time < 3), "years") == (3.0,)
    folds = np.r_[np.repeat([0, 1], 48), 0, 0, 0, 0]  # 4 of the last 10 are in fold 1
    folds[90:] = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    time[90] = 8.0
    y = outcome(time, time < 3)
    assert default_horizons(y, "years", folds) == (3.0,)
    assert horizon_note((3.0,), y, "years").startswith("horizons: those of 1, 3 and 5 years with")


def test_only_patients_who_have_entered_carry_a_horizon():
    # 20 events before year 1 and 80 followed to year 8, of whom 71 come under observation at 4
    time = np.r_[np.linspace(0.1, 0.9, 20), np.full(80, 8.0)]
    entry = np.r_[np.zeros(29), np.full(71, 4.0)]
    assert default_horizons(outcome(time, time < 5), "years") == (1.0, 3.0, 5.0)
    y = outcome(time, time < 5, entry)  # 9 of 100 at risk at 1 and at 3
    assert default_horizons(y, "years") == (5.0,)
    assert numbers_at_risk(y, [3.0, 5.0]) == {3.0: 9, 5.0: 80}
    nobody = outcome([1.0, 2.0, 9.0, 9.0], [1, 1, 1, 0], [0.0, 0.5, 5.0, 5.0])
    # at 2, the middle event, nobody is under observation; at 1 the second patient is
    assert default_horizons(nobody, None) == (1.0,)
    with pytest.raises(DataError, match=r"horizon 3: 2 events by then and 0 patients followed"):
        default_horizons(nobody, None, given=[3.0])


def test_otherwise_the_median_event_time_and_it_is_said():
    y = outcome([5, 1, 2, 3, 4], [0, 1, 1, 1, 0])
    assert default_horizons(y, "months") == (2.0,)
    assert horizon_note((2.0,), y, "months").startswith(
        "one horizon, the median time of the events: none of 1, 3 and 5 years has at least"
    )
    assert "unit is none of days, weeks, months, years" in horizon_note((2.0,), y, "cycles")
    assert default_horizons(simulated(300)[0], None) != (365.0,)


def test_given_horizons_are_sorted_and_checked():
    y, _, _ = simulated(100)
    assert default_horizons(y, "days", given=[1000, 300]) == (300.0, 1000.0)
    assert horizon_note((300.0, 1000.0), y, "days", [1]) == "horizons as given in the cohort file"
    with pytest.raises(DataError) as caught:
        default_horizons(outcome([1, 2, 3], [1, 1, 0]), "years", given=[10])
    assert str(caught.value) == (
        "horizon 10 years: 2 events by then and 0 patients followed beyond it; expected at least "
        "one of each. Correct horizons in the cohort file, or leave them out."
    )
    with pytest.raises(DataError, match="none of 3 patients has the event"):
        default_horizons(outcome([1, 2, 3], [0, 0, 0]), "years")


def test_numbers_at_risk_are_followed_beyond():
    assert numbers_at_risk(outcome([1, 2, 3], [1, 0, 0]), (1.0, 2.5)) == {1.0: 2, 2.5: 1}
