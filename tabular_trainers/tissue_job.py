"""Explain the risk of a run by the tissue on its slides: tables, pictures and a page in the run."""

import json
import shutil

import pandas as pd

import tabular_trainers
from tabular_trainers import run_folder as folders
from tabular_trainers.cluster_names import composition, template
from tabular_trainers.run_facts import software
from tabular_trainers.tables import read_tables, write_tables
from tabular_trainers.tissue_cases import case_scenes
from tabular_trainers.tissue_inputs import FACTS, check_inputs
from tabular_trainers.tissue_scene import make_scene
from tabular_trainers.tissue_tables import compute_tables, write_shares

NAMES = "cluster_names.csv"
KEPT = ("prevalence.parquet", "patches")  # beside the tables with a contract


def explain_slides(
    run_folder,
    store,
    *,
    n_clusters=None,
    names=None,
    cohort=None,
    data=None,
    block=None,
    feature_set=None,
    model=None,
    cases=6,
    seed=0,
    n_jobs=None,
    overwrite=False,
    pictures=None,
    progress=None,
):
    """Show which tissue drives the risk of a run.

    Patches of all patients of the run are clustered, and the clusters held against the risk that
    the run predicted for patients held out, against the outcome, and against sites and artefacts.
    These reference clusters describe; whatever is scored rests on clusters made anew in each
    training part.

    Parameters
    ----------
    run_folder : path
        A finished run, with a block that was pooled from the store, or made of its clusters.
    store : path
        As ``embed slides`` writes it.
    n_clusters : int, optional
        Default: as many as the block has, where it is made of clusters; else by the number of
        patients (`recommended_clusters`).
    names : path, optional
        Table ``cluster, name`` by a pathologist.
    cohort, data : path, optional
        The ``cohort.toml`` of the run and the folder of its tables; default: as in the run.
    block, feature_set, model : str, optional
        Whose risk is explained (`choose_subject`).
    cases : int or str, default 6
        Patients who get maps and a page: how many, evenly from the lowest to the highest risk
        within its fold, or ids separated by commas.
    seed : int, default 0
    n_jobs : int, optional
        Processes; default: one for each processor. Does not change any result.
    overwrite : bool, default False
        Replace a complete ``RUN/tissue``. What was computed with the same settings is used again.
    pictures : object, optional
        Draws what needs the slides: ``find()`` looks for them, ``draw(scene, folder, progress)``
        draws a `Scene`. Without it there are tables and figures only.
    progress : callable, optional
        Called as ``progress(done, total, what)``.

    Returns
    -------
    Path
        ``RUN/tissue``, whole; ``RUN/report.html`` has a section on it.

    Raises
    ------
    SchemaError, DataError
        With everything that is wrong with run, store, names, slides and cases.
    """
    from tabular_trainers.parallel import cpu_count
    from tabular_trainers.report import write_report

    asked = check_inputs(
        run_folder, store, k=n_clusters, names=names, cohort=cohort, data=data, block=block,
        feature_set=feature_set, model=model, cases=cases, seed=seed, overwrite=overwrite,
        pictures=pictures,
    )  # fmt: skip
    metadata = {"config_hash": asked.config_hash, "seed": str(seed)}
    otherwise = "explain another run"
    with folders.partial_folder(asked.out, asked.config_hash, otherwise=otherwise) as partial:
        if (kept := _computed_before(asked)) is not None:
            tables, facts = _copy(asked.out, partial, kept)
        else:
            tables, facts = compute_tables(asked, partial, n_jobs or cpu_count(), progress)
        tables = _named(tables, asked.names)
        write_tables(tables, partial, metadata)
        _finish(asked, partial, tables, facts, pictures, progress)
    write_report(run_folder)
    return asked.out


def _computed_before(asked):
    """Read the facts of a complete folder whose tables are those that would be computed now."""
    try:
        facts = json.loads((asked.out / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if facts.get("config_hash") == asked.config_hash else None


def _copy(out, partial, facts):
    """Take over what was computed: names, pictures and the page are made anew."""
    for name in KEPT:
        source = out / name
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, partial / name)
    return read_tables(out, facts["tables"]), facts


def _named(tables, names):
    """Put names into the tables that have a column for them."""
    found = dict(tables)
    for name, table in tables.items():
        if "name" in table:
            label = table["matched" if "matched" in table else "cluster"]
            found[name] = table.assign(name=[names.get(cluster) for cluster in label])
    return found


def _finish(asked, partial, tables, facts, pictures, progress):
    """Give names, draw, and write facts and page."""
    from tabular_trainers.report_tissue import write_tissue_page

    prevalence = pd.read_parquet(partial / "prevalence.parquet").set_index("patient_id")
    facts = {
        **facts,
        "schema_version": "1",
        "package_version": tabular_trainers.__version__,
        "config_hash": asked.config_hash,
        "names": asked.names,
        "tables": sorted(tables),
        "versions": software(),
    }
    _write_names(asked, partial, template(list(prevalence), asked.names))
    if asked.names:
        write_shares(composition(prevalence, asked.names), partial / "composition.parquet", asked)
    scenes = case_scenes(asked, facts, prevalence)
    scene = make_scene(partial, tables, facts, prevalence, scenes)
    drawn = {"clusters": {}, "cases": {}, "side_by_side": None, "looks": {}, "notes": []}
    if pictures is not None:
        drawn = pictures.draw(scene, partial, progress)
    facts["no_pictures"] = _why_no_pictures(pictures)
    facts["cases"] = [{"patient_id": case.patient_id, "lines": list(case.lines)} for case in scenes]
    facts["picture_notes"] = drawn.pop("notes")
    folders.write_facts(partial / FACTS, facts)
    write_tissue_page(partial, tables, facts, drawn)


def _write_names(asked, partial, text):
    """Write the CSV for names; what was filled in there before and would be lost is kept beside."""
    before = asked.out / NAMES
    if before.is_file():
        lines = before.read_bytes().splitlines()
        if lines != text.encode().splitlines() and any(not x.endswith(b",") for x in lines[1:]):
            shutil.copy2(before, partial / f"{before.stem}_before.csv")
    (partial / NAMES).write_text(text, encoding="utf-8")


def _why_no_pictures(pictures):
    if pictures is None:
        return "They were not asked for."
    return pictures.why_not
