"""Measures of prediction, for survival and for classification."""

from tabular_trainers.concordance import harrell_c

__all__ = ["harrell_c"]
