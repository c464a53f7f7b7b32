"""What the pictures of an explained run show, in plain tables and words; others draw it."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from tabular_trainers.cluster_names import composition
from tabular_trainers.report_text import BANNER
from tabular_trainers.tables import read_written
from tabular_trainers.tissue_words import cluster_lines

SIDES = 4  # clusters of highest and of lowest risk beside each other


class CaseScene(NamedTuple):
    """One patient: `slides` has the number of patches of each slide."""

    patient_id: str
    slides: dict
    lines: tuple
    composition: pd.Series
    clinical: tuple
    times: np.ndarray | None
    survival: np.ndarray | None


@dataclass(frozen=True)
class Scene:
    """What is to be drawn.

    Attributes
    ----------
    folder : Path
        With the tables: ``patches/<slide_id>.parquet`` says which cluster and term a patch has.
    clusters : tuple of str
        Labels; a patch's number is the position of its label.
    names : dict of str to str
    order : tuple of str
        Labels from the most to the least important.
    facts : dict of str to tuple of str
        What is said of each cluster below its title.
    examples : DataFrame
        Contract ``tissue_examples``.
    high, low : tuple of str
        Clusters of higher and of lower risk, the strongest first.
    composition : DataFrame
        Share of tissue of every patient, a column a name.
    cases : tuple of CaseScene
    limit : float
        End of the scale of terms.
    unit, terms_words, time_unit, banner : str
    """

    folder: object
    clusters: tuple
    names: dict
    order: tuple
    facts: dict
    examples: pd.DataFrame
    high: tuple
    low: tuple
    composition: pd.DataFrame
    cases: tuple
    limit: float
    unit: str
    terms_words: str
    time_unit: str
    banner: str = BANNER
    _read: dict = field(default_factory=dict)

    def frame(self, slide_id):
        """Give where the patches of a slide lie, in the order of its rows."""
        return self._patches(slide_id)[["x_um", "y_um", "size_um"]]

    def labels(self, slide_id):
        """Give the number of each patch's cluster: (n_patches,) of int."""
        place = {label: number for number, label in enumerate(self.clusters)}
        return self._patches(slide_id)["cluster"].map(place).to_numpy()

    def terms(self, slide_id):
        """Give what each patch adds to the risk: (n_patches,) of float64; None where not known."""
        terms = self._patches(slide_id)["term"].to_numpy(dtype=np.float64, na_value=np.nan)
        return None if np.isnan(terms).any() else terms

    def _patches(self, slide_id):
        if slide_id not in self._read:
            self._read.clear()  # one slide at a time
            self._read[slide_id] = read_written(
                self.folder / "patches" / f"{slide_id}.parquet", "tissue_patches"
            )
        return self._read[slide_id]


def make_scene(folder, tables, facts, prevalence, cases):
    """Put together what is drawn.

    Parameters
    ----------
    folder : path
    tables : dict of str to DataFrame
    facts : dict
        Content of tissue.json.
    prevalence : DataFrame (n_patients, n_clusters)
    cases : sequence of CaseScene

    Returns
    -------
    Scene
    """
    rows = tables["tissue_clusters"]
    tested = rows[rows["adjusted_ratio"].notna()]
    strength = np.log(tested["adjusted_ratio"])
    ranked = tested.assign(strength=strength).sort_values("adjusted_p_value", kind="stable")
    plain = ranked[ranked["flag"] == ""]
    by_strength = plain.sort_values("strength", ascending=False, kind="stable")
    high = by_strength.loc[by_strength["strength"] > 0, "cluster"]
    low = by_strength.loc[by_strength["strength"] < 0, "cluster"][::-1]
    named = [label for label in rows["cluster"] if label in facts["names"]]
    order = dict.fromkeys([*named, *ranked["cluster"], *rows["cluster"]])
    return Scene(
        folder=folder,
        clusters=tuple(prevalence.columns),
        names=facts["names"],
        order=tuple(order),
        facts={row.cluster: tuple(cluster_lines(row, facts)) for row in rows.itertuples()},
        examples=tables["tissue_examples"],
        high=tuple(high[:SIDES]),
        low=tuple(low[:SIDES]),
        composition=composition(prevalence, facts["names"]),
        cases=tuple(cases),
        limit=facts["terms"]["limit"] or 1.0,
        unit=facts["terms"]["unit"].partition(" relative")[0],
        terms_words=facts["terms"]["words"],
        time_unit=facts["endpoint"]["unit"] or "time units",
    )
