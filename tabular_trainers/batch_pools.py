"""Pool the differences of a batch's runs over cohorts, each patient once."""

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from tabular_trainers.comparison import verdict
from tabular_trainers.errors import SchemaError, count, listing
from tabular_trainers.meta_analysis import random_effects

AT_LEAST = 3  # cohorts a pool
ANEW = "Remove this folder and run the batch again to make it anew."
_ALIKE = 1e-9  # a standard error below is 0 but for rounding
_PAIR = ["feature_set", "model", "baseline_feature_set", "baseline_model"]
_KEY = ["kind", "endpoint", "seed", *_PAIR]
_OF_COHORT = ["run", "cohort", "n", "n_events", "difference", "standard_error", "lower", "upper"]
_POOLED = (
    "standard_error", "lower", "upper", "p_value", "tau2", "i2", "q", "q_p_value",
    "prediction_lower", "prediction_upper",
)  # fmt: skip


def pool_differences(differences, folders):
    """Pool each comparison over the runs that have it: one cohort a run, each patient once.

    There is one pool for each kind of endpoint and pair of models. Where a cohort was run with
    several endpoints or seeds, there is one for each of these instead: its patients would count
    twice. A cohort whose two risks rank all patients alike has a difference of 0 without error; it
    is listed and left out, as is one without a standard error.

    Parameters
    ----------
    differences : DataFrame
        One row a run and comparison: run, cohort, kind, endpoint, seed, n, n_events, and columns of
        ``comparisons``.
    folders : dict of str to Path
        Folder of each run: its ``predictions.parquet`` tells whose patients they are.

    Returns
    -------
    pools, pool_cohorts : DataFrame
        ``reads`` is "not pooled", with a reason, where fewer than three cohorts are left or a
        patient is in two of them. Patients are the same where their ids are, but for blanks
        around them; no id is shown.
    """
    if not len(differences):
        return pd.DataFrame(), pd.DataFrame()
    shared = _SharedPatients(folders)
    pools, cohorts = [], []
    for key, group in _grouped(differences).groupby(_KEY, sort=False, dropna=False):
        pool, members = _pool(group, shared)
        key = dict(zip(_KEY, key, strict=True))
        pools.append(key | pool)
        cohorts.append(members.assign(**key))
    return pd.DataFrame(pools), pd.concat(cohorts, ignore_index=True)


def _grouped(differences):
    """Give runs that are pooled together the same endpoint and seed: the common one, or none."""
    frames = []
    for _, kind in differences.groupby("kind", sort=False):
        kind = kind.copy()
        settings = kind[["cohort", "endpoint", "seed"]].drop_duplicates()
        if not settings["cohort"].duplicated().any():
            for name in ("endpoint", "seed"):
                if kind[name].nunique() > 1:
                    kind[name] = None
        frames.append(kind)
    return pd.concat(frames, ignore_index=True)


def _pool(group, shared):
    """Pool the differences of one comparison: the row but for its key, and that of each cohort."""
    errors = group["standard_error"].to_numpy(dtype=np.float64)
    values = group["difference"].to_numpy(dtype=np.float64)
    usable = np.isfinite(values) & np.isfinite(errors) & (errors > _ALIKE)
    members = group[_OF_COHORT].assign(weight=np.nan, pooled=False, reason=None)
    alike = np.isfinite(values) & (errors <= _ALIKE)
    members.loc[alike, "reason"] = "its two risks rank the patients alike: standard error 0"
    members.loc[~usable & ~alike, "reason"] = "its difference has no standard error"
    own = group[usable]
    row = {
        "metric": group["metric"].iloc[0],
        "primary": bool(group["primary"].astype(bool).all()),
        "n_cohorts": len(own),
        "n_left_out": int((~usable).sum()),
        "n_patients": int(own["n"].sum()),
        "n_events": int(own["n_events"].sum()),
    }
    reason = _obstacle(own, row["n_left_out"], shared)
    if reason:
        members.loc[usable, "reason"] = f"not pooled: {reason}"
        return row | {"reads": "not pooled", "reason": reason}, members
    found = random_effects(values[usable], errors[usable])
    members.loc[usable, "weight"] = found.weights
    members.loc[usable, "pooled"] = True
    row |= {"difference": found.estimate, **{name: getattr(found, name) for name in _POOLED}}
    return row | {"reads": verdict(row)["reads"], "reason": None}, members


def _obstacle(own, n_left_out, shared):
    """Say why these cohorts cannot be pooled, or nothing."""
    if len(own) < AT_LEAST:
        left_out = f" ({n_left_out} left out)" if n_left_out else ""
        return f"{count(len(own), 'cohort')}{left_out}, at least {AT_LEAST} are needed"
    pairs = shared.between(own["run"])
    if not pairs:
        return None
    told = [
        f"{count(number, 'patient')} in both {one} and {other}"
        for (one, other), number in pairs.items()
    ]
    return (
        f"each patient may count once, but there are ids of {listing(told)}. If they are different "
        "people, give ids a prefix"
    )


class _SharedPatients:
    """Count the patients that runs have in common; asked again for the same runs, it remembers."""

    def __init__(self, folders):
        self.folders, self.known = folders, {}

    def between(self, runs):
        """Count the patients of each two runs, as {(run, run): number}, without zeros."""
        runs = tuple(runs)
        if runs not in self.known:
            patients = pd.concat([_patients(self.folders[run]) for run in runs], keys=runs)
            patients = patients.reset_index(level=0, name="patient")
            repeated = patients[patients.duplicated("patient", keep=False)]
            found = Counter()
            for _, own in repeated.groupby("patient")["level_0"]:
                found.update(itertools.combinations(own, 2))
            self.known[runs] = dict(sorted(found.items()))
        return self.known[runs]


def _patients(folder):
    """Read the ids of a run's patients, each once."""
    found = read_columns(folder, "predictions", ["patient_id"])["patient_id"]
    return found.drop_duplicates().str.strip().drop_duplicates()


def read_columns(folder, name, columns):
    """Read columns of a table of a run that is done.

    It was held against its contract when it was written; of many runs that would take a while.
    """
    try:
        return pq.read_table(folder / f"{name}.parquet", columns=columns).to_pandas()
    except (OSError, ValueError) as error:  # Arrow's errors are among them
        raise SchemaError(
            f"{folder}: {name}.parquet cannot be read, or lacks a column. {ANEW}"
        ) from error
