"""The tutorial on genes, executed here because the core's tests hide pysam."""

import json
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from tabular_trainers import cli, notebook_run

SMALL = ["-p", "patients=80", "-p", "folds=2", "-p", "trials=1", "-p", "feature_sets=genes"]


@pytest.fixture(autouse=True)
def _figures_inline(monkeypatch):
    """Let the kernel choose how matplotlib draws: the tests' own choice would hide a figure."""
    monkeypatch.delenv("MPLBACKEND", raising=False)


def run_notebook(*parameters):
    """Execute it through the command, in the current folder."""
    with pytest.raises(SystemExit) as end:
        cli.app(["notebook", "embed_genes", *parameters])
    assert (end.value.code or 0) == 0
    return nbformat.read("embed_genes.ipynb", as_version=4)


def check_whole(notebook, n_figures):
    """Hold an executed notebook against what it promises; return the folder of the run."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []
    assert len([o for o in outputs if "image/png" in o.get("data", {})]) == n_figures
    report = Path(outputs[-1].text.strip())
    assert report.is_file()
    return report.parent


@pytest.mark.slow
@pytest.mark.notebook
def test_it_runs_through_the_command_on_generated_variants(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = check_whole(run_notebook(*SMALL, "-p", "out=here"), 3)
    assert run == tmp_path / "here"
    truth = json.loads((tmp_path / "here-tables" / "truth.json").read_text())
    assert truth["n_patients"] == 80
    features = pd.read_parquet(tmp_path / "here-tables" / "genes.parquet")
    assert len(features) == 80
    assert "GENE1_cosine_distance" in features


def test_its_parameters_are_options_of_run_or_of_embed_genes_but_for_those_it_names():
    import inspect

    import papermill

    from tabular_trainers import cli_genes

    known = papermill.inspect_notebook(str(notebook_run.find_notebook("embed_genes")))
    options = set(inspect.signature(cli.run).parameters)
    options |= set(inspect.signature(cli_genes.genes).parameters)
    assert set(known) - options == {"gene", "patients"} - options
    assert all(parameter["help"] for parameter in known.values())
