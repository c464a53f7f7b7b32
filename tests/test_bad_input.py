"""Bad input seen from the command line: exit code 2, the whole message, nothing left behind.

What can be wrong inside a cohort's tables is in test_bad_cohort.py; here are the commands' own
refusals, a few of the cohort's from end to end, and disks, locks and kills.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import cli

TOML = """\
title = "A small cohort"
time_zero = "diagnosis"
[clinical]
table = "clinical.csv"
patient_id = "patient_id"
{site}
[endpoints.os]
kind = "survival"
time = "days"
unit = "days"
event = "died"
event_values = ["yes"]
[blocks.clinical]
columns = ["age", "stage"]
categorical = ["stage"]
[blocks.genomics]
table = "genes.csv"
"""
COMMAND = (sys.executable, "-c", "from tabular_trainers.cli import main; main()")
SMALL = ("--models", "cox", "--folds", "3", "--trials", "1", "--jobs", "1")


def write_cohort(folder, n=90, n_events=40, sites=None):
    """Write a small cohort and return its cohort.toml."""
    draw = np.random.default_rng(4)
    patient_id = [f"P{i:03d}" for i in range(n)]
    days = draw.integers(30, 3000, n)
    clinical = pd.DataFrame(
        {
            "patient_id": patient_id,
            "age": draw.normal(60, 9, n).round(1),
            "stage": draw.choice(["I", "II", "III"], n),
            "days": days,
            "died": np.where(np.argsort(np.argsort(days)) < n_events, "yes", "no"),
        }
    )
    if sites is not None:
        clinical["hospital"] = sites
    genes = pd.DataFrame(draw.normal(size=(n, 4)).round(3), columns=["a", "b", "c", "d"])
    genes.insert(0, "patient_id", patient_id)
    clinical.to_csv(folder / "clinical.csv", index=False)
    genes.to_csv(folder / "genes.csv", index=False)
    site = "" if sites is None else 'site = "hospital"'
    (folder / "cohort.toml").write_text(TOML.format(site=site))
    return folder / "cohort.toml"


def listing(folder):
    """List everything under a folder, with the time it was last changed."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Write a small cohort, and go where it lies."""
    monkeypatch.chdir(tmp_path)
    return write_cohort(tmp_path)


@pytest.fixture
def refused(capsys, tmp_path):
    """Return a function that runs a command, and gives its message after checking all the rest."""

    def run(*arguments, code=2):
        before = listing(tmp_path)
        with pytest.raises(SystemExit) as end:
            cli.app([str(argument) for argument in arguments], prog_name="tabular-trainers")
        printed = capsys.readouterr()
        assert end.value.code == code
        assert printed.out == ""
        assert listing(tmp_path) == before
        return printed.err

    return run


# --- names and options ---------------------------------------------------------------------------


def test_missing_cohort_file(refused, cohort):
    assert refused("run", "chort.toml", "--out", "out") == (
        "Error: chort.toml: no such file in the current folder. Did you mean 'cohort.toml'?\n"
    )


def test_misspelt_key(refused, cohort):
    cohort.write_text(cohort.read_text().replace("patient_id =", "patientid ="))
    assert refused("run", cohort, "--out", "out") == (
        "Error: cohort.toml, [clinical]: unknown option 'patientid'; known: table, patient_id, "
        "site, cancer_type. Did you mean 'patient_id'?\n"
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "--models",
            "coxx",
            "unknown survival model 'coxx'; known: cox, rsf, xgb, sksurv_rsf, sksurv_coxnet. "
            "Did you mean 'cox'?",
        ),
        (
            "--models",
            "cox,logistic",
            "unknown survival model 'logistic'; known: cox, rsf, xgb, sksurv_rsf, sksurv_coxnet.",
        ),
        (
            "--feature-sets",
            "clinical,clinical+genomic",
            "unknown block 'genomic'; known: clinical, genomics. Did you mean 'genomics'?",
        ),
        ("--endpoint", "osx", "unknown endpoint 'osx'; known: os. Did you mean 'os'?"),
        (
            "--folds",
            "five",
            "five: expected a number of folds, a folder of splits_0.csv, splits_1.csv, ... with "
            "the columns train and val, or a folds.parquet of an earlier run.",
        ),
        ("--folds", "1", "folds: 1 folds, 1 repeats; expected at least 2 folds and 1 repeat."),
    ],
)
def test_unknown_name(refused, cohort, option, value, message):
    assert refused("run", cohort, option, value, "--out", "out") == f"Error: {message}\n"


def test_options_that_typer_refuses(refused, cohort):
    for option, value, said in (
        ("--jobs", "0", "Error: Invalid value for '--jobs': "),
        ("--seed", "-1", "Error: Invalid value for '--seed': "),
        ("--trials", "many", "Error: Invalid value for '--trials': "),
        ("--fold", "3", "Error: No such option: --fold"),
    ):
        lines = refused("run", cohort, option, value).splitlines()
        assert lines[0] == "Usage: tabular-trainers run [OPTIONS] {COHORT}"
        assert lines[-1].startswith(said)  # typer's words, which differ between its versions


# --- what the patients cannot answer -------------------------------------------------------------


def test_a_final_part_that_cannot_be(refused, cohort):
    assert refused("run", cohort, "--holdout", "0.7") == (
        "Error: --holdout 0.7: expected a share above 0 and at most 0.5.\n"
    )
    assert refused("run", cohort, "--holdout", "0.1") == (
        "Error: --holdout 0.1: 40 events among 90 patients leave a final part or a rest of about "
        "4; expected at least 10 in each. Leave --holdout out: the folds then use every patient.\n"
    )


def test_fewer_events_than_folds(refused, tmp_path):
    cohort = write_cohort(tmp_path, n_events=4)
    assert refused("run", cohort, "--folds", "5", "--out", tmp_path / "out") == (
        "Error: folds: 4 events among 90 patients, fewer than 5 folds; expected at least one in "
        "every fold. Use fewer folds (--folds 4).\n"
    )


def test_a_site_with_over_half_of_the_events(refused, tmp_path):
    sites = ["A"] * 60 + ["B"] * 15 + ["C"] * 15
    cohort = write_cohort(tmp_path, sites=sites)
    assert refused("run", cohort, "--out", tmp_path / "out") == (
        "Error: folds: site 'A' holds 25 of 40 events, over half; folds that keep sites whole "
        "would be decided by it. Give folds of your own (--folds FOLDER or --folds folds.parquet), "
        "or leave site out of cohort.toml.\n"
    )


# --- a few of the cohort's own problems, from end to end (the others: test_bad_cohort.py) ---------


def test_every_problem_of_a_cohort_comes_at_once(refused, cohort):
    clinical = pd.read_csv("clinical.csv", dtype={"patient_id": str})
    clinical.loc[5, "patient_id"] = "P004"
    clinical.to_csv("clinical.csv", index=False)
    shutil.copy("cohort.toml", "genes.csv")
    message = refused("validate", cohort)
    assert message == (
        "Error: 3 problems:\n"
        "- clinical.csv, column patient_id: 1 of 89 patient ids is there more than once, with "
        "different values in age, stage (patient P004; rows 5, 6). Keep one row a patient, or set "
        'pool = "mean", "max" or "first" in [blocks.clinical].\n'
        "- genes.csv: not a CSV file; 1 row (row 13) has more columns than the header's 1.\n"
        "- clinical.csv, column patient_id: 1 of 89 patient ids is there more than once, with "
        "different values in days (patient P004; rows 5, 6). Keep one row a patient "
        "([endpoints.os]).\n"
    )
    assert refused("run", cohort, "--out", "out") == message


def test_times_that_cannot_be(refused, cohort):
    clinical = pd.read_csv("clinical.csv")
    clinical.loc[[3, 7, 11], "days"] = [-1, 0, -40]
    clinical.to_csv("clinical.csv", index=False)
    assert refused("run", cohort, "--out", "out") == (
        "Error: 2 problems:\n"
        "- clinical.csv, column days: 2 of 90 times are negative (rows 4, 12); expected days >= 0. "
        'Correct them, or set negative_time = "drop" in [endpoints.os] to leave these patients '
        "out.\n"
        "- clinical.csv, column days: 1 of 90 times is zero (row 8); expected days > 0. Set "
        'zero_time = "drop", or "half_unit" to count them as half of one of the days, in '
        "[endpoints.os].\n"
    )


# --- the output folder and the disk --------------------------------------------------------------


def test_a_complete_run_is_not_replaced_unasked(refused, cohort, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{}")
    assert refused("run", cohort, "--out", "out") == (
        "Error: out holds a complete run. Give another --out, or --overwrite to replace it.\n"
    )


def test_a_folder_of_something_else_is_not_touched(refused, cohort, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").touch()
    message = (
        "Error: out is not empty and holds no run; nothing in it is touched. Give another --out.\n"
    )
    assert refused("run", cohort, "--out", "out") == message
    assert refused("run", cohort, "--out", "out", "--overwrite") == message


def test_output_below_a_file(refused, cohort, tmp_path):
    assert refused("run", cohort, "--out", "genes.csv/out") == (
        "Error: genes.csv/out.partial: a file is where a folder is needed. Write to another "
        "place.\n"
    )


def on_disk(options, tmp_path, *arguments):
    """Run a command while ``tmp_path/disk`` is a disk of its own, seen by that process only."""
    unshare = shutil.which("unshare")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o {options} tmpfs '{disk}'"
    if (
        unshare is None
        or subprocess.run([unshare, "-rm", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("this system lets us mount no disk (unshare -rm)")
    return subprocess.run(
        [unshare, "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", *COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )


def test_full_disk(cohort, tmp_path):
    done = on_disk("size=48k", tmp_path, "run", cohort, *SMALL, "--out", "disk/out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Error: no space left on the disk. Free some or write to another place, then run the same "
        "command again.\n"
    )


def test_read_only_disk(cohort, tmp_path):
    done = on_disk("ro", tmp_path, "run", cohort, *SMALL, "--out", "disk/out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Error: disk/out.partial: this disk is read-only. Write to another place.\n"
    )


def test_a_validation_on_other_patients_leaves_nothing_on_a_disk_that_is_full(cohort, tmp_path):
    done = subprocess.run(
        [*COMMAND, "run", str(cohort), *SMALL, "--out", "out"], capture_output=True, cwd=tmp_path
    )
    assert done.returncode == 0
    for table in ("clinical.csv", "genes.csv"):
        text = (tmp_path / table).read_text()
        (tmp_path / table).write_text(re.sub("^P", "Q", text, flags=re.MULTILINE))
    done = on_disk("size=48k", tmp_path, "validate-on", "out", cohort, "--out", "disk/on")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: no space left on the disk.")
    command = [*COMMAND, "validate-on", "out", str(cohort)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    folder = os.path.join("validations", "out_on_cohort")
    assert done.stdout.splitlines()[-1] == folder
    assert (tmp_path / folder / "validation.html").is_file()
    assert [path.name for path in (tmp_path / "validations").iterdir()] == ["out_on_cohort"]


# --- runs that were stopped ----------------------------------------------------------------------


def start_run(cohort, jobs="1"):
    """Start a run in a process group of its own, as a terminal does."""
    command = [*COMMAND, "run", str(cohort), *SMALL, "--jobs", jobs, "--out", "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, start_new_session=True, **pipes)


def wait_for_results(process, partial, n_results):
    """Wait until a run has stored some results, and return how many."""
    for _ in range(1200):
        stored = partial.glob("tasks/*/tables.json")
        found = sum(".partial-" not in path.parent.name for path in stored)  # only whole ones
        if found >= n_results:
            return found
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no results after a minute")


def test_a_partial_folder_held_by_a_living_process_is_left_alone(refused, cohort, tmp_path):
    import json

    import psutil

    partial = tmp_path / "out.partial"
    partial.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lock = {"pid": holder.pid, "started": psutil.Process(holder.pid).create_time()}
    (partial / "run.lock").write_text(json.dumps(lock))
    try:
        assert refused("run", cohort, "--out", "out") == (
            f"Error: out.partial is being written by process {holder.pid}. Wait for it, stop it, "
            "or give another --out.\n"
        )
    finally:
        holder.communicate(b"\n")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no process groups")
@pytest.mark.parametrize(("stop", "jobs"), [("SIGKILL", "1"), ("SIGINT", "1"), ("SIGINT", "2")])
def test_a_stopped_run_goes_on_from_its_whole_results(cohort, tmp_path, stop, jobs):
    process = start_run(cohort, jobs)
    stored = wait_for_results(process, tmp_path / "out.partial", 4)
    os.killpg(process.pid, getattr(signal, stop))
    printed, said = process.communicate(timeout=60)
    assert printed == ""
    if stop == "SIGINT":
        assert process.returncode == 130
        assert said == (
            "\nStopped. Run the same command again to go on: folds that were finished are kept and "
            "used again.\n"
        )
    assert not (tmp_path / "out").exists()
    again = start_run(cohort, jobs)
    printed, said = again.communicate(timeout=300)
    assert again.returncode == 0
    reused, total = re.fullmatch(
        r"Note: reused (\d+) of (\d+) results of the run that was stopped\n", said
    ).groups()
    assert stored <= int(reused) < int(total)
    assert printed.splitlines()[-1] == "out"
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out"]


# --- the other commands --------------------------------------------------------------------------


def test_init_refuses(refused, cohort, tmp_path):
    assert refused("init", "clinical.csv") == (
        "Error: cohort.toml exists already. Name another file with -o, or add --overwrite.\n"
    )
    assert refused("init", "clinical.csv", "genes.csv", "-o", "new.toml") == (
        "Error: 'genes.csv': expected NAME=TABLE, as in pathology=embeddings.parquet.\n"
    )
    assert refused("init", "clinical.csv", "a=genes.csv", "a=x.csv", "-o", "new.toml") == (
        "Error: block 'a' is named twice.\n"
    )
    assert refused("init", "clinicl.csv", "-o", "new.toml") == (
        "Error: clinicl.csv: no such file in the current folder. Did you mean 'clinical.csv'?\n"
    )


def test_commands_on_a_folder_that_is_no_run(refused, cohort):
    assert refused("report", "nowhere") == (
        "Error: nowhere: no run.json; expected the folder of a finished run, as written by "
        "'tabular-trainers run'.\n"
    )
    assert refused("predict", "nowhere", cohort) == (
        "Error: nowhere holds no run.json: not the folder of a run.\n"
    )
    assert refused("validate-on", "nowhere", cohort) == (
        "Error: nowhere holds no run.json: not the folder of a run.\n"
    )


def test_predict_does_not_replace_a_table_unasked(refused, cohort):
    assert refused("predict", "out", cohort, "--out", "genes.csv") == (
        "Error: genes.csv exists already. Name another file with --out, or add --overwrite.\n"
    )


def test_unknown_schema(refused):
    from tabular_trainers.schema import schema_names

    names = schema_names()
    assert refused("schema", "fold") == (
        f"Error: unknown table 'fold'; known: {', '.join(names[:20])} and {len(names) - 20} more. "
        "Did you mean 'folds'?\n"
    )


def test_notebook_refuses(refused, tmp_path):
    (tmp_path / "mine.ipynb").touch()
    out = tmp_path / "out.ipynb"
    for arguments, message in (
        ([], "name a notebook, or list them with: tabular-trainers notebook --list"),
        (
            ["quickstrat", "-o", out],
            "unknown notebook 'quickstrat'; known: quickstart, survival_baselines, classification, "
            "embed_slides, embed_genes, explain_pathology, batch, scale_out. Did you mean "
            "'quickstart'?",
        ),
        (
            ["quickstart", "-o", tmp_path / "mine.ipynb"],
            f"{tmp_path / 'mine.ipynb'} exists already. Name another file, or add --overwrite.",
        ),
        (["quickstart", "-o", "out.html"], "out.html: a notebook's name ends in .ipynb."),
        (
            ["quickstart", "--copy", out, "-p", "folds=3"],
            "--copy only copies: leave out -p and -o.",
        ),
        (
            ["quickstart", "-o", out, "-p", "fold=3"],
            "unknown parameter 'fold'; known: cohort, data, endpoint, feature_sets, models, folds, "
            "repeats, holdout, trials, tuning_seconds, out, jobs, seed, overwrite. "
            "Did you mean 'folds'?",
        ),
    ):
        assert refused("notebook", *arguments) == f"Error: {message}\n"
