"""The patients whose tissue is compared with their risk, and tables put in their order."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tabular_trainers.cohort import CLINICAL, MISSING_BLOCKS
from tabular_trainers.errors import DataError, SchemaError, count, listing

MIN_WITH = 10  # a cluster seen in fewer patients is described, and not tested
TOLERANCE = 1e-6  # by which the fractions of a patient may differ from a sum of 1


@dataclass(frozen=True)
class Patients:
    """Outcome, clinical columns and site of the patients of an analysis.

    Attributes
    ----------
    patient_id : pandas.Index
        Text, each once.
    y : ndarray of shape (n_patients,)
        Survival: structured (event, time[, entry]). Classification: 0 and 1.
    clinical : DataFrame or None
        Clinical columns, a row a patient in the order of ``patient_id``.
    categorical : tuple of str
        Those of them that hold labels.
    site : ndarray of str or None
        None where a patient's site is missing.
    """

    patient_id: pd.Index
    y: np.ndarray
    clinical: pd.DataFrame | None = None
    categorical: tuple = ()
    site: np.ndarray | None = None

    @property
    def task(self):
        """Survival or classification."""
        return "classification" if self.y.dtype.names is None else "survival"

    @property
    def n_events(self):
        """Patients with the event (classification: of the positive class)."""
        return int((self.y["event"] if self.task == "survival" else self.y).sum())

    def take(self, at):
        """Take the patients at these positions."""
        return Patients(
            self.patient_id[at],
            self.y[at],
            None if self.clinical is None else self.clinical.iloc[at],
            self.categorical,
            None if self.site is None else self.site[at],
        )


def patients_of(analysis):
    """Take the patients of an analysis with the columns of its clinical block.

    Parameters
    ----------
    analysis : AnalysisSet

    Returns
    -------
    Patients
    """
    names = [name for name in analysis.X if name.split(".", 1)[0] in (CLINICAL, MISSING_BLOCKS)]
    clinical = analysis.X[names] if any(n.startswith(f"{CLINICAL}.") for n in names) else None
    categorical = tuple(name for name in analysis.categorical if name in names)
    return Patients(analysis.patient_id, analysis.y, clinical, categorical, analysis.site)


def by_patient(prevalence, where="prevalence"):
    """Check a table of prevalences, and index it by patient.

    Parameters
    ----------
    prevalence : DataFrame
        A row a patient, by its index or its column ``patient_id``; a column a cluster.
    where : str, default="prevalence"
        What to call the table in messages.

    Returns
    -------
    DataFrame of float64, index ``patient_id``

    Raises
    ------
    SchemaError
        When a patient is there twice, or the fractions of a patient are not at least 0 with a sum
        of 1.
    """
    table = prevalence
    if "patient_id" in table.columns:
        table = table.set_index("patient_id")
    table = table.set_axis(table.index.astype(str), axis=0).astype(np.float64)
    repeated = table.index[table.index.duplicated()].unique()
    if len(repeated):
        raise SchemaError(f"{where}: {listing(repeated)} there more than once; expected one row.")
    values = table.to_numpy()
    good = (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= TOLERANCE)
    if not good.all():
        raise SchemaError(
            f"{where}: {count(int((~good).sum()), 'patient')} ({listing(table.index[~good])}) "
            "whose values are no shares: at least 0, with a sum of 1. Expected one a cluster."
        )
    return table


def with_tissue(prevalence, patients):
    """Keep the patients that have prevalences, and put these in their order.

    Parameters
    ----------
    prevalence : DataFrame
    patients : Patients

    Returns
    -------
    table : DataFrame
        As `by_patient` gives it, in the order of the patients kept.
    patients : Patients

    Raises
    ------
    DataError
        When fewer than two patients have prevalences.
    """
    table = by_patient(prevalence)
    have = patients.patient_id.isin(table.index)
    if have.sum() < 2:
        raise DataError(
            f"prevalence: {count(int(have.sum()), 'patient')} of {len(have)} in the analysis have "
            "prevalences; expected at least two. Is the store that of this cohort?"
        )
    kept = patients.take(np.flatnonzero(have))
    return table.loc[kept.patient_id], kept


def held_out_risks(risk, patients):
    """Standardise out-of-fold risks within each test fold.

    Parameters
    ----------
    risk : DataFrame
        patient_id, repeat, fold, risk: each held-out patient once a repeat, of one feature set and
        model. Patients that are not in ``patients`` are left out.
    patients : Patients

    Returns
    -------
    DataFrame
        repeat, fold, at (position in ``patients``) and risk (mean 0 and standard deviation 1 within
        the fold); sorted. A fold in which all risks are equal says nothing and is left out.

    Raises
    ------
    DataError
        When no fold has two patients of different risk.
    SchemaError
        When a patient is held out twice in one repeat, or a risk is not finite.
    """
    at = patients.patient_id.get_indexer(risk["patient_id"].astype(str))
    table = risk[["repeat", "fold", "risk"]].assign(at=at)[at >= 0]
    twice = int(table.duplicated(["repeat", "at"]).sum())
    if twice or not np.isfinite(table["risk"]).all():
        raise SchemaError(
            f"risk: {count(twice, 'row')} of a patient held out before in the same repeat, "
            f"{count(int((~np.isfinite(table['risk'])).sum()), 'value')} not finite; expected the "
            "predictions of one feature set and model."
        )
    table = table.sort_values(["repeat", "fold", "at"], ignore_index=True)
    folds = table.groupby(["repeat", "fold"])["risk"]
    spread = folds.transform(lambda values: values.std(ddof=0) if np.ptp(values) > 0 else 0.0)
    table["risk"] = (table["risk"] - folds.transform("mean")) / spread.where(spread > 0)
    table = table[spread > 0].reset_index(drop=True)
    if table.empty:
        raise DataError("risk: all are equal within every test fold; expected some to differ.")
    return table


def site_strata(patients):
    """Give each patient's stratum: the site; those of unknown site are one. None without sites."""
    if patients.site is None:
        return None
    return pd.factorize(pd.Series(patients.site, dtype=object), sort=True)[0]
