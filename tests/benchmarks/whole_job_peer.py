"""The whole job as a user of scikit-survival and xgboost writes it: the peer of whole_job.py.

Impute, scale, elastic-net Cox, survival forest and boosted trees, each by a grid search over three
inner folds; no explanation, no report, no intervals.
"""

import warnings

import cohorts
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sksurv.ensemble import RandomSurvivalForest
from sksurv.linear_model import CoxnetSurvivalAnalysis
from sksurv.metrics import concordance_index_censored

CATEGORICAL = ["oncotree_code"]


class XGBoostCox(BaseEstimator):
    """xgboost's Cox objective in scikit-learn's clothes."""

    def __init__(self, max_depth=3, learning_rate=0.1):
        self.max_depth = max_depth
        self.learning_rate = learning_rate

    def fit(self, X, y):
        import xgboost

        settings = {
            "objective": "survival:cox",
            "tree_method": "hist",
            "max_depth": self.max_depth,
            "eta": self.learning_rate,
            "subsample": 0.8,
            "colsample_bytree": 0.5,
            "nthread": 1,
        }
        label = np.where(y["event"], y["time"], -y["time"])
        self.booster_ = xgboost.train(settings, xgboost.DMatrix(X, label=label, nthread=1), 200)
        return self

    def predict(self, X):
        import xgboost

        return self.booster_.predict(xgboost.DMatrix(X, nthread=1), output_margin=True)

    def score(self, X, y):
        return concordance(y, self.predict(X))


def evaluate(cohort, folds, feature_sets):
    """Fit and score each model on each feature set; C by feature set, model and fold."""
    warnings.simplefilter("ignore")
    folder = cohorts.tcga_folder()
    table = pd.read_csv(folder / f"tcga_{cohort}.csv.gz", low_memory=False)
    table = table.drop_duplicates("case_id").set_index("case_id")
    y = cohorts.outcome(table["censorship"] == 0, table["survival_months"])
    genes = [column for column in table if column.endswith(("_rnaseq", "_cnv", "_mut"))]
    clinical = [c for c in ("age", "is_female", *CATEGORICAL) if table[c].nunique() > 1]
    columns = {"clinical": clinical, "genomics": genes, "clinical+genomics": clinical + genes}
    found = {name: {"cox": [], "rsf": [], "xgb": []} for name in feature_sets}
    for fold in folds:
        parts = pd.read_csv(folder / "splits" / f"tcga_{cohort}" / f"splits_{fold}.csv")
        train, test = (table.index.isin(parts[part]) for part in ("train", "val"))
        for name, models in found.items():
            X = table[columns[name]]
            for model, scores in models.items():
                search = grid_search(model, X[train], y[train]).fit(X[train], y[train])
                scores.append(concordance(y[test], search.predict(X[test])))
    return found


def grid_search(model, X, y):
    """Give the search of one model over its grid."""
    inner = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y["event"]))
    scale = StandardScaler() if model == "cox" else "passthrough"
    categorical = X.columns.intersection(CATEGORICAL)
    prepare = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(strategy="median"), scale),
                X.columns.difference(categorical, sort=False),
            ),
            ("text", OneHotEncoder(handle_unknown="ignore", sparse_output=False), categorical),
        ]
    )
    if model == "cox":
        path = CoxnetSurvivalAnalysis(
            l1_ratio=0.5, n_alphas=30, alpha_min_ratio=0.05, max_iter=10_000
        )
        alphas = path.fit(prepare.fit_transform(X), y).alphas_
        estimator = CoxnetSurvivalAnalysis(l1_ratio=0.5, max_iter=10_000)
        grid = {"alphas": [[alpha] for alpha in alphas]}
    elif model == "rsf":
        estimator = RandomSurvivalForest(100, max_features="sqrt", n_jobs=1, random_state=0)
        grid = {"min_samples_leaf": [5, 15, 30], "max_features": ["sqrt", "log2"]}
    else:
        estimator = XGBoostCox()
        grid = {"max_depth": [2, 4], "learning_rate": [0.03, 0.1, 0.3]}
    pipeline = make_pipeline(prepare, estimator)
    step = pipeline.steps[-1][0]
    grid = {f"{step}__{name}": values for name, values in grid.items()}
    return GridSearchCV(pipeline, grid, cv=inner, n_jobs=1, error_score=0.5)


def concordance(y, risk):
    """Harrell's C as scikit-survival gives it."""
    return float(concordance_index_censored(y["event"], y["time"], risk)[0])
