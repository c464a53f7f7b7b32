"""The simulations of tests/benchmarks/interval_coverage.py run, count and add up."""

import json

import numpy as np
import pytest

from tests.benchmarks import interval_coverage as coverage

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def fewer_pairs(monkeypatch):
    monkeypatch.setattr(coverage, "N_PAIRS", 30_000)
    monkeypatch.setattr(coverage, "BATCH", 3)
    for remembered in (coverage.World.pairs, coverage._truth_of_given):
        remembered.cache_clear()
    yield
    for remembered in (coverage.World.pairs, coverage._truth_of_given):
        remembered.cache_clear()


@pytest.mark.parametrize("name", coverage.SETTINGS)
def test_every_setting_counts_cohorts_and_goes_on_from_where_it_stopped(name):
    n = 2 if name == "noise" else 6
    *_, whole = coverage.count(name, n)
    first = next(coverage.count(name, n // 2))
    *_, resumed = coverage.count(name, n, first)
    assert resumed == whole
    assert whole["n"] == n
    assert 0 <= whole["covered"] <= n
    assert abs(whole["error"] / n) < 0.1
    assert coverage.SETTINGS[name].bars.keys() <= whole.keys()
    assert coverage.SETTINGS[name].title in coverage.table({name: whole})


def test_the_truth_is_that_of_the_definition():
    # without noise, censoring or other columns P(a > b | the event of a first) has a closed form:
    # E[expit(|d|)] of the difference d of two log hazards
    world = coverage.World(spread=1.0, follow_up=1e6)
    d = np.abs(np.random.default_rng(0).normal(0, np.sqrt(2), 400_000))
    expected = (1 / (1 + np.exp(-d))).mean()
    assert coverage._true_c(world, np.array([2.0])) == pytest.approx(expected, abs=0.01)
    assert coverage._true_c(world, np.array([-2.0])) == pytest.approx(1 - expected, abs=0.01)
    assert coverage._true_c(world, np.array([0.0, 1.0])) == pytest.approx(0.5, abs=0.01)


def test_patients_of_a_site_are_alike_and_late_ones_are_followed():
    random = np.random.default_rng(0)
    world = coverage.World(n=4000, n_sites=20, entry=0.5)
    y, _, risks = world.draw(random, world.n, world.sites())
    assert (y["entry"] < y["time"]).all()
    between = np.array([risks[world.sites() == s].mean(axis=0) for s in range(20)])
    assert between[:, 0].std() == pytest.approx(np.hypot(0.5, 0.3), rel=0.4)
    ties = coverage.World(grid=0.1).draw(random, 300)[0]
    assert len(np.unique(ties["time"])) <= 15


def test_the_committed_table_is_that_of_the_committed_counts():
    found = json.loads(coverage.STORE.read_text(encoding="utf-8"))
    assert found.keys() <= coverage.SETTINGS.keys()
    assert coverage.table(found) in coverage.TABLE.read_text(encoding="utf-8")
