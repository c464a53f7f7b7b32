"""Concordance of our survival forest and of scikit-survival's, on public cohorts.

For each cohort and seed both are fitted on the same 70% of the patients with the same settings, and
Harrell's C on the others is kept in forest_accuracy.json; what is there already is not repeated.

    OMP_NUM_THREADS=1 TABULAR_TRAINERS_DATA=FOLDER python tests/benchmarks/forest_accuracy.py
        [--cohorts gbsg2 flchain] [--seeds 10] [--ours-again]
"""

import argparse
import json
import time
from pathlib import Path

import cohorts
import numpy as np

STORE = Path(__file__).with_name("forest_accuracy.json")
SMALL = ("gbsg2", "whas500", "breast_cancer", "flchain")  # breast_cancer is GSE7390
N_TREES = 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", nargs="+", choices=SMALL + cohorts.TCGA)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ours-again", action="store_true", help="keep only scikit-survival's")
    options = parser.parse_args()
    available = SMALL + (cohorts.TCGA if cohorts.tcga_folder() else ())
    for cohort in options.cohorts or available:
        X, y = cohorts.small(cohort) if cohort in SMALL else cohorts.tcga(cohort)[:2]
        for seed in range(options.seeds):
            found = json.loads(STORE.read_text()) if STORE.exists() else {}
            known = found.get(f"{cohort} {seed}", {})
            if options.ours_again:
                known.pop("ours", None)
            found[f"{cohort} {seed}"] = measured = known | compare(X, y, seed, known)
            STORE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
            print(cohort, seed, measured, flush=True)


def compare(X, y, seed, known=()):
    """Fit both forests on the same patients; give C on the others, and CPU seconds of the fits.

    Sides that are known are left out.
    """
    from sklearn.model_selection import train_test_split
    from sksurv.ensemble import RandomSurvivalForest as Peer

    from tabular_trainers.metrics import harrell_c
    from tabular_trainers.models import RandomSurvivalForest

    train, test = train_test_split(
        np.arange(len(y)), test_size=0.3, random_state=seed, stratify=y["event"]
    )
    shared = {"min_samples_leaf": 15, "max_features": "sqrt", "random_state": seed, "n_jobs": 1}
    forests = {
        "ours": RandomSurvivalForest(n_trees=N_TREES, **shared),
        # low_memory keeps the risk only, which is what is compared.
        "scikit-survival": Peer(n_estimators=N_TREES, low_memory=True, **shared),
    }
    measured = {"n": len(y), "p": X.shape[1], "trees": N_TREES}
    for name, forest in forests.items():
        if name in known:
            continue
        start = time.process_time()
        forest.fit(X[train], y[train])
        seconds = time.process_time() - start
        c = harrell_c(y[test], forest.predict(X[test]))
        measured[name] = {"c": round(float(c), 5), "cpu_seconds": round(seconds, 3)}
    return measured


if __name__ == "__main__":
    main()
