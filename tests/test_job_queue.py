"""Options of a queueing system: what the table may hold, and how what is wrong is said."""

import sys
from urllib.parse import urlsplit

import pytest

from tabular_trainers.errors import SchemaError
from tabular_trainers.job_queue import QUEUES, read_options, started_jobs
from tabular_trainers.parallel import use_cluster


@pytest.fixture
def options(tmp_path):
    def write(text):
        path = tmp_path / "cluster.toml"
        path.write_text(text)
        return path

    return write


def test_jobs_is_ours_and_the_rest_is_handed_on(options):
    path = options(
        '[slurm]\njobs = 2\ncores = 3\nmemory = "1GB"\nqueue = "q"\n'
        '[slurm.scheduler_options]\nhost = "127.0.0.1"\n[pbs]\njobs = 1\n'
    )
    handed_on = {"cores": 3, "memory": "1GB", "queue": "q"}
    handed_on["scheduler_options"] = {"host": "127.0.0.1"}
    assert read_options("slurm", path) == (2, handed_on)


def test_every_problem_comes_in_one_message(options):
    path = options('[slurm]\njobs = 0\nmemroy = "1GB"\nqueue = "q"\n')
    with pytest.raises(SchemaError) as told:
        read_options("slurm", path)
    said = str(told.value)
    assert said.startswith("4 problems")  # neither cores nor memory
    assert "jobs must say how many" in said
    assert "unknown key 'memroy'. Did you mean 'memory'?" in said
    assert "cores of a job is missing" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[pbs]\njobs = 1", r"no table \[slurm\]"),
        ("slurm = 3", r"no table \[slurm\]"),
        ("[slurm", "not a TOML file"),
        ('[slurm]\njobs = true\ncores = 1\nmemory = "1GB"', "jobs must say how many"),
        ('[slurm]\njobs = 1\ncores = 1\nmemory = "much"', "much"),
    ],
)
def test_a_wrong_table_is_one_clear_error(options, text, said):
    path = options(text)
    with pytest.raises(SchemaError, match=said) as told, started_jobs("slurm", path):
        pass
    assert path.name in str(told.value)


def test_no_file_is_one_clear_error(tmp_path):
    with pytest.raises(SchemaError, match="needs --cluster-options FILE"), use_cluster("slurm"):
        pass
    with pytest.raises(SchemaError, match="no such file"):
        read_options("slurm", tmp_path / "cluster.toml")


def test_a_job_has_this_python_and_workers_of_one_thread(options):
    import dask_jobqueue

    from tabular_trainers.job_queue import _with_defaults

    text = '[slurm]\njobs = 1\ncores = 4\nmemory = "8GB"\nscheduler_options.host = "127.0.0.1"'
    _, keywords = read_options("slurm", options(text))
    with dask_jobqueue.SLURMCluster(**_with_defaults(keywords)) as cluster:
        script = cluster.job_script()
        assert urlsplit(cluster.dashboard_link).hostname == "127.0.0.1"
        sockets = cluster.scheduler.http_server._sockets.values()
        assert {socket.getsockname()[0] for socket in sockets} == {"127.0.0.1"}
    assert f"{sys.executable} -m distributed.cli.dask_worker" in script
    assert "--nthreads 1" in script
    assert "--nworkers 4" in script
    assert "#SBATCH --cpus-per-task=4" in script


@pytest.mark.parametrize("name", QUEUES)
def test_every_queueing_system_takes_a_table(options, name):
    path = options(f'[{name}]\njobs = 1\ncores = 1\nmemory = "1GB"\nlog_directory = "logs"')
    assert read_options(name, path)[0] == 1
