"""The rows of the benchmarks."""

from row import Row, Side


def simulated(n, p=2000):
    return {"cohort": "simulated", "n": n, "p": p}


KKT = {"KKT residual": 1e-3}
SMALL = simulated(300, 40)
COX = "jobs_cox:"
FOREST = "jobs_forest:"
SLIDES = {"n": 2000, "patches": 5000, "dim": 384, "dtype": "float32"}
SLOWER = (1000, 2000, 4000)
RIDGE_PATHS = {"simulated": 1e-4, "brca_scaled": 1e-2}  # glmnet's own ends of 1000 times the unit


def _forest_row(name, title, data, bar, tcga=True, **more):
    return Row(
        name,
        title,
        {"data": data, "n_trees": 100},
        Side("ours", FOREST + "ours"),
        (Side("scikit-survival", FOREST + "scikit_survival"),),
        bar_seconds=bar,
        quick={"data": SMALL, "n_trees": 4},
        tcga=tcga,
        **more,
    )


def _elastic_net_row(name, title, data, bar, **more):
    return Row(
        name,
        title,
        {"data": data, "n_penalties": 100},
        Side("ours", COX + "elastic_net_ours"),
        (
            Side("scikit-survival", COX + "elastic_net_scikit_survival"),
            Side("R glmnet", COX + "elastic_net_glmnet", needs="R glmnet"),
        ),
        bar_seconds=bar,
        bar_facts=KKT,
        quick={"data": SMALL, "n_penalties": 10},
        **more,
    )


def _ridge_row(name, title, data, penalties, bar, scikit_survival=True, **more):
    peers = (Side("R glmnet", COX + "ridge_glmnet", needs="R glmnet", limit=300),)
    if scikit_survival:
        peers += (Side("scikit-survival", COX + "ridge_scikit_survival", limit=120),)
    return Row(
        name,
        title,
        {"data": data, "penalties": penalties},
        Side("ours", COX + "ridge_ours"),
        peers,
        bar_seconds=bar,
        quick={"data": SMALL, "penalties": [2.0, 1.0]},
        **more,
    )


def _unpenalised_row(ties, *more_peers):
    return Row(
        f"unpenalised_{ties}",
        f"Cox without a penalty, 17,000 x 50, ties by {ties.title()}",
        {"data": simulated(17_000, 50), "ties": ties},
        Side("ours", COX + "unpenalised_ours"),
        (
            Side("R coxph", COX + "unpenalised_r", needs="R survival"),
            Side("R coxph.fit", COX + "unpenalised_r", {"task": "coxph.fit"}, needs="R survival"),
            Side("scikit-survival", COX + "unpenalised_scikit_survival"),
            *more_peers,
        ),
        bar_seconds=0.15,
        quick={"data": simulated(300, 12)},
    )


def _whole_job_row(cohort, bar):
    return Row(
        f"whole_job_{cohort}",
        f"Whole job, {cohort.upper()}: 3 feature sets x 3 models x 5 published folds",
        {"cohort": cohort},
        Side("ours", "jobs_whole:ours"),
        (Side("scikit-survival", "jobs_whole:scikit_survival", {"folds": [0]}, times=5),),
        bar_seconds=bar,
        apart=("probing s",),
        tcga=True,
    )


def _path(cohort):
    return {"from": 1000.0, "to": 1000.0 * RIDGE_PATHS[cohort], "number": 100}


BRCA = {"cohort": "brca_scaled"}

ROWS = (
    Row(
        "forest_17k",
        "Forest, 17,000 x 2,000, 100 trees, min leaf 15, mtry sqrt(p)",
        {"data": simulated(17_000), "n_trees": 100},
        Side("ours", FOREST + "ours"),
        (
            Side(
                "scikit-survival",
                FOREST + "scikit_survival",
                {"n_trees": 4},
                sizes=SLOWER,
                times=25,
            ),
            Side(
                "R ranger",
                FOREST + "ranger",
                {"n_trees": 4},
                sizes=(500, 1000, 2000),
                times=25,
                needs="R ranger",
            ),
        ),
        bar_seconds=6,
        bar_gb=0.5,
        quick={"data": SMALL, "n_trees": 4},
    ),
    _forest_row(
        "forest_gbmlgg",
        "Forest, TCGA GBMLGG, training part of a fold, 100 trees",
        {"cohort": "gbmlgg", "fold": 0},
        0.15,
    ),
    _forest_row(
        "forest_brca",
        "Forest, TCGA BRCA, training part of a fold, 100 trees",
        {"cohort": "brca", "fold": 0},
        0.20,
    ),
    Row(
        "shap_gbmlgg",
        "Exact SHAP of a forest, 500 patients x 1,597 columns x 500 trees, GBMLGG",
        {"data": {"cohort": "gbmlgg"}, "n_trees": 500, "n_rows": 500},
        Side("ours", FOREST + "shap_ours"),
        (
            Side(
                "scikit-survival, permutation SHAP",
                FOREST + "shap_permutation",
                {"n_rows": 2},
                times=250,
            ),
        ),
        bar_seconds=1,
        bar_facts={"largest relative error of the sum": 1e-6},
        quick={"data": SMALL, "n_trees": 5, "n_rows": 20},
        tcga=True,
    ),
    _elastic_net_row(
        "elastic_net_17k",
        "Elastic-net path, 100 penalties to 0.05 of the largest, 17,000 x 2,000",
        simulated(17_000),
        2.0,
        bar_gb=0.81,
    ),
    _elastic_net_row(
        "elastic_net_brca",
        "The same, TCGA BRCA, 956 x 2,924",
        BRCA,
        0.5,
        tcga=True,
    ),
    _ridge_row("ridge_17k", "Ridge, one penalty, 17,000 x 2,000", simulated(17_000), [1.0], 3),
    _ridge_row("ridge_brca", "Ridge, one penalty, BRCA, 956 x 2,924", BRCA, [1.0], 0.5, tcga=True),
    _ridge_row(
        "ridge_path_17k",
        "Ridge path, 100 penalties, 17,000 x 2,000",
        simulated(17_000),
        _path("simulated"),
        15,
        scikit_survival=False,
    ),
    _ridge_row(
        "ridge_path_brca",
        "Ridge path, 100 penalties, BRCA, 956 x 2,924",
        BRCA,
        _path("brca_scaled"),
        2,
        scikit_survival=False,
        tcga=True,
    ),
    _unpenalised_row("breslow"),
    _unpenalised_row("efron", Side("lifelines", COX + "unpenalised_lifelines")),
    Row(
        "xgboost_overhead",
        "xgboost Cox, 100 rounds of depth 4, GBMLGG",
        {"data": {"cohort": "gbmlgg"}, "n_trees": 100},
        Side("ours", "jobs_boosting:ours"),
        (
            Side("xgboost directly", "jobs_boosting:xgboost_directly"),
            Side("xgboost directly, 256 bins", "jobs_boosting:xgboost_directly", {"max_bin": 256}),
        ),
        bar_ratio=1.05,
        quick={"data": SMALL, "n_trees": 4},
        repeats=7,
        tcga=True,
    ),
    _whole_job_row("gbmlgg", 60),
    _whole_job_row("brca", 120),
    Row(
        "read_17k",
        "Parquet of 17,000 x 2,000 to a float32 matrix",
        {"data": simulated(17_000)},
        Side("ours", "jobs_tables:ours"),
        (
            Side("pandas", "jobs_tables:pandas"),
            Side("polars", "jobs_tables:polars", needs="polars"),
        ),
        bar_seconds=1,
        bar_gb=0.5,
        quick={"data": SMALL},
    ),
    Row(
        "pool_2000",
        "Mean of each of 2,000 slides x 5,000 patches x 384 float32, from our store",
        {"data": SLIDES},
        Side("ours", "jobs_pooling:ours"),
        (
            Side("pandas", "jobs_pooling:pandas", sizes=(25, 50, 100)),
            Side("Arrow", "jobs_pooling:arrow"),
            Side("polars", "jobs_pooling:polars", needs="polars"),
        ),
        bar_seconds=30,
        bar_gb=1,
        bar_facts={"largest error of a mean": 1e-12},
        quick={"data": SLIDES | {"n": 6, "patches": 40, "dim": 8}},
        repeats=1,
    ),
)
