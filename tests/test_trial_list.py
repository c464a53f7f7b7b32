"""Trials are settled by seed and space: evenly spread, inside their bounds, and a prefix stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.models import MODELS, DataFacts
from tabular_trainers.trial_list import Point, list_trials

ROWS = [(task, name) for task, rows in MODELS.items() for name in rows]
CHOICES = ("a", "b", "c")
DEFAULTS = {"depth": 2, "rate": 0.1, "share": 0.5, "leaf": 15, "kind": "b"}


def space(trial, facts):
    return {
        "depth": trial.suggest_int("depth", 1, 4),
        "rate": trial.suggest_float("rate", 0.01, 1.0, log=True),
        "share": trial.suggest_float("share", -1.0, 1.0),
        "leaf": trial.suggest_int("leaf", 5, 50, log=True),
        "kind": trial.suggest_categorical("kind", CHOICES),
    }


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**62), st.integers(1, 40), st.integers(0, 40))
def test_inside_the_bounds_and_a_shorter_list_is_the_beginning(seed, n_trials, more):
    trials = list_trials(space, None, DEFAULTS, n_trials, seed)
    assert len(trials) == n_trials
    assert trials[0] == DEFAULTS
    assert trials == list_trials(space, None, DEFAULTS, n_trials + more, seed)[:n_trials]
    for trial in trials:
        assert isinstance(trial["depth"], int)
        assert 1 <= trial["depth"] <= 4
        assert 0.01 <= trial["rate"] <= 1.0
        assert -1.0 <= trial["share"] <= 1.0
        assert isinstance(trial["leaf"], int)
        assert 5 <= trial["leaf"] <= 50
        assert trial["kind"] in CHOICES


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(10, 5000), st.integers(1, 2000), st.booleans())
@pytest.mark.parametrize(("task", "name"), ROWS)
def test_every_model_builds_from_its_trials(task, name, seed, n, n_events, reduced):
    spec = MODELS[task][name]
    facts = DataFacts(n=n, p=200, n_events=min(n, n_events), reduced=reduced)
    defaults = spec.build().get_params() | {"components": 32}
    trials = list_trials(spec.space, facts, defaults, 6, seed)
    assert trials == list_trials(spec.space, facts, defaults, 6, seed)
    assert len({tuple(trial) for trial in trials}) == 1
    for trial in trials:
        spec.build(**{key: value for key, value in trial.items() if key != "components"})
        assert {key: type(value) for key, value in trial.items()} == {
            key: type(value) for key, value in trials[0].items()
        }


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_eight_points_lie_one_in_each_eighth(seed):
    trials = list_trials(space, None, DEFAULTS, 9, seed)[1:]
    for name, scaled in (
        ("share", lambda value: (value + 1) / 2),
        ("rate", lambda value: np.log(value / 0.01) / np.log(100)),
    ):
        eighths = [int(8 * scaled(trial[name])) for trial in trials]
        assert sorted(eighths) == list(range(8))
    assert sorted(trial["depth"] for trial in trials) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_seeds_differ_and_a_space_without_questions_has_one_trial():
    lists = [list_trials(space, None, DEFAULTS, 4, seed) for seed in range(5)]
    assert all(one[1:] != other[1:] for i, one in enumerate(lists) for other in lists[:i])
    assert list_trials(lambda trial, facts: {}, None, {}, 8, 0) == [{}]
    assert list_trials(space, None, DEFAULTS, 1, 0) == [DEFAULTS]
    assert list_trials(space, None, DEFAULTS, 0, 0) == [DEFAULTS]


@pytest.mark.parametrize(
    ("at", "expected"),
    [(0.0, (1, 2, 0.1, "a")), (0.5, (3, 4, 1.0, "b")), (1 - 2**-53, (4, 8, 10.0, "c"))],
)
def test_a_coordinate_as_a_value(at, expected):
    # 2 to 8 on the log scale: 2 has the stretch from 1.5 to 2.5; sqrt(1.5 * 8.5) = 3.57 rounds to 4
    found = (
        Point([at]).suggest_int("x", 1, 4),
        Point([at]).suggest_int("x", 2, 8, log=True),
        Point([at]).suggest_float("x", 0.1, 10.0, log=True),
        Point([at]).suggest_categorical("x", CHOICES),
    )
    assert found[:2] == expected[:2]
    assert found[2] == pytest.approx(expected[2])
    assert found[3] == expected[3]
