"""Probes: a planted hospital effect is seen, and none is seen where none was planted."""

import numpy as np
import pytest

from tabular_trainers.demo import synthetic_cohort
from tabular_trainers.evaluation import evaluate
from tabular_trainers.probes import count_fits, probe
from tabular_trainers.schema import validate

FEATURES = {"clinical": 3, "genomics": 5}


def probed(**settings):
    cohort = synthetic_cohort(300, features=FEATURES, seed=4, **settings)
    evaluation = evaluate(cohort, models=["cox"], folds=3, n_resamples=100)
    keys = []
    table = probe(evaluation, progress=keys.append)
    assert len(keys) == count_fits(evaluation.plan)
    validate(table, "probes", "probes")
    return table.set_index(["probe", "subject"])


@pytest.fixture(scope="module")
def with_effect():
    return probed(n_sites=9, site_effect=1.5)


@pytest.fixture(scope="module")
def without_effect():
    return probed(n_sites=9, site_effect=0.0)


def test_a_site_that_decides_the_outcome_is_seen(with_effect, without_effect):
    assert with_effect.loc[("site_alone", "site"), "lower"] > 0.6
    none = without_effect.loc[("site_alone", "site")]
    assert none["lower"] < 0.5 + 0.05
    assert none["estimate"] == pytest.approx(0.5, abs=0.08)


def test_features_that_carry_the_site_leak_it_on_random_folds(with_effect, without_effect):
    """`site_effect` shifts every genomics column by site, and no clinical column."""
    assert with_effect.loc[("site_leak", "genomics"), "lower"] > 0
    assert without_effect.loc[("site_leak", "genomics"), "estimate"] == pytest.approx(0, abs=0.05)


def test_a_block_that_tells_sites_apart_is_named(with_effect, without_effect):
    found = with_effect.xs("site_from_block")["estimate"]
    assert found["genomics"] > 0.85
    assert found["clinical"] == pytest.approx(0.5, abs=0.08)
    assert without_effect.xs("site_from_block")["estimate"]["genomics"] == pytest.approx(
        0.5, abs=0.08
    )


def test_shuffled_outcomes_are_not_predicted(with_effect, without_effect):
    for table in (with_effect, without_effect):
        row = table.xs("permuted_outcome").iloc[0]
        assert row["lower"] - 0.03 < 0.5 < row["upper"] + 0.03
        assert row["expected"] == 0.5


def test_without_sites_only_the_outcome_can_be_shuffled():
    table = probed()
    assert list(table.index) == [("permuted_outcome", "clinical+genomics")]
    assert np.isfinite(table["estimate"]).all()
