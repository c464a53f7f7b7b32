"""The patches of a store that scoring uses, held in memory: every fold asks for them again."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tabular_trainers.errors import count
from tabular_trainers.patch_sample import shared_out, slide_generator
from tabular_trainers.patch_store import PatchStore, open_patches

HELD_BYTES = 2 << 30  # of vectors of one store, in each process
KEPT_STORES = 2  # as many blocks may be of a store each
_SEED = 0
_STORES, _LOCK = {}, threading.Lock()


@dataclass(frozen=True, eq=False)
class HeldPatches(PatchStore):
    """A store as `PatchStore`, whose vectors are read once; of a large one not all are used.

    Where the vectors of all patients would take more than 2 GiB, as many of each patient are used
    as fit, as many of each of its slides, drawn at random once. How many depends on the sizes of
    the slides alone, and which ones on the slide's own id.

    Attributes
    ----------
    whole : PatchStore
        The store; ``slides`` here has the patches that are used.
    state : tuple
        The folder, and when it was last written to: what is computed of these patches is kept
        under it.
    """

    whole: PatchStore = None
    state: tuple = ()
    _vectors: dict = field(default_factory=dict)

    def iterate(self, slide_id):
        """Yield the vectors of a slide that are used, as one block of float32."""
        held = self._vectors.get(slide_id)
        if held is None:
            held = self._read(slide_id)
            self._vectors[slide_id] = held
        yield held.astype("float32", copy=False)

    def _read(self, slide_id):
        used = dict(zip(self.slides["slide_id"], self.slides["n_patches"], strict=True))[slide_id]
        vectors = self.whole.vectors(slide_id)
        if used < len(vectors):
            rows = slide_generator(slide_id, _SEED).permutation(len(vectors))[:used]
            vectors = vectors[np.sort(rows)]
        return vectors.astype(self.dtype, copy=False)  # as stored, which loses nothing

    def note(self):
        """Say which patches are used where that is not all of them; else None."""
        if self.n_patches == self.whole.n_patches:
            return None
        most = int(self.slides.groupby("patient_id")["n_patches"].sum().max())
        return (
            f"{self.n_patches:,} of {count(self.whole.n_patches, 'patch', 'patches')} are used, at "
            f"most {most:,} of each patient, drawn evenly from its slides: all of them would take "
            f"more than {HELD_BYTES / 2**30:g} GiB of memory."
        )


def hold(patches, state=()):
    """Choose which patches of an opened store are used; none is read yet.

    Parameters
    ----------
    patches : PatchStore
    state : tuple
        Of the store's files.

    Returns
    -------
    HeldPatches
    """
    slides = patches.slides
    each = patches.dim * np.dtype(patches.dtype).itemsize
    used = shared_out(slides["n_patches"], slides["patient_id"], HELD_BYTES // each)
    slides = slides.assign(n_patches=used)[used > 0].reset_index(drop=True)
    facts = {name: getattr(patches, name) for name in PatchStore.__dataclass_fields__}
    return HeldPatches(**{**facts, "slides": slides}, whole=patches, state=state)


def held_patches(store):
    """Give the held patches of a store, opened once in a process while the store stays as it is.

    Parameters
    ----------
    store : path

    Returns
    -------
    HeldPatches
    """
    files = Path(store) / "slides.parquet", Path(store) / "patch"
    written = (path.stat().st_mtime_ns if path.exists() else None for path in files)
    state = (str(store), *written)
    with _LOCK:
        found = _STORES.get(str(store))
        if found is None or found.state != state:
            found = _STORES[str(store)] = hold(open_patches(store), state)
            while len(_STORES) > KEPT_STORES:
                del _STORES[next(iter(_STORES))]
        return found
