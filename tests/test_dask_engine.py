"""Tasks on real Dask workers: the same results, and what is lost with a worker or the scheduler."""

import os
import signal
import time

import pandas as pd
import pytest

from tabular_trainers.errors import SchemaError
from tabular_trainers.parallel import Task, cluster_size, map_tasks, read_result, use_cluster
from tests.dask_workers import dask_workers

TASKS = [Task(f"task-{i}", (i,)) for i in range(8)]


def double(context, number):
    return {"numbers": pd.DataFrame({"number": [context["factor"] * number]})}


def numbers(results):
    return [result["numbers"]["number"].item() for result in results]


def reasons(task, reason):
    return {"numbers": pd.DataFrame({"number": [reason]})}


@pytest.fixture(scope="module")
def dask():
    with dask_workers(2) as started:
        yield started


def test_results_are_those_of_this_machine_and_stored_here(dask, tmp_path):
    keys = []
    with use_cluster(dask.name):
        assert cluster_size() in (1, 2)
        results = map_tasks(double, TASKS, {"factor": 2}, 1, tmp_path, keys.append)
    assert cluster_size() is None
    assert numbers(results) == [2 * i for i in range(8)]
    assert sorted(keys) == [task.key for task in TASKS]
    assert numbers([read_result(tmp_path, task.key) for task in TASKS]) == numbers(results)


def _raises(context, number):
    if number == 3:
        raise SchemaError("no column")
    if number == 5:
        raise KeyError("unlucky")
    return double(context, number)


def test_a_task_that_raises_three_times_fails_and_the_others_end(dask):
    with use_cluster(dask.name):
        results = map_tasks(_raises, TASKS, {"factor": 2}, failed=reasons)
    assert numbers(results) == [0, 2, 4, "no column", 8, "KeyError: 'unlucky'", 12, 14]


def test_an_error_of_a_task_reaches_the_caller(dask):
    with use_cluster(dask.name), pytest.raises(KeyError, match="unlucky"):
        map_tasks(_raises, TASKS[4:], {"factor": 2})


def _kills_its_process(context, number):
    if number == 3:
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    return double(context, number)


def test_a_task_that_takes_three_workers_down_fails_without_its_neighbours(dask):
    with use_cluster(dask.name):
        results = map_tasks(_kills_its_process, TASKS, {"factor": 2}, failed=reasons)
    died = "its process died in each of 3 attempts (killed, or out of memory)"
    assert numbers(results) == [0, 2, 4, died, 8, 10, 12, 14]


def test_an_unknown_cluster_is_named():
    with pytest.raises(SchemaError, match="Did you mean 'slurm'"), use_cluster("slrm"):
        pass


def test_no_scheduler_is_one_clear_error():
    with (
        pytest.raises(SchemaError, match="no Dask scheduler answers"),
        use_cluster("dask://127.0.0.1:9"),
    ):
        pass
