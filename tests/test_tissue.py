"""Tissue and risk, end to end on patients whose risk one cluster drives."""

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import tissue
from tabular_trainers.errors import DataError, SchemaError
from tabular_trainers.folds import make_folds
from tabular_trainers.schema import validate
from tests.survival_golden import outcome

SITES = 6


def simulated(n=240, k=6, seed=0, effect=1.5, task="survival"):
    """Prevalences, patients and out-of-fold risks: c02 protects, age harms, c05 is one site's pen.

    Returns
    -------
    prevalence, patients, folds, risk
    """
    random = np.random.default_rng(seed)
    ids = pd.Index([f"p{i:04d}" for i in range(n)], name="patient_id")
    site = np.array([f"site {i % SITES}" for i in range(n)], dtype=object)
    parts = random.dirichlet(np.r_[np.full(k, 2.0)], n)
    pen = (site == "site 3") & (random.random(n) < 0.7)
    parts[:, 4] = np.where(pen, 0.05 + 0.1 * random.random(n), 0.0)
    parts /= parts.sum(axis=1, keepdims=True)
    prevalence = pd.DataFrame(parts, index=ids, columns=[f"c{j + 1:02d}" for j in range(k)])
    age, sex = random.normal(60, 10, n), random.choice(["f", "m"], n)
    tissue_risk = -effect * parts[:, 1] / parts[:, 1].std()
    true = tissue_risk + 0.04 * age
    if task == "survival":
        time = random.exponential(1000 * np.exp(-(true - true.mean())))
        end = random.uniform(100, 4000, n)
        y = outcome(np.minimum(time, end), time <= end)
    else:
        y = (random.random(n) < 1 / (1 + np.exp(-(true - true.mean())))).astype(np.int8)
    clinical = pd.DataFrame({"clinical.age": age, "clinical.sex": sex.astype(object)}, index=ids)
    patients = tissue.Patients(ids, y, clinical, ("clinical.sex",), site)
    folds = make_folds(y, ids, site, 3)
    risk = folds[folds["part"] == "test"].drop(columns="part").reset_index(drop=True)
    at = ids.get_indexer(risk["patient_id"])
    noise = random.normal(0, 0.5 * tissue_risk.std(), len(at))
    return prevalence, patients, folds, risk.assign(risk=10.0 * risk["fold"] + true[at] + noise)


@pytest.fixture(scope="module", params=["survival", "classification"])
def cohort(request):
    return simulated(task=request.param)


def by_fold(prevalence, folds):
    keys = folds[["repeat", "fold"]].drop_duplicates().itertuples(index=False)
    return {(int(repeat), int(fold)): prevalence for repeat, fold in keys}


def test_the_cluster_that_drives_the_risk_is_found(cohort):
    prevalence, patients, folds, risk = cohort
    quality = pd.DataFrame(
        {"cluster": prevalence.columns, "n_patches": 100, "blur": 0.4, "artefact": 0.0}
    )
    table = tissue.cluster_table(prevalence, risk, patients, quality=quality)
    validate(table, "tissue_clusters")
    table = table.set_index("cluster")
    assert table["adjusted_p_value"].idxmin() == "c02"
    assert table.loc["c02", "prognostic"]
    assert table.loc["c02", "adjusted_ratio"] < 1 / 2
    assert table.loc["c02", "spearman"] == table["spearman"].min()
    assert table["flag"].tolist() == ["", "", "", "", "site", ""]
    assert not table.loc["c05", "prognostic"]


def test_prevalences_explain_the_risk_and_clinical_columns_some_of_it(cohort):
    prevalence, patients, _, risk = cohort
    table = tissue.explained_variance(prevalence, risk, patients)
    validate(table, "tissue_variance")
    found = table.set_index("predictors")["r_squared"]
    assert found["prevalence"] > 0.6 > 0.2 > found["clinical"]
    assert found["both"] > found["prevalence"]


def test_forward_selection_chooses_it_in_every_training_part(cohort):
    prevalence, patients, folds, _ = cohort
    found = tissue.forward_selection(by_fold(prevalence, folds), patients, folds)
    for name, table in zip(("steps", "selection", "scores"), found, strict=True):
        validate(table, f"tissue_{name}")
    assert found.steps.loc[found.steps["step"] == 1, "matched"].tolist() == ["c02"] * 3
    assert found.frequency.iloc[0][["cluster", "n_selected"]].tolist() == ["c02", 3]
    assert found.scores["difference_lower"].iloc[1] > 0


def test_flagged_clusters_are_left_out(cohort):
    prevalence, patients, folds, _ = cohort
    given = by_fold(prevalence, folds)
    table = tissue.without_flagged(given, patients, folds, ["c05"])
    validate(table, "tissue_scores")
    assert table["model"].tolist() == [
        "all clusters", "clusters not flagged",
        "clinical + all clusters", "clinical + clusters not flagged",
    ]  # fmt: skip
    assert table["difference"].iloc[[1, 3]].abs().max() < 0.02
    assert tissue.without_flagged(given, patients, folds, ["c02"])["difference"].iloc[1] < -0.05
    assert tissue.without_flagged(given, patients, folds, []).empty


def test_tables_that_do_not_fit_are_refused(cohort):
    prevalence, patients, folds, risk = cohort
    with pytest.raises(SchemaError, match="1 patient .p0000. whose values are no shares"):
        tissue.explained_variance(prevalence * np.r_[1.1, np.ones(239)][:, None], risk, patients)
    with pytest.raises(SchemaError, match="p0000 there more than once"):
        tissue.cluster_table(pd.concat([prevalence, prevalence[:1]]), risk, patients)
    with pytest.raises(DataError, match="0 patients of 240 in the analysis have prevalences"):
        tissue.cluster_table(prevalence.rename(index=str.upper), risk, patients)
    with pytest.raises(DataError, match="no table of repeat 0, fold 1"):
        tissue.forward_selection({(0, 0): prevalence}, patients, folds)
