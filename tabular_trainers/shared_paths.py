"""See that the workers of a cluster have the same files and folders as this computer."""

import os
import socket
from pathlib import Path

import pandas as pd

from tabular_trainers.errors import SchemaError, listing
from tabular_trainers.parallel import Task, cluster_size, map_tasks

LOOKS_A_WORKER = 2  # tasks go to whoever is free: with two for each, hardly one is left out


def check_workers_see(paths, marker=None):
    """Refuse paths that a worker of the cluster in use does not have; on this machine all do.

    Parameters
    ----------
    paths : sequence of path
        Absolute.
    marker : path, optional
        A file just made in a folder for results. A worker that lacks it has another disk, even
        where a folder of that name is there; the folder is named.

    Raises
    ------
    SchemaError
        Names the computers and all that they lack.
    """
    n_workers = cluster_size()
    if n_workers is None:
        return
    shown = {str(path): str(path) for path in paths}
    if marker is not None:
        shown[str(marker)] = str(Path(marker).parent)
    tasks = [Task(f"paths {number}", ()) for number in range(LOOKS_A_WORKER * n_workers)]
    looks = [result["lacking"] for result in map_tasks(lacking, tasks, list(shown))]
    found = pd.concat(looks).drop_duplicates()
    if len(found):
        raise SchemaError(_message(found["host"].unique(), found["path"].map(shown).unique()))


def lacking(paths):
    """List which paths are not here, with the name of this computer; what a worker does."""
    host = socket.gethostname()
    rows = [(host, path) for path in paths if not os.path.exists(path)]
    return {"lacking": pd.DataFrame(rows, columns=["host", "path"], dtype=object)}


def check_here(paths):
    """Refuse paths that are not here; what a task of a cluster does first.

    Raises
    ------
    SchemaError
    """
    found = lacking(paths)["lacking"]
    if len(found):
        raise SchemaError(_message(found["host"].unique(), found["path"]))


def _message(hosts, paths):
    return (
        f"workers on {listing(hosts)} have no {listing(paths, 3)}. Files and output must lie on a "
        "disk that this computer and all workers share, under the same path."
    )
