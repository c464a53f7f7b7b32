"""What was computed already, by hash: a stopped run goes on, and a larger cohort pays only for new.

A folder of Parquet files, each whole or not there, of one encoder: ``key`` (sha256), ``count`` and
``vector`` (float64, all of one length).
"""

import hashlib
import platform
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tabular_trainers.embed.whole_files import written_whole


class VectorCache:
    """Vectors of one encoder by their key.

    Parameters
    ----------
    folder : path
        Made when the first vectors are put. Files of other encoders in it are left alone.
    encoder_id : str
    dim : int
        Length of a vector.
    """

    def __init__(self, folder, encoder_id, dim):
        own = hashlib.sha256(f"{encoder_id} {dim}".encode()).hexdigest()[:16]
        self._folder = Path(folder) / own
        self._facts = {"encoder_id": encoder_id}
        self._dim = dim
        self._rows = {}  # key: (file, row)
        for file in sorted(self._folder.glob("*")):
            if file.suffix != ".parquet":
                _remove_left_over(file)
                continue
            try:
                keys = pq.read_table(file, columns=["key"])["key"].to_pylist()
            except (pa.ArrowInvalid, OSError):
                continue  # damaged: what it held is computed again
            self._rows.update({key: (file, row) for row, key in enumerate(keys)})

    def __contains__(self, key):
        """Say whether the vector of a key is there."""
        return key in self._rows

    def put(self, keys, vectors, counts):
        """Keep vectors; they are on the disk, or nothing of them is, when this returns or fails.

        Parameters
        ----------
        keys : list of str
        vectors : ndarray of float64 (n, dim)
        counts : ndarray of int64 (n,)
        """
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float64).reshape(-1))
        table = pa.table(
            {
                "key": pa.array(keys, pa.string()),
                "count": pa.array(counts, pa.int64()),
                "vector": pa.FixedSizeListArray.from_arrays(flat, self._dim),
            }
        ).replace_schema_metadata(self._facts)
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{hashlib.sha256(''.join(keys).encode()).hexdigest()[:32]}.parquet"
        with written_whole(file) as partial:
            pq.write_table(table, partial, use_dictionary=False, write_statistics=False)
        for row, key in enumerate(keys):
            self._rows[key] = file, row

    def get(self, keys):
        """Read vectors.

        Parameters
        ----------
        keys : sequence of str
            All of them in the cache.

        Returns
        -------
        vectors : ndarray of float64 (n, dim)
        counts : ndarray of int64 (n,)
        """
        vectors, counts = np.empty((len(keys), self._dim)), np.empty(len(keys), np.int64)
        of_file = {}
        for place, key in enumerate(keys):
            file, row = self._rows[key]
            of_file.setdefault(file, []).append((place, row))
        for file, wanted in of_file.items():
            places, rows = map(list, zip(*wanted, strict=True))
            table = pq.read_table(file).take(rows)
            vector = table["vector"].combine_chunks().flatten().to_numpy()
            vectors[places] = vector.reshape(-1, self._dim)
            counts[places] = table["count"].to_numpy()
        return vectors, counts


def _remove_left_over(file):
    """Remove what a killed process of this computer did not finish writing."""
    node, _, pid = file.name.partition(".partial-")[2].rpartition("-")
    if pid.isdigit() and node == platform.node() and not psutil.pid_exists(int(pid)):
        file.unlink(missing_ok=True)
