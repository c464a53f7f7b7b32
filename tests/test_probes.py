"""Probes: a planted hospital effect is seen, and none is seen where none was planted."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.bootstrap import bootstrap_weights
from tabular_trainers.cohort import Block
from tabular_trainers.demo import synthetic_cohort
from tabular_trainers.evaluation import evaluate
from tabular_trainers.metrics import harrell_c
from tabular_trainers.models import MODELS, make_model, predict_risk
from tabular_trainers.permutation import measured_folds, permutations, tuned_parameters
from tabular_trainers.probes import count_fits, probe
from tabular_trainers.schema import validate
from tabular_trainers.site_prediction import _mean_auroc


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


def test_sites_are_averaged_by_size_over_pairs_within_folds_with_an_interval():
    generator = np.random.default_rng(3)
    site, fold = generator.choice(["a", "b", "c"], 60), generator.integers(0, 2, 60)
    probability = generator.random((60, 3)) + 0.3 * (site[:, None] == np.array(["a", "b", "c"]))
    probability[fold == 1, 2] = np.nan  # c was not in the training part
    at = np.arange(60)
    found = _mean_auroc(site, pd.Index(["a", "b", "c"]), at, fold, probability, 200, seed=1)
    weights = bootstrap_weights(fold, None, 200, seed=1)
    for row, value in ((np.ones(60), found.estimate), (weights[17], found.values[17])):
        aurocs, sizes = [], []
        for column, name in enumerate("abc"):
            pairs = [
                (row[i] * row[j], np.sign(probability[i, column] - probability[j, column]))
                for i in np.flatnonzero(site == name)
                for j in np.flatnonzero(site != name)
                if fold[i] == fold[j] and np.isfinite(probability[i, column])
            ]
            weight, sign = np.array(pairs).T
            aurocs.append(weight @ (1 + sign) / 2 / weight.sum())
            sizes.append((np.isfinite(probability[:, column]) & (site == name)).sum())
        assert value == pytest.approx(np.average(aurocs, weights=sizes), abs=1e-12)
    assert 0.02 < found.interval().standard_error < 0.06


def test_shuffled_outcomes_are_not_predicted_also_where_sites_differ(with_effect, without_effect):
    for table in (with_effect, without_effect):
        row = table.xs("permuted_outcome").iloc[0]
        assert row["lower"] < 0.5 < row["upper"]
        assert row["expected"] == 0.5
        assert row["flagged"] is False or not row["flagged"]


@pytest.fixture(scope="module")
def small():
    cohort = synthetic_cohort(150, features={"clinical": 3, "genomics": 3}, n_sites=8, seed=1)
    return evaluate(cohort, models=["cox"], folds=3, n_resamples=20)


def test_outcomes_stay_in_their_site_and_lone_patients_swap(small):
    site = np.array(small.plan.analysis.site, dtype=object)
    site[:3], site[3:5] = None, ["alone", "lonely"]
    analysis = dataclasses.replace(small.plan.analysis, site=site)
    drawn = permutations(dataclasses.replace(small.plan, analysis=analysis))
    assert len(drawn) == 20
    for order in drawn:
        assert sorted(order) == list(range(150))
        assert sorted(order[:5]) == [0, 1, 2, 3, 4]
        assert (site[order[5:]] == site[5:]).all()
    moved = np.mean([order[:5] != np.arange(5) for order in drawn], axis=0)
    assert (moved > 0.4).all()
    assert len({tuple(order) for order in drawn}) == 20


def test_each_permutation_is_measured_on_as_many_folds_as_a_tenth_of_the_fits_allows(small):
    plan = dataclasses.replace(small.plan, n_trials=8)  # 3 feature sets x 3 folds x 25 fits = 225
    assert measured_folds(plan)[:4] == [[0], [1], [2], [0]]
    plan = dataclasses.replace(plan, models=("cox", "rsf"))
    assert measured_folds(plan)[:2] == [[0, 1], [2, 0]]
    plan = dataclasses.replace(plan, models=("cox", "rsf", "xgb"))
    assert measured_folds(plan)[1] == [0, 1, 2]


def test_the_mean_over_permutations_is_that_of_fits_one_by_one(small):
    plan, analysis = small.plan, small.plan.analysis
    chosen = tuned_parameters(small.trials, analysis.full, "cox")
    values = []
    for order, folds in zip(permutations(plan), measured_folds(plan), strict=True):
        y, risk, fold = analysis.y[order], np.full(150, np.nan), np.full(150, -1)
        for k in folds:
            train, test = plan.positions(0, k)
            model = make_model(
                "cox",
                "survival",
                analysis.categorical,
                analysis.reduce,
                chosen[k],
                plan.fold_seed(0, k),
            )
            model.fit(analysis.X.iloc[train], y[train], model__groups=analysis.site[train])
            risk[test] = predict_risk(model, MODELS["survival"]["cox"], analysis.X.iloc[test])
            fold[test] = k
        held = fold >= 0
        strata = np.char.add(fold[held].astype(str), analysis.site[held].astype(str))
        values.append(harrell_c(y[held], risk[held], strata))
    row = probe(small).iloc[0]
    assert row["probe"] == "permuted_outcome"
    assert row["estimate"] == pytest.approx(np.mean(values), abs=1e-12)
    error = np.std(values, ddof=1) / np.sqrt(20)
    assert row["upper"] - row["estimate"] == pytest.approx(3 * error, rel=1e-9)


def test_a_model_that_knows_the_outcome_is_flagged(small, monkeypatch):
    """Stand-in for a leak: risks are the outcomes that the patients held out were given."""
    drawn = permutations(small.plan)

    def leaking(plan, feature_set, model, fold, parameters, own):
        _, test = plan.positions(0, fold)
        return pd.concat(
            pd.DataFrame(
                {
                    "patient_id": plan.analysis.patient_id[test],
                    "fold": fold,
                    "permutation": number,
                    "risk": -plan.analysis.y["time"][order[test]],
                }
            )
            for number, order in own.items()
        )

    monkeypatch.setattr("tabular_trainers.probes.fit_permuted", leaking)
    row = probe(small).iloc[0]
    assert len(drawn) == 20
    assert row["estimate"] == 1.0
    assert row["flagged"] is True or row["flagged"]
    assert "0.5 lies outside" in row["note"]


def test_cancer_types_that_differ_in_outcome_are_seen_through():
    """Genomics tells the type and nothing else; a type decides half of the outcome."""
    cohort = synthetic_cohort(300, features={"clinical": 2, "genomics": 2}, seed=7)
    generator = np.random.default_rng(7)
    types = generator.choice(["glioma", "lung", "skin"], 300)
    endpoint = cohort.endpoints["os"]
    shift = pd.Series(types, index=cohort.patients).map({"glioma": 0.2, "lung": 1.0, "skin": 5.0})
    table = endpoint.table.assign(time=endpoint.table["time"] * shift)
    columns = {f"x{i}": pd.factorize(types, sort=True)[0] + 0.1 * generator.normal(size=300)
               for i in range(2)}  # fmt: skip
    block = Block("genomics", pd.DataFrame(columns, index=cohort.patients), n_rows=300)
    cohort = dataclasses.replace(
        cohort,
        blocks={**cohort.blocks, "genomics": block},
        endpoints={"os": dataclasses.replace(endpoint, table=table)},
        cancer_type=pd.Series(types, index=cohort.patients),
    )
    evaluation = evaluate(cohort, models=["cox"], folds=3, n_resamples=20)
    table = probe(evaluation).set_index(["probe", "subject"])
    validate(table.reset_index(), "probes", "probes")
    assert table.loc[("cancer_type_alone", "cancer_type"), "lower"] > 0.65
    assert table.loc[("across_cancer_types", "genomics"), "lower"] > 0.65
    inside = table.loc[("within_cancer_type", "genomics")]
    assert inside["lower"] < 0.5 < inside["upper"]
    assert inside["upper"] - inside["lower"] < 0.15
    analysis = evaluation.plan.analysis
    own = evaluation.predictions.query("feature_set == 'genomics'").set_index("patient_id")
    own = own.loc[analysis.patient_id]
    strata = np.char.add(own["fold"].to_numpy().astype(str), analysis.cancer_type.astype(str))
    by_hand = harrell_c(analysis.y, own["risk"].to_numpy(), strata)
    assert inside["estimate"] == pytest.approx(by_hand, abs=1e-12)


def test_without_sites_only_the_outcome_can_be_shuffled():
    table = probed(synthetic_cohort(150, features={"clinical": 3, "genomics": 3}))
    assert list(table.index) == [("permuted_outcome", "clinical+genomics")]
    assert np.isfinite(table["estimate"]).all()
