"""Write the report of a validation on another cohort: one self-contained HTML file and figures.

Everything comes from the tables and validation.json of the folder; nothing is computed here.
"""

import json
from pathlib import Path

from tabular_trainers import (
    report,
    report_entry,
    report_external,
    report_methods,
    report_tables,
    report_text,
)

TABLES = ("flow", "metrics", "comparisons", "calibration", "kaplan_meier", "column_differences")


def write_validation_report(folder):
    """Write ``validation.html`` and ``figures/*.png`` from the tables of a validation.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Path
    """
    from tabular_trainers.tables import read_tables

    folder = Path(folder)
    facts = json.loads((folder / "validation.json").read_text(encoding="utf-8"))
    html, figures = render(read_tables(folder, list(TABLES)), facts)
    return report.write_files(folder, "validation.html", html, figures)


def render(tables, run):
    """Return the report as HTML, and its figures as PNG.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a validation, by the names of their data schemas.
    run : dict
        Content of validation.json.

    Returns
    -------
    html : str
    figures : dict of str to bytes
        File name without ending: PNG.
    """
    from tabular_trainers import plots
    from tabular_trainers import plots_labels as words

    survival = words.is_survival(run)
    wanted = [plots.patient_flow, plots.discrimination]
    if survival:
        wanted += [plots.follow_up, plots.risk_thirds]
    if len(tables["calibration"]):
        wanted.append(plots.calibration)
    svg, png = report.draw_all({draw.__name__: draw(tables, run) for draw in wanted})
    methods, references = report_external.methods(tables, run)
    measures = report_external.measure_tables(tables, run)
    html = report.fill(
        "validation.html.jinja",
        svg,
        run=run,
        words=words,
        banner=report_text.BANNER,
        question=report_external.question(run),
        verdict=report_text.verdict(tables, run),
        intervals=report_external.FIXED,
        follow_up=report_methods.follow_up(run) if survival else None,
        entry=report_entry.dependence(run),
        captions=report_external.captions(tables, run),
        column_sentences=report_external.column_sentences(tables),
        columns=report_external.column_tables(tables),
        calibration=[table for table in measures if table.name.startswith("calibration-")],
        measures=[table for table in measures if not table.name.startswith("calibration-")],
        methods=methods,
        references=references,
        versions=report_tables.version_table(run),
    )
    return html, png
