"""The tables of a batch: all of its runs side by side, and what they say together."""

import json
from pathlib import Path

import pandas as pd

from tabular_trainers.batch_pools import ANEW, pool_differences, read_columns
from tabular_trainers.comparison import CORRECTED_T
from tabular_trainers.errors import Problems, SchemaError
from tabular_trainers.saved_models import read_run
from tabular_trainers.schema import load_schema, validate
from tabular_trainers.scoring import HEADLINE

_KNOWN = ["what", "cohort", "endpoint", "seed", "status", "reason"]  # of an entry
_MODEL = ["run", "feature_set", "model"]
_INTERVAL = ["standard_error", "lower", "upper"]
_MEASURED = ["feature_set", "model", "metric", "estimate", *_INTERVAL, "n", "n_events"]
_COMPARED = ["feature_set", "model", "baseline_feature_set", "baseline_model", "metric",
             "difference", *_INTERVAL, "p_value", "primary"]  # fmt: skip


def comparison_tables(out, entries):
    """Compare the runs of a batch, and pool their differences over cohorts.

    Of every feature set and model the headline measure is shown: Harrell's C or AUROC, over all
    folds, with its paired difference from the baseline. The same run folders give the same tables.

    Parameters
    ----------
    out : path
        Folder of the batch.
    entries : sequence of BatchEntry
        In the order of the rows.

    Returns
    -------
    dict of str to DataFrame
        ``comparison``, ``pools`` (see `pool_differences`) and ``pool_cohorts``.

    Raises
    ------
    SchemaError
        The folder of a run that is done cannot be read; all such folders are named.
    """
    problems = Problems()
    known, measured, compared = [], [], []
    for entry in entries:
        facts = {"run": entry.name} | {name: getattr(entry, name) for name in _KNOWN}
        if entry.what == "run" and entry.status == "done":
            try:
                found, measures, differences = _read(Path(out) / entry.path)
            except SchemaError as error:
                problems.add(str(error))
                continue
            facts |= found
            measured.append(measures.assign(run=entry.name))
            compared.append(differences.assign(run=entry.name))
        known.append(facts)
    problems.raise_if_any()
    known = pd.DataFrame(known, columns=["run", *_KNOWN, "kind"], dtype=object)
    measured = _stack(measured, [*_MEASURED, "run"])
    compared = _stack(compared, [*_COMPARED, "run"])
    sizes = measured[[*_MODEL, "n", "n_events"]]
    differences = compared.merge(known, on="run").merge(sizes, on=_MODEL)
    pools, cohorts = pool_differences(
        differences, {entry.name: Path(out) / entry.path for entry in entries}
    )
    side_by_side = _side_by_side(known, measured, compared)
    tables = {"comparison": side_by_side, "pools": pools, "pool_cohorts": cohorts}
    return {name: _as_contract(frame, name) for name, frame in tables.items()}


def _read(folder):
    """Read of one run: facts, its headline measures, and its differences from the baseline."""
    try:
        given = read_run(folder)
        endpoint = given["endpoint"]
        facts = {"endpoint": endpoint["name"], "kind": endpoint["kind"], "seed": given["seed"]}
        metric = HEADLINE[facts["kind"]]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise SchemaError(f"{folder}: run.json is not that of a run. {ANEW}") from error
    measured = read_columns(folder, "metrics", [*_MEASURED, "repeat", "fold"])
    overall = measured["repeat"].isna() & measured["fold"].isna()
    measured = measured.loc[overall & (measured["metric"] == metric), _MEASURED]
    compared = read_columns(folder, "comparisons", [*_COMPARED, "method"])
    wanted = (compared["metric"] == metric) & (compared["method"] != CORRECTED_T)
    return facts, measured, compared.loc[wanted, _COMPARED]


def _stack(frames, columns):
    """Stack frames of objects, so that no number changes its type beside an empty cell."""
    frames = [frame.astype(object) for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _side_by_side(known, measured, compared):
    """Put each measure behind what is known of its run, and its difference beside it.

    Where a feature set and model has two differences, the primary one is shown.
    """
    first = compared.sort_values("primary", ascending=False, kind="stable")
    first = first.drop_duplicates(_MODEL).drop(columns="metric")
    first = first.rename(columns={name: f"difference_{name}" for name in _INTERVAL})
    rows = known.merge(measured, "left", on="run").merge(first, "left", on=_MODEL)
    return rows.assign(primary=rows["primary"].eq(True))


def _as_contract(frame, name):
    columns = [field["name"] for field in load_schema(name)["fields"]]
    return validate(frame.reindex(columns=columns), name)
