"""Measure saved models on patients that they were not fitted on: a final part, another cohort."""

import dataclasses

import numpy as np
import pandas as pd

from tabular_trainers import metrics
from tabular_trainers.comparison import compare
from tabular_trainers.errors import DataError, count
from tabular_trainers.evaluation import Evaluation, measure
from tabular_trainers.evaluation_plan import Plan, prediction_times
from tabular_trainers.recalibration import in_the_large, logistic_in_the_large, own_hazard

SANDWICH = "sandwich estimator"
ADVISED_EVENTS = 100  # Collins, Ogundimu & Altman, Stat Med 2016;35:214


@dataclasses.dataclass(frozen=True)
class External:
    """What saved models predict for other patients, and how good that is.

    Attributes
    ----------
    evaluation : Evaluation
        Its plan has one fold, in which every patient is a test patient.
    comparisons : DataFrame
        The primary model against the clinical baseline.
    notes : tuple of str
        Horizons left out, few events.
    """

    evaluation: Evaluation
    comparisons: pd.DataFrame
    notes: tuple

    def tables(self):
        """Give its tables by the names of their schemas."""
        found = self.evaluation
        tables = {
            "flow": found.plan.analysis.flow,
            "predictions": found.predictions,
            "metrics": found.metrics,
            "comparisons": self.comparisons,
            "calibration": found.calibration,
            "kaplan_meier": found.kaplan_meier,
        }
        if found.survival is not None:
            tables["survival"] = found.survival
        return tables

    def facts(self):
        """Collect what is said of it in words, as plain JSON."""
        from tabular_trainers import description
        from tabular_trainers.comparison import verdict

        plan, primary = self.evaluation.plan, self.comparisons[self.comparisons["primary"]]
        y, survival = plan.analysis.y, plan.task == "survival"
        return {
            "n_patients": len(y),
            "n_events": int((y["event"] if survival else y).sum()),
            "n_sites": None if plan.analysis.site is None else len(set(plan.analysis.site)),
            "feature_sets": list(plan.analysis.feature_sets),
            "models": list(plan.models),
            "baseline": plan.analysis.baseline,
            "full": plan.analysis.full,
            "primary": plan.primary,
            "primary_model": {"feature_set": plan.analysis.full, "model": plan.models[0]},
            "horizons": list(plan.horizons),
            "tau": plan.tau,
            "numbers_at_risk": metrics.numbers_at_risk(y, plan.horizons) if survival else {},
            "n_resamples": self.evaluation.n_resamples,
            "follow_up": description.follow_up(y) if survival else None,
            "entry_dependence": description.entry_dependence(y),
            "verdict": verdict(primary.iloc[0]) if len(primary) else None,
            "notes": list(self.notes),
        }


def measure_saved(analysis, models, features, *, n_resamples=500, seed=0):
    """Measure saved models on the patients of an analysis, all as one stratum.

    Parameters
    ----------
    analysis : AnalysisSet
        None of its patients took part in fitting the models.
    models : dict of str to SavedModel
        By feature set: the primary model, and where there is one the baseline.
    features : dict of str to DataFrame
        By feature set, the columns of these patients.
    n_resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    External

    Raises
    ------
    DataError
        If these patients hold no comparable pair (classification: one class only).
    """
    saved = models[analysis.full]
    horizons, notes = _horizons(analysis, saved)
    times = prediction_times(analysis.endpoint, horizons) if horizons else np.empty(0)
    analysis = dataclasses.replace(
        analysis, feature_sets={name: tuple(X.columns) for name, X in features.items()}
    )
    folds = pd.DataFrame(
        {"patient_id": analysis.patient_id.to_numpy(), "repeat": 0, "fold": 0, "part": "test"}
    )
    name = saved.metadata["model"]
    plan = Plan(analysis, (name,), folds, "", times, horizons, seed, 0, None)
    predictions, survival = [], []
    for feature_set, model in models.items():
        X = features[feature_set]
        where = {"repeat": 0, "fold": 0, "feature_set": feature_set, "model": name}
        table = pd.DataFrame({"patient_id": X.index, **where, "risk": model.risk(X)})
        table["survival_at_entry"] = np.nan
        if analysis.endpoint.has_entry and model.has_curve:
            table["survival_at_entry"] = model.survival_at_entry(X, analysis.y["entry"])
        predictions.append(table)
        if len(times) and model.has_curve:
            survival.append(
                pd.DataFrame(
                    {
                        "patient_id": np.repeat(X.index.to_numpy(), len(times)),
                        **where,
                        "time": np.tile(times, len(X)),
                        "survival": model.survival(X, times).ravel(),
                    }
                )
            )
    survival = pd.concat(survival, ignore_index=True) if survival else None
    predictions = pd.concat(predictions, ignore_index=True)
    evaluation = measure(plan, predictions, survival, None, n_resamples)
    shifts = [_in_the_large(plan, models[name], features[name]) for name in models]
    table = pd.concat([_rows(shifts, evaluation.metrics), evaluation.metrics], ignore_index=True)
    evaluation = dataclasses.replace(evaluation, metrics=table)
    return External(evaluation, compare(evaluation), tuple(notes))


def _horizons(analysis, saved):
    """Choose those horizons of the model that these patients carry, and say what was left out."""
    y, notes = analysis.y, []
    survival = analysis.endpoint.kind == "survival"
    event = y["event"] if survival else y == 1
    if not event.any() or (not survival and event.all()):
        what = "no event" if survival else "patients of one class only"
        raise DataError(
            f"endpoint {analysis.endpoint.name}: {count(len(y), 'patient')} with {what}; a model "
            "cannot be measured on them."
        )
    fewer = int(event.sum() if survival else min(event.sum(), (~event).sum()))
    if fewer < ADVISED_EVENTS:
        noun = "events" if survival else "patients in the smaller class"
        notes.append(
            f"{fewer} {noun}; at least {ADVISED_EVENTS} are advised for a validation, so intervals "
            "are wide"
        )
    if not survival:
        return (), notes
    wanted = saved.metadata["horizons"]
    kept = metrics.carried_horizons(y, wanted)
    lost = [at for at in wanted if at not in kept]
    if lost:
        unit = analysis.endpoint.unit or ""
        listed = ", ".join(f"{at:g}" for at in lost)
        notes.append(
            f"not measured at {listed} {unit}".rstrip() + ": fewer than 10 events before, or fewer "
            "than 10% of patients or 5 followed beyond"
        )
    return kept, notes


def _in_the_large(plan, model, X):
    """Shift of the model's predictions that would make them right on average, as a metrics row."""
    y, site = plan.analysis.y, plan.analysis.site
    if plan.task == "classification":
        found = logistic_in_the_large(y, model.risk(X), site)
        n_events = int(y.sum())
    elif plan.tau is None or not model.has_curve:
        return None
    else:
        happened, expected = own_hazard(
            lambda at, times: model.survival(X.iloc[at], times), y, plan.tau
        )
        found = in_the_large(happened, expected, site)
        n_events = int(happened.sum())
    return {
        "feature_set": model.metadata["feature_set"],
        "model": model.metadata["model"],
        "metric": "calibration_in_the_large",
        "horizon": plan.tau,
        **found,
        "method": SANDWICH,
        "n": len(y),
        "n_events": n_events,
    }


def _rows(shifts, like):
    rows = pd.DataFrame([row for row in shifts if row is not None])
    return rows.reindex(columns=like.columns).astype(like.dtypes) if len(rows) else like.iloc[:0]
