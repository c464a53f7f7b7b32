"""Recognise columns by their names and values: ids, sites, times, events, and what can predict."""

import re

import pandas as pd

from tabular_trainers.cohort_blocks import MANY_LEVELS
from tabular_trainers.cohort_review import ENDPOINTS
from tabular_trainers.cohort_tables import label_text

_ID = re.compile(r"(^|_)(patient|case|subject|participant|person|pid|id|barcode)(_|$|id)")
_SITE = re.compile(r"(^|_)(site|hospital|cent(er|re)|institution|clinic|tss)(_|$)")
_NOT_A_SITE = re.compile(r"tumou?r|primary|biopsy|metasta|anatom|organ|resection|disease")
_TIME = re.compile(r"(^|_)(time|days?|weeks?|months?|years?|follow|followup)(_|$)")
_NOT_A_TIME = re.compile(r"(^|_)(age|birth|diagnosis|date|point)(_|$)")
_EVENT = re.compile(
    r"(^|_)(event|status|censor\w*|dead|death|deceased|died|vital|recurrence|relapse|progression)(_|$)"
)
# Words that mean the same when a time is matched with its event.
_SAME = {
    "os": ("overall", "survival", "vital", "dead", "death", "deceased", "died", "last"),
    "rfs": ("recurrence", "relapse"),
    "pfs": ("progression",),
}
_OS_TIME = ("follow", "information", "contact")
_GENERIC = {"event", "status", "time", "to", "days", "day", "months", "month", "years", "year"}
_GENERIC |= {"tumor", "tumour", "new", "patient", "first", "dx", "date"}


def plain(name):
    """Write a column's name in lower case with underscores."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name))
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def is_id(column):
    """Whether a column is named like an id."""
    return bool(_ID.search(plain(column)))


def ids_of(values):
    """Give the known ids of a column as text."""
    return label_text(values.dropna())


def id_column(frame, others):
    """Choose the id of the clinical table: shared with others, named so, and never missing."""
    best, best_score = None, (0, 0, 0)
    for column in frame:
        values = frame[column]
        named = bool(is_id(column))
        is_text = values.dtype == object
        if values.isna().any() or not (named or (is_text and values.is_unique)):
            continue
        ids = set(ids_of(values))
        shared = sum(
            any(len(ids & set(ids_of(other[c]))) > len(ids) / 10 for c in _texts(other))
            for other in others
        )
        patient = bool(re.search(r"patient|case|subject|participant", plain(column)))
        score = (shared, 2 * patient + named, values.nunique() / len(values))
        if score > best_score:
            best, best_score = column, score
    return best


def _texts(frame):
    return [column for column in frame if frame[column].dtype == object]


def key_column(frame, key, ids):
    """Find the id column of another table by its values."""
    overlap = {column: len(ids & set(ids_of(frame[column]))) for column in _texts(frame)}
    if key in overlap and overlap[key]:
        return key
    best = max(overlap, key=overlap.get, default=None)
    return best if best is not None and overlap[best] else None


def is_event(frame, column):
    """Tell a status by its name and its few labels."""
    levels = frame[column].nunique()
    name = plain(column)
    return bool(_EVENT.search(name) or name in ENDPOINTS) and 2 <= levels <= 6


def is_time(frame, column):
    """Tell a follow-up time: a number that is known for most, not only after the event."""
    name, values = plain(column), frame[column]
    named = bool(_TIME.search(name)) and not _NOT_A_TIME.search(name)
    known = pd.api.types.is_numeric_dtype(values) and values.notna().mean() > 0.5
    return named and known and values.nunique() > 6


def match(event, time):
    """Score how well an event and a time belong together, and name the endpoint."""
    a, b = ({*plain(column).split("_")} - _GENERIC for column in (event, time))
    for name in sorted(a & b & ENDPOINTS):
        return 3, name
    for name, words in _SAME.items():
        more = _OS_TIME if name == "os" else ()
        if _any(a, (*words, name)) and _any(b, (*words, *more, name)):
            return 1 + len(a & b), name
    if any(token.startswith("censor") for token in a) and b & {"survival", "os"}:
        return 1, "os"
    if not a and not b - {"follow", "up", "followup", "fu"}:
        return 0.5, "outcome"  # named just so: event, status; time, followup_days
    shared = sorted(a & b)
    return (len(shared), shared[0]) if shared else (0, "")


def _any(tokens, words):
    return any(
        token == word or token.startswith(word) and len(word) > 3
        for token in tokens
        for word in words
    )


def site_column(frame, taken):
    """Find the column with the hospital, besides columns that are taken for something else."""
    for column in frame:
        name, levels = plain(column), frame[column].nunique()
        named = _SITE.search(name) and not _NOT_A_SITE.search(name)
        if named and column not in taken and 2 <= levels <= len(frame) / 3:
            return column
    return None


def cancer_type_column(frame):
    """Find the column with the cancer type."""
    names = ("cancer_type", "tumor_type", "tumour_type")
    return next((column for column in frame if plain(column) in names), None)


def is_usable(frame, column):
    """Whether a column can be a predictor: neither an id, a date, empty, nor always the same."""
    values = frame[column]
    levels = values.nunique()
    if (
        plain(column) in ("train", "test", "fold", "split")
        or levels < 2
        or str(column).startswith("Unnamed: ")
        or is_id(column)
    ):
        return False
    if pd.api.types.is_datetime64_any_dtype(values.dtype) or re.search(
        r"(^|_)date(_|$)", plain(column)
    ):
        return False
    if values.dtype == object:
        return levels < MANY_LEVELS and levels <= max(20, values.notna().sum() / 2)
    return True


def is_boolean(values):
    """Whether every known value is True or False."""
    return all(isinstance(value, bool) for value in values.dropna())
