"""What tells a site: against R wilcox.test; what is flagged, and what is not."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from tabular_trainers.tissue import bias_table, site_auc
from tests.tissue_golden import CLUSTERS, GOLDEN, PREVALENCE, golden_patients

SITES = np.repeat(["east", "hill", "lake", "north", "south", "west"], 20).astype(object)


def test_auc_and_rates_agree_with_r():
    found = site_auc(PREVALENCE, golden_patients().site)
    auc, rate = np.array(GOLDEN["auc"]), np.array(GOLDEN["fdr"])
    at = np.argmax(np.maximum(auc, 1 - auc), axis=1)
    assert found["site"].tolist() == [GOLDEN["sites"][k] for k in at]
    rows = np.arange(len(CLUSTERS))
    np.testing.assert_allclose(found["site_auc"], np.maximum(auc, 1 - auc)[rows, at], rtol=1e-12)
    np.testing.assert_allclose(found["site_fdr"], rate[rows, at], rtol=1e-9)
    assert found["told"].tolist() == [False, False, True, False]


def test_share_of_a_cluster_by_hand():
    # means 0.3, 0.1 and 0.1 of a cluster: 0.6 of it at the first, were they of one size
    prevalence = pd.DataFrame({"c01": np.r_[np.full(5, 0.3), np.full(20, 0.1), np.full(6, 0.1)]})
    site = np.repeat(["a", "b", "c"], [5, 20, 6])
    found = site_auc(prevalence, site).iloc[0]
    assert found["site_share"] == pytest.approx(0.6)
    assert (found["site"], found["site_auc"]) == ("a", 1.0)


def random_tissue(seed, n=120, k=4):
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        random.dirichlet(np.full(k, 1.5), n), columns=[f"c{j + 1:02d}" for j in range(k)]
    )


def with_cluster(share, seed=0):
    table = random_tissue(seed)
    return table.mul(1 - share, axis=0).assign(c05=share)


@pytest.mark.parametrize("seen_in", [5, 10, 20])
def test_a_pen_of_one_site_is_flagged_even_if_few_of_its_slides_have_it(seen_in):
    share = np.zeros(120)
    share[40 : 40 + seen_in] = 0.02 + 0.01 * np.arange(seen_in) / seen_in
    found = bias_table(with_cluster(share), SITES).loc["c05"]
    assert (found["site"], found["flag"]) == ("lake", "site")
    assert found["site_share"] == 1.0
    # where a patch of another site looks like it, too
    share[[3, 77]] = 0.01
    assert bias_table(with_cluster(share), SITES).loc["c05", "flag"] == "site"


def test_tissue_that_differs_modestly_between_sites_is_not_flagged():
    random = np.random.default_rng(1)
    site = np.repeat(SITES, 5)
    factor = {"east": 1.0, "hill": 1.15, "lake": 0.85, "north": 1.4, "south": 0.7, "west": 1.0}
    share = 0.2 * pd.Series(site).map(factor).to_numpy() * random.lognormal(0, 0.5, 600)
    table = random_tissue(1, 600).mul(1 - share, axis=0).assign(c05=share)
    found = bias_table(table, site)
    assert found.loc["c05", "site_fdr"] < 1e-6  # they do differ
    assert found["flag"].tolist() == [""] * 5


def test_noise_is_hardly_ever_flagged():
    flags = [
        (bias_table(random_tissue(seed, 90, 20), np.arange(90) % 15).flag != "").sum()
        for seed in range(50)
    ]
    assert sum(flags) <= 5  # of 1,000 clusters


def test_of_two_sites_the_one_that_tells_the_cluster_is_given():
    # 11 of 20 in lake: AUC below 0.8; the five of a small site have less than others, by chance
    site = SITES.copy()
    site[:5] = "small"
    share = 1e-4 * (1 + np.arange(120) % 7)
    share[:5] = 1e-4 * np.array([1.0, 1.1, 2.1, 1.2, 1.3])
    share[40:51] = 0.3
    found = bias_table(with_cluster(share), site).loc["c05"]
    auc = roc_auc_score(site == "small", -share)
    assert auc > found["site_auc"] > 0.65
    assert (found["site"], found["flag"]) == ("lake", "site")


def test_small_and_unknown_sites_are_told_from_nobody():
    site = SITES.copy()
    site[:16] = None  # 4 of east are left
    table = with_cluster(np.where(np.arange(120) < 20, 0.1, 0.0))
    found = site_auc(table, site)
    assert (found["site"] != "east").all()
    rest = table[16:]
    for cluster, row in found.iterrows():
        inside = (site[16:] == row["site"]).astype(int)
        auc = roc_auc_score(inside, rest[cluster])
        assert row["site_auc"] == pytest.approx(max(auc, 1 - auc), rel=1e-12)
        p_value = mannwhitneyu(rest[cluster][inside == 1], rest[cluster][inside == 0]).pvalue
        assert row["site_fdr"] >= p_value
    one = site_auc(table, np.where(np.arange(120) < 116, "a", "b"))
    assert one["site_auc"].isna().all()
    assert not one["told"].any()
    assert site_auc(table, None)["site"].isna().all()


def test_ink_and_blur_are_artefacts():
    quality = pd.DataFrame(
        {
            "cluster": ["c01", "c02", "c03", "c04", "c05"],
            "n_patches": [100, 5, 100, 100, 0],
            "blur": [0.40, 0.61, 0.45, 0.35, np.nan],
            "artefact": [0.049, 0.0, 0.05, 0.0, np.nan],
        }
    )
    share = np.where(SITES == "lake", 0.1, 0.0)
    found = bias_table(with_cluster(share), SITES, quality.iloc[::-1])
    assert found["flag"].tolist() == ["", "artefact", "artefact", "", "site"]
    np.testing.assert_array_equal(found["blur"], quality["blur"])
    assert bias_table(with_cluster(share), None)["flag"].tolist() == [""] * 5
