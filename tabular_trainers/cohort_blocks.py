"""The blocks of a cohort: choose columns by name or pattern, type and check them, join tables."""

import re

import numpy as np
import pandas as pd

from tabular_trainers.cohort_encoders import facts_of_tables, pooling_of_tables
from tabular_trainers.cohort_parts import Block
from tabular_trainers.cohort_patches import (
    describes_everybody,
    is_store,
    not_pooled,
    read_patches,
)
from tabular_trainers.cohort_tables import label_text, one_row_each, tables_of
from tabular_trainers.errors import DataError, SchemaError, count, listing, nearest, rows
from tabular_trainers.tables import DESCRIPTIVE

MANY_LEVELS = 100  # so many labels are a free text or an id, not a category


def read_block(name, options, reading):
    """Read one block.

    Parameters
    ----------
    name : str
    options : BlockOptions
    reading : Reading
        Its problems get everything that is wrong, its notes what was pooled, left out or taken as
        labels.

    Returns
    -------
    block : Block or None
        None when something is wrong.
    sources : dict of str to tuple
        Column to the (table, column) that it comes from.
    """
    if options.n_clusters:
        return read_patches(name, options, reading)
    where, clinical = f"[blocks.{name}]", reading.clinical
    problems, notes = reading.problems, reading.notes
    before = len(problems.messages)
    found, metadata = [], []
    for table, key in tables_of(options, clinical):
        if is_store(reading.reader.place(table)):
            problems.add(not_pooled(table, where, len(set(clinical.ids))))
            continue
        try:
            found.append(reading.reader.rows(table, key, where, clinical))
            metadata.append(reading.reader.read(table).attrs)
            if metadata[-1].get(DESCRIPTIVE) == "true":
                problems.add(describes_everybody(found[-1], where))
        except (SchemaError, DataError) as error:
            problems.add(str(error), type(error))
    if len(problems.messages) > before:
        return None, {}
    chosen = _choose(options, found, where, reading)
    all_columns = [column for _, column in chosen]
    categorical = _declared(options.categorical, all_columns, where, problems)
    tables, labelled = [], set(categorical)
    for part in found:
        columns = [column for owner, column in chosen if owner is part]
        if not columns:
            continue
        typed, text = _typed(part, columns, categorical, where, problems)
        labelled |= set(text)
        try:
            table, note = one_row_each(part, typed, where, options.pool, may_pool=True)
        except SchemaError as error:
            problems.add(str(error))
            continue
        tables.append(table)
        notes.extend([note] if note else [])
        if part.n_unknown:
            notes.append(
                f"{where}, {part.name}: {count(part.n_unknown, 'id')} "
                f"{'is' if part.n_unknown == 1 else 'are'} not in {clinical.name}, and left out."
            )
    undeclared = [column for column in all_columns if column in labelled - set(categorical)]
    if undeclared:
        notes.append(f"{where}: text, so taken as categorical: {listing(undeclared)}.")
    if len(problems.messages) > before:
        return None, {}
    table = tables[0] if len(tables) == 1 else pd.concat(tables, axis=1, sort=True)
    table = table[all_columns].rename_axis("patient_id")
    known = table.notna().any(axis=1)
    if not known.all():
        notes.append(f"{where}: {count(int((~known).sum()), 'patient')} without any value lack it.")
    labels_ = tuple(column for column in all_columns if column in labelled)
    _check_content(table, labels_, where, problems)
    encoder_id, pretrained_on = facts_of_tables(metadata, options.pretrained_on)
    block = Block(
        name=name,
        table=table[known],
        categorical=labels_,
        reduce=dict(options.reduce) if options.reduce else None,
        pool=options.pool,
        n_rows=sum(len(part.frame) for part in found),
        encoder_id=encoder_id,
        pretrained_on=pretrained_on,
        pooling=pooling_of_tables(metadata),
    )
    if len(problems.messages) > before:
        return None, {}
    return block, {column: (part.uri, column) for part, column in chosen}


def matches(pattern, columns):
    """Find the columns that a name or pattern means; only ``*`` is special.

    An exact name goes first, so that a name with a star still works; brackets are common in the
    names of laboratory values and mean nothing.
    """
    if pattern in columns:
        return [pattern]
    if "*" not in pattern:
        return []
    regex = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    return [column for column in columns if regex.fullmatch(column)]


def _choose(options, found, where, reading):
    """Choose the columns of a block: a list of (Rows, column), in the order of the options."""
    problems = reading.problems
    names = {id(part): [str(c) for c in part.frame.columns] for part in found}
    apart = {id(part): _set_apart(part, reading) for part in found}
    everything = list(dict.fromkeys(sum(names.values(), [])))
    excluded = set()
    for pattern in options.exclude:
        hits = matches(pattern, everything)
        if not hits:
            problems.add(
                f"{where}, exclude: {pattern!r} is no column.{nearest(pattern, everything)}"
            )
        excluded.update(hits)
    chosen, left_out = {}, []
    for pattern in options.columns:
        exact, hit = pattern in everything, False
        for part in found:
            for column in matches(pattern, names[id(part)]):
                hit = True
                if column in excluded:
                    continue
                endpoint, kind = reading.outcomes.get((part.uri, column), (None, None))
                if exact and column == part.key:
                    problems.add(f"{where}: column {column!r} is the patient id, not a predictor.")
                elif exact and kind == "survival":
                    problems.add(
                        f"{where}: column {column!r} is the outcome of endpoint {endpoint}, not a "
                        "predictor; leave it out of columns."
                    )
                elif not exact and (endpoint or column in apart[id(part)]):
                    left_out.extend([column] if endpoint else [])
                else:
                    chosen.setdefault(column, []).append(part)
        if not hit:
            problems.add(_no_such_column(pattern, found, where, everything))
    for column, parts in chosen.items():
        if len(set(map(id, parts))) > 1:
            problems.add(
                f"{where}: column {column!r} is in several tables "
                f"({listing(part.name for part in parts)}); rename it in one of them."
            )
    if left_out:
        reading.notes.append(
            f"{where}: outcome columns are left out: {listing(dict.fromkeys(left_out))}."
        )
    if not chosen and options.columns == ["*"]:
        problems.add(f"{where}: no column is left besides ids and outcomes.")
    return [(parts[0], column) for column, parts in chosen.items()]


def _set_apart(part, reading):
    """Columns that a pattern does not take: the id, and site and cancer type of the cohort."""
    apart = {part.key} | {c for c in part.frame.columns if str(c).startswith("Unnamed: ")}
    return apart | set(reading.set_apart) if part.uri == reading.clinical.uri else apart


def _no_such_column(pattern, found, where, everything):
    tables = listing(part.name for part in found)
    if "*" in pattern:
        return f"{tables}: no column matches {pattern!r} ({where})."
    return f"{tables}: no column {pattern!r} ({where}).{nearest(pattern, everything)}"


def _declared(patterns, columns, where, problems):
    declared = {}
    for pattern in patterns:
        hits = matches(pattern, columns)
        if not hits:
            problems.add(
                f"{where}, categorical: {pattern!r} is not among the block's columns."
                f"{nearest(pattern, columns)}"
            )
        declared.update(dict.fromkeys(hits))
    return list(declared)


def _typed(part, columns, categorical, where, problems):
    """Type the columns: float64, or text for labels; also the text columns that nobody declared."""
    frame, labelled, text = part.frame, {}, []
    numeric = [
        column
        for column in columns
        if column not in categorical and _is_numeric(frame[column].dtype)
    ]
    numbers = pd.DataFrame(
        frame[numeric].to_numpy("float64", na_value=np.nan), index=frame.index, columns=numeric
    )
    for column in (column for column in columns if column not in numbers):
        if column in categorical:
            labelled[column] = label_text(frame[column])
        elif pd.api.types.is_datetime64_any_dtype(frame[column].dtype):
            problems.add(
                f"{part.name}, column {column}: holds dates; expected numbers or labels. Turn it "
                f"into a time from time zero, or leave it out of {where}."
            )
        else:
            labelled[column] = _typed_text(part, column, where, problems)
            text += [column] if labelled[column].dtype == object else []
    infinite = np.isinf(numbers.to_numpy())
    for position in np.flatnonzero(infinite.any(axis=0)):
        bad = frame.index[infinite[:, position]]
        problems.add(
            f"{part.name}, column {numeric[position]}: {len(bad)} of "
            f"{count(len(frame), 'value')} {'is' if len(bad) == 1 else 'are'} infinite "
            f"({rows(bad)}); expected numbers, or an empty cell where unknown ({where})."
        )
    typed = pd.concat([numbers, pd.DataFrame(labelled, index=frame.index)], axis=1)
    return typed[[column for column in columns if column in typed]], text


def _is_numeric(dtype):
    if isinstance(dtype, pd.CategoricalDtype):
        return False
    return pd.api.types.is_any_real_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)


def _typed_text(part, column, where, problems):
    """Take a text column as labels, unless it is booleans or numbers with slips among them."""
    values = part.frame[column].astype(object)
    known = values[values.notna()]
    if len(known) and all(isinstance(v, bool | np.bool_) for v in known):
        return values.astype("float64")
    as_text = known.astype(str)
    numbers = pd.to_numeric(as_text, errors="coerce").notna().to_numpy()
    if len(known) and numbers.mean() >= 0.5:
        bad = known.index[~numbers]
        if len(bad):
            what = (
                f"{len(bad)} of {count(len(known), 'value')} "
                f"{'is not a number' if len(bad) == 1 else 'are not numbers'} ({rows(bad)})"
            )
            advice = "Correct them, or name the column under categorical"
        else:
            what, advice = "numbers written as text", "Name the column under categorical"
        problems.add(f"{part.name}, column {column}: {what}. {advice} in {where}.")
        return pd.Series(np.nan, index=values.index)
    return label_text(values)


def _check_content(table, categorical, where, problems):
    """Refuse columns that say nothing: no value at all, or nearly one label a patient."""
    empty = list(table.columns[table.isna().all()])
    if empty:
        problems.add(
            f"{where}: all {count(len(table), 'value')} of column {listing(empty)} are missing; "
            "leave it out of columns, or name it under exclude."
        )
    for column in categorical:
        levels = table[column].nunique()
        patients = int(table[column].notna().sum())
        if levels >= MANY_LEVELS or (levels > 20 and levels > patients / 2):
            problems.add(
                f"{where}: column {column} is categorical with {levels:,} labels in "
                f"{count(patients, 'patient')}; expected fewer than {MANY_LEVELS}, and several "
                "patients a label. Leave it out, or group its labels."
            )
