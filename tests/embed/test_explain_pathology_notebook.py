"""The tutorial on which tissue drives the risk, executed on generated slides."""

import nbformat
import pandas as pd
import pytest

from tabular_trainers import notebook_run


@pytest.mark.slow
@pytest.mark.notebook
def test_the_tutorial_finds_the_tissue_that_protects(tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel's own draws into the notebook
    out = notebook_run.execute_notebook(
        "explain_pathology",
        tmp_path / "executed.ipynb",
        ["n_slides=36", "cases=1", f"out={tmp_path / 'work'}"],
    )
    outputs = [
        output
        for cell in nbformat.read(out, as_version=4).cells
        for output in cell.get("outputs", ())
    ]
    # four figures, the montage, the page of a patient, and the truth
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 7
    assert not any(output.get("name") == "stderr" for output in outputs)

    page = tmp_path / "work" / "run" / "tissue"
    assert (page / "tissue.html").exists()
    clusters = pd.read_parquet(page / "tissue_clusters.parquet").set_index("cluster")
    assert set(clusters["name"].dropna()) == {"lymphocyte-rich"}
    explained = pd.read_parquet(page / "tissue_variance.parquet").set_index("predictors")
    assert explained.loc["prevalence", "r_squared"] > 0.5
    assert explained.loc["clinical", "r_squared"] < 0.2
    # what protects is what was drawn to protect
    truth = pd.read_csv(tmp_path / "work" / "slides" / "truth.csv", index_col="patient_id")
    shares = pd.read_parquet(page / "composition.parquet").set_index("patient_id")
    agree = shares["lymphocyte-rich"].corr(truth["lymphocytes"], method="spearman")
    assert agree > 0.8
    assert f"Spearman's correlation: {agree:.2f}" in "".join(o.get("text", "") for o in outputs)
