import numpy as np
import pytest

from tabular_trainers.bootstrap import bootstrap_method
from tabular_trainers.metrics import bootstrap_weights, harrell_c, interval
from tests.survival_golden import GOLDEN, PATIENTS, golden_outcome

STRATA = np.repeat([0, 1, 2], [30, 40, 50])


def test_patients_are_drawn_within_folds():
    weights = bootstrap_weights(STRATA, n_resamples=200, seed=3)
    assert weights.shape == (200, 120)
    for s, size in enumerate((30, 40, 50)):
        assert (weights[:, STRATA == s].sum(axis=1) == size).all()
    assert weights.mean() == 1.0
    # the variance of a multinomial count with n cells and n draws is 1 - 1/n
    assert weights.var(axis=0).mean() == pytest.approx(1 - 1 / 40, abs=0.05)
    assert (weights == bootstrap_weights(STRATA, n_resamples=200, seed=3)).all()
    assert (weights != bootstrap_weights(STRATA, n_resamples=200, seed=4)).any()


def test_whole_sites_are_drawn_within_folds():
    site = np.array([f"s{i // 10}" for i in range(120)])  # 3, 4 and 5 sites of 10 in the folds
    weights = bootstrap_weights(STRATA, site, 100)
    for name in np.unique(site):
        assert (weights[:, site == name] == weights[:, site == name][:, :1]).all()
    assert bootstrap_method(100, site) == "bootstrap (100 resamples of sites within folds)"


def test_a_fold_of_one_site_draws_its_patients():
    site = np.where(STRATA == 0, "one", [f"s{i % 12}" for i in range(120)])
    weights = bootstrap_weights(STRATA, site, 50)[:, STRATA == 0]
    assert (weights != weights[:, :1]).any()
    assert (weights.sum(axis=1) == 30).all()


def test_few_sites_are_not_clusters():
    site = np.array([f"s{i % 9}" for i in range(120)])
    assert (bootstrap_weights(STRATA, site, 20) == bootstrap_weights(STRATA, None, 20)).all()
    assert bootstrap_method(20, site) == "bootstrap (20 resamples of patients within folds)"


def test_missing_sites_are_clusters_of_their_own():
    site = np.array([f"s{i // 10}" for i in range(120)], dtype=object)
    site[:10] = None
    weights = bootstrap_weights(STRATA, site, 50)
    assert (weights[:, :10] != weights[:, :1]).any()


def test_standard_error_of_harrell_c_is_near_r_s_infinitesimal_jackknife():
    weights = bootstrap_weights(PATIENTS["fold"], n_resamples=2000, seed=0)
    draws = harrell_c(golden_outcome(), PATIENTS["risk"], PATIENTS["fold"], weights)
    error, lower, upper = interval(draws)
    assert error == pytest.approx(GOLDEN["harrell_se"], rel=0.15)
    assert lower < GOLDEN["harrell_c"]["strata"] < upper


def test_interval_leaves_out_a_few_undefined_draws_and_refuses_many():
    draws = np.arange(1000.0)
    expected = (draws.std(ddof=1), *np.percentile(draws, [2.5, 97.5]))
    assert interval(draws) == pytest.approx(expected)
    draws[:50] = np.nan
    assert np.isfinite(interval(draws)).all()
    draws[:51] = np.nan
    assert np.isnan(interval(draws)).all()
