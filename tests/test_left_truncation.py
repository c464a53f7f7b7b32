import json
from pathlib import Path

import numpy as np
import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.left_truncation import curve_start
from tabular_trainers.metrics import (
    at_landmark,
    auc,
    brier,
    calibration_slope,
    entry_dependence,
    integrated_brier,
    inverse_weights,
    observed_expected,
    uno_c,
)
from tests.survival_golden import GOLDEN, PATIENTS, golden_outcome, outcome

LATE = json.loads(
    (Path(__file__).parent / "golden" / "left_truncation.json").read_text(encoding="utf-8")
)
HORIZON = GOLDEN["horizon"]


def late_entry(n, seed=0, depends=0.0, coarse=False, follow_up=3000.0):
    """Left-truncated outcome of n observed patients, their risk, and who was never observed.

    With ``depends`` the event time rises with entry. Censoring comes a time after entry.
    """
    random = np.random.default_rng(seed)
    m = 4 * n
    risk = random.normal(size=m)
    entry = random.exponential(500, m)
    time = random.exponential(1500 * np.exp(-risk + depends * (entry / 500 - 1)), m)
    censored = entry + random.exponential(follow_up, m)
    event = time <= censored
    observed = np.minimum(time, censored)
    if coarse:
        entry, observed = np.floor(entry / 60), np.ceil(observed / 60)
    keep = np.flatnonzero(entry < time / (60 if coarse else 1))[:n]
    assert len(keep) == n
    return outcome(observed[keep], event[keep], entry[keep]), risk[keep], time[keep]


def predicted(risk, times):
    return np.exp(-np.asarray(times) / 1300 * np.exp(0.8 * risk))


def brute_force_weight(y, i, until, counts):
    """G(entry_i) / G(until) for a patient at risk from entry to until, factor by factor."""
    weight = 1.0
    for c in np.unique(y["time"][~y["event"]]):
        if y["entry"][i] < c <= until:
            exposed = (y["entry"] < c) & ((y["time"] > c) | ((y["time"] == c) & ~y["event"]))
            leaving = (y["time"] == c) & ~y["event"]
            factor = 1 - counts[leaving].sum() / counts[exposed].sum()
            weight /= factor if factor > 0 else 1.0
    return weight


def brute_force(y, survival, at_entry, t, counts):
    """Brier score, observed and expected risk at t, patient by patient."""
    error = observed = expected = total = 0.0
    for i in range(len(y)):
        if y["entry"][i] >= t or not counts[i]:
            continue
        given = survival[i] / at_entry[i]
        total += counts[i]
        expected += counts[i] * (1 - given)
        if y["time"][i] <= t and y["event"][i]:
            # at a tie the event comes first: censorings at that time are not yet counted
            weight = brute_force_weight(y, i, np.nextafter(y["time"][i], 0), counts)
            error += counts[i] * weight * given**2
            observed += counts[i] * weight
        elif y["time"][i] > t:
            error += counts[i] * brute_force_weight(y, i, t, counts) * (1 - given) ** 2
    return error / total, observed / total, expected / total


@pytest.mark.parametrize("coarse", [False, True])
def test_brier_and_observed_over_expected_agree_with_brute_force_in_every_replicate(coarse):
    y, risk, _ = late_entry(120, seed=1, coarse=coarse, follow_up=900.0)
    unit = 60 if coarse else 1
    times = np.array([150.0, 700.0, 1500.0]) / unit
    survival = np.column_stack([predicted(risk, t * unit) for t in times])
    at_entry = predicted(risk, y["entry"] * unit)
    rows = np.vstack([np.ones(120), np.random.default_rng(0).integers(0, 3, (2, 120))])
    expected = np.array(
        [
            [brute_force(y, survival[:, k], at_entry, t, row) for k, t in enumerate(times)]
            for row in rows
        ]
    )
    found = brier(y, survival, times, rows, at_entry)
    np.testing.assert_allclose(found, expected[..., 0], rtol=1e-10)
    found = observed_expected(y, survival, times, rows, at_entry)
    np.testing.assert_allclose(found, expected[..., 1] / expected[..., 2], rtol=1e-10)
    integrated = integrated_brier(y, survival, times, rows, at_entry)
    assert (y["entry"] < times[0]).sum() >= 10
    areas = np.trapezoid(expected[..., 0], times) / (times[-1] - times[0])
    np.testing.assert_allclose(integrated, areas, rtol=1e-10)


def test_censoring_weights_agree_with_r_survfit():
    y, counts = golden_outcome(entry=True), PATIENTS["counts"]
    drawn = counts > 0
    for name, row, at in (("plain", np.ones(90), slice(None)), ("counts", counts, drawn)):
        found = inverse_weights(y, [HORIZON], row)
        golden = LATE["censoring"][name]
        np.testing.assert_allclose(found.at_event[0][at], golden["at_event"], atol=1e-10)
        beyond = (y["time"] > HORIZON) & (y["entry"] < HORIZON)
        found = np.where(beyond, found.at_entry[0] * found.beyond[0, 0], 0)[at]
        np.testing.assert_allclose(found, golden["beyond"], atol=1e-10)


def test_an_early_risk_set_that_empties_leaves_later_weights_alone():
    # a alone from 0 to 1, censored: its factor is 0. b (2 to 5, event), c (2 to 3, censored) and
    # d (2 to 9): at 3 one of three is censored, so b and d weigh 1 / (2/3) = 3/2.
    y = outcome([1, 5, 3, 9], [0, 1, 0, 0], [0, 2, 2, 2])
    found = inverse_weights(y, [6.0])
    assert found.at_event[0].tolist() == pytest.approx([0, 1.5, 0, 0])
    assert (found.at_entry[0] * found.beyond[0])[3] == pytest.approx(1.5)
    # at 6 all four have entered; S(6) / S(entry) is 0.4 / 0.8 = 1/2 for everybody:
    # Brier (1.5 * 1/4 + 1.5 * 1/4) / 4; observed 1.5 / 4 over expected 1/2
    survival, at_entry = np.full((4, 1), 0.4), np.full(4, 0.8)
    assert brier(y, survival, [6.0], survival_at_entry=at_entry) == pytest.approx([0.1875])
    found = observed_expected(y, survival, [6.0], survival_at_entry=at_entry)
    assert found == pytest.approx([0.75])
    # at 1.5 only a has entered, and it is censored by then
    assert brier(y, survival, [1.5], survival_at_entry=at_entry) == pytest.approx([0.0])
    assert np.isnan(brier(y[1:], survival[1:], [1.5], survival_at_entry=at_entry[1:])).all()


def test_everybody_from_time_zero_is_the_same_as_no_entry():
    y, risk, _ = late_entry(150, follow_up=900.0)
    y = y[["event", "time"]]
    zero = outcome(y["time"], y["event"], np.zeros(150))
    times, ones = np.array([300.0, 900.0]), np.ones(150)
    survival = np.column_stack([predicted(risk, t) for t in times])
    rows = np.random.default_rng(0).integers(0, 3, (3, 150))
    for measure in (brier, observed_expected, integrated_brier):
        late = measure(zero, survival, times, rows, survival_at_entry=ones)
        np.testing.assert_allclose(late, measure(y, survival, times, rows), rtol=1e-10)
    found = calibration_slope(zero, survival, times, weights=rows)
    np.testing.assert_allclose(found, calibration_slope(y, survival, times, weights=rows))


def test_the_weighted_brier_score_is_that_without_censoring_in_expectation():
    """Of the same observed patients, had nobody been censored; 200 samples of 400."""
    t, weighted, complete = 1200.0, [], []
    for seed in range(200):
        y, risk, event_time = late_entry(400, seed=seed, follow_up=900.0)
        came = y["entry"] < t
        survival, at_entry = predicted(risk, t)[:, None], predicted(risk, y["entry"])
        weighted.append(brier(y, survival, [t], survival_at_entry=at_entry)[0])
        error = ((event_time > t) - survival[:, 0] / at_entry) ** 2
        complete.append(error[came].mean())
    difference = np.subtract(weighted, complete)
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    assert error < 0.002  # of a Brier score near 0.2
    assert abs(difference.mean()) < 3 * error


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("plain", {}),
        ("strata", {"strata": PATIENTS["fold"]}),
        ("counts", {"strata": PATIENTS["fold"], "weights": PATIENTS["counts"]}),
        ("weights", {"strata": PATIENTS["fold"], "weights": PATIENTS["weights"]}),
    ],
)
def test_slope_agrees_with_r_coxph(name, arguments):
    survival = PATIENTS["survival"][:, None]
    found = calibration_slope(golden_outcome(entry=True), survival, [HORIZON], **arguments)
    assert found == pytest.approx([LATE["cox_slope"][name]], abs=1e-7)


def test_slope_agrees_with_r_coxph_where_patients_enter_at_the_time_of_an_event():
    y = outcome(PATIENTS["time"], PATIENTS["event"], np.floor(PATIENTS["entry"]))
    assert np.isin(y["entry"], y["time"][y["event"] & (y["time"] <= HORIZON)]).any()
    found = calibration_slope(y, PATIENTS["survival"][:, None], [HORIZON])
    assert found == pytest.approx([LATE["cox_slope"]["ties"]], abs=1e-7)


def test_slope_is_one_for_the_truth_whatever_the_entry():
    y, risk, _ = late_entry(6000)
    truth = np.exp(-1000 / 1500 * np.exp(risk))
    assert calibration_slope(y, truth, [1000.0])[0] == pytest.approx(1.0, abs=0.06)
    assert np.isnan(calibration_slope(y, truth, [y["entry"].min()])).all()


def test_sums_that_late_entry_empties_are_made_anew():
    # The last two enter late and weigh exp(8 * slope) times the others, so that rounding of sums
    # with them is larger than all that is left without them. Only the others decide the slope.
    for seed in range(5):
        random = np.random.default_rng(seed)
        score = np.r_[random.uniform(-6.8, -5.8, 18), 1.9, 1.9]
        time = 1.0 + np.argsort(np.argsort(random.normal(0, 0.1, 18) - score[:18]))
        event = time < 14
        time[~event] += 30  # followed beyond the time of the last two
        y = outcome(np.r_[time, 31, 32], np.r_[event, 1, 0], np.r_[np.zeros(18), 30, 30])
        survival = np.exp(-np.exp(score)).clip(0.001, 0.999)[:, None]
        wanted = calibration_slope(y[:18], survival[:18], [60.0])
        assert wanted[0] > 5
        assert calibration_slope(y, survival, [60.0]) == pytest.approx(wanted, abs=1e-6)


def test_survival_at_entry_is_held_to_its_contract():
    y, risk, _ = late_entry(30)
    survival, at_entry = predicted(risk, 900.0)[:, None], predicted(risk, y["entry"])
    for measure in (brier, observed_expected):
        with pytest.raises(
            DataError, match=r"^y has entry times \(left truncation\): expected sur"
        ):
            measure(y, survival, [900.0])
        with pytest.raises(
            DataError, match=r"^survival_at_entry: \d+ patients with less predicted"
        ):
            measure(y, survival, [900.0], survival_at_entry=at_entry / 3)
        with pytest.raises(DataError, match="given, but y has no entry times"):
            measure(y[["event", "time"]], survival, [900.0], survival_at_entry=at_entry)
    # a model that leaves no survival at entry leaves none afterwards
    assert brier(y, survival * 0, [900.0], survival_at_entry=at_entry * 0) > 0


def test_landmark_takes_those_at_risk_and_restarts_the_clock():
    # at risk at 4: entry <= 4 < time
    y = outcome([4, 5, 9, 8, 7], [1, 1, 0, 1, 1], [0, 4, 1, 5, 0])
    at_risk, restarted = at_landmark(y, 4)
    assert at_risk.tolist() == [False, True, True, False, True]
    assert restarted.tolist() == [(True, 1.0), (False, 5.0), (True, 3.0)]
    everybody, same = at_landmark(y[["event", "time"]])
    assert everybody.all()
    assert same["time"].tolist() == [4, 5, 9, 8, 7]
    with pytest.raises(DataError, match="Give a landmark: patients at risk then"):
        at_landmark(y)
    with pytest.raises(DataError, match="landmark 9: none of 5 patients is at risk then"):
        at_landmark(y, 9)


def test_uno_c_and_auc_at_a_landmark_are_those_of_the_patients_at_risk():
    y, risk, _ = late_entry(300, follow_up=900.0)
    for measure in (lambda *a, **k: uno_c(*a, tau=1500.0, **k), lambda *a, **k: auc(*a, [1500.0])):
        with pytest.raises(DataError, match="Give a landmark"):
            measure(y, risk)
    landmark = 400.0
    kept = (y["entry"] <= landmark) & (y["time"] > landmark)
    later = outcome(y["time"][kept] - landmark, y["event"][kept])
    folds = np.arange(300) % 3
    counts = np.random.default_rng(0).integers(0, 3, (2, 300))
    found = uno_c(y, risk, 1500.0, folds, counts, landmark=landmark)
    expected = uno_c(later, risk[kept], 1100.0, folds[kept], counts[:, kept])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    found = auc(y, risk, [1500.0, 300.0], folds, counts, landmark=landmark)
    expected = auc(later, risk[kept], [1100.0], folds[kept], counts[:, kept])
    np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=1e-12)
    assert np.isnan(found[:, 1]).all()  # a horizon before the landmark has no event


def test_curves_start_where_ten_stay_at_risk():
    assert curve_start(outcome([1, 2], [1, 1])) == 0.0
    # 10 at risk from 0: two more enter at 3
    y = outcome(np.r_[np.full(10, 9.0), 8, 8], np.ones(12), np.r_[np.zeros(10), 3, 3])
    assert curve_start(y) == 0.0
    # 10 early ones are gone at 2; from 5 on 10 are there again, 12 from 6 on
    y = outcome(
        np.r_[np.full(10, 2.0), np.full(12, 9.0)],
        np.ones(22),
        np.r_[np.zeros(10), np.full(9, 4.0), 5.0, 6.0, 6.0],
    )
    assert curve_start(y) == 5.0
    # never 10: where the number is largest
    assert curve_start(outcome([4, 5, 6], [1, 1, 1], [0, 1, 2])) == 2.0


def test_entry_dependence_counted_by_hand():
    # events at 4 (at risk all five, entries 0 1 2 0 3), 5 (1 2 0 3), 7 (0 3), 8 (3 alone).
    # at 4 the patient who entered at 0: later 3, earlier 0; at 5 that of 1: later 2, earlier 1;
    # at 7 that of 0: later 1. tau = (3 + 1 + 1) / (4 + 3 + 1). Variances: (125 - 8 - 3) / 15,
    # (64 - 4) / 12, (8 - 2) / 6.
    y = outcome([4, 5, 6, 7, 8], [1, 1, 0, 1, 1], [0, 1, 2, 0, 3])
    found = entry_dependence(y)
    assert found.tau == pytest.approx(5 / 8)
    assert found.standard_error == pytest.approx(np.sqrt(7.6 + 5 + 1) / 8)
    assert found.n_pairs == 8
    # two events at once among entries 0 1 1 3: later minus earlier is 3, 0, 0, -3 a patient; two of
    # them drawn give 3 3 0 0 -3 -3, mean square 6; each of two is compared with the two others
    found = entry_dependence(outcome([4, 4, 5, 5], [1, 1, 0, 0], [0, 1, 1, 3]))
    assert found.tau == pytest.approx((2 + 1) / 4)
    assert found.standard_error == pytest.approx(np.sqrt(6) / 4)
    # who enters at 4 is not at risk at 4: there two with equal entry are compared, at 5 0 with 4
    found = entry_dependence(outcome([4, 5, 6], [1, 1, 1], [0, 0, 4]))
    assert (found.tau, found.n_pairs) == (0.5, 2)
    assert found.standard_error == pytest.approx(np.sqrt(0 + 1) / 2)
    with pytest.raises(DataError, match="no entry times"):
        entry_dependence(y[["event", "time"]])
    apart = entry_dependence(outcome([1, 3], [1, 1], [0, 2]))
    assert np.isnan(apart.tau)
    assert np.isnan(apart.p_value)


def test_entry_dependence_agrees_with_r_concordance():
    y = golden_outcome("untied", entry=True)
    y = y[y["entry"] < y["time"]]
    assert len(np.unique(y["entry"])) < len(y)  # entries are tied
    for name, some in (("all", y), ("late", y[y["entry"] > 0])):
        found, golden = entry_dependence(some), LATE["entry_dependence"][name]
        assert found.tau == pytest.approx(golden["tau"], abs=1e-12)
        assert found.standard_error == pytest.approx(golden["standard_error"], abs=1e-12)
        assert found.p_value == pytest.approx(golden["p_value"], abs=1e-10)
        assert found.n_pairs == golden["n_pairs"]


def test_entry_dependence_agrees_with_all_pairs_and_with_kendall_where_all_are_comparable():
    y, _, _ = late_entry(80, coarse=True, follow_up=900.0)
    time, event, entry = y["time"], y["event"], y["entry"]
    order, comparable = 0, 0
    for i in range(80):
        for j in range(80):
            first = event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j]))
            if first and max(entry[i], entry[j]) < min(time[i], time[j]):
                comparable += 1
                order += np.sign(entry[j] - entry[i])
    found = entry_dependence(y)
    assert found.n_pairs == comparable
    assert found.tau == pytest.approx(order / comparable, abs=1e-12)

    from scipy.stats import kendalltau

    random = np.random.default_rng(0)
    n = 60
    y = outcome(1 + random.random(n), np.ones(n), random.random(n))  # all enter before any event
    found, expected = entry_dependence(y), kendalltau(y["entry"], y["time"], method="asymptotic")
    assert found.tau == pytest.approx(expected.statistic, abs=1e-12)
    # the known variance n (n - 1) (2n + 5) / 18 of the sum over n (n - 1) / 2 pairs
    assert found.standard_error == pytest.approx(
        np.sqrt(n * (n - 1) * (2 * n + 5) / 18) / (n * (n - 1) / 2), abs=1e-12
    )
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-9)


def test_entry_dependence_rejects_five_percent_of_independent_entries_and_finds_dependence():
    """Censoring follows entry here. 1,000 samples of 150: 5% within 3 Monte-Carlo errors (0.7%)."""
    rejected = [entry_dependence(late_entry(150, seed=s)[0]).p_value < 0.05 for s in range(1000)]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.021)
    found = entry_dependence(late_entry(800, depends=0.4)[0])
    assert found.tau > 0.05
    assert found.p_value < 0.001
