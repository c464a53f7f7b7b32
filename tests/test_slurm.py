"""Jobs of a real Slurm: the same results as here, also when a job is lost, and no job left behind.

They need the Slurm of one node that `.ci/slurm start FOLDER` starts (`.ci/run` does), named by
SLURM_CONF; one that this computer has for other work is left in peace.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from tabular_trainers.errors import SchemaError
from tabular_trainers.parallel import Task, cluster_size, map_tasks, use_cluster
from tests.batch_plans import write_plan
from tests.test_bad_input import write_cohort

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

OPTIONS = """\
[slurm]
jobs = 2
cores = 1
memory = "2GB"
walltime = "00:10:00"
interface = "lo"
log_directory = "logs"
scheduler_options = { host = "127.0.0.1" }
"""
COMMAND = (sys.executable, "-c", "from tabular_trainers.cli import main; main()")
RUN = ("run", "cohort.toml", "--models", "cox", "--folds", "3", "--trials", "1")
RUN += ("--feature-sets", "clinical,clinical+genomics")
ON_SLURM = ("--cluster", "slurm", "--cluster-options", "cluster.toml")
PATIENCE_S = 300  # for what takes a few seconds on an idle computer


@pytest.fixture(autouse=True, scope="module")
def _slurm():
    found = slurm("sinfo", "--noheader", "--format=%P") if shutil.which("sinfo") else []
    if found != ["loopback*"]:
        pytest.skip("no Slurm of `.ci/slurm start` answers (is SLURM_CONF exported?)")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Go where the cluster's options lie; no test may leave a job, nor find one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.toml").write_text(OPTIONS)
    assert jobs() == {}
    yield
    left = jobs()
    for job in left:
        slurm("scancel", job)
    wait_until(lambda: not jobs())
    assert left == {}


def slurm(*command):
    """Return the lines that a command of Slurm prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split()


def jobs():
    """Return {number: state} of the jobs that Slurm knows and that have not ended."""
    found = slurm("squeue", "--noheader", "--format=%i:%T")
    return dict(job.split(":") for job in found)


def wait_until(true):
    """Wait until a function returns something, and return it."""
    end = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
    return found


def tables(folder):
    """Return the bytes of every table of a run."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_tasks_run_side_by_side_in_two_jobs_and_those_that_end_are_started_anew():
    def job_and_time(context, seconds):
        begun = time.time()
        time.sleep(seconds)
        facts = {"job": os.environ["SLURM_JOB_ID"], "begun": begun, "ended": time.time()}
        return {"facts": pd.DataFrame([facts])}

    tasks = [Task(str(number), (1.0,)) for number in range(4)]
    with use_cluster("slurm", "cluster.toml"):
        wait_until(lambda: cluster_size() == 2)
        found = pd.concat(result["facts"] for result in map_tasks(job_and_time, tasks, None))
        assert set(found["job"]) == set(jobs())
        first, second = (part for _, part in found.groupby("job"))
        assert first["begun"].min() < second["ended"].max()
        assert second["begun"].min() < first["ended"].max()
        slurm("scancel", *jobs())
        again = pd.concat(result["facts"] for result in map_tasks(job_and_time, tasks, None))
    assert not set(again["job"]) & set(found["job"])
    wait_until(lambda: not jobs())


def test_a_job_of_several_workers_is_started_anew_too(tmp_path):
    options = OPTIONS.replace("jobs = 2", "jobs = 1").replace("cores = 1", "cores = 2")
    (tmp_path / "cluster.toml").write_text(options)
    with use_cluster("slurm", "cluster.toml"):
        wait_until(lambda: cluster_size() == 2)
        (job,) = jobs()
        time.sleep(3)  # its workers were seen by then: only such a job is started anew
        slurm("scancel", job)
        wait_until(lambda: set(jobs()) - {job})
    wait_until(lambda: not jobs())


def test_what_slurm_refuses_is_one_clear_error(tmp_path):
    (tmp_path / "cluster.toml").write_text(OPTIONS + 'queue = "no_such_partition"\n')
    with (
        pytest.raises(SchemaError, match=r"\[slurm\]: sbatch: error: invalid partition") as said,
        use_cluster("slurm", "cluster.toml"),
    ):
        pass
    assert "\n" not in str(said.value)


def test_no_job_outlives_an_error():
    def fail(context):
        raise ValueError("unlucky")

    with pytest.raises(ValueError, match="unlucky"), use_cluster("slurm", "cluster.toml"):
        map_tasks(fail, [Task("a", ()), Task("b", ())], None)
    wait_until(lambda: not jobs())


SLEEPS = """\
import time
from tabular_trainers.parallel import Task, map_tasks, use_cluster

def sleep(context):
    open("begun", "w").close()
    time.sleep(300)

with use_cluster("slurm", "cluster.toml"):
    map_tasks(sleep, [Task(str(number), ()) for number in range(4)], None)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_job_outlives_its_command(how, tmp_path):
    with subprocess.Popen([sys.executable, "-c", SLEEPS], start_new_session=True) as command:
        wait_until((tmp_path / "begun").exists)
        command.send_signal(how)
    wait_until(lambda: not jobs())


def test_a_run_that_loses_a_job_ends_in_the_same_tables(tmp_path):
    write_cohort(tmp_path)
    subprocess.run([*COMMAND, *RUN, "--jobs", "1", "--out", "here"], check=True)
    with subprocess.Popen([*COMMAND, *RUN, *ON_SLURM, "--out", "there"]) as command:
        wait_until(lambda: list(tmp_path.glob("there.partial/tasks/*")))
        job = next(iter(jobs()))
        slurm("scancel", job)
    assert command.returncode == 0
    assert len(tables(tmp_path / "here")) > 10
    assert tables(tmp_path / "there") == tables(tmp_path / "here")
    wait_until(lambda: not jobs())


def test_a_batch_gives_the_same_comparison(tmp_path):
    plan = write_plan(tmp_path, ("a", "b", "c"))
    subprocess.run([*COMMAND, "batch", plan, "--out", "here"], check=True)
    subprocess.run([*COMMAND, "batch", plan, "--out", "there", *ON_SLURM], check=True)
    assert set(tables(tmp_path / "here")) >= {"comparison.parquet", "pools.parquet"}
    assert tables(tmp_path / "there") == tables(tmp_path / "here")
    assert (tmp_path / "there/index.html").read_bytes() == (
        tmp_path / "here/index.html"
    ).read_bytes()
