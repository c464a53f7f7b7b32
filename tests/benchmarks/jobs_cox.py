"""Cox regressions to be timed: elastic net, ridge and without a penalty, ours and others'."""

import cohorts
import numpy as np
from measure import Job

from tabular_trainers.models import CoxRegression
from tabular_trainers.models.coordinate_descent import (
    elastic_net_path,
    kkt_residual,
    largest_penalty,
)
from tabular_trainers.models.newton import ridge_path
from tabular_trainers.models.risk_sets import RiskSets
from tabular_trainers.models.scaled_columns import ScaledColumns

L1_RATIO = 0.5
LOWEST = 0.05  # of the largest penalty
CHECKED = 10  # points of a path whose optimality is computed anew, in float64


def elastic_net_ours(data, n_penalties, threads=1):
    """Fit the path from the outcome and the matrix as they come; threads are the process's own."""
    X, y, *_ = cohorts.load(**data)

    def fit(X, y):
        sets, columns = RiskSets(y), ScaledColumns(X)
        penalties = largest_penalty(columns, sets, L1_RATIO)
        penalties = penalties * np.geomspace(1.0, LOWEST, n_penalties)
        return penalties, elastic_net_path(columns, sets, penalties, L1_RATIO).coef

    fit(X[:200, :20], y[:200])
    return Job(lambda: fit(X, y), lambda path: _optimality(X, y, *path, L1_RATIO))


def elastic_net_scikit_survival(data, n_penalties):
    """Fit scikit-survival's path, which ends when the likelihood gets no better."""
    from sksurv.linear_model import CoxnetSurvivalAnalysis

    X, y, *_ = cohorts.load(**data)
    settings = {"n_alphas": n_penalties, "alpha_min_ratio": LOWEST, "l1_ratio": L1_RATIO}
    CoxnetSurvivalAnalysis(**settings).fit(X[:200, :20], y[:200])
    return Job(
        lambda: CoxnetSurvivalAnalysis(**settings).fit(X, y),
        lambda model: _optimality(X, y, model.alphas_, model.coef_, L1_RATIO),
    )


def elastic_net_glmnet(data, n_penalties):
    """Fit R glmnet's path."""
    from r_peers import r_job

    X, y, *_ = cohorts.load(**data)
    return r_job(
        "glmnet",
        X,
        y,
        lambda penalties, coef: _optimality(X, y, penalties, coef, L1_RATIO),
        l1_ratio=L1_RATIO,
        penalties=n_penalties,
        lowest=LOWEST,
    )


def ridge_ours(data, penalties):
    """Fit ridge at given shares of `ridge_unit`."""
    X, y, *_ = cohorts.load(**data)
    given = _ridge_penalties(X, y, penalties)
    for corner in (X[:200, :20], X[:400, :350], X[:200, :400]):  # dense, tall and rotated
        ridge_path(corner, RiskSets(y[: len(corner)]), [0.1])
    return Job(
        lambda: ridge_path(X, RiskSets(y), given),
        lambda path: _optimality(X, y, given, path.coef, 0.0),
    )


def ridge_scikit_survival(data, penalties):
    """Fit scikit-survival's Newton method, one penalty after the other."""
    from sksurv.linear_model import CoxPHSurvivalAnalysis

    X, y, *_ = cohorts.load(**data)
    given = _ridge_penalties(X, y, penalties)
    CoxPHSurvivalAnalysis(alpha=1.0).fit(X[:200, :20], y[:200])

    def fit():
        return [CoxPHSurvivalAnalysis(alpha=len(y) * penalty).fit(X, y).coef_ for penalty in given]

    return Job(fit, lambda coef: _optimality(X, y, given, np.transpose(coef), 0.0))


def ridge_glmnet(data, penalties):
    """Fit R glmnet at the same penalties."""
    from r_peers import r_job

    X, y, *_ = cohorts.load(**data)
    return r_job(
        "glmnet",
        X,
        y,
        lambda used, coef: _optimality(X, y, used, coef, 0.0),
        l1_ratio=0.0,
        penalties=_ridge_penalties(X, y, penalties).tolist(),
    )


def unpenalised_ours(data, ties):
    """Fit without a penalty, with the baseline hazard."""
    X, y, *_ = cohorts.load(**data)
    X = X.astype(np.float64)
    CoxRegression(penalty=0, ties=ties).fit(X[:200, :5], y[:200])
    model = CoxRegression(penalty=0, ties=ties)
    return Job(lambda: model.fit(X, y), lambda fitted: {"first coefficient": fitted.coef_[0]})


def unpenalised_scikit_survival(data, ties):
    """Fit scikit-survival's Newton method without a penalty."""
    from sksurv.linear_model import CoxPHSurvivalAnalysis

    X, y, *_ = cohorts.load(**data)
    X = X.astype(np.float64)
    model = CoxPHSurvivalAnalysis(ties=ties).fit(X[:200, :5], y[:200])
    return Job(lambda: model.fit(X, y), lambda fitted: {"first coefficient": fitted.coef_[0]})


def unpenalised_lifelines(data, ties):
    """Fit lifelines, which knows Efron's ties only."""
    import pandas as pd
    from lifelines import CoxPHFitter

    if ties != "efron":
        raise ValueError("lifelines knows Efron's ties only")
    X, y, *_ = cohorts.load(**data)
    table = pd.DataFrame(X.astype(np.float64)).assign(time=y["time"], event=y["event"])
    table.columns = table.columns.astype(str)
    names = {"duration_col": "time", "event_col": "event"}
    CoxPHFitter().fit(table.loc[:200, ["0", "1", "time", "event"]], **names)
    return Job(
        lambda: CoxPHFitter().fit(table, **names),
        lambda fitted: {"first coefficient": float(fitted.params_.iloc[0])},
    )


def unpenalised_r(data, ties, task="coxph"):
    """Fit R coxph, or what it calls when everything is prepared (``"coxph.fit"``)."""
    from r_peers import r_job

    X, y, *_ = cohorts.load(**data)

    def facts(_, coef):
        return {"first coefficient": float(coef[0, 0])}

    return r_job(task, X, y, facts, ties=ties)


def _ridge_penalties(X, y, shares):
    """Turn shares into penalties; 1 is the largest gradient without coefficients."""
    null = RiskSets(y).at(np.zeros(len(y))).residual() / len(y)
    largest = max(
        np.abs(null @ X[:, at : at + 256].astype(np.float64)).max()
        for at in range(0, X.shape[1], 256)
    )
    if isinstance(shares, dict):
        shares = np.geomspace(shares["from"], shares["to"], shares["number"])
    return largest * np.atleast_1d(np.asarray(shares, dtype=np.float64))


def _optimality(X, y, penalties, coef, l1_ratio):
    """Largest KKT residual at some penalties of a path, without the null model at its start."""
    sets = RiskSets(y)
    some = np.unique(
        np.linspace(min(1, len(penalties) - 1), len(penalties) - 1, CHECKED, dtype=int)
    )
    kkt = [kkt_residual(X, sets, coef[:, k], penalties[k], l1_ratio) for k in some]
    return {"KKT residual": float(max(kkt)), "penalties": len(penalties)}
