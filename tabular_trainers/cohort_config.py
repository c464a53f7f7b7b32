"""What may stand in a ``cohort.toml``: every option, and what is said when one is wrong."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from tabular_trainers.errors import Problems, SchemaError, listing, nearest
from tabular_trainers.feature_sets import LATE, file_name
from tabular_trainers.toml_options import Options, in_words, read_toml

FILL_IN = "FILL_IN"  # what `init` leaves where it cannot decide
Label = bool | int | float | str
UNITS = ("days", "weeks", "months", "years")


class ClinicalOptions(Options):
    """The table that says who the patients are."""

    table: str
    patient_id: str = "patient_id"
    site: str | None = None
    cancer_type: str | None = None


class _EndpointOptions(Options):
    table: str | None = None  # default: the clinical table
    key: str | None = None  # the id column of that table, where it has another name
    missing_values: list[Label] = []  # values of event or label that mean: not known
    leave_out: list[str] = []  # columns of any block that would give this endpoint away


class SurvivalOptions(_EndpointOptions):
    """Time to an event."""

    kind: Literal["survival"]
    time: str
    unit: Literal["days", "weeks", "months", "years"]
    event: str
    event_values: Annotated[list[Label], Field(min_length=1)]
    censored_values: list[Label] | None = None  # needed when several other values are in the column
    entry: str | None = None
    horizons: Annotated[list[float], Field(min_length=1)] | None = None
    landmark: float | None = None  # for measures that cannot take entry times
    zero_time: Literal["drop", "half_unit"] | None = None
    negative_time: Literal["drop"] | None = None

    @field_validator("horizons", mode="before")
    @classmethod
    def _as_floats(cls, value):
        return [float(v) if isinstance(v, int) else v for v in value]

    @field_validator("horizons")
    @classmethod
    def _increasing(cls, value):
        if any(v <= 0 for v in value) or sorted(set(value)) != value:
            raise ValueError("expected times above 0 in increasing order")
        return value

    @field_validator("landmark")
    @classmethod
    def _above_zero(cls, value):
        if value is not None and not value > 0:
            raise ValueError("expected a time above 0")
        return value

    @model_validator(mode="after")
    def _landmark_has_a_use(self):
        if self.landmark is not None and self.entry is None:
            raise ValueError(
                "landmark is given without entry; it is for patients who came under observation "
                "after time zero. Give entry, or leave landmark out"
            )
        if self.landmark is not None and self.horizons and self.landmark >= max(self.horizons):
            raise ValueError("landmark is not before the largest of horizons; expected one that is")
        return self


class ClassificationOptions(_EndpointOptions):
    """Two classes."""

    kind: Literal["classification"]
    label: str
    positive: Label


class BlockOptions(Options):
    """The columns of one modality."""

    table: str | list[str] | None = None  # default: the clinical table
    key: str | list[str] | None = None
    columns: Annotated[list[str], Field(min_length=1)] = ["*"]
    exclude: list[str] = []
    categorical: list[str] = []
    pool: Literal["mean", "max", "first"] | None = None
    reduce: dict[Literal["pca", "clusters"], Annotated[int, Field(ge=0)]] | None = None
    pretrained_on: list[str] | None = None  # the encoder's data sets, where the table does not say

    @field_validator("reduce")
    @classmethod
    def _one_way(cls, value):
        if value is None or len(value) != 1:
            raise ValueError(
                "expected { pca = number of components }, or { clusters = number of clusters } for "
                "a store of patches"
            )
        if value.get("clusters", 2) < 2:
            raise ValueError("expected 2 clusters or more")
        return value

    @model_validator(mode="after")
    def _one_key_a_table(self):
        tables = self.table if isinstance(self.table, list) else [self.table]
        if isinstance(self.key, list) and len(self.key) != len(tables):
            raise ValueError(f"key has {len(self.key)} names for {len(tables)} tables")
        if isinstance(self.table, list) and not self.table:
            raise ValueError("table is an empty list")
        return self

    @model_validator(mode="after")
    def _clusters_are_of_one_store(self):
        if not self.n_clusters:
            return self
        if not isinstance(self.table, str):
            raise ValueError(
                "reduce = { clusters = ... } needs one store of patches as table: the folder that "
                "embed slides wrote"
            )
        useless = {"key", "columns", "exclude", "categorical", "pool"} & self.model_fields_set
        if useless:
            raise ValueError(
                f"{listing(sorted(useless))} {'has' if len(useless) == 1 else 'have'} no meaning "
                "for a store of patches, whose columns become the clusters; leave out"
            )
        return self

    @property
    def n_clusters(self):
        """Into how many clusters the patches of a store are put; None for a table."""
        return (self.reduce or {}).get("clusters")


class CohortOptions(Options):
    """A whole ``cohort.toml``."""

    title: str
    time_zero: str
    missing_blocks: Literal["drop", "impute"] = "drop"
    sources: list[str] = []  # public collections that the patients come from
    clinical: ClinicalOptions
    endpoints: dict[
        str,
        Annotated[SurvivalOptions | ClassificationOptions, Field(discriminator="kind")],
    ] = {}
    blocks: Annotated[dict[str, BlockOptions], Field(min_length=1)]

    @field_validator("endpoints", "blocks")
    @classmethod
    def _plain_names(cls, value):
        # Names become part of "block.column", "clinical+pathology" and of file names.
        bad = [name for name in value if not re.fullmatch(r"\w[\w-]*", name)]
        if bad:
            raise ValueError(
                f"the name {listing(map(repr, bad))} may hold only letters, digits, _ and -"
            )
        if "missing_blocks" in value:
            raise ValueError("the name 'missing_blocks' is taken by the missing-block indicators")
        late = [name for name in value if name.startswith(file_name(LATE))]
        if late:
            raise ValueError(f"the name {late[0]!r} is taken by the folders of late fusion")
        return value


def read_config(path):
    """Read and check a ``cohort.toml``.

    Parameters
    ----------
    path : path

    Returns
    -------
    CohortOptions

    Raises
    ------
    SchemaError
        When the file is missing, is not TOML, still has something to fill in, or has unknown,
        missing or wrong options: all of them in one message.
    """
    path = Path(path)
    raw = read_toml(path, "a cohort.toml")
    open_keys = list(_unfilled(raw))
    if open_keys:
        raise SchemaError(
            f"{path.name}: still to be filled in: {listing(open_keys, 30)}. "
            f"Replace every {FILL_IN} (the comments beside it say with what)."
        )
    try:
        return CohortOptions.model_validate(raw)
    except ValidationError as error:
        problems = Problems()
        for message in _explain(error.errors(include_url=False)):
            problems.add(f"{path.name}{message}")
        problems.raise_if_any()
        raise


def _unfilled(value, where=""):
    """Name the options that still say FILL_IN."""
    if isinstance(value, dict):
        for key, part in value.items():
            if FILL_IN in key:
                yield f"{where}{key}"
            yield from _unfilled(part, f"{where}{key}.")
    elif isinstance(value, list):
        if any(FILL_IN in str(part) for part in value):
            yield where.rstrip(".")
    elif FILL_IN in str(value):
        yield where.rstrip(".")


def _explain(findings):
    """Turn pydantic's findings into our words, one message an option."""
    said = {}
    for item in findings:
        section, models, option = _place(item["loc"])
        where = f", [{section}]" if section else ""
        kind, known = item["type"], [name for model in models for name in model.model_fields]
        if kind == "extra_forbidden":
            words = f"unknown option {option!r}; known: {listing(dict.fromkeys(known), 20)}."
            said[where, option] = [f"{words}{nearest(option, known)}"]
        elif kind == "missing":
            said[where, option] = [f"no option {option!r}; it is required."]
        elif kind in ("union_tag_not_found", "union_tag_invalid"):
            written = [key for key in item["input"] if key not in known]
            hint = next((f" Is it {key!r}?" for key in written if nearest(key, ["kind"])), "")
            words = "no option 'kind'" if kind == "union_tag_not_found" else "unknown kind"
            said[where, "kind"] = [f"{words}; expected 'survival' or 'classification'.{hint}"]
        else:
            place = f"{where}, option {option!r}" if option else where
            said.setdefault((place, None), []).append(in_words(item))
    for (where, _option), words in said.items():
        yield f"{where}: {' or '.join(words).replace('or expected ', 'or ')}" + (
            "" if words[-1][-1] in ".?" else "."
        )


def _place(location):
    """Give the section of a finding, the options that the section may hold, and the option."""
    parts = [str(part) for part in location]
    if parts[0] == "clinical" and len(parts) > 1:
        return "clinical", [ClinicalOptions], parts[1]
    if parts[0] == "blocks" and len(parts) > 1:
        return ".".join(parts[:2]), [BlockOptions], parts[2] if len(parts) > 2 else ""
    if parts[0] == "endpoints" and len(parts) > 1:
        kinds = {"survival": [SurvivalOptions], "classification": [ClassificationOptions]}
        models = kinds.get(
            parts[2] if len(parts) > 2 else "", [SurvivalOptions, ClassificationOptions]
        )
        return ".".join(parts[:2]), models, parts[3] if len(parts) > 3 else ""
    return "", [CohortOptions], parts[0]
