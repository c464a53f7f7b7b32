"""The command for many runs: ``batch``."""

import contextlib
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tabular_trainers.cli_options import Cluster, ClusterOptions, Jobs
from tabular_trainers.cli_terminal import RESUME, align, drawn_bars, fail
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
    if dry_run:
        _dry_run(plan, out, data, jobs, overwrite)
        return
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


def _dry_run(path, out, data, jobs, overwrite):
    from tabular_trainers.batch import find_todo, folder_of
    from tabular_trainers.batch_estimate import estimate_seconds, list_runs
    from tabular_trainers.batch_plan import read_plan
    from tabular_trainers.parallel import cpu_count

    plan = read_plan(path, data)
    todo = find_todo(plan, folder_of(path, out), overwrite)
    listed = list_runs(plan, todo)
    rows = [("run", "", "patients", "columns", "folds", "feature sets", "models")]
    for run in listed:
        state = "fails" if run.problem else "to do" if run.waits else "whole"
        names = (", ".join(run.feature_sets), ", ".join(run.models))
        rows.append((run.job.name, state, run.n_patients, run.n_columns, run.n_folds, *names))
    typer.echo(align(rows, indent=""))
    for run in listed:
        if run.problem:
            typer.echo(f"{run.job.name} will fail: {run.problem}")
    n_notebooks = sum(run.n_patients is None and not run.problem for run in listed if run.waits)
    n_workers = jobs or cpu_count()
    told = f"{count(len(plan.jobs), 'run')}, {len(todo.waiting):,} to do."
    if found := estimate_seconds(listed, todo.inputs, n_workers):
        seconds, timed, spent = found
        told += (
            f" About {_duration(seconds)} on {count(n_workers, 'process', 'processes')} of this "
            f"machine: a run of at most 200 patients of {timed.job.name}, with two folds and one "
            f"trial, took {spent:.0f} s; time is taken to grow with patients, columns, folds and "
            "trials."
        )
    if n_notebooks:
        told += f" {count(n_notebooks, 'notebook')} not counted."
    typer.echo(told)


def _duration(seconds):
    """Write a time roughly.

    Examples
    --------
    >>> _duration(40), _duration(700), _duration(9000)
    ('1 minute', '12 minutes', '2.5 hours')
    """
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    return count(max(1, round(seconds / 60)), "minute")


@contextlib.contextmanager
def _progress(every_s=60):
    """Give a ``progress(done, total, running)``: bars on a terminal, elsewhere a line a minute."""
    if not sys.stderr.isatty():
        yield _Lines(every_s)
        return
    with drawn_bars() as bars:
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
