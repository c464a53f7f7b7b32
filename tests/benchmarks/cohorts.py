"""Cohorts that benchmarks run on: a simulated one of any size, and the public ones."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TCGA = ("blca", "brca", "gbmlgg", "luad", "skcm", "ucec")
N_FACTORS = 60
N_HELD_OUT = 3_000
SIZES = (17_000, 100_000)  # simulated cohorts that are kept; smaller ones are their first patients
ROWS_AT_ONCE = 2_000  # so that 100,000 patients need little more memory than their float32 matrix


def outcome(event, time):
    """Give scikit-survival's structured array of events and times."""
    y = np.empty(len(time), dtype=[("event", bool), ("time", np.float64)])
    y["event"], y["time"] = event, time
    return y


def simulate(n, p, seed=0, censored=0.7):
    """Simulate a cohort of correlated columns, a non-linear risk and survival in whole days.

    Columns are sparse combinations of 60 factors, standardised. The log hazard has linear, bent and
    interacting terms of five factors, and a product of two columns; times are exponential, at the
    scale that leaves the wanted share censored.

    Returns
    -------
    X : float32 array of shape (n, p)
    y : structured array with fields event and time, shape (n,)
    """
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((n, N_FACTORS))
    loadings = rng.standard_normal((N_FACTORS, p)) * (rng.random((N_FACTORS, p)) < 0.15)
    X = np.empty((n, p), dtype=np.float32)
    for start in range(0, n, ROWS_AT_ONCE):
        own = factors[start : start + ROWS_AT_ONCE]
        X[start : start + ROWS_AT_ONCE] = own @ loadings + rng.standard_normal((len(own), p))
    X -= X.mean(axis=0, dtype=np.float64).astype(np.float32)
    X /= np.sqrt(np.einsum("ij,ij->j", X, X, dtype=np.float64) / n).astype(np.float32)
    risk = (
        0.6 * factors[:, 0]
        + 0.7 * (np.abs(factors[:, 1]) - 0.8)
        + 0.6 * factors[:, 2] * (factors[:, 3] > 0)
        + 0.4 * np.maximum(factors[:, 4], 0)
        + 0.5 * X[:, 10].astype(np.float64) * X[:, 11]
    )
    unscaled = rng.standard_exponential(n) / np.exp(risk)
    left = rng.uniform(30, 11_000, n)
    scale = np.quantile(left / unscaled, censored)  # an event where unscaled * scale <= left
    time = np.ceil(np.minimum(unscaled * scale, left))
    return X, outcome(unscaled * scale <= left, np.maximum(time, 1.0))


def tcga_folder():
    """Give the folder of the TCGA tables, or None where TABULAR_TRAINERS_DATA does not lead to it.

    For the tables and where to get them see notebooks/cohorts.
    """
    folder = Path(os.environ.get("TABULAR_TRAINERS_DATA", "")) / "tcga_porpoise"
    return folder if folder.is_dir() else None


def tcga(name):
    """Read a TCGA cohort: clinical and genomic columns of every patient, medians for missing.

    Returns
    -------
    X : float32 array of shape (n, p)
    y : structured array, shape (n,), in months
    patients : Index of patient ids, of length n
    """
    import pandas as pd

    table = pd.read_csv(tcga_folder() / f"tcga_{name}.csv.gz", low_memory=False)
    table = table.drop_duplicates("case_id").set_index("case_id")
    clinical = [c for c in ("age", "is_female", "oncotree_code") if table[c].nunique() > 1]
    genes = [column for column in table if column.endswith(("_rnaseq", "_cnv", "_mut"))]
    y = outcome(table["censorship"] == 0, table["survival_months"])
    return complete(table[clinical + genes]), y, table.index


def small(name):
    """Give a public cohort that comes with scikit-survival, as `complete` makes it."""
    from sksurv import datasets

    table, y = getattr(datasets, f"load_{name}")()
    table = table.drop(columns="chapter", errors="ignore")  # flchain: the cause of death
    event, time = y.dtype.names
    return complete(table), outcome(y[event], y[time])


def complete(table):
    """Turn text into indicators and fill what is missing with medians; float32, (n, p)."""
    import pandas as pd

    text = table.select_dtypes(exclude="number").columns
    X = pd.get_dummies(table, columns=list(text), drop_first=True).astype(np.float32)
    return X.fillna(X.median()).to_numpy(np.float32)


def load(cohort, n=None, p=None, fold=None):
    """Load a cohort for a benchmark from where another process has kept it.

    Made in the measured process, it would leave a higher peak of memory than the work itself. Kept
    in the folder tabular-trainers-benchmarks of the system's temporary one; delete that when this
    file or the tables change.

    Parameters
    ----------
    cohort : str
        ``"simulated"``, a TCGA cohort, or ``"<name>_scaled"``, with standardised columns.
    n, p : int
        Size of a simulated cohort.
    fold : int, optional
        Train on the training part of a published fold.

    Returns
    -------
    X, y : arrays of shape (n, p) and (n,)
    X_test, y_test : arrays, or None where nobody is held out
    """
    if cohort == "simulated":
        rows = next(size for size in SIZES if n <= size) + N_HELD_OUT
        stem = _kept(f"simulated-{rows}-{p}")
        y = np.load(f"{stem}.y.npy")
        X = np.fromfile(f"{stem}.X", np.float32, count=n * p).reshape(n, p)
        start = 4 * (rows - N_HELD_OUT) * p
        test = np.fromfile(f"{stem}.X", np.float32, offset=start).reshape(N_HELD_OUT, p)
        return X, y[:n], test, y[-N_HELD_OUT:]
    stem = _kept(cohort)
    y = np.load(f"{stem}.y.npy")
    X = np.fromfile(f"{stem}.X", np.float32).reshape(len(y), -1)
    if fold is None:
        return X, y, None, None
    train, test = np.load(f"{stem}.folds.npy")[fold]
    return X[train], y[train], X[test], y[test]


def keep(key, stem):
    """Make a cohort and write it in files that begin with ``stem``."""
    if key.startswith("simulated"):
        X, y = simulate(*map(int, key.split("-")[1:]))
    else:
        name, _, scaled = key.partition("_")
        X, y, patients = tcga(name)
        np.save(f"{stem}.folds.npy", _published_folds(name, patients))
        if scaled:
            scale = X.std(axis=0, dtype=np.float64)
            X = ((X - X.mean(axis=0)) / np.where(scale > 0, scale, 1)).astype(np.float32)
    np.save(f"{stem}.y.npy", y)
    X.tofile(f"{stem}.part")
    Path(f"{stem}.part").rename(f"{stem}.X")


def _published_folds(name, patients):
    """Say who is in the training and who in the held-out part, (n_folds, 2, n)."""
    import pandas as pd

    files = sorted((tcga_folder() / "splits" / f"tcga_{name}").glob("splits_*.csv"))
    parts = [pd.read_csv(file) for file in files]
    return np.array([[patients.isin(part[side]) for side in ("train", "val")] for part in parts])


def _kept(key):
    folder = Path(tempfile.gettempdir()) / "tabular-trainers-benchmarks"
    folder.mkdir(exist_ok=True)
    stem = folder / key
    if not Path(f"{stem}.X").exists():
        subprocess.run([sys.executable, __file__, key, stem], check=True)
    return stem


if __name__ == "__main__":
    keep(*sys.argv[1:])
