"""A batch whose workers, scheduler and command are killed ends in the same result."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.batch_plans import write_plan
from tests.dask_workers import ONE_THREAD, dask_workers

pytestmark = pytest.mark.slow

BATCH = (sys.executable, "-c", "from tabular_trainers.cli import main; main()", "batch")
PATIENCE_S = 600  # for what takes half a minute on an idle computer
NAMES = ("a", "b", "c", "d", "e")
COMPARISON = ("comparison.parquet", "pools.parquet", "pool_cohorts.parquet", "index.html")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return write_plan(tmp_path_factory.mktemp("kills"), NAMES)


@pytest.fixture(scope="module")
def here(plan):
    """Do the batch on this machine, undisturbed; return the bytes of its comparison."""
    out = plan.with_name("here")
    subprocess.run([*BATCH, plan, "--out", out], check=True)
    return comparison(out)


def comparison(out):
    return {name: (out / name).read_bytes() for name in COMPARISON}


def whole_folders(out):
    return [file.parent for file in out.glob("runs/*/run.json") if "." not in file.parent.name]


def whole_runs(out):
    """Return when each file of the runs that are whole was written."""
    files = (file for folder in whole_folders(out) for file in folder.rglob("*") if file.is_file())
    return {file: file.stat().st_mtime_ns for file in files}


def start(plan, out, cluster):
    command = [*BATCH, plan, "--out", out, "--cluster", cluster.name]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_until(command, true):
    """Wait until a function says so, while the command runs."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def test_what_is_killed_costs_nothing_that_was_whole(plan, here, tmp_path):
    draw, out = random.Random(1), tmp_path / "out"
    first, second = sorted(draw.sample(range(1, len(NAMES) - 1), 2))  # runs that are whole by then

    def wait_for(command, n_whole):
        wait_until(command, lambda: len(whole_folders(out)) >= n_whole)
        time.sleep(draw.uniform(0, 3))

    with dask_workers(2) as cluster:
        command = start(plan, out, cluster)
        wait_until(command, lambda: list(out.glob("runs/*.partial/tasks/*")))
        time.sleep(draw.uniform(0, 3))
        os.killpg(cluster.workers[draw.randrange(2)].pid, signal.SIGKILL)
        cluster.add_worker(*ONE_THREAD)
        wait_for(command, first)
        cluster.scheduler.kill()
        _, said = command.communicate(timeout=PATIENCE_S)
        assert command.returncode == 1
        assert "run the same command again to go on" in said
    kept = whole_runs(out)
    assert kept

    with dask_workers(2) as cluster:
        command = start(plan, out, cluster)
        wait_for(command, second)
        command.kill()
        command.communicate()
        kept |= whole_runs(out)
        # its workers go on with what they have begun, and the same command meets them
        command = start(plan, out, cluster)
        _, said = command.communicate(timeout=PATIENCE_S)
        assert command.returncode == 0, said
    after = whole_runs(out)
    assert {path: after[path] for path in kept} == kept
    assert comparison(out) == here
    assert not list(out.glob("runs/*.partial")) + list(out.glob("state/*.progress"))
