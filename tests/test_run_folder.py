"""The folder of a run: whole or partial, never in between; one process at a time."""

import json
import logging
import os
import subprocess
import sys

import pandas as pd
import pytest

from tabular_trainers.errors import SchemaError
from tabular_trainers.parallel import write_result
from tabular_trainers.run_folder import LOCK, TASKS, check_out, partial_folder


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
