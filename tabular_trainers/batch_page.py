"""The comparison page of a batch: tables, ``index.html`` and its figures.

Everything comes from the finished runs; the same runs give the same bytes.
"""

import os
import shutil
from pathlib import Path
from urllib.parse import quote

import tabular_trainers
from tabular_trainers import plots_labels as words
from tabular_trainers import report, report_pools
from tabular_trainers.batch_tables import comparison_tables
from tabular_trainers.errors import count
from tabular_trainers.plots_pool import COHORTS_DRAWN, forest
from tabular_trainers.report_tables import Table

BANNER = (
    "This page shows counts of patients and events, some of which may be under 5; the reports and "
    "notebooks that it leads to hold data of single patients. Not cleared for release: keep the "
    "folder where the data are until it has passed a disclosure check."
)
POOLS_DRAWN = 6
ROWS_SHOWN = 4_000  # more would make the page slow to open
FAILURES_SHOWN = 10


def write_comparison(out, title, entries):
    """Write the comparison of a batch: its tables, ``index.html`` and ``figures/*.png``.

    Each file is replaced in one step; figures of an older comparison are removed.

    Parameters
    ----------
    out : path
        Folder of the batch, with what the entries name.
    title : str
        Title of the page.
    entries : sequence of BatchEntry
        What became of each run.

    Returns
    -------
    Path
        The page: one HTML file that needs no font and no network, and is whole without its script.
    """
    out = Path(out)
    tables = comparison_tables(out, entries)
    html, figures = render(tables, title, entries, links(out, entries))
    _write_tables(tables, out)
    page = report.write_files(out, "index.html", html, figures)
    for path in (out / "figures").glob("pool_*.png"):
        if path.stem not in figures:
            path.unlink()
    return page


def links(out, entries):
    """Return where each entry's report or notebook lies, as a link of the page, by name.

    What is not there has no link, nor has what an earlier batch left of a run that failed now. A
    failed notebook leads to what ran of it.
    """
    found = {}
    for entry in entries:
        place = f"{entry.path}/report.html" if entry.what == "run" else entry.path
        whole = entry.status == "done" or place.endswith(".partial.ipynb")
        if whole and (Path(out) / place).is_file():
            found[entry.name] = quote(place)
    return found


def render(tables, title, entries, links):
    """Return the page as HTML, and its figures as PNG.

    Parameters
    ----------
    tables : dict of str to DataFrame
        ``comparison``, ``pools`` and ``pool_cohorts``.
    title : str
    entries : sequence of BatchEntry
    links : dict of str to str
        From `links`.

    Returns
    -------
    html : str
    figures : dict of str to bytes
        File name without ending: PNG.
    """
    labels = _model_labels()
    pools = _records(tables["pools"])
    cohorts = _cohorts_of(pools, _records(tables["pool_cohorts"]))
    if len({pool["seed"] for pool in pools}) == 1:
        pools = [{**pool, "seed": None} for pool in pools]  # tells nothing apart
    primary = [i for i, pool in enumerate(pools) if pool["primary"]]
    primary.sort(key=lambda i: pools[i]["reads"] == "not pooled")  # stable
    drawn = primary[:POOLS_DRAWN]
    drawings, captions, answers = {}, {}, []
    for number, i in enumerate(drawn, start=1):
        name = f"pool_{number}"
        found = report_pools.answer(pools[i], cohorts[i], labels)
        if any(row["difference"] is not None for row in cohorts[i]):
            drawings[name] = forest(name, pools[i], cohorts[i], labels)
            captions[name] = _caption(pools[i], len(cohorts[i]))
        table = report_pools.cohort_table(pools[i], cohorts[i], labels, f"cohorts-{number}")
        answers.append({**found, "figure": name, "table": table})
    svg, png = report.draw_all(drawings)
    rest = [pool for i, pool in enumerate(pools) if i not in drawn]
    methods, references = report_pools.methods(pools)
    html = report.fill(
        "batch.html.jinja",
        svg,
        version=tabular_trainers.__version__,
        title=title,
        banner=BANNER,
        lead=_lead(entries),
        failures=_failures(entries, links),
        failures_shown=FAILURES_SHOWN,
        no_answer=None if answers else _no_answer(entries, pools),
        summary=report_pools.summary([pools[i] for i in primary]),
        answers=answers,
        captions=captions,
        others=report_pools.pool_table(rest, labels),
        runs=run_table(tables["comparison"], links),
        notebooks=_notebooks(entries, links),
        methods=methods,
        references=references,
    )
    return html, png


def run_table(comparison, links):
    """Return every feature set and model of every run as one sortable table; None without any.

    Parameters
    ----------
    comparison : DataFrame
        Schema ``comparison``.
    links : dict of str to str
        Run: where its report lies.

    Returns
    -------
    Table or None
    """
    rows = [row for row in _records(comparison) if row["feature_set"] is not None]
    if not rows:
        return None
    baselines = {(r["run"], r["baseline_feature_set"], r["baseline_model"]) for r in rows}
    total = len(rows)
    if total > ROWS_SHOWN:
        kept = [
            row
            for row in rows
            if row["primary"] or (row["run"], row["feature_set"], row["model"]) in baselines
        ]
        rows = (kept or rows)[:ROWS_SHOWN]
    optional = {  # shown where it tells rows apart
        "Seed": len({row["seed"] for row in rows}) > 1,
        "Measure": len({row["metric"] for row in rows}) > 1,
    }
    estimate = "Estimate" if optional["Measure"] else words.metric_words(rows[0]["metric"])
    columns = ["Run", "Cohort", "Endpoint", "Seed", "Feature set", "Model", "Measure"]
    columns += [f"{estimate} (95% interval)", "Difference to baseline (95% interval)"]
    columns += ["Patients", "Events"]
    keep = [i for i, column in enumerate(columns) if optional.get(column, True)]
    table = Table("runs", "Every run", [columns[i] for i in keep], sortable=True)
    for row in rows:
        cells = _cells(row, (row["run"], row["feature_set"], row["model"]) in baselines)
        table.add(
            *(cells[i] for i in keep), strong=bool(row["primary"]), link=links.get(row["run"])
        )
    table.notes.append(
        "Bold: the comparison that was named before the run; all others are exploratory. Events of "
        "a classification: positive patients. Chosen: in each fold the model that did best inside "
        "the training part. All numbers are in comparison.parquet."
    )
    if len(rows) < total:
        table.notes.insert(
            0, f"{len(rows):,} of {total:,} rows are shown: primary comparisons and baselines."
        )
    return table


def _cells(row, is_baseline):
    difference = words.interval(
        row["difference"], row["difference_lower"], row["difference_upper"], sign=True
    )
    if row["difference"] is None and is_baseline:
        difference = "baseline"
    return [
        row["run"],
        _text(row["cohort"]),
        _text(row["endpoint"]),
        _count(row["seed"]),
        words.feature_set_words(row["feature_set"]),
        "chosen" if row["model"] == "selected" else row["model"],
        words.metric_words(row["metric"]),
        words.interval(row["estimate"], row["lower"], row["upper"]),
        difference,
        _count(row["n"]),
        _count(row["n_events"]),
    ]


def _text(value):
    return words.NO_VALUE if value is None else str(value)


def _count(value):
    return words.NO_VALUE if value is None else f"{int(value):,}"


def _lead(entries):
    """Count what was run."""
    runs = [entry for entry in entries if entry.what == "run"]
    cohorts = {entry.cohort for entry in runs}
    parts = []
    if runs:
        parts.append(f"{count(len(runs), 'run')} of {count(len(cohorts), 'cohort')}")
    if len(runs) < len(entries):
        parts.append(count(len(entries) - len(runs), "notebook"))
    failed = sum(entry.status == "failed" for entry in entries)
    told = " and ".join(parts) or "Nothing was run"
    return f"{told}; {failed or 'none'} failed." if entries else f"{told}."


def _failures(entries, links):
    return [
        {"name": e.name, "reason": e.reason or "no reason is known", "link": links.get(e.name)}
        for e in entries
        if e.status == "failed"
    ]


def _notebooks(entries, links):
    return [
        {"name": entry.name, "status": entry.status, "link": links.get(entry.name)}
        for entry in entries
        if entry.what == "notebook"
    ]


def _no_answer(entries, pools):
    """Say why nothing is answered across cohorts."""
    runs = [entry for entry in entries if entry.what == "run"]
    if not runs:
        why = "only notebooks were executed, and what they found is in each of them"
    elif all(entry.status == "failed" for entry in runs):
        why = "every run failed"
    elif pools:
        why = "the runs did not name the same comparison beforehand; exploratory ones are below"
    else:
        why = "no run compares a feature set with a clinical baseline"
    return f"No answer across cohorts: {why}."


def _caption(pool, n_cohorts):
    metric = words.metric_words(pool["metric"])
    told = f"Difference in {metric} of each cohort with 95% interval"
    if pool["reads"] == "not pooled":
        told += "; nothing is pooled."
    else:
        told += (
            "; squares grow with the weight in the pooled difference, hollow ones are not pooled. "
            "Diamond: pooled difference, as wide as its 95% interval. Dashed line: 95% prediction "
            "interval, where the difference of a new cohort like these is expected."
        )
    if n_cohorts > COHORTS_DRAWN:
        told += f" Drawn: the {COHORTS_DRAWN} of {n_cohorts:,} cohorts with the largest weights."
    return told


def _cohorts_of(pools, rows):
    """Return the cohorts of each pool, a list a pool."""
    key = (
        "kind", "endpoint", "seed", "feature_set", "model", "baseline_feature_set", "baseline_model"
    )  # fmt: skip
    by_pool = {}
    for row in rows:
        by_pool.setdefault(tuple(row[k] for k in key), []).append(row)
    return [by_pool.get(tuple(pool[k] for k in key), []) for pool in pools]


def _records(table):
    """Return rows as dicts with None for what is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _model_labels():
    from tabular_trainers.models import MODELS

    return {name: row.label for rows in MODELS.values() for name, row in rows.items()}


def _write_tables(tables, out):
    """Write tables into a folder beside, then move each to its place."""
    from tabular_trainers.tables import write_tables

    scratch = out / f".tables.partial-{os.getpid()}"
    try:
        write_tables(tables, scratch)
        for name in tables:
            os.replace(scratch / f"{name}.parquet", out / f"{name}.parquet")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
