"""Independent late entry biases estimates that ignore it, and not ours: 60 samples of 800 patients.

Entry is independent of risk and event time, and zero for a quarter. A patient is observed when the
event comes after entry; censoring comes a time after entry. Truth is computed from a million people
nobody of whom is left out or censored. Ours has to be within 3 Monte-Carlo errors of its mean
(0.010 for survival, 0.023 for the coefficient, 0.005 for C, 0.003 for the Brier score), the naive
estimate further away than 10 of its own, and by no less than is written beside it.
"""

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.metrics import brier, harrell_c, kaplan_meier
from tabular_trainers.models import CoxRegression
from tests.survival_golden import outcome

HORIZON, SAMPLES, N = 1200.0, 60, 800


def people(random, n):
    """Risk, event time, entry and censoring of everybody, observed or not."""
    risk = random.normal(size=n)
    time = random.exponential(1200 * np.exp(-risk))
    entry = np.maximum(random.exponential(800, n) - 230, 0)
    return risk, time, entry, entry + random.exponential(2500, n)


def survival(risk, times):
    return np.exp(-np.asarray(times) / 1200 * np.exp(risk))


@pytest.fixture(scope="module")
def truth():
    random = np.random.default_rng(1)
    risk, time, entry, censored = people(random, 1_000_000)
    # Pairs as complete follow-up has them, each weighted by the chance that at the first event both
    # were under observation: of somebody at t, P(entry < t <= censoring), independent of the risk.
    first, second = np.arange(500_000), np.arange(500_000, 1_000_000)
    earlier = np.where(time[first] < time[second], first, second)
    later = np.where(time[first] < time[second], second, first)
    grid = np.linspace(0, 15_000, 600)
    watched = [((entry[:50_000] < t) & (censored[:50_000] >= t)).mean() for t in grid]
    weight = np.interp(time[earlier], grid, watched)
    came = (entry < HORIZON) & (time > entry)
    given = survival(risk, HORIZON) / survival(risk, entry)
    return {
        "survival": (time > HORIZON).mean() / (time > 200).mean(),
        "coefficient": 1.0,
        "concordance": np.average(risk[earlier] > risk[later], weights=weight**2),
        "brier": (((time > HORIZON) - given)[came] ** 2).mean(),
        "naive brier": (((time > HORIZON) - survival(risk, HORIZON)) ** 2).mean(),
    }


@pytest.fixture(scope="module")
def estimates():
    ours, naive = [], []
    for seed in range(SAMPLES):
        risk, time, entry, censored = people(np.random.default_rng(100 + seed), 6 * N)
        at = np.flatnonzero(entry < time)[:N]
        y = outcome(np.minimum(time, censored)[at], (time <= censored)[at], entry[at])
        risk = risk[at]
        at_entry = {"survival_at_entry": survival(risk, entry[at])}
        ours.append(_estimates(y, risk, at_entry))
        naive.append(_estimates(y[["event", "time"]], risk, {}))
    return pd.DataFrame(ours), pd.DataFrame(naive)


def _estimates(y, risk, at_entry):
    y = y.copy()
    curve = kaplan_meier(y, start=200.0)
    fitted = CoxRegression(penalty=0).fit(pd.DataFrame({"risk": risk}), y)
    return {
        "survival": curve.loc[curve["time"] <= HORIZON, "survival"].iloc[-1],
        "coefficient": float(fitted.coef_[0]),
        "concordance": harrell_c(y, risk),
        "brier": brier(y, survival(risk, HORIZON)[:, None], [HORIZON], **at_entry)[0],
    }


@pytest.mark.parametrize(
    ("name", "target", "least"),
    [
        ("survival", "survival", 0.1),
        ("coefficient", "coefficient", 0.1),
        ("concordance", "concordance", 0.02),
        ("brier", "naive brier", 0.015),
    ],
)
def test_late_entry_biases_naive_estimates_and_not_ours(truth, estimates, name, target, least):
    ours, naive = (table[name] for table in estimates)
    error = ours.std(ddof=1) / np.sqrt(SAMPLES)
    assert ours.mean() == pytest.approx(truth[name], abs=3 * error)
    naive_error = naive.std(ddof=1) / np.sqrt(SAMPLES)
    assert abs(naive.mean() - truth[target]) > max(10 * naive_error, least)
