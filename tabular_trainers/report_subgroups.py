"""The report's table of groups of patients, and how to read it."""

from tabular_trainers import plots_labels as words
from tabular_trainers import report_pretraining
from tabular_trainers.report_tables import Table

READING = (
    "Groups of patients in whom the primary model is measured on its own, and what it adds to the "
    "baseline there. All of this is exploratory: with fewer patients intervals are wide, and of "
    "several groups one will look best by chance. That a gain is shown in one group and not in "
    "another does not show that the groups differ; only the test of interaction asks that, for "
    "each variable once."
)


def subgroup_table(tables, run):
    """Return the measures of every group, or None where the run has none.

    Returns
    -------
    Table or None
    """
    rows = tables.get("subgroups")
    if rows is None or rows.empty:
        return None
    first = rows.iloc[0]
    paired = bool(rows["difference"].notna().any())
    metric = words.metric_words(first["metric"])
    events = "events" if words.is_survival(run) else "positive"
    columns = ["Group", "Patients", events.capitalize(), metric]
    columns += [f"{metric}, baseline", "Difference"] if paired else []
    at = first["horizon"]
    where = "" if words.is_missing(at) else f" at {words.time_words(at, run['endpoint']['unit'])}"
    columns += [f"Observed/expected{where}"]
    caption = words.pair_words(run, first["feature_set"], first["model"])
    caption += report_pretraining.mark(run, first["feature_set"])
    if paired:
        caption += f", against {words.feature_set_words(first['baseline_feature_set'])}"
    table = Table("subgroups", f"{caption}, by groups of patients", columns, numbers=True)
    for variable, own in rows.groupby("variable", sort=False):
        if len(own) > 1:
            p_value = own["interaction_p_value"].iloc[0]
            test = (
                ""
                if words.is_missing(p_value)
                else f" (interaction, exploratory: p {words.p_value(p_value)})"
            )
            table.group(str(variable).replace("_", " ") + test)
        for row in own.itertuples():
            table.add(row.level, f"{row.n:,}", f"{row.n_events:,}", *_cells(row, paired))
    few = "events" if words.is_survival(run) else "patients of either class"
    table.notes.append(
        f"95% intervals in brackets. Too few: under 10 {few}. Patients with a missing value are "
        "left out of that variable."
    )
    if paired:
        table.notes.append(
            "Interaction: whether the differences are equal across the levels that are measured "
            "(chi-squared, one degree of freedom less than levels)."
        )
    table.notes += report_pretraining.notes(run, [first["feature_set"]])
    return table


def _cells(row, paired):
    n_cells = 4 if paired else 2
    if row.too_few:
        return ["too few", *[""] * (n_cells - 1)]
    cells = [words.interval(row.estimate, row.lower, row.upper)]
    if paired:
        ends = row.baseline_lower, row.baseline_upper
        cells.append(words.interval(row.baseline_estimate, *ends))
        ends = row.difference_lower, row.difference_upper
        cells.append(words.interval(row.difference, *ends, sign=True))
    ends = row.observed_expected_lower, row.observed_expected_upper
    return [*cells, words.interval(row.observed_expected, *ends, decimals=2)]
