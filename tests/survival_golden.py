"""Golden statistics of R, made by golden/survival_statistics.R, as the tests use them."""

import json
from pathlib import Path

import numpy as np

GOLDEN = json.loads(
    (Path(__file__).parent / "golden" / "survival_statistics.json").read_text(encoding="utf-8")
)
PATIENTS = {name: np.array(values) for name, values in GOLDEN["patients"].items()}


def outcome(time, event, entry=None):
    """Build a structured survival outcome."""
    fields = [("event", bool), ("time", float)] + ([("entry", float)] if entry is not None else [])
    y = np.zeros(len(time), dtype=fields)
    y["time"], y["event"] = time, event
    if entry is not None:
        y["entry"] = entry
    return y


def golden_outcome(time="time", entry=False):
    """Outcome of the golden patients."""
    return outcome(PATIENTS[time], PATIENTS["event"], PATIENTS["entry"] if entry else None)


def simulated(n, seed=0, sites=None):
    """Outcome without ties, true risk, and sites, of n simulated patients in days."""
    random = np.random.default_rng(seed)
    risk = random.normal(size=n)
    time, censoring = random.exponential(1500 * np.exp(-risk)), random.uniform(200, 3500, n)
    y = outcome(np.minimum(time, censoring), time <= censoring)
    site = None if sites is None else np.array([f"site {i}" for i in random.integers(0, sites, n)])
    return y, risk, site
