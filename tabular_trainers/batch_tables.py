"""The tables of a batch: all of its runs side by side, and what they say together."""

import json
from pathlib import Path

import pandas as pd

from tabular_trainers.batch_pools import pool_differences
from tabular_trainers.comparison import CORRECTED_T
from tabular_trainers.errors import Problems, SchemaError
from tabular_trainers.saved_models import read_run
from tabular_trainers.schema import load_schema, validate
from tabular_trainers.scoring import HEADLINE
from tabular_trainers.tables import read_written

_OF_RUN = ("feature_set", "model", "metric", "estimate", "standard_error", "lower", "upper", "n",
           "n_events")  # fmt: skip
_RENAMED = {name: f"difference_{name}" for name in ("standard_error", "lower", "upper")}


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
    rows, differences = [], []
    for entry in entries:
        known = {
            "run": entry.name, "what": entry.what, "cohort": entry.cohort,
            "endpoint": entry.endpoint, "seed": entry.seed, "status": entry.status,
            "reason": entry.reason,
        }  # fmt: skip
        if entry.what != "run" or entry.status != "done":
            rows.append(pd.DataFrame([known | {"primary": False}]))
            continue
        try:
            facts, measured, compared = _read(Path(out) / entry.path)
        except SchemaError as error:
            problems.add(
                f"{entry.path}: {error} Remove this folder and run the batch again to make it anew."
            )
            continue
        known |= facts
        rows.append(_side_by_side(measured, compared).assign(**known))
        sizes = measured[["feature_set", "model", "n", "n_events"]]
        compared = compared.merge(sizes, how="left", on=["feature_set", "model"])
        differences.append(compared.assign(**known))
    problems.raise_if_any()
    folders = {entry.name: Path(out) / entry.path for entry in entries}
    pools, cohorts = pool_differences(_stacked(differences), folders)
    tables = {"comparison": _stacked(rows), "pools": pools, "pool_cohorts": cohorts}
    return {name: _as_contract(frame, name) for name, frame in tables.items()}


def _read(folder):
    """Read of one run: facts, its headline measures, and its differences from the baseline."""
    try:
        given = read_run(folder)
        endpoint = given["endpoint"]
        facts = {"endpoint": endpoint["name"], "kind": endpoint["kind"], "seed": given["seed"]}
        metric = HEADLINE[facts["kind"]]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise SchemaError("run.json is not that of a run.") from error
    measured = read_written(folder / "metrics.parquet", "metrics")
    overall = measured["repeat"].isna() & measured["fold"].isna()
    measured = measured.loc[overall & (measured["metric"] == metric), list(_OF_RUN)]
    if not len(measured):
        raise SchemaError(f"metrics.parquet: no row of {metric} over all folds.")
    compared = read_written(folder / "comparisons.parquet", "comparisons")
    wanted = (compared["metric"] == metric) & (compared["method"] != CORRECTED_T)
    compared = compared.loc[wanted].drop(columns=["p_value_holm", "method"])
    return facts, measured, compared


def _side_by_side(measured, compared):
    """Put each difference beside its measure; where there are two, the primary one."""
    first = compared.sort_values("primary", ascending=False, kind="stable")
    first = first.drop_duplicates(["feature_set", "model"]).drop(columns="metric")
    rows = measured.merge(first.rename(columns=_RENAMED), "left", on=["feature_set", "model"])
    return rows.assign(primary=rows["primary"].eq(True))


def _stacked(frames):
    """Stack frames of objects, so that no number changes its type beside an empty cell."""
    frames = [frame.astype(object) for frame in frames]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _as_contract(frame, name):
    columns = [field["name"] for field in load_schema(name)["fields"]]
    return validate(frame.reindex(columns=columns), name)
