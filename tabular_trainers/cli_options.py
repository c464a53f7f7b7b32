"""What commands share: their arguments, and how a cohort is loaded."""

from pathlib import Path
from typing import Annotated

import typer

from tabular_trainers.cli_terminal import note

CohortFile = Annotated[Path, typer.Argument(metavar="COHORT", help="The cohort.toml.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder in which the cohort's tables lie. Default: beside the cohort.toml.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is already there.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", metavar="N", min=1, help="Processes. Default: one a processor."),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME",
        help="Where tasks run instead of on this machine: dask://HOST:PORT, or slurm (also pbs, "
        "sge, lsf, oar, moab, htcondor) with --cluster-options.",
    ),
]
ClusterOptions = Annotated[
    Path | None,
    typer.Option(
        "--cluster-options",
        metavar="FILE",
        help="TOML with a table named as the queueing system: jobs, cores, memory, ...",
    ),
]


def load(config, data, endpoint=None):
    """Load a cohort, and print what is worth a note."""
    from tabular_trainers.cohort import load_cohort

    loaded = load_cohort(config, data, endpoint=endpoint)
    for text in loaded.notes:
        note(text)
    return loaded
