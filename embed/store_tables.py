"""What of a store is done already, and the tables of its slides and its failures.

The tables are made from the slides' files and from the failures of this run, so that they never
say more than what is there. Runs of a job array each keep their own tables in ``STORE/shards`` and
merge all that they find: whichever renames its table last has seen all the others.
"""

import dataclasses
import platform
import re
import shutil
from pathlib import Path

import pandas as pd
import psutil

from tabular_trainers.errors import SchemaError, listing
from tabular_trainers.schema import empty
from tabular_trainers.tables import read_written, write_table

from .slide_list import source_bytes
from .store import describe_slide, list_files, relabel_slide, slide_file
from .whole_files import written_whole

NO_TISSUE = "no tissue found; look at the slide's picture in the folder quality"
_PARTIAL = re.compile(r"(?P<name>.+)\.partial-(?:(?P<node>.+)-)?(?P<pid>\d+)$")


def done_slides(store, sources, recipe, levels, overwrite=False):
    """Find which slides need nothing more, before anything is computed.

    Parameters
    ----------
    store : path
    sources : sequence of SlideSource
        The slides of this run.
    recipe : Recipe
        Of this run.
    levels : sequence of str
        ``("patch",)``, or ``("region", "patch")`` for a pyramid.
    overwrite : bool, default False
        Count none as done, and remove what these slides have.

    Returns
    -------
    dict of str to StoredSlide
        By slide_id: those with whole files of this recipe, from a file of this size.

    Raises
    ------
    SchemaError
        When the store was made by another encoder or with other options.
    """
    store = Path(store)
    known = {source.slide_id: source for source in sources}
    _remove_left_overs(store, known)
    if overwrite:
        for slide_id in known:
            _remove(store, slide_id, levels)
    files = list_files(store, levels[-1])
    others = [slide_id for slide_id in files if slide_id not in known][:1]
    done, stale = {}, []
    for slide_id in [*others, *(slide_id for slide_id in files if slide_id in known)]:
        stored = _whole(store, slide_id, levels)
        differ = recipe.differences(stored[-1].recipe) if stored else ()
        if differ:
            raise SchemaError(
                f"{store}: holds features of {listing(differ)} ({slide_id}.parquet). One store "
                "holds one kind of features: give another --out, or --overwrite to extract these "
                "slides anew."
            )
        source = known.get(slide_id)
        if source is None:
            continue
        if stored and _is_same_source(stored[-1].slide, source):
            done[slide_id] = _relabelled(stored, source, levels)
        else:
            stale.append(slide_id)
    for slide_id in stale:
        _remove(store, slide_id, levels)
    return done


def write_tables(store, recipe, stored, failures, slide_ids, shard=None):
    """Write ``slides.parquet`` and ``failures.parquet`` of a store.

    Parameters
    ----------
    store : path
    recipe : Recipe
    stored : dict of str to StoredSlide
        What is known of whole files without reading them again.
    failures : DataFrame
        Of this run, as the contract ``failures`` has it.
    slide_ids : collection of str
        The slides of this run: what was known of their failures before is forgotten.
    shard : tuple of int, optional
        Number of the shard, from 1, and how many there are.

    Returns
    -------
    bool
        Whether every shard has been here.
    """
    store = Path(store)
    before = _read(store / "failures.parquet", "failures")
    before = before[~before["slide_id"].isin(set(slide_ids))]
    rows = {slide_id: _row(one) for slide_id, one in stored.items()}
    folder = store / "shards"
    if shard is None:
        _merge(store, recipe, rows, [before, failures])
        # what shards had found is in the tables of the store by now
        shutil.rmtree(folder, ignore_errors=True)
        return True
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{shard[0]:05d}-of-{shard[1]:05d}.parquet"
    own = pd.DataFrame(list(rows.values()), columns=list(empty("slides")))
    _replace(own, "slides", folder / f"slides-{name}", recipe)
    _replace(failures, "failures", folder / f"failures-{name}", recipe)
    seen = None
    while seen != (parts := _parts(folder)):
        seen = parts
        theirs = pd.concat([_read(path, "slides") for path in parts if _is(path, "slides")])
        theirs = {row["slide_id"]: row for row in theirs.to_dict("records")}
        frames = [_read(path, "failures") for path in parts if _is(path, "failures")]
        _merge(store, recipe, theirs | rows, [before, *frames])
    ours = [path for path in parts if _is(path, "failures") and path.name.endswith(name[5:])]
    return len(ours) == shard[1]


def _merge(store, recipe, rows, failures):
    """Write both tables of what has a file and what failed; later failures go before earlier."""
    files = list_files(store)
    torn = []
    for slide_id in sorted(set(files) - set(rows)):
        try:
            rows[slide_id] = _row(describe_slide(files[slide_id]))
        except SchemaError as error:
            torn.append((slide_id, slide_id, str(files[slide_id]), "write", str(error)))
    rows = {slide_id: row for slide_id, row in rows.items() if slide_id in files}
    torn = pd.DataFrame(torn, columns=list(empty("failures")))
    failures = pd.concat([torn, *failures]).drop_duplicates("slide_id", keep="last")
    failures = failures[~failures["slide_id"].isin(set(rows))].sort_values("slide_id")
    failed = failures[["slide_id", "patient_id", "path"]].assign(
        mpp=None,
        width_px=None,
        height_px=None,
        n_patches=0,
        status=failures["reason"].eq(NO_TISSUE).map({True: "no tissue", False: "failed"}),
        encoder_id=recipe.encoder_id,
    )
    slides = pd.DataFrame([*rows.values(), *failed.to_dict("records")], columns=list(failed))
    _replace(slides.sort_values("slide_id"), "slides", store / "slides.parquet", recipe)
    _replace(failures, "failures", store / "failures.parquet", recipe)


def _row(stored):
    slide = stored.slide
    return {
        "slide_id": slide.slide_id,
        "patient_id": slide.patient_id,
        "path": slide.path,
        "mpp": slide.mpp,
        "width_px": slide.width_px,
        "height_px": slide.height_px,
        "n_patches": stored.n_rows,
        "status": "done",
        "encoder_id": stored.recipe.encoder_id,
    }


def _replace(frame, name, path, recipe):
    with written_whole(path) as partial:
        write_table(frame, name, partial, recipe.metadata())


def _read(path, name):
    return read_written(path, name) if path.is_file() else empty(name)


def _is(path, name):
    return path.name.startswith(f"{name}-")


def _parts(folder):
    """List the shards' tables, the oldest first: {path: (when, size)} tells when one is new."""
    found = {path: path.stat() for path in folder.glob("*-of-*.parquet")}
    found = {path: (stat.st_mtime_ns, stat.st_size) for path, stat in found.items()}
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def _whole(store, slide_id, levels):
    """Describe a slide's files, or give None when one is not whole."""
    try:
        return [describe_slide(slide_file(store, slide_id, level), level) for level in levels]
    except SchemaError:
        return None


def _is_same_source(stored, source):
    """Say whether a slide's file and its given resolution are what they were.

    A slide that has been put away since is not missed.
    """
    if source_bytes(source.path) not in (None, stored.source_bytes):
        return False
    if source.mpp is not None or stored.given_mpp is None:
        return source.mpp == stored.given_mpp
    return source.assume_mpp == stored.given_mpp


def _relabelled(stored, source, levels):
    """Write anew whose a slide is and where it lies, if that has changed: its vectors stay."""
    slide = dataclasses.replace(stored[-1].slide, patient_id=source.patient_id, path=source.path)
    if slide != stored[-1].slide:
        for one, level in zip(stored, levels, strict=True):
            relabel_slide(one.file, slide, level)
    return dataclasses.replace(stored[-1], slide=slide)


def _remove(store, slide_id, levels):
    for level in reversed(levels):  # the patches first: their file says that the slide is whole
        slide_file(store, slide_id, level).unlink(missing_ok=True)


def _remove_left_overs(store, slide_ids):
    """Remove what processes that are no more had begun to write.

    Of another computer's processes nothing is known; but these slides are this run's own.
    """
    for folder in (store / "patch", store / "region", store / "quality", store / "shards", store):
        for path in folder.glob("*.partial-*"):
            found = _PARTIAL.match(path.name)
            if found and (
                not psutil.pid_exists(int(found["pid"]))
                if found["node"] in (None, platform.node())
                else Path(found["name"]).stem in slide_ids
            ):
                path.unlink(missing_ok=True)
