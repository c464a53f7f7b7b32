"""Find, copy and execute the packaged notebooks, with the Python that runs now."""

import json
import os
import re
import shutil
from importlib import resources
from pathlib import Path

from tabular_trainers.errors import DataError, SchemaError, unknown_name

_MARKS = "tabular_trainers"  # in the metadata of an executed copy
_WORDS = {"true": True, "false": False, "none": None, "null": None, "": None}


class CellError(RuntimeError):
    """A cell of a notebook failed for another reason than bad input."""


def notebook_titles():
    """Map the name of every packaged notebook to its title, in teaching order.

    Examples
    --------
    >>> "quickstart" in notebook_titles()
    True
    """
    return {notebook_name(path): _title(path) for path in _packaged()}


def notebook_name(path):
    """Return the name by which a notebook is asked for: its file name without number."""
    return re.sub(r"^\d+_", "", path.stem)


def copy_notebook(name, path, overwrite=False):
    """Copy a notebook to a file, or into a folder under its own name, and return the new path."""
    source, path = find_notebook(name), Path(path)
    if path.is_dir():
        path = path / source.name
    _check_target(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
    return path


def find_notebook(name):
    """Return the path of a packaged notebook by its name, or of any ``.ipynb`` file by its path."""
    packaged = {notebook_name(path): path for path in _packaged()}
    if name in packaged:
        return packaged[name]
    stems = {path.stem: path for path in packaged.values()}
    if name in stems:
        return stems[name]
    path = Path(name)
    if path.suffix != ".ipynb":
        raise SchemaError(unknown_name("notebook", name, packaged))
    if not path.is_file():
        raise SchemaError(
            f"{path}: no such file. Copy one with: tabular-trainers notebook NAME --copy"
        )
    return path


def execute_notebook(
    name, out, parameters=(), overwrite=False, progress=None, *, folder=None, marks=None
):
    """Execute a notebook with this interpreter and write the executed copy when it is whole.

    A Jupyter kernel named ``python3`` in the user's folder may belong to another environment, so
    no installed kernel is looked up. Until the last cell has run the copy is called
    ``NAME.partial.ipynb``; a failed run leaves it there.

    Parameters
    ----------
    name : str
        As in `notebook_titles`, or the path of an ``.ipynb`` file.
    out : path
        Executed copy.
    parameters : sequence of str or dict
        ``key=value`` texts, or values by name, for names of the notebook's cell tagged
        ``parameters``.
    overwrite : bool, default False
        Replace ``out`` where it exists.
    progress : callable, optional
        Called with (done, total, what) before each cell.
    folder : path, optional
        Where its cells run; default: the current folder.
    marks : dict, optional
        Written into the executed copy, and read from it with `read_marks`.

    Returns
    -------
    Path

    Raises
    ------
    SchemaError
        Unknown notebook or parameter, a value of another type, ``out`` exists, or raised by a cell.
    DataError
        Raised by a cell.
    CellError
        A cell failed otherwise.
    """
    source, out = find_notebook(name), Path(out)
    values = parse_parameters(source, parameters)
    _check_target(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(out)
    notebook = _run_cells(source, partial, values, progress, folder)
    if marks:
        notebook.metadata[_MARKS] = marks
    # papermill records where it read and wrote: the user's own folders, and the partial name.
    notebook.metadata.papermill.update(input_path=source.name, output_path=out.name)
    partial.write_text(_notebook_text(notebook), encoding="utf-8")
    os.replace(partial, out)
    return out


def read_marks(path):
    """Read the marks of an executed copy; empty where it has none or there is none."""
    try:
        return _read(Path(path))["metadata"].get(_MARKS, {})
    except (OSError, ValueError, KeyError):
        return {}


def partial_name(out):
    """Return the name of an executed copy until it is whole."""
    return Path(out).with_suffix(".partial.ipynb")


def parse_parameters(source, parameters):
    """Turn parameters into a dict, by the types that the notebook's own cell declares.

    Parameters
    ----------
    source : Path
    parameters : sequence of str or dict
        ``key=value`` texts, or values by name; a text among these is read as on the command line.

    Raises
    ------
    SchemaError
        No ``=``, a name that the notebook does not have, or a value of another type.
    """
    if not isinstance(parameters, dict):
        parameters = dict(map(_split, parameters))
    known = known_parameters(source) if parameters else {}
    return {key: convert_parameter(key, value, known) for key, value in parameters.items()}


def known_parameters(source):
    """Map the names of a notebook's parameters to the kinds of value that each takes."""
    import papermill

    kinds = {}
    for name, found in papermill.inspect_notebook(_as_format(source)).items():
        kind = found["inferred_type_name"]
        kinds[name] = (_default_kind(found["default"]) if kind == "None" else kind).split("|")
    return kinds


def _split(text):
    key, equals, value = text.partition("=")
    if not equals:
        raise SchemaError(f"parameter {text!r}: expected key=value, as in -p folds=5.")
    return key, value


def convert_parameter(key, value, known):
    """Check one parameter and return its value, a text turned into what the notebook declares.

    Raises
    ------
    SchemaError
        A name that the notebook does not have, or a value of another type.
    """
    if key not in known:
        raise SchemaError(unknown_name("parameter", key, known))
    if isinstance(value, str):
        return _convert(key, value, known[key])
    kind = type(value).__name__
    if kind not in known[key] and not (kind == "int" and "float" in known[key]):
        _refuse(key, value, known[key])
    return value


def _default_kind(default):
    if default in ("True", "False"):
        return "bool"
    if default[:1] in ("[", "{"):
        return "list" if default[0] == "[" else "dict"
    if re.fullmatch(r"-?\d+", default):
        return "int"
    return "float" if re.fullmatch(r"-?\d*\.\d+", default) else "str"


def _convert(key, value, kinds):
    if value.lower() in _WORDS and (_WORDS[value.lower()] is None or "bool" in kinds):
        return _WORDS[value.lower()]
    for kind, pattern, convert in (
        ("int", r"-?\d+", int),
        ("float", r"-?\d*\.?\d+([eE]-?\d+)?", float),
        ("list", r".+", lambda text: [part.strip() for part in text.split(",")]),
        ("str", r".*", str),
    ):
        if kind in kinds and re.fullmatch(pattern, value, re.DOTALL):
            return convert(value)
    return _refuse(key, value, kinds)


def _refuse(key, value, kinds):
    wanted = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    expected = " or ".join(wanted.get(kind, kind) for kind in kinds)
    raise SchemaError(f"parameter {key}: {value!r} was given; expected {expected}.")


def _run_cells(source, partial, values, progress, folder):
    import papermill
    from nbclient.exceptions import DeadKernelError

    total = sum(cell["cell_type"] == "code" for cell in _read(source)["cells"]) + bool(values)
    done = [0]

    def before_cell(cell, cell_index):
        if progress is not None and cell["cell_type"] == "code":
            progress(done[0], total, "cells")
            done[0] += 1

    try:
        return papermill.execute_notebook(
            _as_format(source),
            _as_format(partial),
            parameters=values,
            progress_bar=False,
            kernel_manager_class=_this_interpreter(),
            on_cell_start=before_cell,
            resources={} if folder is None else {"metadata": {"path": str(folder)}},
        )
    except papermill.PapermillExecutionError as error:
        kinds = {"SchemaError": SchemaError, "DataError": DataError}
        where = f"The notebook stopped at cell [{error.exec_count}]; what ran is in {partial}."
        if error.ename in kinds:
            raise kinds[error.ename](f"{error.evalue}\n{where}") from None
        raise CellError(f"{error.ename}: {error.evalue}\n{where}") from None
    except DeadKernelError:
        raise CellError(
            f"The notebook's Python ended by itself (out of memory?); what ran is in {partial}."
        ) from None


def _this_interpreter():
    """Return a kernel manager class that starts this Python, whatever kernels are installed."""
    import zmq
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class ThisInterpreter(AsyncKernelManager):
        def __init__(self, **settings):
            super().__init__(**settings)
            # On a shared machine others could read a plain connection; older Jupyters have no
            # other.
            if self.has_trait("transport_encryption") and zmq.has("curve"):
                self.transport_encryption = "auto"

        @property
        def kernel_spec(self):
            return KernelSpec(**get_kernel_dict())

    return ThisInterpreter


def _check_target(path, overwrite):
    if path.suffix != ".ipynb":
        raise SchemaError(f"{path}: a notebook's name ends in .ipynb.")
    if path.exists() and not overwrite:
        raise SchemaError(f"{path} exists already. Name another file, or add --overwrite.")


def _packaged():
    folder = Path(str(resources.files("tabular_trainers.notebooks")))
    return sorted(folder.glob("*.ipynb"))


def _title(path):
    for cell in _read(path)["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if line.startswith("# ") and cell["cell_type"] == "markdown":
                return line[2:].strip()
    return ""


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _notebook_text(notebook):
    import nbformat

    return nbformat.writes(notebook)


def _as_format(path):
    # papermill fills {names} into paths; a brace in a folder's name is doubled to stay itself.
    return str(path).replace("{", "{{").replace("}", "}}")
