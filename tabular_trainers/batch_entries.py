"""What became of each run of a batch, as its tables and its page read it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BatchEntry:
    """One run of a batch: the main job on one cohort and endpoint, or an executed notebook.

    Attributes
    ----------
    name : str
        Name of its folder or file in the batch.
    what : {"run", "notebook"}
    cohort : str or None
        File name of the ``cohort.toml`` without ending; None for a notebook.
    endpoint : str or None
    seed : int or None
    path : str
        Relative to the folder of the batch: ``runs/NAME`` or ``notebooks/NAME.ipynb``.
    status : {"done", "failed"}
    reason : str or None
        Why it failed, without paths, hosts and times.
    """

    name: str
    what: Literal["run", "notebook"]
    cohort: str | None
    endpoint: str | None
    seed: int | None
    path: str
    status: Literal["done", "failed"]
    reason: str | None = None
