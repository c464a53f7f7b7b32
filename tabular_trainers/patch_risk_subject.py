"""Which block, feature set and model of a run are explained by the patches of a store."""

from dataclasses import dataclass

from tabular_trainers.errors import DataError, SchemaError, listing, unknown_name
from tabular_trainers.feature_sets import blocks_of, is_late
from tabular_trainers.patch_bags import COLUMN as PATCHES

SUFFIXES = {  # of the columns that `embed pool` writes, by how it pooled
    "mean": ("",),
    "mean+std": ("", "_std"),
    "quantiles": ("_q10", "_q25", "_q50", "_q75", "_q90"),
    "max": ("_max",),
}
EXACT = ("mean", "clusters")  # of a linear risk; other poolings are no mean over patches


@dataclass(frozen=True)
class Subject:
    """What is explained.

    Attributes
    ----------
    block : str
        Whose columns were pooled from the patches.
    feature_set, model : str
        As in the run.
    how : str
        Pooling: ``"mean"``, ``"mean+std"``, ``"quantiles"`` or ``"max"``; ``"clusters"`` where the
        block is the store itself, put into clusters inside each training part.
    by : str
        ``"slide"``: a patient's slides were pooled one by one and averaged; ``"patch"``: all
        patches of a patient as one bag.
    columns : tuple of str
        Columns ``block.column`` of the run that come from the patches.
    features : tuple of int
        For each column, which number of the vector it was pooled from; empty for clusters.
    suffixes : tuple of str
        For each column, the ending that says which statistic it is; empty for clusters.
    scale : str
        What the terms are, such as ``"log hazard"``.
    is_risk : bool
        Whether terms add up to the risk itself, not to its log odds.
    approximate : str or None
        Why the risk is no sum of terms of patches, in words; None where it is one exactly.
    """

    block: str
    feature_set: str
    model: str
    how: str
    by: str
    columns: tuple
    features: tuple
    suffixes: tuple
    scale: str
    is_risk: bool = True
    approximate: str | None = None

    @property
    def exact(self):
        """Whether the risk is a sum of terms of patches."""
        return self.approximate is None


def choose_subject(reopened, patches, block=None, feature_set=None, model=None):
    """Choose the block pooled from a store, a feature set with it, and a model.

    Parameters
    ----------
    reopened : ReopenedRun
    patches : PatchStore
    block : str, optional
        Default: the block, of the feature set where one is named, that was pooled from this store;
        where there is none, the one whose clusters are of this store.
    feature_set : str, optional
        Default: the block alone where it was run, else the run's largest.
    model : str, optional
        Default: the first whose risk is linear (``cox``, ``logistic``), else the first.

    Returns
    -------
    Subject

    Raises
    ------
    SchemaError
        No block of the run comes from this store, or several do and none is named.
    DataError
        The feature set or the model was not run, or the feature set lacks the block.
    """
    from tabular_trainers.models import find_model

    block, columns = _choose_block(reopened, patches, block, feature_set)
    how, by = _pooling_of(reopened.cohort.blocks[block])
    feature_set = _choose_feature_set(reopened.facts, block, feature_set)
    model = _choose_model(reopened.plan, model)
    spec = find_model(model, reopened.plan.task, is_late(feature_set))
    return Subject(
        block=block,
        feature_set=feature_set,
        model=model,
        how=how,
        by=by,
        **columns,
        scale=spec.shap_scale or spec.risk_scale,
        is_risk=spec.explained is None,
        approximate=_why_approximate(reopened.plan.task, how, model),
    )


def _choose_block(reopened, patches, wanted, feature_set):
    """Find the block that comes from a store; give its name, and its columns as in `Subject`."""
    sets = reopened.facts["feature_sets"]
    used = dict.fromkeys(block for name in sets for block in blocks_of(name))
    if wanted is not None and wanted not in used:
        raise DataError(unknown_name("block of the run", wanted, list(used)))
    found, reasons = {}, {}
    for name in used if wanted is None else [wanted]:
        columns, reason = _columns_of(reopened, patches, name)
        if reason is None:
            found[name] = columns
        else:
            reasons[name] = reason
    if not found:
        said = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise SchemaError(
            f"{patches.folder}: no block of the run {reopened.folder} comes from this store. "
            f"{said}. Pool it with 'tabular-trainers embed pool', and name the table as a block."
        )
    inside = [name for name in found if feature_set and name in blocks_of(feature_set)]
    found = {name: found[name] for name in inside or found}
    pooled = [name for name in found if not reopened.cohort.blocks[name].n_clusters]
    if len(pooled or found) > 1:
        raise SchemaError(
            f"{patches.folder}: blocks {listing(pooled or found)} may come from this store. "
            "Name one with --block."
        )
    name = next(iter(pooled or found))
    return name, found[name]


def _pooling_of(block):
    """Tell how and by which unit the patches of a block became one row."""
    if block.n_clusters:
        return "clusters", "slide"
    return block.pooling["how"], block.pooling["by"]


def _columns_of(reopened, patches, name):
    """Match the columns of a block with the numbers of a vector; or say why they do not match."""
    block = reopened.cohort.blocks[name]
    if block.pooling is None and not block.n_clusters:
        return None, "its table does not say that it was pooled from patches"
    if block.encoder_id != patches.encoder_id:
        return None, f"its encoder is {block.encoder_id}, that of the store {patches.encoder_id}"
    if block.n_clusters:
        return {"columns": (f"{name}.{PATCHES}",), "features": (), "suffixes": ()}, None
    if block.pooling["level"] == "region":
        return None, "it was pooled from regions, which are larger than the patches"
    suffixes = SUFFIXES[block.pooling["how"]]
    place = {
        f"{name}.{feature}{suffix}": (j, suffix)
        for suffix in suffixes
        for j, feature in enumerate(vector_names(patches))
    }
    analysed = [c for c in reopened.plan.analysis.X.columns if c in place]
    if not analysed:
        return None, "none of its columns is a feature of the store"
    features, suffixes = zip(*(place[column] for column in analysed), strict=True)
    return {"columns": tuple(analysed), "features": features, "suffixes": suffixes}, None


def vector_names(patches):
    """Name the numbers of a store's vectors as `embed pool` does.

    Parameters
    ----------
    patches : PatchStore

    Returns
    -------
    tuple of str
    """
    if patches.feature_names is not None:
        return tuple(patches.feature_names)
    width = max(3, len(str(patches.dim - 1)))
    return tuple(f"e{j:0{width}d}" for j in range(patches.dim))


def _choose_feature_set(facts, block, wanted):
    having = [name for name in facts["feature_sets"] if block in blocks_of(name)]
    if wanted is None:
        return block if block in having else facts["full"] if facts["full"] in having else having[0]
    if wanted not in having:
        raise DataError(unknown_name(f"feature set with {block}", wanted, having))
    return wanted


def _choose_model(plan, wanted):
    if wanted is None:
        linear = [name for name in plan.models if is_linear(name, plan.task)]
        return (linear or list(plan.models))[0]
    if wanted not in plan.models:
        raise DataError(unknown_name("model of the run", wanted, list(plan.models)))
    return wanted


def is_linear(model, task):
    """Tell whether the explained risk of a model is linear in its columns."""
    from tabular_trainers.models import find_model

    return find_model(model, task).coefficients is not None


def _why_approximate(task, how, model):
    if how not in EXACT:
        return f"the block was pooled by {how}, not by mean"
    if not is_linear(model, task):
        return f"the risk of {model} is not a sum over columns"
    return None
