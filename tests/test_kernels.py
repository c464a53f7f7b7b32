import logging
import threading

import numpy as np
import pytest

from tabular_trainers import kernels


def total(values):
    result = 0.0
    for value in values:
        result += value
    return result


SIGNATURE = "float64(float64[::1])"


def test_a_kernel_compiles_once_on_its_first_call_also_from_two_threads(monkeypatch):
    compiled = []
    monkeypatch.setattr(kernels, "_compile", lambda *args: compiled.append(args) or total)
    kernel = kernels.compile_kernel(SIGNATURE)(total)
    assert not compiled
    threads = [threading.Thread(target=kernel, args=(np.ones(3),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == 1
    assert kernel(np.ones(3)) == 3.0
    assert kernel.__wrapped__ is total


def test_where_nothing_can_be_cached_it_compiles_and_says_so_once(monkeypatch, caplog):
    import numba

    made = []

    def njit(signatures, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'total': no locator available")
        made.append((signatures, options))
        return lambda function: function

    monkeypatch.setattr(numba, "njit", njit)
    monkeypatch.setattr(kernels, "_said", False)
    with caplog.at_level(logging.WARNING, logger="tabular_trainers"):
        for _ in range(2):
            assert kernels.compile_kernel(SIGNATURE)(total)(np.ones(4)) == 4.0
    assert len(made) == 2
    assert all(options["nogil"] for _, options in made)
    (record,) = caplog.records
    assert "numba cannot cache compiled kernels" in record.message
    assert "NUMBA_CACHE_DIR" in record.message


def test_other_argument_types_are_refused():
    from tabular_trainers.censoring import _product_limit

    with pytest.raises(TypeError):
        _product_limit(np.arange(3))
