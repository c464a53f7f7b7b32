"""Tests of embed need the libraries of the extra ``embed``; without them they are left out."""

import importlib


def _missing(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return True
    return False


MISSING = [name for name in ("openslide", "pysam", "torch", "timm") if _missing(name)]
collect_ignore_glob = ["test_*.py", "*/test_*.py"] if MISSING else []


def pytest_report_header():
    """Say why there is nothing to run."""
    return f"tests/embed left out: no {', '.join(MISSING)}" if MISSING else None
