"""One thing that a batch has to do: the main job on one cohort, or a notebook."""

import re
from dataclasses import dataclass
from pathlib import Path

from tabular_trainers.errors import listing, nearest

_PLACEHOLDER = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class MainJob:
    """One main job of a batch.

    Attributes
    ----------
    name : str
    cohort : Path
        The ``cohort.toml``, absolute.
    endpoint : str
    kind : str
        Of the endpoint: survival or classification.
    seed : int
    data : str or None
        Folder of the tables, absolute, or a URI; None: beside the ``cohort.toml``.
    folds : int or Path
    settings : dict
        Further arguments of `tabular_trainers.run`.
    """

    name: str
    cohort: Path
    endpoint: str
    kind: str
    seed: int
    data: str | None
    folds: int | Path
    settings: dict

    @property
    def needs(self):
        """Files and folders, absolute, that whoever does it must have."""
        folders = [self.data] if self.data and "://" not in self.data else []
        files = [str(self.folds)] if isinstance(self.folds, Path) else []
        return [str(self.cohort), *folders, *files]


@dataclass(frozen=True)
class NotebookJob:
    """One execution of a notebook in a batch.

    Attributes
    ----------
    name : str
    notebook : Path
        Absolute.
    parameters : dict
        Values by name; in texts ``{name}`` and ``{out}`` still stand.
    folder : Path
        Where its cells run, and from which relative paths among its parameters start.
    """

    name: str
    notebook: Path
    parameters: dict
    folder: Path

    @property
    def needs(self):
        """Files and folders, absolute, that whoever does it must have."""
        return [str(self.notebook), str(self.folder)]

    def filled(self, out):
        """Give the parameters as the notebook gets them, in a batch with the folder ``out``."""
        known = {"name": self.name, "out": str(out)}
        return {key: fill_value(value, known) for key, value in self.parameters.items()}


def fill(text, known):
    """Put what they stand for in the place of {names}; unknown ones stay.

    Examples
    --------
    >>> fill("splits/{cohort}/{x}", {"cohort": "tcga_brca"})
    'splits/tcga_brca/{x}'
    """
    return _PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), text)


def fill_value(value, known):
    """Fill a text, or the texts of a list; other values stay as they are."""
    if isinstance(value, list):
        return [fill_value(part, known) for part in value]
    return fill(value, known) if isinstance(value, str) else value


def check_placeholders(text, known, where, problems):
    """Note {names} of a text that stand for nothing."""
    for name in _PLACEHOLDER.findall(text):
        if name not in known:
            problems.add(
                f"{where}: {{{name}}} stands for nothing here; known: "
                f"{listing(f'{{{k}}}' for k in known)}.{nearest(name, known)}"
            )
