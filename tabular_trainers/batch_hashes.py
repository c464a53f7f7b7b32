"""What decides the result of a run of a batch, as one hash: settings, and the bytes of its input.

A run is done anew when this changes. It reads no table, so that a batch of which all is done ends
at once; the run itself has its own hash, of the same things, once it has read them.
"""

import hashlib
import json
from pathlib import Path

import tabular_trainers
from tabular_trainers.batch_jobs import MainJob
from tabular_trainers.cohort_config import read_config
from tabular_trainers.cohort_patches import is_store
from tabular_trainers.errors import SchemaError
from tabular_trainers.tables import hash_file, resolve


def _sha256(facts):
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class Hasher:
    """Hash the runs of a batch, each file of them once.

    Parameters
    ----------
    problems : Problems
        Gets the files that are not there.
    """

    def __init__(self, problems):
        self.problems = problems
        self._files, self._tables = {}, {}

    def hash(self, job):
        """Give the sha256 of what decides the result of a `MainJob` or `NotebookJob`."""
        facts = self._main_job(job) if isinstance(job, MainJob) else self._notebook(job)
        return _sha256({"package_version": tabular_trainers.__version__, **facts})

    def inputs(self, job):
        """Give the sha256 of a main job's cohort: the same for its endpoints and seeds."""
        return _sha256([self._file(job.cohort), self._of_tables(job.cohort, job.data)])

    def size(self, job):
        """Give the bytes of the tables of a run, by which long runs are told from short ones."""
        if not isinstance(job, MainJob):
            return 0
        return sum(
            Path(place).stat().st_size
            for place in self._places(job.cohort, job.data, job.endpoint)
            if Path(place).is_file()
        )

    def _main_job(self, job):
        own_folds = isinstance(job.folds, Path)
        return {
            "cohort": self._file(job.cohort),
            "tables": self._of_tables(job.cohort, job.data, job.endpoint),
            "endpoint": job.endpoint,
            "seed": job.seed,
            "folds": self._folds(job.folds) if own_folds else job.folds,
            "settings": job.settings,
        }

    def _notebook(self, job):
        return {
            "notebook": self._file(job.notebook),
            "parameters": job.parameters,
            "files": {
                key: self._named(value, job)
                for key, value in job.parameters.items()
                if isinstance(value, str) and "{" not in value
            },
        }

    def _named(self, text, job):
        """Hash the files that a parameter names: a table, a cohort with its tables, or folds."""
        path = job.folder / text
        if path.is_dir() and any(path.glob("splits_*.csv")):
            return self._folds(path)
        if not path.is_file():
            return None
        if path.suffix != ".toml":
            return self._file(path)
        data = job.parameters.get("data")
        try:
            config = read_config(path)
        except SchemaError:
            return self._file(path)
        folder = None if data is None else resolve(data, job.folder)
        found = self._of_tables(path, folder, *config.endpoints, required=False)
        return [self._file(path), *found]

    def _folds(self, path):
        files = sorted(path.glob("splits_*.csv")) if path.is_dir() else [path]
        return [[file.name, self._file(file)] for file in files]

    def _of_tables(self, cohort, data, *endpoints, required=True):
        found = []
        for place, asked in self._places(cohort, data, *endpoints).items():
            found.append(self._file(place, required and asked, cohort.name))
        return found

    def _places(self, cohort, data, *endpoints):
        """Map where a cohort's tables are to whether the endpoints need them, in a fixed order."""
        if (cohort, data) not in self._tables:
            options = read_config(cohort)
            blocks = []
            for block in options.blocks.values():
                blocks += block.table if isinstance(block.table, list) else [block.table]
            self._tables[cohort, data] = options, blocks
        options, blocks = self._tables[cohort, data]
        folder = str(cohort.parent) if data is None else data
        wanted = [(options.clinical.table, True), *((table, True) for table in blocks)]
        for name, endpoint in options.endpoints.items():
            wanted.append((endpoint.table, name in endpoints))
        places = {}
        for table, asked in wanted:
            if table is not None:
                place = resolve(table, folder)
                places[place] = places.get(place, False) or asked
        return places

    def _file(self, place, required=True, owner=None):
        place = str(place)
        if place not in self._files:
            file = f"{place}/slides.parquet" if is_store(place) else place
            try:
                self._files[place] = hash_file(file)
            except SchemaError as error:
                self._files[place] = error
        found = self._files[place]
        if isinstance(found, SchemaError):
            if required:
                hint = "The folder of the tables is given with --data."
                self.problems.add(f"{owner}: {found} {hint}" if owner else str(found))
            return None
        return found
