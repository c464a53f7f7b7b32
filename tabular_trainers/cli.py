"""The commands: from a table to a report, and everything on the way there."""

import re
from pathlib import Path
from typing import Annotated

import typer

import tabular_trainers
from tabular_trainers import cli_batch, cli_cohort, cli_embed, cli_scoring, cli_tissue
from tabular_trainers.cli_options import (
    Cluster,
    ClusterOptions,
    CohortFile,
    Data,
    Jobs,
    Overwrite,
    RunFolder,
    load,
)
from tabular_trainers.cli_terminal import (
    RESUME,
    Commands,
    align,
    fail,
    print_log,
    progress,
    split_names,
)

# Plain help: rich's panels cost a quarter of the time of `--help` and break messages at 80 columns.
app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main():
    """Run the command line."""
    app(prog_name="tabular-trainers")


def _version(wanted: bool):
    if wanted:
        typer.echo(f"tabular-trainers {tabular_trainers.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
):
    """Ask whether a modality tells more about outcome than what the clinic already knows.

    From a clinical table and pre-extracted features to a report with leak-free folds, intervals,
    a clinical baseline and explanations. Start with: tabular-trainers demo
    """
    print_log()


@app.command()
def demo(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Run folder to write.")] = Path(
        "demo-run"
    ),
    jobs: Jobs = None,
    overwrite: Overwrite = False,
):
    """Try everything on the embedded patients: needs no data.

    198 breast-cancer patients, clinical columns and 76 genes, time to distant metastasis.
    """
    from tabular_trainers.demo import demo_cohort

    _run(ctx, demo_cohort(), out=out, n_jobs=jobs, overwrite=overwrite)


app.command()(cli_cohort.init)
app.command()(cli_cohort.validate)


@app.command()
def run(
    ctx: typer.Context,
    cohort: CohortFile,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to predict. May be left out when there is one."),
    ] = None,
    feature_sets: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Blocks joined by +, separated by commas: clinical,clinical+pathology. "
            "late:clinical+pathology fits one model a block and combines their risks. Default: "
            "clinical; each other block alone; clinical with each; all.",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Separated by commas: cox,rsf. Default: all."),
    ] = None,
    folds: Annotated[
        str,
        typer.Option(
            metavar="N|FOLDER|FILE",
            help="Number of folds, a folder of splits_k.csv, or a folds.parquet.",
        ),
    ] = "5",
    repeats: Annotated[
        int, typer.Option(metavar="N", min=1, help="Repeats of the folds, each anew.")
    ] = 1,
    holdout: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the patients, such as 0.2, set aside before folds are made and measured "
            "once at the end; by whole sites where known.",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Sets of hyper-parameters tried in each fold."),
    ] = None,
    tuning_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0,
            help="Stop tuning after S seconds a model and fold; results then vary by machine.",
        ),
    ] = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run folder to write. Default: runs/COHORT_ENDPOINT."),
    ] = None,
    jobs: Jobs = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of folds, tuning and resampling.")
    ] = 0,
    overwrite: Overwrite = False,
    cluster: Cluster = None,
    cluster_options: ClusterOptions = None,
):
    """Evaluate feature sets and models, and write a report.

    Every model is tuned inside the training part of each fold and measured on the patients held
    out. The run folder holds tables, figures, models and report.html.
    """
    loaded = load(cohort, data, endpoint)
    endpoint = loaded.endpoint(endpoint).name
    settings = {} if trials is None else {"n_trials": trials}
    _run(
        ctx,
        loaded,
        cluster,
        cluster_options,
        endpoint=endpoint,
        feature_sets=split_names(feature_sets),
        models=split_names(models),
        folds=int(folds) if re.fullmatch(r"-?\d+", folds) else folds,
        n_repeats=repeats,
        holdout=holdout,
        tuning_seconds=tuning_seconds,
        out=out or Path("runs") / f"{cohort.stem}_{endpoint}",
        n_jobs=jobs,
        seed=seed,
        overwrite=overwrite,
        **settings,
    )


app.command()(cli_batch.batch)


@app.command()
def report(run_folder: RunFolder):
    """Write the report of a finished run once more."""
    from tabular_trainers.report import write_report

    typer.echo(write_report(run_folder))


app.command()(cli_scoring.predict)
app.command("validate-on")(cli_scoring.validate_on)
app.command("explain-slides")(cli_tissue.explain_slides)


app.add_typer(cli_embed.app, name="embed")


@app.command()
def schema(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A table.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the schema file itself.")] = False,
):
    """List the tables of runs and stores, or the columns of one."""
    from json import dumps

    from tabular_trainers.schema import load_schema, schema_names

    if name is None:
        rows = [(known, load_schema(known)["description"]) for known in schema_names()]
        typer.echo(align(rows, indent=""))
        return
    found = load_schema(name)
    if json:
        typer.echo(dumps(found, indent=2))
        return
    typer.echo(f"{found['name']} (version {found['version']}): {found['description']}")
    rows = [
        (field["name"], field["type"], field.get("unit"), field["description"])
        for field in found["fields"]
    ]
    typer.echo(align(rows))


@app.command()
def notebook(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="As --list shows.")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the notebooks.")] = False,
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", metavar="KEY=VALUE", help="Set a parameter; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Executed copy. Default: NAME.ipynb."),
    ] = None,
    copy: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Copy the notebook instead, to edit it.")
    ] = None,
    overwrite: Overwrite = False,
):
    """List, execute or copy the tutorial notebooks.

    A notebook is executed with the Python that runs this command, and its copy is written when it
    is whole.
    """
    from tabular_trainers import notebook_run

    if list_all:
        typer.echo(align(list(notebook_run.notebook_titles().items()), indent=""))
        return
    if name is None:
        fail("name a notebook, or list them with: tabular-trainers notebook --list")
    if copy is not None:
        if parameter or out:
            fail("--copy only copies: leave out -p and -o.")
        typer.echo(notebook_run.copy_notebook(name, copy, overwrite))
        return
    source = notebook_run.find_notebook(name)
    out = out or Path(f"{notebook_run.notebook_name(source)}.ipynb")
    ctx.meta[RESUME] = f"The cells that ran are in {notebook_run.partial_name(out)}."
    try:
        with progress(source.stem) as tell:
            typer.echo(
                notebook_run.execute_notebook(name, out, parameter or (), overwrite, progress=tell)
            )
    except notebook_run.CellError as error:
        fail(error, code=1)


def _run(ctx, cohort, cluster=None, cluster_options=None, **settings):
    from tabular_trainers import runs
    from tabular_trainers.parallel import use_cluster

    ctx.meta[RESUME] = (
        "Run the same command again to go on: folds that were finished are kept and used again."
    )
    with use_cluster(cluster, cluster_options), progress("run") as tell:
        folder = runs.run(cohort, progress=tell, **settings)
    typer.echo(f"Report: {folder / 'report.html'}")
    typer.echo(folder)
