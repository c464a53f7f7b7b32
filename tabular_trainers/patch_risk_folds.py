"""The models of folds fitted again for whom they held out, beside their patches, and checked."""

from dataclasses import dataclass

import pandas as pd

from tabular_trainers.errors import SchemaError, count, listing
from tabular_trainers.explanation import fit_again
from tabular_trainers.feature_sets import is_late
from tabular_trainers.held_patches import held_patches
from tabular_trainers.parallel import Task, map_tasks

TOLERANCE = 1e-5  # times 1 + the sum of all contributions' sizes


@dataclass(frozen=True)
class Context:
    """What every fold needs: the plan, what is explained, and by which patches."""

    plan: object
    subject: object
    patches: object


def map_folds(function, reopened, subject, patches, n_jobs, progress, *further):
    """Apply ``function(context, fold, parameters, *further)`` to each fold of the first repeat."""
    _check_patients(reopened, subject, patches)
    tasks = [
        Task(f"patches-{fold}", (fold, parameters, *further))
        for fold, parameters in reopened.chosen(subject.feature_set, subject.model)
    ]
    done = []

    def tell(key):
        done.append(key)
        progress(len(done), len(tasks), f"patches of the patients of fold {key.split('-')[1]}")

    context = Context(reopened.plan, subject, patches)
    tell = None if progress is None else tell
    results = map_tasks(function, tasks, context, n_jobs, progress=tell)
    _check_again(reopened, subject, pd.concat([result["predicted"] for result in results]))
    return results


def refit(context, fold, parameters):
    """Fit a fold's model again; also give its row and the held-out patients who have patches."""
    from tabular_trainers.models import find_model

    plan, subject = context.plan, context.subject
    pipeline = fit_again(plan, subject.feature_set, subject.model, 0, fold, parameters)
    spec = find_model(subject.model, plan.task, is_late(subject.feature_set))
    X = plan.analysis.X[list(plan.analysis.feature_sets[subject.feature_set])]
    X = X.iloc[plan.positions(0, fold)[1]]
    return pipeline, spec, X[X[list(subject.columns)].notna().any(axis=1)]


def explained(pipeline, spec, X):
    """Give the quantity that contributions add up to: the risk, or its log odds."""
    return (spec.explained or spec.risk)(pipeline[-1], pipeline[0].transform(X))


def slides_by_patient(patches, patients):
    """List the slides of each patient in the order of the store: {patient_id: [slide_id]}."""
    own = patches.slides_of(patients)
    return {patient: list(rows) for patient, rows in own.groupby("patient_id")["slide_id"]}


def predicted(pipeline, spec, X):
    """Give the risk of patients as `evaluate` writes it, by patient_id."""
    return pd.Series(spec.risk(pipeline[-1], pipeline[0].transform(X)), index=X.index)


def patches_used(context):
    """Give the patches that the columns were made of: of a very large store, clusters use some."""
    if context.subject.how == "clusters":
        return held_patches(str(context.patches.folder))
    return context.patches


def _check_patients(reopened, subject, patches):
    """Refuse a store that lacks patients whose patches the block was pooled from."""
    analysis = reopened.plan.analysis
    has = analysis.X[list(subject.columns)].notna().any(axis=1).to_numpy()
    having = analysis.patient_id[has]
    lacking = having[~having.isin(patches.patients)]
    if len(lacking):
        raise SchemaError(
            f"{patches.folder}: no patch of {count(len(lacking), 'patient')} of the "
            f"{len(having)} who have block {subject.block} in {reopened.folder}: "
            f"{listing(lacking)}. Give the store that this block was made from."
        )


def _check_again(reopened, subject, again):
    """Refuse models that, fitted again, do not predict what the run wrote."""
    said = reopened.risk(subject.feature_set, subject.model).reindex(again.index)
    apart = (again - said).abs()
    unlike = ~(apart <= TOLERANCE * (1 + said.abs()))
    if unlike.any():
        raise SchemaError(
            f"{reopened.folder}: {subject.model} ({subject.feature_set}), fitted again, gives "
            f"{count(int(unlike.sum()), 'patient')} of {len(again)} another risk than "
            f"predictions.parquet has (by up to {apart.max():.2g}). Another version of "
            "this program or its libraries can do that; run again here."
        )


def check_sums(reopened, subject, patches, table):
    """Refuse patches that do not add up to what the run saw of their patients.

    Parameters
    ----------
    reopened : ReopenedRun
    subject : Subject
    patches : PatchStore
    table : DataFrame
        patient_id, difference, bound.
    """
    wrong = ~(table["difference"].abs() <= table["bound"])
    if wrong.any():
        if subject.how == "clusters":
            advice = f"Give the store that block {subject.block} names in the cohort.toml."
        else:
            advice = (
                f"The table of block {subject.block} was pooled from other patches. Pool this "
                "store again, and run again."
            )
        raise SchemaError(
            f"{patches.folder}: the patches of {count(int(wrong.sum()), 'patient')} of "
            f"{len(table)} do not add up to what {reopened.folder} was made from (off by up to "
            f"{table['difference'].abs().max():.2g}): {listing(table.loc[wrong, 'patient_id'])}. "
            f"{advice}"
        )
