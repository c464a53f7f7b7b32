"""Files that are there when they are whole, or not at all; light, because readers import it too."""

import contextlib
import os
import platform
from pathlib import Path


def partial_name(path):
    """Name the file that is written before it takes its name; one a process and computer."""
    return Path(path).with_name(f"{Path(path).name}.partial-{platform.node()}-{os.getpid()}")


@contextlib.contextmanager
def written_whole(path):
    """Give a name to write to; after the block the file takes its place, or is removed.

    Parameters
    ----------
    path : path
        What the file is to be called; one that is there is replaced.

    Yields
    ------
    Path
        In the same folder. Whatever stops the block leaves nothing under it.
    """
    partial = partial_name(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
