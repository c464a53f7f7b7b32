"""List the slides of a cohort: from files, folders, globs, URIs or one CSV."""

import glob
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tabular_trainers.errors import Problems, SchemaError, count, listing, nearest, rows, the_folder
from tabular_trainers.tables import read_table, resolve, table_name

from .slide_reading import PLAUSIBLE_MPP

SUFFIXES = (
    *(".svs", ".ndpi", ".mrxs", ".scn", ".tif", ".tiff", ".bif", ".svslide", ".vms", ".vmu"),
    *(".dcm", ".png", ".jpg", ".jpeg"),
)
COLUMNS = ("slide_id", "patient_id", "path")
_MAX_ID_BYTES = 200  # file systems allow 255; ".parquet.partial-<pid>" comes behind
_NOT_IN_FILE_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')


@dataclass(frozen=True)
class SlideSource:
    """Where a slide is and whose it is.

    Parameters
    ----------
    slide_id : str
        Names the slide's files in the store.
    patient_id : str
    path : str
        A local path or a URI.
    mpp : float, optional
        Micrometres a pixel that the CSV states for this slide; it goes before the file's.
    assume_mpp : float, optional
        Micrometres a pixel to take if the file does not say.
    """

    slide_id: str
    patient_id: str
    path: str
    mpp: float | None = None
    assume_mpp: float | None = None


def list_slides(sources, assume_mpp=None):
    """List slides, each with its id and its patient.

    Parameters
    ----------
    sources : path, str or sequence of them
        Slides, folders (their own files, not those of subfolders), globs (``**`` for
        subfolders), or one CSV with the columns ``slide_id, patient_id, path`` and, if need be,
        ``mpp``; relative paths are those beside the CSV, further columns are left alone. Each
        may be a URI (``s3://bucket/*.svs``). A folder of .dcm files is one slide. Without a CSV
        the slide's id is its file name without the suffix, and so is the patient's.
    assume_mpp : float, optional
        Micrometres a pixel of slides that do not say.

    Returns
    -------
    list of SlideSource
        Sorted by ``slide_id``.

    Raises
    ------
    SchemaError
        With all that is wrong: no slides, missing columns, empty cells, ids that are there twice
        or cannot be the name of a file. Whether the files of a CSV exist is not looked at: one that
        is missing must not stop the others.

    Examples
    --------
    >>> list_slides(["b/P2.svs", "a/P1.svs"])
    Traceback (most recent call last):
    ...
    tabular_trainers.errors.SchemaError: 2 problems:
    - P2.svs: no such file, because there is no folder b.
    - P1.svs: no such file, because there is no folder a.
    """
    given = [str(s) for s in ([sources] if isinstance(sources, str | Path) else sources)]
    if not given:
        raise SchemaError("no slides given; expected files, folders, globs or a CSV of slides.")
    problems = Problems()
    tables = [source for source in given if source.lower().endswith((".csv", ".tsv"))]
    if tables and len(given) > 1:
        raise SchemaError(
            f"{table_name(tables[0])}: a CSV of slides must be the only source; "
            f"{count(len(given), 'source')} were given."
        )
    if tables:
        slides = _from_table(tables[0], assume_mpp, problems)
    else:
        paths = dict.fromkeys(path for source in given for path in _expand(source, problems))
        slides = [_from_path(path, assume_mpp) for path in paths]
    _check_ids(slides, problems)
    problems.raise_if_any()
    return sorted(slides, key=lambda slide: slide.slide_id)


def source_bytes(path):
    """Add up the bytes of a slide's files.

    Parameters
    ----------
    path : path or str
        A file, a folder of .dcm files, or a URI; with an .mrxs file goes the folder of its name.

    Returns
    -------
    int or None
        None where there is no such file.
    """
    if "://" in str(path):
        import fsspec

        try:
            system, place = fsspec.core.url_to_fs(str(path))
            folder = place[: -len(".mrxs")] if place.lower().endswith(".mrxs") else None
            files = system.find(place) + (system.find(folder) if folder else [])
            return sum(system.sizes(files)) if files else None
        except FileNotFoundError:
            return None
    path = Path(path)
    if not path.exists():
        return None
    files = [path] if path.is_file() else list(path.iterdir())
    if path.suffix.lower() == ".mrxs":
        files += path.with_suffix("").glob("*")
    return sum(file.stat().st_size for file in files)


def _from_path(path, assume_mpp):
    name = table_name(path)
    lower = name.lower()
    suffix = next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), "")
    stem = name[: len(name) - len(suffix)]
    return SlideSource(stem, stem, path, None, assume_mpp)


def _expand(source, problems):
    """Find the slides that a file, folder, glob or URI names; none is a problem."""
    if "://" in source:
        return _expand_uri(source, problems)
    path = Path(source)
    if path.is_dir():
        return _in_folder(path, problems)
    if path.exists():
        return [str(path)]
    if glob.has_magic(source):
        found = [match for match in sorted(glob.glob(source, recursive=True)) if _is_slide(match)]
        if not found:
            problems.add(f"{source}: no slide matches; expected files ending in {_suffixes()}.")
        return found
    if not path.parent.is_dir():
        problems.add(f"{path.name}: no such file, because there is no folder {path.parent}.")
    else:
        hint = nearest(path.name, sorted(entry.name for entry in path.parent.iterdir()))
        problems.add(f"{path.name}: no such file in {the_folder(path.parent)}.{hint}")
    return []


def _is_slide(path):
    return path.lower().endswith(SUFFIXES) or _is_dicom_folder(Path(path))


def _is_dicom_folder(path):
    return path.is_dir() and any(entry.suffix.lower() == ".dcm" for entry in path.iterdir())


def _in_folder(folder, problems):
    if _is_dicom_folder(folder):
        return [str(folder)]
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    found = [
        str(entry)
        for entry in entries
        if (_is_dicom_folder(entry) if entry.is_dir() else entry.suffix.lower() in SUFFIXES)
    ]
    if not found:
        inside = " Name slides in its subfolders by a glob, such as '" + str(
            folder / "**" / "*.svs'."
        )
        problems.add(
            f"{the_folder(folder)}: no slides in it; expected files ending in {_suffixes()}."
            f"{inside if any(entry.is_dir() for entry in entries) else ''}"
        )
    return found


def _expand_uri(uri, problems):
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(uri)
        if glob.has_magic(path):
            entries = system.glob(path, detail=True).values()
        elif system.isdir(path):
            if _is_remote_dicom_folder(system, path):
                return [uri.rstrip("/")]
            entries = system.ls(path, detail=True)
        else:
            return [uri]
        found = [entry["name"] for entry in entries if _is_remote_slide(system, entry)]
    except ImportError as error:
        problems.add(f"{uri}: {error}. Install it to read from there.")
        return []
    except ValueError as error:
        problems.add(f"{uri}: {error}.")
        return []
    if not found:
        problems.add(f"{uri}: no slide there; expected files ending in {_suffixes()}.")
    return [system.unstrip_protocol(match) for match in sorted(found)]


def _is_remote_slide(system, entry):
    name = table_name(entry["name"]).lower()
    if entry["type"] == "directory":
        return _is_remote_dicom_folder(system, entry["name"])
    return name.endswith(SUFFIXES) and not name.startswith(".")


def _is_remote_dicom_folder(system, path):
    return any(name.lower().endswith(".dcm") for name in system.ls(path, detail=False))


def _suffixes():
    return listing(SUFFIXES, len(SUFFIXES))


def _from_table(uri, assume_mpp, problems):
    frame = read_table(uri, text=COLUMNS)
    name = table_name(uri)
    missing = [column for column in COLUMNS if column not in frame.columns]
    for column in missing:
        problems.add(
            f"{name}: no column {column!r}; expected {listing(COLUMNS)} and, if need be, mpp."
            f"{nearest(column, [c for c in frame.columns if c not in COLUMNS])}"
        )
    for column in COLUMNS:
        if column in frame.columns:
            values = frame[column].astype(object)
            frame[column] = [value.strip() if isinstance(value, str) else value for value in values]
            empty = np.flatnonzero(values.isna() | (frame[column] == ""))
            if len(empty):
                problems.add(f"{name}, column {column}: empty in {rows(empty)}; expected a value.")
    mpp = _mpp_column(frame, name, problems)
    problems.raise_if_any()
    folder = uri.rpartition("/")[0] if "://" in uri else str(Path(uri).parent)
    return [
        SlideSource(slide, patient, resolve(path, folder), value, assume_mpp)
        for slide, patient, path, value in zip(*(frame[c] for c in COLUMNS), mpp, strict=True)
    ]


def _mpp_column(frame, name, problems):
    if "mpp" not in frame.columns:
        return [None] * len(frame)
    given = frame["mpp"]
    values = pd.to_numeric(given, errors="coerce").to_numpy(dtype=float)
    low, high = PLAUSIBLE_MPP
    bad = np.flatnonzero(given.notna().to_numpy() & ~((values >= low) & (values <= high)))
    if len(bad):
        problems.add(
            f"{name}, column mpp: {rows(bad)} not a number from {low:g} to {high:g}; expected "
            "micrometres a pixel, or nothing where the file says it."
        )
    return [None if math.isnan(value) else float(value) for value in values]


def _check_ids(slides, problems):
    """Refuse ids that are there twice or cannot name a file on every computer."""
    times = Counter(slide.slide_id for slide in slides)
    repeated = sorted(slide_id for slide_id, n in times.items() if n > 1)
    if repeated:
        problems.add(
            f"slide_id {listing(map(repr, repeated))}: there more than once; every slide needs its "
            "own. Where files of two folders have the same name, list the slides in a CSV."
        )
    cases = {}
    for slide_id in times:
        cases.setdefault(slide_id.casefold(), []).append(slide_id)
    alike = [" and ".join(map(repr, ids)) for ids in cases.values() if len(ids) > 1]
    if alike:
        problems.add(
            f"slide_id {listing(alike)}: differ only in upper and lower case, which some computers "
            "do not tell apart in the names of files; rename them."
        )
    bad = sorted(slide_id for slide_id in times if not _can_name_a_file(slide_id))
    if bad:
        problems.add(
            f"slide_id {listing(map(repr, bad))}: cannot be the name of a file; expected at most "
            f'{_MAX_ID_BYTES} bytes without any of / \\ : * ? " < > |, and neither a space nor a '
            "point at an end."
        )


def _can_name_a_file(slide_id):
    return (
        slide_id == slide_id.strip(" .")
        and 0 < len(slide_id.encode()) <= _MAX_ID_BYTES
        and not _NOT_IN_FILE_NAMES.search(slide_id)
    )
