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
from tabular_trainers.living_lock import living_lock, wait_until_free

logger = logging.getLogger("tabular_trainers")
LOCK = "run.lock"
CONFIG = "config.json"
WHOLE = "whole.json"  # what CONFIG becomes when nothing but the renaming is left to do
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
    partial = _partial_name(out)
    partial.mkdir(parents=True, exist_ok=True)
    with living_lock(partial / LOCK, str(partial), otherwise):
        try:
            _clear_unless_same(partial, config_hash, n_tasks)
            yield partial
        except BaseException:
            if n_tasks is None:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        # From here on the folder is whole, whenever the process is killed: see `finish_whole`.
        os.replace(partial / CONFIG, partial / WHOLE)
        _finish(out)


def finish_whole(out, config_hash):
    """Give a run that was killed after its last table and before its renaming its name.

    Parameters
    ----------
    out : path
    config_hash : str

    Returns
    -------
    bool
        Whether there was such a run of this configuration.
    """
    out = Path(out)
    partial = _partial_name(out)
    if (_read(partial / WHOLE) or {}).get("config_hash") != config_hash:
        return False
    try:
        with living_lock(partial / LOCK, str(partial), "give another --out"):
            _finish(out)
    except FileNotFoundError:  # its own process was not dead, and has just done it
        return holds_same(out, config_hash)
    return True


def holds_same(out, config_hash):
    """Tell whether a folder holds a complete run of a configuration.

    Parameters
    ----------
    out : path
    config_hash : str

    Returns
    -------
    bool
    """
    same = hash_of(out) == config_hash
    if same:
        (Path(out) / WHOLE).unlink(missing_ok=True)  # of a process killed at its very end
    return same


def hash_of(out):
    """Read the hash of the configuration of a complete run; None where there is none."""
    return (_read(Path(out) / "run.json") or {}).get("config_hash")


def wait_for_holder(out):
    """Wait until no living process is writing ``OUT.partial``."""
    wait_until_free(_partial_name(Path(out)) / LOCK)


def _partial_name(out):
    return out.with_name(f"{out.name}.partial")


def _finish(out):
    partial, old = _partial_name(out), out.with_name(f"{out.name}.replaced")
    shutil.rmtree(partial / TASKS, ignore_errors=True)
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    (partial / LOCK).unlink()
    partial.rename(out)
    (out / WHOLE).unlink()
    shutil.rmtree(old, ignore_errors=True)


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
        if path.name == LOCK or (same and path.name == TASKS):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    config.write_text(json.dumps({"config_hash": config_hash}), encoding="utf-8")
