"""Write small stores by hand, without the extra that writes real ones: contracts are all it takes.

`tests/embed/test_pool.py` and others prove that `embed slides` writes by the same contracts.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

PATCH_UM = 128.0


def write_patches(path, slide_id, patient_id, vectors, quality=None, encoder_id="drawn-1", **facts):
    """Write the patches of one slide, on a grid ten wide; ``quality`` gives blur and artefact."""
    n, dim = vectors.shape
    quality = quality or {}
    place = np.arange(n)
    kind = pa.list_(
        pa.field("element", pa.from_numpy_dtype(vectors.dtype), nullable=False), list_size=dim
    )
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    columns = {
        "slide_id": pa.array([slide_id] * n, pa.string()),
        "x_um": pa.array(place % 10 * PATCH_UM),
        "y_um": pa.array(place // 10 * PATCH_UM),
        "size_um": pa.array(np.full(n, PATCH_UM)),
        "tissue": pa.array(np.ones(n, dtype="float32")),
        "blur": pa.array(np.full(n, quality.get("blur", 0), dtype="float32")),
        "artefact": pa.array(np.full(n, quality.get("artefact", 0), dtype="float32")),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, type=kind),
    }
    known = {
        "schema": "patches",
        "schema_version": "1",
        "package_version": "0.1.0",
        "encoder_id": encoder_id,
        "options": json.dumps({"patch_px": 256, "mpp": 0.5}),
        "pretrained_on": "[]",
        "slide_id": slide_id,
        "patient_id": patient_id,
    }
    table = pa.table(columns).replace_schema_metadata(known | facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=1024)


def write_store(folder, bags, quality=None, **facts):
    """Write a store.

    Parameters
    ----------
    folder : path
    bags : dict of str to (str, ndarray)
        By slide: its patient and its vectors (n, dim) of float16 or float32; n may be 0.
    quality : dict of str to dict, optional
        By slide: ``blur`` and ``artefact`` of its patches, numbers or arrays (n,).
    **facts
        ``encoder_id`` and other metadata of every file.

    Returns
    -------
    Path
        The folder.
    """
    folder, rows = Path(folder), []
    for slide_id, (patient_id, vectors) in bags.items():
        if len(vectors):
            path = folder / "patch" / f"{slide_id}.parquet"
            own = (quality or {}).get(slide_id)
            write_patches(path, slide_id, patient_id, vectors, own, **facts)
        rows.append(
            {
                "slide_id": slide_id,
                "patient_id": patient_id,
                "path": f"{slide_id}.svs",
                "mpp": 0.5,
                "width_px": 10_000,
                "height_px": 10_000,
                "n_patches": len(vectors),
                "status": "done" if len(vectors) else "no tissue",
                "encoder_id": facts.get("encoder_id", "drawn-1"),
            }
        )
    table = pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False)
    pq.write_table(table.replace_schema_metadata({"schema": "slides"}), folder / "slides.parquet")
    return folder


def tissue_bags(n_patients=20, n_slides=1, n_patches=40, k=4, dim=6, seed=0, dtype="float32"):
    """Draw bags of patches of k kinds of tissue, well apart, in shares that differ by patient.

    Returns
    -------
    bags : dict
        For `write_store`.
    kinds : dict of str to ndarray (n_patches,)
        By slide: the kind of each patch.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 10, (k, dim))
    bags, kinds = {}, {}
    for patient in range(1, n_patients + 1):
        share = rng.dirichlet(np.ones(k))
        for slide in range(1, n_slides + 1):
            kind = rng.choice(k, n_patches, p=share)
            vectors = centres[kind] + rng.normal(0, 0.5, (n_patches, dim))
            name = f"P{patient:03d}-{slide}"
            bags[name] = f"P{patient:03d}", vectors.astype(dtype)
            kinds[name] = kind
    return bags, kinds
