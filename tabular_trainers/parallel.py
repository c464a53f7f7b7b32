"""Map tasks over processes of this machine, one thread each, keeping every finished result on disk.

A task returns tables. They are stored under the task's key as soon as it ends, so that a run which
was stopped starts again from its whole results. Results do not depend on the number of processes:
each task runs on one thread, and results come back in the order of the tasks.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

_context = None  # what every task of a worker process shares; sent once a worker, not once a task


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
        Shared by all tasks; sent once to each process.
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
    from concurrent.futures import as_completed

    # loky, not multiprocessing: it starts clean processes without importing the caller's script
    # again, so that a script without an `if __name__ == "__main__"` guard works.
    from joblib.externals.loky import ProcessPoolExecutor

    executor = ProcessPoolExecutor(n_jobs, initializer=_set_context, initargs=(context,))
    try:
        futures = {executor.submit(_compute_shared, function, task, store): task for task in tasks}
        for future in as_completed(futures):
            key = futures[future].key
            results[key] = future.result()
            _tell(progress, key)
    except BaseException:
        executor.shutdown(wait=False, kill_workers=True)
        raise
    executor.shutdown()


def _set_context(context):
    global _context
    _context = context


def _compute_shared(function, task, store):
    return _compute(function, task, _context, store)


def _compute(function, task, context, store):
    from threadpoolctl import threadpool_limits

    # The number of BLAS threads changes the order of sums, and with it the last bits.
    with threadpool_limits(1):
        result = function(context, *task.arguments)
    if store:
        write_result(store, task.key, result)
    return result


def _tell(progress, key):
    if progress is not None:
        progress(key)


def write_result(store, key, result):
    """Store the tables of one task; the folder appears under its name only when it is whole."""
    folder = Path(store) / key
    partial = folder.with_name(f"{key}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, frame in result.items():
        frame.to_parquet(partial / f"{name}.parquet")
    (partial / "tables.json").write_text(json.dumps(list(result)), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def read_result(store, key):
    """Read the tables of one task, or None when it has not been stored."""
    folder = Path(store) / key
    if not (folder / "tables.json").exists():
        return None
    names = json.loads((folder / "tables.json").read_text(encoding="utf-8"))
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}
