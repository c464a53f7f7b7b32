"""The command that shows which tissue drives the risk of a run: clusters, maps and a page."""

from pathlib import Path
from typing import Annotated

import typer

from tabular_trainers.cli_options import Data, Jobs, Overwrite, RunFolder
from tabular_trainers.cli_terminal import RESUME, progress


def explain_slides(
    ctx: typer.Context,
    run_folder: RunFolder,
    store: Annotated[
        Path,
        typer.Option(
            "--store", metavar="STORE", help="What embed slides wrote, and embed pool read."
        ),
    ],
    slides: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the slides. Default: where they lay when read."
        ),
    ] = None,
    clusters: Annotated[
        int | None,
        typer.Option(
            metavar="K", min=2, help="Clusters. Default: those of the block, or by patients."
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="A pathologist's names of clusters: columns cluster, name."
        ),
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(metavar="COHORT", help="The cohort.toml. Default: the one of the run."),
    ] = None,
    data: Data = None,
    block: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The block made of this store. Default: found out."),
    ] = None,
    feature_set: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose risk is explained. Default: that block alone."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose risk is explained. Default: cox or logistic."),
    ] = None,
    cases: Annotated[
        str,
        typer.Option(
            metavar="N|IDS",
            help="Patients who get maps and a page: a number, from the lowest to the highest risk, "
            "or ids separated by commas.",
        ),
    ] = "6",
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of samples, clusters and resampling.")
    ] = 0,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
):
    """Show which tissue on slides drives the risk.

    Writes RUN/tissue with tables, pictures and tissue.html, and a section into the run's report.
    """
    from tabular_trainers import tissue_job
    from tabular_trainers.embed.tissue_pictures import TissuePictures

    ctx.meta[RESUME] = (
        f"Nothing new is kept; what was in {run_folder / 'tissue'} before is still there. Run the "
        "same command again."
    )
    with progress("explain-slides") as tell:
        folder = tissue_job.explain_slides(
            run_folder,
            store,
            n_clusters=clusters,
            names=names,
            cohort=cohort,
            data=data,
            block=block,
            feature_set=feature_set,
            model=model,
            cases=cases,
            seed=seed,
            n_jobs=jobs,
            overwrite=overwrite,
            pictures=TissuePictures(store, slides),
            progress=tell,
        )
    typer.echo(f"Page: {folder / 'tissue.html'}")
    typer.echo(folder)
