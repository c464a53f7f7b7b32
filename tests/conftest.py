"""What every test shares: where real data lie, one thread each, no network, skips with a reason."""

import importlib.abc
import ipaddress
import os
import shutil
import signal
import socket
import sys
import tomllib
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

try:
    import joblib.externals.cloudpickle as cloudpickle  # joblib before 1.6 carries its own copy
except ImportError:
    import cloudpickle

ROOT = Path(__file__).resolve().parents[1]

hypothesis.settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, print_blob=False
)
hypothesis.settings.load_profile("repeatable")

NEEDS = {
    "gpu": ("nvidia-smi",),
    "slurm": ("sbatch",),
    "browser": ("chromium", "chromium-browser", "google-chrome", "chrome"),
}


PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _sources():
    """Return {module name: file} for every module that is installed."""
    folders = PYPROJECT["tool"]["setuptools"]["package-dir"]
    sources = {}
    for package in PYPROJECT["tool"]["setuptools"]["packages"]:
        folder = ROOT / folders.get(package, package.replace(".", "/"))
        for path in folder.glob("*.py"):
            stem = path.stem
            sources[package if stem == "__init__" else f"{package}.{stem}"] = path
    return dict(sorted(sources.items()))


SOURCES = _sources()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


HIDDEN_FROM_THE_CORE = (
    "h5py",
    "openslide",
    "pysam",
    "timm",
    "torch",
    "torchvision",
    "transformers",
)


class _NoTorch(importlib.abc.MetaPathFinder):
    """Hide torch from the core, also where it is installed: the core must do without."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN_FROM_THE_CORE:
            raise ModuleNotFoundError(f"No module named {name!r} (hidden from the core)", name=name)


class NetworkUseError(RuntimeError):
    """A test reached beyond this computer; not an OSError, so that no library swallows it."""


def pytest_configure(config):
    """Give libraries one thread each, before any of them is imported: pytest uses every core.

    Tests of ``embed`` run alone (``pytest tests/embed``); with any other they would share a process
    with the core's, from which torch is hidden.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # Tests in the background ignore Ctrl-C, and what they start would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    given = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    if not all(path.is_relative_to(ROOT / "tests" / "embed") for path in given):
        sys.meta_path.insert(0, _NoTorch())
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("MPLBACKEND", "Agg")
    config.option.loadscopereorder = False  # of xdist: the order is that of the function below


def pytest_collection_modifyitems(items):
    """Start files with tutorials first, then those with many tests.

    Whole files go to a process. A tutorial takes minutes, and the other processes would wait for
    one that starts last.
    """
    n_tests = Counter(item.path for item in items)
    tutorials = {item.path for item in items if item.get_closest_marker("notebook")}
    items.sort(key=lambda item: (item.path not in tutorials, -n_tests[item.path], item.path))


def pytest_report_header(config):
    """Say that one folder waits for a call of its own."""
    if any(isinstance(finder, _NoTorch) for finder in sys.meta_path):
        return "tests/embed is left out: torch is hidden from the core. Run it alone."
    return None


def pytest_generate_tests(metafunc):
    """Run a test once for every module, or once for every notebook."""
    if "module_name" in metafunc.fixturenames:
        metafunc.parametrize("module_name", SOURCES)
    if "notebook_path" in metafunc.fixturenames:
        metafunc.parametrize("notebook_path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def _first_found(programs):
    return next((path for path in map(shutil.which, programs) if path), None)


def pytest_runtest_setup(item):
    """Skip a test that needs a program which this computer lacks."""
    for marker, programs in NEEDS.items():
        if item.get_closest_marker(marker) and _first_found(programs) is None:
            pytest.skip(f"no {programs[0]} on this computer")


def _is_local(host):
    if host in ("", "localhost", None):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified  # 0.0.0.0: a server listens here


def _only_local(call):
    def guarded(self, *arguments):
        address = arguments[-1]
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise NetworkUseError(f"a test tried to reach {address}; tests use no network")
        return call(self, *arguments)

    return guarded


def _only_local_names(call):
    def guarded(host, *arguments, **options):
        name = host.decode() if isinstance(host, bytes) else host
        if not _is_local(name):
            raise NetworkUseError(f"a test asked for the address of {name}; tests use no network")
        return call(host, *arguments, **options)

    return guarded


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """Let sockets reach only this computer (kernels of notebooks listen there)."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, _only_local(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", _only_local_names(socket.getaddrinfo))
        yield


@pytest.fixture(autouse=True, scope="module")
def _functions_of_tests_travel(request):
    """Send a test's own functions to other processes by value: those cannot import test files."""
    cloudpickle.register_pickle_by_value(request.module)
    yield
    cloudpickle.unregister_pickle_by_value(request.module)


@pytest.fixture(scope="session")
def real_data():
    """Return a function that gives the folder of a real cohort, or skips and says why."""

    def folder(name):
        root = os.environ.get("TABULAR_TRAINERS_DATA")
        if not root:
            pytest.skip("TABULAR_TRAINERS_DATA is not set: no real data")
        path = Path(root).resolve() / name
        if not path.exists():
            pytest.skip(f"no {name} in the folder that TABULAR_TRAINERS_DATA names")
        return path

    return folder


@pytest.fixture(scope="session")
def chromium():
    """Return the path of a Chromium; for tests marked ``browser``, which skip without one."""
    return _first_found(NEEDS["browser"])


@pytest.fixture(scope="session")
def root():
    """Return the folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def pyproject():
    """Return pyproject.toml, parsed."""
    return PYPROJECT


@pytest.fixture(scope="session")
def sources():
    """Return {module name: file} for every module that is installed."""
    return SOURCES
