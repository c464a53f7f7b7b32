"""The cluster table against R: coxph, glm, p.adjust, cor; and what is not tested."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.schema import validate
from tabular_trainers.tissue import cluster_table, false_discovery_rate
from tests.tissue_golden import CLUSTERS, GOLDEN, IDS, PREVALENCE, RISK, golden_patients

FIELDS = ["ratio", "lower", "upper", "p_value"]


@pytest.mark.parametrize(
    ("given", "alone", "adjusted"),
    [
        ({}, "alone", "adjusted"),
        ({"entry": True}, "entry_alone", "entry_adjusted"),
        ({"site": False}, None, "no_site"),
        ({"task": "classification"}, "odds_alone", "odds_adjusted"),
    ],
)
def test_ratios_agree_with_r(given, alone, adjusted):
    table = cluster_table(PREVALENCE, RISK, golden_patients(**given))
    validate(table, "tissue_clusters")
    for prefix, name in (("", alone), ("adjusted_", adjusted)):
        if name is not None:
            found = table[[prefix + field for field in FIELDS]].to_numpy()
            expected = [one[name] for one in GOLDEN["effects"]]
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    kind = "odds ratio" if "task" in given else "hazard ratio"
    assert (table["effect"] == kind).all()


def test_rates_and_rank_correlations_agree_with_r():
    table = cluster_table(PREVALENCE, RISK, golden_patients())
    np.testing.assert_allclose(table["adjusted_fdr"], GOLDEN["cluster_fdr"], rtol=1e-6)
    sizes = np.bincount(GOLDEN["patients"]["fold"])
    expected = np.array(GOLDEN["spearman"]) @ sizes / sizes.sum()
    np.testing.assert_allclose(table["spearman"], expected, atol=1e-12)
    # c03 goes with the outcome, and with one site
    assert (np.array(GOLDEN["cluster_fdr"]) < 0.05).tolist() == [False, True, True, False]
    assert table["flag"].tolist() == ["", "", "site", ""]
    assert table["prognostic"].tolist() == [False, True, False, False]


def test_false_discovery_rates_ignore_what_was_not_tested():
    p_values = np.array(GOLDEN["p_value"])
    found = false_discovery_rate(np.r_[np.nan, p_values.ravel()])
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], np.ravel(GOLDEN["fdr"]), rtol=1e-12)


def test_risks_of_several_repeats_are_averaged_and_their_scale_does_not_matter():
    twice = pd.concat([RISK, RISK.assign(repeat=1, risk=-RISK["risk"])])
    patients = golden_patients()
    once = cluster_table(PREVALENCE, RISK, patients)["spearman"]
    scaled = RISK.assign(risk=np.exp(RISK["risk"]) * (1 + RISK["fold"]) + 50 * RISK["fold"])
    np.testing.assert_allclose(
        cluster_table(PREVALENCE, scaled, patients)["spearman"], once, atol=1e-12
    )
    np.testing.assert_allclose(
        cluster_table(PREVALENCE, twice, patients)["spearman"], 0.0, atol=1e-12
    )


def test_the_table_follows_patients_not_rows():
    patients = golden_patients()
    order = np.random.default_rng(0).permutation(len(IDS))
    shuffled = PREVALENCE.iloc[order].reset_index()
    expected = cluster_table(PREVALENCE, RISK, patients)
    pd.testing.assert_frame_equal(cluster_table(shuffled, RISK.iloc[order], patients), expected)
    fewer = cluster_table(PREVALENCE.iloc[order[:150]], RISK, patients)
    assert fewer["n_patients"].tolist() == (PREVALENCE.iloc[order[:150]] > 0).sum().tolist()


def test_prevalences_are_described():
    table = cluster_table(PREVALENCE, RISK, golden_patients(), names={"c02": "fat", "c03": ""})
    assert table["name"].tolist() == [None, "fat", None, None]
    described = PREVALENCE.describe().T
    for column, name in (("median", "50%"), ("lower", "25%"), ("upper", "75%"), ("mean", "mean")):
        np.testing.assert_allclose(table[f"prevalence_{column}"], described[name], rtol=1e-12)
    np.testing.assert_allclose(table["prevalence_deviation"], described["std"], rtol=1e-12)


def moved(cluster, share):
    """Give this share of every patient to a further cluster."""
    return PREVALENCE.mul(1 - share, axis=0).assign(**{cluster: share})


def test_what_says_nothing_is_not_tested():
    patients = golden_patients()
    few = moved("c05", np.where(np.arange(len(IDS)) < 9, 0.01, 0.0))
    table = cluster_table(few, RISK, patients).set_index("cluster")
    assert table.loc["c05", "note"] == "not tested: in 9 patients"
    assert np.isnan(table.loc["c05", ["ratio", "adjusted_ratio", "fdr"]].astype(float)).all()
    assert not table.loc["c05", "prognostic"]
    # the others' rates are those of the four that were tested
    assert table.loc[CLUSTERS, "adjusted_fdr"].notna().all()
    place = pd.Series(patients.site).map({"east": 0.0, "hill": 0.01, "lake": 0.02, "west": 0.015})
    of_site = cluster_table(moved("c05", place.fillna(0.0).to_numpy()), RISK, patients)
    assert of_site["note"].iloc[4] == "not tested: does not vary within sites"
    age = patients.clinical["clinical.age"].to_numpy()
    of_age = moved("c05", 0.002 * (age - age.min()) / np.ptp(age))
    of_age = cluster_table(of_age, RISK, patients)
    assert of_age["note"].iloc[4] == "not adjusted: a sum of clinical columns"
    assert np.isfinite(of_age["ratio"].iloc[4])
    assert np.isnan(of_age["adjusted_ratio"].iloc[4])


def test_a_level_without_events_leaves_the_other_ratios_finite():
    # its coefficient runs to minus infinity, and its patients out of all risk sets
    patients = golden_patients()
    rare = np.arange(len(IDS)) % 8 == 3
    stage = patients.clinical["clinical.stage"].where(~rare, "IV")
    patients.y["event"][rare] = False
    whole = dataclasses.replace(patients, clinical=patients.clinical.assign(**{stage.name: stage}))
    found = cluster_table(PREVALENCE, RISK, whole)
    ends = PREVALENCE.std(ddof=1) / PREVALENCE[~rare].std(ddof=1)
    expected = cluster_table(PREVALENCE[~rare], RISK, whole)["adjusted_ratio"].to_numpy()
    np.testing.assert_allclose(found["adjusted_ratio"], expected ** ends.to_numpy(), rtol=1e-4)


def test_without_clinical_columns_both_ratios_are_the_same():
    patients = dataclasses.replace(golden_patients(), clinical=None, categorical=())
    table = cluster_table(PREVALENCE, RISK, patients)
    np.testing.assert_array_equal(table["ratio"], table["adjusted_ratio"])
