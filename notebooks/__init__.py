"""Tutorial notebooks and cohort recipes; installed as tabular_trainers.notebooks."""
