"""The notebooks: as committed, and as `tabular-trainers notebook` executes them."""

import inspect
import json
import sys
from pathlib import Path

import nbformat
import pytest

from tabular_trainers import cli, notebook_run
from tabular_trainers.errors import DataError, SchemaError

QUICKSTART = notebook_run.find_notebook("quickstart")


def small_notebook(path, *cells, parameters="n = 3  # how many\nname = None  # type: str"):
    """Write a notebook with a parameters cell."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook.cells = [first, *(nbformat.v4.new_code_cell(source) for source in cells)]
    nbformat.write(notebook, path)
    return path


def printed(path):
    """Return all text that the cells of an executed notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs)


@pytest.fixture
def decoy_kernel(tmp_path, monkeypatch):
    """Put a broken ``python3`` kernel where Jupyter looks first: the user's folder."""
    folder = tmp_path / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", "raise SystemExit('decoy')", "{connection_file}"]
    specification = {"argv": command, "display_name": "decoy", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(specification))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")  # outside an environment this is the default
    return folder


@pytest.mark.notebook
def test_this_interpreter_runs_the_notebook_even_with_a_decoy_kernel(tmp_path, decoy_kernel):
    from jupyter_client.kernelspec import KernelSpecManager

    # The decoy is what Jupyter would start: without that, this test could not fail.
    assert KernelSpecManager().get_kernel_spec("python3").display_name == "decoy"
    source = small_notebook(tmp_path / "which.ipynb", "import sys\nprint(sys.executable)")
    out = notebook_run.execute_notebook(str(source), tmp_path / "out.ipynb")
    assert printed(out).strip() == sys.executable
    assert not (tmp_path / "out.partial.ipynb").exists()


def test_parameters_take_the_types_of_the_notebook(tmp_path):
    source = small_notebook(
        tmp_path / "types.ipynb",
        parameters=(
            "a = 3  # a number\nb = None  # type: str\nc = None  # type: list|str\n"
            "d = False\ne = 5  # type: int|str\nf = None  # type: float\ng = 'x'"
        ),
    )
    texts = ["a=4", "b=007", "c=x, y", "d=TRUE", "e=folder/of", "f=1e-3", "g=None"]
    assert notebook_run.parse_parameters(source, texts) == {
        "a": 4,
        "b": "007",
        "c": ["x", "y"],
        "d": True,
        "e": "folder/of",
        "f": 0.001,
        "g": None,
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["folds"], "parameter 'folds': expected key=value, as in -p folds=5."),
        (["m=4"], "unknown parameter 'm'; known: n, name."),
        (["nam=4"], "unknown parameter 'nam'; known: n, name. Did you mean 'name'?"),
        (["n=four"], "parameter n: 'four' was given; expected a whole number."),
    ],
)
def test_wrong_parameters(tmp_path, texts, message):
    source = small_notebook(tmp_path / "small.ipynb", "print(n)")
    with pytest.raises(SchemaError) as caught:
        notebook_run.execute_notebook(str(source), tmp_path / "out.ipynb", texts)
    assert str(caught.value) == message
    assert [path.name for path in tmp_path.iterdir()] == ["small.ipynb"]


@pytest.mark.notebook
def test_parameters_reach_the_cells_and_progress_counts_them(tmp_path):
    source = small_notebook(tmp_path / "{small}.ipynb", "print(n * 2, name)")
    seen = []
    out = notebook_run.execute_notebook(
        str(source), tmp_path / "new" / "{out}.ipynb", ["n=4"], progress=lambda *a: seen.append(a)
    )
    assert printed(out) == "8 None\n"
    assert seen == [(0, 3, "cells"), (1, 3, "cells"), (2, 3, "cells")]
    recorded = nbformat.read(out, as_version=4).metadata.papermill
    assert recorded["input_path"] == "{small}.ipynb"
    assert recorded["output_path"] == "{out}.ipynb"


@pytest.mark.notebook
@pytest.mark.parametrize(
    ("cell", "kind", "message"),
    [
        ("1 / 0", notebook_run.CellError, "ZeroDivisionError: division by zero"),
        (
            "import tabular_trainers as tt\nraise tt.DataError('no events.')",
            DataError,
            "no events.",
        ),
    ],
)
def test_a_failing_cell_keeps_the_partial_notebook(tmp_path, cell, kind, message):
    source = small_notebook(tmp_path / "failing.ipynb", "print('before')", cell, "print('after')")
    with pytest.raises(kind) as caught:
        notebook_run.execute_notebook(str(source), tmp_path / "out.ipynb")
    partial = tmp_path / "out.partial.ipynb"
    assert str(caught.value) == (
        f"{message}\nThe notebook stopped at cell [3]; what ran is in {partial}."
    )
    assert printed(partial) == "before\n"
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.notebook
def test_values_a_folder_and_marks_reach_the_executed_copy(tmp_path):
    source = small_notebook(
        tmp_path / "values.ipynb", "import os\nprint(n, name, os.path.basename(os.getcwd()))"
    )
    (tmp_path / "here").mkdir()
    out = notebook_run.execute_notebook(
        str(source), tmp_path / "out.ipynb", {"n": 4, "name": "none"},
        folder=tmp_path / "here", marks={"hash": "abc"},
    )  # fmt: skip
    assert printed(out) == "4 None here\n"
    assert notebook_run.read_marks(out) == {"hash": "abc"}
    assert notebook_run.read_marks(source) == {}
    assert notebook_run.read_marks(tmp_path / "none.ipynb") == {}


def test_values_are_held_against_what_the_notebook_declares(tmp_path):
    source = small_notebook(
        tmp_path / "types.ipynb",
        parameters="a = 3\nb = None  # type: float\nc = None  # type: list|str\nd = False\ne = {}",
    )
    given = {"a": 4, "b": 1, "c": ["x"], "d": True, "e": {"k": 1}}
    assert notebook_run.parse_parameters(source, given) == given
    for key, value, expected in (
        ("a", True, "parameter a: True was given; expected a whole number."),
        ("a", 0.5, "parameter a: 0.5 was given; expected a whole number."),
        ("d", 1, "parameter d: 1 was given; expected true or false."),
        ("b", ["x"], "parameter b: ['x'] was given; expected a number."),
    ):
        with pytest.raises(SchemaError) as caught:
            notebook_run.parse_parameters(source, {key: value})
        assert str(caught.value) == expected


def test_copy_goes_to_a_file_or_into_a_folder(tmp_path):
    source = notebook_run.find_notebook("quickstart")
    assert notebook_run.copy_notebook("quickstart", tmp_path) == tmp_path / source.name
    assert notebook_run.copy_notebook("quickstart", tmp_path / "mine.ipynb").is_file()
    with pytest.raises(SchemaError) as caught:
        notebook_run.copy_notebook("quickstart", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / source.name} exists already. Name another file, or add --overwrite."
    )


def test_unknown_notebook():
    with pytest.raises(SchemaError) as caught:
        notebook_run.find_notebook("quikstart")
    assert str(caught.value) == (
        "unknown notebook 'quikstart'; known: quickstart, survival_baselines, classification, "
        "embed_slides, embed_genes, explain_pathology, batch, scale_out. Did you mean 'quickstart'?"
    )


# --- the quickstart ------------------------------------------------------------------------------

SMALL = ["-p", "models=cox", "-p", "feature_sets=clinical+genomics", "-p", "folds=2"]


def check_whole(notebook):
    """Hold an executed quickstart against what it promises."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []
    figures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(figures) == 7
    assert printed_path(notebook).is_file()


def printed_path(notebook):
    """Return the path of the report, which the last code cell prints."""
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    return Path(last.outputs[0].text.strip())


@pytest.mark.notebook
def test_quickstart_runs_through_the_command(tmp_path, monkeypatch, decoy_kernel, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.app(["notebook", "quickstart", *SMALL])
    assert (end.value.code or 0) == 0
    assert capsys.readouterr().out == "quickstart.ipynb\n"
    check_whole(nbformat.read("quickstart.ipynb", as_version=4))
    assert {path.name for path in tmp_path.iterdir()} == {
        "jupyter",
        "quickstart.ipynb",
        "quickstart-run",
    }


@pytest.mark.slow
@pytest.mark.notebook
def test_quickstart_runs_with_plain_papermill_as_it_stands(tmp_path, monkeypatch):
    import papermill

    monkeypatch.chdir(tmp_path)
    papermill.execute_notebook(
        str(QUICKSTART), "out.ipynb", kernel_name="python3", progress_bar=False
    )
    check_whole(nbformat.read("out.ipynb", as_version=4))


def test_parameters_of_the_quickstart_are_the_options_of_run():
    import papermill

    known = papermill.inspect_notebook(str(QUICKSTART))
    # a kernel runs where its notebook does: what goes to a cluster is the command
    left_out = {"ctx", "cluster", "cluster_options"}
    options = set(inspect.signature(cli.run).parameters) - left_out
    assert set(known) == options
    assert all(parameter["help"] for parameter in known.values())


@pytest.mark.parametrize("name", notebook_run.notebook_titles())
def test_notebooks_are_bound_to_no_environment(name):
    notebook = nbformat.read(notebook_run.find_notebook(name), as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    assert notebook.metadata.kernelspec == {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    assert "papermill" not in notebook.metadata


# --- the other tutorials -------------------------------------------------------------------------

TINY = ["-p", "patients=150", "-p", "folds=2", "-p", "trials=1"]


@pytest.mark.notebook
@pytest.mark.parametrize(
    ("name", "parameters", "n_figures"),
    [
        (
            "survival_baselines",
            ["-p", "models=cox", "-p", "feature_sets=clinical+genomics,late:clinical+genomics"],
            5,
        ),
        ("classification", ["-p", "models=logistic", "-p", "feature_sets=clinical+genomics"], 6),
    ],
)
def test_tutorials_run_through_the_command(
    tmp_path, monkeypatch, capsys, name, parameters, n_figures
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.app(["notebook", name, *TINY, *parameters])
    assert (end.value.code or 0) == 0
    assert capsys.readouterr().out == f"{name}.ipynb\n"
    notebook = nbformat.read(f"{name}.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []
    assert len([o for o in outputs if "image/png" in o.get("data", {})]) == n_figures
    assert printed_path(notebook).is_file()


@pytest.mark.parametrize("name", ["survival_baselines", "classification"])
def test_parameters_of_the_tutorials_are_options_of_run_but_for_those_they_name(name):
    import papermill

    known = papermill.inspect_notebook(str(notebook_run.find_notebook(name)))
    options = set(inspect.signature(cli.run).parameters)
    assert set(known) - options <= {"patients", "external", "external_data"}
    assert all(parameter["help"] for parameter in known.values())


def executed(name, tmp_path, *parameters):
    """Run a tutorial into a folder; return the texts it printed, its pictures and its errors."""
    parameters = [f"out={tmp_path / 'work'}", *parameters]
    out = notebook_run.execute_notebook(name, tmp_path / "executed.ipynb", parameters)
    cells = nbformat.read(out, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []
    return printed(out), sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
@pytest.mark.notebook
def test_batch_tutorial_pools_its_cohorts(tmp_path):
    text, n_pictures = executed("batch", tmp_path, "patients=80", "folds=2")
    assert "6 done, 0 used again, 0 failed" in text
    assert n_pictures == 1
    assert (tmp_path / "work" / "batch" / "index.html").is_file()


@pytest.mark.slow
@pytest.mark.notebook
def test_scale_out_tutorial_gives_the_same_numbers_there_and_here(tmp_path):
    pytest.importorskip("distributed")
    text, _ = executed("scale_out", tmp_path, "patients=80")
    assert "--cluster dask://127.0.0.1:" in text
    assert text.count(": True") == 5
    assert "False" not in text
