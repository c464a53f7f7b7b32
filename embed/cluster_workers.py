"""What embedding asks of a cluster's workers: to stop with their run, and cards for networks."""

import contextlib
import threading
import time
import uuid
from pathlib import Path

from tabular_trainers.errors import SchemaError
from tabular_trainers.parallel import cluster_workers

CARD = "GPU"  # the resource that workers with a graphics card declare
_MARK = ".run-"
_BEAT_S = 20.0
_DEAD_S = 300.0  # without a beat; servers may show a file's time a minute late
_OLD_S = 86_400.0


class Mark:
    """A file in a shared folder that lives as long as the run that put it there.

    Workers see by it that they have the same folder, and that their work is still wanted: a task
    that has begun hears nothing of a command that was stopped.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path):
        self.path = Path(path)
        self._seen = (None, time.monotonic())

    def is_fresh(self):
        """Say whether the file is there and was touched in the last minutes, by this one's clock.

        Must be asked again and again: what counts is that the file's time changes.
        """
        try:
            when = self.path.stat().st_mtime_ns
        except OSError:
            return False
        if when != self._seen[0]:
            self._seen = (when, time.monotonic())
        return time.monotonic() - self._seen[1] < _DEAD_S


@contextlib.contextmanager
def marked(folder, beat=None):
    """Keep a mark in a folder, which is made if it is not there, and again removed if empty.

    Parameters
    ----------
    folder : path
    beat : callable, optional
        Called every 20 seconds, from a thread of its own.

    Yields
    ------
    Mark
    """
    folder = Path(folder).absolute()
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    _remove_old(folder)
    path = folder / f"{_MARK}{uuid.uuid4().hex}"
    path.touch()
    over = threading.Event()

    def keep():
        while not over.wait(_BEAT_S):
            with contextlib.suppress(OSError):
                path.touch()
            if beat is not None:
                beat()

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield Mark(path)
    finally:
        over.set()
        thread.join()
        path.unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):  # not empty: something was done
                folder.rmdir()


def _remove_old(folder):
    """Remove marks of runs that were killed."""
    for path in folder.glob(f"{_MARK}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD_S:
                path.unlink()


def cluster_device(device, is_network):
    """Choose the device of an encoder on the workers of the cluster in use.

    Parameters
    ----------
    device : str
        ``"auto"`` takes graphics cards for a network where workers declare them; ``"cuda"`` and
        ``"cpu"``.
    is_network : bool

    Returns
    -------
    device : {"cpu", "cuda"}
    resources : dict or None
        For map_tasks: one card a task.

    Raises
    ------
    SchemaError
        When cards are asked for and no worker declares one, and for a card by its number.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SchemaError(
            f"--device {device}: on a cluster say auto, cpu or cuda. Which card a worker has is "
            "settled where it is started: CUDA_VISIBLE_DEVICES."
        )
    declared = any(worker["resources"].get(CARD, 0) >= 1 for worker in cluster_workers())
    if device == "cuda" and not declared:
        raise SchemaError(
            "--device cuda: no worker of the cluster declares a graphics card. Start a worker for "
            f"each card: CUDA_VISIBLE_DEVICES=0 dask worker ADDRESS --nthreads 1 --resources "
            f"{CARD}=1"
        )
    if device == "cuda" or (device == "auto" and is_network and declared):
        return "cuda", {CARD: 1}
    return "cpu", None


def workers_a_host():
    """Give the most workers of the cluster in use that one computer has."""
    hosts = [worker["host"] for worker in cluster_workers()]
    return max(map(hosts.count, set(hosts)), default=1)
