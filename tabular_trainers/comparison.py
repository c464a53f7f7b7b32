"""Compare feature sets with the baseline on the same patients, and read one verdict from it."""

import math

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError, unknown_name

COLUMNS = (
    "feature_set", "model", "baseline_feature_set", "baseline_model", "metric", "difference",
    "standard_error", "lower", "upper", "p_value", "p_value_holm", "method", "primary",
)  # fmt: skip
_LOWER_IS_BETTER = {"brier", "integrated_brier", "log_loss"}
_HEADLINES = ("harrell_c", "auroc")
CORRECTED_T = "corrected resampled t (Nadeau-Bengio)"


def compare(evaluation, primary=None):
    """Compare each feature set with the baseline, both fitted with the same model.

    Differences are paired: both measures come from the same patients, and what these have in common
    leaves the difference, whether its interval comes from influences of patients (Harrell's C) or
    from bootstrap draws (AUROC). One comparison, named before the run, is primary; all others are
    exploratory and their p values are adjusted together by Holm's method.

    With repeated folds each comparison has a second row beside it, never primary and not adjusted:
    the corrected resampled t of the differences a fold, see `corrected_resampled_t`.

    Parameters
    ----------
    evaluation : Evaluation
        With ``metrics``, ``folds``, ``headline``, ``primary`` and ``baseline``.
    primary : dict, default=None
        ``feature_set`` and ``model``, and where they differ from the baseline feature set and that
        model also ``baseline_feature_set`` and ``baseline_model``. Default: that of the evaluation.

    Returns
    -------
    DataFrame
        Schema ``comparisons``; no row when there is nothing to compare with. ``p_value`` is
        two-sided: from the normal approximation with the standard error, or from Student's t
        (summed by site; repeats).

    Raises
    ------
    DataError
        If ``primary`` names a feature set or model that was not evaluated, or no baseline.

    References
    ----------
    Holm, Scandinavian Journal of Statistics 1979;6:65.
    """
    measured = evaluation.headline
    primary = _primary(primary or evaluation.primary, evaluation.baseline, measured)
    pairs = [
        ((feature_set, model), (evaluation.baseline, model))
        for feature_set, model in measured
        if feature_set != evaluation.baseline and (evaluation.baseline, model) in measured
    ]
    if primary is not None and primary not in pairs:
        pairs.insert(0, primary)
    own = evaluation.metrics[evaluation.metrics["metric"].isin(_HEADLINES)]
    metric = own["metric"].iloc[0] if len(own) else None
    rows = []
    for one, other in pairs:
        difference = measured[one].minus(measured[other])
        error, lower, upper = difference.interval()
        rows.append(
            (*one, *other, metric, difference.estimate, error, lower, upper,
             difference.p_value(), np.nan, f"paired {difference.method}",
             (one, other) == primary)
        )  # fmt: skip
    frame = _frame(rows)
    exploratory = ~frame["primary"].to_numpy()
    adjusted = holm(frame.loc[exploratory, "p_value"].to_numpy())
    frame.loc[exploratory, "p_value_holm"] = adjusted
    repeated = _over_folds(evaluation, own, pairs, metric)
    return pd.concat([frame, repeated], ignore_index=True) if len(repeated) else frame


def corrected_resampled_t(differences, test_to_train):
    """Estimate the mean of differences that were measured once a fold, with overlapping training.

    The training parts of repeated folds share patients, so differences are not independent, and
    s^2 / J would be too small a variance of their mean. The corrected one is
    (1 / J + n_test / n_train) s^2, with J - 1 degrees of freedom. Unlike an interval for the fitted
    models, it has regard to the training patients, but only roughly.

    Parameters
    ----------
    differences : array-like of shape (J,)
        One a fold and repeat; those that are NaN, of folds without a pair to compare, are left out.
    test_to_train : float
        Patients in a test part over patients in a training part.

    Returns
    -------
    mean, standard_error, lower, upper, p_value : float
        95% interval and two-sided p value of Student's t; NaN where fewer than two folds have a
        difference, and the p value also where all of these are equal.

    References
    ----------
    Nadeau & Bengio, Inference for the generalization error, Machine Learning 2003;52:239. Bouckaert
    & Frank, Evaluating the replicability of significance tests, PAKDD 2004 (repeated folds).

    Examples
    --------
    >>> found = corrected_resampled_t([0.02, 0.04, 0.00, 0.02], test_to_train=0.25)
    >>> [round(value, 4) for value in found]
    [0.02, 0.0115, -0.0167, 0.0567, 0.1817]
    """
    from scipy.stats import t

    differences = np.asarray(differences, dtype=np.float64)
    differences = differences[np.isfinite(differences)]
    n = len(differences)
    if n < 2:
        return (math.nan,) * 5
    mean = float(differences.mean())
    error = math.sqrt((1 / n + test_to_train) * differences.var(ddof=1))
    half = float(t.ppf(0.975, n - 1)) * error
    p_value = 2 * float(t.sf(abs(mean) / error, n - 1)) if error > 0 else math.nan
    return mean, error, mean - half, mean + half, p_value


def _over_folds(evaluation, rows, pairs, metric):
    """Compare over the folds of all repeats; no row where there is only one."""
    folds = evaluation.folds
    if folds["repeat"].nunique() < 2:
        return _frame([])
    sizes = folds["part"].value_counts()
    ratio = sizes["test"] / sizes["train"]
    each = rows[rows["fold"].notna()].set_index(["feature_set", "model", "repeat", "fold"])
    each = each["estimate"].astype(float).sort_index()
    found = []
    for one, other in pairs:
        differences = each.loc[one] - each.loc[other]  # aligned by repeat and fold
        numbers = corrected_resampled_t(differences, ratio)
        found.append((*one, *other, metric, *numbers, np.nan, CORRECTED_T, False))
    return _frame(found)


def _frame(rows):
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = ["difference", "standard_error", "lower", "upper", "p_value", "p_value_holm"]
    return frame.astype(dict.fromkeys(numbers, "float64") | {"primary": bool})


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


def _primary(primary, baseline, measured):
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
            ("feature set", feature_set, dict.fromkeys(s for s, _ in measured)),
            ("model", model, dict.fromkeys(m for _, m in measured)),
        ):
            if name not in known:
                raise DataError(f"primary: {unknown_name(what, name, known)}")
        if (feature_set, model) not in measured:
            raise DataError(f"primary: {feature_set} was not evaluated with model {model}.")
    return one, other


def _signed(value):
    """Write three decimals, or one digit where three would hide on which side of 0 it lies."""
    text = f"{value:.3f}"
    return f"{value:.1g}" if float(text) == 0 else text
