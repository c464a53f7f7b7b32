"""What is settled before any model is fitted: patients, models, folds, horizons and seeds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tabular_trainers.cohort import AnalysisSet, Cohort
from tabular_trainers.errors import DataError, listing
from tabular_trainers.final_part import FinalPart, set_aside
from tabular_trainers.left_truncation import at_landmark

# Each model; with 8 a full run stays within minutes on two cores.
DEFAULT_TRIALS = 8
SELECTED = "selected"
_NARROW = 1000  # columns; 17,000 patients x 20 take about half the time of 1,000


@dataclass(frozen=True)
class Plan:
    """Everything a fold needs, settled before any model is fitted.

    Attributes
    ----------
    analysis : AnalysisSet
        Patients, columns and outcome.
    models : tuple of str
    folds : DataFrame
        Table ``folds`` of the data schemas.
    fold_note : str
        How the folds were made, in words.
    times : ndarray (n_times,)
        When survival is predicted, in the unit of the endpoint; empty for classification.
    horizons : tuple of float
        Times at which accuracy and calibration are measured; empty for classification.
    seed, n_trials, tuning_seconds
        As given to `evaluate`.
    final_part : FinalPart or None
        Patients set aside before the folds were made; nothing but the last check sees them.
    """

    analysis: AnalysisSet
    models: tuple
    folds: pd.DataFrame
    fold_note: str
    times: np.ndarray
    horizons: tuple
    seed: int
    n_trials: int
    tuning_seconds: float | None
    final_part: FinalPart | None = None

    @property
    def task(self):
        """Survival or classification."""
        return self.analysis.endpoint.kind

    @property
    def tau(self):
        """The largest horizon: where Uno's C and the integrated Brier score end; or None."""
        return max(self.horizons) if self.horizons else None

    @property
    def primary(self):
        """The comparison named before the run, or None when there is nothing to compare."""
        from tabular_trainers.scoring import HEADLINE

        analysis = self.analysis
        if analysis.baseline is None or analysis.full == analysis.baseline:
            return None
        model = SELECTED if len(self.models) > 1 else self.models[0]
        return {
            "feature_set": analysis.full,
            "model": model,
            "baseline_feature_set": analysis.baseline,
            "baseline_model": model,
            "metric": HEADLINE[self.task],
        }

    def positions(self, repeat, fold):
        """Return the rows of the training and of the test patients of one fold."""
        rows = self.folds[(self.folds["repeat"] == repeat) & (self.folds["fold"] == fold)]
        parts = (rows.loc[rows["part"] == part, "patient_id"] for part in ("train", "test"))
        return tuple(np.sort(self.analysis.patient_id.get_indexer(part)) for part in parts)

    def fold_seed(self, repeat, fold):
        """Give a fold its own seed, the same for all feature sets and models."""
        return int(np.random.SeedSequence([self.seed, repeat, fold]).generate_state(1)[0] // 2)

    def cost(self, feature_set, model):
        """Guess what tuning and fitting takes beside others: a narrow table has its own price."""
        from tabular_trainers.models import find_model

        columns = len(self.analysis.feature_sets[feature_set])
        return find_model(model, self.task).cost * (_NARROW + columns)


def make_plan(
    cohort: Cohort,
    endpoint=None,
    feature_sets=None,
    models=None,
    folds=5,
    *,
    n_trials=DEFAULT_TRIALS,
    seed=0,
    n_repeats=1,
    tuning_seconds=None,
    holdout=None,
):
    """Settle patients, models, folds and horizons, and refuse what cannot work, before any fit."""
    from tabular_trainers import folds as folding
    from tabular_trainers import metrics

    analysis = cohort.analysis_set(endpoint, feature_sets)
    models = _check_models(models, analysis.endpoint)
    _check_own_folds(folds, n_repeats, holdout)
    final_part = None
    if holdout is not None:
        analysis, final_part = set_aside(analysis, holdout, seed)
    if isinstance(folds, pd.DataFrame):
        table = folds
    elif isinstance(folds, str | Path):
        table = folding.read_folds(folds, analysis.patient_id)
    else:
        table = folding.make_folds(
            analysis.y, analysis.patient_id, analysis.site, folds, n_repeats, seed
        )
    analysis = _keep_patients_in_folds(analysis, table)
    note = table.attrs.get("note", "")
    table = table[table["patient_id"].isin(analysis.patient_id)].reset_index(drop=True)
    folding.check_folds(table, analysis.y, analysis.patient_id)
    horizons, times = (), np.empty(0)
    if analysis.endpoint.kind == "survival":
        horizons = metrics.default_horizons(
            analysis.y,
            analysis.endpoint.unit,
            _held_out_fold(table, analysis.patient_id),
            analysis.endpoint.horizons,
        )
        _check_landmark(analysis, max(horizons))
        times = prediction_times(analysis.endpoint, horizons)
    return Plan(
        analysis, models, table, note, times, horizons, seed, n_trials, tuning_seconds, final_part
    )


def _check_own_folds(folds, n_repeats, holdout):
    if not isinstance(folds, str | Path | pd.DataFrame):
        return
    for option, given, why in (
        ("--repeats", n_repeats != 1, "they hold their own repeats"),
        ("--holdout", holdout is not None, "the final part is set aside before folds are made"),
    ):
        if given:
            raise DataError(
                f"{option} does not go with folds of your own: {why}. Leave it out, or give a "
                "number of folds."
            )


def fold_numbers(folds):
    """List the (repeat, fold) pairs of a fold table in order."""
    pairs = folds[["repeat", "fold"]].drop_duplicates().sort_values(["repeat", "fold"])
    return [(int(repeat), int(fold)) for repeat, fold in pairs.itertuples(index=False)]


def _held_out_fold(folds, patient_id, repeat=0):
    """Return the fold in which each patient is held out, (n_patients,), in one repeat."""
    rows = folds[(folds["part"] == "test") & (folds["repeat"] == repeat)]
    return rows.set_index("patient_id")["fold"].reindex(patient_id).to_numpy()


def _check_models(models, endpoint):
    from tabular_trainers.models import MODELS, find_model

    known = MODELS[endpoint.kind]
    models = [models] if isinstance(models, str) else models
    default = [name for name, spec in known.items() if spec.default]
    models = tuple(dict.fromkeys(models or default))
    for name in models:
        find_model(name, endpoint.kind)
    refusing = [name for name in models if endpoint.has_entry and not known[name].supports_entry]
    if refusing:
        able = [name for name, spec in known.items() if spec.supports_entry]
        advice = f"Choose from: {listing(able)}." if able else "No model takes them yet."
        raise DataError(
            f"endpoint {endpoint.name} has entry times (left truncation), which "
            f"{listing(refusing)} cannot take. {advice}"
        )
    return models


def prediction_times(endpoint, horizons):
    """List when survival is predicted: at the horizons, a grid up to the last, and the landmark."""
    from tabular_trainers.metrics import time_grid

    landmark = [] if endpoint.landmark is None else [endpoint.landmark]
    return np.unique([*horizons, *time_grid(max(horizons)), *landmark])


def _check_landmark(analysis, tau):
    endpoint = analysis.endpoint
    if endpoint.landmark is None:
        return
    unit = endpoint.unit or "time units"
    if endpoint.landmark >= tau:
        raise DataError(
            f"endpoint {endpoint.name}: landmark {endpoint.landmark:g} {unit} is not before the "
            f"largest horizon, {tau:g}. Choose an earlier landmark, or give later horizons."
        )
    at_landmark(analysis.y, endpoint.landmark)  # refuses one at which nobody is at risk


def _keep_patients_in_folds(analysis, folds):
    held_out = folds.loc[folds["part"] == "test", "patient_id"]
    keep = analysis.patient_id.isin(held_out)
    return analysis if keep.all() else analysis.keep(keep, "in no test fold of the given folds")
