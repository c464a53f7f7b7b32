"""What `explain-slides` is asked, checked before anything is computed: one error has it all."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import tabular_trainers
from tabular_trainers.cluster_names import read_names
from tabular_trainers.errors import DataError, Problems, SchemaError, count, listing, nearest
from tabular_trainers.patch_clusters import cluster_names, recommended_clusters
from tabular_trainers.patch_risk_subject import choose_subject
from tabular_trainers.patch_store import open_patches
from tabular_trainers.reopened_run import reopen_run

FOLDER = "tissue"  # in the folder of a run
FACTS = "tissue.json"


@dataclass(frozen=True)
class Inputs:
    """What is explained, of whom, and how.

    Attributes
    ----------
    out : Path
        ``RUN/tissue``.
    reopened : ReopenedRun
    patches : PatchStore
    subject : Subject
        Whose risk is explained.
    patients : Index of str
        Patients of the run who have patches; they make the reference clusters.
    k, seed : int
    names : dict of str to str
        By cluster, where a pathologist named it.
    cases : tuple of str or int
        Ids, or how many to choose by their risk.
    config_hash : str
        Of all that decides what is computed; names and pictures do not.
    """

    out: Path
    reopened: object
    patches: object
    subject: object
    patients: object
    k: int
    seed: int
    names: dict
    cases: object
    config_hash: str


def check_risks_differ(reopened, subject):
    """Raise DataError where every patient of a fold got the same risk: there is nothing to explain.

    Parameters
    ----------
    reopened : ReopenedRun
    subject : Subject
    """
    rows = reopened.predictions
    own = rows[(rows["feature_set"] == subject.feature_set) & (rows["model"] == subject.model)]
    if own.groupby(["repeat", "fold"])["risk"].nunique().max() < 2:
        raise DataError(
            f"{subject.feature_set}, {subject.model}: every patient of a fold got the same risk, "
            f"so the model found nothing in block {subject.block} to explain. Name another with "
            "--feature-set or --model."
        )


def default_clusters(reopened, subject, n_patients):
    """Give as many clusters as the explained block has, so that it is spoken of; else by patients.

    Parameters
    ----------
    reopened : ReopenedRun
    subject : Subject
    n_patients : int

    Returns
    -------
    int
    """
    made = (reopened.plan.analysis.reduce or {}).get(subject.block) or {}
    return made.get("clusters") or recommended_clusters(n_patients)


def check_inputs(
    run_folder, store, *, k, names, cohort, data, block, feature_set, model, cases, seed, overwrite,
    pictures,
):  # fmt: skip
    """Open run, store, names and slides, and raise everything that is wrong with them at once.

    Parameters
    ----------
    run_folder, store : path
    k : int or None
        Clusters; None: as many as the block has that is explained, else by the number of patients.
    names, cohort, data : path or None
    block, feature_set, model : str or None
    cases : int or str
    seed : int
    overwrite : bool
    pictures : object or None
        As of `tissue_job.explain_slides`.

    Returns
    -------
    Inputs

    Raises
    ------
    SchemaError, DataError
        With all problems.
    """
    problems = Problems()
    out = Path(run_folder) / FOLDER
    if (out / FACTS).exists() and not overwrite:
        problems.add(
            f"{out} is complete. Add --overwrite to replace it; where run, store and settings are "
            "the same, what was computed is used again, and only names, pictures and page are new."
        )
    patches = _tried(problems, open_patches, store)
    reopened = _tried(problems, reopen_run, run_folder, cohort, data)
    asked = _tried(problems, _asked_cases, cases)
    if pictures is not None:
        _tried(problems, pictures.find)
    subject = patients = None
    if patches is not None and reopened is not None:
        subject = _tried(problems, choose_subject, reopened, patches, block, feature_set, model)
        if subject is not None:
            _tried(problems, check_risks_differ, reopened, subject)
        patients = reopened.plan.analysis.patient_id
        patients = patients[patients.isin(patches.patients)]
        if not len(patients):
            problems.add(
                f"{patches.folder}: none of its {count(len(patches.patients), 'patient')} is among "
                f"those of the run {run_folder}; patient ids are compared exactly.",
                DataError,
            )
    if k is None and subject is not None and len(patients):
        k = default_clusters(reopened, subject, len(patients))
    found = {}
    if names is not None:
        found = _tried(problems, read_names, names, cluster_names(k) if k else None)
    if patients is not None and isinstance(asked, tuple):
        strange = [patient for patient in asked if patient not in patients]
        if strange:
            problems.add(
                f"--cases: {listing(strange)} {'is' if len(strange) == 1 else 'are'} no patient of "
                f"the run with patches in the store.{nearest(strange[0], patients)}"
            )
    problems.raise_if_any()
    settled = {
        "package_version": tabular_trainers.__version__,
        "run": reopened.facts["config_hash"],
        "store": patches.source_hash,
        "subject": [subject.block, subject.feature_set, subject.model],
        "settings": [k, seed, asked],
    }
    config_hash = hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()
    return Inputs(out, reopened, patches, subject, patients, k, seed, found, asked, config_hash)


def _tried(problems, function, *arguments):
    """Call a function; what it refuses is one more problem."""
    try:
        return function(*arguments)
    except (SchemaError, DataError) as error:
        problems.add(str(error), type(error))
        return None


def _asked_cases(cases):
    """Read ``--cases``: a number, or ids."""
    if isinstance(cases, int):
        return cases
    if isinstance(cases, str):
        cases = [name.strip() for name in cases.split(",")]
    cases = tuple(dict.fromkeys(name for name in cases if name))
    if len(cases) == 1 and cases[0].isdecimal() and len(cases[0]) < 5:
        return int(cases[0])
    return cases
