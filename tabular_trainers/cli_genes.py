"""The commands of ``tabular-trainers embed`` that are about genes."""


def add_gene_commands(app):
    """Add the commands to the group ``embed``.

    Parameters
    ----------
    app : typer.Typer
    """
