"""The endpoints of a cohort: read time, event, entry or label, and say why a patient has none."""

import numpy as np
import pandas as pd

from tabular_trainers.cohort_parts import Endpoint
from tabular_trainers.cohort_tables import (
    default_key,
    label_text,
    missing_column,
    one_row_each,
)
from tabular_trainers.errors import (
    DataError,
    Problems,
    SchemaError,
    count,
    labels,
    listing,
    nearest,
    rows,
)


def read_endpoint(name, options, reading):
    """Read one endpoint.

    Parameters
    ----------
    name : str
    options : SurvivalOptions or ClassificationOptions
    reading : Reading
        Its notes get what was collapsed and what is worth a warning.

    Returns
    -------
    endpoint : Endpoint or None
        None when something is wrong.
    problems : Problems
        What is wrong with this endpoint. It is not in ``reading.problems``, so that it does not
        stand in the way of another endpoint.
    """
    where, problems, clinical = f"[endpoints.{name}]", Problems(), reading.clinical
    try:
        if options.table is None:
            table, key = clinical.uri, options.key or clinical.key
        else:
            table, key = options.table, options.key or default_key(options.table, clinical.key)
        found = reading.reader.rows(table, key, where, clinical)
        used = outcome_columns(options)
        for column in used:
            if column not in found.frame:
                problems.add(missing_column(found.name, column, where, found.frame.columns))
        problems.raise_if_any()
        frame = _numbers(found, options, where, problems) | _status(found, options, where, problems)
        problems.raise_if_any()
        columns = {role: getattr(options, role) for role in frame}
        frame = pd.DataFrame(frame, index=found.frame.index).rename(columns=columns)
        frame, note = one_row_each(found, frame, where)
        frame.columns = list(columns)
        reading.notes.extend([note] if note else [])
        lines = pd.Series(found.frame.index, index=found.ids)
        lines = lines[~lines.index.duplicated()].loc[frame.index]
        finish = _survival if options.kind == "survival" else _classification
        n_patients = len(pd.unique(clinical.ids))
        endpoint = finish(name, options, found, frame, lines, n_patients, where, problems)
        problems.raise_if_any()
    except (SchemaError, DataError) as error:
        if not problems.messages:
            problems.add(str(error), type(error))
        return None, problems
    if options.kind == "survival" and endpoint.table["event"].all():
        reading.notes.append(
            f"{where}: all {count(len(endpoint.table), 'patient')} have the event and nobody is "
            "censored; is that so, or were the censored patients left out?"
        )
    return endpoint, problems


def outcome_columns(options):
    """List the columns that an endpoint reads."""
    if options.kind == "classification":
        return (options.label,)
    columns = (options.time, options.event, options.entry)
    return tuple(column for column in columns if column is not None)


def label_key(value):
    """Give what two labels are compared by: numbers as numbers, text exactly as it is."""
    if isinstance(value, bool | np.bool_):
        return float(value)
    if isinstance(value, str):
        if value in ("True", "TRUE", "true", "False", "FALSE", "false"):
            return float(value.lower() == "true")
        try:
            return float(value)
        except ValueError:
            return value
    return float(value)


def _numbers(found, options, where, problems):
    """Read time and entry of every row as numbers."""
    columns = {} if options.kind == "classification" else {"time": options.time}
    if columns and options.entry is not None:
        columns["entry"] = options.entry
    result = {}
    for role, column in columns.items():
        values = found.frame[column]
        if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_datetime64_any_dtype(values):
            problems.add(
                f"{found.name}, column {column}: not numbers; expected {options.unit} from time "
                f"zero ({where})."
            )
            continue
        number = pd.to_numeric(values, errors="coerce").astype("float64")
        bad = values.index[(values.notna() & number.isna()).to_numpy()]
        words = ("is not a number", "are not numbers")
        if not len(bad):
            bad = number.index[np.isinf(number.to_numpy())]
            words = ("is infinite", "are infinite")
        if len(bad):
            problems.add(
                f"{found.name}, column {column}: {len(bad)} of {count(len(values), 'value')} "
                f"{words[len(bad) > 1]} ({rows(bad)}); expected {options.unit} from time zero, or "
                f"an empty cell where unknown ({where})."
            )
        result[role] = number
    return result


def _status(found, options, where, problems):
    """Read event or label of every row: 1.0, 0.0, or missing."""
    survival = options.kind == "survival"
    column = options.event if survival else options.label
    declared = options.event_values if survival else [options.positive]
    values = label_text(found.frame[column])
    keys = values.map(label_key, na_action="ignore")
    unknown = keys.isin([label_key(v) for v in options.missing_values])
    values, keys = values[~unknown & keys.notna()], keys[~unknown & keys.notna()]
    positive = keys.isin([label_key(v) for v in declared])
    others = list(dict.fromkeys(keys[~positive]))
    shown = labels(sorted(values.drop_duplicates()))
    place = f"{found.name}, column {column}"
    option = "event_values" if survival else "positive"
    if not len(keys):
        problems.add(f"{place}: no value is known; expected one label a patient ({where}).")
    elif not positive.any() and len(others) > 1:
        hint = "".join(nearest(v, values.unique()) for v in declared if isinstance(v, str))[:80]
        problems.add(
            f"{place}: {labels(declared)} of {option} in {where} is not among its labels, {shown}."
            f"{hint}"
        )
    elif survival and options.censored_values is not None:
        censored = {label_key(v) for v in options.censored_values}
        extra = [key for key in others if key not in censored]
        if extra:
            extra = values[keys.isin(extra)]
            problems.add(
                f"{place}: {len(extra)} of {count(len(values), 'label')} "
                f"{'is' if len(extra) == 1 else 'are'} {labels(extra.unique())} "
                f"({rows(extra.index)}); expected {labels(declared)} (event_values) or "
                f"{labels(options.censored_values)} (censored_values). Correct them, or name them "
                f"in missing_values, in {where}."
            )
    elif len(others) > 1:
        what = "besides event_values" if survival else f"besides {labels(declared)} (positive)"
        advice = "Name the labels that mean censored in censored_values, and those"
        problems.add(
            f"{place}: {len(others)} labels {what}: "
            f"{labels(values[~positive].drop_duplicates())}; expected one. "
            f"{advice if survival else 'Name those'} that mean unknown in missing_values, "
            f"in {where}."
        )
    status = pd.Series(np.nan, index=found.frame.index)
    status[positive.index] = positive.astype(float)
    return {"event" if survival else "label": status}


def _survival(name, options, found, frame, lines, n_patients, where, problems):
    """Check the times, leave out who has none, and put the endpoint together."""
    dropped, unit = [], options.unit
    frame, left = frame[frame.notna().all(axis=1)], n_patients
    columns = listing(outcome_columns(options))
    _count_drop(dropped, f"endpoint {name} not known ({columns})", left - len(frame))

    def report(wrong, column, words, expected, advice):
        bad = sorted(lines.loc[frame.index[wrong]])
        problems.add(
            f"{found.name}, column {column}: {len(bad)} of {count(len(frame), 'time')} "
            f"{'is' if len(bad) == 1 else 'are'} {words} ({rows(bad)}); expected {expected}. "
            f"{advice}"
        )

    negative = frame["time"] < 0
    if negative.any() and options.negative_time is None:
        report(
            negative.to_numpy(),
            options.time,
            "negative",
            f"{unit} >= 0",
            f'Correct them, or set negative_time = "drop" in {where} to leave these patients out.',
        )
    elif negative.any():
        _count_drop(dropped, f"endpoint {name} before time zero", int(negative.sum()))
        frame = frame[~negative]
    zero = frame["time"] == 0
    if zero.any() and options.zero_time is None:
        report(
            zero.to_numpy(),
            options.time,
            "zero",
            f"{unit} > 0",
            f'Set zero_time = "drop", or "half_unit" to count them as half of one of the {unit}, '
            f"in {where}.",
        )
    elif zero.any() and options.zero_time == "drop":
        _count_drop(dropped, f"endpoint {name} at time zero", int(zero.sum()))
        frame = frame[~zero]
    elif zero.any():
        frame = frame.assign(time=frame["time"].where(~zero, 0.5))
    if options.entry is not None:
        early = (frame["entry"] < 0).to_numpy()
        late = (frame["entry"] >= frame["time"]).to_numpy() & (frame["time"] > 0).to_numpy()
        advice = f"Correct them, or leave these patients out of the table ({where})."
        if early.any():
            report(early, options.entry, "negative", f"{unit} >= 0 from time zero", advice)
        if late.any():
            report(
                late, options.entry, f"not before {options.time}", f"entry < time, {unit}", advice
            )
    frame = frame.assign(event=frame["event"] == 1)
    if not problems.messages and not frame["event"].any():
        problems.add(
            f"{found.name}, column {options.event}: none of {count(len(frame), 'patient')} has the "
            f"event; event_values in {where} is {labels(options.event_values)}, and the column "
            f"holds {labels(label_text(found.frame[options.event]).dropna().unique())}.",
            DataError,
        )
    order = [column for column in ("event", "time", "entry") if column in frame]
    events = " or ".join(repr(str(value)) for value in options.event_values)
    description = f"event: {options.event} is {events}; time: {options.time}, {unit}"
    if options.entry is not None:
        description += f"; entry: {options.entry}, {unit}"
    return Endpoint(
        name=name,
        kind="survival",
        table=frame[order],
        unit=unit,
        horizons=tuple(options.horizons) if options.horizons else None,
        description=description,
        dropped=tuple(dropped),
        landmark=options.landmark,
    )


def _classification(name, options, found, frame, lines, n_patients, where, problems):
    frame = frame[frame["label"].notna()]
    dropped = []
    _count_drop(dropped, f"endpoint {name} not known ({options.label})", n_patients - len(frame))
    frame = frame.assign(label=frame["label"] == 1)
    n_positive = int(frame["label"].sum())
    if n_positive in (0, len(frame)):
        problems.add(
            f"{found.name}, column {options.label}: {'every' if n_positive else 'not'} one of "
            f"{count(len(frame), 'patient')} is {labels([options.positive])} "
            f"(positive in {where}); expected two classes.",
            DataError,
        )
    return Endpoint(
        name=name,
        kind="classification",
        table=frame,
        description=f"label: {options.label} is {str(options.positive)!r}",
        dropped=tuple(dropped),
    )


def _count_drop(dropped, description, number):
    if number:
        dropped.append((description, number))
