"""Choose the patients who get maps and a page, and say what is known of each."""

import numpy as np
import pandas as pd

from tabular_trainers import plots_labels as words
from tabular_trainers.cluster_names import composition
from tabular_trainers.cohort import CLINICAL
from tabular_trainers.tissue_scene import CaseScene

CLINICAL_SHOWN = 12  # columns on a page


def case_scenes(asked, facts, prevalence):
    """Describe the cases, from the one of lowest to that of highest risk.

    Parameters
    ----------
    asked : Inputs
    facts : dict
        Content of tissue.json.
    prevalence : DataFrame (n_patients, n_clusters)

    Returns
    -------
    list of CaseScene
    """
    ranked = ranked_risks(asked)
    chosen = asked.cases
    if isinstance(chosen, int):
        chosen = spread_out(ranked.index, chosen)
    shares = composition(prevalence, facts["names"])
    chosen = sorted(chosen, key=ranked.index.get_loc)
    return [_case(asked, patient, ranked.loc[patient], shares, facts) for patient in chosen]


def ranked_risks(asked):
    """Order patients by their risk relative to their test fold in the first repeat.

    Returns
    -------
    DataFrame
        Index patient_id, sorted from low to high; fold, risk, relative (in standard deviations of
        the fold) and below (share of the fold's other patients with a lower risk; ties half).
    """
    rows, subject = asked.reopened.predictions, asked.subject
    own = (rows["feature_set"] == subject.feature_set) & (rows["model"] == subject.model)
    own &= (rows["repeat"] == 0) & rows["patient_id"].isin(asked.patients)
    found = rows.loc[own, ["patient_id", "fold", "risk"]].set_index("patient_id")
    folds = found.groupby("fold")["risk"]
    size = folds.transform("size")
    spread = folds.transform("std").replace(0, np.nan)
    found["relative"] = ((found["risk"] - folds.transform("mean")) / spread).fillna(0.0)
    found["below"] = (folds.rank() - 1) / (size - 1).clip(lower=1)
    return found.sort_values("relative", kind="stable")


def spread_out(ordered, n):
    """Choose n of an ordered list, evenly, with both ends.

    Examples
    --------
    >>> spread_out(["a", "b", "c", "d", "e"], 3), spread_out(["a", "b"], 6), spread_out(["a"], 0)
    (('a', 'c', 'e'), ('a', 'b'), ())
    """
    n = min(n, len(ordered))
    places = (
        np.unique(np.rint(np.linspace(0, len(ordered) - 1, n)).astype(int)) if n > 1 else [0] * n
    )
    return tuple(ordered[place] for place in places)


def _case(asked, patient, risk, shares, facts):
    own = asked.patches.slides_of([patient])
    analysis = asked.reopened.plan.analysis
    subject = asked.subject
    curve = None
    if words.is_survival(facts):
        curve = asked.reopened.survival_of(patient, subject.feature_set, subject.model)
    has_curve = curve is not None and len(curve) > 0
    scale = facts["risk_scales"].get(subject.model, "risk")
    return CaseScene(
        patient_id=patient,
        slides=dict(zip(own["slide_id"], own["n_patches"].astype(int), strict=True)),
        lines=(
            f"Risk {words.number(risk['risk'], 2)} ({scale}; "
            f"{words.pair_words(facts, subject.feature_set, subject.model)}), higher than that of "
            f"{risk['below']:.0%} of the others held out in fold {int(risk['fold']) + 1}.",
            _outcome(analysis, patient, facts),
        ),
        composition=shares.loc[patient],
        clinical=_clinical(analysis, patient),
        times=curve["time"].to_numpy() if has_curve else None,
        survival=curve["survival"].to_numpy() if has_curve else None,
    )


def _outcome(analysis, patient, facts):
    """Say what was observed."""
    own = analysis.y[analysis.patient_id.get_loc(patient)]
    if not words.is_survival(facts):
        return f"Observed: {'positive' if own else 'negative'}."
    time = f"{own['time']:,.4g} {facts['endpoint']['unit'] or 'time units'}"
    return f"Observed: {'event at' if own['event'] else 'no event until'} {time}."


def _clinical(analysis, patient):
    """List the clinical columns as they are to be read; the first dozen."""
    row = analysis.X.loc[patient]
    names = [name for name in analysis.X if name.startswith(f"{CLINICAL}.")]
    return tuple(
        (name.split(".", 1)[1].replace("_", " "), _value(row[name]))
        for name in names[:CLINICAL_SHOWN]
    )


def _value(value):
    if pd.isna(value):
        return "not known"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
