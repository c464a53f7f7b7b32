"""Read a TOML file of options, and say in our words what pydantic finds wrong in it."""

import re
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tabular_trainers.errors import SchemaError, nearest, the_folder


class Options(BaseModel):
    """A section of options: an unknown one is an error, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


def read_toml(path, what):
    """Read a TOML file.

    Parameters
    ----------
    path : path
    what : str
        What the file is, for messages: a cohort.toml.

    Returns
    -------
    dict

    Raises
    ------
    SchemaError
        When the file is missing, a folder, or not TOML.
    """
    path = Path(path)
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        folder = path.parent
        others = sorted(entry.name for entry in folder.glob("*.toml")) if folder.is_dir() else []
        raise SchemaError(
            f"{path.name}: no such file in {the_folder(folder)}.{nearest(path.name, others)}"
        ) from error
    except IsADirectoryError as error:
        raise SchemaError(f"{path.name}: a folder, not {what}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SchemaError(f"{path.name}: not a TOML file ({error}).") from error


_TYPES = {
    "string_type": "text",
    "list_type": "a list of texts",
    "dict_type": "a section",
    "model_type": "a section",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
}


def in_words(item):
    """Say one finding of pydantic about a value, without the option's name.

    Parameters
    ----------
    item : dict
        One of ``ValidationError.errors()``.

    Returns
    -------
    str
        Such as ``expected a number``, without a full stop.
    """
    kind, context = item["type"], item.get("ctx", {})
    if kind in _TYPES:
        return f"expected {_TYPES[kind]}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        hint = nearest(item["input"], re.findall(r"'([^']+)'", context["expected"]))
        return f"expected {context['expected']}.{hint}".rstrip(".")
    if kind == "too_short":
        return "empty; expected at least one"
    return item["msg"][0].lower() + item["msg"][1:]
