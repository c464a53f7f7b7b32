"""A small store of patches written by hand, as ``embed slides`` does, and its pooled table."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tabular_trainers.tables import write_table

ENCODER = "drawn-1"
STATISTICS = {
    "mean": {"": lambda v: v.mean(axis=0)},
    "mean+std": {"": lambda v: v.mean(axis=0), "_std": lambda v: v.std(axis=0)},
    "max": {"_max": lambda v: v.max(axis=0)},
    "quantiles": {
        f"_q{round(100 * q)}": lambda v, q=q: np.quantile(v, q, axis=0)
        for q in (0.1, 0.25, 0.5, 0.75, 0.9)
    },
}


def write_store(folder, slides, dtype="float32", feature_names=None, encoder_id=ENCODER):
    """Write a store.

    Parameters
    ----------
    folder : Path
    slides : dict of str to (str, ndarray (n, dim))
        By slide_id: patient_id and the vectors of its patches.
    dtype : {"float32", "float16"}
    feature_names : sequence of str, optional
    encoder_id : str

    Returns
    -------
    Path
    """
    (folder / "patch").mkdir(parents=True)
    rows = []
    for slide_id, (patient_id, vectors) in slides.items():
        n, dim = vectors.shape
        if n:
            _write_slide(folder, slide_id, patient_id, vectors, dtype, feature_names, encoder_id)
        rows.append(
            {
                "slide_id": slide_id,
                "patient_id": patient_id,
                "path": f"{slide_id}.svs",
                "mpp": 0.5,
                "width_px": 4096,
                "height_px": 4096,
                "n_patches": n,
                "status": "done" if n else "no tissue",
                "encoder_id": encoder_id,
            }
        )
    write_table(pd.DataFrame(rows), "slides", folder / "slides.parquet")
    return folder


def _write_slide(folder, slide_id, patient_id, vectors, dtype, feature_names, encoder_id):
    n, dim = vectors.shape
    flat = pa.array(vectors.astype(dtype).ravel())
    frame = {
        "slide_id": pa.array([slide_id] * n),
        "x_um": pa.array(128.0 * (np.arange(n) % 10)),
        "y_um": pa.array(128.0 * (np.arange(n) // 10)),
        "size_um": pa.array(np.full(n, 128.0)),
        "tissue": pa.array(np.ones(n, "float32")),
        "blur": pa.array(np.zeros(n, "float32")),
        "artefact": pa.array(np.zeros(n, "float32")),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, dim),
    }
    facts = {
        "schema": "patches",
        "schema_version": "1",
        "package_version": "0",
        "encoder_id": encoder_id,
        "options": json.dumps({"mpp": 0.5, "patch_px": 256}),
        "pretrained_on": "[]",
        "slide_id": slide_id,
        "patient_id": patient_id,
        "path": f"{slide_id}.svs",
        "slide_mpp": "0.5",
        "width_px": "4096",
        "height_px": "4096",
        "source_bytes": "1",
    }
    if feature_names is not None:
        facts["feature_names"] = json.dumps(list(feature_names))
    table = pa.table(frame).replace_schema_metadata(facts)
    pq.write_table(table, folder / "patch" / f"{slide_id}.parquet", row_group_size=16)


def pool_by_hand(slides, out, how="mean", by="slide", dtype="float32", encoder_id=ENCODER):
    """Write the table that ``embed pool`` makes of these slides."""
    statistics = STATISTICS[how]
    bags = {}
    for patient_id, vectors in slides.values():
        if len(vectors):
            bags.setdefault(patient_id, []).append(vectors.astype(dtype).astype("float64"))
    rows = {}
    for patient_id, own in sorted(bags.items()):
        units = own if by == "slide" else [np.concatenate(own)]
        found = [np.concatenate([s(unit) for s in statistics.values()]) for unit in units]
        rows[patient_id] = np.mean(found, axis=0)
    dim = next(v.shape[1] for _, v in slides.values())
    names = [f"e{j:03d}{suffix}" for suffix in statistics for j in range(dim)]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    frame = frame.rename_axis("patient_id").reset_index()
    facts = {
        "encoder_id": encoder_id,
        "pretrained_on": "[]",
        "how": how,
        "level": "patch",
        "by": by,
    }
    pq.write_table(pa.Table.from_pandas(frame).replace_schema_metadata(facts), out)
    return out
