"""Import a library of an extra at the moment it is needed, or say how to get it."""

import importlib

from tabular_trainers.errors import SchemaError


def need(module, extra="slides"):
    """Import a library that only ``embed`` uses.

    Parameters
    ----------
    module : str
        Name as imported, e.g. ``"openslide"`` or ``"PIL.Image"``.
    extra : str, default "slides"
        The extra that brings it, ``"slides"`` or ``"genes"``.

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
            f"{module.partition('.')[0]} cannot be imported ({error}); work with {extra} needs it. "
            f'Install it with: pip install "tabular-trainers[{extra}]"'
        ) from error
