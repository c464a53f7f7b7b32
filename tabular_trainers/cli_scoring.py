"""Commands after a run: score new patients, and validate the model on another cohort."""

from pathlib import Path
from typing import Annotated

import typer

from tabular_trainers.cli_options import CohortFile, Data, Overwrite, RunFolder, load
from tabular_trainers.cli_terminal import fail


def predict(
    run_folder: RunFolder,
    cohort: CohortFile,
    data: Data = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Table to write: .csv or .parquet.")
    ] = Path("scores.csv"),
    overwrite: Overwrite = False,
):
    """Score new patients with the primary model of a run.

    That model was named before any model was scored; it is never the best scorer.
    """
    from tabular_trainers import final_models

    if out.exists() and not overwrite:
        fail(f"{out} exists already. Name another file with --out, or add --overwrite.")
    loaded = load(cohort, data)
    typer.echo(final_models.predict(run_folder, loaded, out=out))


def validate_on(
    run_folder: RunFolder,
    cohort: CohortFile,
    data: Data = None,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Default: the one named as the run's, or the only one."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write. Default: validations/RUN_on_COHORT."),
    ] = None,
    overwrite: Overwrite = False,
):
    """Measure the model of a run on another cohort.

    The primary model of the run, as saved, and the clinical baseline predict patients who took no
    part in fitting them. The folder holds tables, figures and validation.html.
    """
    from tabular_trainers import validation

    folder = validation.validate_on(
        run_folder, cohort, endpoint=endpoint, data=data, out=out, overwrite=overwrite
    )
    typer.echo(f"Report: {folder / 'validation.html'}")
    typer.echo(folder)
