"""The commands of ``tabular-trainers embed``: from slides to a table of features, once."""

import typer

from tabular_trainers.cli_terminal import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Turn slides into features, once.",
)


@app.callback()
def options():
    """Keep the commands a group, also while there is only one."""
