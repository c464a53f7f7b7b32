"""Small cohorts and plans, for tests of batches."""

import textwrap

import numpy as np
import pandas as pd

COHORT = """
title = "Cohort {name}"
time_zero = "diagnosis"
[clinical]
table = "{name}.csv"
[endpoints.os]
kind = "survival"
time = "days"
unit = "days"
event = "dead"
event_values = [1]
[endpoints.response]
kind = "classification"
label = "response"
positive = "yes"
[blocks.clinical]
columns = ["age", "stage"]
[blocks.genes]
table = "{name}_genes.csv"
"""

PLAN = """
title = "Do genes add?"
[defaults]
models = ["cox"]
folds = 2
trials = 1
[[runs]]
cohorts = ["cohorts/*.toml"]
endpoints = ["os"]
feature_sets = ["clinical", "clinical+genes"]
"""


def write_cohort(folder, name, n=60, seed=0):
    """Write a small cohort with a survival and a classification endpoint; return its toml."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    risk, gene = draw.normal(size=n), draw.normal(size=n)
    time = draw.exponential(900 * np.exp(-risk - 0.5 * gene))
    patient_id = [f"{name}-{i:03d}" for i in range(n)]
    clinical = pd.DataFrame(
        {
            "patient_id": patient_id,
            "days": np.ceil(np.minimum(time, 2000)),
            "dead": (time < 2000).astype(int),
            "response": np.where(draw.random(n) < 1 / (1 + np.exp(-risk)), "yes", "no"),
            "age": 60 + 8 * risk + draw.normal(size=n),
            "stage": draw.integers(1, 5, size=n),
        }
    )
    clinical.to_csv(folder / f"{name}.csv", index=False)
    genes = pd.DataFrame({"patient_id": patient_id, "g1": gene, "g2": draw.normal(size=n)})
    genes.to_csv(folder / f"{name}_genes.csv", index=False)
    path = folder / f"{name}.toml"
    path.write_text(COHORT.format(name=name))
    return path


def write_plan(folder, names=("a", "b"), text=PLAN):
    """Write small cohorts and a plan over them; return the plan."""
    for seed, name in enumerate(names):
        write_cohort(folder / "cohorts", name, seed=seed)
    path = folder / "plan.toml"
    path.write_text(textwrap.dedent(text))
    return path
