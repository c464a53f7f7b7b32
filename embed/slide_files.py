"""Find the slides of a store again, to cut pictures from them."""

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tabular_trainers.errors import SchemaError, listing
from tabular_trainers.tables import read_table, table_name

from .slide_cache import SlideCache
from .slide_list import list_slides
from .slide_reading import open_slide

_CACHE_BYTES = 50 * 10**9


@dataclass(frozen=True)
class SlideFiles:
    """Where the slides of a store are.

    Attributes
    ----------
    paths : dict of str to str
        Path or URI by slide_id, of those that were found.
    missing : tuple of str
        Ids of those that were not.
    facts : dict of str to (float, int, int)
        Micrometres a pixel, width and height in pixels, as the store has them.
    """

    paths: dict
    missing: tuple = ()
    facts: dict = field(default_factory=dict)

    def __contains__(self, slide_id):
        """Tell whether a slide was found."""
        return slide_id in self.paths

    @contextlib.contextmanager
    def open(self, slide_id):
        """Open a slide with the resolution that the store was made with.

        Yields
        ------
        Slide

        Raises
        ------
        SchemaError
            When the slide was not found, cannot be opened, or has another size than in the store.
        OSError
            When it cannot be fetched.
        """
        if slide_id not in self.paths:
            raise SchemaError(f"slide {slide_id}: its file was not found.")
        path, (mpp, *size) = self.paths[slide_id], self.facts[slide_id]
        cache = SlideCache(Path(tempfile.gettempdir()) / "slides", _CACHE_BYTES)
        with cache.local(path) as local, open_slide(local, mpp=mpp) as slide:
            if [slide.width_px, slide.height_px] != size:
                raise SchemaError(
                    f"slide {slide_id}: {table_name(path)} has {slide.width_px:,} x "
                    f"{slide.height_px:,} pixels, but the slide in the store has "
                    f"{size[0]:,} x {size[1]:,}; it is another slide."
                )
            yield slide

    def words(self):
        """Say how many were found, and which were not."""
        n = len(self.paths) + len(self.missing)
        if not self.missing:
            return f"{n:,} of {n:,} slides found"
        return f"{len(self.paths):,} of {n:,} slides found; not found: {listing(self.missing)}"


def find_slides(store, slides=None):
    """Find the slides that the patches of a store were cut from.

    Parameters
    ----------
    store : path
        Its ``slides.parquet`` says where they were; a relative path is tried from the working
        folder, then from the folders above the store.
    slides : path, str or sequence of them, optional
        Where they are now, as for ``embed slides``: a folder, a glob or a CSV. They are recognised
        by their slide_id, else by the file name that the store knows.

    Returns
    -------
    SlideFiles
        Slides without patches are left out. One that is not there is no error: it is ``missing``.

    Raises
    ------
    SchemaError
        When ``slides`` names no slides, or the same one twice.
    """
    store = Path(store)
    table = read_table(str(store / "slides.parquet"))
    table = table[(table["status"] == "done") & (table["n_patches"] > 0)]
    given = {} if slides is None else _given(slides)
    paths, missing, facts = {}, [], {}
    for row in table.sort_values("slide_id").itertuples():
        if slides is None:
            path = _known_place(str(row.path), store)
        else:
            path = given.get(row.slide_id) or given.get(table_name(str(row.path)))
        facts[row.slide_id] = (float(row.mpp), int(row.width_px), int(row.height_px))
        if path is None:
            missing.append(row.slide_id)
        else:
            paths[row.slide_id] = path
    return SlideFiles(paths, tuple(missing), facts)


def _given(slides):
    """List slides under their ids and, behind these, their file names."""
    sources = list_slides(slides)
    found = {table_name(source.path): source.path for source in sources}
    return found | {source.slide_id: source.path for source in sources}


def _known_place(path, store):
    if "://" in path or Path(path).is_absolute():
        return path if "://" in path or Path(path).exists() else None
    folders = [Path(), *store.absolute().parents]
    return next((str(folder / path) for folder in folders if (folder / path).exists()), None)
