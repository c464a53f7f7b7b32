"""How tables of encoders are kept and read: one row of facts an encoder, found by its name."""

from dataclasses import dataclass

from tabular_trainers.errors import SchemaError, unknown_name


@dataclass(frozen=True)
class EncoderSpec:
    """One row of ENCODERS.

    Parameters
    ----------
    module : str
        Module beside the table, with a function ``load(name, ...)``; ``name`` is what follows the
        colon, ``""`` where nothing does.
    help : str
        One line for the command line.
    takes_name : bool, default False
        Whether a name follows after a colon, as in ``timm:vit_small_patch16_224``.
    needs_weights : bool, default True
        Whether the encoder is a network.
    """

    module: str
    help: str
    takes_name: bool = False
    needs_weights: bool = True


def find_encoder(name, encoders):
    """Find the row of an encoder by its name.

    Parameters
    ----------
    name : str
        A key, or ``key:NAME`` where the row takes a name.
    encoders : mapping of str to EncoderSpec

    Returns
    -------
    EncoderSpec
    str
        What follows the colon; empty where nothing does.

    Raises
    ------
    SchemaError
        For an unknown key, and where a name is missing or too many.
    """
    key, colon, model = str(name).partition(":")
    if key not in encoders:
        raise SchemaError(unknown_name("encoder", key, encoders))
    row = encoders[key]
    if bool(model) != row.takes_name or bool(colon) != row.takes_name:
        raise SchemaError(
            f"encoder {name!r}: expected {key}:NAME ({row.help})."
            if row.takes_name
            else f"encoder {name!r}: nothing follows {key!r}; expected {key}."
        )
    return row, model
