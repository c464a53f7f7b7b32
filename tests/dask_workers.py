"""A Dask scheduler and its workers as processes of their own, as on a cluster."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ONE_THREAD = ("--nthreads", "1", "--memory-limit", "0")


@dataclass
class DaskWorkers:
    """What was started; `name` is what --cluster takes."""

    name: str
    scheduler: subprocess.Popen
    workers: list = field(default_factory=list)

    def add_worker(self, *options):
        self.workers.append(
            _start("worker", self.name.replace("dask://", "tcp://"), "--no-dashboard", *options)
        )


@contextlib.contextmanager
def dask_workers(n_workers=2, *options):
    """Start a scheduler and workers on 127.0.0.1; end them with the block."""
    with tempfile.TemporaryDirectory() as folder:
        facts = Path(folder, "scheduler.json")
        # No dashboard: two schedulers would meet on its port.
        where = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        scheduler = _start("scheduler", *where, "--scheduler-file", str(facts))
        started = DaskWorkers(f"dask://{_address(facts)}", scheduler)
        try:
            for _ in range(n_workers):
                started.add_worker("--local-directory", folder, *(options or ONE_THREAD))
            yield started
        finally:
            for process in [*started.workers, scheduler]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _start(*arguments):
    # python -m: the program `dask` need not be on the path. Each in a group of its own: the worker
    # of a nanny ends with it.
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _address(facts):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return json.loads(facts.read_text())["address"].removeprefix("tcp://")
        time.sleep(0.05)
    raise RuntimeError("no Dask scheduler within a minute")
