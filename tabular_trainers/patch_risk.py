"""The risk of a patient as a sum over patches: exact for means of patches and linear models.

A mean-pooled column is the mean of its patches, and scaling, PCA and a linear model are affine. So
what a block adds to a patient's risk is the mean of what its patches would add: ``term(patch) =
sum of slope * number + offset``. The same holds for shares of patches in clusters, where a patch
counts 1 in its own cluster. Other blocks are a constant. Terms come from the model of the fold in
which the patient was held out.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError
from tabular_trainers.explanation import contributions_of
from tabular_trainers.patch_risk_folds import (
    TOLERANCE,
    check_sums,
    explained,
    map_folds,
    patches_used,
    predicted,
    refit,
    slides_by_patient,
)

LIMIT_QUANTILE = 0.99  # of the sizes of terms: where the colours of a map end
LIMIT_PATCHES = 200  # of each slide, evenly spaced, that this quantile is taken over


@dataclass(frozen=True)
class PatchTerms:
    """What each patch adds to the risk of its patient.

    Attributes
    ----------
    subject : Subject
    patches : PatchStore
    patients : DataFrame
        Contract ``patch_terms``: for every patient, that the terms add up to the risk.
    limit : float
        99% of the patches have terms of at most this size: a common scale for maps.
    """

    subject: object
    patches: object
    patients: pd.DataFrame
    limit: float
    scorers: dict  # by fold
    fold_of: dict  # by patient

    def terms(self, slide_id):
        """Give the term of each patch of a slide, in the order of its rows.

        Zero is the mean patient of the fold's training part. A term is on the scale of the risk:
        it is what the block would add for a patient who had only patches like this one.

        Parameters
        ----------
        slide_id : str

        Returns
        -------
        ndarray (n_patches,) of float64

        Raises
        ------
        DataError
            The slide is of no patient of the run, so no model has held it out.
        """
        slides = self.patches.slides
        own = slides.loc[slides["slide_id"] == slide_id, "patient_id"]
        if own.empty or own.iloc[0] not in self.fold_of:
            raise DataError(f"slide {slide_id}: its patient was held out in no fold of the run.")
        return slide_terms(self.patches, self.scorers[self.fold_of[own.iloc[0]]], slide_id)


@dataclass(frozen=True)
class LinearScorer:
    """Terms that are linear in the numbers of a patch's vector.

    Attributes
    ----------
    slopes : ndarray (dim,) of float64
    offset : float
    """

    slopes: np.ndarray
    offset: float

    def __call__(self, vectors):
        """Give the terms (n,) of vectors (n, dim), summed in float64."""
        return vectors.astype(np.float64) @ self.slopes + self.offset


@dataclass(frozen=True)
class ClusterScorer:
    """Terms by the cluster, made in the fold's training part, that a patch lies in.

    Attributes
    ----------
    clusters : Clusters
    slopes : ndarray (k,) of float64
    offset : float
    """

    clusters: object
    slopes: np.ndarray
    offset: float

    def __call__(self, vectors):
        """Give the terms (n,) of vectors (n, dim)."""
        return self.slopes[self.clusters.assign(vectors)] + self.offset


def patch_terms(reopened, subject, patches, n_jobs=1, progress=None):
    """Refit each fold's model and spread the risk of its held-out patients over their patches.

    The first repeat is explained, as in the table ``shap``. The store is read once.

    Parameters
    ----------
    reopened : ReopenedRun
    subject : Subject
        Exact: mean-pooled patches and a linear model.
    patches : PatchStore
    n_jobs : int, default 1
        Processes; does not change any result.
    progress : callable, optional
        Called as ``progress(done, total, what)`` after each fold.

    Returns
    -------
    PatchTerms

    Raises
    ------
    DataError
        The risk is no sum over patches; see `occlusion`.
    SchemaError
        The patches do not add up to a patient's risk in ``predictions.parquet`` within 1e-5 (1 +
        the sum of the contributions' sizes): they are not those of the run.
    """
    if not subject.exact:
        raise DataError(
            f"block {subject.block}, model {subject.model}: no exact terms of patches, as "
            f"{subject.approximate}. Leave out clusters instead (occlusion)."
        )
    results = map_folds(terms_of_fold, reopened, subject, patches, n_jobs, progress)
    table = pd.concat([result["patients"] for result in results], ignore_index=True)
    if subject.is_risk:
        said = reopened.risk(subject.feature_set, subject.model)
        table["risk"] = said.reindex(table["patient_id"]).to_numpy()
    table["difference"] = table["patch_term"] + table["constant"] - table["risk"]
    check_sums(reopened, subject, patches, table)
    sizes = np.concatenate([result["sizes"] for result in results])
    return PatchTerms(
        subject=subject,
        patches=patches,
        patients=table.sort_values("patient_id", ignore_index=True),
        limit=float(np.quantile(sizes, LIMIT_QUANTILE)) if len(sizes) else 0.0,
        scorers={result["fold"]: result["scorer"] for result in results},
        fold_of=dict(zip(table["patient_id"], table["fold"], strict=True)),
    )


def terms_of_fold(context, fold, parameters):
    """Refit the model of one fold and read the patches of the patients it never saw."""
    subject, patches = context.subject, patches_used(context)
    pipeline, spec, X = refit(context, fold, parameters)
    scorer, own = _linear_scorer(pipeline, spec, subject, patches.dim)
    base, contributions, _ = contributions_of(pipeline, spec, X, X)
    slides = slides_by_patient(patches, X.index)
    n_slides, n_patches, means, sizes = [], [], [], []
    for patient in X.index:
        terms = [slide_terms(patches, scorer, slide) for slide in slides[patient]]
        n_slides.append(len(terms))
        n_patches.append(sum(map(len, terms)))
        units = terms if subject.by == "slide" else [np.concatenate(terms)]
        means.append(np.mean([unit.mean() for unit in units]))
        sizes += [np.abs(some[:: 1 + (len(some) - 1) // LIMIT_PATCHES]) for some in terms]
    constant = base + contributions.drop(columns=own).sum(axis=1)
    table = pd.DataFrame(
        {
            "patient_id": X.index,
            "fold": fold,
            "n_slides": n_slides,
            "n_patches": n_patches,
            "patch_term": means,
            "constant": constant.to_numpy(),
            "risk": explained(pipeline, spec, X),
            "bound": TOLERANCE * (1 + contributions.abs().sum(axis=1).to_numpy()),
        }
    )
    return {
        "patients": table,
        "predicted": predicted(pipeline, spec, X),
        "sizes": np.concatenate([np.empty(0), *sizes]),
        "scorer": scorer,
        "fold": fold,
    }


def slide_terms(patches, scorer, slide_id):
    """Give the terms of a slide's patches, block by block."""
    return np.concatenate([scorer(block) for block in patches.iterate(slide_id)])


def _linear_scorer(pipeline, spec, subject, dim):
    """Carry the coefficients of a fitted model back to patches; also name the columns they make."""
    if spec.parts is not None:
        part = next(p for p in spec.parts(pipeline[-1]) if p.block == subject.block)
        weight, pipeline, spec = part.weight, part.pipeline, part.row
    else:
        weight = 1.0
    preprocess = pipeline[0]
    slopes, offsets = preprocess.linear_weights(spec.coefficients(pipeline[-1]))
    if subject.how == "clusters":
        clusters = preprocess.clusters(subject.block)
        own = [f"{subject.block}.{name}" for name in clusters.names]
    else:
        own = list(subject.columns)
    slopes, offset = weight * slopes[own].to_numpy(), weight * float(offsets[own].sum())
    if subject.how == "clusters":
        return ClusterScorer(clusters, slopes, offset), own
    vector = np.zeros(dim)
    np.add.at(vector, list(subject.features), slopes)
    return LinearScorer(vector, offset), own
