"""CPU seconds and peak memory of one piece of work, in a fresh process of its own.

A job is a function of a jobs_*.py file: it loads the cohort, warms up on a small one (which
compiles kernels) and returns what is to be timed. The measuring process imports nothing large
itself, because a child process starts its peak memory from its parent's. POSIX only.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
OVER_CPU_LIMIT = -24  # killed by SIGXCPU
GB = 1e9


@dataclass(frozen=True)
class Job:
    """What is timed, and what is asked of its result afterwards.

    Attributes
    ----------
    run : callable
        Without arguments.
    facts : callable or None
        ``facts(result)`` gives a dict of numbers that say whether the work was done well.
    measures_itself : bool
        ``run`` starts another program and returns the measured numbers as a dict.
    """

    run: Callable
    facts: Callable | None = None
    measures_itself: bool = False


def measure(job, parameters, threads=1, limit=None):
    """Run a job in a process of its own.

    Parameters
    ----------
    job : str
        Module and function, ``"jobs_forest:ours"``.
    parameters : dict
        Arguments of the function, as JSON can say them.
    threads : int
        Threads of every library.
    limit : int, optional
        CPU seconds after which it is ended.

    Returns
    -------
    dict
        ``cpu_seconds, wall_seconds, before_gb, peak_gb`` and ``facts``, or ``problem``: why there
        are none.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        command = [sys.executable, __file__, job, json.dumps(parameters), str(limit or 0), str(out)]
        ended = subprocess.run(
            command,
            env=os.environ | pinned(threads),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if ended.returncode == OVER_CPU_LIMIT:
            return {"problem": f"over {limit}"}
        if ended.returncode:
            lines = ended.stderr.decode(errors="replace").strip().splitlines()
            return {"problem": f"failed: {lines[-1] if lines else ended.returncode}"}
        return json.loads(out.read_text())


def pinned(threads):
    """Give the environment that keeps every library to so many threads."""
    return dict.fromkeys(THREADS, str(threads))


def run_job(job, parameters, limit=None):
    """Do in this process what `measure` promises."""
    module, function = job.split(":")
    work = getattr(importlib.import_module(module), function)(**parameters)
    if limit:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + limit, hard))
    before = memory_now()
    wall, cpu = time.perf_counter(), cpu_seconds()
    result = work.run()
    measured = {
        "cpu_seconds": cpu_seconds() - cpu,
        "wall_seconds": time.perf_counter() - wall,
        "before_gb": before,
        "peak_gb": peak_memory(),
    }
    if work.measures_itself:
        measured |= result
    if limit:
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
    measured["facts"] = work.facts(result) if work.facts else {}
    return measured


def cpu_seconds():
    """User and system time of this process and of its ended children."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def peak_memory():
    """Largest resident memory of this process so far, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GB


def memory_now():
    """Resident memory of this process, in GB."""
    import psutil

    return psutil.Process().memory_info().rss / GB


if __name__ == "__main__":
    name, given, most, destination = sys.argv[1:]
    answer = run_job(name, json.loads(given), int(most))
    Path(destination).write_text(json.dumps(answer))
