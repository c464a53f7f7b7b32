"""The models: one row of facts each, and the few functions that use any of them.

A new model is its own module with a `ModelSpec`, and one row below.
"""

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from tabular_trainers.errors import DataError, unknown_name
from tabular_trainers.models.boosting import XGB_CLASSIFICATION, XGB_SURVIVAL
from tabular_trainers.models.classification_forest import RANDOM_FOREST
from tabular_trainers.models.cox import COX, CoxRegression
from tabular_trainers.models.forest import RSF, RandomSurvivalForest
from tabular_trainers.models.late_fusion import late_row
from tabular_trainers.models.linear import LOGISTIC
from tabular_trainers.models.reference_cox import SKSURV_COXNET
from tabular_trainers.models.reference_forest import SKSURV_RSF
from tabular_trainers.models.spec import DataFacts, ModelSpec
from tabular_trainers.models.storage import load_model, save_model
from tabular_trainers.preprocess import DEFAULT_COMPONENTS, Preprocessor

__all__ = [
    "MODELS",
    "CoxRegression",
    "DataFacts",
    "ModelSpec",
    "RandomSurvivalForest",
    "find_model",
    "load_model",
    "make_model",
    "predict_risk",
    "predict_survival",
    "predict_survival_at_entry",
    "save_model",
    "split_parameters",
]

MODELS = {
    "survival": {
        "cox": COX,
        "rsf": RSF,
        "xgb": XGB_SURVIVAL,
        "sksurv_rsf": SKSURV_RSF,
        "sksurv_coxnet": SKSURV_COXNET,
    },
    "classification": {
        "logistic": LOGISTIC,
        "random_forest": RANDOM_FOREST,
        "xgb": XGB_CLASSIFICATION,
    },
}


def find_model(name, task, late=False):
    """Look up a row of `MODELS`, or the row of its late fusion.

    Raises
    ------
    DataError
        When the task or the model is unknown; the message names the nearest.
    """
    if task not in MODELS:
        raise DataError(unknown_name("kind of endpoint", task, MODELS))
    if name not in MODELS[task]:
        raise DataError(unknown_name(f"{task} model", name, MODELS[task]))
    row = MODELS[task][name]
    return late_row(name, task, row) if late else row


def make_model(
    name,
    task,
    categorical=(),
    reduce=None,
    parameters=None,
    random_state=0,
    n_jobs=1,
    score_only=False,
    late=False,
):
    """Build an unfitted Pipeline of preprocessing and model.

    Parameters
    ----------
    name : str
        Such as ``"cox"``.
    task : {"survival", "classification"}
    categorical : sequence of str
        Categorical columns as ``block.column``.
    reduce : dict or None
        ``{block: {"pca": k}}``.
    parameters : dict or None
        Hyper-parameters; None means the defaults. ``components`` is the number of principal
        components of blocks that are reduced by default, the others are the model's.
        With ``late``: ``{block: hyper-parameters}``.
    random_state : int
    n_jobs : int
        Threads of one fit.
    score_only : bool
        Skip what only survival curves need.
    late : bool
        One such model a block, and a regression on their risks (late fusion), instead of one model
        on all columns.

    Returns
    -------
    Pipeline
        Steps ``preprocess`` and ``model``; fit with ``fit(X, y, model__groups=site)``.

    Examples
    --------
    >>> make_model("cox", "survival").named_steps["model"]
    CoxRegression()
    """
    spec = find_model(name, task, late)
    if late:
        fusion = spec.build(
            parameters, categorical, reduce, n_jobs=n_jobs, random_state=random_state
        )
        return Pipeline([("preprocess", FunctionTransformer()), ("model", fusion)])
    components, own = split_parameters(parameters)
    preprocess = Preprocessor(
        categorical=tuple(categorical),
        reduce=reduce,
        scale=spec.scale,
        keep_missing=spec.handles_missing,
        max_block_columns=spec.max_block_columns,
        default_components=components,
        random_state=random_state,
    )
    estimator = spec.build(**own, random_state=random_state, n_jobs=n_jobs, score_only=score_only)
    return Pipeline([("preprocess", preprocess), ("model", estimator)])


def split_parameters(parameters):
    """Split hyper-parameters: the number of default components, and those of the model."""
    own = dict(parameters or {})
    return own.pop("components", DEFAULT_COMPONENTS), own


def predict_risk(pipeline, spec, X):
    """Give the risk of patients, higher is worse, of shape (n_patients,)."""
    return spec.risk(pipeline[-1], pipeline[0].transform(X))


def predict_survival(pipeline, spec, X, times):
    """Give the survival probabilities of patients, of shape (n_patients, n_times)."""
    return spec.curve(pipeline[-1], pipeline[0].transform(X), times)


def predict_survival_at_entry(pipeline, spec, X, entry):
    """Give the survival probability of each patient at its own entry, of shape (n_patients,).

    Patients are taken in order of entry, some at a time, so that the table of their curves at all
    entries of the lot stays small.
    """
    found = np.empty(len(X))
    order = np.argsort(entry, kind="stable")
    for first in range(0, len(order), 256):
        rows = order[first : first + 256]
        times, place = np.unique(entry[rows], return_inverse=True)
        curves = predict_survival(pipeline, spec, X.iloc[rows], times)
        found[rows] = curves[np.arange(len(rows)), place]
    return found
