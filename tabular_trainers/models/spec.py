"""What the rest of the package knows about a model: one frozen row of facts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tabular_trainers.errors import DataError
from tabular_trainers.principal_components import MOST_COMPONENTS

# Wider blocks are reduced by PCA unless the cohort says otherwise. Elastic-net Cox, inner C on
# whole columns -> on 64 components: HANCOCK with a 512-column embedding .680 -> .720, TCGA GBMLGG
# with 1,570 genomic columns .827 -> .856, SKCM .555 -> .574; trees cannot explain thousands.
MAX_BLOCK_COLUMNS = 100


@dataclass(frozen=True)
class DataFacts:
    """The size of a training part, for search spaces that depend on it.

    Attributes
    ----------
    n, p : int
        Patients and columns.
    n_events : int
        Classification: patients of the smaller class.
    reduced : bool
        Whether a block is reduced to principal components by default, so that their number is
        open.
    """

    n: int
    p: int
    n_events: int
    reduced: bool = False


def suggest_components(trial, facts):
    """Ask for the number of principal components, where a block is reduced by default.

    At most one for five events, the most that a linear model without a penalty would be given.

    Parameters
    ----------
    trial : Trial
    facts : DataFacts

    Returns
    -------
    dict
        ``components``, which `make_model` hands to the preprocessing; or empty.
    """
    if not facts.reduced:
        return {}
    most = min(max(facts.n_events // 5, 2), MOST_COMPONENTS)
    return {"components": trial.suggest_int("components", min(4, most), most, log=True)}


@dataclass(frozen=True)
class ModelSpec:
    """One model: how to build it, what its risk means, how to explain it.

    Attributes
    ----------
    label : str
        For figures and tables.
    build : callable
        ``build(**parameters, random_state, n_jobs, score_only)`` gives an estimator whose ``fit``
        takes ``(X, y, groups=None)``. With ``score_only`` what only survival curves need is left
        out; the risk is the same. An estimator with a method ``fit_folds`` chooses what its trial
        leaves open on the inner folds of the trial.
    space : callable
        ``space(trial, facts)`` gives parameters for `make_model`: those of ``build``, and perhaps
        ``components``. ``{}`` without a ``fit_folds`` means that the estimator tunes itself, and
        then has ``chosen_parameters_`` and ``inner_value_``.
    risk : callable
        ``risk(fitted, X)`` gives (n,), higher is worse.
    risk_scale : str
        What the numbers are, for the report.
    curve : callable or None
        ``curve(fitted, X, times)`` gives the survival probabilities, (n, n_times).
    shap : callable
        ``shap(fitted, X, background, seed)`` gives the base and the contributions (n, q);
        base + sum is the explained quantity: the risk, unless ``shap_scale`` says otherwise.
    shap_kind : {"exact", "sampled"}
        How the contributions are computed.
    supports_entry : bool
        Whether ``fit`` accepts a ``y`` with entry times (left truncation).
    handles_missing : bool
        Whether missing numbers are left as NaN.
    scale : bool
        Whether columns are standardised first.
    max_block_columns : int or None
        Wider blocks are reduced by PCA unless the cohort says otherwise.
    coefficients : callable or None
        ``coefficients(fitted)`` gives (q,) when the risk is linear in the matrix, else None.
    intercept : callable or None
        ``intercept(fitted)`` is what the linear risk adds to ``matrix @ coefficients``; None is 0.
    shap_scale : str or None
        Name of the explained quantity when it is not the risk itself.
    explained : callable or None
        ``explained(fitted, X)`` gives that quantity, (n,), a monotone function of the risk.
    parts : callable or None
        ``parts(fitted)`` gives the models whose explained quantities are added up, for a model made
        of several; see ``LateFusion``.
    prepare : callable or None
        ``prepare(X, n_jobs)`` gives what ``fit`` accepts in place of the matrix: made once for an
        inner fold and shared by its trials.
    default : bool
        Whether a run that names no models takes it.
    cost : float
        Processor time of tuning and fitting on a wide table, about, beside the others.
    self_tuning : str or None
        What a model chooses for itself and how, for the methods paragraph.
    """

    label: str
    build: Callable
    space: Callable
    risk: Callable
    risk_scale: str
    curve: Callable | None
    shap: Callable
    shap_kind: Literal["exact", "sampled"]
    supports_entry: bool
    handles_missing: bool
    scale: bool
    max_block_columns: int | None
    coefficients: Callable | None = None
    intercept: Callable | None = None
    shap_scale: str | None = None
    explained: Callable | None = None
    parts: Callable | None = None
    prepare: Callable | None = None
    default: bool = True
    cost: float = 1.0
    self_tuning: str | None = None


def refuse_entry(y, label):
    """Raise when entry times are given to a model that would ignore them.

    Raises
    ------
    DataError
        When ``y`` has the field ``entry``.
    """
    if y.dtype.names and "entry" in y.dtype.names:
        raise DataError(
            f"{label}: entry times (left truncation) are given, but this model ignores them and "
            "would overstate survival. Use a model that supports entry, or remove 'entry' from the "
            "endpoint if every patient was under observation from time zero."
        )


def refuse_no_events(y, label):
    """Raise when nobody in the training part had the event.

    Raises
    ------
    DataError
        When no event is in ``y``.
    """
    if not y["event"].any():
        raise DataError(
            f"{label}: none of {len(y)} patients in the training part had the event; "
            "expected at least one. Use fewer folds, or another endpoint."
        )
