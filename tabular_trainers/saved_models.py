"""Models saved with a run: read them, give them the columns they were fitted on, predict."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tabular_trainers.cohort import MISSING_BLOCKS
from tabular_trainers.errors import SchemaError, count, listing
from tabular_trainers.feature_sets import blocks_of, file_name, is_late


@dataclass(frozen=True)
class SavedModel:
    """A fitted pipeline with what is known about it.

    Attributes
    ----------
    pipeline : Pipeline
    metadata : dict
        As `fit_final_models` wrote it.
    """

    pipeline: object
    metadata: dict

    @property
    def spec(self):
        """Its row in MODELS, or that of its late fusion."""
        from tabular_trainers.models import find_model

        late = is_late(self.metadata["feature_set"])
        return find_model(self.metadata["model"], self.metadata["kind"], late)

    def risk(self, X):
        """Give the risk of patients, higher is worse, of shape (n_patients,)."""
        from tabular_trainers.models import predict_risk

        return predict_risk(self.pipeline, self.spec, X)

    def survival(self, X, times):
        """Give the survival probabilities of patients, of shape (n_patients, n_times)."""
        from tabular_trainers.models import predict_survival

        return predict_survival(self.pipeline, self.spec, X, np.asarray(times, dtype=np.float64))

    def survival_at_entry(self, X, entry):
        """Give each patient's survival probability at its own entry, of shape (n_patients,)."""
        from tabular_trainers.models import predict_survival_at_entry

        return predict_survival_at_entry(self.pipeline, self.spec, X, entry)

    @property
    def has_curve(self):
        """Whether it predicts survival curves."""
        return self.metadata["kind"] == "survival" and self.spec.curve is not None

    def features(self, cohort):
        """Put together its columns for the patients of a cohort, or say what differs.

        Returns
        -------
        X : DataFrame
        extra : list of str
            Columns ``block.column`` of the cohort that the model does not know.

        Raises
        ------
        SchemaError
            The cohort lacks a block or a column, or a column is of another type; all are named.
        """
        feature_set = self.metadata["feature_set"]
        absent = [name for name in blocks_of(feature_set) if name not in cohort.blocks]
        if absent:
            raise SchemaError(
                f"the cohort has no block {listing(absent)}, which model {self.metadata['model']} "
                f"({feature_set}) was fitted on; its blocks: {listing(cohort.blocks)}."
            )
        return _same_columns(cohort.features(feature_set), self.metadata)


def read_run(run_folder):
    """Read run.json of a finished run.

    Raises
    ------
    SchemaError
        The folder holds no run.
    """
    try:
        return json.loads((Path(run_folder) / "run.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise SchemaError(f"{run_folder} holds no run.json: not the folder of a run.") from None


def load_saved(folder, feature_set, model):
    """Read a saved model from the ``models`` folder of a run."""
    from tabular_trainers.models.storage import load_model

    return SavedModel(*load_model(model_path(folder, feature_set, model)))


def model_path(folder, feature_set, model):
    """Say where a model is saved in the ``models`` folder of a run."""
    return Path(folder) / file_name(feature_set) / f"{model}.skops"


def _same_columns(X, metadata):
    """Take the columns the model was fitted on, in their order, or say which differ."""
    from pandas.api.types import is_numeric_dtype

    expected = metadata["columns"]
    missing = [name for name in expected if name not in X.columns]
    changed = [
        f"{name} (expected {kind})"
        for name, kind in expected.items()
        if name in X.columns and is_numeric_dtype(X[name]) != (kind == "numeric")
    ]
    indicators = tuple(name for name in X.columns if name.startswith(f"{MISSING_BLOCKS}."))
    extra = [name for name in X.columns if name not in expected and name not in indicators]
    if missing or changed:
        parts = [
            f"{count(len(names), 'column')} {what}: {listing(names)}"
            for what, names in (
                ("missing", missing),
                ("of another type", changed),
                ("not known to the model", extra),
            )
            if names
        ]
        raise SchemaError(
            f"the cohort's columns differ from those of model {metadata['model']} "
            f"({metadata['feature_set']}): {'; '.join(parts)}. "
            "Give the blocks the columns of the run."
        )
    return X[list(expected)], extra
