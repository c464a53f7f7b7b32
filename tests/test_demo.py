import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import concordance_index_censored

from tabular_trainers import DataError, demo_cohort, synthetic_cohort


def test_the_demo_is_the_cohort_of_scikit_survival():
    from sksurv.datasets import load_breast_cancer

    features, outcome = load_breast_cancer()
    cohort = demo_cohort()
    analysis = cohort.analysis_set()
    assert analysis.X.shape == (198, 80)
    assert list(cohort.blocks["clinical"].table) == ["age", "er", "grade", "size"]
    assert cohort.blocks["genomics"].table.shape == (198, 76)
    assert analysis.categorical == ("clinical.er", "clinical.grade")
    assert cohort.site is None
    endpoint = cohort.endpoint()
    assert (endpoint.name, endpoint.unit, endpoint.n_events) == ("distant_metastasis", "days", 51)
    assert np.array_equal(endpoint.table["time"], outcome["t.tdm"])
    assert np.array_equal(endpoint.table["event"], outcome["e.tdm"])
    assert np.array_equal(analysis.X["clinical.age"], features["age"])
    assert analysis.X["clinical.grade"].isna().sum() == (features["grade"] == "unkown").sum()
    assert "unkown" not in set(analysis.X["clinical.grade"])
    assert set(analysis.feature_sets) == {"clinical", "genomics", "clinical+genomics"}
    assert demo_cohort().source_hash == cohort.source_hash


def test_the_same_seed_gives_the_same_cohort():
    one, two, other = (synthetic_cohort(50, seed=seed) for seed in (3, 3, 4))
    assert one.source_hash == two.source_hash != other.source_hash
    pd.testing.assert_frame_equal(one.analysis_set().X, two.analysis_set().X)


def test_the_truth_adds_up_and_orders_patients_as_said():
    cohort = synthetic_cohort(4000, n_sites=20, site_effect=0.5, interactions=0.4, censoring=0.4)
    truth = cohort.truth
    assert list(truth.contributions) == ["clinical", "genomics", "interaction", "site"]
    assert np.allclose(truth.contributions.sum(axis=1), truth.risk)
    # Standard deviations are those asked for; the one over 20 sites is itself a draw.
    spread = truth.contributions.std()
    assert spread[["clinical", "genomics", "interaction"]].to_numpy() == pytest.approx(
        [0.7, 0.5, 0.4], rel=0.1
    )
    assert spread["site"] == pytest.approx(0.5, rel=0.5)


@pytest.mark.parametrize("censoring", [0.0, 0.5, 0.8])
def test_true_concordance_is_what_scikit_survival_finds(censoring):
    cohort = synthetic_cohort(5000, censoring=censoring, seed=1)
    table, truth = cohort.endpoint().table, cohort.truth
    found = concordance_index_censored(
        table["event"].to_numpy(), table["time"].to_numpy(), truth.risk.to_numpy()
    )[0]
    # The standard error of C is about 0.35 / sqrt(events).
    assert found == pytest.approx(truth.harrell_c, abs=3 * 0.35 / np.sqrt(table["event"].sum()))
    assert 1 - table["event"].mean() == pytest.approx(censoring, abs=0.03)
    if censoring == 0:
        assert truth.harrell_c == truth.concordance


def test_true_auroc_is_what_scikit_learn_finds():
    from sklearn.metrics import roc_auc_score

    cohort = synthetic_cohort(5000, kind="classification", seed=2)
    label = cohort.endpoint().table["label"]
    assert roc_auc_score(label, cohort.truth.risk) == pytest.approx(
        cohort.truth.concordance, abs=0.025
    )


def test_concordance_of_a_hand_counted_pair():
    from tabular_trainers.demo import _truth

    # Log hazards log 3 and 0: the higher one is first with probability 3 / (3 + 1).
    risk = pd.Series([np.log(3), 0.0])
    assert _truth(risk, None, 0.0, False).concordance == pytest.approx(0.75)


def test_entry_leaves_only_patients_under_observation():
    cohort = synthetic_cohort(300, entry=True)
    table = cohort.endpoint().table
    assert len(table) == 300
    assert (table["entry"] < table["time"]).all()
    assert (table["entry"] >= 0).all()
    assert cohort.truth.harrell_c is None
    assert cohort.analysis_set().y.dtype.names == ("event", "time", "entry")


def test_missing_blocks_lack_rows_but_never_the_first():
    cohort = synthetic_cohort(400, missing_blocks=0.25)
    assert len(cohort.blocks["clinical"].table) == 400
    assert len(cohort.blocks["genomics"].table) == pytest.approx(300, abs=40)
    assert len(cohort.analysis_set().patient_id) == len(cohort.blocks["genomics"].table)


def test_a_site_moves_every_block_but_clinical():
    cohort = synthetic_cohort(2000, n_sites=5, site_effect=2.0)
    for name, moved in (("clinical", False), ("genomics", True)):
        table = cohort.blocks[name].table.select_dtypes("number")
        means = table.groupby(cohort.site).mean()
        assert bool(means.std().mean() > 0.5) is moved


def test_blocks_of_noise():
    cohort = synthetic_cohort(100, features={"clinical": 2, "noise": 5}, effects={"noise": 0})
    assert (cohort.truth.contributions["noise"] == 0).all()
    assert cohort.blocks["noise"].table.shape == (100, 5)


def test_arguments_that_cannot_be():
    with pytest.raises(DataError, match=r"unknown kind 'regression'; known: survival, class"):
        synthetic_cohort(kind="regression")
    with pytest.raises(DataError, match=r"censoring is 1\.0; expected at least 0 and below 1\."):
        synthetic_cohort(censoring=1.0)
    with pytest.raises(DataError, match=r"effects: unknown block 'genomic'; known: clinical, geno"):
        synthetic_cohort(effects={"genomic": 1})
