"""Start Dask workers as jobs of a queueing system, by a TOML table of its name."""

import contextlib
import inspect
import logging
import queue
import sys
import threading
import time

from tabular_trainers.errors import Problems, SchemaError, listing, nearest
from tabular_trainers.toml_options import read_toml

logger = logging.getLogger("tabular_trainers")

# Name -> class of dask-jobqueue. Only slurm is tested; the others differ in what they ask for.
QUEUES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "oar": "OARCluster",
    "moab": "MoabCluster",
    "htcondor": "HTCondorCluster",
}
TESTED = ("slurm",)
JOBS = "jobs"
LOOK_S = 1.0  # how often jobs that have ended are looked for
GONE_S = 30.0  # a worker that died is there again before, if its job still runs


@contextlib.contextmanager
def started_jobs(name, options):
    """Start jobs, give their cluster, and end them with the block.

    A job that ends before, such as by its wall time, is started anew.

    Parameters
    ----------
    name : str
        One of `QUEUES`.
    options : path or None
        TOML with a table of that name: ``jobs``, and what the class of dask-jobqueue takes.

    Raises
    ------
    SchemaError
        The options are wrong, or the queueing system takes none of the jobs.
    """
    jobs, keywords = read_options(name, options)
    if name not in TESTED:
        logger.info("%s: by way of dask-jobqueue, not tested by us", name)
    kind, submitted = _class(name), queue.SimpleQueue()
    try:
        cluster = kind(
            job_cls=_told_of_submission(kind.job_cls, submitted), **_with_defaults(keywords)
        )
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        raise SchemaError(f"{options}, table [{name}]: {_one_line(error)}") from error
    ended = threading.Event()
    renewal = threading.Thread(target=_renew, args=(cluster, jobs, ended), daemon=True)
    try:
        cluster.scale(jobs=jobs)
        outcomes = [submitted.get() for _ in range(jobs)]
        refused = [text for text in outcomes if text is not None]
        if len(refused) == jobs:
            raise SchemaError(f"{options}, table [{name}]: {refused[0]}")
        if refused:
            logger.info("%d of %d jobs: %s", len(refused), jobs, refused[0])
        renewal.start()
        yield cluster
    finally:
        ended.set()
        cluster.close()


def _told_of_submission(job, submitted):
    """Make a class of jobs that put None, or what went wrong, into a queue once submitted.

    Without it, what the queueing system says is printed as a traceback by the event loop, and the
    first worker is waited for in vain.
    """
    from distributed.deploy.spec import ProcessInterface

    class Job(job):
        async def start(self):
            try:
                await super().start()
            except (OSError, RuntimeError, ValueError) as error:
                await ProcessInterface.start(self)
                # what the program said; and no error, whose traceback would keep this job alive
                submitted.put(_one_line(str(error).rpartition("stderr:")[2]))
            else:
                submitted.put(None)

    return Job


def _renew(cluster, jobs, ended):
    """Start jobs whose workers have all gone anew; a job that never had one is left alone."""
    seen = {}  # job -> when it last had a worker
    while not ended.wait(LOOK_S):
        now = time.monotonic()
        alive = {facts["name"] for facts in list(cluster.scheduler_info["workers"].values())}
        for name, spec in list(cluster.worker_spec.items()):
            if alive & {f"{name}{suffix}" for suffix in spec.get("group", [""])}:
                seen[name] = now
            elif now - seen.get(name, now) > GONE_S:
                # Dask forgets a job of one process by itself, and one of several never
                job = cluster.workers.pop(name, None)
                if job is not None:
                    cluster.loop.add_callback(job.close)
                del seen[name]
        cluster.scale(jobs=jobs)


def read_options(name, options):
    """Read the table of a queueing system.

    Returns
    -------
    jobs : int
    keywords : dict
        For the class of dask-jobqueue.

    Raises
    ------
    SchemaError
        No file, no such table, an unknown key; all are named.
    """
    example = f'[{name}]\njobs = 4\ncores = 1\nmemory = "8GB"'
    if options is None:
        raise SchemaError(
            f"--cluster {name} needs --cluster-options FILE, a TOML file such as:\n{example}"
        )
    table = read_toml(options, "options of a queueing system")
    if not isinstance(table.get(name), dict):
        raise SchemaError(f"{options}: no table [{name}]. Expected, for example:\n{example}")
    keywords = dict(table[name])
    jobs = keywords.pop(JOBS, None)
    problems = Problems()
    where = f"{options}, table [{name}]"
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        problems.add(f"{where}: jobs must say how many jobs to start, at least 1.")
    known = _known(name)
    for key in keywords:
        if key not in known:
            problems.add(
                f"{where}: unknown key {key!r}.{nearest(key, [JOBS, *known])} Known: "
                f"{listing([JOBS, *sorted(known)], 60)}."
            )
    for key in ("cores", "memory"):
        if key not in keywords:
            problems.add(f"{where}: {key} of a job is missing.")
    problems.raise_if_any()
    return jobs, keywords


def _class(name):
    import dask_jobqueue

    return getattr(dask_jobqueue, QUEUES[name])


def _known(name):
    """Name the keys that a class of dask-jobqueue takes for its cluster or its jobs."""
    kind = _class(name)
    sources = [
        kind.__init__,
        *(c.__init__ for c in kind.__mro__ if c.__module__.startswith("dask_jobqueue")),
    ]
    sources += [
        c.__init__ for c in kind.job_cls.__mro__ if c.__module__.startswith("dask_jobqueue")
    ]
    ours = {"self", "scheduler", "name", "n_workers", "asynchronous", "loop", "job_cls"}
    ours |= {"scheduler_cls", "security", "extra", "job_extra", "env_extra", "header_skip"}
    names = set()
    for source in sources:
        for parameter in inspect.signature(source).parameters.values():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                names.add(parameter.name)
    return names - ours


def _with_defaults(keywords):
    """Add what is not said: workers of one thread, and the Python that runs this."""
    return {
        "python": sys.executable,
        "processes": keywords["cores"],
        "job_name": "tabular-trainers",
        **keywords,
        # Dask would open its dashboard, which asks for no password, to the whole network.
        "scheduler_options": {
            "dashboard_address": "127.0.0.1:0",
            **keywords.get("scheduler_options", {}),
        },
    }


def _one_line(error):
    return " ".join(str(error).split())
