"""The tutorial from slides to a cohort block, executed on generated slides."""

import nbformat
import pandas as pd
import pytest

from tabular_trainers import notebook_run


@pytest.mark.slow
@pytest.mark.notebook
def test_the_tutorial_runs_from_slides_to_a_verdict(tmp_path):
    out = notebook_run.execute_notebook(
        "embed_slides",
        tmp_path / "executed.ipynb",
        ["n_slides=24", f"out={tmp_path / 'work'}", "workers=1"],
    )
    outputs = [
        output
        for cell in nbformat.read(out, as_version=4).cells
        for output in cell.get("outputs", ())
    ]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "24 slides, 0 without features." in printed
    assert "24 patients, " in printed
    # the contact sheet, a slide, and two figures of the run
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert not any(output.get("name") == "stderr" for output in outputs)
    block = pd.read_parquet(tmp_path / "work" / "slides" / "pathology.parquet")
    assert block["patient_id"].is_unique
    assert (tmp_path / "work" / "run" / "report.html").exists()
