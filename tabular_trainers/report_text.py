"""The words of the report: what was asked, the verdict, the probes and the captions."""

from tabular_trainers import plots_labels as words
from tabular_trainers import report_entry, report_pretraining
from tabular_trainers.errors import count

BANNER = (
    "Contains patient-level points and counts under 5. Not cleared for release: keep this file, "
    "its figures and its tables where the data are until they have passed a disclosure check."
)


DEATHS_CENSORED = (
    "If patients who die without this event count as censored here, the curves and probabilities "
    "are those of a world in which nobody dies before the event, and are higher than the share of "
    "patients who will have it. This is said because name and event of the endpoint do not mean "
    "death from any cause; disregard it where deaths count as events."
)
NET_BENEFIT = (
    "Read the figure at the thresholds at which one would act: the highest line there does most "
    "good, counted in true positives per patient after each false positive is charged at the odds "
    "of the threshold (at 20%: a quarter of a true positive); a model below 'treat all' or 'treat "
    "nobody' is of no use there."
)


def sample_size(run):
    """Say how the number of patients compares with Riley's minimum; None without the facts."""
    rows = {row["feature_set"]: row for row in run.get("sample_size") or []}
    if not rows:
        return None
    name = run.get("full") if run.get("full") in rows else next(iter(rows))
    row = rows[name]
    enough = run["n_patients"] >= row["patients"]
    return (
        f"A regression model of {words.feature_set_words(name)} may estimate "
        f"{count(row['n_parameters'], 'parameter')}, with "
        f"{words.number(row['events_per_parameter'], 1)} events for each; Riley's rule asks for "
        f"{count(row['patients'], 'patient')}, and {run['n_patients']:,} were analysed: "
        + (
            "enough by this rule."
            if enough
            else "too few by this rule, so its predictions have to be expected to be too extreme "
            "unless the model is penalised, and to be unstable even then."
        )
    )


def checklist(tables):
    """Say how much of the TRIPOD+AI checklist the run could fill."""
    rows = tables.get("tripod_ai")
    if rows is None or rows.empty:
        return None
    n = rows["status"].value_counts()
    return (
        f"Of {len(rows)} points the run filled {n.get('filled', 0)} and partly filled "
        f"{n.get('partly filled', 0)}; {n.get('for the author', 0)} are left for the author. "
        "Points are in our words: the guideline itself (Collins et al., BMJ 2024;385:e078378) is "
        "what a journal asks for."
    )


def question(run):
    """Say what was asked, in one or two sentences."""
    endpoint, primary = run["endpoint"], run.get("primary")
    subject = f"{endpoint['name']} ({endpoint['description']})"
    told = f"In {words.cohort_phrase(run)} ({run['title']})"
    if primary:
        return (
            f"{told}: does {words.feature_set_words(primary['feature_set'])} predict {subject} "
            f"better than {words.feature_set_words(primary['baseline_feature_set'])} alone?"
        )
    sets = " or ".join(words.feature_set_words(name) for name in run["feature_sets"])
    return f"{told}: how well does {sets} predict {subject}?"


def verdict(tables, run):
    """Return the verdict: what it reads, a headline and sentences with the numbers."""
    primary, given = run.get("primary"), run.get("verdict")
    if not primary or not given:
        if not run.get("baseline"):
            why = "there is no clinical feature set among those of the run to compare with"
        elif len(run["feature_sets"]) < 2:
            why = "only one feature set was run, so there is nothing to compare it with"
        else:
            why = "no primary comparison was named before the run"
        return {
            "reads": "none",
            "headline": f"No verdict: {why}.",
            "sentences": [_estimates(tables, run, [_main_pair(run)]), *_warnings(run)],
        }
    sets = [words.feature_set_words(primary[k]) for k in ("feature_set", "baseline_feature_set")]
    name = run["endpoint"]["name"]
    headlines = {
        "adds": f"Adds: {sets[0]} predicts {name} better than {sets[1]} alone.",
        "worse": f"Worse: {sets[0]} predicts {name} less well than {sets[1]} alone.",
    }
    default = f"Not shown: these patients do not show that {sets[0]} predicts {name} better than "
    metric = words.metric_words(primary["metric"])
    difference = words.interval(
        given.get("difference"), given.get("lower"), given.get("upper"), sign=True
    )
    pairs = [
        (primary["feature_set"], primary["model"]),
        (primary["baseline_feature_set"], primary["baseline_model"]),
    ]
    sentences = [
        f"Difference in {metric}: {difference}, 95% interval in brackets.",
        _estimates(tables, run, pairs),
    ]
    if given["reads"] not in headlines:
        sentences.append(
            "The interval holds both signs: a gain is not shown, nor is it shown that there is "
            "none."
        )
    sentences += _warnings(run)
    return {
        "reads": given["reads"],
        "headline": headlines.get(given["reads"], f"{default}{sets[1]} alone."),
        "sentences": [sentence for sentence in sentences if sentence],
    }


def _warnings(run):
    """Say what stands against every number of the report."""
    invalid = report_entry.invalid(run)
    seen = report_pretraining.told(run, [_main_pair(run)[0]])
    return [invalid, *seen] if invalid else seen


def _main_pair(run):
    chosen = run.get("primary_model") or {}
    feature_set = chosen.get("feature_set", run["feature_sets"][-1])
    return feature_set, chosen.get("model", run["models"][0])


def _estimates(tables, run, pairs):
    """Say the measure of the verdict of some feature sets and models."""
    metric = words.main_metric(run)
    rows = tables["metrics"]
    rows = rows[rows["fold"].isna() & rows["repeat"].isna() & (rows["metric"] == metric)]
    told = []
    for feature_set, model in pairs:
        own = rows[(rows["feature_set"] == feature_set) & (rows["model"] == model)]
        if len(own):
            row = own.iloc[0]
            value = words.interval(row["estimate"], row["lower"], row["upper"])
            told.append(f"{value} for {words.pair_words(run, feature_set, model)}")
    return f"{words.metric_words(metric)}: {'; '.join(told)}." if told else ""


PROBES = {
    "site_alone": (
        "Does the site alone predict the outcome?",
        "Folds that mix patients at random; without a hospital effect 0.5 is expected.",
    ),
    "site_leak": (
        "How much would mixing hospitals between training and test flatter each feature set?",
        "Measure on folds that mix patients at random, minus that on folds that keep sites whole.",
    ),
    "site_from_block": (
        "Can the site be told from a block?",
        "Where it can, a model may learn the hospital in place of the disease.",
    ),
    "permuted_outcome": (
        "Does the procedure find something where nothing is?",
        "Outcomes were shuffled between patients: 0.5 is expected. Flagged where the mean lies "
        "more than 3 standard errors from it; the interval is as wide.",
    ),
    "cancer_type_alone": (
        "Does the cancer type alone predict the outcome?",
        "Where types differ in outcome, features that merely tell types apart seem to predict it.",
    ),
    "across_cancer_types": (
        "How well does each feature set predict across the cancer types?",
        "All pairs of patients within a fold.",
    ),
    "within_cancer_type": (
        "And within a cancer type?",
        "Only pairs of patients of one type, within a fold: telling types apart does not count.",
    ),
}


def probes(tables):
    """Return the probes in words: question, explanation, one line a subject, and how to read it."""
    rows = tables.get("probes")
    told = []
    for name, (asked, meaning) in PROBES.items():
        own = None if rows is None else rows[rows["probe"] == name]
        if own is None or own.empty:
            if "cancer_type" in name:
                continue  # of one type there is nothing to say
            why = (
                "Not probed: no site is named in cohort.toml." if "site" in name else "Not probed."
            )
            told.append({"question": asked, "meaning": why, "lines": [], "notes": []})
            continue
        lines = []
        marks = own["flagged"].astype("boolean").fillna(False)
        for row, flagged in zip(own.itertuples(), marks, strict=True):
            value = words.interval(row.estimate, row.lower, row.upper, sign=name == "site_leak")
            value = value.removesuffix(f" ({words.NO_VALUE})")
            metric = words.metric_words(row.metric)
            line = f"{words.feature_set_words(row.subject).replace('_', ' ')}: {metric} {value}"
            if not words.is_missing(row.expected):
                line += f"; expected {words.number(row.expected, 2).removesuffix('.00')}"
            lines.append(line + ("; flagged" if flagged else ""))
        notes = list(dict.fromkeys(str(note) for note in own["note"] if str(note)))
        told.append({"question": asked, "meaning": meaning, "lines": lines, "notes": notes})
    return told


def log_rank(run):
    """Say the log-rank test of the primary model's thirds, labelled descriptive; None without."""
    chosen = run.get("primary_model") or {}
    for row in run.get("log_rank") or []:
        if all(row.get(key) == chosen.get(key) for key in ("feature_set", "model")):
            p = words.p_value(row.get("p_value"))
            p = p if p.startswith("<") else f"= {p}"
            return f"Log-rank test of the thirds, stratified by fold, descriptive: p {p}."
    return None


def captions(tables, run):
    """Return what is said under each figure, by the name of the figure."""
    unit = run["endpoint"].get("unit")
    year = words.YEAR.get(unit)
    converted = f" One year is {year:.6g} {unit}." if year and year != 1 else ""
    chosen = run.get("primary_model") or {}
    sampled = (run.get("shap_kinds") or {}).get(chosen.get("model")) == "sampled"
    shap = tables.get("shap")
    patients = ""
    if shap is not None and len(shap):
        own = shap[
            (shap["feature_set"] == chosen.get("feature_set"))
            & (shap["model"] == chosen.get("model"))
        ]
        patients = f"{count(own['patient_id'].nunique(), 'held-out patient')}. "
    kind = "Sampled estimates, seeded. " if sampled else ""
    folds = "Thirds are formed within each test fold, because risks of different folds are not "
    folds += "comparable; the grouping is descriptive."
    pair = (chosen.get("feature_set"), chosen.get("model"))
    seen = report_pretraining.caption(run)
    of_all = report_entry.curves_start(tables, run, "overall")
    seen_primary = "".join(f" {sentence}" for sentence in report_pretraining.told(run, pair[:1]))
    of_thirds = report_entry.curves_start(tables, run, "thirds", pair)
    return {
        "for_whom": "The primary model in groups of patients, pairs of patients within a fold and "
        "group; 95% intervals. Dashed line: no better than chance. Solid line: no difference to "
        f"the baseline.{seen_primary}",
        "patient_flow": "Patients from the tables to the analysis. Steps that dropped nobody are "
        "left out.",
        "follow_up": "Kaplan-Meier estimate of all patients (a) and reverse Kaplan-Meier "
        "estimate of follow-up, in which an event ends the follow-up as censoring (b); bands: "
        f"95%.{converted}{of_all}",
        "discrimination": f"{words.metric_words(words.main_metric(run))} on held-out patients. "
        + (
            "Open symbols: baseline; dashed line: the baseline's estimate. "
            if run.get("baseline")
            else ""
        )
        + (
            f"'{words.SELECTED.capitalize()}': in each fold the model that did best on the inner "
            "folds of the training part."
            if len(run["models"]) > 1
            else ""
        )
        + seen,
        "differences": "Differences on the same patients. p: of the primary comparison as it is, "
        f"of exploratory ones adjusted after Holm.{seen}",
        "risk_thirds": f"{folds} Bands: 95%.{converted}{of_thirds}",
        "risk_thirds_grid": folds
        + (" Each panel starts where its own numbers at risk allow it." if of_thirds else ""),
        "calibration": "Each point is a fifth of the patients by predicted risk (a third with "
        "fewer than 50 events by the horizon), with 95% interval; dashed: perfect calibration. "
        "O/E: observed over expected events; ICI: integrated calibration index."
        f"{report_entry.calibration(run)}",
        "calibration_grid": "As above, for every feature set and model.",
        "decision_curve": (
            "Net benefit at the largest horizon, all folds together; bands: 95%."
            f"{report_entry.net_benefit(run)}"
            if words.is_survival(run)
            else "Net benefit, all folds together; bands: 95%."
        ),
        "contributions": f"{patients}{kind}Each point is one held-out patient. Colour: rank of the "
        "patient's value within the feature; grey crosses: text, missing values and sums of "
        "features. Components (pc01 and so on) are fitted anew in each fold, so their colours do "
        "not carry over from fold to fold.",
        "block_contributions": f"{kind}Sums over the features of each block, held-out patients.",
    }
