"""Measures of prediction, for survival and for classification.

All of them take patient weights, one row or many (bootstrap multiplicities), and those that compare
patients take strata: pairs are formed within a fold only, because risks of different folds come
from different models. Ties, censoring weights and references are in each measure's own words.
"""

from tabular_trainers.bootstrap import bootstrap_method, bootstrap_weights, interval
from tabular_trainers.calibration import calibration_slope, observed_expected
from tabular_trainers.censoring import inverse_weights, kaplan_meier, survival_at
from tabular_trainers.concordance import harrell_c
from tabular_trainers.concordance_error import Concordance, concordance
from tabular_trainers.decision_curves import decision_curve, net_benefit
from tabular_trainers.discrimination import auc, auprc, auroc, uno_c
from tabular_trainers.horizons import (
    carried_horizons,
    default_horizons,
    horizon_note,
    numbers_at_risk,
)
from tabular_trainers.left_truncation import at_landmark, entry_dependence
from tabular_trainers.prediction_error import brier, integrated_brier, log_loss, time_grid
from tabular_trainers.scoring import headline, score
from tabular_trainers.smoothed_calibration import integrated_calibration_index

__all__ = [
    "Concordance",
    "at_landmark",
    "auc",
    "auprc",
    "auroc",
    "bootstrap_method",
    "bootstrap_weights",
    "brier",
    "calibration_slope",
    "carried_horizons",
    "concordance",
    "decision_curve",
    "default_horizons",
    "entry_dependence",
    "harrell_c",
    "headline",
    "horizon_note",
    "integrated_brier",
    "integrated_calibration_index",
    "interval",
    "inverse_weights",
    "kaplan_meier",
    "log_loss",
    "net_benefit",
    "numbers_at_risk",
    "observed_expected",
    "score",
    "survival_at",
    "time_grid",
    "uno_c",
]
