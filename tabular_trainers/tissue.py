"""From clusters of patches to risk: which tissue a model's risk goes with, and what it is worth.

Tables in, tables out. What describes (`explained_variance`, `cluster_table`) takes prevalences of
one reference clustering, made on all patients; what is scored (`forward_selection`,
`without_flagged`) takes those of each fold's own clustering, made on its training part.
"""

from tabular_trainers.tissue_bias import bias_table, false_discovery_rate, site_auc
from tabular_trainers.tissue_patients import Patients, patients_of
from tabular_trainers.tissue_scores import without_flagged
from tabular_trainers.tissue_selection import Selection, forward_selection
from tabular_trainers.tissue_table import cluster_table
from tabular_trainers.tissue_variance import explained_variance

__all__ = [
    "Patients",
    "Selection",
    "bias_table",
    "cluster_table",
    "explained_variance",
    "false_discovery_rate",
    "forward_selection",
    "patients_of",
    "site_auc",
    "without_flagged",
]
