"""The folder of a run: whole or partial, never in between; one process at a time."""

import json
import logging
import os
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest

from tabular_trainers import living_lock, run_folder
from tabular_trainers.errors import SchemaError
from tabular_trainers.living_lock import HeldError
from tabular_trainers.parallel import write_result
from tabular_trainers.run_folder import (
    LOCK,
    TASKS,
    check_out,
    finish_whole,
    holds_same,
    partial_folder,
)


def test_a_whole_folder_appears_only_at_the_end(tmp_path):
    out = tmp_path / "run"
    with partial_folder(out, "hash", 1) as partial:
        write_result(partial / TASKS, "a", {"t": pd.DataFrame({"x": [1]})})
        (partial / "run.json").write_text("{}")
        assert not out.exists()
    assert sorted(p.name for p in out.iterdir()) == ["run.json"]
    assert not partial.exists()


def stop_a_run(out, config_hash):
    """Leave behind what a run stopped by Ctrl-C leaves: one finished result and half a table."""
    with partial_folder(out, config_hash, 5) as partial:
        write_result(partial / TASKS, "a", {"t": pd.DataFrame({"x": [1]})})
        (partial / "left_over.parquet").write_text("half")
        raise KeyboardInterrupt


def fail_in_the_middle(out):
    with partial_folder(out, "hash") as partial:
        (partial / "half.parquet").write_text("half")
        raise OSError("full")


def test_where_nothing_can_go_on_an_error_leaves_nothing(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text("whole")
    with pytest.raises(OSError, match="full"):
        fail_in_the_middle(out)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["run", "run.json"]


def enter(out):
    with partial_folder(out, "hash", 1):
        pass


def test_a_stopped_run_keeps_its_results_for_the_same_configuration(tmp_path, caplog):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        stop_a_run(out, "hash")
    assert not out.exists()
    with caplog.at_level(logging.INFO), partial_folder(out, "hash", 5) as partial:
        assert (partial / TASKS / "a" / "tables.json").exists()
        assert not (partial / "left_over.parquet").exists()
    assert "reused 1 of 5 results of the run that was stopped" in caplog.messages


def test_a_stopped_run_of_another_configuration_is_cleared(tmp_path, caplog):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        stop_a_run(out, "hash")
    with caplog.at_level(logging.INFO), partial_folder(out, "other", 5) as partial:
        assert not (partial / TASKS).exists()
    assert caplog.messages == [
        f"started clean: the stopped run in {partial} was of another configuration"
    ]


def test_a_living_process_holds_its_partial_folder(tmp_path):
    out = tmp_path / "run"
    with partial_folder(out, "hash", 1) as partial, pytest.raises(SchemaError) as caught:
        enter(out)
    assert str(caught.value) == (
        f"{partial} is being written by process {os.getpid()}. Wait for it, stop it, or give "
        "another --out."
    )


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    partial = tmp_path / "run.partial"
    partial.mkdir()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    (partial / LOCK).write_text(json.dumps({"pid": int(gone.stdout), "started": 1.0}))
    enter(tmp_path / "run")
    assert (tmp_path / "run").is_dir()


def test_a_reused_process_number_does_not_hold_the_folder(tmp_path):
    partial = tmp_path / "run.partial"
    partial.mkdir()
    (partial / LOCK).write_text(json.dumps({"pid": os.getpid(), "started": 1.0}))
    enter(tmp_path / "run")
    assert (tmp_path / "run").is_dir()


def test_a_complete_run_is_replaced_only_when_asked(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text("old")
    with pytest.raises(SchemaError) as caught:
        check_out(out)
    assert str(caught.value) == (
        f"{out} holds a complete run. Give another --out, or --overwrite to replace it."
    )
    check_out(out, overwrite=True)
    with partial_folder(out, "hash", 1) as partial:
        (partial / "run.json").write_text("new")
        assert (out / "run.json").read_text() == "old"
    assert (out / "run.json").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(SchemaError) as caught:
        check_out(tmp_path, overwrite=True)
    assert str(caught.value) == (
        f"{tmp_path} is not empty and holds no run; nothing in it is touched. Give another --out."
    )


def test_a_file_is_not_an_output_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SchemaError, match="is a file; --out names the folder of a new run"):
        check_out(tmp_path / "file")


def whole_but_not_renamed(out, monkeypatch):
    """Leave behind what a process killed at its very end leaves: all tables, the old name."""
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "_finish", lambda out: None)
        with partial_folder(out, "hash", 1) as partial:
            write_result(partial / TASKS, "a", {"t": pd.DataFrame({"x": [1]})})
            (partial / "run.json").write_text('{"config_hash": "hash"}')


def test_a_run_killed_before_its_renaming_is_only_renamed(tmp_path, monkeypatch):
    out = tmp_path / "run"
    whole_but_not_renamed(out, monkeypatch)
    assert not out.exists()
    assert not finish_whole(out, "other")
    assert finish_whole(out, "hash")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "run",
        "run/run.json",
    ]
    assert not finish_whole(out, "hash")


def test_a_complete_run_is_known_by_its_own_hash(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    assert not holds_same(out, "hash")
    (out / "run.json").write_text('{"config_hash": "hash"}')
    (out / "whole.json").write_text("{}")  # of a process killed between the renaming and this
    assert holds_same(out, "hash")
    assert [path.name for path in out.iterdir()] == ["run.json"]
    assert not holds_same(out, "other")


def lock_of_another_host(folder, age_s):
    """Write the lock of a process on another computer, touched some seconds ago."""
    folder.mkdir()
    lock = folder / LOCK
    lock.write_text(json.dumps({"pid": 1, "started": 1.0, "host": "elsewhere"}))
    touched = lock.stat().st_mtime - age_s
    os.utime(lock, (touched, touched))


def test_a_lock_of_another_computer_lives_while_it_is_touched(tmp_path):
    lock_of_another_host(tmp_path / "run.partial", age_s=200)
    with pytest.raises(HeldError, match="being written by process 1 on elsewhere. Wait for it"):
        enter(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run.partial").iterdir()) == [LOCK]


def test_a_lock_of_another_computer_is_dead_after_five_minutes(tmp_path):
    lock_of_another_host(tmp_path / "run.partial", age_s=301)
    enter(tmp_path / "run")
    assert (tmp_path / "run").is_dir()


def test_a_holder_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(living_lock, "TOUCHED_S", 0.01)
    lock = tmp_path / "lock"
    with living_lock.living_lock(lock, "it", "wait"):
        os.utime(lock, (1.0, 1.0))
        for _ in range(1000):
            if lock.stat().st_mtime > 1.0:
                break
            time.sleep(0.01)
        assert lock.stat().st_mtime > 1.0
    assert not lock.exists()


def test_waiting_ends_when_the_holder_does(tmp_path):
    lock = tmp_path / "lock"
    held = threading.Event()
    waited = threading.Thread(
        target=lambda: (living_lock.wait_until_free(lock, every_s=0.01), held.set())
    )
    with living_lock.living_lock(lock, "it", "wait"):
        waited.start()
        assert not held.wait(0.2)
    assert held.wait(30)
