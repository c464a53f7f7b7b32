"""The notebooks of a batch: a grid of parameters, and the name of each run."""

import itertools
import re

from tabular_trainers.batch_jobs import NotebookJob, check_placeholders, fill_value
from tabular_trainers.errors import SchemaError
from tabular_trainers.notebook_run import (
    convert_parameter,
    find_notebook,
    known_parameters,
    notebook_name,
)

SHOWN_OF_VALUE = 40  # letters of a value in the name of a run


def notebook_jobs(entry, where, folder, data, problems):
    """Give the runs of one notebook over the grid of its parameters.

    Parameters
    ----------
    entry : NotebooksOptions
        Section of the plan. A list among its parameters is an axis of the grid.
    where : str
        That section, for messages.
    folder : Path
        Of the plan.
    data : str or None
        What ``{data}`` stands for.
    problems : Problems
        Gets everything that is wrong.

    Returns
    -------
    list of NotebookJob
    """
    source = _find(entry.notebook, where, folder, problems)
    if source is None:
        return []
    before = len(problems.messages)
    known = known_parameters(source) if entry.parameters else {}
    axes = {
        key: value if isinstance(value, list) else [value]
        for key, value in entry.parameters.items()
    }
    filled = {} if data is None else {"data": data}
    for key, values in axes.items():
        if not values:
            problems.add(f"{where}, parameter {key}: an empty list; expected a value or more.")
        for value in values:
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    places = {"name": "", "out": "", **filled}
                    check_placeholders(text, places, f"{where}, parameter {key}", problems)
            try:
                convert_parameter(key, value, known)
            except SchemaError as error:
                problems.add(f"{where}: {error}")
    if len(problems.messages) > before:
        return []
    varying = [key for key, values in axes.items() if len(values) > 1]
    jobs = []
    for values in itertools.product(*axes.values()):
        given = dict(zip(axes, values, strict=True))
        parts = [notebook_name(source), *(f"{key}-{_text(given[key])}" for key in varying)]
        parameters = {
            key: fill_value(convert_parameter(key, value, known), filled)
            for key, value in given.items()
        }
        name = "-".join([entry.name, *parts] if entry.name else parts)
        jobs.append(NotebookJob(name, source, parameters, folder))
    return jobs


def _find(notebook, where, folder, problems):
    """Find a packaged notebook by its name, or a file beside the plan."""
    beside = folder / notebook
    try:
        return find_notebook(str(beside) if beside.suffix == ".ipynb" else notebook).absolute()
    except SchemaError as error:
        missing = f"no file {notebook} beside the plan."
        problems.add(f"{where}: {missing if beside.suffix == '.ipynb' else error}")


def _text(value):
    """Write a value as part of a file name."""
    text = "-".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^\w.+-]+", "-", text)[:SHOWN_OF_VALUE].strip("-.")
