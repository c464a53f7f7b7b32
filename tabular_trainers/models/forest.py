"""Random survival forest: trees split by the log-rank statistic, leaves hold their own curves."""

import numpy as np
from sklearn.base import BaseEstimator

from tabular_trainers.errors import DataError
from tabular_trainers.metrics import harrell_c
from tabular_trainers.models.binning import bin_columns
from tabular_trainers.models.growth import Times, grow_forest
from tabular_trainers.models.importances import permutation_importance, split_importances
from tabular_trainers.models.spec import ModelSpec, refuse_no_events
from tabular_trainers.models.tree_explanation import explain
from tabular_trainers.models.trees import HoldsForest
from tabular_trainers.outcome import finite_vector, refuse_late_entry, survival_arrays

LABEL = "Random survival forest"
MAX_TIMES = 64  # time bins; C differs by less than between seeds from unbinned times
SUBSAMPLE = 0.632  # 1 - 1/e
# Wider blocks are reduced by PCA: a split looks at a share of the columns, and of thousands of
# which few matter most splits see none that does.
MAX_BLOCK_COLUMNS = 500


class RandomSurvivalForest(HoldsForest, BaseEstimator):
    """Forest of survival trees on binned columns and binned event times.

    Splits maximise the log-rank statistic with its hypergeometric variance. For that, columns with
    more than 128 distinct values are cut at 63 quantiles, and event times are binned to at most
    64 with equal numbers of events; a censored patient counts as at risk up to the last bin that
    ended before, a late entrant from the bin of the entry on. A leaf's curves are estimated from
    unbinned times, and kept at the ends of the bins.

    Missing values are left as NaN: every split learns which side they go.

    Parameters
    ----------
    n_trees : int
        Costs time in proportion; C moves by 0.01 between seeds at 100, by half of that at 400.
    min_samples_leaf : int
        Patients in a leaf, at least.
    max_features : float, int or "sqrt"
        Columns looked at in a split: a share, a number, or the root of their number. Costs time
        in proportion.
    max_depth : int or None
        Splits from root to leaf, at most.
    bootstrap : bool or None
        How the patients of a tree are drawn: None takes a subsample in which each counts once,
        True draws with replacement, False takes them all. Judged on patients out of the bag, the
        subsample was as good as the bootstrap or better (GSE7390 .682 and .674, TCGA BLCA .610 and
        .604, six others within .004); it is the default of R's randomForestSRC as well.
    max_samples : float or None
        Share of the patients drawn for a tree. None: 0.632 of them for a subsample, which is how
        many a bootstrap sees on average; else as many as there are.
    oob_score : bool
        Keep what the trees say of the training patients they were not drawn for.
    n_jobs : int
        Threads for growing; does not change the result.
    random_state : int
        Seed of the bootstraps and of the columns looked at.

    Attributes
    ----------
    times_ : array of shape (n_times,)
        Ends of the time bins, in the unit of ``y``.
    risk_ : array of shape (n_leaves,)
        Cumulative hazard (Nelson-Aalen) of every leaf, mean over the distinct training event times.
    hazard_ : float32 array of shape (n_leaves, n_times)
        Cumulative hazard of every leaf at ``times_``.
    survival_ : float32 array of shape (n_leaves, n_times)
        Survival probability (Kaplan-Meier) of every leaf at ``times_``.
    oob_prediction_ : array of shape (n,)
        With ``oob_score``: risk of the training patients from the trees they were not drawn for;
        NaN for a patient whom every tree has drawn.
    oob_score_ : float
        With ``oob_score``: Harrell's C of these; NaN if no pair can be compared.

    References
    ----------
    Ishwaran, H. et al. (2008). Random survival forests. Annals of Applied Statistics 2(3).
    Segal, M. (1988). Regression trees for censored data. Biometrics 44(1).
    Fu, W. and Simonoff, J. (2017). Survival trees for left-truncated and right-censored data, with
    application to time-varying covariate data. Biostatistics 18(2).
    """

    def __init__(
        self,
        n_trees=200,
        min_samples_leaf=15,
        max_features=0.2,
        max_depth=None,
        bootstrap=None,
        max_samples=None,
        oob_score=False,
        n_jobs=1,
        random_state=0,
    ):
        self.n_trees = n_trees
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.max_depth = max_depth
        self.bootstrap = bootstrap
        self.max_samples = max_samples
        self.oob_score = oob_score
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, y, groups=None, sample_weight=None):
        """Grow the trees; ``groups`` is not needed, since nothing is tuned inside.

        Parameters
        ----------
        X : array of shape (n, p), or BinnedColumns
            Taken as float32; NaN is missing.
        y : structured array with fields event, time and optionally entry, shape (n,)
            With entry a patient is at risk after it.
        groups : array of shape (n,), optional
            Ignored.
        sample_weight : array of shape (n,), optional
            Taken relative to their mean. A patient of weight 0 is left out.

        Raises
        ------
        DataError
            When nobody had the event, a weight is negative or not finite, all patients with an
            event have weight 0, or a patient enters at or after the time.
        """
        refuse_no_events(y, LABEL)
        if sample_weight is not None:
            sample_weight = _checked_weights(sample_weight, y)
        columns = bin_columns(X)
        ends = _bin_ends(y)
        share = 1.0 if self.bootstrap is not None else SUBSAMPLE
        grown = grow_forest(
            columns,
            _times(y, ends),
            n_trees=self.n_trees,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features,
            seed=self.random_state,
            max_depth=self.max_depth,
            bootstrap=bool(self.bootstrap),
            max_samples=share if self.max_samples is None else self.max_samples,
            sample_weight=sample_weight,
            out_of_bag=self.oob_score,
            n_jobs=self.n_jobs,
        )
        self.n_features_in_ = len(columns.bins)
        self.times_ = ends
        self.risk_, self.hazard_, self.survival_ = grown.risk, grown.hazard, grown.survival
        if self.oob_score:
            self.oob_prediction_ = grown.out_of_bag_risk
            self.oob_score_ = _concordance(y, grown.out_of_bag_risk)
        self._keep(grown.forest)
        return self

    def predict(self, X):
        """Give the cumulative hazard, averaged over the distinct training event times and trees.

        scikit-survival's forest sums over the event times where this takes the mean, so that it
        does not grow with the cohort; the ranks are the same.

        Returns
        -------
        array of shape (n,)
        """
        return self.forest_.mean_value(X, self.risk_[self.leaf_number_])

    def predict_cumulative_hazard(self, X, times):
        """Give the mean over trees of the cumulative hazard, of shape (n, n_times).

        Not the negative logarithm of `predict_survival`: that is the mean of the trees' own
        survival curves, and neither mean can be had from the other.
        """
        return self.forest_.mean_value(X, self._at(self.hazard_, times, before=0.0))

    def predict_survival(self, X, times):
        """Give the mean over trees of the survival probability, of shape (n, n_times).

        Not ``exp(-predict_cumulative_hazard)``, see there.
        """
        return self.forest_.mean_value(X, self._at(self.survival_, times, before=1.0))

    def shap_values(self, X, times=None, background=None):
        """Give base and contributions to the risk, or to survival at horizons; exact.

        Parameters
        ----------
        X : array of shape (n, p)
        times : sequence of float, optional
            Explain the survival probability at these times instead of the risk.
        background : array of shape (m, p), optional
            Patients whose values stand in for unknown ones (interventional); otherwise unknown
            splits are followed as the training patients went (path-dependent).

        Returns
        -------
        base : float, or array of shape (n_times,)
        contributions : array of shape (n, p), or (n, p, n_times)
        """
        if times is None:
            value = self.risk_[self.leaf_number_]
        else:
            value = self._at(self.survival_, times, before=1.0)
        return explain(self.forest_, value, X, background)

    @property
    def split_importances_(self):
        """Share of each column in the sum of the splits' log-rank statistics, of shape (p,).

        Favours columns with many values, and says nothing about new patients; see
        `permutation_importance`.
        """
        return split_importances(self.forest_, self.n_features_in_)

    def permutation_importance(self, X, y, n_repeats=5, random_state=0):
        """Give the loss of Harrell's C when a column is shuffled, of shape (p, n_repeats).

        Parameters
        ----------
        X : array of shape (n, p)
            Patients the forest was not fitted on; on training patients it says what was memorised.
        y : structured array with fields event and time, shape (n,)
        n_repeats : int
            Shuffles a column; costs time in proportion.
        random_state : int
            Seed of the shuffles.
        """
        value = self.risk_[self.leaf_number_]
        return permutation_importance(self.forest_, value, X, y, n_repeats, random_state)

    def _at(self, curves, times, before):
        """Give the leaves' step functions at times, of shape (n_nodes, n_times)."""
        padded = np.hstack([np.full((len(curves), 1), before), curves.astype(np.float64)])
        step = np.searchsorted(self.times_, np.asarray(times, dtype=np.float64), side="right")
        return padded[:, step][self.leaf_number_]


def _checked_weights(weight, y):
    weight = finite_vector(weight, len(y), "weights")
    if (weight < 0).any():
        raise DataError("weights: expected finite values of at least 0.")
    if not weight[y["event"].astype(bool)].any():
        raise DataError(f"{LABEL}: all patients with an event have weight 0.")
    return weight


def _concordance(y, risk):
    known = ~np.isnan(risk)
    try:
        return harrell_c(y[known], risk[known])
    except DataError:  # no pair can be compared
        return float("nan")


def _bin_ends(y):
    """End at most 64 bins at event times, with about equal numbers of events in each."""
    times = np.sort(y["time"][y["event"].astype(bool)])
    distinct = np.unique(times)
    if len(distinct) <= MAX_TIMES:
        return distinct
    last = np.ceil(np.arange(1, MAX_TIMES + 1) * len(times) / MAX_TIMES).astype(int) - 1
    return np.unique(times[last])


def _times(y, ends):
    """Put each patient in time bins: an event in its own, a censoring in the last that ended."""
    time, event, entry = survival_arrays(y)
    if entry is None:
        entry = np.full(len(time), -np.inf)
    refuse_late_entry(time, entry)
    distinct = np.unique(time[event])
    return Times(
        event=event,
        first=np.searchsorted(ends, entry, side="right") + 1,
        last=np.where(
            event,
            np.searchsorted(ends, time, side="left") + 1,
            np.searchsorted(ends, time, side="right"),
        ),
        entry_rank=np.searchsorted(distinct, entry, side="right"),
        time_rank=np.searchsorted(distinct, time, side="right"),
        end_rank=np.searchsorted(distinct, ends, side="right"),
    )


def _build(random_state=0, n_jobs=1, score_only=False, **parameters):
    return RandomSurvivalForest(random_state=random_state, n_jobs=n_jobs, **parameters)


def _space(trial, facts):
    # The default, 15, is always among them; a leaf is to see an event.
    smallest = min(15, max(5, facts.n // max(facts.n_events, 1)))
    largest = max(15, min(50, facts.n // 10))
    return {
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", smallest, largest, log=True),
        "max_features": trial.suggest_float("max_features", 0.05, 0.5, log=True),
    }


RSF = ModelSpec(
    label=LABEL,
    build=_build,
    space=_space,
    risk=lambda fitted, X: fitted.predict(X),
    risk_scale="cumulative hazard, mean over trees and event times",
    curve=lambda fitted, X, times: fitted.predict_survival(X, times),
    shap=lambda fitted, X, background, seed: fitted.shap_values(X),
    shap_kind="exact",
    supports_entry=True,
    handles_missing=True,
    scale=False,
    max_block_columns=MAX_BLOCK_COLUMNS,
    prepare=bin_columns,
    cost=8.0,
)
