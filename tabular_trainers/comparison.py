"""Compare feature sets with the baseline on the same patients, and read one verdict from it."""

import math

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError, unknown_name
from tabular_trainers.metrics import interval

COLUMNS = (
    "feature_set", "model", "baseline_feature_set", "baseline_model", "metric", "difference",
    "standard_error", "lower", "upper", "p_value", "p_value_holm", "method", "primary",
)  # fmt: skip
_LOWER_IS_BETTER = {"brier", "integrated_brier", "log_loss"}
_HEADLINES = ("harrell_c", "auroc")


def compare(evaluation, primary=None):
    """Compare each feature set with the baseline, both fitted with the same model.

    Differences are paired: both measures come from the same patients, and their bootstrap draws
    from the same resamples. One comparison, named before the run, is primary; all others are
    exploratory and their p values are adjusted together by Holm's method.

    Parameters
    ----------
    evaluation : Evaluation
        With ``metrics``, ``headline_draws``, ``primary`` and ``baseline``.
    primary : dict, default=None
        ``feature_set`` and ``model``, and where they differ from the baseline feature set and that
        model also ``baseline_feature_set`` and ``baseline_model``. Default: that of the evaluation.

    Returns
    -------
    DataFrame
        Schema ``comparisons``; no row when there is nothing to compare with. ``p_value`` is
        two-sided, from the normal approximation with the bootstrap standard error; the interval is
        that of the percentiles.

    Raises
    ------
    DataError
        If ``primary`` names a feature set or model that was not evaluated, or no baseline.

    References
    ----------
    Holm, Scandinavian Journal of Statistics 1979;6:65.
    """
    draws = evaluation.headline_draws
    primary = _primary(primary or evaluation.primary, evaluation.baseline, draws)
    pairs = [
        ((feature_set, model), (evaluation.baseline, model))
        for feature_set, model in draws
        if feature_set != evaluation.baseline and (evaluation.baseline, model) in draws
    ]
    if primary is not None and primary not in pairs:
        pairs.insert(0, primary)
    overall = _overall(evaluation.metrics)
    rows = []
    for one, other in pairs:
        mine, baseline = overall.loc[one], overall.loc[other]
        difference = mine["estimate"] - baseline["estimate"]
        error, lower, upper = interval(draws[one] - draws[other])
        rows.append(
            (*one, *other, mine["metric"], difference, error, lower, upper,
             normal_p_value(difference, error), np.nan, f"paired {mine['method']}",
             (one, other) == primary)
        )  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = ["difference", "standard_error", "lower", "upper", "p_value", "p_value_holm"]
    frame = frame.astype(dict.fromkeys(numbers, "float64") | {"primary": bool})
    exploratory = ~frame["primary"].to_numpy()
    adjusted = holm(frame.loc[exploratory, "p_value"].to_numpy())
    frame.loc[exploratory, "p_value_holm"] = adjusted
    return frame


def verdict(row):
    """Read one comparison in words.

    Parameters
    ----------
    row : Series or dict
        Row of the table ``comparisons``.

    Returns
    -------
    dict
        ``reads``: "adds" (the interval lies on the better side of 0), "worse" (on the other side)
        or "not shown"; ``text``; ``difference``, ``lower`` and ``upper`` (None where undefined).

    Examples
    --------
    >>> row = {"metric": "harrell_c", "difference": 0.012, "lower": -0.004, "upper": 0.029}
    >>> verdict(row)["text"]
    'not shown: difference between -0.004 and 0.029'
    """
    numbers = {name: float(row[name]) for name in ("difference", "lower", "upper")}
    lower, upper = numbers["lower"], numbers["upper"]
    better = -1 if row["metric"] in _LOWER_IS_BETTER else 1
    if not (math.isfinite(lower) and math.isfinite(upper)):
        reads, text = "not shown", "not shown: no interval could be computed"
    else:
        above, below = (lower > 0, upper < 0) if better == 1 else (upper < 0, lower > 0)
        reads = "adds" if above else "worse" if below else "not shown"
        text = f"{reads}: difference between {_signed(lower)} and {_signed(upper)}"
    return {
        "reads": reads,
        "text": text,
        **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
    }


def normal_p_value(difference, standard_error):
    """Two-sided p value of a difference with this standard error; NaN where it has none."""
    if not (math.isfinite(difference) and standard_error > 0):
        return math.nan
    return math.erfc(abs(difference) / standard_error / math.sqrt(2))


def holm(p_values):
    """Adjust p values by Holm's step-down method; those that are NaN stay so and do not count.

    Examples
    --------
    >>> [float(round(p, 3)) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _primary(primary, baseline, draws):
    if primary is None:
        return None
    one = (primary["feature_set"], primary["model"])
    other = (
        primary.get("baseline_feature_set", baseline),
        primary.get("baseline_model", primary["model"]),
    )
    if other[0] is None:
        raise DataError(
            "primary: no baseline feature set; expected one named clinical, or "
            "baseline_feature_set in primary."
        )
    for feature_set, model in (one, other):
        for what, name, known in (
            ("feature set", feature_set, dict.fromkeys(s for s, _ in draws)),
            ("model", model, dict.fromkeys(m for _, m in draws)),
        ):
            if name not in known:
                raise DataError(f"primary: {unknown_name(what, name, known)}")
        if (feature_set, model) not in draws:
            raise DataError(f"primary: {feature_set} was not evaluated with model {model}.")
    return one, other


def _overall(metrics):
    rows = metrics[metrics["fold"].isna() & metrics["metric"].isin(_HEADLINES)]
    return rows.set_index(["feature_set", "model"])


def _signed(value):
    """Write three decimals, or one digit where three would hide on which side of 0 it lies."""
    text = f"{value:.3f}"
    return f"{value:.1g}" if float(text) == 0 else text
