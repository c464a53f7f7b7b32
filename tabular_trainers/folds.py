"""Make and describe folds: a patient, and a site where it is known, is in one part only."""

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError, count, labels, listing
from tabular_trainers.fold_files import read_folds
from tabular_trainers.outcome import label_array, survival_arrays

__all__ = ["check_folds", "fold_summary", "inner_folds", "make_folds", "read_folds"]

_ORDERS = 10  # of sites, of which the most even folds are kept; of many sites one is even enough
_MANY = 300
_SHUFFLES = 20  # tried at each coarseness of the strata before they are made coarser


def make_folds(y, patient_id, site=None, n_splits=5, n_repeats=1, seed=0):
    """Assign patients to folds, balanced on outcome, with each site in one part.

    Survival folds are balanced on event x quartile of time (of those with the event, and of those
    without), classification folds on the label. Quartiles are merged where a fold would be left
    without a comparable pair.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Survival (structured ``event``, ``time``) or classification labels 0 and 1.
    patient_id : array-like of shape (n_patients,)
    site : array-like of shape (n_patients,), default=None
        Hospital of each patient. A patient whose site is missing counts as a site of its own.
        With fewer sites than folds one site is left out at a time, and not repeated.
    n_splits : int, default=5
    n_repeats : int, default=1
    seed : int, default=0

    Returns
    -------
    DataFrame
        Schema ``folds``; ``.attrs["note"]`` says in words how the folds were made.

    Raises
    ------
    DataError
        If there are fewer events (classification: patients of a class) than folds, one site holds
        over half of the events, or no split leaves a comparable pair in every test fold.
    """
    patient_id = pd.Index(patient_id).astype(str)
    event = _events(y)
    n_splits, n_repeats = int(n_splits), int(n_repeats)
    if n_splits < 2 or n_repeats < 1:
        raise DataError(
            f"folds: {n_splits} folds, {n_repeats} repeats; expected at least 2 folds and 1 repeat."
        )
    _enough_events(y, event, n_splits)
    groups, note = None, "patients assigned at random"
    if site is not None:
        groups, n_sites, n_unknown = _sites(site)
        _no_dominant_site(groups, site, event)
        note = "sites kept whole"
        if n_sites < n_splits:
            note = f"{n_sites} sites, fewer than {n_splits} folds: one site left out at a time"
            n_splits = n_sites
        if n_sites == n_splits:
            n_repeats = 1  # there is no second way to leave each site out once
        if n_unknown:
            note += f"; {count(n_unknown, 'patient')} of unknown site, each counted as its own site"
    parts = []
    for repeat in range(n_repeats):
        splits, coarseness = _split(y, event, groups, n_splits, [seed, repeat])
        if splits is None:
            raise DataError(_no_split(groups, n_splits, event))
        parts += [_part(patient_id, repeat, fold, test) for fold, test in enumerate(splits)]
    folds = pd.concat(parts, ignore_index=True)
    balance = "label" if _is_classification(y) else _BALANCE[coarseness]
    folds.attrs["note"] = f"{n_splits} folds, {note}, balanced on {balance}" + (
        f", {n_repeats} repeats" if n_repeats > 1 else ""
    )
    return folds


def inner_folds(y, site=None, n_splits=3, seed=0):
    """Split a training part for tuning, early stopping or out-of-fold risks, keeping sites.

    Where the sites of a training part cannot be split so that every test part has a comparable
    pair, fewer parts are tried. Patients are split regardless of site only where not even two parts
    can be had, as of one site, or where one site holds every event: an inner split only ranks
    settings, and the outer test fold stays untouched.

    Parameters
    ----------
    y : ndarray of shape (n_patients,)
        Outcome of the training part.
    site : array-like of shape (n_patients,), default=None
    n_splits : int, default=3
    seed : int, default=0

    Returns
    -------
    list of (train, test)
        Positions in ``y``.

    Raises
    ------
    DataError
        If the training part has fewer than two events, or no split leaves a comparable pair.
    """
    event = _events(y)
    groups = None
    if site is not None:
        groups, n_sites, _ = _sites(site)
        if n_sites < 2:
            groups = None
    most = min(n_splits, int(event.sum()))
    for kept in (groups, None) if groups is not None else (None,):
        limit = most if kept is None else min(most, len(np.unique(kept)))
        for parts in range(limit, 1, -1):
            splits, _ = _split(y, event, kept, parts, [seed])
            if splits is not None:
                return [(np.flatnonzero(~test), np.flatnonzero(test)) for test in splits]
    raise DataError(
        f"training part of {count(len(event), 'patient')} with {count(int(event.sum()), 'event')}: "
        "it cannot be split for tuning. Use fewer folds, or an endpoint with more events."
    )


def check_folds(folds, y, patient_id):
    """Refuse folds in which a test part cannot be measured or a training part cannot be fitted.

    Raises
    ------
    DataError
        If a test part has no comparable pair (classification: only one class), or a training part
        has fewer than two events.
    """
    event = _events(y)
    position = pd.Series(np.arange(len(event)), index=pd.Index(patient_id).astype(str))
    bad = []
    for (repeat, fold), rows in folds.groupby(["repeat", "fold"], sort=True):
        test = rows["part"].to_numpy() == "test"
        at = position.loc[rows["patient_id"]].to_numpy()
        if not _has_pair(y, at[test]) or event[at[~test]].sum() < 2:
            bad.append(f"repeat {repeat} fold {fold}")
    if bad:
        raise DataError(
            f"folds: {listing(bad)}: expected a comparable pair (an event and a patient still "
            "under observation) in each test part and two events in each training part. "
            "Use fewer folds: --folds."
        )


def fold_summary(folds, y, patient_id, site=None):
    """Count patients, events and sites of each fold.

    Returns
    -------
    DataFrame
        One row a fold: repeat, fold, n_train, n_test, events_train, events_test, sites_test
        (sites in the test part), shared_sites (those of them that are also in the training part).
        The last two are absent where the cohort has no sites.
    """
    event = pd.Series(_events(y), index=pd.Index(patient_id).astype(str))
    groups = None
    if site is not None:
        groups = pd.Series(_sites(site)[0], index=event.index)
    found = []
    for (repeat, fold), rows in folds.groupby(["repeat", "fold"], sort=True):
        ids = {part: rows.loc[rows["part"] == part, "patient_id"] for part in ("train", "test")}
        row = {"repeat": repeat, "fold": fold}
        row |= {f"n_{part}": len(of) for part, of in ids.items()}
        row |= {f"events_{part}": int(event.loc[of].sum()) for part, of in ids.items()}
        if groups is not None:
            train, test = (set(groups.loc[ids[part]]) for part in ("train", "test"))
            row |= {"sites_test": len(test), "shared_sites": len(test & train)}
        found.append(row)
    return pd.DataFrame(found).astype("int64")


_BALANCE = {
    4: "event and quartile of time",
    2: "event and half of time",
    1: "event",
    0: "nothing (too few patients with or without the event)",
}


def _is_classification(y):
    return np.asarray(y).dtype.names is None


def _events(y):
    return label_array(y) if _is_classification(y) else survival_arrays(y)[1]


def _enough_events(y, event, n_splits):
    n_events = int(event.sum())
    fewest, what = n_events, "event"
    if _is_classification(y):
        fewest = min(n_events, len(event) - n_events)
        what = "patient in the smaller class"
    if fewest < n_splits:
        way_out = f"Use fewer folds (--folds {fewest})" if fewest >= 2 else "Use another endpoint"
        plural = "patients in the smaller class" if _is_classification(y) else None
        raise DataError(
            f"folds: {count(fewest, what, plural)} among {count(len(event), 'patient')}, fewer "
            f"than {n_splits} folds; expected at least one in every fold. {way_out}."
        )


def _sites(site):
    """Give sites numbers, a missing one its own; also count the sites, and the missing."""
    site = pd.Series(np.asarray(site, dtype=object))
    unknown = site.isna().to_numpy()
    groups = pd.factorize(site.astype(str).where(~unknown), sort=True)[0].astype(np.int64)
    groups[unknown] = groups.max(initial=-1) + 1 + np.arange(unknown.sum())
    return groups, len(np.unique(groups)), int(unknown.sum())


def _no_dominant_site(groups, site, event):
    events = np.bincount(groups, weights=event)
    most = int(events.argmax())
    if events[most] * 2 > event.sum():
        name = labels([np.asarray(site, dtype=object)[np.flatnonzero(groups == most)[0]]])
        raise DataError(
            f"folds: site {name} holds {int(events[most])} of {int(event.sum())} events, "
            "over half; folds that keep sites whole would be decided by it. Give folds of your own "
            "(--folds FOLDER or --folds folds.parquet), or leave site out of cohort.toml."
        )


def _no_split(groups, n_splits, event):
    what = "patients" if groups is None else f"{len(np.unique(groups))} sites"
    return (
        f"folds: {what} with {count(int(event.sum()), 'event')} cannot be split in {n_splits} "
        "folds that each hold an event and a patient still under observation. "
        "Use fewer folds: --folds."
    )


def _split(y, event, groups, n_splits, seed):
    """Find a split with a comparable pair in each test part: masks of the test parts, or None."""
    for coarseness in _coarsenings(y, event, n_splits):
        strata = _balance_strata(y, event, coarseness)
        for shuffle in range(_SHUFFLES):
            state = int(np.random.SeedSequence([*seed, coarseness, shuffle]).generate_state(1)[0])
            tests = _assign(strata, event, groups, n_splits, state)
            if all(_has_pair(y, np.flatnonzero(test)) for test in tests):
                return tests, coarseness
    if groups is not None:
        return _split_around_pairs(y, event, groups, n_splits, seed), 0
    return None, 0


def _split_around_pairs(y, event, groups, n_splits, seed):
    """Give each test part sites that hold a comparable pair, then share out the others; or None.

    Balance alone may leave a part without an event where few sites have any.
    """
    random = np.random.default_rng(seed)
    for _ in range(_SHUFFLES):
        first = _sites_with_pairs(y, event, groups, n_splits, random)
        if first is not None:
            strata = np.zeros(len(event), dtype=np.int64)
            fold = _assign_groups(strata, event, groups, n_splits, random, first)
            return fold == np.arange(n_splits)[:, None]
    return None


def _sites_with_pairs(y, event, groups, n_splits, random):
    """Find a site, or two, with a comparable pair for each part: {site: part}, or None.

    A pair is two patients, so of at most two sites; one that has a pair of its own needs no other.
    """
    member = {group: np.flatnonzero(groups == group) for group in np.unique(groups).tolist()}
    order = random.permutation(list(member)).tolist()
    with_event = [group for group in order if event[member[group]].any()]
    chosen = [(group,) for group in with_event if _has_pair(y, member[group])][:n_splits]
    used = {group for (group,) in chosen}
    for group in with_event if len(chosen) < n_splits <= len(with_event) else ():
        for other in order if group not in used else ():
            both = np.concatenate([member[group], member[other]])
            if other not in used and other != group and _has_pair(y, both):
                chosen.append((group, other))
                used |= {group, other}
                break
        if len(chosen) == n_splits:
            break
    if len(chosen) < n_splits:
        return None
    return {group: part for part, some in enumerate(chosen) for group in some}


def _coarsenings(y, event, n_splits):
    """Numbers of time bins to try, finest first: every stratum must reach into every fold."""
    if _is_classification(y):
        return (1,)
    smallest = {
        bins: np.unique(_balance_strata(y, event, bins), return_counts=True)[1].min()
        for bins in (4, 2, 1)
    }
    # scikit-learn warns of strata smaller than the folds; coarser ones are asked for instead
    return (*(bins for bins in (4, 2, 1) if smallest[bins] >= n_splits), 0)


def _balance_strata(y, event, bins):
    if bins == 0:
        return np.zeros(len(event), dtype=np.int64)
    if _is_classification(y):
        return event.astype(np.int64)
    time = survival_arrays(y)[0]
    strata = event * bins
    for group in (event, ~event):
        # quartiles of each group of its own: pooled ones leave cells of a few patients
        if group.any():
            edges = np.quantile(time[group], np.arange(1, bins) / bins)
            strata[group] += np.searchsorted(edges, time[group], side="left")
    return strata


def _assign(strata, event, groups, n_splits, state):
    """Assign patients, or whole groups of them, to test parts: masks (n_splits, n_patients)."""
    if groups is not None:
        fold = _assign_groups(strata, event, groups, n_splits, np.random.default_rng(state))
        return fold == np.arange(n_splits)[:, None]
    from sklearn.model_selection import StratifiedKFold

    tests = np.zeros((n_splits, len(strata)), dtype=bool)
    splits = StratifiedKFold(n_splits, shuffle=True, random_state=state).split(strata, strata)
    for fold, (_, test) in enumerate(splits):
        tests[fold, test] = True
    return tests


def _assign_groups(strata, event, groups, n_splits, random, first=None):
    """Give each group to the fold where its strata are scarcest, large groups first.

    ``first`` says where some groups belong, ``{group: fold}``.

    scikit-learn's StratifiedGroupKFold does the same, but its shuffle only reorders groups of equal
    spread: on real hospitals every seed and every repeat gave the same folds, and a fold could hold
    three times the events of another. Here the order is jittered, and of some orders the one with
    the most even folds is kept.
    """
    # the margins stand beside the strata, so that all patients and all events are balanced too
    columns = [*(strata == s for s in np.unique(strata)), event, np.ones(len(strata))]
    table = np.column_stack([np.bincount(groups, weights=column) for column in columns])
    member = table[:, -1] > 0
    target = table.sum(axis=0) / n_splits
    least, best = np.inf, None
    for _ in range(_ORDERS if member.sum() <= _MANY else 1):
        size = table[:, -1] * np.exp(random.normal(0.0, 0.5, len(table)))
        held = np.zeros((n_splits, table.shape[1]))
        fold = np.zeros(len(table), dtype=np.int64)
        for group, part in (first or {}).items():
            fold[group] = part
            held[part] += table[group]
        for group in np.argsort(-size)[: member.sum()]:
            if first is not None and group in first:
                continue
            # adding counts c to h changes the sum of (h - target)^2 / target by 2 h c / target + ..
            cost = held @ (table[group] / target)
            fold[group] = cost.argmin()
            held[fold[group]] += table[group]
        imbalance = ((held - target) ** 2 / target).sum()
        if imbalance < least:
            least, best = imbalance, fold
    return best[groups]


def _has_pair(y, at):
    """Whether these patients hold a comparable pair (classification: both classes)."""
    if _is_classification(y):
        return 0 < label_array(y)[at].sum() < len(at) if len(at) else False
    time, event, entry = survival_arrays(y)
    time, event = time[at], event[at]
    entry = np.full(len(at), -np.inf) if entry is None else entry[at]
    for i in np.argsort(time):  # the first event decides, except with entry
        if event[i]:
            later = (time > time[i]) | ((time == time[i]) & ~event)
            if (later & (entry < time[i])).any():
                return True
    return False


def _part(patient_id, repeat, fold, test):
    return pd.DataFrame(
        {
            "patient_id": patient_id,
            "repeat": np.int64(repeat),
            "fold": np.int64(fold),
            "part": np.where(test, "test", "train"),
        }
    )
