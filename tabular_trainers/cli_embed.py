"""The commands of ``tabular-trainers embed``: from slides to a table of features, once."""

from pathlib import Path
from typing import Annotated

import typer

from tabular_trainers.cli_options import Overwrite
from tabular_trainers.cli_terminal import Commands, progress
from tabular_trainers.errors import count

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Turn slides into features, once.",
)


@app.callback()
def options():
    """Keep the commands a group, also while there is only one."""


@app.command()
def pool(
    store: Annotated[
        Path,
        typer.Argument(
            metavar="STORE",
            help="What embed slides wrote, or a folder with one .h5 (TRIDENT, CLAM, STAMP), .pt or "
            ".npy file a slide.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet to write.")] = Path(
        "pathology.parquet"
    ),
    slides: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="For a folder of others: whose slides they are (slide_id, patient_id). Default: "
            "each file is a patient of its own.",
        ),
    ] = None,
    how: Annotated[
        str, typer.Option(metavar="HOW", help="mean, mean+std, quantiles or max.")
    ] = "mean",
    level: Annotated[
        str, typer.Option(metavar="LEVEL", help="patch, region (of a pyramid) or both.")
    ] = "patch",
    by: Annotated[
        str,
        typer.Option(
            metavar="UNIT",
            help="slide: a patient's slides are pooled, then averaged, each counting the same. "
            "patch: all patches of a patient are one bag, so larger slides count more.",
        ),
    ] = "slide",
    overwrite: Overwrite = False,
):
    """Pool patch features into one row a patient, a table that a cohort.toml can name."""
    from tabular_trainers.embed.pool import pool_store

    with progress("pool") as tell:
        done = pool_store(
            store, out, how, level, by, slides=slides, overwrite=overwrite, progress=tell
        )
    patients, slides = count(done.n_patients, "patient"), count(done.n_slides, "slide")
    typer.echo(f"{patients} from {slides}, {count(done.n_features, 'feature')}.")
    typer.echo(
        f'Name it in cohort.toml:\n\n[blocks.pathology]\ntable = "{out.as_posix()}"\n'
        'key = "patient_id"\n'
    )
    typer.echo(out)
