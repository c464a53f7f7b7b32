"""A final part is set aside before folds are made: whole sites, about the share that was asked."""

import numpy as np
import pandas as pd
import pytest

from tabular_trainers.demo import synthetic_cohort
from tabular_trainers.errors import DataError
from tabular_trainers.evaluation_plan import make_plan
from tabular_trainers.final_part import set_aside


def analysis(n=600, n_sites=0, kind="survival", seed=1):
    features = {"clinical": 2, "genomics": 2}
    cohort = synthetic_cohort(n, features=features, n_sites=n_sites, kind=kind, seed=seed)
    return cohort.analysis_set()


@pytest.mark.parametrize("kind", ["survival", "classification"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.25, 0.3, 0.5])
def test_the_share_of_patients_and_of_events_is_as_asked(share, kind):
    whole = analysis(kind=kind)
    rest, final = set_aside(whole, share)
    assert len(final.analysis.y) / len(whole.y) == pytest.approx(share, abs=0.01)
    events = [part.y["event"] if kind == "survival" else part.y for part in (final.analysis, whole)]
    assert events[0].sum() / events[1].sum() == pytest.approx(share, abs=0.02)
    together = rest.patient_id.append(final.analysis.patient_id).sort_values()
    assert together.equals(whole.patient_id)
    np.testing.assert_array_equal(final.analysis.X.index, final.analysis.patient_id)


@pytest.mark.parametrize(("n_sites", "share"), [(4, 0.3), (12, 0.2), (40, 0.25)])
def test_sites_are_whole_and_the_share_as_near_as_they_allow(n_sites, share):
    whole = analysis(n_sites=n_sites)
    rest, final = set_aside(whole, share)
    assert not set(rest.site) & set(final.analysis.site)
    # no whole site more or less brings it nearer
    sizes, chosen = pd.Series(whole.site).value_counts(), set(final.analysis.site)
    assert abs(sizes[list(chosen)].sum() / 600 - share) < sizes.max() / 600
    assert f"{len(chosen)} whole site" in final.note


def test_the_seed_decides_and_folds_follow(monkeypatch):
    whole = analysis()
    first, again, other = (set_aside(whole, 0.2, seed)[1].analysis.patient_id for seed in (3, 3, 4))
    assert first.equals(again)
    assert not first.equals(other)
    cohort = synthetic_cohort(600, features={"clinical": 2, "genomics": 2}, seed=1)
    plan = make_plan(cohort, holdout=0.2, seed=3, n_repeats=2)
    assert not plan.folds["patient_id"].isin(first).any()
    assert plan.folds["patient_id"].nunique() == 600 - len(first)
    assert plan.final_part.analysis.patient_id.equals(first)


@pytest.mark.parametrize("share", [0, -0.2, 0.51, 20])
def test_a_share_outside_its_limits_is_refused(share):
    with pytest.raises(DataError) as caught:
        set_aside(analysis(), share)
    assert str(caught.value) == (f"--holdout {share:g}: expected a share above 0 and at most 0.5.")


def test_too_few_events_in_either_part_are_refused():
    whole = analysis(80)
    n = int(whole.y["event"].sum())
    with pytest.raises(DataError) as caught:
        set_aside(whole, 0.1)
    assert str(caught.value) == (
        f"--holdout 0.1: {n} events among 80 patients leave a final part or a rest of about "
        f"{int(n * 0.1)}; expected at least 10 in each. Leave --holdout out: the folds then use "
        "every patient."
    )


def test_a_site_with_over_half_of_the_events_is_refused():
    whole = analysis(n_sites=6)
    whole.site[:420] = whole.site[0]
    with pytest.raises(DataError, match="--holdout 0.2, setting the final part aside: folds: site"):
        set_aside(whole, 0.2)


@pytest.mark.parametrize("option", [{"holdout": 0.2}, {"n_repeats": 2}])
def test_folds_of_your_own_leave_no_room(option):
    cohort = synthetic_cohort(100, seed=1)
    folds = make_plan(cohort, folds=3).folds
    with pytest.raises(DataError, match="does not go with folds of your own"):
        make_plan(cohort, folds=folds, **option)
