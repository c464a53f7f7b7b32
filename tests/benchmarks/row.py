"""What a row of the benchmarks says: a job, the peers that do the same, and the bar we set."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Side:
    """One way of doing a job.

    Attributes
    ----------
    label : str
        Library, as the table shows it.
    job : str
        Module and function.
    parameters : dict
        Its own, besides those of the row.
    sizes : tuple of int
        Too slow for the row's size: measured once at these numbers of patients, and extrapolated
        by the exponent that they show.
    times : float
        What is measured is this part of the job: fewer trees, rows or folds.
    needs : str or None
        A library that not everybody has: ``"polars"``, ``"R glmnet"``.
    limit : int or None
        CPU seconds after which it is given up.
    """

    label: str
    job: str
    parameters: dict = field(default_factory=dict)
    sizes: tuple = ()
    times: float = 1.0
    needs: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Row:
    """One job, our way and others', and what we ask of ours.

    Attributes
    ----------
    name, title : str
    parameters : dict
        Shared by all sides; ``data`` are the arguments of ``cohorts.load``.
    ours : Side
    peers : tuple of Side
    bar_seconds, bar_gb : float or None
        At most.
    bar_facts : dict
        At most, of the facts that our job reports.
    bar_ratio : float or None
        At most, to the first peer.
    apart : tuple of str
        Facts, in seconds, that do not count towards the bar.
    quick : dict or None
        Parameters of a smoke run; None leaves the row out of it.
    repeats : int
        Of each side; one where a run takes more than a minute.
    tcga : bool
        Whether it needs the TCGA tables.
    """

    name: str
    title: str
    parameters: dict
    ours: Side
    peers: tuple = ()
    bar_seconds: float | None = None
    bar_gb: float | None = None
    bar_facts: dict = field(default_factory=dict)
    bar_ratio: float | None = None
    apart: tuple = ()
    quick: dict | None = None
    repeats: int = 3
    tcga: bool = False


@dataclass(frozen=True)
class Series:
    """Our own cost as one thing changes.

    Attributes
    ----------
    name, title : str
    job : str
    points : dict of str to dict
        Parameters by the label of the point.
    quick : dict
        Parameters of a smoke run.
    of : {"patients", "threads"}
        What changes.
    """

    name: str
    title: str
    job: str
    points: dict
    quick: dict
    of: str = "patients"
