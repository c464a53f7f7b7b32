"""Describe the patients: characteristics, follow-up, number; groups are in `risk_groups`."""

import json
import re

import numpy as np
import pandas as pd

from tabular_trainers import left_truncation
from tabular_trainers.censoring import kaplan_meier, time_of_quantile
from tabular_trainers.risk_groups import calibration, kaplan_meier_curves, log_rank, risk_thirds
from tabular_trainers.schema import empty

__all__ = [
    "calibration",
    "entry_dependence",
    "follow_up",
    "kaplan_meier_curves",
    "log_rank",
    "risk_thirds",
    "sample_size",
    "table_one",
]

# Words of endpoints: letters and digits beside them would make them part of another word.
_ANY_DEATH = re.compile(
    r"(?<![a-z0-9])(?:os|overall|death|dead|died|deceased|vital|mortality)(?![a-z0-9])"
)
_OTHER_EVENT = re.compile(
    r"(?<![a-z0-9])(?:[a-z]*fs|[a-z]fi|dss|css|ttp|ttr|bcr|specific|related|disease|cancer|tumou?r"
    r"|cause|progress\w*|recur\w*|relaps\w*|metasta\w*)(?![a-z0-9])"
)
MAX_COLUMNS = 40  # a block of embeddings is not described column by column


def follow_up(y):
    """Median follow-up by the reverse Kaplan-Meier method, with its 95% interval.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Structured array with ``event``, ``time`` and, for left-truncated follow-up, ``entry``.

    Returns
    -------
    dict
        median, lower, upper in the unit of the endpoint; None where the curve or its limit never
        comes down to one half. ``start``: with entry times the median is of those still followed
        then (`curve_start`); otherwise 0.

    References
    ----------
    Schemper & Smith, Controlled Clinical Trials 1996;17:343. Brookmeyer & Crowley, Biometrics
    1982;38:29 (interval, on the log-log scale).
    """
    start = left_truncation.curve_start(y)
    found = time_of_quantile(kaplan_meier(y, reverse=True, start=start)) | {"start": start}
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def sample_size(analysis, model, horizons, trials):
    """Count what a model may estimate from each feature set, and the patients that would need.

    Candidate parameters are the columns that the model is fitted on, all patients taken together: a
    categorical column with k levels counts k - 1, and so does a block of patches in k clusters; a
    block that is reduced counts its components, the most that were tried.

    Parameters
    ----------
    analysis : AnalysisSet
    model : str
        Its row in MODELS says how wide a block may be before it is reduced.
    horizons : sequence of float
    trials : DataFrame
        Schema ``trials``.

    Returns
    -------
    list of dict
        A feature set each: n_columns after encoding and before any reduction, n_parameters,
        events_per_parameter (classification: of the rarer class), and what
        `sample_size.minimum_sample_size` gives for n_parameters.
    """
    from tabular_trainers.models import make_model
    from tabular_trainers.sample_size import minimum_sample_size

    y, kind = analysis.y, analysis.endpoint.kind
    event = y["event"] if kind == "survival" else np.asarray(y, dtype=bool)
    follow_up = None
    if kind == "survival":
        entry = y["entry"] if "entry" in y.dtype.names else 0.0
        follow_up = float((y["time"] - entry).mean())
    n_events = int(event.sum() if kind == "survival" else min(event.sum(), (~event).sum()))
    rows = []
    for name, columns in analysis.feature_sets.items():
        pipeline = make_model(
            model,
            kind,
            categorical=analysis.categorical,
            reduce=analysis.reduce,
            parameters=_most_components(trials, name, model),
        )
        preprocess = pipeline.named_steps["preprocess"].fit(analysis.X[list(columns)])
        n_categorical = sum(c not in preprocess.dropped_ for c in preprocess.levels_)
        n_categorical += len(preprocess.bags_)  # shares of one patient sum to 1
        n_parameters = max(len(preprocess.output_names_) - n_categorical, 1)
        needed = minimum_sample_size(kind, n_parameters, float(event.mean()), horizons, follow_up)
        rows.append(
            {
                "feature_set": name,
                "n_columns": max(len(preprocess.expanded_) - n_categorical, 1),
                "n_parameters": n_parameters,
                "events_per_parameter": n_events / n_parameters,
                **needed,
            }
        )
    return rows


def _most_components(trials, feature_set, model):
    """Return the largest number of components tried, as hyper-parameters; None where none was."""
    own = trials[(trials["feature_set"] == feature_set) & (trials["model"] == model)]
    tried = [json.loads(text).get("components") for text in own["parameters"]]
    tried = [number for number in tried if number is not None]
    return {"components": max(tried)} if tried else None


def deaths_are_censored(endpoint):
    """Whether a survival endpoint is, by its words, another than death from any cause.

    Read from the endpoint's name, then from where its event comes from. Nothing is computed from
    the answer; the report says what follows for the reader.

    Examples
    --------
    >>> from types import SimpleNamespace as Endpoint
    >>> described = "event: status is 'deceased'; time: days, days"
    >>> deaths_are_censored(Endpoint(name="os", kind="survival", description=described))
    False
    >>> described = "event: recurrence is 'yes'; time: days_to_recurrence, days"
    >>> deaths_are_censored(Endpoint(name="rfs", kind="survival", description=described))
    True
    """
    if endpoint.kind != "survival":
        return False
    event = endpoint.description.partition("time:")[0].removeprefix("event:")
    for text in (endpoint.name, event):
        if set(_OTHER_EVENT.findall(text.lower())):
            return True
        if set(_ANY_DEATH.findall(text.lower())):
            return False
    return True


def entry_dependence(y):
    """Test whether entry and event depend (`left_truncation.entry_dependence`), as plain JSON.

    Returns
    -------
    dict or None
        tau, standard_error, p_value, n_pairs; None without entry times, or where nothing can be
        tested.
    """
    if "entry" not in (np.asarray(y).dtype.names or ()):
        return None
    found = left_truncation.entry_dependence(y)
    return found._asdict() if np.isfinite(found.p_value) else None


def table_one(analysis, blocks=None):
    """Summarise the patients analysed, and beside them those dropped.

    Parameters
    ----------
    analysis : AnalysisSet
    blocks : sequence of str, default=None
        Blocks to describe; default: those with at most 40 columns, and clinical.

    Returns
    -------
    DataFrame
        Schema ``table_one``: median (quartiles) of numeric columns, count (percent of those known)
        of every level; of columns of 0 and 1, the count of 1. The standardised difference is the
        difference of means (of shares) in units of the root mean variance of the two parts;
        missing where a part has nobody known.

    References
    ----------
    Austin, Statistics in Medicine 2009;28:3083.
    """
    parts = {"kept": analysis.X}
    if analysis.dropped is not None and len(analysis.dropped):
        parts["dropped"] = analysis.dropped
    owner = [column.split(".", 1)[0] for column in analysis.X.columns]
    sizes = pd.Series(owner).value_counts()
    if blocks is None:
        blocks = [b for b in dict.fromkeys(owner) if b == "clinical" or sizes[b] <= MAX_COLUMNS]
    rows = []
    for block, column in zip(owner, analysis.X.columns, strict=True):
        if block not in blocks:
            continue
        values = {part: frame[column] for part, frame in parts.items()}
        name = column.split(".", 1)[1]
        if column in analysis.categorical:
            rows += _level_rows(block, name, values)
        elif not pd.api.types.is_numeric_dtype(values["kept"]):
            continue  # patches: their clusters differ between folds
        elif _is_yes_or_no(values):
            ones = {part: frame.map({0: "0", 1: "1"}) for part, frame in values.items()}
            rows += [row for row in _level_rows(block, name, ones) if row[2] == "1"]
        else:
            rows += _number_rows(block, name, values)
    if not rows:
        return empty("table_one")
    return pd.DataFrame(rows, columns=list(empty("table_one").columns))


def _number_rows(block, name, values):
    numbers = {part: pd.to_numeric(column).dropna().to_numpy() for part, column in values.items()}
    difference = _standardised({part: _mean_variance(known) for part, known in numbers.items()})
    rows = []
    for part, known in numbers.items():
        text = "none known"
        if len(known):
            low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
            text = f"{_short(middle)} ({_short(low)} to {_short(high)})"
        missing = len(values[part]) - len(known)
        rows.append((block, name, None, part, len(known), missing, text, difference))
    return rows


def _level_rows(block, name, values):
    known = {part: column.dropna().astype(str) for part, column in values.items()}
    levels = sorted(set().union(*(set(column) for column in known.values())))
    rows = []
    for level in levels:
        hits = {part: int((column == level).sum()) for part, column in known.items()}
        difference = _standardised(
            {part: _share_variance(hits[part], len(column)) for part, column in known.items()}
        )
        for part, column in known.items():
            percent = f"{hits[part] / len(column):.0%}" if len(column) else "none known"
            missing = len(values[part]) - len(column)
            text = f"{hits[part]} ({percent})"
            rows.append((block, name, level, part, len(column), missing, text, difference))
    return rows


def _is_yes_or_no(values):
    """Whether a number is a yes or no: the median of 0 and 1 says nothing."""
    return set(pd.concat(list(values.values())).dropna().unique()) == {0, 1}


def _short(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _mean_variance(values):
    if not len(values):
        return np.nan, np.nan
    return values.mean(), values.var(ddof=1) if len(values) > 1 else np.nan


def _share_variance(hits, n):
    return (hits / n, hits / n * (1 - hits / n)) if n else (np.nan, np.nan)


def _standardised(moments):
    if "dropped" not in moments:
        return np.nan
    (mean, variance), (other, other_variance) = moments["kept"], moments["dropped"]
    spread = np.sqrt((variance + other_variance) / 2)
    return float((mean - other) / spread) if spread > 0 else np.nan
