"""The command for many runs: ``batch``."""

import contextlib
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tabular_trainers.cli_options import Cluster, ClusterOptions, Jobs
from tabular_trainers.cli_terminal import RESUME, fail
from tabular_trainers.errors import count


def batch(
    ctx: typer.Context,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, a TOML file.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder in which the cohorts' tables lie. Default: as the plan says, else beside "
            "each cohort.toml.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder to write. Default: batches/PLAN."),
    ] = None,
    jobs: Jobs = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do all runs anew, also those that are whole.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and estimate the time; write nothing.")
    ] = False,
    cluster: Cluster = None,
    cluster_options: ClusterOptions = None,
):
    """Do many runs from one plan, and compare them on one page.

    A plan lists cohorts x endpoints x feature sets x models, or a notebook x parameters. Run it
    again after a change or a stop: only what is missing or changed is done.
    """
    from tabular_trainers.batch import run_batch
    from tabular_trainers.parallel import use_cluster

    ctx.meta[RESUME] = (
        "Run the same command again to go on: whole runs, and finished folds of others, are kept "
        "and used again."
    )
    with use_cluster(cluster, cluster_options), _progress() as tell:
        done = run_batch(
            plan, out, data=data, n_jobs=jobs, overwrite=overwrite, progress=tell
        )  # fmt: skip
    shown = Path(out) if out else Path("batches") / plan.stem
    told = f"{count(done.n_done, 'run')} done"
    if done.n_reused:
        told += f", {done.n_reused:,} found whole and used again"
    typer.echo(f"{told}. Comparison: {shown / 'index.html'}")
    typer.echo(shown)
    if done.failures:
        lines = [f"{entry.name}: {entry.reason}" for entry in done.failures]
        text = "\n".join(f"- {line}" for line in lines)
        fail(
            f"{count(len(lines), 'run')} failed; the same command tries again.\n{text}", code=1
        )  # fmt: skip


@contextlib.contextmanager
def _progress(every_s=60):
    """Give a ``progress(done, total, running)``: bars on a terminal, elsewhere a line a minute."""
    if not sys.stderr.isatty():
        yield _Lines(every_s)
        return
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
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as bars:
        yield _Bars(bars)


class _Lines:
    """Print a line a minute, for the log of a job."""

    def __init__(self, every_s):
        self.every_s, self._last = every_s, time.monotonic()

    def __call__(self, done, total, running):
        if time.monotonic() - self._last >= self.every_s:
            self._last = time.monotonic()
            typer.echo(say(done, total, running), err=True)


def say(done, total, running):
    """Say in one line how far a batch is.

    Examples
    --------
    >>> say(3, 6, {"tcga_brca_os": (34, 60, "evaluating clinical cox")})
    '3 of 6 runs; tcga_brca_os 34 of 60 evaluating clinical cox'
    """
    parts = [f"{name} {of[0]:,} of {of[1]:,} {of[2]}" for name, of in running.items()]
    return "; ".join([f"{done:,} of {total:,} runs", *parts])


class _Bars:
    """Draw a bar for the whole, and one for each run that is running."""

    def __init__(self, bars):
        self.bars = bars
        self.whole = bars.add_task("batch", total=None)
        self.of = {}

    def __call__(self, done, total, running):
        self.bars.update(self.whole, completed=done, total=total)
        for name in [name for name in self.of if name not in running]:
            self.bars.remove_task(self.of.pop(name))
        for name, (at, of, what) in running.items():
            if name not in self.of:
                self.of[name] = self.bars.add_task(name, total=of)
            self.bars.update(
                self.of[name], completed=at, total=of, description=f"  {name}: {what}"
            )  # fmt: skip
