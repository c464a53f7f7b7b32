"""Many runs from one plan, each done once, and one page that compares them."""

import contextlib
import shutil
import threading
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from tabular_trainers import run_folder
from tabular_trainers.batch_entries import BatchEntry
from tabular_trainers.batch_hashes import Hasher
from tabular_trainers.batch_jobs import MainJob
from tabular_trainers.batch_plan import read_plan
from tabular_trainers.batch_state import STATE, read_json, running, state_file, write_json
from tabular_trainers.batch_work import carry_out, failed_state, is_whole_copy, state_table
from tabular_trainers.errors import ClusterError, Problems
from tabular_trainers.living_lock import living_lock

LOOK_S = 1.0  # how often progress is told
FACTS = "batch.json"
LOCK = "batch.lock"


@dataclass(frozen=True)
class Batch:
    """What `run_batch` did.

    Attributes
    ----------
    folder : Path
        Holds ``index.html``, the tables of the comparison, ``runs`` and ``notebooks``.
    n_done : int
        Runs that were done now.
    n_reused : int
        Runs that were whole already, with the same settings and input.
    failures : tuple of BatchEntry
    """

    folder: Path
    n_done: int
    n_reused: int
    failures: tuple


def run_batch(plan, out=None, *, data=None, n_jobs=None, overwrite=False, progress=None):
    """Do every run of a plan that is missing or changed, and compare them all.

    Parameters
    ----------
    plan : path
        The plan, a TOML file.
    out : path, optional
        Folder of the batch; default ``batches/<name of the plan>``.
    data : path or URI, optional
        Folder of the cohorts' tables, instead of what the plan says.
    n_jobs : int, optional
        Processes; default: one for each processor. Does not change any result.
    overwrite : bool, default False
        Do all runs anew.
    progress : callable, optional
        Called once a second as ``progress(done, total, running)``; the last maps the name of each
        run that is running to its own (done, total, what).

    Returns
    -------
    Batch

    Raises
    ------
    SchemaError
        Something is wrong with the plan; nothing was written.
    """
    from tabular_trainers.batch_page import write_comparison

    out = folder_of(plan, out)
    plan = read_plan(plan, data)
    run_folder.check_out(out, overwrite=True, kind="batch")
    todo = find_todo(plan, out, overwrite)
    out.mkdir(parents=True, exist_ok=True)
    (out / FACTS).touch()  # first of all: it says that the folder is a batch's
    for folder in ("runs", "notebooks", STATE):
        (out / folder).mkdir(exist_ok=True)
    _check_workers(out, plan)
    with living_lock(out / LOCK, str(out), "give another --out"):
        _clear_left_overs(out)
        n_same = len(plan.jobs) - len(todo.waiting)
        with _told(out, progress, len(plan.jobs), n_same) as tick:
            ended = _do(todo, out, overwrite, n_jobs, tick)
        entries = [_entry(job, ended.get(job.name)) for job in plan.jobs]
        write_json(
            out / FACTS, {"title": plan.title, "entries": [asdict(entry) for entry in entries]}
        )
        write_comparison(out, plan.title, entries)
    failures = tuple(entry for entry in entries if entry.status == "failed")
    found = sum(bool(state["reused"]) for state in ended.values())
    return Batch(out, len(ended) - found - len(failures), n_same + found, failures)


def folder_of(plan, out=None):
    """Give the folder of a batch, absolute; by default ``batches/<name of the plan>``."""
    return (Path(out) if out else Path("batches") / Path(plan).stem).absolute()


@dataclass(frozen=True)
class Todo:
    """What is left to do of a plan.

    Attributes
    ----------
    waiting : list of MainJob or NotebookJob
        Long ones first, those of a cohort together.
    hashes : dict
        Of what decides the result, by the name of each run of the plan.
    inputs : dict
        Of the cohort, by the name of each main job.
    """

    waiting: list
    hashes: dict
    inputs: dict


def find_todo(plan, out, overwrite=False):
    """Find the runs of a plan that are missing or changed.

    Parameters
    ----------
    plan : BatchPlan
    out : Path
    overwrite : bool, default False
        All of them.

    Returns
    -------
    Todo

    Raises
    ------
    SchemaError
        Files of the cohorts are not there: all of them in one message.
    """
    problems = Problems()
    hasher = Hasher(problems)
    hashes = {job.name: hasher.hash(job) for job in plan.jobs}
    problems.raise_if_any()
    mains = [job for job in plan.jobs if isinstance(job, MainJob)]
    sizes = {job.name: -hasher.size(job) for job in mains}
    inputs = {job.name: hasher.inputs(job) for job in mains}
    waiting = [job for job in plan.jobs if overwrite or not _is_done(job, out, hashes[job.name])]
    waiting.sort(key=lambda job: (sizes.get(job.name, -1e99), inputs.get(job.name, "")))
    return Todo(waiting, hashes, inputs)


def _is_done(job, out, job_hash):
    if not isinstance(job, MainJob):
        return is_whole_copy(out / "notebooks" / f"{job.name}.ipynb", job_hash)
    state = read_json(state_file(out, job.name))
    return (state.get("hash"), state.get("status")) == (job_hash, "done") and (
        run_folder.holds_same(out / "runs" / job.name, state["config_hash"])
    )


def _check_workers(out, plan):
    """Refuse a folder, or input, that a worker of a cluster does not see."""
    from tabular_trainers.shared_paths import check_workers_see

    marker = out / STATE / f"seen-{uuid.uuid4().hex}"
    marker.touch()
    try:
        check_workers_see(sorted({path for job in plan.jobs for path in job.needs}), marker)
    finally:
        marker.unlink(missing_ok=True)


def _do(todo, out, overwrite, n_jobs, tick):
    """Do what is left, and map the name of each run to how it ended."""
    from tabular_trainers.parallel import Task, cluster_size, cpu_count, map_tasks

    n_workers = cluster_size() or n_jobs or cpu_count()
    context = {"out": str(out), "overwrite": overwrite, "n_jobs": 1}

    def failed(task, reason):
        job, job_hash, _ = task.arguments
        state = failed_state(out, job, job_hash, reason)
        write_json(state_file(out, job.name), state)
        return state_table(state)

    tasks = [
        Task(job.name, (job, todo.hashes[job.name], todo.inputs.get(job.name)))
        for job in todo.waiting
    ]
    # With fewer runs than workers each run is shared out by its folds; a notebook cannot be.
    alone = [] if len(tasks) >= n_workers else [t for t in tasks if t.key in todo.inputs]
    together = [task for task in tasks if task not in alone]
    results = map_tasks(
        carry_out, together, context, n_jobs=n_workers, progress=tick, failed=failed
    )
    ended = {task.key: found for task, found in zip(together, results, strict=True)}
    context = {**context, "n_jobs": n_workers}
    for task in alone:
        try:
            ended[task.key] = carry_out(context, *task.arguments)
        except ClusterError:
            raise
        except Exception as error:  # noqa: BLE001 - a failed run is a row; the others go on
            ended[task.key] = failed(task, f"{type(error).__name__}: {error}")
        tick(task.key)
    return {key: found["state"].iloc[0].to_dict() for key, found in ended.items()}


def _entry(job, state):
    main = isinstance(job, MainJob)
    status, reason = ("done", None) if state is None else (state["status"], state["reason"])
    path = Path("runs") / job.name if main else Path("notebooks") / f"{job.name}.ipynb"
    return BatchEntry(
        name=job.name,
        what="run" if main else "notebook",
        cohort=job.cohort.stem if main else None,
        endpoint=job.endpoint if main else None,
        seed=job.seed if main else None,
        path=path.as_posix(),
        status=status,
        reason=reason,
    )


def _clear_left_overs(out):
    """Remove what a killed command leaves half written; never a run or a notebook."""
    for pattern in (
        "*.partial-*",
        f"{STATE}/*.partial-*",
        f"{STATE}/*.progress",
        f"{STATE}/seen-*",
    ):
        for left in out.glob(pattern):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(out, progress, total, done):
    """Tell progress once a second while the block runs; gives what counts ended runs."""
    ended = [done]

    def tick(key):
        ended[0] += 1

    if progress is None:
        yield tick
        return
    over = threading.Event()

    def tell():
        while not over.wait(LOOK_S):
            progress(ended[0], total, running(out))

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield tick
    finally:
        over.set()
        teller.join()
    progress(ended[0], total, {})
