"""The folder of a run: OUT.partial/ while it is made, OUT when it is whole.

A killed run leaves only ``OUT.partial``. It keeps each finished fold, so that the same run started
again continues; a partial folder of another configuration is cleared first, and one that a living
process is writing is refused.
"""

import contextlib
import json
import logging
import os
import shutil
from pathlib import Path

from tabular_trainers.errors import SchemaError

logger = logging.getLogger("tabular_trainers")
LOCK = "run.lock"
CONFIG = "config.json"
TASKS = "tasks"
HOLDOUT = "holdout"  # folder in a run: tables of the final part


def check_out(out, overwrite=False, kind="run"):
    """Refuse an output folder that holds a complete run, or something that is no run at all.

    Parameters
    ----------
    out : path
    overwrite : bool, default False
    kind : str, default "run"
        What the folder is to hold; its mark is the file ``<kind>.json``.
    """
    out = Path(out)
    if not out.exists():
        return
    if not out.is_dir():
        raise SchemaError(f"{out} is a file; --out names the folder of a new {kind}.")
    if (out / f"{kind}.json").exists():
        if not overwrite:
            raise SchemaError(
                f"{out} holds a complete {kind}. Give another --out, or --overwrite to replace it."
            )
    elif any(out.iterdir()):
        raise SchemaError(
            f"{out} is not empty and holds no {kind}; nothing in it is touched. Give another --out."
        )


def write_facts(path, facts):
    """Write what is said of a run in words as JSON."""
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    Path(path).write_text(text + "\n", encoding="utf-8")


def _plain(value):
    """Turn NumPy scalars into numbers that JSON knows."""
    return value.item()


@contextlib.contextmanager
def partial_folder(out, config_hash, n_tasks=None, otherwise="give another --out"):
    """Hold ``OUT.partial`` for one run; rename it to ``OUT`` when the block ends without error.

    Parameters
    ----------
    out : path
        Folder of the finished run; replaced if it exists (see `check_out`).
    config_hash : str
        Finished folds found in the partial folder are kept when it carries the same hash.
    n_tasks : int, optional
        How many results the run needs, to say how many are reused. Default: the folder has none
        to go on with, so an error leaves nothing behind.
    otherwise : str, default "give another --out"
        What to do where a living process holds the folder.

    Yields
    ------
    Path
        The partial folder. Finished folds belong under ``tasks``.

    Raises
    ------
    SchemaError
        A living process holds the partial folder.
    """
    out = Path(out)
    partial = out.with_name(f"{out.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    _take_lock(partial, otherwise)
    try:
        _clear_unless_same(partial, config_hash, n_tasks)
        yield partial
    except BaseException:
        if n_tasks is None:
            shutil.rmtree(partial, ignore_errors=True)
        else:
            (partial / LOCK).unlink(missing_ok=True)
        raise
    shutil.rmtree(partial / TASKS, ignore_errors=True)
    (partial / CONFIG).unlink()
    (partial / LOCK).unlink()
    old = out.with_name(f"{out.name}.replaced")
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _take_lock(partial, otherwise):
    lock = partial / LOCK
    text = json.dumps({"pid": os.getpid(), "started": _started(os.getpid())})
    for _ in range(2):
        try:
            with lock.open("x", encoding="utf-8") as file:
                file.write(text)
            return
        except FileExistsError:
            holder = _read(lock)
            if holder and _started(holder["pid"]) == holder["started"]:
                raise SchemaError(
                    f"{partial} is being written by process {holder['pid']}. Wait for it, stop it, "
                    f"or {otherwise}."
                ) from None
            lock.unlink(missing_ok=True)  # its process is gone
    raise SchemaError(f"{partial} was taken by another process just now; {otherwise}.")


def _started(pid):
    """Return when a process started, or None: a number alone may belong to a newer process."""
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def _read(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _clear_unless_same(partial, config_hash, n_tasks):
    config = partial / CONFIG
    tasks = partial / TASKS
    done = sum(1 for p in tasks.glob("*/tables.json") if ".partial-" not in p.parent.name)
    same = (_read(config) or {}).get("config_hash") == config_hash
    if same and done:
        logger.info("reused %d of %d results of the run that was stopped", done, n_tasks)
    elif done:
        logger.info("started clean: the stopped run in %s was of another configuration", partial)
    for path in partial.iterdir():
        if path.name == LOCK or (same and path.name in (TASKS, "models")):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    config.write_text(json.dumps({"config_hash": config_hash}), encoding="utf-8")
