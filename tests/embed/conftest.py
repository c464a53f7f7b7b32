"""Tests of embed need the libraries of the extra ``slides``; without them they are left out."""

import importlib.util
from pathlib import Path

MISSING = [
    name for name in ("torch", "openslide", "timm") if importlib.util.find_spec(name) is None
]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header():
    """Say why there is nothing to run."""
    if MISSING:
        return f"{Path(__file__).parent.name}: left out, because {', '.join(MISSING)} is missing"
    return None
