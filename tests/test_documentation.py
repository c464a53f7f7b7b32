"""What is written agrees with what is done: examples, defaults, notebooks, changelog."""

import ast
import doctest
import importlib
import inspect
import re
import textwrap

import nbformat
import pytest

import tabular_trainers
from tabular_trainers import cli, cohort_config

DEFAULT = re.compile(
    r"\bdefault(?:s to|\s*[:=]|\s+is)?\s+(?P<value>\S.*?)\)?\.?$|\bdefault=(?P<other>\S+)$"
)
MAX_CELL_LINES = 15


def test_examples_in_docstrings_run(module_name):
    module = importlib.import_module(module_name)
    results = doctest.testmod(
        module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, report=True
    )
    assert results.failed == 0


def documented_parameters(docstring):
    """Return {name: text after the colon} of the Parameters section of a numpy docstring."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    parameters = {}
    for number, line in enumerate(lines):
        if line == "Parameters" and lines[number + 1 : number + 2] == ["-" * len("Parameters")]:
            for header, underline in zip(
                lines[number + 2 :], [*lines[number + 3 :], ""], strict=True
            ):
                if underline and set(underline) == {"-"}:
                    break
                if header and not header.startswith(" "):
                    names, _, text = header.partition(":")
                    for name in names.split(","):
                        parameters[name.strip().lstrip("*")] = text.strip()
    return parameters


def disagreements(function, docstring):
    """Return what a docstring says about parameters that the signature does not."""
    signature = inspect.signature(function).parameters
    wrong = []
    for name, text in documented_parameters(docstring).items():
        if name not in signature:
            wrong.append(f"{name} is not a parameter")
            continue
        stated = DEFAULT.search(text)
        if not stated:
            continue
        value = (stated["value"] or stated["other"]).strip("`")
        default = signature[name].default
        try:
            same = ast.literal_eval(value) == default
        except (ValueError, SyntaxError):
            same = value == str(default)
        if not same:
            wrong.append(f"{name}: the docstring says {value}, the signature {default!r}")
    return wrong


def test_docstrings_agree_with_signatures(module_name):
    module = importlib.import_module(module_name)
    wrong = {}
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module_name:
            continue
        documented = [(name, value, value.__doc__)] if callable(value) else []
        if inspect.isclass(value):
            documented += [
                (f"{name}.{member}", function, function.__doc__)
                for member, function in vars(value).items()
                if inspect.isfunction(function)
            ]
        for label, function, docstring in documented:
            if documented_parameters(docstring) and (found := disagreements(function, docstring)):
                wrong[label] = found
    assert wrong == {}


def test_a_wrong_default_in_a_docstring_is_noticed():
    def planted(alpha=0.01, method="exact", n_jobs=1):
        """Do nothing.

        Parameters
        ----------
        alpha : float, default 0.1
            A documented 0.1 that is 0.01.
        method : {"exact", "sampled"}, default: "exact"
            As it is.
        n_jobs : int, default=2
            Wrong too.
        gone : int
            Not there.
        """

    assert disagreements(planted, planted.__doc__) == [
        "alpha: the docstring says 0.1, the signature 0.01",
        "n_jobs: the docstring says 2, the signature 1",
        "gone is not a parameter",
    ]


def test_public_names_have_a_docstring():
    bare = [
        name
        for name in tabular_trainers.__all__
        if name != "MODELS" and not getattr(tabular_trainers, name).__doc__
    ]
    assert bare == []


def test_changelog_speaks_of_this_version(root):
    headings = re.findall(r"^## (\S+)", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] == tabular_trainers.__version__


def test_there_is_a_quickstart(root):
    assert (root / "notebooks" / "01_quickstart.ipynb").exists()


def test_notebook_is_committed_without_outputs(notebook_path):
    cells = nbformat.read(notebook_path, as_version=4).cells
    left = [
        number
        for number, cell in enumerate(cells)
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None)
    ]
    assert left == []


def test_notebook_holds_no_logic(notebook_path):
    logic = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While)
    found = []
    for number, cell in enumerate(nbformat.read(notebook_path, as_version=4).cells):
        if cell.cell_type != "code":
            continue
        lines = cell.source.splitlines()
        if len(lines) > MAX_CELL_LINES:
            found.append(f"cell {number}: {len(lines)} lines")
        python = "\n".join(line for line in lines if not line.startswith(("%", "!")))
        found += [
            f"cell {number}: {type(node).__name__}"
            for node in ast.walk(ast.parse(python))
            if isinstance(node, logic)
        ]
    assert found == []


@pytest.mark.parametrize("word", ["slow", "gpu", "slurm", "notebook", "browser"])
def test_markers_are_declared(word, pyproject):
    declared = pyproject["tool"]["pytest"]["ini_options"]["markers"]
    assert any(line.startswith(f"{word}:") for line in declared)


def test_the_example_cohort_of_the_readme_is_valid(root, tmp_path):
    example = re.search(r"```toml\n(.*?)```", (root / "README.md").read_text(), flags=re.DOTALL)
    path = tmp_path / "cohort.toml"
    path.write_text(textwrap.dedent(example[1]))
    cohort_config.read_config(path)


def test_the_readme_names_commands_that_exist(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| command |") :].partition("\n\n")[0]
    named = set(re.findall(r"\btabular-trainers ([\w-]+)", text))
    named |= set(
        re.findall(r"`([a-z][\w-]*)", "".join(re.findall(r"^\| (`[^|]*)\|", table, re.MULTILINE)))
    )
    known = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    assert named == known | {group.name for group in cli.app.registered_groups}
