"""The whole job on a TCGA cohort: three feature sets, three models, the published folds."""

import statistics
import tempfile
from pathlib import Path

import cohorts
from measure import Job, cpu_seconds
from whole_job import RECIPES


class Steps:
    """CPU seconds of each step of a run; what a run calls with its progress."""

    def __init__(self):
        self.seconds = {}
        self.last = cpu_seconds()

    def __call__(self, done, total, what):
        """Count what was spent since the last call as this step's."""
        now, step = cpu_seconds(), what.partition(" ")[0]
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self.last
        self.last = now


def ours(cohort, **options):
    """Evaluate, explain, probe, fit once more on all patients, and report."""
    from tabular_trainers import load_cohort, run

    data = cohorts.tcga_folder()
    name = f"tcga_{cohort}"
    folder = tempfile.TemporaryDirectory()
    out = Path(folder.name) / "run"
    steps = Steps()

    def work():
        loaded = load_cohort(RECIPES / f"{name}.toml", data)
        splits = data / "splits" / name
        run(loaded, folds=splits, out=out, n_jobs=1, progress=steps, **options)

    def facts(_):
        found = _best(out) | {f"{step} s": round(s, 1) for step, s in steps.seconds.items()}
        folder.cleanup()
        return found

    return Job(work, facts)


def scikit_survival(cohort, folds, feature_sets=("clinical", "genomics", "clinical+genomics")):
    """Evaluate some of the folds with scikit-survival and xgboost as their users do."""
    from whole_job_peer import evaluate

    def facts(found):
        return {
            f"best C, {name}": round(max(statistics.mean(c) for c in models.values()), 3)
            for name, models in found.items()
        }

    return Job(lambda: evaluate(cohort, folds, feature_sets), facts)


def _best(out):
    import pandas as pd

    metrics = pd.read_parquet(out / "metrics.parquet")
    overall = metrics[metrics["fold"].isna() & (metrics["metric"] == "harrell_c")]
    best = overall.groupby("feature_set", sort=False)["estimate"].max()
    return {f"best C, {name}": round(float(c), 3) for name, c in best.items()}
