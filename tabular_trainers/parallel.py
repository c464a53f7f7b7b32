"""Map tasks over processes of this machine, one thread each, keeping every finished result on disk.

A task returns tables. They are stored under the task's key as soon as it ends, so that a run which
was stopped starts again from its whole results. Results do not depend on the number of processes:
each task runs on one thread, and results come back in the order of the tasks.
"""

import json
import os
import shutil
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tabular_trainers.feature_sets import file_name


@dataclass(frozen=True)
class Task:
    """One call: ``function(context, *arguments)``, stored under ``key``."""

    key: str
    arguments: tuple


def cpu_count():
    """Count the processors this process may use (containers and schedulers limit them)."""
    import joblib

    return joblib.cpu_count()


def map_tasks(function, tasks, context, n_jobs=1, store=None, progress=None):
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
        Processes. Does not change any result.
    store : path, optional
        Folder that keeps finished results; results already there are read instead of computed.
    progress : callable, optional
        Called with the key after each finished task.

    Returns
    -------
    list of dict of DataFrame
    """
    tasks = list(tasks)
    results = {task.key: read_result(store, task.key) for task in tasks} if store else {}
    results = {key: result for key, result in results.items() if result is not None}
    for key in results:
        _tell(progress, key)
    waiting = [task for task in tasks if task.key not in results]
    if n_jobs == 1 or len(waiting) < 2:
        for task in waiting:
            results[task.key] = _compute(function, task, context, store)
            _tell(progress, task.key)
    else:
        _map_processes(
            function, waiting, context, min(n_jobs, len(waiting)), store, progress, results
        )
    return [results[task.key] for task in tasks]


def _map_processes(function, tasks, context, n_jobs, store, progress, results):
    import joblib

    # loky, not multiprocessing: it starts clean processes without importing the caller's script
    # again, so that a script without an `if __name__ == "__main__"` guard works. They stay for the
    # next stage, which saves its imports, and large arrays reach them once, through a memory map.
    processes = joblib.Parallel(
        n_jobs, backend="loky", batch_size=1, return_as="generator_unordered"
    )
    finished = processes(
        joblib.delayed(_compute_keyed)(function, task, context, store) for task in tasks
    )
    with warnings.catch_warnings():
        # loky renews a process that grew by 300 MB, which the first use of shap or xgboost in it
        # can be; nothing is lost, and a process that really dies is an error.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        for key, result in finished:
            results[key] = result
            _tell(progress, key)


def _compute_keyed(function, task, context, store):
    # Ctrl-C reaches the whole process group: the first process hears it and stops the others,
    # which would otherwise print a traceback each where it meets them between two tasks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return task.key, _compute(function, task, context, store)


def _compute(function, task, context, store):
    with one_thread():
        result = function(context, *task.arguments)
    if store:
        write_result(store, task.key, result)
    return result


def one_thread():
    """Give the context in which a step of a run is computed: on one BLAS thread.

    The number of threads changes the order of sums, and with it the last bits; on small matrices
    they also cost several times the CPU seconds.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


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
