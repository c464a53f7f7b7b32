"""A block whose table is a store of patches: each patient's patches stay where they are."""

import json
from pathlib import Path

import pandas as pd

from tabular_trainers.cohort_encoders import facts_of_tables
from tabular_trainers.cohort_parts import Block
from tabular_trainers.errors import DataError, SchemaError, count
from tabular_trainers.held_patches import held_patches
from tabular_trainers.patch_bags import COLUMN, bag_of
from tabular_trainers.patch_clusters import recommended_clusters


def is_store(place):
    """Tell whether a path is a folder as ``embed slides`` writes it.

    Parameters
    ----------
    place : str
        Path or URI of a table.

    Returns
    -------
    bool
    """
    return "://" not in place and any(
        (Path(place) / name).exists() for name in ("slides.parquet", "patch")
    )


def not_pooled(table, where, n_patients):
    """Say what can be done with a store that a block names as if it were a table."""
    k = recommended_clusters(n_patients)
    return (
        f"{table}: a store of patches, not a table with a row a patient ({where}). Either pool it: "
        f"tabular-trainers embed pool {table} --out pathology.parquet, and name that file; or add "
        f"reduce = {{ clusters = {k} }} to {where}: the shares of each patient's patches in {k} "
        "clusters, made inside each training part."
    )


def describes_everybody(found, where):
    """Say why a table that was made with all of its patients cannot be a block of theirs.

    Parameters
    ----------
    found : Rows
        Its rows of patients of the cohort.
    where : str
        Section of the cohort.toml.

    Returns
    -------
    str
    """
    n_patients, k = len(set(found.ids)), max(2, found.frame.shape[1] - 1)
    return (
        f"{found.name}: describes clusters that were made of the patches of all patients, "
        f"{count(n_patients, 'patient')} of this cohort among them, so held-out patients had a say "
        f"in these columns ({where}). Name the store itself as table, with reduce = {{ clusters = "
        f"{k} }}: clusters are then made inside each training part."
    )


def read_patches(name, options, reading):
    """Read a block of patches: no vector, only who has some.

    Parameters
    ----------
    name : str
    options : BlockOptions
    reading : Reading
        Its problems get everything that is wrong, its notes what is used.

    Returns
    -------
    block : Block or None
        With the one column ``patches``; None when something is wrong.
    sources : dict
        Empty: no column of it holds an outcome.
    """
    where, place = f"[blocks.{name}]", reading.reader.place(options.table)
    try:
        if not is_store(place):
            raise SchemaError(_no_store(options.table, place, where, reading.reader.hint))
        held = held_patches(place)
        reading.reader.hold(options.table, held.whole.slides, held.whole.source_hash)
        rows = reading.reader.rows(options.table, "patient_id", where, reading.clinical)
    except (SchemaError, DataError) as error:
        reading.problems.add(str(error), type(error))
        return None, {}
    patients = pd.Index(rows.ids, name="patient_id").unique().sort_values()
    words = (
        f"{where}, {rows.name}: patches of {count(len(rows.frame), 'slide')} of "
        f"{count(len(patients), 'patient')}."
    )
    reading.notes.append(f"{words} {held.note()}" if held.note() else words)
    if rows.n_unknown:
        reading.notes.append(
            f"{where}, {rows.name}: {count(rows.n_unknown, 'id')} "
            f"{'is' if rows.n_unknown == 1 else 'are'} not in {reading.clinical.name}, and left "
            "out."
        )
    made = {"encoder_id": held.encoder_id, "pretrained_on": json.dumps(list(held.pretrained_on))}
    encoder_id, pretrained_on = facts_of_tables([made], options.pretrained_on)
    block = Block(
        name=name,
        table=pd.DataFrame({COLUMN: [bag_of(place, p) for p in patients]}, patients, dtype=object),
        reduce=dict(options.reduce),
        n_rows=len(rows.frame),
        encoder_id=encoder_id,
        pretrained_on=pretrained_on,
    )
    return block, {}


def _no_store(table, place, where, hint):
    what, advice = "a file", ""
    if "://" in place:
        what = "not a folder of this computer"
    elif Path(place).is_dir():
        what = "no slides.parquet in it, which embed slides writes at its end"
    elif not Path(place).exists():
        what, advice = f"no such folder: {place}", hint
    return (
        f"{table}: not a store of patches ({what}). {where}, reduce = {{ clusters = ... }} counts "
        "the patches of a store, the folder that embed slides wrote; a table with a row a patient "
        "goes with { pca = number of components }, or without reduce." + advice
    )
