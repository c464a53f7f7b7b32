import numpy as np
import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.metrics import brier, integrated_brier, log_loss, time_grid
from tests.survival_golden import outcome, simulated


def predicted(risk, times):
    return np.exp(-np.asarray(times)[None] / 1500 * np.exp(0.8 * risk)[:, None])


def test_brier_scores_agree_with_scikit_survival():
    from sksurv.metrics import brier_score, integrated_brier_score

    y, risk, _ = simulated(200)
    times = np.linspace(100.0, 2000.0, 20)
    survival = predicted(risk, times)
    np.testing.assert_allclose(
        brier(y, survival, times), brier_score(y, y, survival, times)[1], atol=1e-12
    )
    expected = integrated_brier_score(y, y, survival, times)
    assert integrated_brier(y, survival, times) == pytest.approx(expected, abs=1e-12)


def test_a_case_counted_by_hand():
    # at 2.5: a had the event at 1, G(1-) = 1, (0.4)^2 = 0.16; b is censored at 2: nothing;
    # c is beyond, G(2.5) = 1 - 1/2 = 1/2, (1 - 0.7)^2 / (1/2) = 0.18; mean (0.16 + 0.18) / 3
    y = outcome([1, 2, 3], [1, 0, 1])
    assert brier(y, [[0.4], [0.5], [0.7]], [2.5]) == pytest.approx([0.34 / 3])


def test_multiplicities_equal_copies():
    y, risk, _ = simulated(80)
    times = time_grid(2000.0)
    survival = predicted(risk, times)
    counts = np.random.default_rng(0).integers(0, 3, (3, 80))
    found = integrated_brier(y, survival, times, counts)
    for value, row in zip(found, counts, strict=True):
        copies = np.repeat(np.arange(80), row)
        expected = integrated_brier(y[copies], survival[copies], times)
        assert value == pytest.approx(expected, abs=1e-12)


def test_classification_agrees_with_scikit_learn():
    from sklearn import metrics as reference

    random = np.random.default_rng(0)
    probability = np.r_[random.random(98), 0.0, 1.0]
    y = (random.random(100) < 0.4).astype(int)
    counts = random.integers(0, 3, 100)
    for ours, theirs in ((brier, reference.brier_score_loss), (log_loss, reference.log_loss)):
        assert ours(y, probability) == pytest.approx(theirs(y, probability))
        expected = theirs(y, probability, sample_weight=counts)
        assert ours(y, probability, weights=counts) == pytest.approx(expected)


def test_grid_ends_at_tau():
    grid = time_grid(730.0)
    assert (len(grid), grid[0], grid[-1]) == (50, 14.6, 730.0)


def test_messages():
    y, risk, _ = simulated(5)
    with pytest.raises(DataError, match=r"^survival: expected shape \(5, 2\); got \(5, 1\)\.$"):
        brier(y, predicted(risk, [100]), [100, 200])
    with pytest.raises(DataError, match="expected probabilities between 0 and 1"):
        brier(y, predicted(risk, [100]) + 1, [100])
    with pytest.raises(DataError, match="times: expected at least two, increasing"):
        integrated_brier(y, predicted(risk, [100]), [100])
