"""A store of patch vectors pooled into one row a patient: by our reader, and by others.

The store is written once into the temporary folder and stays there: 15 GB for 2,000 slides of 5,000
patches x 384 float32. Each slide is a patient.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import Job

CHECKED = 5  # slides whose means are counted again


def ours(data):
    """Pool it as the command does, and write the table."""
    from tabular_trainers.embed import pool_store

    def pool(store):
        out = store.with_suffix(".parquet")
        return pool_store(store, out, "mean", overwrite=True).path

    def facts(path):
        import pyarrow.parquet as pq

        table = pq.read_table(path).drop_columns(["patient_id"])
        return _facts(np.column_stack([column.to_numpy() for column in table.columns]), data)

    return _job(pool, data, facts)


def pandas(data):
    """Read each slide with pandas, and average."""
    import pandas as pd

    def mean(path):
        vectors = np.stack(pd.read_parquet(path, columns=["embedding"])["embedding"])
        return vectors.mean(axis=0, dtype="float64")

    return _job(lambda store: np.stack([mean(p) for p in _files(store)]), data)


def arrow(data):
    """Read each slide with Arrow, and average with NumPy."""
    import pyarrow.parquet as pq

    def mean(path):
        column = pq.read_table(path, columns=["embedding"], partitioning=None).column(0)
        flat = column.combine_chunks().flatten().to_numpy()
        return flat.reshape(-1, data["dim"]).mean(axis=0, dtype="float64")

    return _job(lambda store: np.stack([mean(p) for p in _files(store)]), data)


def polars(data):
    """Read each slide with polars, where that is installed, and average with NumPy."""
    import polars as pl

    def mean(path):
        vectors = pl.read_parquet(path, columns=["embedding"], hive_partitioning=False)
        return vectors["embedding"].to_numpy().mean(axis=0, dtype="float64")

    return _job(lambda store: np.stack([mean(p) for p in _files(store)]), data)


def _job(pool, data, facts=None):
    store = _written(data)
    pool(_written(data | {"n": 2, "patches": 30}))
    return Job(lambda: pool(store), facts or (lambda means: _facts(means, data)))


def _files(store):
    return sorted((store / "patch").glob("*.parquet"))


def _facts(means, data):
    """Hold the means of some slides against vectors made again."""
    some = np.linspace(0, data["n"] - 1, CHECKED).astype(int)
    right = np.stack([_vectors(i, **data).mean(axis=0, dtype="float64") for i in some])
    return {"largest error of a mean": float(np.abs(means[some] - right).max())}


def _vectors(i, n, patches, dim, dtype):
    """Make the vectors of one slide."""
    drawn = np.random.default_rng(0).standard_normal((patches, dim), dtype="float32")
    return (drawn * np.float32(1 + i / n) + np.float32(i / n)).astype(dtype)


def write(n, patches, dim, dtype, folder):
    """Write a store of ours."""
    import pandas as pd

    from tabular_trainers.embed.store import Recipe, SlideFacts, write_slide
    from tabular_trainers.tables import write_table

    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    recipe = Recipe("benchmark-1", {"patch_px": 256, "mpp": 0.5})
    share, place = np.zeros(patches, dtype="float32"), np.arange(patches, dtype="float64")
    columns = {"x_um": place, "y_um": place, "size_um": place * 0 + 128}
    columns |= {"tissue": share, "blur": share, "artefact": share}
    rows = []
    for i in range(n):
        slide = SlideFacts(f"s{i:05d}", f"p{i:05d}", "x.svs", 0.5, 10_000, 10_000, 1)
        write_slide(partial, columns, _vectors(i, n, patches, dim, dtype), recipe, slide)
        rows.append((slide.slide_id, slide.patient_id, "x.svs", 0.5, 10_000, 10_000, patches))
    names = ["slide_id", "patient_id", "path", "mpp", "width_px", "height_px", "n_patches"]
    frame = pd.DataFrame(rows, columns=names).assign(status="done", encoder_id="benchmark-1")
    write_table(frame, "slides", partial / "slides.parquet")
    partial.rename(folder)


def _written(data):
    """Give the store, written by another process: writing would leave its peak of memory here."""
    name = "store-{n}-{patches}-{dim}-{dtype}".format(**data)
    folder = Path(tempfile.gettempdir()) / "tabular-trainers-benchmarks" / name
    folder.parent.mkdir(exist_ok=True)
    if not folder.exists():
        command = [sys.executable, __file__, json.dumps(data), str(folder)]
        subprocess.run(command, check=True)
    return folder


if __name__ == "__main__":
    write(**json.loads(sys.argv[1]), folder=Path(sys.argv[2]))
