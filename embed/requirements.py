"""Import a library of the extra ``slides`` at the moment it is needed, or say how to get it."""

import importlib

from tabular_trainers.errors import SchemaError


def need(module):
    """Import a library that only ``embed`` uses.

    Parameters
    ----------
    module : str
        Name as imported, e.g. ``"openslide"`` or ``"PIL.Image"``.

    Returns
    -------
    module
        That very module, ``PIL.Image`` and not ``PIL``.

    Raises
    ------
    SchemaError
        When it cannot be imported, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SchemaError(
            f"{module.partition('.')[0]} cannot be imported ({error}); work with slides needs it. "
            'Install it with: pip install "tabular-trainers[slides]"'
        ) from error
