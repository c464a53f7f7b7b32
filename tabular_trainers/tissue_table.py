"""One row a cluster: how common it is, how it goes with risk and outcome, whether it is bias."""

import numpy as np
import pandas as pd

from tabular_trainers.errors import count
from tabular_trainers.schema import empty
from tabular_trainers.tissue_bias import FALSE_DISCOVERY, bias_table, false_discovery_rate
from tabular_trainers.tissue_inference import (
    DEPENDENT,
    NO_EFFECT,
    Likelihood,
    clinical_matrix,
    independent_columns,
    within,
)
from tabular_trainers.tissue_patients import MIN_WITH, held_out_risks, with_tissue

RATIO = {"survival": "hazard ratio", "classification": "odds ratio"}


def cluster_table(prevalence, risk, patients, *, names=None, quality=None):
    """Describe every cluster, and test whether its prevalence goes with the outcome.

    Ratios are for one standard deviation more of the prevalence as it is (not its logarithm): of a
    Cox regression (hazard ratio; ties after Efron, entry times kept) or, for classification, of a
    logistic one (odds ratio). Both the one of the cluster alone and the one adjusted for the
    clinical columns are stratified by site where sites are known; patients of unknown site are one
    stratum. Intervals and p values are Wald's. A cluster seen in fewer than 10 patients, or that
    says nothing beyond sites and clinical columns, is not tested; ``note`` says so.

    A cluster is called prognostic where the false discovery rate (over the clusters tested) of its
    adjusted ratio is below 0.05 and it is flagged neither as site nor as artefact.

    All of it describes these patients: clusters were made on all of them. `forward_selection` is
    what held-out patients say.

    Parameters
    ----------
    prevalence : DataFrame
        A row a patient (index or column ``patient_id``), a column a cluster; sums of 1.
    risk : DataFrame
        patient_id, repeat, fold, risk: out of fold, of one feature set and model.
    patients : Patients
        Those without prevalences are left out.
    names : dict of str to str, optional
        Names that a pathologist gave to clusters.
    quality : DataFrame, optional
        cluster, n_patches, blur, artefact: means over the patches of a cluster.

    Returns
    -------
    DataFrame
        Schema ``tissue_clusters``, in the order of the columns of ``prevalence``.

    Raises
    ------
    SchemaError, DataError
        When tables do not fit: see `tissue_patients`.

    References
    ----------
    Cox, JRSS B 1972;34:187. Efron, JASA 1977;72:557. Benjamini & Hochberg, JRSS B 1995;57:289.
    """
    table, patients = with_tissue(prevalence, patients)
    clusters, values = list(table.columns), table.to_numpy()
    quartiles = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    found = pd.DataFrame(
        {
            "cluster": clusters,
            "name": [(names or {}).get(cluster) or None for cluster in clusters],
            "n_patients": (values > 0).sum(axis=0),
            "prevalence_mean": values.mean(axis=0),
            "prevalence_median": quartiles[1],
            "prevalence_lower": quartiles[0],
            "prevalence_upper": quartiles[2],
            "prevalence_deviation": values.std(axis=0, ddof=1),
            "spearman": spearman(values, held_out_risks(risk, patients)),
            "effect": RATIO[patients.task],
        }
    )
    tests = _effects(values, patients)
    for prefix, number in (("", 0), ("adjusted_", 1)):
        effects = [test[number] for test in tests]
        for field in ("ratio", "lower", "upper", "p_value"):
            found[prefix + field] = [getattr(effect, field) for effect in effects]
        found[prefix + "fdr"] = false_discovery_rate(found[prefix + "p_value"])
    found["note"] = [test[2] for test in tests]
    found = found.join(bias_table(table, patients.site, quality), on="cluster")
    tested = found["adjusted_fdr"] < FALSE_DISCOVERY
    found["prognostic"] = tested & (found["flag"] == "")
    return found[list(empty("tissue_clusters").columns)]


def spearman(values, held_out):
    """Rank correlation of columns with risks, within test folds.

    Parameters
    ----------
    values : ndarray of shape (n_patients, k)
    held_out : DataFrame
        As `held_out_risks` gives it.

    Returns
    -------
    ndarray of shape (k,)
        Mean over the folds (of all repeats) in which the column varies, weighted by their patients.

    References
    ----------
    Spearman, American Journal of Psychology 1904;15:72.
    """
    from scipy.stats import rankdata

    total, weight = np.zeros((2, values.shape[1]))
    for _, fold in held_out.groupby(["repeat", "fold"], sort=True):
        ranks = rankdata(values[fold["at"]], axis=0)
        ranks -= ranks.mean(axis=0)
        risk = rankdata(fold["risk"])
        risk -= risk.mean()
        size = np.sqrt((ranks**2).sum(axis=0) * (risk @ risk))
        varies = size > 0
        total[varies] += len(fold) * (ranks.T @ risk)[varies] / size[varies]
        weight[varies] += len(fold)
    return np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0)


def _effects(values, patients):
    """Test every cluster alone and adjusted: (Effect, Effect, note) each."""
    likelihood = Likelihood(patients)
    clinical, _ = clinical_matrix(patients)
    clinical = clinical[:, independent_columns(clinical, likelihood.groups)]
    base = likelihood.intercepts
    adjusted = np.hstack([base, clinical])
    start = likelihood.fit(adjusted).coef if adjusted.shape[1] else np.zeros(0)
    axes = np.linalg.qr(within(clinical, likelihood.groups))[0]
    return [_test(column, likelihood, base, adjusted, start, axes) for column in values.T]


def _test(column, likelihood, base, adjusted, start, axes):
    with_any = int((column > 0).sum())
    if with_any < MIN_WITH:
        return NO_EFFECT, NO_EFFECT, f"not tested: in {count(with_any, 'patient')}"
    column = (column - column.mean()) / (column.std(ddof=1) or 1.0)
    inside = within(column[:, None], likelihood.groups)[:, 0]
    if not np.linalg.norm(inside) > DEPENDENT * np.sqrt(len(column)):
        return NO_EFFECT, NO_EFFECT, "not tested: does not vary within sites"
    alone = _effect(likelihood, base, column, np.zeros(base.shape[1]))
    rest = inside - axes @ (axes.T @ inside)
    if not np.linalg.norm(rest) > DEPENDENT * np.linalg.norm(inside):
        return alone, NO_EFFECT, "not adjusted: a sum of clinical columns"
    beside = alone if adjusted.shape[1] == base.shape[1] else None
    beside = beside or _effect(likelihood, adjusted, column, start)
    unclear = [name for name, one in (("alone", alone), ("adjusted", beside)) if one == NO_EFFECT]
    note = f"no finite ratio {' and '.join(unclear)}" if unclear else None
    return alone, beside, note


def _effect(likelihood, beside, column, start):
    fitted = likelihood.fit(np.column_stack([beside, column]), np.append(start, 0.0))
    return fitted.effect(-1)
