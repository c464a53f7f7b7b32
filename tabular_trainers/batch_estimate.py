"""What a batch would do, and about how long it would take, from a small run that is timed."""

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tabular_trainers import runs
from tabular_trainers.batch_jobs import MainJob
from tabular_trainers.batch_work import cohort_of
from tabular_trainers.errors import DataError, SchemaError
from tabular_trainers.evaluation_plan import DEFAULT_TRIALS, fold_numbers, make_plan

N_PATIENTS = 200  # of the run that is timed
INNER_FITS = 3  # a set of hyper-parameters is fitted on about so many inner folds
FEW_COLUMNS = 50  # below, the number of columns makes no difference


@dataclass(frozen=True)
class Listed:
    """A run as a dry run lists it.

    Attributes
    ----------
    job : MainJob or NotebookJob
    waits : bool
        Whether it has to be done.
    n_patients, n_columns, n_folds : int or None
        Columns of the largest feature set; folds of all repeats.
    feature_sets, models : tuple of str
    problem : str or None
        Why it will fail.
    """

    job: object
    waits: bool
    n_patients: int | None = None
    n_columns: int | None = None
    n_folds: int | None = None
    feature_sets: tuple = ()
    models: tuple = ()
    problem: str | None = None

    @property
    def work(self):
        """What the time of a run is taken to grow with."""
        if self.n_patients is None:
            return 0.0
        return self.n_patients * max(self.n_columns, FEW_COLUMNS) * self.n_fits

    @property
    def n_fits(self):
        """How often a model is fitted, inner folds included."""
        trials = self.job.settings.get("n_trials", DEFAULT_TRIALS)
        pairs = len(self.feature_sets) * len(self.models)
        return pairs * (self.n_folds + 1) * (trials * INNER_FITS + 1)


def list_runs(plan, todo):
    """Read the cohorts of a plan and list its runs.

    Parameters
    ----------
    plan : BatchPlan
    todo : Todo

    Returns
    -------
    list of Listed
    """
    waiting = {job.name for job in todo.waiting}
    found = {}
    for job in sorted(plan.jobs, key=lambda job: todo.inputs.get(job.name, "")):
        found[job.name] = _listed(job, job.name in waiting, todo.inputs.get(job.name))
    return [found[job.name] for job in plan.jobs]


def _listed(job, waits, inputs):
    if not isinstance(job, MainJob):
        return Listed(job, waits)
    try:
        settled = _settle(job, cohort_of(job, inputs))
    except (SchemaError, DataError) as error:
        return Listed(job, waits, problem=str(error))
    return _of_plan(job, waits, settled)


def _of_plan(job, waits, settled):
    analysis = settled.analysis
    return Listed(
        job,
        waits,
        len(analysis.patient_id),
        max(map(len, analysis.feature_sets.values())),
        len(fold_numbers(settled.folds)),
        tuple(analysis.feature_sets),
        tuple(settled.models),
    )


def _settle(job, cohort, **instead):
    settings = {"folds": job.folds, "seed": job.seed, **job.settings, **instead}
    return make_plan(cohort, job.endpoint, **settings)


def estimate_seconds(listed, inputs, n_workers):
    """Estimate how long the waiting main jobs take, from a small run of the largest of them.

    It has at most 200 of its patients, two folds and one set of hyper-parameters; fits are taken to
    grow with patients, columns, folds and sets tried, the report to take as long everywhere.

    Parameters
    ----------
    listed : list of Listed
    inputs : dict
        Hash of the cohort, by the name of each main job.
    n_workers : int

    Returns
    -------
    tuple of (float, Listed, float) or None
        Seconds of the batch, the run that was timed, and its processor seconds; None where there is
        none to time.
    """
    waiting = [run for run in listed if run.waits and run.work]
    if not waiting:
        return None
    largest = max(waiting, key=lambda run: run.work)
    cohort = _some_patients(largest, cohort_of(largest.job, inputs[largest.job.name]))
    _time(largest, cohort)  # the first time pays for imports and compiled code
    fitting, fixed, small = _time(largest, cohort)
    each = [fixed + fitting * run.work / small.work for run in waiting]
    total = max(sum(each) / n_workers, max(each) / (n_workers if len(each) < n_workers else 1))
    return total, largest, fitting + fixed


def _time(run, cohort):
    """Do a small run: processor seconds of its fits, of all else, and what it consisted of."""
    job = dataclasses.replace(
        run.job, folds=2, settings={**run.job.settings, "n_trials": 1, "n_repeats": 1}
    )
    job.settings.pop("holdout", None)
    small = _of_plan(job, True, _settle(job, cohort))
    spent = {"report": 0.0}
    last = [time.process_time()]

    def clock(done, total, what):
        now = time.process_time()
        stage = "report" if what.startswith("report") else "fits"
        spent[stage] = spent.get(stage, 0.0) + now - last[0]
        last[0] = now

    with tempfile.TemporaryDirectory() as folder:
        settings = {"folds": job.folds, "seed": job.seed, **job.settings}
        out = Path(folder) / "run"
        runs.run(cohort, endpoint=job.endpoint, out=out, n_jobs=1, progress=clock, **settings)
    return spent.get("fits", 0.0), spent["report"], small


def _some_patients(run, cohort):
    """Take some patients of a cohort, as many with as without an event where there are so many."""
    analysis = _settle(run.job, cohort).analysis
    outcome = analysis.y["event"] if analysis.endpoint.kind == "survival" else analysis.y == 1
    chosen = set()
    for part in (analysis.patient_id[outcome], analysis.patient_id[~outcome]):
        chosen.update(part[: N_PATIENTS // 2])
    patients = cohort.patients[cohort.patients.isin(chosen)]

    def kept(table):
        return table[table.index.isin(patients)]

    return dataclasses.replace(
        cohort,
        patients=patients,
        blocks={
            name: dataclasses.replace(block, table=kept(block.table))
            for name, block in cohort.blocks.items()
        },
        endpoints={
            name: dataclasses.replace(endpoint, table=kept(endpoint.table))
            for name, endpoint in cohort.endpoints.items()
        },
        site=None,
        cancer_type=None,
        flow=None,
        config_file=None,
    )
