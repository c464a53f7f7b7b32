"""A finished run opened again: its cohort, folds and choices, so that models can be refitted."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tabular_trainers.cohort import Cohort, load_cohort
from tabular_trainers.errors import SchemaError, count, listing
from tabular_trainers.evaluation_plan import Plan, prediction_times
from tabular_trainers.saved_models import read_run
from tabular_trainers.tables import read_written


@dataclass(frozen=True)
class ReopenedRun:
    """A run with the cohort it was made from.

    Attributes
    ----------
    folder : Path
    facts : dict
        Content of ``run.json``.
    cohort : Cohort
    plan : Plan
        Patients, folds and seeds as they were; no final part.
    predictions : DataFrame
        Table ``predictions``.
    trials : DataFrame
        Table ``trials``.
    """

    folder: Path
    facts: dict
    cohort: Cohort
    plan: Plan
    predictions: pd.DataFrame
    trials: pd.DataFrame

    def chosen(self, feature_set, model, repeat=0):
        """Give the hyper-parameters that were chosen in each fold of a repeat.

        Parameters
        ----------
        feature_set, model : str
        repeat : int, default 0

        Returns
        -------
        list of (int, str)
            Fold and its hyper-parameters in JSON, in the order of the folds.
        """
        own = self._own(self.trials[self.trials["chosen"]], feature_set, model, repeat)
        own = own.sort_values("fold")
        return list(zip(own["fold"].astype(int), own["parameters"], strict=True))

    def risk(self, feature_set, model, repeat=0):
        """Give the risk of each patient from the fold where it was held out, by patient_id."""
        own = self._own(self.predictions, feature_set, model, repeat)
        return own.set_index("patient_id")["risk"]

    def survival_of(self, patient_id, feature_set, model, repeat=0):
        """Give the predicted survival curve of one patient, from where it was held out.

        Parameters
        ----------
        patient_id, feature_set, model : str
        repeat : int, default 0

        Returns
        -------
        DataFrame or None
            time, survival; None for classification.
        """
        import pyarrow.parquet as pq

        path = self.folder / "survival.parquet"
        if not path.is_file():
            return None
        wanted = {
            "patient_id": patient_id,
            "repeat": repeat,
            "feature_set": feature_set,
            "model": model,
        }
        found = pq.read_table(
            path,
            columns=["time", "survival"],
            filters=[(name, "==", value) for name, value in wanted.items()],
            partitioning=None,
        )
        return found.to_pandas(ignore_metadata=True)

    @staticmethod
    def _own(table, feature_set, model, repeat):
        own = (table["feature_set"] == feature_set) & (table["model"] == model)
        return table[own & (table["repeat"] == repeat)]


def reopen_run(run_folder, cohort_file=None, data=None):
    """Read a finished run and the cohort it was made from.

    Parameters
    ----------
    run_folder : path
    cohort_file : path, optional
        Its ``cohort.toml``; default: the one that ``run.json`` names.
    data : path, optional
        Folder of the cohort's tables; default: as in the run, or the folder of ``cohort_file``
        where that is given.

    Returns
    -------
    ReopenedRun

    Raises
    ------
    SchemaError
        The folder holds no run; its cohort is not known or not where it was; or the cohort's files
        are not those of the run.
    """
    folder = Path(run_folder)
    facts = read_run(folder)
    cohort = _cohort_of(folder, facts, cohort_file, data)
    analysis = cohort.analysis_set(facts["endpoint"]["name"], facts["feature_sets"])
    tables = {
        name: read_written(folder / f"{name}.parquet", name)
        for name in ("folds", "predictions", "trials")
    }
    folds = tables["folds"]
    inside = analysis.patient_id.isin(folds["patient_id"])
    lacking = folds.loc[~folds["patient_id"].isin(analysis.patient_id), "patient_id"].unique()
    if len(lacking) or int(inside.sum()) != facts["n_patients"]:
        raise SchemaError(
            f"{folder}: {count(len(lacking), 'patient')} of the run's {facts['n_patients']} are "
            f"not analysed with {cohort.config_file}"
            f"{': ' + listing(lacking) if len(lacking) else ''}. The run's cohort was changed "
            "after it was read; run again from the cohort.toml as it is."
        )
    if not inside.all():
        analysis = analysis.keep(inside, "in no fold of the run")
    horizons = tuple(facts["horizons"])
    plan = Plan(
        analysis=analysis,
        models=tuple(facts["models"]),
        folds=folds,
        fold_note=facts["folds_note"],
        times=prediction_times(analysis.endpoint, horizons) if horizons else np.empty(0),
        horizons=horizons,
        seed=facts["seed"],
        n_trials=facts["n_trials"],
        tuning_seconds=facts["tuning_seconds"],
    )
    return ReopenedRun(folder, facts, cohort, plan, tables["predictions"], tables["trials"])


def _cohort_of(folder, facts, cohort_file, data):
    """Read the cohort of a run, and refuse one whose files are others."""
    if cohort_file is None:
        cohort_file = facts.get("cohort_file")
        data = facts.get("data") if data is None else data
        if cohort_file is None:
            raise SchemaError(
                f"{folder}: run.json names no cohort.toml: the run's cohort was made in memory, or "
                "the run is of an earlier version. Give it with --cohort; a demo has none."
            )
        if not Path(cohort_file).is_file():
            raise SchemaError(
                f"{folder}: its cohort is not at {cohort_file} any more. Give its new place with "
                "--cohort, and that of the tables with --data if they lie elsewhere."
            )
    cohort = load_cohort(cohort_file, data, endpoint=facts["endpoint"]["name"])
    if cohort.source_hash != facts["source_hash"]:
        raise SchemaError(
            f"{cohort_file}, or a table that it names, is not what it was when {folder} was run: "
            "their sha256 differs. Give the cohort of this run with --cohort and --data, or run "
            "again."
        )
    return cohort
