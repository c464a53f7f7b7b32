"""Pooling: the vectors of a patient's patches become one row, the cohort's rows one Parquet."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tabular_trainers.errors import Problems, count, listing, unknown_name
from tabular_trainers.parallel import Task, cluster_size, map_tasks
from tabular_trainers.shared_paths import check_workers_see

from .bags import is_store, read_bags
from .foreign_stores import read_foreign_bags
from .pooling_statistics import HOW, as_float
from .store import CONTRACTS
from .whole_files import written_whole

LEVELS = tuple(CONTRACTS)
BY = ("slide", "patch")
_LOG = logging.getLogger("tabular_trainers")
_SHOWN = 20  # ids in a note
TASK_BYTES = 1 << 27  # of vectors: a tenth of a second, from a disk a second or so
PROCESS_BYTES = 1 << 31  # as long as it takes to start a process: with less, fewer are started


@dataclass(frozen=True)
class Pooled:
    """What was pooled, and whom it lacks.

    Attributes
    ----------
    path : Path
        The table: one row a patient.
    n_patients, n_slides, n_vectors, n_features : int
    without : tuple of str
        Patients of the store without any patch.
    """

    path: Path
    n_patients: int
    n_slides: int
    n_vectors: int
    n_features: int
    without: tuple


def pool_store(
    store,
    out,
    how="mean",
    level="patch",
    by="slide",
    *,
    slides=None,
    n_jobs=1,
    overwrite=False,
    progress=None,
):
    """Pool the patch vectors of a store into one row a patient.

    Files are read block by block, so memory is that of one slide's block; with ``quantiles`` it is
    twice the vectors of one slide (``by="patch"``: of one patient). On a cluster
    (``parallel.use_cluster``) the workers read them, from a disk that all share.

    Parameters
    ----------
    store : path
        As ``embed slides`` writes it, or a folder with one file of vectors a slide: ``.h5`` of
        TRIDENT, CLAM or STAMP, ``.pt`` or ``.npy``.
    out : path
        Parquet to write: ``patient_id`` and the pooled features, whole or not at all.
    how : str, default "mean"
        ``"mean"``; ``"mean+std"`` (divided by n); ``"quantiles"`` (0.1, 0.25, 0.5, 0.75, 0.9);
        ``"max"``. Means keep the names of the features, or ``e000``, ``e001`` ... (regions
        ``r000`` ...); the others end in ``_std``, ``_q10`` ... ``_q90`` and ``_max``.
    level : str, default "patch"
        ``"patch"``, ``"region"`` (the larger squares of a pyramid such as HIPT) or ``"both"``.
    by : str, default "slide"
        ``"slide"``: each slide is pooled, then a patient's slides are averaged, so that each
        counts the same. ``"patch"``: all patches of a patient are pooled as one bag, so that a
        large slide counts more.
    slides : path, optional
        For a folder of others: table with ``slide_id`` (a file's name without its ending) and
        ``patient_id``. Default: each file is a patient of its own.
    n_jobs : int, default 1
        Processes at most: no more than have 2 GB of vectors each. Does not change any result.
    overwrite : bool, default False
        Replace ``out`` where it exists.
    progress : callable, optional
        Called as ``progress(done, total, what)`` in slides, each second or so.

    Returns
    -------
    Pooled

    Raises
    ------
    SchemaError
        For an unknown option, a store that is none, files that differ in encoder, options or size,
        and vectors that are not finite.
    DataError
        When no slide has a patch.
    TaskFailedError
        When the process of some patients died three times.
    """
    out = Path(out)
    problems = Problems()
    for what, value, known in (("pooling", how, HOW), ("level", level, (*LEVELS, "both")),
                               ("unit", by, BY)):  # fmt: skip
        if value not in known:
            problems.add(unknown_name(what, value, list(known)))
    if out.suffix != ".parquet":
        problems.add(f"{out}: expected a name that ends in .parquet.")
    elif out.exists() and not overwrite:
        problems.add(f"{out} exists already. Name another file, or add --overwrite.")
    levels = LEVELS if level == "both" else (level,)
    ours = is_store(store)
    if ours and slides is not None:
        problems.add(f"{store}: its slides.parquet says whose slides are whose; leave out slides.")
    if not ours and level != "patch":
        problems.add(f"{store}: not a store of embed slides, so it has patches only.")
    problems.raise_if_any()
    store = Path(store).absolute()  # processes from an earlier call may be in another folder
    bags = read_bags(store, levels) if ours else read_foreign_bags(store, slides)
    patients, rows, n_vectors = _pool(bags, levels, HOW[how], by, n_jobs, progress)
    names = [
        f"{name}{suffix}"
        for one in levels
        for suffix in HOW[how].suffixes
        for name in bags.columns[one]
    ]
    facts = {**bags.recipe.metadata(), "how": how, "level": level, "by": by}
    facts.pop("feature_names", None)  # the columns are
    _write(out, patients, names, rows, facts)
    return Pooled(
        path=out,
        n_patients=len(patients),
        n_slides=len(bags.bags),
        n_vectors=n_vectors,
        n_features=len(names),
        without=_tell_lacking(bags, set(patients)),
    )


@dataclass(frozen=True)
class _Pooling:
    """What is the same for all patients."""

    rows: object
    dims: dict
    statistic: type
    by: str


def _pool(bags, levels, statistic, by, n_jobs, progress):
    """Pool every patient: their ids, one row of features each, and how many vectors were read."""
    of_patient = {}
    for bag in bags.bags:
        of_patient.setdefault(bag.patient_id, []).append(bag)
    if cluster_size() is not None:
        of_patient = {patient: list(map(_absolute, own)) for patient, own in of_patient.items()}
        check_workers_see(list(next(iter(of_patient.values()))[0].paths.values()))
    dims = {level: len(bags.columns[level]) for level in levels}
    tasks, n_bytes = _in_tasks(of_patient)
    n_jobs = min(n_jobs, n_bytes // PROCESS_BYTES + 1)
    sizes = {task.key: sum(map(len, task.arguments[0])) for task in tasks}
    done = 0

    def tell(key):
        nonlocal done
        done += sizes[key]
        if progress is not None:
            progress(done, len(bags.bags), key)

    context = _Pooling(bags.rows, dims, statistic, by)
    results = map_tasks(_pool_patients, tasks, context, n_jobs, progress=tell)
    problems = Problems()
    for result in results:
        for message in result["problems"]["message"]:
            problems.add(message)
    problems.raise_if_any()
    rows = np.concatenate([result["rows"].to_numpy() for result in results])
    return list(of_patient), rows, sum(int(result["read"]["n"][0]) for result in results)


def _absolute(bag):
    """Name files as workers, who are in other folders, find them."""
    return dataclasses.replace(bag, paths={k: path.absolute() for k, path in bag.paths.items()})


def _in_tasks(of_patient):
    """Deal patients to tasks, in their order, by the size of their files; give all their bytes."""
    tasks, held, size, total, last = [], [], 0, 0, None
    for patient, own in of_patient.items():
        more = sum(path.stat().st_size for bag in own for path in bag.paths.values())
        if held and size + more > TASK_BYTES:
            tasks.append(Task(f"patient {last}", (held,)))
            held, size = [], 0
        held.append(own)
        size += more
        total += more
        last = patient
    return [*tasks, Task(f"patient {last}", (held,))], total


def _pool_patients(pooling, patients):
    """Pool some patients, each a list of bags."""
    problems, rows, n_vectors = Problems(), [], 0
    for own in patients:
        units = [[bag] for bag in own] if pooling.by == "slide" else [own]
        parts = []
        for level in pooling.dims:
            pooled = [_pool_unit(pooling, unit, level, problems) for unit in units]
            parts.append(sum(row for row, _ in pooled) / len(units))
            n_vectors += sum(n for _, n in pooled)
        rows.append(np.concatenate(parts))
    return {
        "rows": pd.DataFrame(np.array(rows)),
        "read": pd.DataFrame({"n": [n_vectors]}),
        "problems": pd.DataFrame({"message": problems.messages}),
    }


def _pool_unit(pooling, unit, level, problems):
    """Pool the vectors of some slides as one bag: the statistics, and how many vectors."""
    pooled = pooling.statistic(pooling.dims[level])
    for bag in unit:
        before = pooled.n
        for block in pooling.rows(bag.paths[level], level):
            pooled.add(as_float(block))
        if pooled.n == before:
            problems.add(f"{bag.paths[level].name}: no vector in it; extract this slide again.")
    if pooled.n == 0:
        return np.zeros(pooling.dims[level] * len(pooling.statistic.suffixes)), 0
    found = pooled.result()
    if not np.isfinite(found).all():
        slides = listing(bag.slide_id for bag in unit)
        problems.add(f"slide {slides}: {level} vectors that are not finite; extract again.")
    return found, pooled.n


def _tell_lacking(bags, pooled):
    """Say which slides have no patch and which patients no features; return these patients."""
    of_reason = {}
    for bag in bags.without:
        of_reason.setdefault(bag.lacks, []).append(bag.slide_id)
    patients = tuple(sorted({bag.patient_id for bag in bags.without} - pooled))
    for lacks, slides in of_reason.items():
        _LOG.warning(
            "%s without vectors (%s): %s.",
            count(len(slides), "slide"),
            lacks,
            listing(slides, _SHOWN),
        )
    if patients:
        _LOG.warning(
            "%s no features: %s.",
            f"{count(len(patients), 'patient')} {'has' if len(patients) == 1 else 'have'}",
            listing(patients, _SHOWN),
        )
    return patients


def _write(out, patients, names, rows, facts):
    """Write the table beside its place and move it there."""
    from tabular_trainers import __version__

    facts = {**facts, "package_version": __version__}
    columns = [pa.array(patients, pa.string()), *(pa.array(column) for column in rows.T)]
    table = pa.table(columns, names=["patient_id", *names])
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as partial:
        pq.write_table(table.replace_schema_metadata(dict(sorted(facts.items()))), partial)
