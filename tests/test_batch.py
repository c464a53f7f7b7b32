"""A batch: what is done, what is not done twice, and what a failure leaves behind."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import nbformat
import pytest

from tabular_trainers import batch_page, cli, living_lock, run_batch, run_folder, runs
from tabular_trainers.batch_state import plain_reason
from tabular_trainers.errors import DataError
from tabular_trainers.parallel import use_cluster
from tests.batch_plans import PLAN, write_cohort, write_plan
from tests.dask_workers import dask_workers
from tests.test_notebook import printed, small_notebook

NOTEBOOKS = """
title = "Notebooks"
[[notebooks]]
notebook = "small.ipynb"
parameters = { n = [1, 0] }
"""


@pytest.fixture
def quick(monkeypatch):
    """Let a main job only say that it was done, and no page be written; gives the names of those.

    A cohort of fewer than 60 patients has too few events.
    """
    done = []

    def run(cohort, *, out, endpoint, seed, overwrite, progress, **settings):
        done.append(out.name)
        if len(cohort.patients) < 60:
            raise DataError(f"{out.parent}/x y.csv: too few events.")
        with run_folder.partial_folder(out, cohort.source_hash, 1) as partial:
            facts = {"config_hash": cohort.source_hash}
            (partial / "run.json").write_text(json.dumps(facts))
        progress(1, 1, "report")

    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setattr(batch_page, "write_comparison", lambda out, title, entries: None)
    return done


def counts(batch):
    return batch.n_done, batch.n_reused, len(batch.failures)


def files(folder):
    """Map the files of a folder to when they were written."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_only_what_is_missing_or_changed_is_done(tmp_path, quick):
    plan, out = write_plan(tmp_path, ("a", "b", "c")), tmp_path / "out"
    assert counts(run_batch(plan, out, n_jobs=1)) == (3, 0, 0)
    whole = files(out / "runs")
    assert counts(run_batch(plan, out, n_jobs=1)) == (0, 3, 0)
    assert files(out / "runs") == whole
    assert sorted(quick) == ["a_os", "b_os", "c_os"]

    quick.clear()
    write_cohort(tmp_path / "cohorts", "b", seed=7)
    shutil.rmtree(out / "runs" / "c_os")
    assert counts(run_batch(plan, out, n_jobs=1)) == (2, 1, 0)
    assert sorted(quick) == ["b_os", "c_os"]

    quick.clear()
    plan.write_text(plan.read_text().replace("folds = 2", "folds = 3"))
    assert counts(run_batch(plan, out, n_jobs=1)) == (3, 0, 0)
    assert counts(run_batch(plan, out, n_jobs=1, overwrite=True)) == (3, 0, 0)
    assert len(quick) == 6


def test_a_failed_run_is_tried_again_and_the_others_go_on(tmp_path, quick):
    plan, out = write_plan(tmp_path, ("a", "b")), tmp_path / "out"
    write_cohort(tmp_path / "cohorts", "a", n=20)
    broken = tmp_path / "cohorts" / "c.csv"
    write_cohort(tmp_path / "cohorts", "c")
    broken.write_text(broken.read_text().replace("patient_id", "patient"))
    batch = run_batch(plan, out, n_jobs=1)
    assert counts(batch) == (1, 0, 2)
    reasons = {entry.name: entry.reason for entry in batch.failures}
    assert reasons["a_os"] == "x y.csv: too few events."
    assert reasons["c_os"].startswith("c.csv: no column 'patient_id' ([clinical]).")
    facts = json.loads((out / "batch.json").read_text())
    assert [(e["name"], e["status"]) for e in facts["entries"]] == [
        ("a_os", "failed"), ("b_os", "done"), ("c_os", "failed")
    ]  # fmt: skip
    quick.clear()
    write_cohort(tmp_path / "cohorts", "a")
    assert counts(run_batch(plan, out, n_jobs=1)) == (1, 1, 1)
    assert quick == ["a_os"]


def test_a_failed_run_keeps_the_whole_one_before_it(tmp_path, quick):
    plan, out = write_plan(tmp_path, ("a",)), tmp_path / "out"
    run_batch(plan, out, n_jobs=1)
    whole = files(out / "runs")
    write_cohort(tmp_path / "cohorts", "a", n=20)
    assert counts(run_batch(plan, out, n_jobs=1)) == (0, 0, 1)
    assert files(out / "runs") == whole


def test_a_run_that_raises_is_a_failure_of_that_run(tmp_path, quick, monkeypatch):
    def explode(*given, out, **settings):
        raise ZeroDivisionError(f"in {tmp_path}/a.py at <object 0x7f00aa11>")

    monkeypatch.setattr(runs, "run", explode)
    plan = write_plan(tmp_path, ("a",))
    for n_jobs in (1, 2):  # as one task of several, and shared out by its folds
        batch = run_batch(plan, tmp_path / "out", n_jobs=n_jobs)
        assert [entry.reason for entry in batch.failures] == [
            "ZeroDivisionError: in a.py at <object 0x...>"
        ]


def test_paths_are_not_part_of_a_reason():
    home = "/home/some body/study"
    assert plain_reason(f"{home}/a b/x.csv, column y: 1/2 of 3\n- rows 1/4", [home]) == (
        "a b/x.csv, column y: 1/2 of 3 - rows 1/4"
    )
    assert plain_reason("x.csv: no such file in /data/study: /data/study/x.csv.") == (
        "x.csv: no such file in study: x.csv."
    )
    assert plain_reason(r"C:\Users\me\x.csv: no column; s3://bucket/x.csv too, ~/y.csv") == (
        "x.csv: no column; s3://bucket/x.csv too, y.csv"
    )


def test_another_folder_is_left_alone(tmp_path, quick):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("years of work")
    with pytest.raises(ValueError, match="is not empty and holds no batch"):
        run_batch(write_plan(tmp_path), tmp_path / "out", n_jobs=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.docx"]


def test_what_a_killed_command_left_half_written_goes(tmp_path, quick):
    out = tmp_path / "out"
    (out / "state").mkdir(parents=True)
    (out / ".tables.partial-1").mkdir()
    for name in ("batch.json", "a.json.partial-1", "state/b.json.partial-1", "state/b_os.progress"):
        (out / name).touch()
    assert counts(run_batch(write_plan(tmp_path), out, n_jobs=1)) == (2, 0, 0)
    assert sorted(files(out)) == [
        "batch.json", "runs/a_os/run.json", "runs/b_os/run.json", "state/a_os.json",
        "state/b_os.json",
    ]  # fmt: skip
    assert not (out / ".tables.partial-1").exists()


def test_a_batch_that_a_living_process_holds_is_refused(tmp_path, quick):
    (tmp_path / "out" / "state").mkdir(parents=True)
    (tmp_path / "out" / "batch.json").write_text("{}")
    with (
        living_lock.living_lock(tmp_path / "out" / "batch.lock", "it", "wait"),
        pytest.raises(living_lock.HeldError, match="is being written by process"),
    ):
        run_batch(write_plan(tmp_path), tmp_path / "out", n_jobs=1)
    assert quick == []


def test_progress_tells_the_whole_and_each_run(tmp_path, quick, monkeypatch):
    from tabular_trainers import batch

    monkeypatch.setattr(batch, "LOOK_S", 0.01)
    seen = []
    plain = runs.run

    def slow(*given, progress, **settings):
        progress(1, 4, "evaluating clinical cox-0-0")
        before = len(seen)
        while len(seen) < before + 3:
            time.sleep(0.01)
        plain(*given, progress=progress, **settings)

    monkeypatch.setattr(runs, "run", slow)
    plan = write_plan(tmp_path, ("a",))
    run_batch(plan, tmp_path / "out", n_jobs=1, progress=lambda *told: seen.append(told))
    assert (0, 1, {"a_os": (1, 4, "evaluating clinical cox-0-0")}) in seen
    assert seen[-1] == (1, 1, {})
    assert not list((tmp_path / "out" / "state").glob("*.progress"))


@pytest.mark.notebook
def test_notebooks_fail_alone_keep_their_partial_copy_and_are_done_once(tmp_path, quick):
    small_notebook(tmp_path / "small.ipynb", "print(6 / n)")
    plan, out = tmp_path / "plan.toml", tmp_path / "out"
    plan.write_text(NOTEBOOKS)
    batch = run_batch(plan, out, n_jobs=1)
    assert counts(batch) == (1, 0, 1)
    assert printed(out / "notebooks" / "small-n-1.ipynb") == "6.0\n"
    (failure,) = batch.failures
    assert failure.path == "notebooks/small-n-0.ipynb"
    assert printed(out / "notebooks" / "small-n-0.partial.ipynb") == ""
    assert failure.reason == (
        "ZeroDivisionError: division by zero The notebook stopped at cell [3]; what ran is in "
        "small-n-0.partial.ipynb."
    )
    whole = files(out / "notebooks")["small-n-1.ipynb"]
    small_notebook(tmp_path / "unrelated.ipynb", "print(n)")
    shutil.rmtree(out / "state")  # as when the command was killed before it wrote the state
    assert counts(run_batch(plan, out, n_jobs=1)) == (0, 1, 1)
    assert files(out / "notebooks")["small-n-1.ipynb"] == whole
    small_notebook(tmp_path / "small.ipynb", "print(6 / (n + 1))")
    assert counts(run_batch(plan, out, n_jobs=1)) == (2, 0, 0)
    assert sorted(files(out / "notebooks")) == ["small-n-0.ipynb", "small-n-1.ipynb"]


@pytest.mark.notebook
def test_a_notebook_runs_in_a_thread_as_on_a_worker_of_dask(tmp_path, quick):
    small_notebook(tmp_path / "small.ipynb", "print(n)")
    (tmp_path / "plan.toml").write_text(NOTEBOOKS)
    done = []
    thread = threading.Thread(
        target=lambda: done.append(run_batch(tmp_path / "plan.toml", tmp_path / "out", n_jobs=1))
    )
    thread.start()
    thread.join(timeout=120)
    assert [counts(batch) for batch in done] == [(2, 0, 0)]
    copy = nbformat.read(tmp_path / "out" / "notebooks" / "small-n-1.ipynb", as_version=4)
    assert copy.metadata.papermill["input_path"] == "small.ipynb"


def run_command(*arguments):
    with pytest.raises(SystemExit) as end:
        cli.app(["batch", *map(str, arguments)])
    return end.value.code or 0


def test_the_command_says_what_failed_and_how_a_bad_plan_is_bad(tmp_path, quick, capsys):
    plan, out = write_plan(tmp_path, ("a", "b")), tmp_path / "out"
    assert run_command(plan, "--out", out, "--jobs", 1) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"2 runs done. Comparison: {out / 'index.html'}", str(out)
    ]  # fmt: skip
    write_cohort(tmp_path / "cohorts", "a", n=20)
    assert run_command(plan, "--out", out, "--jobs", 1) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[0] == (
        f"0 runs done, 1 found whole and used again. Comparison: {out / 'index.html'}"
    )
    assert told.err.splitlines() == [
        "Error: 1 run failed; the same command tries again.",
        "- a_os: x y.csv: too few events.",
    ]
    plan.write_text(plan.read_text().replace("endpoints", "endpionts"))
    before = files(tmp_path)
    assert run_command(plan, "--out", tmp_path / "other") == 2
    assert "unknown option 'endpionts'" in capsys.readouterr().err
    assert files(tmp_path) == before


# --- real runs -----------------------------------------------------------------------------------

KILLED = (
    PLAN
    + """
[[notebooks]]
notebook = "small.ipynb"
parameters = { n = [1, 2] }
"""
)


KILLS = 4


def start(plan, out, jobs):
    code = "from tabular_trainers.cli import main; main()"
    command = [sys.executable, "-c", code, "batch", plan, "--out", out]
    return subprocess.Popen(
        [*map(str, command), "--jobs", str(jobs)], start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def whole_things(out):
    """Map what is whole to when it was written: run folders, executed copies, finished folds."""
    found = {}
    for path in [*out.glob("runs/*/run.json"), *out.glob("notebooks/*.ipynb")]:
        if ".partial" not in str(path):
            found[path.relative_to(out).as_posix()] = path.stat().st_mtime_ns
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Give a plan, the folder of its batch that nothing disturbed, and how long that took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    plan = write_plan(folder, ("a", "b", "c"), KILLED)
    small_notebook(folder / "small.ipynb", "import time\ntime.sleep(0.5)\nprint(n)")
    started = time.monotonic()
    assert start(plan, folder / "out", 2).wait() == 0
    return plan, folder / "out", time.monotonic() - started


def check_same(out, expected):
    """Hold a batch against an undisturbed one: the same page and tables, nothing half done."""
    names = ["comparison.parquet", "pools.parquet", "pool_cohorts.parquet", "index.html"]
    names += [path.relative_to(expected).as_posix() for path in expected.glob("runs/*/*.parquet")]
    assert len(names) > 30
    for name in names:
        assert (out / name).read_bytes() == (expected / name).read_bytes(), name
    assert not [path for path in out.rglob("*") if "partial" in path.name]


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no process groups")
def test_a_batch_killed_at_any_moment_ends_the_same_and_does_nothing_whole_twice(
    tmp_path, undisturbed
):
    plan, expected, took = undisturbed
    out, draw, kills, whole = tmp_path / "killed", random.Random(0), 0, {}
    while True:
        process = start(plan, out, 2)
        try:
            limit = 3 + draw.uniform(0, took / 3) if kills < KILLS else None
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            kills += 1
            # every other time the command alone: its processes are left behind as orphans
            (os.killpg if kills % 2 else os.kill)(process.pid, signal.SIGKILL)
            code = process.wait()
        now = whole_things(out)
        assert {name: now.get(name) for name in whole} == whole
        whole = now
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert kills >= 3
    assert len(whole) == 5
    check_same(out, expected)


@pytest.mark.slow
@pytest.mark.notebook
def test_workers_of_dask_give_the_same_bytes_also_when_one_is_killed(tmp_path, undisturbed):
    plan, expected, _ = undisturbed
    out = tmp_path / "out"
    with dask_workers(2) as cluster:
        command = threading.Timer(15, lambda: os.killpg(cluster.workers[0].pid, signal.SIGKILL))
        command.start()
        with use_cluster(cluster.name):
            batch = run_batch(plan, out)
        command.join()
    assert counts(batch) == (5, 0, 0)
    check_same(out, expected)
