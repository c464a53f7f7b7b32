"""What may stand in the plan of a batch, and the runs that it asks for."""

import glob
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from tabular_trainers.batch_jobs import MainJob, check_placeholders, fill
from tabular_trainers.batch_notebooks import notebook_jobs
from tabular_trainers.cohort_config import read_config
from tabular_trainers.errors import Problems, SchemaError, count, listing, nearest
from tabular_trainers.feature_sets import LATE, blocks_of, is_late
from tabular_trainers.toml_options import Options, in_words, read_toml

AtLeastOne = Annotated[int, Field(ge=1)]
Texts = Annotated[list[str], Field(min_length=1)]


class RunOptions(Options):
    """Options of the command ``run`` by their names there, with _ for -; and the seeds."""

    feature_sets: Texts | None = None
    models: Texts | None = None
    folds: Annotated[int, Field(ge=2)] | str | None = None
    repeats: AtLeastOne | None = None
    holdout: Annotated[float, Field(gt=0, le=0.5)] | None = None
    trials: AtLeastOne | None = None
    tuning_seconds: Annotated[float, Field(ge=0)] | None = None
    data: str | None = None
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None

    @field_validator("seeds", "feature_sets", "models")
    @classmethod
    def _no_repeats(cls, value):
        return _distinct(value)


class RunsOptions(RunOptions):
    """A grid of main jobs: cohorts x endpoints x seeds."""

    name: Annotated[str, Field(pattern=r"^\w[\w-]*$")] | None = None
    cohorts: Texts
    endpoints: Texts | None = None

    @field_validator("cohorts", "endpoints")
    @classmethod
    def _no_repeats(cls, value):
        return _distinct(value)


class NotebooksOptions(Options):
    """A notebook over a grid of its parameters."""

    name: Annotated[str, Field(pattern=r"^\w[\w-]*$")] | None = None
    notebook: str
    parameters: dict[str, Any] = {}


class PlanOptions(Options):
    """A whole plan."""

    title: str
    defaults: RunOptions = RunOptions()
    runs: list[RunsOptions] = []
    notebooks: list[NotebooksOptions] = []


@dataclass(frozen=True)
class BatchPlan:
    """What a batch has to do: main jobs and notebooks, in the order of the plan.

    Attributes
    ----------
    title : str
    path : Path
        The plan, absolute.
    jobs : tuple of MainJob or NotebookJob
    """

    title: str
    path: Path
    jobs: tuple


def read_plan(path, data=None):
    """Read and check the plan of a batch.

    Parameters
    ----------
    path : path
        The TOML file; paths in it are relative to it.
    data : path or URI, optional
        Folder of the cohorts' tables, instead of every ``data`` of the plan.

    Returns
    -------
    BatchPlan

    Raises
    ------
    SchemaError
        Everything that is wrong, in one message: unknown options, files that are not there, unknown
        endpoints, blocks and models, two runs of one name.
    """
    path = Path(path).absolute()
    options = _read_options(path)
    problems = Problems()
    if not options.runs and not options.notebooks:
        problems.add(f"{path.name}: nothing to do; add [[runs]] or [[notebooks]].")
    reader = _Reader(path, None if data is None else _given_folder(data), problems)
    jobs = []
    for number, entry in enumerate(options.runs):
        where = f"{path.name}, [[runs]]" + (f" {number + 1}" if len(options.runs) > 1 else "")
        jobs += reader.main_jobs(_with_defaults(entry, options.defaults), where)
    for number, entry in enumerate(options.notebooks):
        where = f"{path.name}, [[notebooks]]"
        where += f" {number + 1}" if len(options.notebooks) > 1 else ""
        jobs += notebook_jobs(entry, where, path.parent, reader.data, problems)
    _check_names(jobs, path.name, problems)
    problems.raise_if_any()
    return BatchPlan(options.title, path, tuple(jobs))


def _distinct(value):
    if value is not None and len(set(value)) < len(value):
        raise ValueError("something is named twice")
    return value


def _given_folder(data):
    return str(data) if "://" in str(data) else str(Path(data).absolute())


def _read_options(path):
    raw = read_toml(path, "the plan of a batch")
    try:
        return PlanOptions.model_validate(raw)
    except ValidationError as error:
        problems = Problems()
        for item in error.errors(include_url=False):
            problems.add(f"{path.name}{_explain(item, raw)}")
        problems.raise_if_any()
        raise


_SECTIONS = {"defaults": RunOptions, "runs": RunsOptions, "notebooks": NotebooksOptions}


def _explain(item, raw):
    """Turn one of pydantic's findings into our words."""
    parts = list(item["loc"])
    where, model = "", PlanOptions
    if parts[0] in _SECTIONS and len(parts) > 1:
        model, section = _SECTIONS[parts[0]], parts.pop(0)
        where = f", [{section}]"
        if isinstance(parts[0], int):
            number = parts.pop(0) + 1
            where = f", [[{section}]]" + (f" {number}" if len(raw[section]) > 1 else "")
    option, known = parts[0] if parts else None, list(model.model_fields)
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown option {option!r}; known: {listing(known, 20)}." + nearest(
            option, known
        )
    if item["type"] == "missing":
        return f"{where}: no option {option!r}; it is required."
    if option is None or parts[-1] in _SECTIONS:
        sections = f"expected [[{option}]] sections"
        return f"{where}: {sections if item['type'] == 'list_type' else in_words(item)}."
    if option == "folds":
        words = "expected 2 or more, a folder of splits_k.csv, or a folds.parquet"
    elif option == "name":
        words = "expected letters, digits, _ and - only"
    elif option == "seeds" and item["type"] in ("list_type", "int_type"):
        words = "expected a list of whole numbers"
    else:
        words = in_words(item)
    return f"{where}, option {option!r}: {words}."


def _with_defaults(entry, defaults):
    """Give a grid the options that it leaves out."""
    left_out = {
        name: value
        for name in RunOptions.model_fields
        if getattr(entry, name) is None and (value := getattr(defaults, name)) is not None
    }
    return entry.model_copy(update=left_out)


class _Reader:
    """Turn the grids of a plan into main jobs, reading each cohort.toml once."""

    def __init__(self, path, data, problems):
        self.path, self.data, self.problems = path, data, problems
        self._cohorts = {}

    def main_jobs(self, entry, where):
        """Yield the main jobs of one grid, leaving out what is wrong."""
        for cohort in self._find(entry.cohorts, where):
            config = self._config(cohort)
            if config is not None:
                yield from self._of_one_cohort(entry, cohort, config, where)

    def _find(self, patterns, where):
        found = {}
        for pattern in patterns:
            path = self.path.parent / Path(pattern).expanduser()
            if path.is_file():
                found[path] = None
                continue
            hits = sorted(map(Path, glob.glob(str(path)))) if glob.has_magic(pattern) else []
            if not hits:
                names = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
                self.problems.add(
                    f"{where}, cohorts: no file {pattern}, seen from {self.path.name}."
                    f"{'' if glob.has_magic(pattern) else nearest(path.name, names)}"
                )
            found.update(dict.fromkeys(hits))
        return list(found)

    def _config(self, cohort):
        if cohort not in self._cohorts:
            try:
                self._cohorts[cohort] = read_config(cohort)
            except SchemaError as error:
                self._cohorts[cohort] = None
                self.problems.add(str(error))
        return self._cohorts[cohort]

    def _of_one_cohort(self, entry, cohort, config, where):
        where = f"{where}, {cohort.name}"
        endpoints = entry.endpoints or list(config.endpoints)
        if not endpoints:
            self.problems.add(f"{where}: the cohort has no endpoint; add one as [endpoints.NAME].")
        known = [name for name in endpoints if name in config.endpoints]
        for name in endpoints:
            if name not in config.endpoints:
                self.problems.add(
                    f"{where}: unknown endpoint {name!r}; known: {listing(config.endpoints, 20)}."
                    f"{nearest(name, config.endpoints)}"
                )
        self._check_feature_sets(entry.feature_sets or (), config, where)
        for name in known:
            self._check_models(entry.models or (), config.endpoints[name], where)
        data = self._data(entry, cohort, where)
        folds = self._folds(entry, cohort, data, where)
        seeds = entry.seeds or [0]
        settings = {
            "feature_sets": entry.feature_sets,
            "models": entry.models,
            "n_repeats": entry.repeats,
            "holdout": entry.holdout,
            "n_trials": entry.trials,
            "tuning_seconds": entry.tuning_seconds,
        }
        settings = {name: value for name, value in settings.items() if value is not None}
        for endpoint, seed in itertools.product(known, seeds):
            name = f"{cohort.stem}_{endpoint}" + (f"_seed{seed}" if len(seeds) > 1 else "")
            name = f"{entry.name}_{name}" if entry.name else name
            kind = config.endpoints[endpoint].kind
            yield MainJob(name, cohort, endpoint, kind, seed, data, folds, settings)

    def _check_feature_sets(self, feature_sets, config, where):
        for feature_set in feature_sets:
            blocks = blocks_of(feature_set)
            for block in blocks:
                if block not in config.blocks:
                    self.problems.add(
                        f"{where}: unknown block {block!r} in feature set {feature_set!r}; known: "
                        f"{listing(config.blocks, 20)}.{nearest(block, config.blocks)}"
                    )
            if len(set(blocks)) < len(blocks):
                self.problems.add(f"{where}: feature set {feature_set!r} names a block twice.")
            if is_late(feature_set) and len(blocks) < 2:
                self.problems.add(
                    f"{where}: feature set {feature_set!r}: {LATE} needs two blocks or more, "
                    "joined by +."
                )

    def _check_models(self, models, endpoint, where):
        from tabular_trainers.errors import unknown_name
        from tabular_trainers.models import MODELS

        known = MODELS[endpoint.kind]
        for name in models:
            if name not in known:
                words = unknown_name(f"{endpoint.kind} model", name, known)
                self.problems.add(f"{where}: {words}")

    def _data(self, entry, cohort, where):
        """Give the folder of a cohort's tables."""
        if self.data is not None:
            return self.data
        if entry.data is None:
            return None
        known = {"cohort": cohort.stem}
        check_placeholders(entry.data, known, f"{where}, data", self.problems)
        text = fill(entry.data, known)
        if "://" in text:
            return text
        folder = (self.path.parent / Path(text).expanduser()).absolute()
        if not folder.is_dir():
            self.problems.add(f"{where}, data: no folder {text} beside {self.path.name}.")
        return str(folder)

    def _folds(self, entry, cohort, data, where):
        """Give the number of folds, or the path of those that were given."""
        folds = 5 if entry.folds is None else entry.folds
        if isinstance(folds, int):
            return folds
        for option, given, why in (
            ("repeats", entry.repeats not in (None, 1), "they hold their own repeats"),
            ("holdout", entry.holdout is not None, "it is set aside before folds are made"),
        ):
            if given:
                self.problems.add(
                    f"{where}: {option} does not go with folds of your own: {why}. Leave it out, "
                    "or give a number of folds."
                )
        known = {"cohort": cohort.stem, "data": data or str(cohort.parent)}
        n_before = len(self.problems.messages)
        check_placeholders(folds, known, f"{where}, folds", self.problems)
        path = (self.path.parent / Path(fill(folds, known)).expanduser()).absolute()
        if len(self.problems.messages) == n_before and not path.exists():
            self.problems.add(
                f"{where}: folds {folds}: nothing is there; expected a folder of splits_k.csv or a "
                "folds.parquet. {data} stands for the folder of the tables, {cohort} for the name "
                "of the cohort.toml."
            )
        return path


def _check_names(jobs, plan, problems):
    """Refuse two runs of one name, as also file systems that know no capitals see them."""
    seen = {}
    for job in jobs:
        seen.setdefault(job.name.casefold(), []).append(job.name)
    for names in seen.values():
        if len(names) > 1:
            problems.add(
                f"{plan}: {count(len(names), 'run')} would be called {names[0]}. Give one of their "
                'sections a name, as in name = "again", which is put before it.'
            )
