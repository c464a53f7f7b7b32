"""Compile a numerical kernel with numba on its first call, and cache it where that is possible."""

import functools
import logging
import threading
import types

_LOG = logging.getLogger("tabular_trainers")
_LOCK = threading.Lock()
_said = False


def compile_kernel(*signatures, fastmath=False, helpers=()):
    """Decorate a kernel: it is compiled for exactly these signatures on its first call.

    Compiling on the first call keeps numba off the path of every import; fixed signatures keep the
    number of compilations at one. Kernels release the interpreter lock and run on one thread: we
    start our own threads, and numba's default threading layer aborts when two of them call it.

    Parameters
    ----------
    *signatures : str
        Numba signatures such as ``"float64(float64[::1], int64)"``. Other argument types are a
        ``TypeError``, so callers convert first.
    fastmath : bool or set of str
        LLVM's liberties, such as ``{"reassoc", "contract"}`` for sums in the order of the vector
        registers; never ``nnan`` or ``ninf`` where a value may be missing or infinite.
    helpers : sequence of functions
        What the kernel calls, those that others call first. They must be in its own file, whose
        date tells numba whether what it has cached is stale.

    Returns
    -------
    callable
        Decorator. The undecorated function stays readable as ``kernel.__wrapped__``.
    """

    def decorate(function):
        compiled = []

        @functools.wraps(function)
        def kernel(*arguments):
            if not compiled:
                with _LOCK:
                    if not compiled:
                        compiled.append(_compile(function, signatures, fastmath, helpers))
            return compiled[0](*arguments)

        return kernel

    return decorate


def _compile(function, signatures, fastmath, helpers):
    import numba

    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    known = dict(function.__globals__)
    for helper in helpers:
        known[helper.__name__] = numba.njit(**options)(_with_globals(helper, known))
    function = _with_globals(function, known)
    try:
        return numba.njit(list(signatures), cache=True, **options)(function)
    except (RuntimeError, OSError) as error:
        # numba refuses cache=True where neither the package nor the user's home can be written to
        # (RuntimeError, at decoration), and a full disk shows only when the cache is saved.
        _say_once(error)
        return numba.njit(list(signatures), **options)(function)


def _with_globals(function, known):
    """Copy a function, so that the names it calls can mean their compiled versions."""
    copy = types.FunctionType(function.__code__, known, function.__name__)
    return functools.update_wrapper(copy, function)


def _say_once(error):
    global _said
    if not _said:
        _said = True
        _LOG.warning(
            "numba cannot cache compiled kernels (%s): each process compiles them again, which "
            "takes some seconds. Set NUMBA_CACHE_DIR to a folder that can be written to.",
            str(error).splitlines()[0] if str(error) else type(error).__name__,
        )
