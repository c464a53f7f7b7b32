"""From measured task times and sizes: how long a run, or a cohort of slides, takes on W workers.

A stage hands its tasks to workers, the longest first, each to whoever is free first. Beside that
stand what one process does alone (plan, measures, tables, report), the context of a stage, which
travels to every worker in doubling rounds, the results, which come back through one wire, and the
engine's own time for each task. Nothing overlaps but the tasks themselves: an estimate on the safe
side.
"""

import heapq
import math

NETWORK = 1.25e9  # assumed: bytes a second of one computer, 10 Gbit/s
DISK = 2.0e9  # assumed: bytes a second that a shared disk gives to all readers together
SLIDE_BYTES = 1.0e9  # assumed: a slide file
SLIDES, PATCHES = 200_000, 10_000


def spread(seconds, workers):
    """Give the time until the last task ends, each started in its order by the first free worker.

    Parameters
    ----------
    seconds : sequence of float
        Of each task.
    workers : int

    Returns
    -------
    float
    """
    free = [0.0] * workers
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def run_on(parts, workers, task_overhead, network=NETWORK, measured_with=1):
    """Estimate a run on so many workers.

    Parameters
    ----------
    parts : list of dict
        As national_run.py writes them.
    workers : int
    task_overhead : float
        Seconds of the engine a task.
    network : float
        Bytes a second.
    measured_with : int
        Workers of that run.

    Returns
    -------
    dict
        Seconds: ``total``, ``tasks``, ``alone`` (one process), ``network``, ``engine``; ``bound``
        is the least possible: what one process does, and the longest task of each stage.
    """
    found = {"tasks": 0.0, "alone": 0.0, "network": 0.0, "engine": 0.0, "bound": 0.0}
    for part in parts:
        tasks = part.get("tasks")
        if not tasks:
            found["alone"] += part["seconds"]
            continue
        seconds = [task["seconds"] for task in tasks]
        results = sum(task["result_bytes"] for task in tasks)
        # storing results is the first process's work, whoever computes
        found["alone"] += max(0.0, part["seconds"] - spread(seconds, measured_with))
        found["tasks"] += spread(seconds, workers)
        found["bound"] += max(seconds)
        found["engine"] += len(tasks) * task_overhead
        if workers > 1:
            rounds = math.ceil(math.log2(workers)) + 1
            found["network"] += (rounds * part["context_bytes"] + results) / network
    found["bound"] += found["alone"]
    found["total"] = sum(found[name] for name in ("tasks", "alone", "network", "engine"))
    return found


def slides_on(patch_seconds, value_bytes, dim, workers, task_overhead):
    """Estimate ``embed slides`` of 200,000 slides of 10,000 patches.

    Parameters
    ----------
    patch_seconds : float
        CPU seconds of a patch, reading and encoding.
    value_bytes, dim : int
        Of a vector.
    workers : int
    task_overhead : float

    Returns
    -------
    dict
        ``days``, ``read`` and ``written`` (bytes a second of all workers), ``store`` (bytes),
        ``engine`` (share of the time that the engine is busy), and at how many workers the
        ``disk_full`` and the ``engine_full``.
    """
    slide = patch_seconds * PATCHES
    rate = workers / slide  # slides a second
    return {
        "slide_seconds": slide,
        "days": SLIDES / rate / 86_400,
        "read": rate * SLIDE_BYTES,
        "written": rate * PATCHES * dim * value_bytes,
        "store": float(SLIDES * PATCHES * dim * value_bytes),
        "engine": rate * task_overhead,
        "disk_full": DISK / (SLIDE_BYTES / slide),
        "engine_full": slide / task_overhead,
    }


def pooling_on(cpu_seconds, patches, store_bytes, workers):
    """Estimate pooling of the store: what its processors and what its disk need, in seconds.

    Parameters
    ----------
    cpu_seconds, patches
        Of the pooling benchmark.
    store_bytes : float
    workers : int

    Returns
    -------
    processors, disk : float
    """
    return cpu_seconds / patches * SLIDES * PATCHES / workers, store_bytes / DISK
