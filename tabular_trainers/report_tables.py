"""The tables of the report, as rows of text; every number was computed before."""

from dataclasses import dataclass, field

from tabular_trainers import plots_labels as words
from tabular_trainers import report_clusters, report_pretraining
from tabular_trainers.errors import count
from tabular_trainers.report_pretraining import mark

VARIABLES_SHOWN = 60  # of Table 1; the rest stays in table_one.parquet
LARGE_DIFFERENCE = 0.1  # Austin 2009: a standardised difference above it may matter


@dataclass
class Table:
    """A table of text: rows are {"group": text} or those of `add`."""

    name: str
    caption: str
    columns: list
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    numbers: bool = False  # cells are not broken into lines
    sortable: bool = False  # by a click on a heading, where the page has the script for it

    def add(self, *cells, strong=False, link=None):
        """Add a row; its first cell is the row's header, which may be a link."""
        self.rows.append({"cells": [str(cell) for cell in cells], "strong": strong, "link": link})

    def group(self, text):
        """Start a group of rows."""
        self.rows.append({"group": text})


def table_one(tables, run):
    """Return the characteristics of the patients, kept against dropped, one table a block.

    Returns
    -------
    list of Table
        That of the baseline's block first.
    """
    rows = tables.get("table_one")
    if rows is None or rows.empty:
        return []
    first = (run.get("baseline") or run.get("full") or "").split("+")
    blocks = sorted(dict.fromkeys(rows["block"]), key=lambda block: block not in first)
    return [_characteristics(rows[rows["block"] == block], block) for block in blocks]


def _characteristics(rows, block):
    dropped = bool((rows["part"] == "dropped").any())
    columns = ["Characteristic", "Analysed", "Analysed: missing"]
    if dropped:
        columns += ["Dropped", "Dropped: missing", "Standardised difference"]
    caption = f"Characteristics of the patients, {block}"
    caption += ": analysed against dropped" if dropped else ""
    table = Table(f"table-one-{slug(block)}", caption, columns, numbers=True)
    by_variable = {}
    for row in rows.astype(object).where(rows.notna(), None).to_dict("records"):
        by_variable.setdefault(row["variable"], []).append(row)
    for variable in list(by_variable)[:VARIABLES_SHOWN]:
        _add_variable(table, variable, by_variable[variable], dropped)
    table.notes.append("Median (quartiles), or number of patients (percent of those known).")
    if dropped:
        table.notes.append(
            "Standardised difference: analysed minus dropped, in pooled standard deviations; "
            f"* above {LARGE_DIFFERENCE} in size, where leaving patients out may matter."
        )
    if len(by_variable) > VARIABLES_SHOWN:
        table.notes.append(
            f"The first {VARIABLES_SHOWN} of {len(by_variable):,} characteristics; all are in "
            "table_one.parquet."
        )
    return table


def slug(name):
    """Turn a name into an id of the page: other characters become their code."""
    return "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" for c in name)


def _add_variable(table, variable, rows, dropped):
    levels = list(dict.fromkeys(row["level"] for row in rows))
    by_level = {(row["level"], row["part"]): row for row in rows}
    for position, level in enumerate(levels):
        kept, lost = by_level.get((level, "kept")), by_level.get((level, "dropped"))
        if level is None:
            name = variable
        else:
            name = f"{variable}: {level}"
        cells = [name, _text(kept), _missing(kept, position)]
        if dropped:
            value = (kept or lost)["standardised_difference"]
            large = value is not None and abs(value) > LARGE_DIFFERENCE
            difference = words.number(value, 2) + (" *" if large else "")
            cells += [_text(lost), _missing(lost, position), difference]
        table.add(*cells)


def _text(row):
    return words.NO_VALUE if row is None else row["text"]


def _missing(row, position):
    """Show the number missing once a variable."""
    return "" if position or row is None else f"{row['n_missing']:,}"


def fold_table(tables, run):
    """Return the sizes of the folds, with the measure of the verdict in each."""
    sizes = run.get("fold_sizes") or []
    if not sizes:
        return None
    name = words.metric_words(words.main_metric(run))
    events = "events" if words.is_survival(run) else "positive"
    columns = ["Fold", "Train: patients", f"Train: {events}", "Test: patients", f"Test: {events}"]
    sites = any(not words.is_missing(row.get("sites_test")) for row in sizes)
    repeats = len({row["repeat"] for row in sizes}) > 1
    columns += ["Sites tested", "Sites in both parts"] if sites else []
    pairs = _fold_pairs(run)
    columns += [f"{name}, {what}" for what, _, _ in pairs]
    table = Table("folds", "The folds", columns)
    metrics = tables["metrics"]
    per_fold = metrics[metrics["fold"].notna() & (metrics["metric"] == words.main_metric(run))]
    values = {
        (row.feature_set, row.model, int(row.repeat), int(row.fold)): row.estimate
        for row in per_fold.itertuples()
    }
    for row in sizes:
        repeat, fold = int(row["repeat"]), int(row["fold"])
        cells = [f"{repeat + 1}.{fold + 1}" if repeats else f"{fold + 1}"]
        cells += [f"{int(row[k]):,}" for k in ("n_train", "events_train", "n_test", "events_test")]
        if sites:
            cells += [count_words(row.get("sites_test")), count_words(row.get("shared_sites"))]
        cells += [words.number(values.get((s, m, repeat, fold))) for _, s, m in pairs]
        table.add(*cells)
    for what, feature_set, model in pairs:
        pair = words.pair_words(run, feature_set, model)
        table.notes.append(f"{what.capitalize()}: {pair}{mark(run, feature_set)}.")
    table.notes += report_pretraining.notes(run, [feature_set for _, feature_set, _ in pairs])
    if repeats:
        table.notes.append("Fold 2.3 is the third fold of the second repeat.")
    return table


def count_words(value):
    """Write a count; a dash when it is missing."""
    return words.NO_VALUE if words.is_missing(value) else f"{int(value):,}"


def _fold_pairs(run):
    primary = run.get("primary")
    if primary:
        return [
            ("primary", primary["feature_set"], primary["model"]),
            ("baseline", primary["baseline_feature_set"], primary["baseline_model"]),
        ]
    chosen = run.get("primary_model")
    return [("primary", chosen["feature_set"], chosen["model"])] if chosen else []


def horizon_table(tables, run):
    """Return patients at risk and events at each horizon."""
    horizons = run.get("horizons") or []
    if not horizons:
        return None
    at_risk = {float(k): v for k, v in (run.get("numbers_at_risk") or {}).items()}
    columns = ["Horizon", "Patients still at risk", "Events by then"]
    table = Table("horizons", "Horizons", columns)
    rows = tables["metrics"]
    for horizon in horizons:
        own = rows[(rows["horizon"] == horizon) & rows["fold"].isna() & rows["repeat"].isna()]
        # measures at a landmark are of fewer patients
        events = f"{int(own['n_events'].max()):,}" if len(own) else words.NO_VALUE
        exact = words.horizon_words(horizon, run["endpoint"].get("unit"))
        table.add(exact, count_words(at_risk.get(float(horizon))), events)
    if run.get("tau"):
        tau = words.horizon_words(run["tau"], run["endpoint"].get("unit"))
        table.notes.append(f"tau, the end of Uno's C and of the integrated Brier score: {tau}.")
    return table


def sample_size_table(run):
    """Return parameters, events per parameter and Riley's minimum of each feature set."""
    rows = run.get("sample_size") or []
    if not rows:
        return None
    columns = ["Feature set", "Columns", "Parameters", "Events per parameter", "Patients needed"]
    table = Table("sample-size", "Candidate parameters and Riley's minimum sample size", columns)
    for row in rows:
        table.add(
            words.feature_set_words(row["feature_set"]),
            f"{row['n_columns']:,}",
            f"{row['n_parameters']:,}",
            words.number(row["events_per_parameter"], 1),
            f"{row['patients']:,}",
            strong=row["feature_set"] == run.get("full"),
        )
    model = words.model_words(run, run["models"][0])
    table.notes.append(
        f"Columns: after encoding. Parameters: columns and components that {model} is fitted on, "
        "all patients together (the most components that were tried); a category with k levels "
        "counts k - 1."
    )
    known = "overall risk" if words.is_survival(run) else "share of positives"
    rarer = "" if words.is_survival(run) else " Events: the rarer class."
    table.notes.append(
        "Patients needed: for an expected shrinkage of 0.9, an optimism of 0.05 in Nagelkerke's R2 "
        f"and the {known} known within 0.05, by a regression without a penalty that reaches 15% of "
        f"the largest R2 (Riley et al., BMJ 2020;368:m441). Trees need more.{rarer}"
    )
    return table


def checklist_table(tables):
    """Return the TRIPOD+AI checklist, a group a section."""
    rows = tables.get("tripod_ai")
    if rows is None or rows.empty:
        return None
    columns = ["Item", "What to report", "Status", "What the run knows"]
    table = Table("tripod-ai", "TRIPOD+AI checklist", columns)
    section = None
    for row in rows.itertuples():
        if row.section != section:
            section = row.section
            table.group(section)
        asked = f"{row.topic}: {row.description[0].lower()}{row.description[1:]}"
        text = "" if words.is_missing(row.text) else row.text
        table.add(row.item, asked, row.status, text)
    return table


def pairs_of(rows, run):
    """Return {feature set: models} in the order of the run."""
    found = {}
    present = set(zip(rows["feature_set"], rows["model"], strict=True))
    for feature_set in dict.fromkeys([*run["feature_sets"], *rows["feature_set"]]):
        models = dict.fromkeys([*run["models"], "selected", *rows["model"]])
        own = [model for model in models if (feature_set, model) in present]
        if own:
            found[feature_set] = own
    return found


def block_table(tables, run):
    """Return the mean absolute contribution of each block, for every feature set and model."""
    rows = tables.get("shap_blocks")
    if rows is None or rows.empty:
        return None
    blocks = list(dict.fromkeys(rows["block"]))
    columns = ["Feature set, model", "Explained patients", *blocks]
    table = Table("block-sizes", "Mean absolute contribution of each block", columns)
    single = rows["model"].nunique() == 1
    if single:
        model = words.model_words(run, rows["model"].iloc[0])
        table.caption, table.columns[0] = f"{table.caption}, {model}", "Feature set"
    by_pair = dict(iter(rows.groupby(["feature_set", "model"])))
    for feature_set, models in pairs_of(rows, run).items():
        heading = words.feature_set_words(feature_set)
        if not single:
            table.group(heading)
        for model in models:
            own = by_pair[(feature_set, model)]
            sizes = own["contribution"].abs().groupby(own["block"]).mean()
            total = sizes.sum() or 1.0
            cells = [
                f"{words.magnitude(sizes[block])} ({sizes[block] / total:.0%})"
                if block in sizes
                else ""
                for block in blocks
            ]
            sampled = (run.get("shap_kinds") or {}).get(model) == "sampled"
            patients = f"{own['patient_id'].nunique():,}{' †' if sampled else ''}"
            table.add(heading if single else words.model_words(run, model), patients, *cells)
    scales = run.get("contribution_scales") or {}
    told = "; ".join(
        f"{words.model_words(run, m)}: {scales[m]}" for m in run["models"] if m in scales
    )
    if run.get("late_fusion"):
        told += f"; late fusion: {run['late_fusion']['contribution_scale']}"
    table.notes.append(
        f"Share of the row in brackets. Compare within a row only: scales differ ({told})."
    )
    if any(kind == "sampled" for kind in (run.get("shap_kinds") or {}).values()):
        table.notes.append("† Contributions of this model are sampled estimates.")
    return table


def block_facts(tables, run):
    """Return the blocks of the run: columns, pooling and reduction."""
    blocks = run.get("blocks") or {}
    if not blocks:
        return None
    table = Table(
        "blocks", "The blocks", ["Block", "Columns", "Several rows a patient", "Reduction"]
    )
    for name, block in blocks.items():
        reduction = block.get("reduce") or {}
        told = ", ".join(f"{k.upper()} to {v} components" for k, v in reduction.items() if v)
        if "clusters" in reduction:
            told = f"{reduction['clusters']} clusters of patches, made inside each training part"
        if block.get("default_components"):
            told = f"PCA to {block['default_components']} components (default of a wide block)"
            tuned = block.get("components_tuned_by") or []
            if tuned:
                names = " and ".join(words.model_words(run, model) for model in tuned)
                told += f"; {names}: their number is tuned"
        pool = block.get("pool")
        pooled = f"pooled: {pool}" if pool else "not pooled"
        pooled = "shares of patches" if "clusters" in reduction else pooled
        table.add(name, f"{block['n_columns']:,}", pooled, told or "none")
    table.notes += report_clusters.matches(tables, run) + report_pretraining.of_blocks(run)
    return table


def version_table(run):
    """Return versions, seeds and hashes."""
    table = Table("versions", "Versions and seeds", ["What", "Value"])
    table.add("tabular-trainers", run.get("package_version", words.NO_VALUE))
    for name, version in (run.get("versions") or {}).items():
        table.add(name, version)
    table.add("seed", run.get("seed", words.NO_VALUE))
    if run.get("n_resamples") is not None:
        table.add("resamples of the bootstrap", count(run["n_resamples"], "resample"))
    table.add("hash of the configuration (sha256)", run.get("config_hash", words.NO_VALUE))
    table.add("hash of the input (sha256)", run.get("source_hash", words.NO_VALUE))
    for name, value in (run.get("timings") or {}).items():
        number = value if isinstance(value, str) else f"{value:,.4g}"
        table.add(f"timing: {name}", number)
    return table
