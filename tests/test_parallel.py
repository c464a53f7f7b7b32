"""Tasks: order, reuse of stored results, the same results from any number of processes."""

import signal

import pandas as pd
import pytest

from tabular_trainers.parallel import Task, map_tasks, read_result, write_result


def double(context, number):
    """Return a table with one number; `context` counts calls made in this process."""
    if number == 13:
        raise ValueError("unlucky")
    return {"numbers": pd.DataFrame({"number": [context["factor"] * number]})}


TASKS = [Task(f"task-{i}", (i,)) for i in range(4)]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_results_come_in_the_order_of_the_tasks(n_jobs, tmp_path):
    keys = []
    results = map_tasks(double, TASKS, {"factor": 2}, n_jobs, tmp_path, keys.append)
    assert [r["numbers"]["number"].item() for r in results] == [0, 2, 4, 6]
    assert sorted(keys) == [task.key for task in TASKS]
    assert not list(tmp_path.glob("*.partial-*"))


def test_stored_results_are_used_again(tmp_path):
    write_result(tmp_path, "task-1", {"numbers": pd.DataFrame({"number": [-1]})})
    results = map_tasks(double, TASKS, {"factor": 2}, 1, tmp_path)
    assert [r["numbers"]["number"].item() for r in results] == [0, -1, 4, 6]


def test_a_key_becomes_a_name_that_every_file_system_takes(tmp_path):
    tasks = [Task("fold-late:a+b-cox-0-0", (3,))]
    for _ in range(2):
        results = map_tasks(double, tasks, {"factor": 2}, 1, tmp_path)
    assert results[0]["numbers"]["number"].item() == 6
    assert [path.name for path in tmp_path.iterdir()] == ["fold-late-a+b-cox-0-0"]


def test_a_half_written_result_is_not_used(tmp_path):
    (tmp_path / "task-0.partial-1").mkdir()
    (tmp_path / "task-1").mkdir()
    assert read_result(tmp_path, "task-0") is None
    assert read_result(tmp_path, "task-1") is None


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_of_a_task_reaches_the_caller(n_jobs):
    tasks = [Task("a", (1,)), Task("b", (13,))]
    with pytest.raises(ValueError, match="unlucky"):
        map_tasks(double, tasks, {"factor": 2}, n_jobs)


def _hears_interrupts(context):
    return {"heard": pd.DataFrame({"heard": [signal.getsignal(signal.SIGINT) != signal.SIG_IGN]})}


def test_workers_leave_interrupts_to_the_process_that_started_them():
    before = signal.getsignal(signal.SIGINT)
    tasks = [Task(str(number), ()) for number in range(2)]
    found = map_tasks(_hears_interrupts, tasks, None, n_jobs=2)
    assert [result["heard"]["heard"].item() for result in found] == [False, False]
    assert signal.getsignal(signal.SIGINT) is before
