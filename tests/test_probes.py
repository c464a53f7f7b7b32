"""Probes: a planted hospital effect is seen, and none is seen where none was planted."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.cohort import Block
from tabular_trainers.demo import synthetic_cohort
from tabular_trainers.evaluation import evaluate
from tabular_trainers.probes import count_fits, probe
from tabular_trainers.schema import validate


def draw(n_sites=9, site_effect=1.5):
    """Draw patients whose genomics block is a fingerprint of the hospital and nothing else.

    The fingerprints have no common direction with the hazard, so what a model learns of one
    hospital says nothing about another: all it gains on random folds is a leak.
    """
    cohort = synthetic_cohort(
        300, features={"clinical": 3}, n_sites=n_sites, site_effect=site_effect, seed=4
    )
    generator = np.random.default_rng(0)
    prints = generator.standard_normal((n_sites, 12))
    site = pd.factorize(cohort.site)[0]
    values = prints[site] + 0.3 * generator.standard_normal((300, 12))
    columns = [f"x{i}" for i in range(12)]
    table = pd.DataFrame(values, index=cohort.patients, columns=columns)
    blocks = {**cohort.blocks, "genomics": Block("genomics", table, n_rows=300)}
    return dataclasses.replace(cohort, blocks=blocks)


def probed(cohort):
    evaluation = evaluate(cohort, models=["cox"], folds=3, n_resamples=100)
    keys = []
    table = probe(evaluation, progress=keys.append)
    assert len(keys) == count_fits(evaluation.plan)
    validate(table, "probes", "probes")
    return table.set_index(["probe", "subject"])


@pytest.fixture(scope="module")
def with_effect():
    return probed(draw())


@pytest.fixture(scope="module")
def without_effect():
    return probed(draw(site_effect=0.0))


def test_a_site_that_decides_the_outcome_is_seen(with_effect, without_effect):
    assert with_effect.loc[("site_alone", "site"), "lower"] > 0.6
    none = without_effect.loc[("site_alone", "site")]
    assert none["lower"] < 0.5 + 0.05
    assert none["estimate"] == pytest.approx(0.5, abs=0.08)


def test_features_that_carry_the_site_leak_it_on_random_folds(with_effect, without_effect):
    assert with_effect.loc[("site_leak", "genomics"), "lower"] > 0
    assert without_effect.loc[("site_leak", "genomics"), "estimate"] == pytest.approx(0, abs=0.05)


def test_a_block_that_tells_sites_apart_is_named(with_effect, without_effect):
    found = with_effect.xs("site_from_block")["estimate"]
    assert found["genomics"] > 0.85
    assert found["clinical"] == pytest.approx(0.5, abs=0.08)


def test_shuffled_outcomes_are_not_predicted(with_effect, without_effect):
    for table in (with_effect, without_effect):
        row = table.xs("permuted_outcome").iloc[0]
        assert row["lower"] - 0.03 < 0.5 < row["upper"] + 0.03
        assert row["expected"] == 0.5


def test_without_sites_only_the_outcome_can_be_shuffled():
    table = probed(synthetic_cohort(150, features={"clinical": 3, "genomics": 3}))
    assert list(table.index) == [("permuted_outcome", "clinical+genomics")]
    assert np.isfinite(table["estimate"]).all()
