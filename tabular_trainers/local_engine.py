"""Carry out tasks on this machine: in this process, or in several that may die."""

import contextlib
import shutil
import signal
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from tabular_trainers.task_attempts import (
    ATTEMPTS,
    Failure,
    attempt,
    attempt_elsewhere,
    died,
)


def in_this_process(function, tasks, context, retry):
    """Yield each task with its tables, or with a `Failure`.

    Parameters
    ----------
    function : callable
    tasks : sequence of Task
    context : object
    retry : bool
        Try again what raised, `ATTEMPTS` times in all, unless the input is at fault.
    """
    for task in tasks:
        for number in range(1, ATTEMPTS + 1):
            outcome = attempt(function, context, task.arguments)
            if not isinstance(outcome, Failure) or outcome.is_final:
                break
            if not retry or number == ATTEMPTS:
                break
        yield task, outcome


def in_processes(function, tasks, context, n_jobs, retry):
    """Yield each task with its tables, or with a `Failure`, in the order in which they end.

    A process that dies breaks the pool, and whatever was running is lost: what was not started goes
    on in a new pool, then each task that was running is tried again alone, so that the one that
    takes its process down is told from its neighbours (or finds the memory that it needs).

    Parameters
    ----------
    function, tasks, context, retry
        As in `in_this_process`.
    n_jobs : int
        Processes.
    """
    from joblib.externals.loky.process_executor import BrokenProcessPool

    tasks = dict(enumerate(tasks))
    waiting, deaths, errors = set(tasks), Counter(), Counter()
    with _started_folder() as started:
        while waiting:
            fresh = sorted(index for index in waiting if not deaths[index])
            batch = fresh or [min(waiting)]
            for index in batch:
                _mark(started, index).unlink(missing_ok=True)
            pool = _in_pool(function, {i: tasks[i] for i in batch}, context, n_jobs, started)
            try:
                for index, outcome in pool:
                    if isinstance(outcome, Failure) and retry and not outcome.is_final:
                        errors[index] += 1
                        if errors[index] < ATTEMPTS:
                            continue
                    waiting.discard(index)
                    yield tasks[index], outcome
            except BrokenProcessPool:
                left = [index for index in batch if index in waiting]
                running = [index for index in left if _mark(started, index).exists()]
                for index in running or left:
                    deaths[index] += 1
                    if deaths[index] == ATTEMPTS:
                        waiting.discard(index)
                        yield tasks[index], died()
            finally:
                pool.close()


def _in_pool(function, tasks, context, n_jobs, started):
    import joblib

    # loky, not multiprocessing: it starts clean processes without importing the caller's script
    # again, so that a script without an `if __name__ == "__main__"` guard works. They stay for the
    # next stage, which saves its imports, and large arrays reach them once, through a memory map.
    processes = joblib.Parallel(
        n_jobs, backend="loky", batch_size=1, return_as="generator_unordered"
    )
    with warnings.catch_warnings():
        # loky renews a process that grew by 300 MB, which the first use of shap or xgboost in it
        # can be; nothing is lost, and a process that really dies is an error.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        # Said where an error of one task ends the others.
        warnings.filterwarnings("ignore", message=".*tasks which were still being processed")
        with contextlib.closing(
            processes(
                joblib.delayed(_in_worker)(function, context, task.arguments, index, started)
                for index, task in tasks.items()
            )
        ) as finished:
            yield from finished


def _in_worker(function, context, arguments, index, started):
    # Ctrl-C reaches the whole process group: the first process hears it and stops the others,
    # which would otherwise print a traceback each where it meets them between two tasks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _mark(started, index).touch()
    return index, attempt_elsewhere(function, context, arguments)


@contextlib.contextmanager
def _started_folder():
    """Give a folder where each process says which task it starts: a dead one cannot be asked."""
    folder = Path(tempfile.mkdtemp(prefix="tabular-trainers-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mark(started, index):
    return Path(started) / str(index)
