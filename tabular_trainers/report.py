"""Write the report of a run: one self-contained HTML file and its figures as PNG.

Everything comes from the tables and run.json of the run folder; nothing is computed here.
"""

import json
import os
import tempfile
from pathlib import Path

from tabular_trainers.errors import SchemaError, listing

REQUIRED = ("flow", "metrics")
OPTIONAL = (
    "table_one",
    "cluster_matches",
    "comparisons",
    "kaplan_meier",
    "calibration",
    "decision_curve",
    "shap",
    "shap_blocks",
    "probes",
    "subgroups",
    "trials",
    "tripod_ai",
)
TABLE_OF = {"calibration": "calibration", "risk_thirds": "kaplan_meier"}
FINAL_PART = ("metrics", "comparisons", "calibration", "kaplan_meier")
TISSUE = ("tissue", "tissue.json")  # folder in a run, by explain-slides, and its facts
FACTS = ("title", "time_zero", "endpoint", "n_patients", "n_events", "feature_sets", "models")


def write_report(run_folder):
    """Write ``report.html`` and ``figures/*.png`` of a finished run.

    Needs nothing but the run folder, so that it can be repeated at any time; an older report is
    replaced. All figures are drawn before the first file is written, and each file is replaced in
    one step.

    Parameters
    ----------
    run_folder : path
        Folder of a run: ``run.json`` and the tables of the data schemas.

    Returns
    -------
    Path
        The report: one HTML file that needs no script, no font and no network.

    Raises
    ------
    SchemaError
        There is no run in the folder, or a table breaks its contract.
    """
    folder = Path(run_folder)
    run, tables = _read(folder)
    html, figures = render(tables, run)
    return write_files(folder, "report.html", html, figures)


def write_files(folder, name, html, figures):
    """Write a page and its figures (PNG by name) into a folder; return the page's path."""
    (folder / "figures").mkdir(exist_ok=True)
    for figure, image in figures.items():
        _replace(folder / "figures" / f"{figure}.png", image)
    _replace(folder / name, html.encode("utf-8"))
    return folder / name


def render(tables, run):
    """Return the report as HTML, and its figures as PNG.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run, by the names of their data schemas.
    run : dict
        Content of run.json.

    Returns
    -------
    html : str
    figures : dict of str to bytes
        File name without ending: PNG.
    """
    svg, png = draw_all(_draw(tables, run))
    return page(tables, run, svg), png


def draw_all(drawings):
    """Turn drawings by name into SVG elements and PNG, each by the same names."""
    from tabular_trainers.report_svg import inline_svg, png_bytes

    svg = {name: inline_svg(drawing) for name, drawing in drawings.items()}
    png = {name: png_bytes(drawing) for name, drawing in drawings.items()}
    return svg, png


def fill(template, figures, **context):
    """Fill a template of the package around figures, SVG elements by name."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tabular_trainers", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    figures = {name: Markup(svg) for name, svg in figures.items()}
    return environment.get_template(template).render(figures=figures, **context)


def page(tables, run, figures):
    """Return the report as HTML, around figures that were drawn before.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a run, by the names of their data schemas.
    run : dict
        Content of run.json.
    figures : dict of str to str
        SVG elements by the names of the functions in `plots`; those that lack are left out.

    Returns
    -------
    str
    """
    from tabular_trainers import plots_labels as words
    from tabular_trainers import (
        report_entry,
        report_external,
        report_measures,
        report_methods,
        report_subgroups,
        report_tables,
        report_text,
        report_tissue,
    )

    methods, references = report_methods.methods(tables, run)
    return fill(
        "report.html.jinja",
        figures,
        run=run,
        words=words,
        banner=report_text.BANNER,
        question=report_text.question(run),
        verdict=report_text.verdict(tables, run),
        intervals=report_methods.INTERVALS,
        follow_up=report_methods.follow_up(run) if words.is_survival(run) else None,
        subgroups=report_subgroups.subgroup_table(tables, run),
        subgroup_reading=report_subgroups.READING,
        entry=report_entry.dependence(run),
        log_rank=report_text.log_rank(run),
        probes=report_text.probes(tables),
        methods=methods,
        references=references,
        captions=report_text.captions(tables, run)
        | report_external.final_part_captions()
        | report_tissue.section_captions(run),
        final_part=report_external.final_part(tables, run),
        tissue=report_tissue.section(tables, run),
        characteristics=report_tables.table_one(tables, run),
        blocks=report_tables.block_facts(tables, run),
        deaths_censored=report_text.DEATHS_CENSORED
        if run["endpoint"].get("deaths_censored")
        else None,
        sample_size=report_tables.sample_size_table(run),
        sample_size_words=report_text.sample_size(run),
        net_benefit=report_text.NET_BENEFIT,
        checklist=report_tables.checklist_table(tables),
        checklist_words=report_text.checklist(tables),
        folds=report_tables.fold_table(tables, run),
        horizons=report_tables.horizon_table(tables, run),
        metrics=report_measures.metric_tables(tables, run),
        comparisons=report_measures.comparison_tables(tables, run),
        block_sizes=report_tables.block_table(tables, run),
        versions=report_tables.version_table(run),
    )


def _draw(tables, run):
    """Draw every figure that the tables allow, by name, in the order of the report."""
    from tabular_trainers import plots
    from tabular_trainers.plots_labels import is_survival
    from tabular_trainers.plots_tissue import cluster_hazards
    from tabular_trainers.report_external import final_part_inputs
    from tabular_trainers.report_tissue import own_tables

    wanted = [plots.patient_flow]
    if _has(tables, "kaplan_meier") and is_survival(run):
        wanted.append(plots.follow_up)
    wanted.append(plots.discrimination)
    if _has(tables, "comparisons"):
        wanted.append(plots.differences)
    if _has(tables, "subgroups"):
        wanted.append(plots.for_whom)
    if _has(tables, "kaplan_meier") and is_survival(run):
        wanted += [plots.risk_thirds, plots.risk_thirds_grid]
    if _has(tables, "calibration"):
        wanted += [plots.calibration, plots.calibration_grid]
    if _has(tables, "decision_curve"):
        wanted.append(plots.decision_curve)
    if _has(tables, "shap"):
        wanted.append(plots.contributions)
    if _has(tables, "shap_blocks"):
        wanted.append(plots.block_contributions)
    drawings = {function.__name__: function(tables, run) for function in wanted}
    if run.get("tissue"):
        drawings["cluster_hazards"] = cluster_hazards(own_tables(tables), run["tissue"])
    final = final_part_inputs(tables, run)
    for function in (plots.calibration, plots.risk_thirds) if final else ():
        name = f"final_part_{function.__name__}"
        if _has(final[0], TABLE_OF[function.__name__]):
            drawings[name] = function(*final)
            drawings[name].name = name
    return drawings


def _has(tables, name):
    return name in tables and len(tables[name]) > 0


def _read(folder):
    from tabular_trainers.tables import read_tables

    path = folder / "run.json"
    if not path.is_file():
        raise SchemaError(
            f"{folder}: no run.json; expected the folder of a finished run, as written by "
            "'tabular-trainers run'."
        )
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SchemaError(f"{path}: not JSON ({error}). Repeat the run.") from error
    lacking = [key for key in FACTS if key not in run] if isinstance(run, dict) else FACTS
    if lacking:
        raise SchemaError(f"{path}: lacks {listing(lacking)}; expected the run.json of a run.")
    absent = [f"{name}.parquet" for name in REQUIRED if not (folder / f"{name}.parquet").is_file()]
    if absent:
        raise SchemaError(f"{folder}: no {listing(absent)}; expected the folder of a finished run.")
    present = [name for name in OPTIONAL if (folder / f"{name}.parquet").is_file()]
    tables = read_tables(folder, [*REQUIRED, *present])
    if run.get("holdout"):
        found = read_tables(folder / "holdout", list(FINAL_PART))
        tables |= {f"holdout/{name}": table for name, table in found.items()}
    return _add_tissue(folder, run, tables)


def _add_tissue(folder, run, tables):
    """Add what `explain-slides` found of this run, where it did."""
    from tabular_trainers.tables import read_tables

    place = folder / TISSUE[0]
    try:
        facts = json.loads((place / TISSUE[1]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return run, tables
    if facts["run"]["config_hash"] != run.get("config_hash"):
        return run, tables
    found = read_tables(place, facts["tables"])
    return {**run, "tissue": facts}, {
        **tables,
        **{f"tissue/{name}": table for name, table in found.items()},
    }


def _replace(path, content):
    """Write a file beside its place and move it there, so that a reader never sees half of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask():
    current = os.umask(0)
    os.umask(current)
    return current
