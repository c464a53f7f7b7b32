"""The errors a user can catch, and the phrases that every message is made of.

A message says where, what, how many, which, what was expected and what to do. It may show row
numbers (data rows, the first is row 1), patient ids and column names, never other patient values;
the distinct labels of an event or categorical column are the one exception.
"""

import difflib

SHOWN = 10  # at most this many rows, ids or labels in one message
LABEL_WIDTH = 40


class SchemaError(ValueError):
    """A file breaks its contract: a column, type, value or setting is not what was declared."""


class DataError(ValueError):
    """The content cannot answer the question: no events, no comparable pair, no common patient."""


class TaskFailedError(RuntimeError):
    """The process of a task died whenever it was tried; nothing is wrong with the input."""


class ClusterError(RuntimeError):
    """The cluster that carried out tasks is gone; what was finished is kept."""


class Problems:
    """Collect every problem of an input, then raise them as one error.

    Examples
    --------
    >>> problems = Problems()
    >>> problems.add("clinical.csv: no column 'age'.")
    >>> problems.raise_if_any()
    Traceback (most recent call last):
    ...
    tabular_trainers.errors.SchemaError: clinical.csv: no column 'age'.
    """

    def __init__(self):
        self.messages = []
        self.kind = SchemaError

    def add(self, message, kind=SchemaError):
        """Add one message; the first one decides which of the two errors is raised."""
        if not self.messages:
            self.kind = kind
        if message not in self.messages:
            self.messages.append(message)

    def raise_if_any(self):
        """Raise all messages as one error, or return when there are none."""
        if len(self.messages) == 1:
            raise self.kind(self.messages[0])
        if self.messages:
            lines = "\n".join(f"- {message}" for message in self.messages)
            raise self.kind(f"{len(self.messages)} problems:\n{lines}")


def listing(items, shown=SHOWN):
    """Join items with commas, at most ``shown`` of them.

    Examples
    --------
    >>> listing([3, 4, 5], shown=2)
    '3, 4 and 1 more'
    """
    items = [str(item) for item in items]
    text = ", ".join(items[:shown])
    return text if len(items) <= shown else f"{text} and {len(items) - shown} more"


def count(number, noun, plural=None):
    """Write a number with its noun.

    Examples
    --------
    >>> count(1, "patient"), count(1200, "patient")
    ('1 patient', '1,200 patients')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def rows(positions):
    """Name data rows by number, given their zero-based positions; the first data row is row 1.

    Examples
    --------
    >>> rows([11, 87])
    'rows 12, 88'
    """
    positions = list(positions)
    return ("row " if len(positions) == 1 else "rows ") + listing(int(i) + 1 for i in positions)


def the_folder(path):
    """Name a folder; the current one as such, because a lone dot reads like a full stop.

    Examples
    --------
    >>> the_folder("."), the_folder("tables")
    ('the current folder', 'tables')
    """
    return "the current folder" if str(path) in ("", ".") else str(path)


def labels(values):
    """Show distinct labels of an event or categorical column: at most 10, each of 40 characters."""
    seen = list(dict.fromkeys(str(value) for value in values))
    return listing(repr(v if len(v) <= LABEL_WIDTH else v[: LABEL_WIDTH - 1] + "…") for v in seen)


def nearest(name, known):
    """Say which known name is nearest, as a sentence to append; empty when none is near.

    Examples
    --------
    >>> nearest("coxx", ["cox", "rsf"])
    " Did you mean 'cox'?"
    """
    lower = {str(k).lower(): k for k in known}
    found = difflib.get_close_matches(str(name).lower(), list(lower), n=1, cutoff=0.5)
    return f" Did you mean {str(lower[found[0]])!r}?" if found else ""


def unknown_name(what, name, known):
    """Say that a name is unknown, list the known ones and name the nearest.

    Examples
    --------
    >>> unknown_name("model", "coxx", ["cox", "rsf"])
    "unknown model 'coxx'; known: cox, rsf. Did you mean 'cox'?"
    """
    return f"unknown {what} {name!r}; known: {listing(known, 20)}.{nearest(name, known)}"
