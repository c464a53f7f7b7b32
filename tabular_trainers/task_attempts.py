"""One attempt at a task, wherever it is made, and what is said when it fails for good."""

import pickle
import traceback
from dataclasses import dataclass

from tabular_trainers.errors import DataError, SchemaError

ATTEMPTS = 3


@dataclass(frozen=True)
class Failure:
    """A task gave no tables.

    Attributes
    ----------
    reason : str
        In words, one line where the error has one.
    error : Exception or None
        What the task raised; None when its process died.
    """

    reason: str
    error: Exception | None = None

    @property
    def is_final(self):
        """Whether the same input must fail again: what the user has to put right."""
        return isinstance(self.error, SchemaError | DataError)


def attempt(function, context, arguments):
    """Call ``function(context, *arguments)`` on one thread; a `Failure` when it raises."""
    try:
        with one_thread():
            return function(context, *arguments)
    except Exception as error:  # noqa: BLE001 - whoever started the task decides what follows
        return raised(error)


def raised(error):
    """Say that a task raised."""
    text = str(error) if isinstance(error, SchemaError | DataError) else _named(error)
    return Failure(text, error)


def died():
    """Say that the process of a task died."""
    return Failure(f"its process died in each of {ATTEMPTS} attempts (killed, or out of memory)")


def attempt_elsewhere(function, context, arguments):
    """Do as `attempt`, and make sure that what went wrong can be sent to the first process."""
    outcome = attempt(function, context, arguments)
    if isinstance(outcome, Failure):
        return Failure(outcome.reason, _travelling(outcome.error))
    return outcome


def _travelling(error):
    """Keep the traceback as a note, since it stays behind; replace what cannot be pickled."""
    lines = "".join(traceback.format_exception(error))
    try:
        error = pickle.loads(pickle.dumps(error)).with_traceback(None)
    except Exception:  # noqa: BLE001 - whatever its class does when it is pickled
        error = RuntimeError(_named(error))
    error.add_note(f"In the process of the task:\n{lines}")
    return error


def _named(error):
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def one_thread():
    """Give the context in which a step of a run is computed: on one BLAS thread.

    The number of threads changes the order of sums, and with it the last bits; on small matrices
    they also cost several times the CPU seconds.
    """
    # Loaded first, with the BLAS and OpenMP that come with it: a library that is loaded inside the
    # block, by the first task of a process, has as many threads as it likes.
    import sklearn  # noqa: F401
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)
