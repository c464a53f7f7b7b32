import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tabular_trainers
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


FIT = """
import logging, numpy as np
logging.basicConfig()
from tabular_trainers.models import CoxRegression, RandomSurvivalForest
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
y = np.empty(60, dtype=[("event", bool), ("time", float)])
y["event"], y["time"] = rng.random(60) < 0.6, rng.exponential(np.exp(-X[:, 0]))
for model in (RandomSurvivalForest(2), CoxRegression(penalty=0.01)):
    print(np.isfinite(model.fit(X, y).predict(X)).all())
"""


@pytest.mark.slow
def test_a_read_only_install_without_a_writable_home_works(tmp_path):
    """Nothing can be cached, for root neither: a file stands where each folder would be made."""
    package = tmp_path / "tabular_trainers"
    shutil.copytree(
        Path(tabular_trainers.__file__).parent,
        package,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("")
    (tmp_path / "home").write_text("")
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        environment[name] = str(tmp_path / "home" / "nowhere")
    done = subprocess.run(
        [sys.executable, "-c", FIT], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True"]
    assert done.stderr.count("numba cannot cache compiled kernels") == 1
