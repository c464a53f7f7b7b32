"""Commands before a run: propose a cohort.toml, and check one."""

import re
from pathlib import Path
from typing import Annotated

import typer

from tabular_trainers.cli_options import CohortFile, Data, Overwrite, load
from tabular_trainers.cli_terminal import fail
from tabular_trainers.errors import count


def init(
    clinical: Annotated[
        Path, typer.Argument(metavar="CLINICAL", help="Table with one row a patient.")
    ],
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=TABLE", help="A table for each further block."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File to write.")] = Path(
        "cohort.toml"
    ),
    overwrite: Overwrite = False,
):
    """Look at tables and propose a cohort.toml.

    What cannot be decided from the tables is left as FILL_IN.
    """
    from tabular_trainers import proposal

    if out.exists() and not overwrite:
        fail(f"{out} exists already. Name another file with -o, or add --overwrite.")
    blocks = {}
    for text in tables or ():
        name, equals, table = text.partition("=")
        if not (name and equals and table):
            fail(f"{text!r}: expected NAME=TABLE, as in pathology=embeddings.parquet.")
        if name in blocks:
            fail(f"block {name!r} is named twice.")
        blocks[name] = table
    text = proposal.propose(clinical, blocks, folder=out.parent)
    _write_text(out, text)
    open_questions = len(re.findall(r'"FILL_IN', text))
    if open_questions:
        typer.echo(f"{out}: {count(open_questions, 'place')} to fill in, marked FILL_IN.")
    else:
        typer.echo(f"{out}: read it, and correct what was guessed wrong.")
    typer.echo(f"Next: tabular-trainers validate {_quoted(out)}")


def validate(cohort: CohortFile, data: Data = None):
    """Check a cohort, every problem at once.

    Prints patients, events and the overlap of blocks, and warns of columns that may give the
    outcome away.
    """
    from tabular_trainers import proposal

    loaded = load(cohort, data)
    for text in proposal.check(loaded):
        if text.startswith("warning: "):
            typer.echo(text.replace("warning", "Warning", 1), err=True)
        else:
            typer.echo(text)
    if not loaded.endpoints:
        typer.echo("Next: add an endpoint to run it, or score its patients: predict RUN COHORT")
        return
    endpoint = next(iter(loaded.endpoints))
    place = f" --data {_quoted(data)}" if data else ""
    named = f" --endpoint {endpoint}" if len(loaded.endpoints) > 1 else ""
    typer.echo(f"Next: tabular-trainers run {_quoted(cohort)}{named}{place}")


def _write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)


def _quoted(path):
    text = str(path)
    return f'"{text}"' if " " in text else text
