"""Golden values of tissue and risk, made by golden/tissue.R, as the tests use them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tabular_trainers.tissue import Patients
from tests.survival_golden import outcome

GOLDEN = json.loads((Path(__file__).parent / "golden" / "tissue.json").read_text(encoding="utf-8"))
IDS = pd.Index([f"p{i:03d}" for i in range(len(GOLDEN["prevalence"]))], name="patient_id")
CLUSTERS = ["c01", "c02", "c03", "c04"]
PREVALENCE = pd.DataFrame(GOLDEN["prevalence"], index=IDS, columns=CLUSTERS)
_OF = GOLDEN["patients"]
RISK = pd.DataFrame({"patient_id": IDS, "repeat": 0, "fold": _OF["fold"], "risk": _OF["risk"]})


def golden_patients(entry=False, site=True, task="survival"):
    """Patients of the golden values, with age and stage."""
    y = outcome(np.array(_OF["time"]), np.array(_OF["event"]), _OF["entry"] if entry else None)
    if task == "classification":
        y = np.array(_OF["label"], dtype=np.int8)
    clinical = pd.DataFrame({"clinical.age": _OF["age"], "clinical.stage": _OF["stage"]}, index=IDS)
    clinical = clinical.astype({"clinical.age": float})
    places = np.array(_OF["site"], dtype=object) if site else None
    return Patients(IDS, y, clinical, ("clinical.stage",), places)
