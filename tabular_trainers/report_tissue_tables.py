"""The tables of the page on the tissue behind a risk, as rows of text."""

from tabular_trainers import plots_labels as words
from tabular_trainers.cluster_names import full_name
from tabular_trainers.plots_tissue import PREDICTORS
from tabular_trainers.report_tables import Table
from tabular_trainers.tissue_words import adjusted_words

FILES = (
    ("tissue_clusters.parquet", "a row a cluster: prevalence, ratios, site, artefacts"),
    ("prevalence.parquet", "share of each patient's patches in each cluster; descriptive"),
    ("composition.parquet", "the same by the names of clusters, where there are any"),
    ("patches/SLIDE.parquet", "cluster of every patch, and what it adds to the risk"),
    ("cluster_names.csv", "for a pathologist to fill in, and to give with --names"),
)


def variance_table(tables):
    """Return R-squared of clusters, clinical columns and both."""
    table = Table(
        "variance", "Variance of the risk that is explained",
        ["Predictors", "R-squared (95% interval)", "Patients", "Columns"],
    )  # fmt: skip
    for row in tables["tissue_variance"].itertuples():
        table.add(
            PREDICTORS[row.predictors],
            words.interval(row.r_squared, row.lower, row.upper),
            f"{row.n:,}",
            f"{row.n_columns:,}",
        )
    table.notes.append(
        "Cross-validated ridge regression on the folds of the run; below 0 where it predicts worse "
        "than the mean would."
    )
    return table


def cluster_table(tables, facts):
    """Return every cluster, from the highest to the lowest ratio."""
    ratio = "Hazard ratio" if words.is_survival(facts) else "Odds ratio"
    sites = tables["tissue_clusters"]["site_auc"].notna().any()
    columns = ["Cluster", "Patients", "Median share (quartiles)", "Spearman", f"{ratio} alone",
               f"{ratio} adjusted", "FDR"]  # fmt: skip
    columns += ["Site AUC"] if sites else []
    table = Table("clusters", "The clusters", [*columns, "Ink", "Blur", "Mark"])
    rows = tables["tissue_clusters"].sort_values("adjusted_ratio", ascending=False, kind="stable")
    for row in rows.itertuples():
        share = f"{row.prevalence_median:.1%} ({row.prevalence_lower:.1%} to "
        cells = [
            full_name(row.cluster, facts["names"]),
            f"{row.n_patients:,}",
            f"{share}{row.prevalence_upper:.1%})",
            words.number(row.spearman, 2),
            words.interval(row.ratio, row.lower, row.upper, 2),
            words.interval(row.adjusted_ratio, row.adjusted_lower, row.adjusted_upper, 2),
            words.p_value(row.adjusted_fdr),
        ]
        if sites:
            auc = words.number(row.site_auc, 2)
            cells.append(auc if words.is_missing(row.site) else f"{auc} ({row.site})")
        artefact = words.NO_VALUE if words.is_missing(row.artefact) else f"{row.artefact:.0%}"
        mark = row.flag or ("prognostic" if row.prognostic else row.note or "")
        table.add(*cells, artefact, words.number(row.blur, 2), mark, strong=row.prognostic)
    table.notes.append(
        f"Ratios: one standard deviation more of the share. Adjusted: {adjusted_words(facts)}. "
        "FDR: false discovery rate of the adjusted ratio over all clusters tested. Spearman: rank "
        "correlation of share and risk within test folds."
        + (" Site AUC: of the site that the share tells best." if sites else "")
    )
    return table


def score_table(scores, analysis, facts):
    """Return C of the models of one analysis, or None where there are none."""
    rows = scores[scores["analysis"] == analysis]
    if rows.empty:
        return None
    metric = words.metric_words(rows["metric"].iloc[0])
    caption = {
        "forward selection": "Clinical columns, and with up to five clusters chosen in training",
        "without flagged": "With and without flagged clusters",
    }[analysis]
    table = Table(
        analysis.replace(" ", "-"), f"{caption}: {metric} of patients held out",
        ["Predictors", f"{metric} (95% interval)", "Difference (95% interval)", "p"],
    )  # fmt: skip
    for row in rows.itertuples():
        ends = row.difference_lower, row.difference_upper
        change = words.interval(row.difference, *ends, sign=True)
        if words.is_missing(row.difference):
            change = "reference"
        table.add(
            row.model, words.interval(row.estimate, row.lower, row.upper), change,
            words.p_value(row.p_value),
        )  # fmt: skip
    first = rows.iloc[0]
    table.notes.append(
        f"{words.cohort_words(facts, first['n'], first['n_events'])}. Clusters are made anew in "
        f"each training part. Intervals: {first['method']}."
    )
    return table


def frequency_table(tables, facts):
    """Return how often each cluster was chosen, or None where none was."""
    rows = tables["tissue_selection"]
    if rows.empty:
        return None
    table = Table(
        "selection", "Clusters chosen in the training parts",
        ["Reference cluster", "Chosen in", "Median ratio", "Mean step"],
    )  # fmt: skip
    for row in rows.itertuples():
        table.add(
            full_name(row.cluster, facts["names"]),
            f"{row.n_selected} of {row.n_folds} parts",
            words.number(row.ratio, 2),
            words.number(row.mean_step, 1),
        )
    table.notes.append(
        "Names are those of the reference clusters that the parts' own clusters were matched with."
    )
    return table


def occlusion_table(tables, facts):
    """Return how the risk changes without each cluster, where maps are approximate."""
    rows = tables.get("cluster_occlusion")
    if rows is None or rows.empty:
        return None
    table = Table(
        "occlusion", "Risk with a cluster's patches minus that without: approximate",
        ["Cluster", "Patients", "Mean change", "Mean size of the change"],
    )  # fmt: skip
    known = rows[rows["change"].notna() & (rows["share"] > 0)]
    changes = known.groupby("cluster")["change"].agg(["size", "mean"])
    changes["extent"] = known["change"].abs().groupby(known["cluster"]).mean()
    for row in changes.sort_values("extent", ascending=False, kind="stable").itertuples():
        table.add(
            full_name(row.Index, facts["names"]), f"{row.size:,}", words.number(row.mean, 3, True),
            words.number(row.extent),
        )  # fmt: skip
    table.notes.append("Changes of several clusters do not add up.")
    return table


def match_table(tables, facts):
    """Return how well each reference cluster was met in the training parts."""
    rows = tables["tissue_matches"]
    n_parts = rows[["repeat", "fold"]].drop_duplicates().shape[0]
    table = Table(
        "matches", "Reference clusters met in the training parts",
        ["Reference cluster", "Matched in", "Mean quality", "Lowest"],
    )  # fmt: skip
    quality = rows.dropna(subset="matched").groupby("matched")["quality"]
    found = quality.agg(["size", "mean", "min"]).sort_values("mean", kind="stable")
    for row in found.itertuples():
        table.add(
            full_name(row.Index, facts["names"]), f"{row.size} of {n_parts} parts",
            words.number(row.mean, 2), words.number(row.min, 2),
        )  # fmt: skip
    return table


def file_table(tables):
    """Return what else lies in the folder."""
    table = Table("files", "Files beside this page", ["File", "What"])
    for name, what in FILES:
        table.add(name, what)
    others = [name for name in sorted(tables) if name != "tissue_clusters"]
    table.add(
        "further tables", f"{', '.join(others)}: 'tabular-trainers schema NAME' explains them"
    )
    return table
