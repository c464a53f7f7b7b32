"""Map tasks over processes of this machine or a cluster, keeping every finished result on disk.

A task returns tables. The first process stores them under the task's key as soon as it ends, so
that a run which was stopped starts again from its whole results. Results do not depend on the
engine or the number of workers: each task runs on one thread, and results come back in the order of
the tasks.
"""

import contextlib
import contextvars
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tabular_trainers.errors import SchemaError, TaskFailedError
from tabular_trainers.feature_sets import file_name
from tabular_trainers.task_attempts import Failure
from tabular_trainers.task_attempts import one_thread as one_thread

_CLUSTER = contextvars.ContextVar("cluster", default=None)


@dataclass(frozen=True)
class Task:
    """One call: ``function(context, *arguments)``, stored under ``key``.

    Those of the greatest ``cost`` are started first, so that none is left alone at the end.
    """

    key: str
    arguments: tuple
    cost: float = 0.0


def cpu_count():
    """Count the processors this process may use (containers and schedulers limit them)."""
    import joblib

    return joblib.cpu_count()


@contextlib.contextmanager
def use_cluster(name, options=None):
    """Send the tasks of every `map_tasks` of this thread to a cluster while the block lasts.

    Parameters
    ----------
    name : str or None
        None: processes of this machine. ``"dask://HOST:PORT"``: the workers of a Dask scheduler.
        ``"slurm"``, or another queueing system that dask-jobqueue knows: jobs started for this.
    options : path, optional
        For a queueing system: a TOML file with a table of its name. ``jobs`` is how many jobs to
        start, everything else goes to the class of dask-jobqueue.

    Raises
    ------
    SchemaError
        The extra is not installed, no scheduler or worker answers, workers have other versions, or
        an option is unknown.
    ClusterError
        While the block lasts: the scheduler is gone.
    """
    if name is None:
        if options is not None:
            raise SchemaError(f"{options}: options of a cluster, but no cluster is named.")
        yield
        return
    from tabular_trainers.dask_cluster import open_cluster

    with open_cluster(name, options) as cluster:
        token = _CLUSTER.set(cluster)
        try:
            yield
        finally:
            _CLUSTER.reset(token)


def cluster_size():
    """Count the workers of the cluster in use; None on this machine."""
    cluster = _CLUSTER.get()
    return None if cluster is None else len(cluster.workers())


def cluster_workers():
    """Describe the workers of the cluster in use, none on this machine.

    Returns
    -------
    list of dict
        ``host``, the computer, and ``resources``, what a worker declares, such as ``{"GPU": 1}``.
    """
    cluster = _CLUSTER.get()
    return [] if cluster is None else cluster.describe_workers()


def map_tasks(
    function,
    tasks,
    context,
    n_jobs=1,
    store=None,
    progress=None,
    *,
    failed=None,
    resources=None,
):
    """Apply a function to every task and return their tables in the order of the tasks.

    Parameters
    ----------
    function : callable
        ``function(context, *task.arguments)`` returns a dict of name -> DataFrame. Defined at the
        top of a module, so that processes can find it.
    tasks : sequence of Task
    context : object
        Shared by all tasks; a task must not change it.
    n_jobs : int, default 1
        Processes. Does not change any result. Not used on a cluster (`use_cluster`).
    store : path, optional
        Folder that keeps finished results; results already there are read instead of computed.
    progress : callable, optional
        Called with the key after each finished task.
    failed : callable, optional
        ``failed(task, reason)`` gives the tables of a task that failed: three times, or once with a
        SchemaError or DataError. They are returned and not stored. Default: what the task raised
        reaches the caller.
    resources : dict, optional
        What a task needs of a Dask worker, such as ``{"GPU": 1}``; not used on this machine.

    Returns
    -------
    list of dict of DataFrame

    Raises
    ------
    TaskFailedError
        The process of a task died three times.
    """
    tasks = list(tasks)
    results = {task.key: read_result(store, task.key) for task in tasks} if store else {}
    results = {key: result for key, result in results.items() if result is not None}
    for key in results:
        _tell(progress, key)
    waiting = [task for task in tasks if task.key not in results]
    waiting.sort(key=lambda task: -task.cost)
    # By all tasks, not by those that wait: the one that is left may be what took processes down.
    n_jobs = min(n_jobs, len(tasks))
    outcomes = _outcomes(function, waiting, context, n_jobs, failed is not None, resources)
    with contextlib.closing(outcomes):
        for task, outcome in outcomes:
            if isinstance(outcome, Failure):
                outcome = _failed(failed, task, outcome)
            elif store:
                write_result(store, task.key, outcome)
            results[task.key] = outcome
            _tell(progress, task.key)
    return [results[task.key] for task in tasks]


def _outcomes(function, tasks, context, n_jobs, retry, resources):
    """Yield each task with its tables or a `Failure`, from whichever engine is in use."""
    from tabular_trainers import local_engine

    cluster = _CLUSTER.get()
    if cluster is not None:
        return cluster.carry_out(function, tasks, context, resources)
    if n_jobs < 2:
        return local_engine.in_this_process(function, tasks, context, retry)
    return local_engine.in_processes(function, tasks, context, n_jobs, retry)


def _failed(failed, task, failure):
    if failed is not None:
        return failed(task, failure.reason)
    if failure.error is not None:
        raise failure.error
    raise TaskFailedError(f"task {task.key}: {failure.reason}.")


def _tell(progress, key):
    if progress is not None:
        progress(key)


def write_result(store, key, result):
    """Store the tables of one task; the folder appears under its name only when it is whole."""
    folder = Path(store) / file_name(key)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, frame in result.items():
        frame.to_parquet(partial / f"{name}.parquet")
    (partial / "tables.json").write_text(json.dumps(list(result)), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def read_result(store, key):
    """Read the tables of one task, or None when it has not been stored."""
    folder = Path(store) / file_name(key)
    if not (folder / "tables.json").exists():
        return None
    names = json.loads((folder / "tables.json").read_text(encoding="utf-8"))
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}
