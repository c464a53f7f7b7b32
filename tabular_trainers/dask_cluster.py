"""Reach a Dask scheduler, or start one with jobs of a queueing system, and check its workers."""

import contextlib
import logging
import re

from tabular_trainers.dask_engine import DaskEngine
from tabular_trainers.errors import SchemaError, count, listing, unknown_name

logger = logging.getLogger("tabular_trainers")

CONNECT_S = 10.0
CLOSE_S = 5.0
WORKER_S = 30.0  # workers of a running scheduler are there, or not at all
# What has to be the same for the same numbers and for what travels between processes.
SAME = (
    "tabular_trainers", "numpy", "scipy", "pandas", "scikit-learn", "scikit-survival", "numba",
    "shap",
)  # fmt: skip
XGBOOST = ("xgboost", "xgboost-cpu")  # two names of one library


@contextlib.contextmanager
def open_cluster(name, options=None):
    """Give the engine for ``dask://HOST:PORT`` or a queueing system; see `use_cluster`."""
    _need("distributed")
    from tabular_trainers.job_queue import QUEUES, started_jobs

    if match := re.fullmatch(r"dask://(.+:\d+)", name):
        if options is not None:
            raise SchemaError(f"{options}: options belong to a queueing system, not to {name}.")
        with _connected(f"tcp://{match[1]}", name) as client:
            yield _checked(client, name, WORKER_S)
    elif name in QUEUES:
        _need("dask_jobqueue")
        with started_jobs(name, options) as cluster, _connected(cluster, name) as client:
            yield _checked(client, name, None)
    else:
        known = unknown_name("cluster", name, ["dask://HOST:PORT", *QUEUES])
        raise SchemaError(known)


def _need(module):
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise SchemaError(
            f"a cluster needs {module}, which is not installed: "
            'pip install "tabular-trainers[cluster]"'
        )


@contextlib.contextmanager
def _connected(address, name):
    from distributed import Client

    try:
        # not the default of this thread: what else uses Dask here does not go there
        client = Client(address, timeout=CONNECT_S, set_as_default=False, name="tabular-trainers")
    except (OSError, ValueError) as error:
        raise SchemaError(
            f"no Dask scheduler answers at {name} within {CONNECT_S:.0f} s. Is it running "
            "(`dask scheduler`), and are host and port those that it prints?"
        ) from error
    with _quiet():
        try:
            yield client
        finally:
            client.close(timeout=CLOSE_S)


@contextlib.contextmanager
def _quiet():
    """Keep Dask's own log of lost workers and connections off the terminal: we say what matters."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [found.level for found in loggers]
    for found in loggers:
        found.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for found, level in zip(loggers, levels, strict=True):
            found.setLevel(level)


def _checked(client, name, seconds):
    """Wait for a worker, then compare versions."""
    engine = DaskEngine(client, name)
    _wait_for_worker(engine, name, seconds)
    versions = client.get_versions(packages=[*SAME, *XGBOOST])
    own = _versions(versions["client"])
    others = {}
    for address, found in versions["workers"].items():
        for package, version in _versions(found).items():
            if version != own[package]:
                others.setdefault(f"{package} {version}, here {own[package]}", []).append(address)
    if others:
        found = "; ".join(f"{text} ({listing(where, 2)})" for text, where in others.items())
        raise SchemaError(f"workers of {name} have other versions: {found}. Install the same.")
    threads = client.nthreads()
    if several := [address for address, number in threads.items() if number > 1]:
        logger.info(
            "%s of %s: %s several threads; one task at a time runs in each. For more at a time "
            "start workers with --nthreads 1 and more --nworkers.",
            count(len(several), "worker"),
            name,
            "has" if len(several) == 1 else "have",
        )
    return engine


def _wait_for_worker(engine, name, seconds):
    import time

    started = told = time.monotonic()
    while not engine.workers():
        now = time.monotonic()
        if seconds is not None and now - started > seconds:
            raise SchemaError(
                f"{name} has no worker. Start some (`dask worker`), then run the command again."
            )
        if seconds is None and (told == started or now - told > 60):
            logger.info(
                "waiting for the first job of %s; its queue, or what the jobs wrote, tells why",
                name,
            )
            told = now
        time.sleep(0.2)


def _versions(found):
    """Name the versions that matter, of the client or of one worker."""
    python = ".".join(found["host"]["python"].split(".")[:2])
    packages = found["packages"]
    versions = {"Python": python, **{package: packages.get(package) for package in SAME}}
    return versions | {"xgboost": next(filter(None, map(packages.get, XGBOOST)), None)}
