"""Compute what is known of the clusters of a run: tables, and facts that are said in words."""

import hashlib
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tabular_trainers import tissue
from tabular_trainers.errors import DataError, count
from tabular_trainers.evaluation_plan import fold_numbers
from tabular_trainers.parallel import Task, map_tasks
from tabular_trainers.patch_clusters import fit_clusters
from tabular_trainers.patch_matching import match_clusters
from tabular_trainers.patch_prevalence import prevalence
from tabular_trainers.patch_risk import patch_terms
from tabular_trainers.patch_risk_occlusion import occlusion
from tabular_trainers.patch_sample import sample_patches
from tabular_trainers.patch_stability import stability
from tabular_trainers.patch_survey import survey
from tabular_trainers.risk_groups import THIRDS, risk_thirds
from tabular_trainers.schema import empty
from tabular_trainers.tables import DESCRIPTIVE, write_table

SAMPLED = 100_000  # patches that clusters are made of, at most
LIMIT_QUANTILE = 0.99  # of changes by occlusion: where the colours of a map end


def compute_tables(asked, folder, n_jobs, progress=None):
    """Cluster, survey, hold against the risk, and write what is large.

    Parameters
    ----------
    asked : Inputs
    folder : path
        Gets ``prevalence.parquet`` and ``patches/``.
    n_jobs : int
    progress : callable, optional

    Returns
    -------
    tables : dict of str to DataFrame
        By the names of their contracts.
    facts : dict
        What is said in words, as plain JSON.
    """
    plan, subject = asked.reopened.plan, asked.subject
    sample = sample_patches(asked.patches, asked.patients, SAMPLED, asked.seed, progress)
    _tell(progress, "clusters")
    clusters = fit_clusters(sample, asked.k, asked.seed)
    surveyed = survey(
        asked.patches, clusters, seed=asked.seed, by=subject.by, patients=asked.patients,
        progress=progress,
    )  # fmt: skip
    found = stability(sample, clusters, seed=asked.seed, progress=progress)
    shares, matches = _of_folds(asked, clusters, n_jobs, progress)
    terms, changes, told = _terms(asked, surveyed.labels, clusters.names, n_jobs, progress)
    write_shares(surveyed.prevalence, folder / "prevalence.parquet", asked)
    _write_patches(asked, surveyed.labels, clusters.names, terms, changes, folder, progress)
    _tell(progress, "clusters and risk")
    risk = _risk(asked)
    patients = _patients(asked)
    rows = tissue.cluster_table(surveyed.prevalence, risk, patients, quality=surveyed.quality)
    folds = plan.folds[(plan.folds["repeat"] == 0) & plan.folds["patient_id"].isin(asked.patients)]
    chosen = tissue.forward_selection(shares, patients, folds, matches=matches, seed=asked.seed)
    flagged = set(rows.loc[rows["flag"] != "", "cluster"])
    without = tissue.without_flagged(
        shares, patients, folds, flagged, matches=matches, seed=asked.seed
    )
    tables = {
        "tissue_clusters": rows,
        "tissue_variance": tissue.explained_variance(
            surveyed.prevalence, risk, patients, seed=asked.seed
        ),
        "tissue_steps": chosen.steps,
        "tissue_selection": chosen.frequency,
        "tissue_scores": pd.concat(
            [part for part in (chosen.scores, without) if len(part)], ignore_index=True
        ),
        "tissue_examples": surveyed.examples,
        "tissue_thirds": cluster_thirds(surveyed.prevalence, risk),
        "tissue_matches": matches,
        "tissue_stability": found.clusters,
    }
    if terms is not None:
        tables["patch_terms"] = terms.patients
    if changes is not None:
        tables["cluster_occlusion"] = changes
    facts = _facts(asked, told, surveyed)
    facts["rand"] = [float(np.mean(found.rand)), float(np.min(found.rand)), len(found.rand)]
    return tables, facts


def _tell(progress, what):
    if progress is not None:
        progress(0, 1, what)


def _patients(asked):
    """Take the patients of the run who have patches."""
    patients = tissue.patients_of(asked.reopened.plan.analysis)
    return patients.take(np.flatnonzero(patients.patient_id.isin(asked.patients)))


def _risk(asked):
    """Take the out-of-fold risks that are explained, of all repeats."""
    rows, subject = asked.reopened.predictions, asked.subject
    own = (rows["feature_set"] == subject.feature_set) & (rows["model"] == subject.model)
    own &= rows["patient_id"].isin(asked.patients)
    return rows.loc[own, ["patient_id", "repeat", "fold", "risk"]].reset_index(drop=True)


def _of_folds(asked, reference, n_jobs, progress):
    """Make clusters anew in each training part of the first repeat, and match them.

    Returns
    -------
    shares : dict of (repeat, fold) to DataFrame
        Prevalences of all patients by the centres of that training part.
    matches : DataFrame
        Contract ``tissue_matches``.
    """
    keys = [key for key in fold_numbers(asked.reopened.plan.folds) if key[0] == 0]
    tasks = [Task(f"clusters-{repeat}-{fold}", (repeat, fold)) for repeat, fold in keys]
    done = []

    def tell(key):
        done.append(key)
        progress(len(done), len(tasks), "clusters of each training part")

    results = map_tasks(
        _cluster_fold,
        tasks,
        (asked, reference),
        n_jobs,
        progress=None if progress is None else tell,
    )
    shares = {key: result["shares"] for key, result in zip(keys, results, strict=True)}
    return shares, pd.concat([result["matches"] for result in results], ignore_index=True)


def _cluster_fold(context, repeat, fold):
    asked, reference = context
    folds = asked.reopened.plan.folds
    own = (folds["repeat"] == repeat) & (folds["fold"] == fold) & (folds["part"] == "train")
    train = asked.patients[asked.patients.isin(folds.loc[own, "patient_id"])]
    sample = sample_patches(asked.patches, train, SAMPLED, asked.seed)
    clusters = fit_clusters(sample, asked.k, asked.seed)
    matches = match_clusters(reference, clusters)
    matches.insert(0, "repeat", repeat)
    matches.insert(1, "fold", fold)
    shares = prevalence(asked.patches, clusters, asked.subject.by, asked.patients)
    return {"shares": shares, "matches": matches}


def _terms(asked, labels, names, n_jobs, progress):
    """Spread the risk over patches: exactly, or by leaving out clusters, or not at all."""
    arguments = asked.reopened, asked.subject, asked.patches
    if asked.subject.exact:
        found = patch_terms(*arguments, n_jobs, progress)
        return found, None, {"kind": "exact", "why": None, "limit": found.limit}
    told = {"kind": "approximate", "why": asked.subject.approximate, "limit": 0.0}
    try:
        changes = occlusion(*arguments, labels, names, n_jobs, progress)
    except DataError as error:
        return None, None, {**told, "kind": "none", "why": str(error)}
    known = changes["change"].abs().dropna()
    told["limit"] = float(known.quantile(LIMIT_QUANTILE)) if len(known) else 0.0
    return None, changes, told


def _write_patches(asked, labels, names, terms, changes, folder, progress):
    """Write the cluster of every patch, and what it adds to the risk, a file a slide."""
    (folder / "patches").mkdir(exist_ok=True)
    names = np.array(names, dtype=object)
    of_patient = {} if changes is None else dict(iter(changes.groupby("patient_id")))
    metadata = {"config_hash": asked.config_hash, "encoder_id": asked.patches.encoder_id}
    slides = asked.patches.slides_of(asked.patients)
    for done, slide in enumerate(slides.itertuples(), 1):
        cluster = names[labels[slide.slide_id]]
        frame = asked.patches.frame(slide.slide_id)
        term = np.full(len(frame), np.nan)
        if terms is not None and slide.patient_id in terms.fold_of:
            term = terms.terms(slide.slide_id)
        elif slide.patient_id in of_patient:
            own = of_patient[slide.patient_id].set_index("cluster")["change"]
            term = own.reindex(cluster).to_numpy()
        table = frame[["x_um", "y_um", "size_um"]].assign(cluster=cluster, term=term)
        table.insert(0, "slide_id", slide.slide_id)
        table.insert(1, "row", np.arange(len(table)))
        path = folder / "patches" / f"{slide.slide_id}.parquet"
        write_table(table, "tissue_patches", path, metadata)
        if progress is not None:
            progress(done, len(slides), f"patches of slide {slide.slide_id}")


def write_shares(shares, path, asked):
    """Write a table of shares, a row a patient, marked as made with all of them.

    The mark and the sha256 of the patients' ids stand in the metadata: such a table has seen the
    patients of every test fold, so it is refused as a block in their cross-validation.
    """
    table = pa.Table.from_pandas(
        shares.rename_axis("patient_id").reset_index(), preserve_index=False
    )
    ids = "\n".join(sorted(shares.index))
    facts = {
        DESCRIPTIVE: "true",
        "patients_sha256": hashlib.sha256(ids.encode()).hexdigest(),
        "store_hash": asked.patches.source_hash,
        "encoder_id": asked.patches.encoder_id,
        "pretrained_on": json.dumps(list(asked.patches.pretrained_on)),
    }
    pq.write_table(table.replace_schema_metadata(facts), path)


def cluster_thirds(shares, risk):
    """Describe the prevalence of clusters in thirds of the risk, formed within each test fold.

    Parameters
    ----------
    shares : DataFrame (n_patients, n_clusters)
    risk : DataFrame
        patient_id, repeat, fold, risk; the first repeat counts.

    Returns
    -------
    DataFrame
        Contract ``tissue_thirds``.
    """
    first = risk[risk["repeat"] == 0]
    third = risk_thirds(first["risk"].to_numpy(), first["fold"].to_numpy())
    own = shares.loc[first["patient_id"]]
    found = []
    for name in THIRDS:
        part = own[third == name]
        if len(part):
            quartiles = part.quantile([0.25, 0.5, 0.75])
            found.append(
                pd.DataFrame(
                    {
                        "cluster": shares.columns,
                        "third": name,
                        "n_patients": len(part),
                        "mean": part.mean().to_numpy(),
                        "lower": quartiles.loc[0.25].to_numpy(),
                        "median": quartiles.loc[0.5].to_numpy(),
                        "upper": quartiles.loc[0.75].to_numpy(),
                    }
                )
            )
    return pd.concat(found, ignore_index=True)[list(empty("tissue_thirds").columns)]


def _facts(asked, terms, surveyed):
    """Collect what is said in words."""
    run, subject, patches = asked.reopened.facts, asked.subject, asked.patches
    slides = patches.slides_of(asked.patients)
    lacking = run["n_patients"] - len(asked.patients)
    outside = len(patches.patients) - len(asked.patients)
    notes = []
    if lacking:
        notes.append(
            f"{count(lacking, 'patient')} of the run without a patch in the store; nothing here is "
            "about them."
        )
    if outside:
        notes.append(f"{count(outside, 'patient')} of the store not in the run; not used.")
    return {
        **{
            name: run[name]
            for name in ("title", "time_zero", "endpoint", "n_patients", "n_events",
                         "model_labels", "risk_scales", "feature_sets")
        },
        "run": {name: run[name] for name in ("config_hash", "package_version", "source_hash")},
        "store": {
            "hash": patches.source_hash,
            "encoder_id": patches.encoder_id,
            "pretrained_on": list(patches.pretrained_on),
            "n_slides": len(slides),
            "n_patches": int(slides["n_patches"].sum()),
        },
        "n_explained": len(asked.patients),
        "has_clinical": _patients(asked).clinical is not None,
        "k": asked.k,
        "seed": asked.seed,
        "sampled": SAMPLED,
        "n_sites": None if asked.reopened.plan.analysis.site is None
        else int(pd.Series(asked.reopened.plan.analysis.site).nunique()),
        "subject": {
            "block": subject.block,
            "feature_set": subject.feature_set,
            "model": subject.model,
            "how": subject.how,
            "by": subject.by,
        },
        "terms": {**terms, "unit": subject.scale, "words": terms_words(terms)},
        "notes": notes,
    }  # fmt: skip


def terms_words(terms):
    """Say what the numbers of patches are, and whether they are exact."""
    if terms["kind"] == "exact":
        return (
            "Exact: the mean over the patient's patches, with a constant for all else, is the risk "
            "that the model predicted when the patient was held out."
        )
    if terms["kind"] == "approximate":
        return (
            f"Approximate, as {terms['why']}: how the risk changes when all patches of the cluster "
            "are left out of the patient."
        )
    return f"Not known: {terms['why']}"
