"""How our own cost grows with patients, and what a second thread brings."""

from row import Series
from rows import COX, FOREST, SMALL, simulated

PATIENTS = (1_000, 4_000, 17_000, 50_000, 100_000)


def _patients(**more):
    return {f"{n:,}": {"data": simulated(n), **more} for n in PATIENTS}


def _threads(**more):
    return {str(k): {"data": simulated(17_000), "threads": k, **more} for k in (1, 2)}


QUICK_FOREST = {"data": SMALL, "n_trees": 4}
QUICK_PATH = {"data": SMALL, "n_penalties": 10}

SERIES = (
    Series(
        "forest_patients",
        "Forest, 100 trees, 2,000 columns",
        FOREST + "ours",
        _patients(n_trees=100),
        QUICK_FOREST,
    ),
    Series(
        "elastic_net_patients",
        "Elastic-net path, 100 penalties, 2,000 columns",
        COX + "elastic_net_ours",
        _patients(n_penalties=100),
        QUICK_PATH,
    ),
    Series(
        "xgboost_patients",
        "xgboost Cox, 100 rounds of depth 4, 2,000 columns",
        "jobs_boosting:ours",
        _patients(n_trees=100),
        QUICK_FOREST,
    ),
    Series(
        "forest_threads",
        "Forest, 17,000 x 2,000, 100 trees",
        FOREST + "ours",
        _threads(n_trees=100),
        QUICK_FOREST,
        of="threads",
    ),
    Series(
        "elastic_net_threads",
        "Elastic-net path, 17,000 x 2,000 (threads of the linear algebra)",
        COX + "elastic_net_ours",
        _threads(n_penalties=100),
        QUICK_PATH,
        of="threads",
    ),
    Series(
        "xgboost_threads",
        "xgboost Cox, 17,000 x 2,000, 100 rounds of depth 4",
        "jobs_boosting:ours",
        _threads(n_trees=100),
        QUICK_FOREST,
        of="threads",
    ),
)
