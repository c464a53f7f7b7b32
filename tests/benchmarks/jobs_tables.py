"""A Parquet table of patients turned into a float32 matrix: by our reader, and by others."""

import subprocess
import sys
import tempfile
from pathlib import Path

import cohorts
import numpy as np
from measure import Job


def ours(data):
    """Read the table as a cohort does."""
    from tabular_trainers.tables import read_table

    return _job(lambda path: _matrix(read_table(path, text=["patient_id"])), data)


def pandas(data):
    """Read it with pandas."""
    import pandas as pd

    return _job(lambda path: _matrix(pd.read_parquet(path)), data)


def polars(data):
    """Read it with polars, where that is installed."""
    import polars as pl

    return _job(lambda path: pl.read_parquet(path).drop("patient_id").to_numpy(), data)


def _matrix(table):
    table.pop("patient_id")
    return table.to_numpy(np.float32)


def _job(read, data):
    path = _written(data)
    read(_written(data | {"n": 300, "p": 40}))

    def facts(matrix):
        X, *_ = cohorts.load(**data)
        return {"equal": bool(matrix.dtype == np.float32 and np.array_equal(matrix, X))}

    return Job(lambda: read(path), facts)


def write(n, p, path):
    """Write a simulated cohort as Parquet."""
    import pandas as pd

    X, *_ = cohorts.load("simulated", n=n, p=p)
    table = pd.DataFrame(X, columns=[f"e{j:04d}" for j in range(p)])
    table.insert(0, "patient_id", [f"P{i:05d}" for i in range(n)])
    table.to_parquet(f"{path}.part")
    Path(f"{path}.part").rename(path)


def _written(data):
    """Give the table, written by another process: writing would leave its peak of memory here."""
    n, p = data["n"], data["p"]
    path = Path(tempfile.gettempdir()) / "tabular-trainers-benchmarks" / f"{n}-{p}.parquet"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        subprocess.run([sys.executable, __file__, str(n), str(p), str(path)], check=True)
    return path


if __name__ == "__main__":
    write(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
