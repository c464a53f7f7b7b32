import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.errors import DataError
from tabular_trainers.folds import check_folds, fold_summary, inner_folds, make_folds
from tests.survival_golden import outcome, simulated


def ids(n):
    return [f"p{i:03d}" for i in range(n)]


def parts_of(folds):
    return folds.pivot(index="patient_id", columns=["repeat", "fold"], values="part")


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000), st.integers(60, 200), st.integers(6, 30), st.integers(2, 5), st.booleans()
)
def test_no_patient_and_no_site_is_in_two_parts(seed, n, sites, n_splits, classification):
    y, _, _ = simulated(n, seed)
    site = np.array([f"site {i % sites}" for i in range(n)])
    y = y["event"].astype(np.int8) if classification else y
    folds = make_folds(y, ids(n), site, n_splits, seed=seed)
    table = parts_of(folds)
    assert table.notna().all(axis=None)  # each patient is in one part of each fold
    assert ((table == "test").sum(axis=1) == 1).all()
    for column in table:
        part = table[column].reindex(ids(n)).to_numpy()
        assert not set(site[part == "train"]) & set(site[part == "test"])
    check_folds(folds, y, ids(n))


def test_balance_repeats_seed_and_schema():
    from tabular_trainers.schema import validate

    y, _, _ = simulated(400)
    folds = make_folds(y, ids(400), n_splits=5, n_repeats=2, seed=1)
    validate(folds, "folds")
    assert folds.equals(make_folds(y, ids(400), n_splits=5, n_repeats=2, seed=1))
    assert not folds.equals(make_folds(y, ids(400), n_splits=5, n_repeats=2, seed=2))
    summary = fold_summary(folds, y, ids(400))
    assert len(summary) == 10
    assert (summary["n_test"] == 80).all()
    assert summary["events_test"].max() - summary["events_test"].min() <= 4
    assert "sites_test" not in summary
    assert folds.attrs["note"] == (
        "5 folds, patients assigned at random, balanced on event and quartile of time, 2 repeats"
    )
    first = parts_of(folds)[0]
    assert not first.equals(parts_of(folds)[1])


def test_seeds_and_repeats_move_sites_and_events_stay_even():
    # few large and many small sites, as hospitals are
    random = np.random.default_rng(0)
    site = random.choice([f"s{i}" for i in range(30)], 600, p=random.dirichlet(np.full(30, 0.6)))
    y, _, _ = simulated(600)
    folds = [make_folds(y, ids(600), site, n_repeats=2, seed=seed) for seed in (0, 1)]
    tests = [parts_of(table)[repeat] for table in folds for repeat in (0, 1)]
    same = [one.equals(other) for i, one in enumerate(tests) for other in tests[:i]]
    assert not any(same)
    largest = pd.Series(site).value_counts().iloc[0]
    for table in folds:
        summary = fold_summary(table, y, ids(600), site)
        assert (summary["shared_sites"] == 0).all()
        assert summary["n_test"].between(120 * 0.8, max(120 * 1.2, largest * 1.1)).all()


def test_fewer_sites_than_folds_leaves_one_site_out():
    y, _, site = simulated(90, sites=3)
    folds = make_folds(y, ids(90), site)
    summary = fold_summary(folds, y, ids(90), site)
    assert summary["sites_test"].tolist() == [1, 1, 1]
    assert summary["shared_sites"].tolist() == [0, 0, 0]
    assert folds.attrs["note"].startswith(
        "3 folds, 3 sites, fewer than 5 folds: one site left out at a time"
    )


def test_a_patient_of_unknown_site_is_a_site_of_its_own():
    y, _, site = simulated(120, sites=12)
    site = site.astype(object)
    site[:7] = None
    folds = make_folds(y, ids(120), site)
    assert "7 patients of unknown site, each counted as its own site" in folds.attrs["note"]
    assert fold_summary(folds, y, ids(120), site)["sites_test"].sum() == 19


def test_summary_counts_shared_sites_of_patient_random_folds():
    y, _, site = simulated(120, sites=6)
    folds = make_folds(y, ids(120))
    summary = fold_summary(folds, y, ids(120), site)
    assert (summary["shared_sites"] == summary["sites_test"]).all()
    assert (summary["n_train"] + summary["n_test"] == 120).all()
    assert (summary["events_train"] + summary["events_test"] == y["event"].sum()).all()


def uneven_sites(seed, n_sites):
    """Draw patients of whom 40% are of one site, with few or many events, on few sites or all."""
    random = np.random.default_rng(seed)
    n = int(random.integers(50, 160))
    others = random.integers(1, n_sites, n)
    site = np.where(np.arange(n) < 0.4 * n, 0, others)
    rate = random.choice([0.03, 0.1, 0.4]) * random.choice([0.0, 1.0, 2.0], n_sites)
    time = np.ceil(random.exponential(random.choice([2.0, 1000.0]), n))
    names = np.array([f"site {i}" for i in range(n_sites)], dtype=object)
    return outcome(time, random.random(n) < rate[site]), names[site]


def has_pair(y):
    """Whether somebody with the event was outlived; counted pair by pair."""
    return any(
        (y["time"] > one["time"]).any() or ((y["time"] == one["time"]) & ~y["event"]).any()
        for one in y[y["event"]]
    )


def most_parts(y, site, n_splits):
    """How many parts, each with a comparable pair, the sites can be split in at most.

    Up to 7 sites by looking at every split; of more, at least as many as sites with a pair.
    """
    names = np.unique(site)
    if len(names) > 7:
        return min(n_splits, sum(has_pair(y[site == name]) for name in names))
    known = {}

    def good(of):
        if of not in known:
            known[of] = has_pair(y[np.isin(site, names[list(of)])])
        return known[of]

    def best(rest):
        """Split the sites of a tuple; one that is in no good part can join any."""
        most = 0
        for size in range(1, len(rest) + 1):
            for more in itertools.combinations(rest[1:], size - 1):
                part = (rest[0], *more)
                left = tuple(name for name in rest if name not in part)
                most = max(most, int(good(part)) + (best(left) if left else 0))
        return most

    return min(n_splits, best(tuple(range(len(names)))))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5]))
@pytest.mark.parametrize("n_sites", [3, 7, 20])
def test_sites_and_events_of_outer_and_inner_folds(n_sites, seed, n_splits):
    y, site = uneven_sites(seed, n_sites)
    events = pd.Series(y["event"]).groupby(site).sum()
    parts = min(n_splits, len(events))
    refused = events.sum() < n_splits or events.max() * 2 > events.sum()
    if refused or most_parts(y, site, parts) < parts:
        try:
            folds = make_folds(y, ids(len(y)), site, n_splits, seed=seed)
        except DataError:
            folds = pd.DataFrame(columns=["patient_id", "repeat", "fold", "part"])
    else:
        folds = make_folds(y, ids(len(y)), site, n_splits, seed=seed)
    position = {patient: i for i, patient in enumerate(ids(len(y)))}
    for _, rows in folds.groupby(["repeat", "fold"]):
        at = rows["patient_id"].map(position).to_numpy()
        train, test = (at[rows["part"].to_numpy() == part] for part in ("train", "test"))
        assert not set(site[train]) & set(site[test])
        assert y["event"][test].any()
        assert y["event"][train].any()
        check_inner(y[train], site[train], seed)
    check_inner(y, site, seed)


def check_inner(y, site, seed):
    possible = most_parts(y, site, min(3, y["event"].sum()))
    try:
        splits = inner_folds(y, site, n_splits=3, seed=seed)
    except DataError:
        assert possible < 2
        return
    if possible >= 2:
        assert len(splits) >= possible
        assert not any(set(site[train]) & set(site[test]) for train, test in splits)
    tested = np.concatenate([test for _, test in splits])
    assert sorted(tested) == list(range(len(y)))
    for train, test in splits:
        assert y["event"][test].any()
        assert y["event"][train].any()
        assert has_pair(y[test])


def test_a_split_around_the_few_sites_with_events_is_found():
    # 20 sites, 3 of them with events: only a split that looks for them has an event in each part
    site = np.array([f"s{i // 10:02d}" for i in range(200)], dtype=object)
    event = np.isin(np.arange(200), [0, 1, 2, 3, 10, 20])
    y = outcome(np.arange(200) % 10 + 1.0, event)
    for seed in range(10):
        splits = inner_folds(y, site, seed=seed)
        assert len(splits) == 3
        assert all(y["event"][test].any() for _, test in splits)
        assert not any(set(site[train]) & set(site[test]) for train, test in splits)


def test_messages():
    y = outcome(np.arange(1.0, 31), np.arange(30) < 3)
    with pytest.raises(DataError) as caught:
        make_folds(y, ids(30))
    assert str(caught.value) == (
        "folds: 3 events among 30 patients, fewer than 5 folds; expected at least one in every "
        "fold. Use fewer folds (--folds 3)."
    )
    with pytest.raises(DataError) as caught:
        make_folds(outcome(np.arange(1.0, 31), np.zeros(30)), ids(30))
    assert str(caught.value) == (
        "folds: 0 events among 30 patients, fewer than 5 folds; expected at least one in every "
        "fold. Use another endpoint."
    )
    with pytest.raises(DataError) as caught:
        make_folds(np.arange(30) >= 1, ids(30))
    assert str(caught.value) == (
        "folds: 1 patient in the smaller class among 30 patients, fewer than 5 folds; expected at "
        "least one in every fold. Use another endpoint."
    )
    y = outcome(np.arange(1.0, 41), np.arange(40) % 2)
    site = np.where(np.arange(40) < 24, "University Hospital", [f"s{i}" for i in range(40)])
    with pytest.raises(DataError) as caught:
        make_folds(y, ids(40), site)
    assert str(caught.value) == (
        "folds: site 'University Hospital' holds 12 of 20 events, over half; folds that keep sites "
        "whole would be decided by it. Give folds of your own (--folds FOLDER or --folds "
        "folds.parquet), or leave site out of cohort.toml."
    )
    y = outcome(np.arange(1.0, 41), np.isin(np.arange(40), [1, 2, 11, 12]))
    site = np.repeat(["a", "b", "c", "d"], 10)
    with pytest.raises(DataError) as caught:
        make_folds(y, ids(40), site, n_splits=4)
    assert str(caught.value) == (
        "folds: 4 sites with 4 events cannot be split in 4 folds that each hold an event and a "
        "patient still under observation. Use fewer folds: --folds."
    )
    with pytest.raises(DataError, match="1 folds, 1 repeats; expected at least 2 folds"):
        make_folds(y, ids(40), n_splits=1)


def test_inner_folds_keep_sites_and_are_positions():
    y, _, site = simulated(150, sites=8)
    splits = inner_folds(y, site, seed=4)
    assert len(splits) == 3
    tested = np.concatenate([test for _, test in splits])
    assert sorted(tested) == list(range(150))
    for train, test in splits:
        assert not set(site[train]) & set(site[test])
        assert len(train) + len(test) == 150


def test_inner_folds_fall_back_when_sites_cannot_be_split():
    y, _, _ = simulated(60)
    one = np.full(60, "only")
    assert len(inner_folds(y, one)) == 3
    two = np.where(np.arange(60) < 30, "a", "b")
    assert len(inner_folds(y, two)) == 2
    few = outcome(np.arange(1.0, 31), np.isin(np.arange(30), [2, 9]))
    assert len(inner_folds(few)) == 2
    with pytest.raises(DataError) as caught:
        inner_folds(outcome(np.arange(1.0, 31), np.arange(30) == 3))
    assert str(caught.value) == (
        "training part of 30 patients with 1 event: it cannot be split for tuning. Use fewer "
        "folds, or an endpoint with more events."
    )


def test_nobody_censored_and_nearly_nobody_censored_make_no_warning(recwarn):
    y, _, _ = simulated(60)
    for censored in (0, 2):
        y["event"] = np.arange(60) >= censored
        assert len(make_folds(y, ids(60))) == 300
    assert not recwarn.list


def test_check_folds_names_the_fold():
    y = outcome(np.arange(1.0, 31), np.arange(30) < 10)
    rows = [
        (patient, 0, fold, "test" if (i >= 15) == fold else "train")
        for fold in (0, 1)
        for i, patient in enumerate(ids(30))
    ]
    folds = pd.DataFrame(rows, columns=["patient_id", "repeat", "fold", "part"])
    with pytest.raises(DataError) as caught:
        check_folds(folds, y, ids(30))
    assert str(caught.value) == (
        "folds: repeat 0 fold 0, repeat 0 fold 1: expected a comparable pair (an event and a "
        "patient still under observation) in each test part and two events in each training part. "
        "Use fewer folds: --folds."
    )
