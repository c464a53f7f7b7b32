"""The permuted-outcome probe: what the tuned primary model finds where there is nothing to find.

Outcomes are permuted within sites, which leaves differences between sites as they are: a model can
still find those, and rightly. So only pairs of patients who could have got each other's outcome are
compared, within a test fold; of these, what a model ranks is 0.5 on average, whatever the sites.

The cost is kept near a tenth of the run's fits: where 20 permutations on every fold would be more,
each is measured on some of the folds, in turn.
"""

import json

import numpy as np
import pandas as pd

from tabular_trainers.errors import DataError
from tabular_trainers.feature_sets import is_late
from tabular_trainers.folds import check_folds

N_PERMUTATIONS = 20
FLAG_AT = 3.0  # standard errors from 0.5
SHARE = 0.1  # of the fits of the run
_TRIES = 100  # permutations drawn for each that is used


def permutations(plan, n_permutations=N_PERMUTATIONS):
    """Draw permutations of whole outcome rows within sites, or of the cohort where it has none.

    Patients of unknown site, and those who are alone in their site, are permuted among themselves:
    within a site of one an outcome would stay where it is. A permutation that leaves a fold
    without what a fit or a measure needs is drawn again.

    Parameters
    ----------
    plan : Plan
    n_permutations : int, default 20

    Returns
    -------
    list of ndarray of shape (n_patients,)
        Whose outcome each patient gets, as positions; fewer than asked for where hardly any
        permutation can be measured.
    """
    analysis, codes = plan.analysis, _groups(plan.analysis)
    generator = np.random.default_rng(np.random.SeedSequence([plan.seed, 0x7065726D]))
    folds = plan.folds[plan.folds["repeat"] == 0]
    found = []
    for _ in range(n_permutations):
        for _ in range(_TRIES):
            drawn = np.arange(len(codes))
            for code in np.unique(codes):
                members = np.flatnonzero(codes == code)
                drawn[members] = generator.permutation(members)
            try:
                check_folds(folds, analysis.y[drawn], analysis.patient_id)
            except DataError:
                continue
            found.append(drawn)
            break
        else:
            return found
    return found


def _groups(analysis):
    """Give numbers to the groups within which outcomes are permuted."""
    if analysis.site is None:
        return np.zeros(len(analysis.y), dtype=np.int64)
    site = pd.Series(analysis.site, dtype=object)
    codes = pd.factorize(site)[0].astype(np.int64)
    codes[(site.groupby(site).transform("size") == 1).to_numpy()] = -1
    return codes


def measured_folds(plan, n_permutations=N_PERMUTATIONS):
    """Settle on which folds of the first repeat each permutation is measured, from the plan alone.

    Returns
    -------
    list of list of int
        One a permutation; the lists are equally long.
    """
    from tabular_trainers.tuning import INNER_SPLITS

    folds = sorted(plan.folds.loc[plan.folds["repeat"] == 0, "fold"].unique().tolist())
    n_pairs = len(plan.analysis.feature_sets) * len(plan.models)
    n_fits = n_pairs * len(folds) * (INNER_SPLITS * plan.n_trials + 1)
    each = min(max(int(SHARE * n_fits / N_PERMUTATIONS), 1), len(folds))
    return [
        [folds[(number * each + turn) % len(folds)] for turn in range(each)]
        for number in range(n_permutations)
    ]


def tuned_parameters(trials, feature_set, model):
    """Give what was chosen in each fold of the first repeat: {fold: parameters of `make_model`}."""
    own = trials["chosen"] & (trials["feature_set"] == feature_set) & (trials["model"] == model)
    own &= trials["repeat"] == 0
    return {int(row.fold): json.loads(row.parameters) for row in trials[own].itertuples()}


def fit_permuted(plan, feature_set, model, fold, parameters, drawn):
    """Fit one model with settings chosen before to permutations of one training part.

    Columns are prepared once: they are the same in all permutations.

    Parameters
    ----------
    plan : Plan
    feature_set, model : str
    fold : int
        Of the first repeat.
    parameters : dict
        For `make_model`.
    drawn : dict of int to ndarray of shape (n_patients,)
        Those of `permutations` that are measured on this fold, by number.

    Returns
    -------
    DataFrame
        patient_id, fold, permutation, risk of the patients held out.
    """
    from sklearn.base import clone

    from tabular_trainers.models import find_model, make_model

    analysis, late = plan.analysis, is_late(feature_set)
    spec = find_model(model, plan.task, late)
    train, test = plan.positions(0, fold)
    X = analysis.columns_of(feature_set)
    preprocess, estimator = make_model(
        model,
        plan.task,
        analysis.categorical,
        analysis.reduce,
        parameters,
        random_state=plan.fold_seed(0, fold),
        score_only=True,
        late=late,
    )
    matrix = preprocess.fit_transform(X.iloc[train])
    held_out = preprocess.transform(X.iloc[test])
    groups = None if analysis.site is None else analysis.site[train]
    tables = []
    for number, order in drawn.items():
        fitted = clone(estimator).fit(matrix, analysis.y[order[train]], groups=groups)
        risk = spec.risk(fitted, held_out)
        tables.append(
            pd.DataFrame(
                {
                    "patient_id": X.index[test],
                    "fold": np.int64(fold),
                    "permutation": np.int64(number),
                    "risk": risk,
                }
            )
        )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def summarise(plan, drawn, predictions):
    """Average the headline measure over permutations, pairs within fold and site.

    Parameters
    ----------
    plan : Plan
    drawn : list of ndarray of shape (n_patients,)
    predictions : DataFrame
        From `fit_permuted`, of all folds.

    Returns
    -------
    mean, lower, upper : float
        Lower and upper lie 3 standard errors (standard deviation over permutations by the root of
        their number) from the mean.
    flagged : bool or None
        Whether 0.5 lies outside; None, and all else NaN, where fewer than two permutations leave a
        pair to compare.
    """
    from tabular_trainers import metrics

    analysis = plan.analysis
    measure = metrics.harrell_c if plan.task == "survival" else metrics.auroc
    group, values = _groups(analysis), []
    for number, own in predictions.groupby("permutation"):
        at = analysis.patient_id.get_indexer(own["patient_id"])
        strata = own["fold"].to_numpy() * (len(group) + 1) + group[at]
        try:
            y = analysis.y[drawn[number][at]]
            values.append(measure(y, own["risk"].to_numpy(), strata=strata))
        except DataError:  # no pair to compare
            continue
    if len(values) < 2:
        return np.nan, np.nan, np.nan, None
    mean = float(np.mean(values))
    half = FLAG_AT * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return mean, mean - half, mean + half, abs(mean - 0.5) > half
