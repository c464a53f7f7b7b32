"""Stores of others: a folder with one file of patch vectors a slide, as bags to pool.

Read are ``.h5`` of TRIDENT and CLAM (dataset ``features``) and of STAMP (``feats``, or
``patch_embeddings``), ``.pt`` tensors of TRIDENT and CLAM, and ``.npy`` arrays: one vector a row,
(n, dim) or (1, n, dim). Nothing that could run code is loaded.

Layouts as written by github.com/mahmoodlab/TRIDENT, github.com/mahmoodlab/CLAM and
github.com/KatherLab/STAMP.
"""

import json
import logging
from pathlib import Path

import numpy as np

from tabular_trainers.errors import (
    DataError,
    Problems,
    SchemaError,
    count,
    listing,
    nearest,
    rows,
)
from tabular_trainers.tables import read_table, table_name

from .bags import Bag, Bags, dimension_names, in_order, made_alike
from .requirements import need
from .store import Recipe

ENDINGS = (".h5", ".pt", ".npy")
DATASETS = ("features", "feats", "patch_embeddings")
# What decides the vectors, by who wrote them; other attributes differ from slide to slide.
_STAMP_OPTIONS = ("tile_size_um", "tile_size_px")
_TRIDENT_OPTIONS = ("patch_size", "target_magnification", "overlap")
_ROWS_AT_A_TIME = 4096
_SHOWN = 20  # ids in a note
_LOG = logging.getLogger("tabular_trainers")


def read_foreign_bags(folder, slides=None):
    """Look over a folder with one file of vectors a slide; subfolders are searched as well.

    Parameters
    ----------
    folder : path
        Of CLAM, that with ``h5_files`` and ``pt_files`` (then the former are read), or either.
    slides : path, optional
        Table with ``slide_id`` (a file's name without its ending) and ``patient_id``. Default: each
        slide is a patient of its own, by the name of its file.

    Returns
    -------
    Bags

    Raises
    ------
    SchemaError
        When there is no such file, a file is not what was expected, slides differ in encoder,
        settings or dimensions, or the table of slides is not one.
    DataError
        When no slide has a vector, or none is in the table.
    """
    folder = Path(folder)
    files = _files(folder)
    patients = {slide: slide for slide in files} if slides is None else _patients(slides)
    if slides is None:
        _LOG.warning("No table of slides: each file is taken as a patient of its own.")
    bags = [
        Bag(slide, patients[slide], {"patch": files[slide]}) for slide in files if slide in patients
    ]
    without = [
        Bag(slide, patient, lacks="no file")
        for slide, patient in patients.items()
        if slide not in files
    ]
    if not bags:
        raise DataError(
            f"{table_name(slides)}: no slide_id is the name of a file of {folder.name} without its "
            f"ending; the files are like {next(iter(files))!r}, the ids like "
            f"{next(iter(patients))!r}."
        )
    unlisted = [slide for slide in files if slide not in patients]
    if unlisted:
        _LOG.warning(
            "%s not in %s, and left out: %s.",
            f"{count(len(unlisted), 'file')} {'is' if len(unlisted) == 1 else 'are'}",
            table_name(slides),
            listing(unlisted, _SHOWN),
        )
    problems, made, full = Problems(), {}, []
    for bag in bags:
        try:
            recipe, n, dim = _describe(bag.paths["patch"])
        except SchemaError as error:
            problems.add(str(error))
            continue
        if n:
            made[bag.slide_id] = recipe, dim
            full.append(bag)
        else:
            without.append(Bag(bag.slide_id, bag.patient_id, lacks="an empty file"))
    problems.raise_if_any()
    if not full:
        raise DataError(f"{folder.name}: no file has a vector.")
    recipe, dim = made_alike(folder.name, made, problems)
    problems.raise_if_any()
    columns = {"patch": dimension_names(dim)}
    return Bags(in_order(full), in_order(without), columns, recipe, foreign_rows)


def foreign_rows(path, level="patch"):
    """Yield the vectors of a file in blocks of shape (n, dim): float16, float32 or float64."""
    if path.suffix == ".h5":
        with need("h5py").File(path, "r") as file:
            yield from _blocks(_dataset(file, path))
    else:
        yield from _blocks(_array(path))


def _blocks(vectors):
    whole = vectors.ndim == 2
    for start in range(0, vectors.shape[-2], _ROWS_AT_A_TIME):
        chosen = slice(start, start + _ROWS_AT_A_TIME)
        yield np.ascontiguousarray(vectors[chosen] if whole else vectors[0, chosen])


def _files(folder):
    """Find the files of vectors: {slide_id: Path}, sorted."""
    if not folder.is_dir():
        raise SchemaError(f"{folder}: no such folder.")
    if (folder / "h5_files").is_dir():
        folder = folder / "h5_files"  # CLAM keeps the same vectors twice
    found = sorted(path for path in folder.rglob("*") if path.suffix in ENDINGS)
    if not found:
        raise SchemaError(
            f"{folder}: neither slides.parquet, as embed slides writes it, nor a file that ends in "
            f"{listing(ENDINGS)}."
        )
    kinds = sorted({path.suffix for path in found})
    if len(kinds) > 1:
        raise SchemaError(
            f"{folder}: files that end in {listing(kinds)}; expected one kind. Name a folder that "
            "has one."
        )
    files = {}
    for path in found:
        files.setdefault(path.stem, []).append(path)
    repeated = [slide for slide, paths in files.items() if len(paths) > 1]
    if repeated:
        raise SchemaError(
            f"{folder}: {count(len(repeated), 'name')} in several subfolders "
            f"({listing(repeated)}); expected one file a slide."
        )
    return {slide: paths[0] for slide, paths in files.items()}


def _patients(slides):
    """Read the table of slides: {slide_id: patient_id}."""
    name, columns = table_name(slides), ("slide_id", "patient_id")
    frame = read_table(slides, text=columns)
    problems = Problems()
    for column in columns:
        if column not in frame:
            hint = nearest(column, frame.columns)
            problems.add(f"{name}: no column {column!r}.{hint}")
        elif frame[column].isna().any():
            empty = np.flatnonzero(frame[column].isna())
            problems.add(f"{name}, column {column}: empty in {rows(empty)}.")
    problems.raise_if_any()
    repeated = np.flatnonzero(frame["slide_id"].duplicated())
    if len(repeated):
        raise SchemaError(
            f"{name}, column slide_id: {rows(repeated)} name a slide of an earlier row; expected "
            "each slide once."
        )
    return dict(zip(frame["slide_id"], frame["patient_id"], strict=True))


def _describe(path):
    """Look at a file: what made its vectors, how many there are, and their dimensions."""
    if path.suffix == ".h5":
        try:
            with need("h5py").File(path, "r") as file:
                vectors = _dataset(file, path)
                return (_recipe(file, vectors), *vectors.shape[-2:])
        except OSError as error:
            raise SchemaError(f"{path.name}: not a whole HDF5 file ({error}).") from error
    return (Recipe("unknown", {}, ("unknown",)), *_array(path).shape[-2:])


def _recipe(file, vectors):
    """Read what a file says of encoder and settings."""
    coords = file["coords"].attrs if "coords" in file else {}
    encoder = file.attrs.get("extractor", vectors.attrs.get("encoder", "unknown"))
    options = {name: _plain(file.attrs[name]) for name in _STAMP_OPTIONS if name in file.attrs}
    options |= {name: _plain(coords[name]) for name in _TRIDENT_OPTIONS if name in coords}
    encoder = str(_plain(encoder))
    return Recipe("unknown" if encoder == "None" else encoder, options, ("unknown",))


def _plain(value):
    """Turn an attribute into what JSON can say."""
    value = value.decode() if isinstance(value, bytes) else value
    value = value.item() if isinstance(value, np.generic) else value
    json.dumps(value)
    return value


def _dataset(file, path):
    """Find the vectors in an HDF5 file."""
    names = [name for name in DATASETS if name in file]
    if not names:
        raise SchemaError(
            f"{path.name}: no vectors; expected a dataset {listing(DATASETS)}, found "
            f"{listing(file) or 'none'}."
        )
    _check(file[names[0]], path)
    return file[names[0]]


def _array(path):
    """Read a .npy or .pt file without running anything that it may hold."""
    if path.suffix == ".npy":
        try:
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise SchemaError(f"{path.name}: not an array of numbers ({error}).") from error
    else:
        vectors = _tensor(path)
    _check(vectors, path)
    return vectors


def _tensor(path):
    torch = need("torch")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SchemaError(
            f"{path.name}: not a tensor that can be loaded without running code "
            f"({str(error).splitlines()[0]})."
        ) from error
    if isinstance(loaded, dict):
        loaded = next((loaded[name] for name in DATASETS if name in loaded), None)
    if not isinstance(loaded, torch.Tensor):
        raise SchemaError(f"{path.name}: no tensor; expected one of shape (n, dim).")
    if loaded.dtype == torch.bfloat16:
        loaded = loaded.float()  # NumPy has no such type
    return loaded.numpy()


def _check(vectors, path):
    """Refuse what is not one vector a row."""
    shape, kind = tuple(vectors.shape), str(vectors.dtype)
    flat = len(shape) == 2 or (len(shape) == 3 and shape[0] == 1)
    if not flat or kind not in ("float16", "float32", "float64"):
        raise SchemaError(
            f"{path.name}: vectors of shape {shape} and type {kind}; expected (n, dim) or "
            "(1, n, dim) of float16, float32 or float64."
        )
