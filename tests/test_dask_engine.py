"""Tasks on real Dask workers: the same results, and what is lost with a worker or the scheduler."""

import os
import signal
import sys
import time

import distributed
import pandas as pd
import pytest

import tabular_trainers
from tabular_trainers import dask_cluster
from tabular_trainers.errors import ClusterError, SchemaError
from tabular_trainers.parallel import Task, cluster_size, map_tasks, read_result, use_cluster
from tests.dask_workers import ONE_THREAD, dask_workers

VERSION = tabular_trainers.__version__
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


def test_a_context_that_went_down_with_its_workers_unnoticed_is_sent_again(dask, monkeypatch):
    scatter, calls = distributed.Client.scatter, []

    def forgotten(self, *arguments, **options):
        shared = scatter(self, *arguments, **options)
        calls.append(shared)
        if len(calls) == 1:  # the scheduler knows no more of it; this client is not told

            def forget(dask_scheduler, keys, client):
                dask_scheduler.client_releases_keys(keys=keys, client=client)

            self.run_on_scheduler(forget, keys=[shared[0].key], client=self.id)
        return shared

    monkeypatch.setattr(distributed.Client, "scatter", forgotten)
    with use_cluster(dask.name):
        assert numbers(map_tasks(double, TASKS, {"factor": 2})) == [2 * i for i in range(8)]
    assert len(calls) == 2


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


def _names_its_context(context, key):
    return {"number": pd.DataFrame({"number": [id(context), context["factor"]]})}


def test_the_context_reaches_a_worker_once_a_stage():
    with dask_workers(1) as dask, use_cluster(dask.name):
        found = map_tasks(_names_its_context, TASKS, {"factor": 2})
    assert len({result["number"]["number"][0] for result in found}) == 1


def _slowly(context, number):
    time.sleep(0.5)
    return double(context, number)


def test_a_context_that_is_lost_with_its_workers_is_sent_again():
    with dask_workers(1) as dask, use_cluster(dask.name):

        def replace_the_worker(key):
            if key == "task-1":
                dask.workers[0].kill()
                dask.workers[0].wait()
                dask.add_worker(*ONE_THREAD)

        results = map_tasks(_slowly, TASKS[:4], {"factor": 2}, progress=replace_the_worker)
    assert numbers(results) == [0, 2, 4, 6]


def test_a_scheduler_that_dies_is_one_clear_error_and_results_are_kept(tmp_path):
    with dask_workers(1) as dask, pytest.raises(ClusterError, match="run the same command again"):
        with use_cluster(dask.name):
            map_tasks(_slowly, TASKS, {"factor": 2}, 1, tmp_path, lambda key: dask.scheduler.kill())
    stored = [task for task in TASKS if read_result(tmp_path, task.key)]
    assert 0 < len(stored) < len(TASKS)


def _counts_itself(context, number):
    global here
    here = globals().get("here", 0) + 1
    alone = here == 1
    time.sleep(0.05)
    here -= 1
    return {"numbers": pd.DataFrame({"number": [alone], "name": [os.getpid()]})}


def test_a_worker_with_several_threads_computes_one_task_at_a_time(caplog):
    with dask_workers(1, "--nthreads", "4", "--memory-limit", "0") as dask:
        with caplog.at_level("INFO", logger="tabular_trainers"), use_cluster(dask.name):
            results = map_tasks(_counts_itself, TASKS, None)
    assert numbers(results) == [True] * len(TASKS)
    assert "has several threads; one task at a time runs in each" in caplog.text


def test_a_task_goes_where_its_resources_are():
    with dask_workers(1) as dask:
        dask.add_worker(*ONE_THREAD, "--resources", "GPU=1", "--name", "with")
        with use_cluster(dask.name):
            while cluster_size() < 2:
                time.sleep(0.05)
            found = map_tasks(_where, TASKS, None, resources={"GPU": 1})
    assert set(numbers(found)) == {"with"}


def _where(context, number):
    from distributed import get_worker

    return {"numbers": pd.DataFrame({"number": [get_worker().name]})}


def test_workers_with_another_version_are_refused(dask, monkeypatch):
    monkeypatch.setattr("distributed.versions._version_cached", lambda package: "99")  # here only
    found = f"have other versions: tabular_trainers {VERSION}, here 99"
    with pytest.raises(SchemaError, match=found), use_cluster(dask.name):
        pass


def test_a_scheduler_without_workers_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(dask_cluster, "WORKER_S", 0.1)
    with dask_workers(0) as dask, pytest.raises(SchemaError, match="has no worker"):
        with use_cluster(dask.name):
            pass


def test_without_the_extra_its_name_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SchemaError, match=r"tabular-trainers\[cluster\]"):
        with use_cluster("dask://127.0.0.1:8786"):
            pass


def test_no_scheduler_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(dask_cluster, "CONNECT_S", 0.5)
    with pytest.raises(SchemaError, match="no Dask scheduler answers"):
        with use_cluster("dask://127.0.0.1:9"):
            pass


@pytest.mark.parametrize(
    ("name", "said"),
    [("slrm", "Did you mean 'slurm'"), ("dask://somewhere", "known: dask://HOST:PORT, slurm")],
)
def test_an_unknown_cluster_is_named(name, said):
    with pytest.raises(SchemaError, match=said), use_cluster(name):
        pass


def test_options_belong_to_a_queueing_system(tmp_path):
    with pytest.raises(SchemaError, match="options belong to a queueing system"):
        with use_cluster("dask://127.0.0.1:8786", tmp_path / "options.toml"):
            pass
