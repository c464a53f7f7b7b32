"""The recipes under notebooks/cohorts, against the real tables."""

import tomllib

import pytest

from tabular_trainers import load_cohort
from tabular_trainers.cohort_config import read_config

# patients, deaths, clinical columns, genomics columns: counted with pandas from the tables.
TCGA = {
    "blca": (373, 169, 2, 2181),
    "brca": (956, 130, 3, 2912),
    "gbmlgg": (569, 187, 3, 1590),
    "luad": (453, 158, 2, 2936),
    "skcm": (230, 89, 3, 2340),
    "ucec": (480, 75, 2, 1411),
}


@pytest.fixture(scope="session")
def recipes(root):
    """Return the folder of the recipes."""
    return root / "notebooks" / "cohorts"


def test_every_recipe_opens_with_where_to_get_the_tables(recipes):
    paths = sorted(recipes.glob("*.toml"))
    assert [path.stem for path in paths] == ["hancock", "laml", *(f"tcga_{name}" for name in TCGA)]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        opening = text[: text.index("title =")]
        assert "Where to get the tables: https://" in opening
        assert "--data" in opening
        read_config(path)
        tables = tomllib.loads(text)
        named = [tables["clinical"]["table"]]
        for section in (*tables["endpoints"].values(), *tables["blocks"].values()):
            table = section.get("table", [])
            named += table if isinstance(table, list) else [table]
        for table in named:  # the folder listing names every table
            assert table in opening, (path.name, table)


@pytest.mark.parametrize("name", TCGA)
def test_tcga(recipes, real_data, name):
    patients, deaths, clinical, genomics = TCGA[name]
    cohort = load_cohort(recipes / f"tcga_{name}.toml", real_data("tcga_porpoise"))
    analysis = cohort.analysis_set()
    assert len(analysis.patient_id) == len(cohort.patients) == patients
    assert analysis.endpoint.n_events == deaths
    assert analysis.endpoint.unit == "months"
    assert len(analysis.feature_sets["clinical"]) == clinical
    assert len(analysis.feature_sets["genomics"]) == genomics
    assert len(set(analysis.site)) > 15
    assert any("agree in every column used" in note for note in cohort.notes)


@pytest.fixture(scope="module")
def hancock(recipes, real_data):
    """Load HANCOCK once."""
    return load_cohort(recipes / "hancock.toml", real_data("hancock"))


# Counted with pandas from targets.csv and pathological.csv: 10 of 763 rfs times are negative and 2
# zero; 332 of 763 patients were tested for p16.
@pytest.mark.parametrize(
    ("endpoint", "known", "events"), [("os", 763, 213), ("rfs", 751, 292), ("hpv", 332, 141)]
)
def test_hancock_endpoints(hancock, endpoint, known, events):
    assert hancock.endpoint_problems == {}
    found = hancock.endpoint(endpoint)
    assert (len(found.table), found.n_events) == (known, events)


def test_hancock_blocks(hancock):
    assert {name: len(block.table) for name, block in hancock.blocks.items()} == {
        "clinical": 763,
        "blood": 692,
        "cells": 736,
        "pathology": 760,
    }
    assert hancock.site is None
    assert hancock.patients[0] == "001"
    flow = hancock.analysis_set("rfs").flow
    assert flow["description"].tolist() == [
        "patients in the clinical table (clinical.csv)",
        "endpoint rfs before time zero",
        "endpoint rfs at time zero",
        "without block blood",
        "without block cells",
        "without block pathology",
    ]
    assert flow["n_dropped"].tolist()[:3] == [0, 10, 2]


def test_hancock_hpv_is_not_told_by_its_predictors(hancock):
    clinical = hancock.blocks["clinical"].table
    label = hancock.endpoint("hpv").table["label"]
    # Why grading is left out: one of its codes stands for exactly the positive patients.
    assert (clinical.loc[label.index, "grading"].eq("3") == label).all()
    columns = hancock.analysis_set("hpv").X.columns
    for column in ("hpv_association_p16", "grading", "pT_stage", "pN_stage"):
        assert f"clinical.{column}" not in columns
        assert f"clinical.{column}" in hancock.analysis_set("os").X.columns


def test_laml(recipes, real_data, tmp_path):
    """As the recipe says: two small tables first. The numbers are counted with awk."""
    from tabular_trainers.embed.genes.mutation_tables import (
        mutation_table,
        read_patients,
        write_mutation_table,
    )
    from tabular_trainers.embed.genes.mutations import read_maf

    source = real_data("laml")
    annotation = source / "tcga_laml_annot.tsv"
    clinical = annotation.read_text().replace("-Inf", "")
    (tmp_path / "tcga_laml_clinical.tsv").write_text(clinical)
    maf = source / "tcga_laml.maf.gz"
    table = mutation_table(read_maf(maf), patients=read_patients(annotation))
    write_mutation_table(table, tmp_path / "tcga_laml_mutations.parquet", [maf])
    cohort = load_cohort(recipes / "laml.toml", tmp_path)
    assert len(cohort.patients) == 200
    assert (len(cohort.endpoint("os").table), cohort.endpoint("os").n_events) == (188, 122)
    analysis = cohort.analysis_set()  # one patient has no FAB class
    assert (len(analysis.y), analysis.y["event"].sum()) == (187, 121)
    assert len(analysis.feature_sets["genomics"]) == 23
    assert (cohort.endpoint("os").table["time"] == 0.5).sum() == 13


def test_the_plan_over_the_tcga_recipes_asks_for_all_of_them(root, tmp_path):
    from tabular_trainers.batch_plan import read_plan

    for name in TCGA:
        (tmp_path / "splits" / f"tcga_{name}").mkdir(parents=True)
    plan = read_plan(root / "notebooks" / "plans" / "tcga.toml", tmp_path)
    assert [job.name for job in plan.jobs] == [f"tcga_{name}_os" for name in TCGA]
    assert [job.folds for job in plan.jobs] == [tmp_path / "splits" / f"tcga_{n}" for n in TCGA]
    assert plan.jobs[0].settings == {
        "feature_sets": ["clinical", "genomics", "clinical+genomics"],
        "models": ["cox", "rsf", "xgb"],
    }
