"""Figures of a run: each function takes its tables and run.json and returns a matplotlib Figure.

They draw what the tables say and compute no statistic. The figures are meant for a report or a
paper: units on the axes, patients and events in the title, nothing told by colour alone.

    from tabular_trainers import plots
    plots.discrimination(tables, run).savefig("discrimination.pdf")

``tables`` maps the name of a table to a DataFrame of its data schema; ``run`` is run.json.
"""

from tabular_trainers.plots_calibration import calibration, calibration_grid
from tabular_trainers.plots_contributions import block_contributions, contributions
from tabular_trainers.plots_curves import follow_up, risk_thirds, risk_thirds_grid
from tabular_trainers.plots_decision import decision_curve
from tabular_trainers.plots_flow import patient_flow
from tabular_trainers.plots_forest import differences, discrimination
from tabular_trainers.plots_subgroups import for_whom

__all__ = [
    "block_contributions",
    "calibration",
    "calibration_grid",
    "contributions",
    "decision_curve",
    "differences",
    "discrimination",
    "follow_up",
    "for_whom",
    "patient_flow",
    "risk_thirds",
    "risk_thirds_grid",
]
