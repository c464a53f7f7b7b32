"""Set a final part of the patients aside before folds are made, by whole sites where known."""

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError, count
from tabular_trainers.folds import make_folds

LARGEST = 0.5
MIN_EVENTS = 10  # with fewer no measure of the final part means anything
_MOST_PARTS = 10  # of which every combination is tried


@dataclass(frozen=True)
class FinalPart:
    """Patients that no fold, tuning or fit sees; the saved models are measured on them once.

    Attributes
    ----------
    share : float
        As asked for.
    analysis : AnalysisSet
        Its patients, columns and outcome.
    note : str
        How it was chosen, in words.
    """

    share: float
    analysis: object
    note: str


def set_aside(analysis, share, seed=0):
    """Set about a share of the patients aside, with about that share of the events.

    Patients are split as folds are, in parts of which some make up the share as nearly as possible;
    a site is in one part.

    Parameters
    ----------
    analysis : AnalysisSet
    share : float
        Above 0, at most 0.5.
    seed : int, default=0

    Returns
    -------
    rest : AnalysisSet
        Its flow says how many were set aside.
    final_part : FinalPart

    Raises
    ------
    DataError
        If the share is outside these limits, either part would have fewer than 10 events
        (classification: patients of a class), or one site holds over half of the events.
    """
    if not 0 < share <= LARGEST:
        raise DataError(f"--holdout {share:g}: expected a share above 0 and at most {LARGEST:g}.")
    events = _rarer(analysis.y)
    n = int(events.sum())
    _enough(n * share, share, n, analysis)
    n_parts = round(1 / share)
    if n_parts <= _MOST_PARTS:
        n_parts = Fraction(share).limit_denominator(_MOST_PARTS).denominator
    # a stream of its own: parts of the folds' stream would put the same patients together again
    own_seed = int(np.random.SeedSequence([seed, 0x5E7A51DE]).generate_state(1)[0])
    try:
        folds = make_folds(analysis.y, analysis.patient_id, analysis.site, n_parts, 1, own_seed)
    except DataError as error:
        raise DataError(f"--holdout {share:g}, setting the final part aside: {error}") from None
    part = folds[folds["part"] == "test"].set_index("patient_id")["fold"]
    chosen = _nearest(part.reindex(analysis.patient_id).to_numpy(), events, share)
    _enough(min(events[chosen].sum(), events[~chosen].sum()), share, n, analysis)
    sites = "patients chosen at random"
    if analysis.site is not None:
        site = pd.Series(analysis.site[chosen], dtype=object)
        sites = count(site.nunique() + int(site.isna().sum()), "whole site")
    final = analysis.keep(chosen, "used for fitting and tuning")
    note = (
        f"{count(len(final.y), 'patient')} ({chosen.mean():.0%}) with {int(events[chosen].sum())} "
        f"of {n} {_noun(analysis)} were set aside before the folds were made: {sites}"
    )
    rest = analysis.keep(~chosen, "set aside as the final part, before folds were made")
    return rest, FinalPart(float(share), final, note)


def _nearest(part, events, share):
    """Choose the parts that together are nearest to the share of patients and of events."""
    n_parts = int(part.max()) + 1
    sizes = np.array(
        [np.bincount(part, minlength=n_parts), np.bincount(part, events, minlength=n_parts)]
    )
    sizes = sizes / sizes.sum(axis=1, keepdims=True)
    most = n_parts - 1 if n_parts <= _MOST_PARTS else 1
    choices = [
        list(choice)
        for size in range(1, most + 1)
        for choice in itertools.combinations(range(n_parts), size)
    ]
    miss = [((sizes[:, choice].sum(axis=1) - share) ** 2).sum() for choice in choices]
    return np.isin(part, choices[int(np.argmin(miss))])


def _rarer(y):
    """Mark the events; classification: the smaller class, which limits what can be measured."""
    if y.dtype.names is not None:
        return y["event"]
    return y == (1 if 2 * y.sum() <= len(y) else 0)


def _noun(analysis):
    return "events" if analysis.y.dtype.names else "patients of the smaller class"


def _enough(expected, share, n, analysis):
    if expected < MIN_EVENTS:
        patients = count(len(analysis.y), "patient")
        raise DataError(
            f"--holdout {share:g}: {n} {_noun(analysis)} among {patients} leave a final "
            f"part or a rest of about {int(expected)}; expected at least {MIN_EVENTS} in each. "
            "Leave --holdout out: the folds then use every patient."
        )
