"""A lock file that its holder keeps alive: one process at a time, also over several computers.

A holder on this computer is alive as long as its process is. Of a holder on another computer only
the file is seen: it touches the file every minute, and counts as gone when the file has not been
touched for five, by the clock of the file system that both see.
"""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path

from tabular_trainers.errors import SchemaError

TOUCHED_S = 60
GONE_S = 300


class HeldError(SchemaError):
    """Another process, alive, holds the lock."""


@contextlib.contextmanager
def living_lock(lock, what, otherwise):
    """Hold a lock file while the block runs.

    Parameters
    ----------
    lock : path
        File in an existing folder; gone at the end.
    what : str
        What is held, for the message.
    otherwise : str
        What to do where another process holds it.

    Raises
    ------
    HeldError
        A living process holds it.
    """
    lock = Path(lock)
    _take(lock, what, otherwise)
    over = threading.Event()
    beat = threading.Thread(target=_keep_alive, args=(lock, over), daemon=True)
    beat.start()
    try:
        yield
    finally:
        over.set()
        beat.join()
        lock.unlink(missing_ok=True)


def wait_until_free(lock, every_s=1.0):
    """Wait until nobody alive holds a lock file.

    Parameters
    ----------
    lock : path
    every_s : float, default 1.0
        Seconds between two looks.
    """
    while _holder(Path(lock)) is not None:
        time.sleep(every_s)


def _take(lock, what, otherwise):
    mine = {"pid": os.getpid(), "started": _started(os.getpid()), "host": socket.gethostname()}
    for _ in range(2):
        try:
            with lock.open("x", encoding="utf-8") as file:
                file.write(json.dumps(mine))
            return
        except FileExistsError:
            if holder := _holder(lock):
                where = "" if holder["host"] == mine["host"] else f" on {holder['host']}"
                raise HeldError(
                    f"{what} is being written by process {holder['pid']}{where}. Wait for it, stop "
                    f"it, or {otherwise}."
                ) from None
            lock.unlink(missing_ok=True)  # its process is gone
    raise HeldError(f"{what} was taken by another process just now; {otherwise}.")


def _holder(lock):
    """Return what the living holder of a lock wrote into it, or None."""
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
        here = holder.setdefault("host", socket.gethostname()) == socket.gethostname()
        alive = _started(holder["pid"]) == holder["started"] if here else _touched(lock)
    except (OSError, ValueError):
        return None
    return holder if alive else None


def _started(pid):
    """Return when a process started, or None: a number alone may belong to a newer process."""
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def _touched(lock):
    """Tell whether a lock was touched lately, by the clock of its own file system."""
    probe = lock.with_name(f"{lock.name}.{os.getpid()}-{threading.get_ident()}")
    probe.touch()
    try:
        return probe.stat().st_mtime - lock.stat().st_mtime < GONE_S
    finally:
        probe.unlink(missing_ok=True)


def _keep_alive(lock, over):
    while not over.wait(TOUCHED_S):
        with contextlib.suppress(OSError):
            os.utime(lock)
