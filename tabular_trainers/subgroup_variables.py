"""By what patients are grouped to see for whom a model works: sex, age, stage, site, cancer type.

Sex, age and stage are found among the columns of the clinical block by the words of their names,
whatever their case: the first column with sex, gender, female or male; the first numeric one with
age; and every one with a word that holds "stage", such as pT_stage. Sex and stage have 2 to 10
values, else they are left out. Patients with a missing value are left out of that variable.
"""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from tabular_trainers.errors import count

CLINICAL = "clinical"
SEX = {"sex", "gender", "female", "male"}
MAX_LEVELS = 10
MAX_PLACES = 15  # sites, or cancer types, that are shown alone
MIN_EVENTS = 10


class Variable(NamedTuple):
    """A variable and its levels: (name, positions of patients), in the order they are shown."""

    name: str
    levels: tuple
    is_site: bool = False


def subgroup_variables(analysis):
    """Find by what the patients of an analysis can be grouped.

    Parameters
    ----------
    analysis : AnalysisSet

    Returns
    -------
    list of Variable
        Those of them that the cohort has. Age is cut at its thirds. Sites and cancer types with
        fewer than 10 events, and those after the 15 largest, are pooled.
    """
    sexes, ages, stages = [], [], []
    for name in analysis.X.columns:
        block, _, column = name.partition(".")
        words = set(_words(column))
        values = analysis.X[name]
        numeric = name not in analysis.categorical and pd.api.types.is_numeric_dtype(values)
        if block != CLINICAL:
            continue
        if words & SEX:
            sexes += _by_value(column, values)
        elif "age" in words and numeric:
            ages += _thirds(column, values.to_numpy(dtype=np.float64))
        elif any("stage" in word for word in words):
            stages += _by_value(column, values)
    found = [*sexes[:1], *ages[:1], *stages]
    if analysis.site is not None:
        found += _by_place(analysis, "site", analysis.site)
    if analysis.cancer_type is not None:
        found += _by_place(analysis, "cancer type", analysis.cancer_type)
    return found


def n_events(y):
    """Count events; of a classification the patients of the smaller class."""
    if y.dtype.names is not None:
        return int(y["event"].sum())
    return int(min(y.sum(), len(y) - y.sum()))


def _words(column):
    """Split a name where it is not a letter, and before a capital within a word."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)
    return re.split(r"[^a-z]+", apart.lower())


def _by_value(column, values):
    known = values.dropna()
    names = sorted(known.unique())
    if not 2 <= len(names) <= MAX_LEVELS:
        return []
    text = [f"{name:g}" if isinstance(name, float) else str(name) for name in names]
    levels = [
        (label, np.flatnonzero((values == name).to_numpy()))
        for label, name in zip(text, names, strict=True)
    ]
    return [Variable(column, tuple(levels))]


def _thirds(column, values):
    known = values[np.isfinite(values)]
    if not len(known):
        return []
    low, high = np.quantile(known, [1 / 3, 2 / 3], method="inverted_cdf")
    cuts = ((f"up to {low:.4g}", values <= low),
            (f"above {low:.4g}, up to {high:.4g}", (values > low) & (values <= high)),
            (f"above {high:.4g}", values > high))  # fmt: skip
    levels = [(label, np.flatnonzero(inside)) for label, inside in cuts if inside.any()]
    return [Variable(f"{column}, thirds", tuple(levels))] if len(levels) > 1 else []


def _by_place(analysis, name, values):
    """Group by site or cancer type: those with enough events alone, the others together."""
    places = pd.Series(values, dtype=object).groupby(values)
    groups = {place: np.asarray(rows) for place, rows in places.indices.items()}
    if len(groups) < 2:
        return []
    events = {place: n_events(analysis.y[rows]) for place, rows in groups.items()}
    largest = sorted(groups, key=lambda place: (-len(groups[place]), str(place)))
    alone = [place for place in largest if events[place] >= MIN_EVENTS][:MAX_PLACES]
    alone = alone or largest[:1]
    levels = [(str(place), groups[place]) for place in alone]
    others = [groups[place] for place in largest if place not in alone]
    if others:
        levels.append((f"{count(len(others), f'other {name}')}", np.sort(np.concatenate(others))))
    return [Variable(name, tuple(levels), is_site=name == "site")]
