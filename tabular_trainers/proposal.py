"""Propose a ``cohort.toml`` from tables: fill in what can be seen in them, leave the rest open."""

import json
import os
import re
from dataclasses import dataclass

import pandas as pd

from tabular_trainers.cohort_columns import (
    cancer_type_column,
    id_column,
    ids_of,
    is_boolean,
    is_event,
    is_id,
    is_time,
    is_usable,
    key_column,
    match,
    plain,
    site_column,
)
from tabular_trainers.cohort_config import FILL_IN
from tabular_trainers.cohort_review import check, named_like_outcome
from tabular_trainers.cohort_tables import label_text
from tabular_trainers.errors import Problems, SchemaError, count, labels, listing
from tabular_trainers.tables import read_table, table_name

__all__ = ["check", "propose"]

_DEATH = re.compile(r"(^|[^a-z])(dead|deceased|died|death)([^a-z]|$)")
_UNITS = {"day": "days", "week": "weeks", "month": "months", "year": "years"}
_WIDE = 20  # so many columns with one ending are a block of their own


@dataclass(frozen=True)
class _Table:
    name: str  # of the block
    first: bool  # whether it is the clinical table
    path: str  # as it is written in the toml
    frame: pd.DataFrame
    key: str | None  # its id column; None when it could not be told


@dataclass(frozen=True)
class _Outcome:
    name: str
    table: _Table
    time: str
    event: str


def propose(clinical, tables=None, folder="."):
    """Propose a ``cohort.toml`` from a clinical table and further tables.

    Parameters
    ----------
    clinical : path or URI
        Table that says who the patients are.
    tables : dict of str to path, optional
        Further tables by block name. Endpoints are looked for in all of them.
    folder : path
        Folder of the future ``cohort.toml``: paths are written relative to it.

    Returns
    -------
    str
        TOML with comments; ``FILL_IN`` stands where the tables do not tell.

    Raises
    ------
    SchemaError
        When tables cannot be read: all of them in one message.
    """
    found = _read_all(clinical, tables or {}, folder)
    outcomes = _outcomes(found)
    taken = {o.event for o in outcomes} | {o.time for o in outcomes} | {found[0].key}
    site, cancer_type = site_column(found[0].frame, taken), cancer_type_column(found[0].frame)
    blocks = []
    for table in found:
        blocks += _blocks(table, outcomes, {site, cancer_type} - {None}, found[0].key)
    lines = [
        "# Proposed from the tables; read every line. Every predictor must be known at time zero.",
        f"# {FILL_IN} stands where the tables do not tell.",
        "",
        f"title = {_text(table_name(clinical).partition('.')[0])}",
        f'time_zero = "{FILL_IN}"  # e.g. diagnosis, surgery, start of treatment',
        'missing_blocks = "drop"  # or "impute": keep patients who lack a block',
        "",
        *_clinical_lines(found[0], site, cancer_type),
    ]
    for outcome in outcomes:
        lines += ["", *_outcome_lines(outcome, found[0])]
    if not outcomes:
        lines += ["", *_no_outcome_lines()]
    for block in blocks:
        lines += ["", *block]
    return "\n".join(lines) + "\n"


def _read_all(clinical, tables, folder):
    """Read all tables, their id columns as text; the clinical one comes first."""
    problems, frames = Problems(), {}
    first_name = "patients" if "clinical" in tables else "clinical"
    paths = {first_name: clinical, **tables}
    for name, path in paths.items():
        try:
            frame = read_table(path)
            likely = [column for column in frame if is_id(column)]
            frames[name] = read_table(path, text=likely) if likely else frame
        except SchemaError as error:
            problems.add(str(error))
    problems.raise_if_any()
    first = frames[first_name]
    others = [frame for name, frame in frames.items() if name != first_name]
    key = id_column(first, others)
    ids = set() if key is None else set(ids_of(first[key]))
    found = []
    for name, frame in frames.items():
        path = str(paths[name])
        if "://" not in path:
            path = os.path.relpath(path, folder).replace(os.sep, "/")
        own = key if name == first_name else key_column(frame, key, ids)
        found.append(_Table(name, name == first_name, path, frame, own))
    return found


def _outcomes(tables):
    """Match columns that look like events with columns that look like times, over all tables."""
    pairs = []
    for table in tables:
        frame = table.frame
        events = [c for c in frame if is_event(frame, c) and c != table.key]
        times = [c for c in frame if is_time(frame, c) and c != table.key]
        for event in events:
            for time in times:
                score, name = match(event, time)
                if score:
                    order = (-score, not table.first, frame[event].nunique(), len(event))
                    pairs.append((order, len(pairs), _Outcome(name, table, time, event)))
    chosen, used = {}, set()
    for _, _, outcome in sorted(pairs, key=lambda pair: pair[:2]):
        columns = {(outcome.table.name, outcome.time), (outcome.table.name, outcome.event)}
        if not columns & used and outcome.name not in chosen:
            chosen[outcome.name] = outcome
            used |= columns
    return list(chosen.values())


def _clinical_lines(clinical, site, cancer_type):
    lines = ["[clinical]", f"table = {_text(clinical.path)}"]
    if clinical.key is None:
        lines.append(f'patient_id = "{FILL_IN}"  # the column with the patient id')
    else:
        lines.append(f"patient_id = {_text(clinical.key)}")
    if site is None:
        lines.append('# site = "hospital"  # a column with the hospital, where there is one')
    else:
        lines.append(f"site = {_text(site)}  # a hospital stays in one part of every fold")
    if cancer_type is not None:
        lines.append(f"cancer_type = {_text(cancer_type)}")
    return lines


def _outcome_lines(outcome, clinical):
    table, name = outcome.table, outcome.name
    lines = [f"[endpoints.{_key(name)}]", 'kind = "survival"']
    if not table.first:
        lines.append(f"table = {_text(table.path)}")
        lines += _key_lines(table, clinical.key)
    lines.append(f"time = {_text(outcome.time)}")
    unit = [
        u for word, u in _UNITS.items() if re.search(rf"(^|_){word}s?(_|$)", plain(outcome.time))
    ]
    lines.append(
        f'unit = "{unit[0]}"' if unit else f'unit = "{FILL_IN}"  # days, weeks, months or years'
    )
    values = label_text(table.frame[outcome.event]).dropna()
    shown = labels(sorted(values.unique()))
    events = [value for value in values.unique() if _DEATH.search(value.lower())]
    lines.append(f"event = {_text(outcome.event)}  # its labels: {shown}")
    if len(events) == 1 and values.nunique() == 2:
        lines.append(f"event_values = [{_text(events[0])}]")
    else:
        lines.append(f'event_values = ["{FILL_IN}"]  # the labels that mean: the event happened')
        if values.nunique() > 2:
            lines.append(f'censored_values = ["{FILL_IN}"]  # the labels that mean: it did not')
    if (table.frame[outcome.time] == 0).any():
        lines.append(f'zero_time = "{FILL_IN}"  # some times are zero: "drop" or "half_unit"')
    if (table.frame[outcome.time] < 0).any():
        words = 'some times are negative: correct them and remove this line, or "drop"'
        lines.append(f'negative_time = "{FILL_IN}"  # {words}')
    return lines


def _no_outcome_lines():
    return [
        "# No column looks like a time with its event.",
        "[endpoints.os]",
        'kind = "survival"  # or "classification", with label and positive',
        f'time = "{FILL_IN}"',
        f'unit = "{FILL_IN}"  # days, weeks, months or years',
        f'event = "{FILL_IN}"',
        f'event_values = ["{FILL_IN}"]  # the labels that mean: the event happened',
    ]


def _blocks(table, outcomes, apart, clinical_key):
    """Propose the blocks of a table: lines of TOML each; wide families of columns go apart."""
    frame = table.frame
    taken = {c for o in outcomes if o.table is table for c in (o.time, o.event)}
    later, usable, odd = [], [], []
    for column in frame:
        if column == table.key or column in taken or (table.first and column in apart):
            continue
        if named_like_outcome(column):
            later.append(column)
        elif is_usable(frame, column):
            usable.append(column)
        else:
            odd.append(column)
    families = {}
    for column in usable:
        ending = column.rpartition("_")[2]
        families.setdefault(ending if "_" in column else "", []).append(column)
    wide = {
        ending: columns
        for ending, columns in families.items()
        if ending.isalpha() and len(columns) >= _WIDE and table.first
    }
    rest = [column for column in usable if not any(column in columns for columns in wide.values())]
    blocks = []
    if rest:
        blocks.append(_block_lines(table, rest, later, odd, clinical_key))
    for ending in wide:
        blocks.append([f"[blocks.{_key(ending)}]", f'columns = ["*_{ending}"]'])
    return blocks


def _block_lines(table, columns, later, odd, clinical_key):
    frame, clinical = table.frame, table.first
    lines = [f"[blocks.{_key(table.name)}]"]
    if not clinical:
        lines.append(f"table = {_text(table.path)}")
        lines += _key_lines(table, clinical_key)
    left_out = [column for column in frame if column not in columns and column != table.key]
    if clinical or (left_out and len(columns) <= 60):
        lines += ["columns = [", *(f"    {_text(column)}," for column in columns), "]"]
    elif left_out:
        lines += ["exclude = [", *(f"    {_text(column)}," for column in left_out), "]"]
    if later:
        lines.append(
            "# Left out, named like something known only later: "
            f"{listing(map(_one_line, later), 40)}"
        )
    if odd:
        lines.append(
            "# Left out (ids, dates, free text, or always the same): "
            f"{listing(map(_one_line, odd), 40)}"
        )
    text = [column for column in columns if frame[column].dtype == object]
    text = [column for column in text if not is_boolean(frame[column])]
    if text:
        lines.append(f"categorical = [{', '.join(map(_text, text))}]  # add codes such as 0, 1, 2")
    if table.key is not None and frame[table.key].duplicated().any():
        used = frame.drop_duplicates([table.key, *columns])
        if used[table.key].duplicated().any():
            n = count(int((frame[table.key].value_counts() > 1).sum()), "patient")
            lines.append(f'pool = "{FILL_IN}"  # {n} with several rows: "mean", "max" or "first"')
    if len(columns) > 200:
        lines.append("# reduce = { pca = 64 }  # fitted inside the training part of each fold")
    return lines


def _key_lines(table, clinical_key):
    if table.key is None:
        return [f'key = "{FILL_IN}"  # no column holds the ids of the clinical table']
    default = "id" if table.path.lower().endswith(".npz") else clinical_key
    return [] if table.key == default else [f"key = {_text(table.key)}"]


def _one_line(name):
    return " ".join(str(name).split())


def _text(value):
    return json.dumps(str(value), ensure_ascii=False)


def _key(name):
    return re.sub(r"[^\w-]+", "_", str(name))
