"""Read a whole cohort from its ``cohort.toml``, with everything that is wrong in one message."""

import dataclasses
import hashlib
from pathlib import Path

import pandas as pd

from tabular_trainers.cohort import Cohort
from tabular_trainers.cohort_blocks import matches, read_block
from tabular_trainers.cohort_config import read_config
from tabular_trainers.cohort_encoders import sources_of
from tabular_trainers.cohort_endpoints import outcome_columns, read_endpoint
from tabular_trainers.cohort_parts import flow_table
from tabular_trainers.cohort_tables import (
    Reading,
    Rows,
    TableReader,
    default_key,
    missing_column,
    one_row_each,
    tables_of,
)
from tabular_trainers.errors import (
    DataError,
    Problems,
    SchemaError,
    count,
    nearest,
    unknown_name,
)

UNKNOWN_SITE = "(unknown)"


def load(config, data=None, endpoint=None):
    """Read a cohort; see `tabular_trainers.cohort.load_cohort`."""
    options = read_config(config)
    if endpoint is not None and endpoint not in options.endpoints:
        raise DataError(unknown_name("endpoint", endpoint, list(options.endpoints)))
    reader = TableReader(
        str(Path(config).parent) if data is None else str(data),
        "" if data is not None else " Give the folder of the tables with --data, if it is another.",
    )
    problems, notes = Problems(), []
    clinical = _clinical_rows(options, reader, problems)
    reading = Reading(
        reader,
        clinical,
        tuple(c for c in (options.clinical.site, options.clinical.cancer_type) if c),
        _outcomes(options, reader),
        problems,
        notes,
    )
    patients = pd.Index(clinical.ids, name="patient_id").unique().sort_values()
    labels = {
        role: _patient_labels(reading, getattr(options.clinical, role), role)
        for role in ("site", "cancer_type")
    }
    blocks, sources = {}, {}
    for name, block_options in options.blocks.items():
        block, origin = read_block(name, block_options, reading)
        if block is not None:
            blocks[name] = block
            sources.update({f"{name}.{column}": place for column, place in origin.items()})
    endpoints, endpoint_problems = {}, {}
    for name, endpoint_options in options.endpoints.items():
        found, wrong = read_endpoint(name, endpoint_options, reading)
        if found is None:
            endpoint_problems[name] = wrong
        else:
            endpoints[name] = _with_own_columns(found, endpoint_options, reading, sources)
    _raise(problems, endpoint_problems, endpoint, len(options.endpoints))
    return Cohort(
        title=options.title,
        time_zero=options.time_zero,
        patients=patients,
        blocks=blocks,
        endpoints={name: endpoints[name] for name in options.endpoints if name in endpoints},
        missing_blocks=options.missing_blocks,
        site=labels["site"],
        cancer_type=labels["cancer_type"],
        flow=flow_table([(f"patients in the clinical table ({clinical.name})", 0, len(patients))]),
        notes=tuple(dict.fromkeys(notes)),
        source_hash=_hash(config, reader),
        endpoint_problems=endpoint_problems,
        sources=sources_of(options.sources, patients),
        config_file=str(Path(config).absolute()),
        data=None if data is None else reader.folder,
    )


def _clinical_rows(options, reader, problems):
    """Read the clinical table; without it, look at least whether the others are there."""
    clinical = Rows(
        "", reader.place(options.clinical.table), options.clinical.patient_id, None, None, 0
    )
    reader.as_text(options.clinical.table, *options.clinical.model_dump(exclude={"table"}).values())
    tables = {}
    for name, block in options.blocks.items():
        for table, key in [] if block.n_clusters else tables_of(block, clinical):
            reader.as_text(table, key)
            tables[table] = f"[blocks.{name}]"
    for name, endpoint in options.endpoints.items():
        table = endpoint.table or clinical.uri
        reader.as_text(table, endpoint.key or default_key(table, clinical.key))
        tables.setdefault(table, f"[endpoints.{name}]")
    try:
        return reader.rows(options.clinical.table, options.clinical.patient_id, "[clinical]")
    except SchemaError as error:
        problems.add(str(error))
    for table in tables:
        try:
            reader.read(table)
        except SchemaError as error:
            problems.add(str(error))
    problems.raise_if_any()


def _outcomes(options, reader):
    """Say of every endpoint's columns which endpoint they belong to."""
    found = {}
    for name, endpoint in options.endpoints.items():
        uri = reader.place(endpoint.table or options.clinical.table)
        for column in outcome_columns(endpoint):
            found.setdefault((uri, column), (name, endpoint.kind))
    return found


def _patient_labels(reading, column, role):
    """Read site or cancer type: one text a patient."""
    if column is None:
        return None
    clinical, problems = reading.clinical, reading.problems
    if column not in clinical.frame:
        problems.add(missing_column(clinical.name, column, "[clinical]", clinical.frame.columns))
        return None
    values = clinical.frame[column].astype(object)
    if values.isna().all():
        problems.add(
            f"{clinical.name}, column {column}: all {count(len(values), 'value')} are missing; "
            f"leave {role} out of [clinical]."
        )
        return None
    try:
        frame, note = one_row_each(clinical, values.to_frame(column), "[clinical]")
    except SchemaError as error:
        problems.add(str(error))
        return None
    reading.notes.extend([note] if note else [])
    result = frame[column].rename(role)
    missing = int(result.isna().sum())
    if missing:
        # One group for all: two of them may well be of one hospital.
        reading.notes.append(
            f"[clinical], {clinical.name}: {count(missing, 'patient')} without {column}, "
            f"kept together as {UNKNOWN_SITE!r}."
        )
    return result.where(result.notna(), UNKNOWN_SITE)


def _with_own_columns(endpoint, options, reading, sources):
    """Mark the columns of blocks that hold the label itself, or are named under leave_out."""
    own = [
        column
        for column, place in sources.items()
        if reading.outcomes.get(place, (None,))[0] == endpoint.name
    ]
    names = [column for _, column in sources.values()]
    for pattern in options.leave_out:
        hits = set(matches(pattern, names))
        if not hits:
            reading.problems.add(
                f"[endpoints.{endpoint.name}], leave_out: {pattern!r} is in no block."
                f"{nearest(pattern, names)}"
            )
        own += [column for column, (_, name) in sources.items() if name in hits]
    own = dict.fromkeys(own)
    return dataclasses.replace(endpoint, own_columns=tuple(own))


def _raise(problems, endpoint_problems, endpoint, n_endpoints):
    """Raise what is wrong with the cohort, and with the endpoint that is asked for or the only one.

    When something else is wrong anyway, the problems of every endpoint are told along.
    """
    asked = [endpoint] if endpoint is not None else list(endpoint_problems)
    if problems.messages or endpoint is not None or n_endpoints == 1:
        for name in asked:
            wrong = endpoint_problems.get(name, Problems())
            for message in wrong.messages:
                problems.add(message, wrong.kind)
    problems.raise_if_any()


def _hash(config, reader):
    digest = hashlib.sha256(Path(config).read_bytes())
    for line in reader.hashes():
        digest.update(line.encode())
    return digest.hexdigest()
