"""A store: one Parquet file of patch vectors a slide, whole or not there, with its provenance.

``STORE/patch/<slide_id>.parquet`` has a row a patch (contract ``patches``) and, for encoders of
regions, ``STORE/region/<slide_id>.parquet`` a row a region (contract ``regions``). The column
``embedding`` is a fixed-size list of float16 or float32, one size a folder, and finite. Metadata
of each file says which encoder, options and slide it comes from.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tabular_trainers.errors import Problems, SchemaError, count, listing
from tabular_trainers.plain_pages import plain_values
from tabular_trainers.schema import load_schema

from .whole_files import written_whole

CONTRACTS = {"patch": "patches", "region": "regions"}  # by the folder of a store
ROW_GROUP = 1024  # rows: 1.5 MB of 384 float32, what a streaming reader holds at once

_COLUMNS = {
    "slide_id": pa.string(),
    "x_um": pa.float64(),
    "y_um": pa.float64(),
    "size_um": pa.float64(),
    "width_um": pa.float64(),
    "height_um": pa.float64(),
    "tissue": pa.float32(),
    "blur": pa.float32(),
    "artefact": pa.float32(),
    "n_patches": pa.int64(),
}


@dataclass(frozen=True)
class Recipe:
    """What decides the numbers of a store: equal for all of its slides.

    Parameters
    ----------
    encoder_id : str
        Name, revision and weights' sha256.
    options : dict
        Patch size, resolution, tissue thresholds, precision; whatever JSON can say.
    pretrained_on : tuple of str
        Data sets that the encoder saw; ``("unknown",)`` where nobody says.
    feature_names : tuple of str, optional
        Names of the dimensions, where they have any.
    """

    encoder_id: str
    options: dict
    pretrained_on: tuple = ()
    feature_names: tuple | None = None

    def metadata(self):
        """Give the entries that every file of the store carries, as text."""
        facts = {
            "encoder_id": self.encoder_id,
            "options": json.dumps(self.options, sort_keys=True),
            "pretrained_on": json.dumps(list(self.pretrained_on)),
        }
        if self.feature_names is not None:
            facts["feature_names"] = json.dumps(list(self.feature_names))
        return facts

    def differences(self, other):
        """Say what another recipe has that this one has not: a list, empty for equal ones."""
        found = []
        if other.encoder_id != self.encoder_id:
            found.append(f"encoder {other.encoder_id}, not {self.encoder_id}")
        ours, theirs = _flat(self.options), _flat(other.options)
        found += [
            f"{name} {_plain(theirs.get(name))}, not {_plain(ours.get(name))}"
            for name in sorted({*ours, *theirs})
            if ours.get(name) != theirs.get(name)
        ]
        return found


@dataclass(frozen=True)
class SlideFacts:
    """What is known of a slide: who it is, and what its file was when it was read.

    Parameters
    ----------
    slide_id, patient_id, path : str
    mpp : float
        Micrometres a pixel at the finest level.
    width_px, height_px : int
        At the finest level.
    source_bytes : int
        Size of the file; a slide whose file has another size is read anew.
    given_mpp : float, optional
        The mpp that the user gave for it.
    """

    slide_id: str
    patient_id: str
    path: str
    mpp: float
    width_px: int
    height_px: int
    source_bytes: int
    given_mpp: float | None = None


@dataclass(frozen=True)
class StoredSlide:
    """A whole file of a store, as its footer describes it; its rows are not read.

    Attributes
    ----------
    file : Path
    slide : SlideFacts
    recipe : Recipe
    n_rows, dim : int
        Patches (or regions), and the size of a vector.
    dtype : str
        ``"float16"`` or ``"float32"``.
    """

    file: Path
    slide: SlideFacts
    recipe: Recipe
    n_rows: int
    dim: int
    dtype: str


@dataclass(frozen=True)
class Store:
    """The whole files of one level of a store; all have one recipe, dimension and type.

    Attributes
    ----------
    folder : Path
    level : {"patch", "region"}
    slides : tuple of StoredSlide
        Sorted by slide_id, at least one.
    recipe : Recipe
    dim : int
    dtype : str
    """

    folder: Path
    level: str
    slides: tuple
    recipe: Recipe
    dim: int
    dtype: str


def slide_file(store, slide_id, level="patch"):
    """Name the file of a slide in a store."""
    return Path(store) / level / f"{slide_id}.parquet"


def write_slide(store, columns, embedding, recipe, slide, level="patch"):
    """Write the vectors of one slide; the file is there when it is whole, or not at all.

    Parameters
    ----------
    store : path
    columns : dict of str to ndarray
        Those of the contract but ``slide_id``, each (n,).
    embedding : ndarray (n, dim) of float16 or float32
    recipe : Recipe
    slide : SlideFacts
    level : {"patch", "region"}, default "patch"

    Returns
    -------
    StoredSlide

    Raises
    ------
    SchemaError
        When columns are missing or of the wrong length, a value is out of its bounds, or a vector
        is not finite.
    OSError
        When the disk refuses; what was written until then is removed.
    """
    path = slide_file(store, slide.slide_id, level)
    table = _as_table(columns, embedding, slide.slide_id, level)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(table, path, recipe, slide, level)
    dtype = str(embedding.dtype)
    return StoredSlide(path, slide, recipe, len(embedding), embedding.shape[1], dtype)


def relabel_slide(path, slide, level="patch"):
    """Write a slide's file anew with other facts of the slide; columns and vectors stay.

    Parameters
    ----------
    path : path
    slide : SlideFacts
    level : {"patch", "region"}, default "patch"
    """
    recipe = describe_slide(path, level).recipe
    _write_whole(pq.read_table(path, partitioning=None), Path(path), recipe, slide, level)


def describe_slide(path, level="patch"):
    """Read the footer of a slide's file.

    Returns
    -------
    StoredSlide

    Raises
    ------
    SchemaError
        When the file is not there, is not whole, or is no such file of a store.
    """
    path = Path(path)
    try:
        footer = pq.read_metadata(path)
        schema = footer.schema.to_arrow_schema()
    except FileNotFoundError as error:
        raise SchemaError(f"{path.name}: no such file in {path.parent}.") from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise SchemaError(f"{path.name}: not a whole Parquet file.") from error
    return _described(path, level, schema, footer.num_rows)


def read_slide(path, level="patch"):
    """Read all of a slide's file.

    Returns
    -------
    frame : pandas.DataFrame
        The columns of the contract.
    embedding : ndarray (n, dim)
        As stored: float16 or float32.
    """
    stored = describe_slide(path, level)
    table = pq.read_table(path, partitioning=None)
    frame = table.drop_columns(["embedding"]).to_pandas(ignore_metadata=True)
    return frame, _vectors(table.column("embedding"), stored.dim)


def iterate_vectors(path, level="patch"):
    """Yield the vectors of a slide's file, at most ROW_GROUP rows at a time.

    Yields
    ------
    ndarray (n, dim)
        As stored: float16 or float32.
    """
    with open(path, "rb") as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
        stored = _described(Path(path), level, file.schema_arrow, file.metadata.num_rows)
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            flat = plain_values(stream, group, "embedding", stored.dtype)
            if flat is None or len(flat) != group.num_rows * stored.dim:
                column = file.read_row_group(number, ["embedding"], use_threads=False).column(0)
                yield _vectors(column, stored.dim)
            else:
                yield flat.reshape(-1, stored.dim)


def list_files(store, level="patch"):
    """List the slides of a store that have a file, whole or not: {slide_id: Path}, sorted."""
    folder = Path(store) / level
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return {n.removesuffix(".parquet"): folder / n for n in names if n.endswith(".parquet")}


def open_store(store, level="patch"):
    """Read the footers of a store's files, and hold them against each other.

    Parameters
    ----------
    store : path
    level : {"patch", "region"}, default "patch"

    Returns
    -------
    Store

    Raises
    ------
    SchemaError
        When there is none, a file is not whole, or the files do not come from one encoder with
        one set of options.
    """
    store = Path(store)
    files = list_files(store, level)
    if not files:
        raise SchemaError(
            f"{store}: not a store with {CONTRACTS[level]} (no file in its folder {level}). "
            "Make one with: tabular-trainers embed slides"
        )
    problems, slides = Problems(), []
    for path in files.values():
        try:
            slides.append(describe_slide(path, level))
        except SchemaError as error:
            problems.add(str(error))
    problems.raise_if_any()
    first = slides[0]
    for stored in slides[1:]:
        differ = first.recipe.differences(stored.recipe)
        if (stored.dim, stored.dtype) != (first.dim, first.dtype):
            differ.append(f"{stored.dim} x {stored.dtype}, not {first.dim} x {first.dtype}")
        if differ:
            raise SchemaError(
                f"{store}: {stored.file.name} was not made like {first.file.name}: "
                f"{listing(differ)}. Extract one of them again, into a store of its own."
            )
    return Store(store, level, tuple(slides), first.recipe, first.dim, first.dtype)


def _write_whole(table, path, recipe, slide, level):
    facts = _file_facts(recipe, slide, level)
    with written_whole(path) as partial:
        pq.write_table(
            table.replace_schema_metadata(dict(sorted(facts.items()))),
            partial,
            row_group_size=ROW_GROUP,
            # vectors hardly shrink, and unpacking them would double the cost of reading
            compression={name: "none" if "." in name else "zstd" for name in _leaves(table.schema)},
            use_dictionary=["slide_id"],
            write_statistics=False,
        )


def _as_table(columns, embedding, slide_id, level):
    """Check columns and vectors against the contract and lay them out for Arrow."""
    name = CONTRACTS[level]
    fields = load_schema(name)["fields"]
    where, n = f"{level}/{slide_id}.parquet", len(embedding)
    problems = Problems()
    columns = {"slide_id": np.repeat(slide_id, n)} | columns
    wrong = sorted({field["name"] for field in fields} ^ set(columns))
    if wrong:
        problems.add(f"{where}: column {listing(map(repr, wrong))} is missing or too many.")
        problems.raise_if_any()
    for field in fields:
        values, rules = np.asarray(columns[field["name"]]), field["constraints"]
        if values.shape != (n,):
            problems.add(f"{where}, column {field['name']}: shape {values.shape}, expected ({n},).")
        elif field["type"] != "string":
            low, high = rules["minimum"], rules.get("maximum", np.inf)
            bad = np.count_nonzero(~((values >= low) & (values <= high) & np.isfinite(values)))
            if bad:
                problems.add(
                    f"{where}, column {field['name']}: {bad} of {count(n, 'row')} not within "
                    f"{low} and {high}."
                )
    if embedding.ndim != 2 or str(embedding.dtype) not in ("float16", "float32"):
        problems.add(
            f"{where}, column embedding: {embedding.dtype} of shape {embedding.shape}; expected "
            "float16 or float32 of shape (n, dim)."
        )
    elif not np.isfinite(embedding).all():
        problems.add(f"{where}, column embedding: not all values are finite.")
    problems.raise_if_any()
    # not nullable: fewer levels to decode
    kind = pa.list_(
        pa.field("element", pa.from_numpy_dtype(embedding.dtype), nullable=False),
        embedding.shape[1],
    )
    flat = pa.array(np.ascontiguousarray(embedding).reshape(-1))
    arrays = [
        pa.array(np.asarray(columns[field["name"]]), type=_COLUMNS[field["name"]])
        for field in fields
    ]
    schema = pa.schema(
        [
            *(pa.field(f["name"], _COLUMNS[f["name"]], nullable=False) for f in fields),
            pa.field("embedding", kind, nullable=False),
        ]
    )
    vectors = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.Table.from_arrays([*arrays, vectors], schema=schema)


def _leaves(schema):
    """Name the columns as Parquet does: the elements of the vectors have a name of their own."""
    return [
        f"{field.name}.list.element" if pa.types.is_fixed_size_list(field.type) else field.name
        for field in schema
    ]


def _file_facts(recipe, slide, level):
    from tabular_trainers import __version__

    facts = {
        "schema": CONTRACTS[level],
        "schema_version": load_schema(CONTRACTS[level])["version"],
        "package_version": __version__,
        **recipe.metadata(),
        "slide_id": slide.slide_id,
        "patient_id": slide.patient_id,
        "path": slide.path,
        "slide_mpp": repr(float(slide.mpp)),
        "width_px": str(slide.width_px),
        "height_px": str(slide.height_px),
        "source_bytes": str(slide.source_bytes),
    }
    if slide.given_mpp is not None:
        facts["given_mpp"] = repr(float(slide.given_mpp))
    return facts


def _described(path, level, schema, n_rows):
    name = CONTRACTS[level]
    facts = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    expected = [field["name"] for field in load_schema(name)["fields"]]
    kind = schema.field("embedding").type if "embedding" in schema.names else None
    if (
        facts.get("schema") != name
        or schema.names != [*expected, "embedding"]
        or not pa.types.is_fixed_size_list(kind)
    ):
        raise SchemaError(f"{path.name}: a Parquet file, but not the {name} of a slide.")
    names = json.loads(facts["feature_names"]) if "feature_names" in facts else None
    recipe = Recipe(
        facts["encoder_id"],
        json.loads(facts["options"]),
        tuple(json.loads(facts["pretrained_on"])),
        None if names is None else tuple(names),
    )
    slide = SlideFacts(
        facts["slide_id"],
        facts["patient_id"],
        facts["path"],
        float(facts["slide_mpp"]),
        int(facts["width_px"]),
        int(facts["height_px"]),
        int(facts["source_bytes"]),
        float(facts["given_mpp"]) if "given_mpp" in facts else None,
    )
    dtype = str(np.dtype(kind.value_type.to_pandas_dtype()))
    return StoredSlide(path, slide, recipe, n_rows, kind.list_size, dtype)


def _vectors(column, dim):
    parts = [chunk.flatten().to_numpy(zero_copy_only=True) for chunk in column.chunks]
    flat = parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0)])
    return flat.reshape(-1, dim)


def _flat(options, prefix=""):
    """Flatten nested options: {"tissue.closing_um": ...}."""
    flat = {}
    for name, value in options.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _plain(value):
    return "unset" if value is None else str(value)
