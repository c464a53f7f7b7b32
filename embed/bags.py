"""The patch vectors of a store, slide by slide: whose they are, what encoder made them, the rows.

The same for our own stores and for those of others (`foreign_stores`), so that pooling knows
neither.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tabular_trainers.errors import DataError, Problems, SchemaError, count, listing

from .pooling_statistics import as_float

LEVELS = ("patch", "region")
FACTS = ("encoder_id", "pretrained_on", "feature_names", "options")
_PREFIX = {"patch": "e", "region": "r"}  # of columns that have no names
_ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Bag:
    """The files with the vectors of one slide.

    Attributes
    ----------
    slide_id, patient_id : str
    paths : dict of str to Path
        By level.
    """

    slide_id: str
    patient_id: str
    paths: dict


@dataclass(frozen=True)
class Bags:
    """The slides of a store that have vectors, and what is known of the others.

    Attributes
    ----------
    name : str
        The store's, for messages.
    bags : tuple of Bag
        Sorted by patient and slide.
    without : tuple of Bag
        Slides that have no vectors.
    columns : dict of str to tuple of str
        Names of the dimensions by level.
    facts : dict of str
        ``encoder_id``, ``pretrained_on`` and ``options`` as text, the last two in JSON.
    rows : callable
        ``rows(path)`` yields the vectors of a file in blocks: float32 or float64 of shape (n, dim).
    """

    name: str
    bags: tuple
    without: tuple
    columns: dict
    facts: dict
    rows: Callable


def dimension_names(dim, level="patch"):
    """Name the dimensions of vectors without names, as tables of vectors are read.

    Examples
    --------
    >>> dimension_names(2), dimension_names(2, "region")
    (('e000', 'e001'), ('r000', 'r001'))
    """
    width = max(3, len(str(dim - 1)))
    return tuple(f"{_PREFIX[level]}{i:0{width}d}" for i in range(dim))


def read_store(store, levels):
    """Look over a store that ``embed slides`` wrote.

    Parameters
    ----------
    store : path
    levels : sequence of str
        Which of ``patch`` and ``region`` are wanted of every slide.

    Returns
    -------
    Bags

    Raises
    ------
    SchemaError
        When there is no store, a slide's file is missing, or files differ in what made them.
    DataError
        When no slide has a patch.
    """
    store = Path(store)
    problems = Problems()
    bags, without = [], []
    for row in _slides(store):
        paths = {level: store / level / f"{row.slide_id}.parquet" for level in levels}
        full = row.n_patches > 0
        (bags if full else without).append(Bag(str(row.slide_id), str(row.patient_id), paths))
    if not bags:
        raise DataError(f"{store.name}: no slide has a patch; see its failures.parquet.")
    columns, facts = {}, {}
    for level in levels:
        missing = [bag.slide_id for bag in bags if not bag.paths[level].is_file()]
        if len(missing) == len(bags) and level == "region":
            problems.add(
                f"{store.name}: no regions; its encoder gives none. Pool the level 'patch'."
            )
        elif missing:
            problems.add(
                f"{store.name}: no {level} file of {count(len(missing), 'slide')} that "
                f"slides.parquet says is there ({listing(missing)}). Run embed slides again."
            )
    problems.raise_if_any()
    for level in levels:
        found = {bag.slide_id: _head(bag.paths[level], problems) for bag in bags}
        problems.raise_if_any()
        dim, own = one_of_each(store.name, level, found, problems)
        problems.raise_if_any()
        names = json.loads(own.get("feature_names") or "null") if level == "patch" else None
        columns[level] = tuple(names) if names else dimension_names(dim, level)
        facts = facts or own
    return Bags(
        name=store.name,
        bags=in_order(bags),
        without=in_order(without),
        columns=columns,
        facts={
            "encoder_id": facts.get("encoder_id", "unknown"),
            "pretrained_on": facts.get("pretrained_on", '["unknown"]'),
            "options": facts.get("options", "{}"),
        },
        rows=embedding_rows,
    )


def in_order(bags):
    """Sort slides by patient and slide: the order in which sums are taken."""
    return tuple(sorted(bags, key=lambda bag: (bag.patient_id, bag.slide_id)))


def one_of_each(name, level, found, problems):
    """Hold what is said of each slide's file against the others'.

    Parameters
    ----------
    name, level : str
        For messages.
    found : dict of str to dict
        By slide: ``dim`` and the FACTS of its file.
    problems : Problems
        Gets one message that says in what the files differ, and which slides are the fewer.

    Returns
    -------
    dim : int
    facts : dict
        Those of most slides.
    """
    groups = {}
    for slide, facts in found.items():
        groups.setdefault(json.dumps(facts, sort_keys=True), []).append(slide)
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    facts = json.loads(ranked[0][0])
    if len(ranked) > 1:
        all_facts = [json.loads(text) for text, _ in ranked]
        differing = [
            key for key in ("dim", *FACTS) if len({str(f.get(key)) for f in all_facts}) > 1
        ]
        lines = "; ".join(
            f"{count(len(slides), 'slide')} ({listing(slides, 3)}) {_said(own, differing)}"
            for own, (_, slides) in zip(all_facts, ranked, strict=True)
        )
        problems.add(
            f"{name}: the {level} files differ in {listing(differing)}: {lines}. Vectors of two "
            "encoders or settings cannot be pooled together: extract these slides again into a "
            "store of their own, or with the same settings."
        )
    return facts.pop("dim"), facts


def _said(facts, keys):
    """Say what files were made with; of options only those that could differ is too long."""
    words = []
    for key in keys:
        text = str(facts.get(key, "nothing"))
        words.append(f"{key} {text if len(text) <= 120 else text[:119] + '…'}")
    return ", ".join(words)


def _slides(store):
    """Read the list of slides of a store."""
    path = store / "slides.parquet"
    if not path.is_file():
        raise SchemaError(
            f"{store}: no slides.parquet; expected a store that embed slides wrote, or a folder "
            "with one .h5, .pt or .npy file a slide."
        )
    try:
        frame = pq.read_table(path, columns=["slide_id", "patient_id", "n_patches"]).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise SchemaError(
            f"{path}: not the list of slides that embed slides writes ({error})."
        ) from error
    return frame.assign(n_patches=frame["n_patches"].fillna(0)).itertuples()


def _head(path, problems):
    """Read what a file says of its vectors: their number of dimensions and the FACTS."""
    try:
        schema = pq.read_schema(path)
        kind = schema.field("embedding").type
        if not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
            raise pa.ArrowInvalid(f"embedding is {kind}")
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        problems.add(f"{path.name}: no vectors of a store ({error}). Extract this slide again.")
        return {}
    known = {key.decode(): text.decode() for key, text in (schema.metadata or {}).items()}
    return {"dim": kind.list_size, **{key: known[key] for key in FACTS if key in known}}


def embedding_rows(path):
    """Yield the vectors of a file of ours in blocks: float32 or float64 of shape (n, dim)."""
    with pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=["embedding"], use_threads=False):
            column = batch.column(0)
            flat = column.flatten().to_numpy(zero_copy_only=True)
            yield as_float(flat.reshape(-1, column.type.list_size))
