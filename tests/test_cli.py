"""The commands: what they print, where, and how they end."""

import io
import json
import logging
import os
import re
import subprocess
import sys
import time

import pandas as pd
import pytest

import tabular_trainers
from tabular_trainers import cli, cli_terminal
from tabular_trainers.schema import load_schema, schema_names

COMMANDS = (
    "demo", "init", "validate", "run", "batch", "report", "predict", "validate-on",
    "explain-slides", "schema", "notebook", "embed",
)  # fmt: skip
QUICK = ("--models", "cox", "--folds", "3", "--trials", "1", "--jobs", "1")


@pytest.fixture
def call(capsys):
    """Return a function that runs a command here and gives (exit code, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.app([str(argument) for argument in arguments], prog_name="tabular-trainers")
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def cohort_file(monkeypatch):
    """Name a cohort.toml that need not exist: loading gives a drawn cohort."""
    from tabular_trainers import cohort
    from tabular_trainers.demo import synthetic_cohort

    drawn = synthetic_cohort(40, seed=1)
    monkeypatch.setattr(cohort, "load_cohort", lambda config, data=None, endpoint=None: drawn)
    return "cohort.toml"


def test_help_names_every_command_in_whole_sentences(call):
    code, out, _ = call("--help")
    assert code == 0
    listed = re.search(r"Commands:\n(.*)", out, re.DOTALL)[1]
    assert tuple(line.split()[0] for line in listed.splitlines()) == COMMANDS
    assert "..." not in listed  # each line fits, and is not cut


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_of_a_command_is_quick_and_imports_nothing_heavy(command):
    script = (
        "import sys, time\n"
        "from tabular_trainers import cli\n"
        "try:\n"
        f"    cli.app({[*command.split(), '--help']!r})\n"
        "except SystemExit as end:\n"
        "    heavy = {'numpy', 'pandas', 'pyarrow', 'rich', 'sklearn', 'papermill'}\n"
        "    print(end.code, sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
        "    print(time.process_time(), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    ended, seconds = done.stderr.splitlines()
    assert ended == "0 []"
    assert float(seconds) < 0.5
    assert done.stdout.startswith("Usage: ")


def test_version(call):
    assert call("--version") == (0, f"tabular-trainers {tabular_trainers.__version__}\n", "")


def test_schema_lists_tables_and_columns(call):
    code, out, err = call("schema")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == schema_names()
    code, out, _ = call("schema", "folds")
    lines = out.splitlines()
    assert lines[0] == f"folds (version 1): {load_schema('folds')['description']}"
    assert [line.split()[0] for line in lines[1:]] == [
        field["name"] for field in load_schema("folds")["fields"]
    ]
    code, out, _ = call("schema", "folds", "--json")
    assert json.loads(out) == load_schema("folds")


def test_names_may_be_separated_by_commas_or_repeated():
    assert cli_terminal.split_names(["a, a+b", "c"]) == ["a", "a+b", "c"]
    assert cli_terminal.split_names(None) is None
    assert cli_terminal.split_names([""]) is None


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (
            ["--feature-sets", "clinical,clinical+genomics", "--feature-sets", "genomics"],
            {"feature_sets": ["clinical", "clinical+genomics", "genomics"]},
        ),
        (["--models", "cox,rsf"], {"models": ["cox", "rsf"]}),
        (["--folds", "10"], {"folds": 10}),
        (["--folds", "splits/gbm"], {"folds": "splits/gbm"}),
        (["--trials", "4", "--seed", "7"], {"n_trials": 4, "seed": 7}),
        (["--tuning-seconds", "2.5", "--jobs", "2"], {"tuning_seconds": 2.5, "n_jobs": 2}),
        (["--repeats", "2", "--holdout", "0.2"], {"n_repeats": 2, "holdout": 0.2}),
        (
            ["--overwrite"],
            {
                "holdout": None,
                "n_repeats": 1,
                "overwrite": True,
                "models": None,
                "feature_sets": None,
            },
        ),
    ],
)
def test_options_of_run_reach_it(call, cohort_file, monkeypatch, arguments, seen):
    from tabular_trainers import runs

    given = {}
    monkeypatch.setattr(runs, "run", lambda cohort, **kw: given.update(kw) or kw["out"])
    code, out, _ = call("run", cohort_file, *arguments)
    assert code == 0
    assert {name: given[name] for name in seen} == seen
    assert out.splitlines()[-1] == os.path.join("runs", "cohort_os")


def test_ctrl_c_says_how_to_go_on(call, cohort_file, monkeypatch):
    from tabular_trainers import runs

    def stopped(cohort, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "run", stopped)
    assert call("run", cohort_file) == (
        130,
        "",
        "\nStopped. Run the same command again to go on: folds that were finished are kept and "
        "used again.\n",
    )


def test_an_error_that_is_ours_keeps_its_traceback(call, cohort_file, monkeypatch):
    from tabular_trainers import runs

    def broken(cohort, **settings):
        raise KeyError("a defect of ours, which the user cannot put right")

    monkeypatch.setattr(runs, "run", broken)
    with pytest.raises(KeyError):
        cli.app(["run", cohort_file])


def test_progress_is_drawn_on_a_terminal_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with cli_terminal.progress("run") as tell:
            tell(3, 12, "evaluating cox")
            time.sleep(0.15)  # rich draws ten times a second
        assert ("evaluating cox" in stream.getvalue()) is drawn


def test_the_log_of_the_package_becomes_notes_once(call, capsys):
    call("schema")
    call("schema")
    logging.getLogger("tabular_trainers").info("reused %d of %d results", 3, 12)
    assert capsys.readouterr().err == "Note: reused 3 of 12 results\n"


# --- from tables to predictions ------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Write a clinical table and genes of drawn patients, and go where they lie."""
    from tabular_trainers.demo import synthetic_cohort

    drawn = synthetic_cohort(120, features={"clinical": 3, "genomics": 4}, seed=2)
    outcome = drawn.endpoints["os"].table
    clinical = drawn.blocks["clinical"].table.rename(columns={"x1": "age"})
    clinical["days_to_last_follow_up"] = outcome["time"].clip(lower=1).round()
    clinical["vital_status"] = outcome["event"].map({True: "deceased", False: "living"})
    clinical.to_csv(tmp_path / "clinical.csv")
    drawn.blocks["genomics"].table.to_csv(tmp_path / "genes.csv")
    monkeypatch.chdir(tmp_path)
    return clinical


def test_from_tables_to_predictions(call, tables, tmp_path):
    code, out, err = call("init", "clinical.csv", "genomics=genes.csv")
    assert (code, err) == (0, "")
    assert out == (
        "cohort.toml: 1 place to fill in, marked FILL_IN.\n"
        "Next: tabular-trainers validate cohort.toml\n"
    )
    proposed = (tmp_path / "cohort.toml").read_text()
    (tmp_path / "cohort.toml").write_text(proposed.replace("FILL_IN", "diagnosis"))

    code, out, err = call("validate", "cohort.toml")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == "clinical: 120 patients, no site."
    assert lines[-1] == "Next: tabular-trainers run cohort.toml"

    code, out, err = call("run", "cohort.toml", *QUICK)
    folder = os.path.join("runs", "cohort_os")
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == [f"Report: {os.path.join(folder, 'report.html')}", folder]

    report = tmp_path / folder / "report.html"
    before = report.read_bytes()
    report.unlink()
    code, out, err = call("report", folder)
    assert (code, out, err) == (0, f"{os.path.join(folder, 'report.html')}\n", "")
    assert report.read_bytes() == before

    code, out, err = call("predict", folder, "cohort.toml", "--out", "scores.csv")
    assert (code, out) == (0, "scores.csv\n")
    assert pd.read_csv("scores.csv")["patient_id"].nunique() == 120

    tables.rename(columns={"age": "age_at_diagnosis"}).to_csv("clinical.csv")
    text = (tmp_path / "cohort.toml").read_text().replace('"age"', '"age_at_diagnosis"')
    (tmp_path / "cohort.toml").write_text(text)
    code, out, err = call("predict", folder, "cohort.toml", "--out", "others.csv")
    assert (code, out) == (2, "")
    assert err == (
        "Error: the cohort's columns differ from those of model cox (clinical+genomics): 1 column "
        "missing: clinical.age; 1 column not known to the model: clinical.age_at_diagnosis. Give "
        "the blocks the columns of the run.\n"
    )
    assert not (tmp_path / "others.csv").exists()


def test_validate_warns_of_columns_that_give_the_outcome_away(call, tables, tmp_path):
    tables["spread"] = tables["days_to_last_follow_up"].max() - tables["days_to_last_follow_up"]
    tables.to_csv("clinical.csv")
    call("init", "clinical.csv", "genomics=genes.csv")
    proposed = (tmp_path / "cohort.toml").read_text()
    (tmp_path / "cohort.toml").write_text(proposed.replace("FILL_IN", "diagnosis"))
    code, out, err = call("validate", "cohort.toml")
    assert code == 0
    assert err.startswith("Warning: block clinical: spread alone has a C of 1.00 for endpoint os")
