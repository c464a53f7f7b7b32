"""Make sure that the workers of a cluster see the folder of a batch and its input."""

import socket
import uuid
from pathlib import Path

import pandas as pd

from tabular_trainers.batch_jobs import MainJob
from tabular_trainers.batch_state import STATE
from tabular_trainers.errors import SchemaError, listing


def check_seen(out, plan):
    """Refuse a folder, cohort or notebook that a worker does not see; on this machine all do.

    Parameters
    ----------
    out : Path
        Folder of the batch.
    plan : BatchPlan

    Raises
    ------
    SchemaError
        Names the computers and what they miss.
    """
    from tabular_trainers.parallel import Task, cluster_size, map_tasks

    n_workers = cluster_size()
    if n_workers is None:
        return
    marker = out / STATE / f"seen-{uuid.uuid4().hex}"
    marker.touch()
    try:
        # two for each, so that none is likely to be left out
        tasks = [Task(f"seen-{i}", (str(marker), _needed(plan))) for i in range(2 * n_workers)]
        found = pd.concat([result["seen"] for result in map_tasks(look, tasks, None)])
    finally:
        marker.unlink(missing_ok=True)
    missing = found[found["missing"].notna()].drop_duplicates()
    if len(missing):
        raise SchemaError(
            f"workers do not see {listing(missing['missing'].unique())} (on "
            f"{listing(missing['host'].unique())}). Use a folder that this computer and every "
            "worker share."
        )


def _needed(plan):
    paths = set()
    for job in plan.jobs:
        if isinstance(job, MainJob):
            folders = [job.data] if job.data and "://" not in job.data else []
            paths.update([str(job.cohort), *folders])
            paths.update([str(job.folds)] if isinstance(job.folds, Path) else [])
        else:
            paths.update([str(job.notebook), str(job.folder)])
    return sorted(paths)


def look(context, marker, paths):
    """Say which paths are not seen in this process, and on which computer it runs."""
    missing = [] if Path(marker).exists() else [str(Path(marker).parents[1])]
    missing += [path for path in paths if not Path(path).exists()]
    rows = [(socket.gethostname(), path) for path in missing or [None]]
    return {"seen": pd.DataFrame(rows, columns=["host", "missing"], dtype=object)}
