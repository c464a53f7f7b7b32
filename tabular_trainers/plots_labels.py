"""Numbers, intervals, times and names in words, the same in every figure and in the report."""

import math

from tabular_trainers.errors import count
from tabular_trainers.feature_sets import blocks_of, is_late

NO_VALUE = "–"
MINUS = "\N{MINUS SIGN}"

# A year in the units that a cohort may use; axes of two years or more are shown in years.
YEAR = {"days": 365.25, "weeks": 365.25 / 7, "months": 12.0, "years": 1.0}

METRICS = {
    "harrell_c": "Harrell's C",
    "uno_c": "Uno's C",
    "auc": "AUC",
    "integrated_brier": "Integrated Brier score",
    "brier": "Brier score",
    "observed_expected": "Observed/expected",
    "calibration_slope": "Calibration slope",
    "calibration_in_the_large": "Calibration in the large",
    "integrated_calibration_index": "Integrated calibration index",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "log_loss": "Log loss",
}
DECIMALS = {
    "observed_expected": 2,
    "calibration_slope": 2,
    "calibration_in_the_large": 2,
}  # others: 3
LOWER_IS_BETTER = {"integrated_brier", "brier", "log_loss"}
MAIN_METRIC = {"survival": "harrell_c", "classification": "auroc"}
SELECTED = "model chosen in training"


def is_missing(value):
    """Whether a number from a table or from JSON is absent."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or value != value


def number(value, decimals=3, sign=False):
    """Write a number with a fixed precision and a true minus sign; a dash when it is missing.

    Examples
    --------
    >>> number(0.71234), number(-0.0123, sign=True), number(None)
    ('0.712', '−0.012', '–')
    """
    if is_missing(value):
        return NO_VALUE
    text = f"{value:{'+' if sign else ''},.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def interval(estimate, lower, upper, decimals=3, sign=False):
    """Write estimate (lower to upper); a dash in the brackets when there is no interval.

    Examples
    --------
    >>> interval(0.712, 0.66, 0.764), interval(0.712, None, None), interval(None, None, None)
    ('0.712 (0.660 to 0.764)', '0.712 (–)', '–')
    """
    if is_missing(estimate):
        return NO_VALUE
    if is_missing(lower) or is_missing(upper):
        return f"{number(estimate, decimals, sign)} ({NO_VALUE})"
    ends = f"{number(lower, decimals)} to {number(upper, decimals)}"
    return f"{number(estimate, decimals, sign)} ({ends})"


def magnitude(value):
    """Write a size with three digits.

    Examples
    --------
    >>> magnitude(0.5), magnitude(0.01372), magnitude(123.4)
    ('0.500', '0.0137', '123')
    """
    return NO_VALUE if is_missing(value) else f"{value:#.3g}".rstrip(".").replace("-", MINUS)


def p_value(value):
    """Write a p value: two digits, never as zero.

    Examples
    --------
    >>> p_value(0.0321), p_value(0.00002), p_value(0.34), p_value(None), p_value(1.0)
    ('0.032', '<0.001', '0.34', '–', '1.00')
    """
    if is_missing(value):
        return NO_VALUE
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def time_axis(unit, longest):
    """Choose the unit of a time axis: years for two years or more, else the unit of the endpoint.

    Parameters
    ----------
    unit : str
        Unit of the endpoint.
    longest : float
        Longest time shown, in ``unit``.

    Returns
    -------
    divisor : float
        What times are divided by.
    shown : str
        Unit after division.

    Examples
    --------
    >>> time_axis("days", 3000), time_axis("days", 90), time_axis("cycles", 12)
    ((365.25, 'years'), (1.0, 'days'), (1.0, 'cycles'))
    """
    year = YEAR.get(unit)
    if year and longest >= 2 * year:
        return year, "years"
    return 1.0, unit or "time units"


def time_words(value, unit):
    """Write one time with its unit, in whole years where it is within half a percent of them.

    Examples
    --------
    >>> time_words(1095, "days"), time_words(36, "months"), time_words(400, "days")
    ('3 years', '3 years', '400 days')
    """
    if is_missing(value):
        return NO_VALUE
    year = YEAR.get(unit)
    if year:
        years = value / year
        if round(years) >= 1 and abs(years - round(years)) <= 0.005 * round(years):
            return count(round(years), "year")
    return f"{value:,.6g} {unit or 'time units'}"


def curve_start(rows):
    """Return the time at which Kaplan-Meier curves of a table start; 0 where there is none."""
    return float(rows["time"].min()) if len(rows) else 0.0


def given_alive(start, run, doing="alive"):
    """Say of whom a curve is that starts after time zero; empty for one from time zero.

    Examples
    --------
    >>> given_alive(152.34, {"endpoint": {"unit": "days"}}), given_alive(0.0, {})
    ('given alive at 152 days', '')
    """
    if not start:
        return ""
    return f"given {doing} at {time_words(float(f'{start:.3g}'), run['endpoint'].get('unit'))}"


def time_label(run, shown):
    """Label a time axis; what stands in brackets after time zero is left to the text.

    Examples
    --------
    >>> time_label({"time_zero": "diagnosis (by biopsy)"}, "years")
    'Time since diagnosis (years)'
    """
    start = str(run["time_zero"]).split("(")[0].strip() or "time zero"
    return f"Time since {start} ({shown})"


def horizon_words(value, unit):
    """Write a horizon, with its exact value where the words are rounded or converted.

    Examples
    --------
    >>> horizon_words(1095, "days"), horizon_words(3, "years"), horizon_words(400, "days")
    ('3 years (1,095 days)', '3 years', '400 days')
    """
    words = time_words(value, unit)
    exact = f"{value:,.6g} {unit or 'time units'}"
    return words if words.split()[0] == exact.split()[0] else f"{words} ({exact})"


def feature_set_words(name):
    """Write a feature set with spaces around each plus sign, and late fusion in words.

    Examples
    --------
    >>> feature_set_words("clinical+pathology"), feature_set_words("late:clinical+pathology")
    ('clinical + pathology', 'clinical + pathology (late fusion)')
    """
    return " + ".join(blocks_of(name)) + (" (late fusion)" if is_late(name) else "")


def model_words(run, model):
    """Write a model with the label of its row in MODELS; 'selected' in words."""
    if model == "selected":
        return SELECTED
    return (run.get("model_labels") or {}).get(model, str(model))


def pair_words(run, feature_set, model):
    """Write a feature set and a model together."""
    return f"{feature_set_words(feature_set)}, {model_words(run, model)}"


def scale_words(run, feature_set, model):
    """Name the scale of contributions: that of the model, or the one that late fusion has."""
    if is_late(feature_set):
        return run["late_fusion"]["contribution_scale"]
    return (run.get("contribution_scales") or {}).get(model, "risk")


def metric_words(metric):
    """Write a measure as in a sentence; unknown names are shown as they are.

    Examples
    --------
    >>> metric_words("uno_c"), metric_words("my_metric")
    ("Uno's C", 'my metric')
    """
    of = "difference in "
    if str(metric).startswith(of):
        return of + metric_words(metric[len(of) :])
    return METRICS.get(metric, str(metric).replace("_", " "))


def is_survival(run):
    """Whether the endpoint of a run is survival."""
    return run["endpoint"]["kind"] == "survival"


def events_words(run, n_events):
    """Write a number of events; classification: of positive patients.

    Examples
    --------
    >>> events_words({"endpoint": {"kind": "survival"}}, 1), events_words(
    ...     {"endpoint": {"kind": "classification"}}, 40)
    ('1 event', '40 positive')
    """
    return count(n_events, "event") if is_survival(run) else f"{n_events:,} positive"


def cohort_words(run, n_patients=None, n_events=None):
    """Write patients and events, of the run unless given: '763 patients, 213 events'."""
    n_patients = run["n_patients"] if n_patients is None else n_patients
    n_events = run["n_events"] if n_events is None else n_events
    return f"{count(int(n_patients), 'patient')}, {events_words(run, int(n_events))}"


def cohort_phrase(run):
    """Write patients and events as part of a sentence: '763 patients with 213 events'."""
    patients = count(int(run["n_patients"]), "patient")
    if is_survival(run):
        return f"{patients} with {count(int(run['n_events']), 'event')}"
    return f"{patients}, {int(run['n_events']):,} of them positive"


def main_metric(run):
    """Name the measure of the verdict: as in run.json, else the main one of the task."""
    primary = run.get("primary") or {}
    return primary.get("metric") or MAIN_METRIC[run["endpoint"]["kind"]]
