"""The patches of a store: whose they are and where they lie; vectors are read slide by slide.

A store is what ``embed slides`` writes: ``STORE/slides.parquet`` (contract ``slides``) and
``STORE/patch/<slide_id>.parquet`` (contract ``patches``, and a column ``embedding`` of vectors of
one length). It may be larger than memory: nothing here holds more than one slide.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tabular_trainers.errors import DataError, Problems, SchemaError, count, listing, unknown_name
from tabular_trainers.plain_pages import plain_values
from tabular_trainers.schema import load_schema
from tabular_trainers.tables import read_written

_DTYPES = ("float16", "float32")
_AGAIN = "Run embed slides again: it writes what is missing."


@dataclass(frozen=True, eq=False)
class PatchStore:
    """The slides of a store that have patches; all come from one encoder with one set of options.

    Small, and can be sent to other processes: vectors are read when they are asked for.

    Attributes
    ----------
    folder : Path
    slides : DataFrame
        ``slide_id``, ``patient_id``, ``n_patches``, ``file`` (its path as text), sorted by patient
        and slide.
    dim : int
        Length of a vector.
    dtype : {"float16", "float32"}
        What is stored; vectors are given as float32, which loses nothing.
    encoder_id : str
    options : dict
        With which the patches were cut and encoded, such as ``patch_px`` and ``mpp``.
    pretrained_on : tuple of str
        ``()``: not trained; ``("unknown",)``: nobody says.
    feature_names : tuple of str or None
        Names of the dimensions, where they have any.
    """

    folder: Path
    slides: pd.DataFrame
    dim: int
    dtype: str
    encoder_id: str
    options: dict
    pretrained_on: tuple
    feature_names: tuple | None

    @property
    def patients(self):
        """Patients with at least one patch: an Index of text, sorted."""
        return pd.Index(self.slides["patient_id"].unique(), name="patient_id")

    @property
    def n_patches(self):
        """Patches of all slides."""
        return int(self.slides["n_patches"].sum())

    @property
    def source_hash(self):
        """sha256 of the slides' ids, patients and sizes, the encoder and its options.

        Vectors are not read for it: extracted again with the same encoder and options, a store
        has the same hash.
        """
        facts = [
            self.encoder_id,
            self.options,
            self.dim,
            self.dtype,
            self.slides[["slide_id", "patient_id", "n_patches"]].to_numpy().tolist(),
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def slides_of(self, patients):
        """Give the rows of ``slides`` of some patients.

        Parameters
        ----------
        patients : sequence of str or None
            None: all.

        Raises
        ------
        DataError
            When some have no patch in this store.
        """
        if patients is None:
            return self.slides
        wanted = pd.Index(patients)
        lacking = wanted[~wanted.isin(self.slides["patient_id"])]
        if len(lacking):
            raise DataError(
                f"{self.folder.name}: {count(len(lacking), 'patient')} without any patch in it: "
                f"{listing(lacking)}."
            )
        return self.slides[self.slides["patient_id"].isin(wanted)]

    def iterate(self, slide_id):
        """Yield the vectors of a slide in blocks, in the order of its rows.

        Yields
        ------
        ndarray (n, dim) of float32

        Raises
        ------
        SchemaError
            When a vector is not finite.
        """
        with open(self._file(slide_id), "rb") as stream, pq.ParquetFile(stream) as file:
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                flat = plain_values(stream, group, "embedding", self.dtype)
                if flat is None or len(flat) != group.num_rows * self.dim:
                    column = file.read_row_group(number, ["embedding"], use_threads=False).column(0)
                    flat = np.concatenate([c.flatten().to_numpy() for c in column.chunks])
                block = flat.reshape(-1, self.dim).astype("float32")
                if not np.isfinite(block).all():
                    raise SchemaError(
                        f"patch/{slide_id}.parquet: vectors that are not finite; extract this "
                        "slide again."
                    )
                yield block

    def vectors(self, slide_id):
        """Read the vectors of a slide.

        Returns
        -------
        ndarray (n_patches, dim) of float32
        """
        return np.concatenate(list(self.iterate(slide_id)))

    def frame(self, slide_id):
        """Read where the patches of a slide lie and how good they are.

        Returns
        -------
        DataFrame
            ``x_um``, ``y_um`` (left upper corner), ``size_um``, ``tissue``, ``blur``,
            ``artefact``: the contract ``patches``, in the order of the vectors.
        """
        names = [field["name"] for field in load_schema("patches")["fields"]]
        columns = [name for name in names if name != "slide_id"]
        with pq.ParquetFile(self._file(slide_id)) as file:
            return file.read(columns, use_threads=False).to_pandas(ignore_metadata=True)

    def _file(self, slide_id):
        path = self.folder / "patch" / f"{slide_id}.parquet"
        if not path.is_file():
            known = list(self.slides["slide_id"])
            if slide_id in known:
                raise SchemaError(f"patch/{path.name}: no such file. {_AGAIN}")
            raise SchemaError(unknown_name("slide", slide_id, known))
        return path


def open_patches(store):
    """Read the list of slides of a store and the footers of their files; no vector is read.

    Parameters
    ----------
    store : path
        A folder as ``embed slides`` writes it.

    Returns
    -------
    PatchStore

    Raises
    ------
    SchemaError
        With everything that is wrong: no store, a slide's file that is missing, torn or of another
        contract, files that were not made alike.
    DataError
        When no slide has a patch.
    """
    store = Path(store)
    listed = store / "slides.parquet"
    if not listed.is_file():
        raise SchemaError(
            f"{store}: not a store (no slides.parquet in it). Make one with: tabular-trainers "
            "embed slides"
        )
    slides = read_written(listed, "slides")
    slides = slides[slides["n_patches"] > 0]
    if slides.empty:
        raise DataError(f"{store.name}: no slide has a patch; failures.parquet says why.")
    slides = slides.sort_values(["patient_id", "slide_id"], ignore_index=True)
    slides = slides[["slide_id", "patient_id", "n_patches"]].assign(
        file=[str(store / "patch" / f"{slide}.parquet") for slide in slides["slide_id"]]
    )
    problems, made = Problems(), {}
    for row in slides.itertuples():
        try:
            made.setdefault(_footer(row), []).append(row.slide_id)
        except SchemaError as error:
            problems.add(str(error))
    if len(made) > 1:
        problems.add(_differences(store.name, made))
    problems.raise_if_any()
    encoder_id, options, dim, dtype, pretrained_on, names = next(iter(made))
    return PatchStore(
        folder=store,
        slides=slides,
        dim=dim,
        dtype=dtype,
        encoder_id=encoder_id,
        options=json.loads(options),
        pretrained_on=tuple(json.loads(pretrained_on)),
        feature_names=None if names is None else tuple(json.loads(names)),
    )


def _footer(slide):
    """Read what made a slide's vectors, and hold the file against its row of the list."""
    path = Path(slide.file)
    where = f"patch/{path.name}"
    try:
        footer = pq.read_metadata(path)
        schema = footer.schema.to_arrow_schema()
    except FileNotFoundError as error:
        raise SchemaError(f"{where}: no such file. {_AGAIN}") from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise SchemaError(f"{where}: not a whole Parquet file. {_AGAIN}") from error
    facts = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    expected = [field["name"] for field in load_schema("patches")["fields"]]
    kind = schema.field("embedding").type if "embedding" in schema.names else None
    vectors = pa.types.is_fixed_size_list(kind) if kind is not None else False
    dtype = str(np.dtype(kind.value_type.to_pandas_dtype())) if vectors else None
    if facts.get("schema") != "patches" or set(expected) - {*schema.names} or dtype not in _DTYPES:
        raise SchemaError(f"{where}: a Parquet file, but not the patches of a slide.")
    said = facts.get("slide_id"), facts.get("patient_id"), footer.num_rows
    if said != (slide.slide_id, slide.patient_id, slide.n_patches):
        raise SchemaError(
            f"{where}: {count(footer.num_rows, 'patch', 'patches')} of slide {said[0]}, patient "
            f"{said[1]}; slides.parquet says {slide.n_patches:,} of slide {slide.slide_id}, "
            f"patient {slide.patient_id}. {_AGAIN}"
        )
    names = facts.get("feature_names")
    trained = facts.get("pretrained_on", '["unknown"]')
    options = json.dumps(json.loads(facts.get("options", "{}")), sort_keys=True)
    return facts.get("encoder_id", "unknown"), options, kind.list_size, dtype, trained, names


def _differences(store, made):
    """Say which slides were made unlike most: encoder, dimensions, or options."""
    (most, slides), *others = sorted(made.items(), key=lambda item: -len(item[1]))
    said = []
    for other, unlike in others:
        words = [
            f"{what} {theirs}, not {ours}"
            for what, ours, theirs in zip(
                ("encoder", "options", "dimensions", "type", "pretrained on", "names"),
                most,
                other,
                strict=True,
            )
            if ours != theirs
        ]
        said.append(f"{count(len(unlike), 'slide')} ({listing(unlike)}): {listing(words)}")
    return (
        f"{store}: not all slides were made alike. Unlike {count(len(slides), 'slide')}: "
        f"{'; '.join(said)}. Extract one kind again, into a store of its own."
    )
