"""Look over a cohort before a run: patients, events, overlap, and columns that tell too much."""

import re

import numpy as np
import pandas as pd

from tabular_trainers.cohort_encoders import encoder_facts, encoder_sentence
from tabular_trainers.errors import Problems, count, listing
from tabular_trainers.patch_clusters import recommended_clusters

# Words in names of columns that are often filled in only after time zero.
LATER = (
    "recur",
    "relapse",
    "progression",
    "death",
    "dead",
    "deceased",
    "died",
    "vital",
    "survival",
)
LATER += ("last", "follow", "status", "treatment", "event", "outcome", "censor")
ENDPOINTS = {"os", "dss", "css", "pfs", "pfi", "rfs", "dfs", "dfi", "efs", "ttp", "dmfs"}
TELLING = 0.85  # a single column this good deserves a second look
MANY_CLUSTERS = 50  # more are for thousands of patients
_AT_MOST = 600  # patients, and events, that a column is judged by


def named_like_outcome(name):
    """Say whether a column is named like something that is known only after time zero.

    Examples
    --------
    >>> named_like_outcome("days_to_last_information"), named_like_outcome("lastFollowUp")
    (True, True)
    >>> named_like_outcome("elastic_modulus"), named_like_outcome("age")
    (False, False)
    """
    # Words begin with these, so that "elastic" is not "last".
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name)).lower()
    text = re.sub(r"[^a-z0-9]+", "_", text)
    if re.search(r"(^|_)days?_to(_|$)", text):
        return True
    tokens = text.split("_")
    return bool(ENDPOINTS & set(tokens)) or any(token.startswith(LATER) for token in tokens)


def check(cohort):
    """Describe a cohort and warn of what may be wrong with it.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    list of str
        Patients, events and overlap a block; then what to look at again, as ``warning: ...``.

    Raises
    ------
    SchemaError, DataError
        With everything that is wrong with any of the endpoints.
    """
    problems = Problems()
    for wrong in cohort.endpoint_problems.values():
        for message in wrong.messages:
            problems.add(message, wrong.kind)
    problems.raise_if_any()
    return [*_facts(cohort), *(f"warning: {text}" for text in _warnings(cohort))]


def _facts(cohort):
    site = "no site" if cohort.site is None else count(cohort.site.nunique(), "site")
    yield f"{cohort.title}: {count(len(cohort.patients), 'patient')}, {site}."
    for endpoint in cohort.endpoints.values():
        what = "event" if endpoint.kind == "survival" else "positive"
        yield (
            f"endpoint {endpoint.name}: {count(len(endpoint.table), 'patient')}, "
            f"{count(endpoint.n_events, what)} ({endpoint.description})."
        )
    everybody = cohort.patients
    for block in cohort.blocks.values():
        everybody = everybody.intersection(block.table.index)
        overlap = ", ".join(
            f"{len(endpoint.table.index.intersection(block.table.index)):,} with {endpoint.name}"
            for endpoint in cohort.endpoints.values()
        )
        what = "cluster" if block.n_clusters else "column"
        yield (
            f"block {block.name}: {count(block.n_columns, what)}, "
            f"{count(len(block.table), 'patient')}{f' ({overlap})' if overlap else ''}."
        )
        told = encoder_sentence(block.name, encoder_facts(block, cohort.sources))
        if told:
            yield told
    yield f"every block: {count(len(everybody), 'patient')}."


def _warnings(cohort):
    for block in cohort.blocks.values():
        named = [column for column in block.table if named_like_outcome(column)]
        if named:
            yield (
                f"block {block.name}: named like something known only later: {listing(named, 20)}; "
                f"was it known at time zero ({cohort.time_zero})?"
            )
        advised = recommended_clusters(len(block.table))
        if block.n_clusters and block.n_clusters > max(advised, MANY_CLUSTERS):
            yield (
                f"block {block.name}: {block.n_clusters} clusters of patches for "
                f"{count(len(block.table), 'patient')}; some will be found in few of them. About "
                f"{advised} serve so many."
            )
    for endpoint in cohort.endpoints.values():
        measure = "a C" if endpoint.kind == "survival" else "an AUROC"
        for block in (block for block in cohort.blocks.values() if not block.n_clusters):
            for column, value in _telling(block, endpoint):
                yield (
                    f"block {block.name}: {column} alone has {measure} of {value:.2f} for "
                    f"endpoint {endpoint.name}; was it known at time zero, and does it not hold "
                    "the answer?"
                )


def _telling(block, endpoint):
    """Find columns that alone order the patients too well, with their concordance."""
    own = {column.removeprefix(f"{block.name}.") for column in endpoint.own_columns}
    table = block.table.drop(columns=[c for c in block.table if c in own])
    patients = endpoint.table.index.intersection(table.index)
    if endpoint.kind == "survival":
        first, second = _survival_pairs(endpoint.table.loc[patients])
    else:
        label = endpoint.table.loc[patients, "label"].to_numpy()
        first, second = _sample(np.flatnonzero(label)), _sample(np.flatnonzero(~label))
        first, second = (grid.ravel() for grid in np.meshgrid(first, second, indexing="ij"))
    if len(first) == 0:
        return []
    table = table.loc[patients]
    numeric = table.select_dtypes("number")
    judged = {column: numeric[column].to_numpy()[:, None] for column in numeric}
    for column in table.columns.difference(numeric.columns):
        # Each label against the others; where the label is missing nothing is compared.
        known = table[column].notna().to_numpy()
        judged[column] = pd.get_dummies(table[column]).to_numpy(float)
        judged[column][~known] = np.nan
    found = []
    for column in table:
        values = [_concordance(v, first, second) for v in judged[column].T]
        value = max(values, key=lambda c: abs(c - 0.5), default=0.5)
        if max(value, 1 - value) > TELLING:
            found.append((column, max(value, 1 - value)))
    return sorted(found, key=lambda item: -item[1])[:10]


def _survival_pairs(table):
    """Pair each event with every patient who was observed longer."""
    time, event = table["time"].to_numpy(), table["event"].to_numpy()
    everybody = _sample(np.arange(len(time)))
    events = everybody[event[everybody]]
    if len(events) < 10:
        return np.array([], dtype=int), np.array([], dtype=int)
    later = time[everybody][None, :] > time[events][:, None]
    i, j = np.nonzero(later)
    return events[i], everybody[j]


def _sample(positions):
    """Take at most so many positions, the same in every call."""
    if len(positions) <= _AT_MOST:
        return positions
    return np.sort(np.random.default_rng(0).choice(positions, _AT_MOST, replace=False))


def _concordance(values, first, second):
    """Compute the fraction of pairs in which the first value is higher; ties count half."""
    difference = values[first] - values[second]
    higher, lower = int((difference > 0).sum()), int((difference < 0).sum())
    known = int((~np.isnan(difference)).sum())
    return (higher + (known - higher - lower) / 2) / known if known else 0.5
