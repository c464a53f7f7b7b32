"""The slides of a store, whose they are and where their vectors lie, before any is read.

The same for our own stores and for those of others (`foreign_stores`), so that pooling knows
neither.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tabular_trainers.errors import DataError, Problems, SchemaError, count, listing
from tabular_trainers.tables import read_written

from .store import CONTRACTS, Recipe, describe_slide, iterate_vectors, slide_file

_PREFIX = {"patch": "e", "region": "r"}  # of columns that have no names


@dataclass(frozen=True)
class Bag:
    """One slide, and the files with its vectors.

    Attributes
    ----------
    slide_id, patient_id : str
    paths : dict of str to Path
        By level; empty where there is no vector.
    lacks : str
        Why there is none.
    """

    slide_id: str
    patient_id: str
    paths: dict = field(default_factory=dict)
    lacks: str = ""


@dataclass(frozen=True)
class Bags:
    """The slides of a store that have vectors, and those that have none.

    Attributes
    ----------
    bags, without : tuple of Bag
        Sorted by patient and slide: the order in which sums are taken.
    columns : dict of str to tuple of str
        Names of the dimensions by level.
    recipe : Recipe
        What made the vectors, the same for all.
    rows : callable
        ``rows(path, level)`` yields the vectors of a file in blocks: (n, dim) of a floating type.
    """

    bags: tuple
    without: tuple
    columns: dict
    recipe: Recipe
    rows: Callable


def dimension_names(dim, level="patch"):
    """Name the dimensions of vectors that have no names: as tables of vectors are read.

    Examples
    --------
    >>> dimension_names(2), dimension_names(2, "region")
    (('e000', 'e001'), ('r000', 'r001'))
    """
    width = max(3, len(str(dim - 1)))
    return tuple(f"{_PREFIX[level]}{i:0{width}d}" for i in range(dim))


def is_store(folder):
    """Say whether a folder is, or begins to be, a store of ours."""
    return any((Path(folder) / name).exists() for name in ("slides.parquet", *CONTRACTS))


def read_bags(store, levels):
    """Look over a store of ours; no vector is read.

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
        When there is no store, a slide's file is missing or torn, or files were not made alike.
    DataError
        When no slide has a patch.
    """
    store = Path(store)
    problems = Problems()
    bags, without = _slides(store, levels)
    found = {level: {} for level in levels}
    if "region" in levels and not any(bag.paths["region"].is_file() for bag in bags):
        problems.add(f"{store.name}: no regions, as its encoder gives none. Pool level 'patch'.")
        problems.raise_if_any()
    for level in levels:
        for bag in bags:
            try:
                found[level][bag.slide_id] = describe_slide(bag.paths[level], level)
            except SchemaError as error:
                problems.add(f"{error} Run embed slides again: it writes what is missing.")
    problems.raise_if_any()
    columns = {}
    for level, described in found.items():
        made = {slide: (one.recipe, one.dim) for slide, one in described.items()}
        recipe, dim = made_alike(f"{store.name}, {CONTRACTS[level]}", made, problems)
        named = recipe.feature_names if level == "patch" else None
        columns[level] = named or dimension_names(dim, level)
    problems.raise_if_any()
    return Bags(in_order(bags), in_order(without), columns, recipe, iterate_vectors)


def in_order(bags):
    """Sort slides by patient and slide."""
    return tuple(sorted(bags, key=lambda bag: (bag.patient_id, bag.slide_id)))


def made_alike(where, made, problems):
    """Hold what made each slide's vectors against the others'.

    Parameters
    ----------
    where : str
        For the message.
    made : dict of str to (Recipe, int)
        By slide: what made its vectors, and their dimensions.
    problems : Problems
        Gets one message when they differ.

    Returns
    -------
    recipe : Recipe
    dim : int
        Those of most slides.
    """
    groups = []
    for slide, (recipe, dim) in made.items():
        for (known, known_dim), slides in groups:
            if dim == known_dim and not known.differences(recipe):
                slides.append(slide)
                break
        else:
            groups.append(((recipe, dim), [slide]))
    groups.sort(key=lambda group: -len(group[1]))
    (recipe, dim), most = groups[0]
    if len(groups) > 1:
        said = []
        for (other, other_dim), slides in groups[1:]:
            differ = recipe.differences(other)
            differ += [f"{other_dim} dimensions, not {dim}"] if other_dim != dim else []
            said.append(f"{count(len(slides), 'slide')} ({listing(slides)}): {listing(differ)}")
        problems.add(
            f"{where}: not all were made alike, and so cannot be pooled together. Unlike "
            f"{count(len(most), 'slide')}: {'; '.join(said)}. Extract one kind again, into a "
            "store of its own."
        )
    return recipe, dim


def _slides(store, levels):
    """Read the list of slides: those with patches, and those without."""
    path = store / "slides.parquet"
    if not path.is_file():
        raise SchemaError(
            f"{store}: no slides.parquet, which embed slides writes at its end. Run it again: it "
            "goes on where it was."
        )
    bags, without = [], []
    for row in read_written(path, "slides").itertuples():
        if row.n_patches:
            paths = {level: slide_file(store, row.slide_id, level) for level in levels}
            bags.append(Bag(row.slide_id, row.patient_id, paths))
        else:
            without.append(Bag(row.slide_id, row.patient_id, lacks=row.status))
    if not bags:
        raise DataError(f"{store.name}: no slide has a patch; failures.parquet says why.")
    return bags, without
