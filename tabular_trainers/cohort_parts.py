"""What a cohort consists of (block, endpoint, truth), and what is analysed of it."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Block:
    """The columns of one modality, one row a patient.

    Attributes
    ----------
    name : str
    table : pandas.DataFrame
        Index ``patient_id``; columns as the user's, numeric float64 or categorical text (None where
        missing). Patients without the block have no row. Of a store of patches the one column
        ``patches``, whose text says where the patches of a patient are (`patch_bags`).
    categorical : tuple of str
        Columns that hold labels.
    reduce : dict or None
        ``{"pca": k}``: reduce to k components inside each training part; 0: leave it as it is.
        ``{"clusters": k}``: the shares of a patient's patches in k clusters, made inside each
        training part.
    pool : str or None
        How several rows of a patient became one: mean, max, first.
    n_rows : int
        Rows before pooling.
    encoder_id : str or None
        What made the columns, where the table says so.
    pretrained_on : tuple of str or None
        Data sets that this encoder was trained on; (): none, None: nobody says.
    pooling : dict or None
        How patches of a store became one row (``how``, ``level``, ``by`` of ``embed pool``), where
        one table of the block says so.
    """

    name: str
    table: pd.DataFrame
    categorical: tuple[str, ...] = ()
    reduce: dict | None = None
    pool: str | None = None
    n_rows: int = 0
    encoder_id: str | None = None
    pretrained_on: tuple[str, ...] | None = None
    pooling: dict | None = None

    @property
    def n_clusters(self):
        """Into how many clusters its patches are put; None for a block of columns."""
        return (self.reduce or {}).get("clusters")

    @property
    def n_columns(self):
        """Columns of the user's table; of patches, the clusters."""
        return self.n_clusters or self.table.shape[1]


@dataclass(frozen=True)
class Endpoint:
    """What is predicted, for the patients in whom it is known.

    Attributes
    ----------
    name : str
    kind : str
        ``"survival"`` or ``"classification"``.
    table : pandas.DataFrame
        Index ``patient_id``; event (bool), time (float64, in ``unit``) and, where patients came
        under observation later, entry (float64); or label (bool, True is the positive class).
    unit : str or None
        days, weeks, months or years.
    horizons : tuple of float or None
        Time points asked for.
    description : str
        Where event and time, or the label, come from.
    dropped : tuple of (str, int)
        Why patients of the clinical table have no such endpoint, and how many.
    own_columns : tuple of str
        Columns ``block.column`` that hold the label or give it away; never predictors of this
        endpoint.
    landmark : float or None
        With entry: the time from which measures that cannot take entry times start, among the
        patients at risk then.
    """

    name: str
    kind: str
    table: pd.DataFrame
    unit: str | None = None
    horizons: tuple[float, ...] | None = None
    description: str = ""
    dropped: tuple[tuple[str, int], ...] = ()
    own_columns: tuple[str, ...] = ()
    landmark: float | None = None

    @property
    def has_entry(self):
        """Whether patients came under observation after time zero (left truncation)."""
        return "entry" in self.table

    @property
    def n_events(self):
        """Number of events; classification: of positives."""
        return int(self.table["event" if self.kind == "survival" else "label"].sum())


@dataclass(frozen=True)
class Truth:
    """What a synthetic cohort was drawn from.

    Attributes
    ----------
    risk : pandas.Series
        True risk of each patient: log hazard ratio, or log odds.
    contributions : pandas.DataFrame
        What each block, interactions and site add to it; rows sum to ``risk``.
    concordance : float
        Probability that of two of these patients the one with the higher true risk has the event
        first, without censoring: what Uno's C estimates. Classification: that of a positive and a
        negative patient the positive one has the higher true risk (AUROC).
    harrell_c : float or None
        What Harrell's C of the true risk estimates under this cohort's censoring; None for
        classification and with entry times.
    """

    risk: pd.Series
    contributions: pd.DataFrame
    concordance: float
    harrell_c: float | None = None


@dataclass(frozen=True)
class AnalysisSet:
    """The patients and columns of one analysis: everybody with the endpoint and every block used.

    Attributes
    ----------
    endpoint : Endpoint
    patient_id : pandas.Index
        Sorted.
    X : pandas.DataFrame
        Index ``patient_id``; columns ``block.column``, numeric float64 or text (None: missing).
    categorical : tuple of str
        Columns ``block.column`` that hold labels. Other columns of text stand for patches.
    reduce : dict of str to dict
        By block.
    y : numpy.ndarray
        Survival: structured (event, time[, entry]). Classification: int8, 1 is the positive class.
    site : numpy.ndarray of str or None
    feature_sets : dict of str to tuple of str
        Name to its columns of ``X``.
    baseline : str or None
        ``"clinical"`` where that is one of the feature sets.
    full : str
        Feature set with the most blocks; of equals one without late fusion, then the last.
    flow : pandas.DataFrame
        Flow of patients (contract ``flow``).
    dropped : pandas.DataFrame or None
        Rows like ``X`` of the patients that are not analysed.
    notes : tuple of str
        What was left out or done for this analysis.
    cancer_type : numpy.ndarray of str or None
        None where missing.
    """

    endpoint: Endpoint
    patient_id: pd.Index
    X: pd.DataFrame
    categorical: tuple[str, ...]
    reduce: dict[str, dict]
    y: np.ndarray
    site: np.ndarray | None
    feature_sets: dict[str, tuple[str, ...]]
    baseline: str | None
    full: str
    flow: pd.DataFrame
    dropped: pd.DataFrame | None
    notes: tuple[str, ...] = ()
    cancer_type: np.ndarray | None = None

    def columns_of(self, feature_set):
        """Give the columns of a feature set; of the one with all of them `X` itself, not a copy.

        That copy is the largest table that a task of a national cohort would hold.

        Parameters
        ----------
        feature_set : str

        Returns
        -------
        pandas.DataFrame
            Not to be changed.
        """
        columns = list(self.feature_sets[feature_set])
        return self.X if columns == list(self.X.columns) else self.X[columns]

    def keep(self, chosen, why):
        """Take some of the patients; the flow gets a step that says why the others are left out.

        Parameters
        ----------
        chosen : ndarray of bool, shape (n_patients,)
        why : str

        Returns
        -------
        AnalysisSet
        """
        step = {
            "step": len(self.flow),
            "description": why,
            "n_dropped": int((~chosen).sum()),
            "n_patients": int(chosen.sum()),
        }
        return dataclasses.replace(
            self,
            patient_id=self.patient_id[chosen],
            X=self.X[chosen],
            y=self.y[chosen],
            site=None if self.site is None else self.site[chosen],
            cancer_type=None if self.cancer_type is None else self.cancer_type[chosen],
            flow=pd.concat([self.flow, pd.DataFrame([step])], ignore_index=True),
        )


def flow_table(steps):
    """Make the flow of patients from steps of (description, dropped, left)."""
    return pd.DataFrame(
        {
            "step": np.arange(len(steps), dtype="int64"),
            "description": [step[0] for step in steps],
            "n_dropped": np.array([step[1] for step in steps], dtype="int64"),
            "n_patients": np.array([step[2] for step in steps], dtype="int64"),
        }
    )


def outcome_array(endpoint, patients):
    """Make y of some patients: structured (event, time[, entry]), or int8 labels."""
    table = endpoint.table.loc[patients]
    if endpoint.kind == "classification":
        return table["label"].to_numpy().astype("int8")
    fields = [("event", bool), ("time", "float64")]
    if endpoint.has_entry:
        fields.append(("entry", "float64"))
    y = np.empty(len(table), dtype=fields)
    for name, _ in fields:
        y[name] = table[name].to_numpy()
    return y
