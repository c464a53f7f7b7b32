"""How commands speak: errors on stderr with exit code 2, progress only on a terminal."""

import contextlib
import errno
import logging
import sys
import time

import typer
from typer.core import TyperGroup

from tabular_trainers.errors import ClusterError, DataError, SchemaError, TaskFailedError

BAD_INPUT = 2
INTERRUPTED = 130  # what shells report for Ctrl-C
RESUME = "resume"  # key in the context's meta: the line that says how to go on after Ctrl-C

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
_REFUSED = {
    errno.EROFS: "this disk is read-only. Write to another place.",
    errno.EACCES: "permission denied. Change the permissions, or use another place.",
    errno.EPERM: "permission denied. Change the permissions, or use another place.",
    errno.ENOTDIR: "a file is where a folder is needed. Write to another place.",
    errno.EEXIST: "a file is where a folder is needed. Write to another place.",
}


class Commands(TyperGroup):
    """The group of commands; turns what a user can put right into one message and exit code 2."""

    def invoke(self, ctx):
        """Run a command."""
        try:
            return super().invoke(ctx)
        except (SchemaError, DataError) as error:
            fail(error)
        except (ClusterError, TaskFailedError) as error:
            fail(error, code=1)
        except KeyboardInterrupt:
            # One line: typer would print "Aborted!", which does not say how to go on.
            typer.echo(f"\nStopped. {ctx.meta.get(RESUME, 'Nothing was finished.')}", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            fail(_disk_problem(error))


def fail(problem, code=BAD_INPUT):
    """Print an error to stderr and leave with an exit code."""
    typer.echo(f"Error: {problem}", err=True)
    raise typer.Exit(code)


def note(text):
    """Print a note to stderr, so that stdout holds results only."""
    typer.echo(f"Note: {text}", err=True)


class _Notes(logging.Handler):
    """Print what the package logs, e.g. that results of a stopped run are used again."""

    def emit(self, record):
        note(record.getMessage())


def print_log():
    """Print the package's log from now on; once is enough."""
    logger = logging.getLogger("tabular_trainers")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Notes) for handler in logger.handlers):
        logger.addHandler(_Notes())


def _disk_problem(error):
    """Say what a disk refused; anything else about a file goes on as it is, with its traceback."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in _FULL:
        return (
            f"{where}no space left on the disk. Free some or write to another place, then run the "
            "same command again."
        )
    if error.errno in _REFUSED:
        return f"{where}{_REFUSED[error.errno]}"
    raise error


def drawn_bars():
    """Give the bars that a terminal shows while a command works: a `rich.progress.Progress`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, refresh_per_second=4)


@contextlib.contextmanager
def progress(title):
    """Give a ``progress(done, total, what)`` that draws a bar, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda done, total, what: None
        return
    with drawn_bars() as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=f"{title}: {what}"
        )


@contextlib.contextmanager
def slow_progress(title, every_s=60):
    """Give a ``progress(done, total, what)`` for work of hours: elsewhere than on a terminal too.

    There it prints a line a minute, for the log of a job.
    """
    if sys.stderr.isatty():
        with progress(title) as tell:
            yield tell
        return
    last = time.monotonic()

    def line(done, total, what):
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            typer.echo(f"{title}: {done:,.0f} of {total:,}, {what}", err=True)

    yield line


def split_names(values):
    """Split option values at commas; None when the option was not given.

    Examples
    --------
    >>> split_names(["clinical,clinical+genomics", "genomics"])
    ['clinical', 'clinical+genomics', 'genomics']
    """
    names = [name.strip() for value in values or () for name in value.split(",")]
    return [name for name in names if name] or None


def align(rows, indent="  "):
    """Set rows of text in columns, the numbers to the right.

    Examples
    --------
    >>> print(align([("clinical", 198), ("genomics", 7)]))
      clinical  198
      genomics    7
    """
    rows = [[("" if value is None else value) for value in row] for row in rows]
    shown = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows]
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))] if shown else []
    lines = []
    for row, texts in zip(rows, shown, strict=True):
        cells = [
            text.rjust(width) if isinstance(value, int) else text.ljust(width)
            for value, text, width in zip(row, texts, widths, strict=True)
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)
