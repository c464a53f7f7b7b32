"""Tasks: order, reuse of stored results, the same results from any number of processes."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from tabular_trainers.errors import DataError, SchemaError, TaskFailedError
from tabular_trainers.parallel import Task, map_tasks, read_result, use_cluster, write_result


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


def reasons(task, reason):
    return {"numbers": pd.DataFrame({"number": [reason]})}


def numbers(results):
    return [result["numbers"]["number"].item() for result in results]


def _notes_and_fails(context, number):
    with (context / str(number)).open("a") as file:
        file.write("x")
    if number == 1:
        raise KeyError("unlucky")
    if number == 2:
        raise DataError("no events")
    return double({"factor": 2}, number)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_what_fails_is_tried_three_times_unless_the_input_is_at_fault(n_jobs, tmp_path):
    store = tmp_path / "store"
    results = map_tasks(_notes_and_fails, TASKS, tmp_path, n_jobs, store, failed=reasons)
    assert numbers(results) == [0, "KeyError: 'unlucky'", "no events", 6]
    tried = [len((tmp_path / str(number)).read_text()) for number in range(4)]
    assert tried == [1, 3, 1, 1]
    assert sorted(path.name for path in store.iterdir()) == ["task-0", "task-3"]


class _Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def _raises_unpicklable(context, number):
    raise _Unpicklable("no", "way")


def test_an_error_that_cannot_travel_is_told_in_words():
    with pytest.raises(RuntimeError, match="_Unpicklable: no way") as told:
        map_tasks(_raises_unpicklable, TASKS, None, n_jobs=2)
    assert "_raises_unpicklable" in told.value.__notes__[0]


def _dies(context, number):
    if number == 2:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    return double({"factor": 2}, number)


@pytest.mark.slow
def test_a_task_that_takes_its_process_down_three_times_fails_without_its_neighbours(tmp_path):
    tasks = [Task(f"task-{i}", (i,)) for i in range(6)]
    results = map_tasks(_dies, tasks, None, 2, tmp_path, failed=reasons)
    died = "its process died in each of 3 attempts (killed, or out of memory)"
    assert numbers(results) == [0, 2, died, 6, 8, 10]
    with pytest.raises(TaskFailedError, match="task task-2: its process died"):
        map_tasks(_dies, tasks, None, 2, tmp_path)


def _dies_once(context, number):
    mark = context / str(number)
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return double({"factor": 2}, number)


def test_a_process_that_dies_costs_no_run(tmp_path):
    assert numbers(map_tasks(_dies_once, TASKS, tmp_path, n_jobs=2)) == [0, 2, 4, 6]
    assert (tmp_path / "1").exists()


def _threads(context):
    import sksurv.metrics  # noqa: F401 - brings libraries with threads of their own
    import threadpoolctl

    return {"threads": pd.DataFrame(threadpoolctl.threadpool_info())[["num_threads"]]}


def test_the_first_task_of_a_process_has_one_thread_too():
    code = (
        "from tests.test_parallel import _threads\n"
        "from tabular_trainers.parallel import Task, map_tasks\n"
        "found = map_tasks(_threads, [Task('one', ())], None)\n"
        "print(set(found[0]['threads']['num_threads']), len(found[0]['threads']))"
    )
    many = {**os.environ, "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    said = subprocess.run(
        [sys.executable, "-c", code], env=many, capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("{1} ")


def test_options_without_a_cluster_are_refused(tmp_path):
    with pytest.raises(SchemaError, match="no cluster is named"), use_cluster(None, tmp_path):
        pass


def test_the_longest_tasks_are_started_first_and_results_keep_their_order():
    ended = []
    tasks = [Task(f"task-{i}", (i,), cost) for i, cost in enumerate((1.0, 8.0, 1.0, 9.0))]
    results = map_tasks(_one_row, tasks, None, progress=ended.append)
    assert ended == ["task-3", "task-1", "task-0", "task-2"]
    assert [result["rows"]["number"].item() for result in results] == [0, 1, 2, 3]


def _one_row(context, number):
    return {"rows": pd.DataFrame({"number": [number]})}
