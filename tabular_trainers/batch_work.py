"""Carry out one run of a batch, in whichever process it lands."""

from pathlib import Path

import pandas as pd

from tabular_trainers import notebook_run, run_folder, runs
from tabular_trainers.batch_jobs import MainJob
from tabular_trainers.batch_state import ProgressFile, plain_reason, state_file, write_json
from tabular_trainers.cohort import load_cohort
from tabular_trainers.errors import DataError, SchemaError
from tabular_trainers.living_lock import HeldError, living_lock, wait_until_free

_LAST = {}  # the cohort of the run before: those of a cohort follow each other


def carry_out(context, job, job_hash, inputs):
    """Do one run and write down how it ended.

    Parameters
    ----------
    context : dict
        ``out``: folder of the batch; ``overwrite``: do it anew also where it is done; ``n_jobs``.
    job : MainJob or NotebookJob
    job_hash : str
        Of what decides its result.
    inputs : str or None
        Hash of the cohort of a main job.

    Returns
    -------
    dict of DataFrame
        ``state``, one row: status, reason, reused (found done).
    """
    out = Path(context["out"])
    done = {"hash": job_hash, "status": "done", "reason": None}
    reused = False
    try:
        with ProgressFile(out, job.name) as tell:
            if isinstance(job, MainJob):
                done["config_hash"], reused = _main_job(context, job, inputs, tell)
            else:
                reused = _notebook(context, job, job_hash, tell)
    except (SchemaError, DataError, notebook_run.CellError) as error:
        done = failed_state(out, job, job_hash, str(error))
    write_json(state_file(out, job.name), done)
    return state_table(done, reused)


def failed_state(out, job, job_hash, reason):
    """Give the state of a run that failed."""
    folders = [out, out.absolute(), Path.cwd(), Path.home()]
    if isinstance(job, MainJob):
        folders += [job.cohort.parent, job.data or job.cohort.parent]
    else:
        folders += [job.folder, job.notebook.parent]
    return {"hash": job_hash, "status": "failed", "reason": plain_reason(reason, folders)}


def state_table(state, reused=False):
    """Give a state as the tables of a task."""
    row = {"status": state["status"], "reason": state["reason"], "reused": reused}
    return {"state": pd.DataFrame([row])}


def _main_job(context, job, inputs, tell):
    out = Path(context["out"]) / "runs" / job.name
    before = _written(out)
    while True:
        try:
            runs.run(
                cohort_of(job, inputs),
                endpoint=job.endpoint,
                folds=job.folds,
                seed=job.seed,
                out=out,
                n_jobs=context["n_jobs"],
                overwrite=context["overwrite"] or "changed",
                progress=tell,
                **job.settings,
            )
            break
        except HeldError:  # by the process of a command that was killed: let it end
            run_folder.wait_for_holder(out)
    return run_folder.hash_of(out), before is not None and _written(out) == before


def _written(out):
    file = out / "run.json"
    return file.stat().st_mtime_ns if file.exists() else None


def cohort_of(job, inputs):
    """Load the cohort of a main job; once where several runs of it follow each other."""
    key = (job.cohort, job.data, inputs)
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = load_cohort(job.cohort, job.data)
    return _LAST[key]


def _notebook(context, job, job_hash, tell):
    out = Path(context["out"])
    copy = out / "notebooks" / f"{job.name}.ipynb"
    lock = state_file(out, job.name).with_suffix(".lock")
    while True:
        try:
            with living_lock(lock, str(copy), "give another --out"):
                if not context["overwrite"] and is_whole_copy(copy, job_hash):
                    return True
                notebook_run.execute_notebook(
                    str(job.notebook),
                    copy,
                    job.filled(out),
                    overwrite=True,
                    progress=tell,
                    folder=job.folder,
                    marks={"hash": job_hash},
                )
                return False
        except HeldError:
            wait_until_free(lock)


def is_whole_copy(copy, job_hash):
    """Tell whether an executed copy is there and of this hash."""
    return notebook_run.read_marks(copy).get("hash") == job_hash
