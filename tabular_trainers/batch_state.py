"""What the folder of a batch remembers: how each run ended, and how far the running ones are."""

import json
import os
import re
import time
from pathlib import Path

STATE = "state"
WRITE_S = 1.0  # a progress file is written at most so often
_PATH = re.compile(
    r"(?<![\w:/.\\~])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\",;:()]+[/\\])*([^\s/\\'\",;:()]+)"
)
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}\b")


def read_json(path):
    """Read a file of the folder; empty when it is not there or was not finished."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_json(path, facts):
    """Write a file of the folder: whole, or not at all."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    partial.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def state_file(out, name):
    """Give the file that says how a run ended, and of which hash it was."""
    return Path(out) / STATE / f"{name}.json"


class ProgressFile:
    """A ``progress(done, total, what)`` that others can read, also on another computer.

    Parameters
    ----------
    out : path
        Folder of the batch.
    name : str
        Of the run.
    """

    def __init__(self, out, name):
        self.path = Path(out) / STATE / f"{name}.progress"
        self._written = 0.0

    def __call__(self, done, total, what):
        """Write how far the run is."""
        if time.monotonic() - self._written >= WRITE_S:
            self._written = time.monotonic()
            self.path.write_text(json.dumps([done, total, what]), encoding="utf-8")

    def __enter__(self):
        """Start."""
        return self

    def __exit__(self, *error):
        """Remove the file: the run is not running any more."""
        self.path.unlink(missing_ok=True)


def running(out):
    """Map the runs that are running to (done, total, what)."""
    found = {}
    with os.scandir(Path(out) / STATE) as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(".progress"))
    for name in names:
        told = read_json(Path(out) / STATE / name)
        if told:
            found[name.removesuffix(".progress")] = tuple(told)
    return found


def plain_reason(text, folders=()):
    """Put what differs between two computers out of a message: folders and addresses in memory.

    Parameters
    ----------
    text : str
    folders : sequence of path
        Known folders, whose names may hold spaces.

    Returns
    -------
    str
        One line; of each path only the file name is left.

    Examples
    --------
    >>> plain_reason("no such file in /home/a b/data: /home/a b/data/x.csv", ["/home/a b"])
    'no such file in data: x.csv'
    """
    text = " ".join(str(text).split())
    for folder in sorted({str(folder) for folder in folders}, key=len, reverse=True):
        if len(folder) > 1:
            text = re.sub(re.escape(folder) + r"(?=[/\\])", "", text)
    text = _PATH.sub(lambda found: found[1], text)
    return _ADDRESS.sub("0x...", text)
