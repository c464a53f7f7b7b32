"""The methods of a run, written out for a paper, with the references that they cite."""

from tabular_trainers import plots_labels as words
from tabular_trainers import report_clusters, report_entry
from tabular_trainers.comparison import CORRECTED_T
from tabular_trainers.errors import count

INTERVALS = (
    "Intervals (95%) are for the fitted models given these patients. They leave out training "
    "variation, that is, how much the models would differ had they been trained on other "
    "patients."
)
REFERENCES = {
    "harrell": "Harrell FE, Lee KL, Mark DB. Multivariable prognostic models. Stat Med "
    "1996;15:361-387.",
    "uno_c": "Uno H, Cai T, Pencina MJ, D'Agostino RB, Wei LJ. On the C-statistics for evaluating "
    "overall adequacy of risk prediction procedures with censored survival data. Stat Med "
    "2011;30:1105-1117.",
    "uno_auc": "Uno H, Cai T, Tian L, Wei LJ. Evaluating prediction rules for t-year survivors "
    "with censored regression models. J Am Stat Assoc 2007;102:527-537.",
    "graf": "Graf E, Schmoor C, Sauerbrei W, Schumacher M. Assessment and comparison of prognostic "
    "classification schemes for survival data. Stat Med 1999;18:2529-2545.",
    "calibration": "Van Calster B, McLernon DJ, van Smeden M, Wynants L, Steyerberg EW. "
    "Calibration: the Achilles heel of predictive analytics. BMC Med 2019;17:230.",
    "ici": "Austin PC, Harrell FE, van Klaveren D. Graphical calibration curves and the integrated "
    "calibration index (ICI) for survival models. Stat Med 2020;39:2714-2742.",
    "ici_binary": "Austin PC, Steyerberg EW. The integrated calibration index (ICI) and related "
    "metrics for quantifying the calibration of logistic regression models. Stat Med "
    "2019;38:4051-4065.",
    "decision": "Vickers AJ, Elkin EB. Decision curve analysis: a novel method for evaluating "
    "prediction models. Med Decis Making 2006;26:565-574.",
    "decision_survival": "Vickers AJ, Cronin AM, Elkin EB, Gonen M. Extensions to decision curve "
    "analysis, a novel method for evaluating diagnostic tests, prediction models and molecular "
    "markers. BMC Med Inform Decis Mak 2008;8:53.",
    "riley": "Riley RD, Ensor J, Snell KIE, et al. Calculating the sample size required for "
    "developing a clinical prediction model. BMJ 2020;368:m441.",
    "kaplan_meier": "Kaplan EL, Meier P. Nonparametric estimation from incomplete observations. "
    "J Am Stat Assoc 1958;53:457-481.",
    "follow_up": "Schemper M, Smith TL. A note on quantifying follow-up in studies of failure "
    "time. Control Clin Trials 1996;17:343-346.",
    "auroc": "Hanley JA, McNeil BJ. The meaning and use of the area under a receiver operating "
    "characteristic (ROC) curve. Radiology 1982;143:29-36.",
    "auprc": "Saito T, Rehmsmeier M. The precision-recall plot is more informative than the ROC "
    "plot when evaluating binary classifiers on imbalanced datasets. PLoS One 2015;10:e0118432.",
    "brier": "Brier GW. Verification of forecasts expressed in terms of probability. Mon Weather "
    "Rev 1950;78:1-3.",
    "crowson": "Crowson CS, Atkinson EJ, Therneau TM. Assessing calibration of prognostic risk "
    "scores. Stat Methods Med Res 2016;25:1692-1706.",
    "bootstrap": "Efron B, Tibshirani RJ. An introduction to the bootstrap. Chapman & Hall, 1993.",
    "jackknife": "Therneau TM, Watson DA. The concordance statistic and the Cox model. Technical "
    "report 85, Mayo Clinic, 2015.",
    "corrected_t": "Nadeau C, Bengio Y. Inference for the generalization error. Mach Learn "
    "2003;52:239-281.",
    "holm": "Holm S. A simple sequentially rejective multiple test procedure. Scand J Stat "
    "1979;6:65-70.",
    "shap": "Lundberg SM, Lee SI. A unified approach to interpreting model predictions. Adv Neural "
    "Inf Process Syst 2017;30:4765-4774.",
    "kmeans": "Arthur D, Vassilvitskii S. k-means++: the advantages of careful seeding. Proc 18th "
    "ACM-SIAM Symposium on Discrete Algorithms 2007:1027-1035.",
    "hungarian": "Kuhn HW. The Hungarian method for the assignment problem. Nav Res Logist Q "
    "1955;2:83-97.",
    "sobol": "Owen AB. Scrambling Sobol' and Niederreiter-Xing points. J Complexity "
    "1998;14:466-489.",
    "stacking": "Wolpert DH. Stacked generalization. Neural Netw 1992;5:241-259.",
    "smd": "Austin PC. Balance diagnostics for comparing the distribution of baseline covariates "
    "between treatment groups in propensity-score matched samples. Stat Med 2009;28:3083-3107.",
    "tripod": "Collins GS, Moons KGM, Dhiman P, et al. TRIPOD+AI statement. BMJ 2024;385:e078378.",
}

METHOD_SOURCES = (("infinitesimal jackknife", "jackknife"), ("bootstrap", "bootstrap"))


def follow_up(run):
    """Say the median follow-up."""
    given = run.get("follow_up") or {}
    if words.is_missing(given.get("median")):
        return "The median follow-up (reverse Kaplan-Meier) is not reached or not known."
    unit = run["endpoint"].get("unit") or "time units"
    divisor, shown = words.time_axis(unit, given["median"])
    decimals = 1 if divisor != 1 else 0

    def scaled(value):
        return None if words.is_missing(value) else value / divisor

    exact = f" ({given['median']:,.6g} {unit})" if divisor != 1 else ""
    value = words.interval(*(scaled(given.get(k)) for k in ("median", "lower", "upper")), decimals)
    condition = words.given_alive(given.get("start"), run, "still followed")
    of = f", {condition}" if condition else ""
    return f"Median follow-up, reverse Kaplan-Meier{of}: {value} {shown}{exact}."


def citing():
    """Return a function that cites references by key, and the list of those cited so far."""
    cited = []

    def cite(*keys):
        for key in keys:
            if key not in cited:
                cited.append(key)
        return "[" + ",".join(str(cited.index(key) + 1) for key in keys) + "]"

    return cite, cited


def methods(tables, run):
    """Return the methods as paragraphs for a paper, and the references that they cite."""
    cite, cited = citing()
    parts = [_data(tables, run, cite), _folds(run, cite), _models(run, cite)]
    parts += [_measures(run, cite), _uncertainty(tables, run, cite), _contributions(run, cite)]
    software = ", ".join(
        f"{name} {version}" for name, version in (run.get("versions") or {}).items()
    )
    parts.append(
        f"Software: tabular-trainers {run.get('package_version', '')} with {software}; seed "
        f"{run.get('seed')}. What else a paper should report: TRIPOD+AI {cite('tripod')}."
    )
    return parts, [REFERENCES[key] for key in cited]


def _data(tables, run, cite):
    endpoint = run["endpoint"]
    kind = "time to an event" if words.is_survival(run) else "one of two classes"
    text = (
        f"We analysed {words.cohort_phrase(run)} ({run['title']}). The endpoint "
        f"{endpoint['name']} is {kind} ({endpoint['description']}); time zero is "
        f"{run['time_zero']}. "
    )
    if words.is_survival(run):
        text += f"{follow_up(run)[:-1]} {cite('follow_up')}. "
    if run.get("missing_blocks") == "impute":
        text += (
            "Patients without a block were kept: its columns were imputed, and an indicator of "
            "the missing block was given to every feature set, the baseline included. "
        )
    else:
        text += (
            "All feature sets were evaluated on the same patients, those with every block of the "
            "run. "
        )
    if run.get("sample_size"):
        text += (
            "The number of patients was compared with Riley's minimum for the candidate parameters "
            f"{cite('riley')}. "
        )
    described = tables.get("table_one")
    if described is not None and (described["part"] == "dropped").any():
        text += (
            "Analysed and dropped patients were compared by standardised differences "
            f"{cite('smd')}."
        )
    return text


def _folds(run, cite):
    return (
        f"Predictions are for held-out patients: {run.get('folds_note', 'cross-validation')}. "
        "Imputation, scaling, encoding, reduction of blocks, the choice of hyper-parameters and "
        "the choice between models were made inside the training part of each fold."
        f"{report_clusters.methods(run, cite)}"
        + (
            f" {run['holdout']['note']}; the saved models were measured on them once."
            if run.get("holdout")
            else ""
        )
    )


def _models(run, cite):
    labels = " and ".join(
        ", ".join(words.model_words(run, model) for model in part)
        for part in (run["models"][:-1], run["models"][-1:])
        if part
    )
    sets = "; ".join(words.feature_set_words(name) for name in run["feature_sets"])
    objective = "Harrell's C" if words.is_survival(run) else "AUROC"
    inner = (
        f"by the mean {objective} over three inner folds of the training part, sites kept whole "
        "where known"
    )
    text = f"Models: {labels}. Feature sets: {sets}. "
    alone = run.get("self_tuning") or {}
    searched = run.get("searched", [model for model in run["models"] if model not in alone])
    tuned = [words.model_words(run, model) for model in searched]
    if tuned:
        text += (
            f"Hyper-parameters of {' and '.join(tuned)} were chosen {inner}, in "
            f"{count(run.get('n_trials') or 0, 'trial')} each: the defaults, then points of a "
            f"scrambled Sobol sequence {cite('sobol')}, settled before any fit. "
        )
    for model, how in alone.items():
        text += f"{words.model_words(run, model)} chose {how}. "
    if run.get("tuning_seconds"):
        text += (
            f"Tuning stopped after {run['tuning_seconds']:g} seconds a model, so a slower machine "
            "may choose other hyper-parameters. "
        )
    text += _late_fusion(run, cite)
    if len(run["models"]) > 1:
        text += (
            f"'{words.SELECTED.capitalize()}' is, in each fold, the model with the best value on "
            "the inner folds of the training part; the test part had no say."
        )
    return text


def _late_fusion(run, cite):
    late = run.get("late_fusion")
    if not late:
        return ""
    combiner, scale = "logistic regression with an intercept for each inner fold", "log odds"
    if words.is_survival(run):
        combiner, scale = "Cox regression stratified by inner fold", "risks"
    lacking = ""
    if run.get("missing_blocks") == "impute":
        lacking = (
            " A patient without a block had 0, the mean, for its risk, and the indicators of "
            "missing blocks entered this regression."
        )
    return (
        "Late fusion: each block had a model of its own, tuned on the training part. Models of "
        f"{late['inner_folds']} inner folds, sites kept whole where known, gave the {scale} of the "
        "patients held out from them, standardised by the mean and the standard deviation that "
        f"each model gave its own training part; a {combiner} weighed them {cite('stacking')}, "
        "each coefficient with a standard normal prior, without the blocks that it would give a "
        "negative weight. The models of the blocks were then fitted on the whole training part and "
        f"standardised in the same way.{lacking} "
    )


def _measures(run, cite):
    unit = run["endpoint"].get("unit")
    rule = (
        "No measure compares patients of different folds, because their risks come from "
        "different models: pairs are formed within folds."
    )

    def slope():  # cited where it is said, so that references are numbered in reading order
        return (
            "Calibration is described by observed over expected events, the calibration slope "
            f"{cite('calibration')} and, with 50 events or more, the integrated calibration index "
            f"{cite('ici' if words.is_survival(run) else 'ici_binary')}"
        )

    if not words.is_survival(run):
        return (
            f"Discrimination was measured by the AUROC {cite('auroc')} and by the AUPRC, averaged "
            f"over folds with the number of positives as weight {cite('auprc')}; error by the "
            f"Brier score {cite('brier')} and the log loss, means over patients. {slope()}. Net "
            f"benefit over thresholds is of all patients together {cite('decision')}. {rule}"
        )
    horizons = ", ".join(words.horizon_words(h, unit) for h in run.get("horizons") or [])
    curves = "curves and log-rank tests of them are" if run.get("log_rank") else "their curves are"
    tau = words.horizon_words(run["tau"], unit) if run.get("tau") else words.NO_VALUE
    return (
        f"Discrimination was measured by Harrell's C {cite('harrell')}, Uno's C up to tau = {tau} "
        f"{cite('uno_c')} and the cumulative/dynamic AUC at {horizons or 'no horizon'} "
        f"{cite('uno_auc')}; error by the Brier score at the horizons and its integral up to tau "
        f"{cite('graf')}. Censoring was weighted by one Kaplan-Meier estimate of censoring over "
        f"all evaluated patients, events before censorings at ties {cite('kaplan_meier')}. "
        f"{slope()} at the horizons, observed risk by Kaplan-Meier in fifths of the predicted "
        "risk (thirds where fewer than 50 patients have the event by the horizon). Net benefit "
        f"over thresholds {cite('decision')}, of all patients together, counts events among those "
        f"above a threshold by Kaplan-Meier {cite('decision_survival')}. Thirds of the risk were "
        f"formed within test folds; {curves} descriptive. {rule}"
        f"{report_entry.methods(run)}"
    )


def _uncertainty(tables, run, cite):
    text = f"{INTERVALS} Method: {interval_methods(tables['metrics'], cite)}. "
    primary = run.get("primary")
    if primary:
        text += (
            f"The primary comparison, {words.metric_words(primary['metric'])} of "
            f"{words.pair_words(run, primary['feature_set'], primary['model'])} against "
            f"{words.pair_words(run, primary['baseline_feature_set'], primary['baseline_model'])}, "
            "was named before the run. All other comparisons are exploratory; their p values are "
            f"adjusted after Holm {cite('holm')}. "
        )
    comparisons = tables.get("comparisons")
    if comparisons is not None and (comparisons["method"] == CORRECTED_T).any():
        text += (
            "Besides, differences were compared fold by fold over all repeats, by a t test whose "
            f"variance allows for training parts that share patients {cite('corrected_t')}. "
        )
    return text + (
        "The models saved with the run were fitted once more on all patients; the estimates and "
        "intervals belong to the procedure, not to these models."
    )


def interval_methods(metrics, cite):
    """Name the method of the intervals, and of which measures where there are several."""
    rows = metrics[metrics["fold"].isna() & metrics["lower"].notna() & metrics["method"].notna()]
    # behind a semicolon stands of which patients a measure is
    rows = rows.assign(method=[str(method).partition(";")[0] for method in rows["method"]])
    named = rows.groupby("method", sort=False)["metric"].unique()
    told = []
    for method, measured in named.items():
        source = next((key for start, key in METHOD_SOURCES if method.startswith(start)), None)
        cited = f" {cite(source)}" if source else ""
        # the first method is that of few measures, the last that of all others
        whose = " and ".join(words.metric_words(name) for name in measured)
        last = len(told) == len(named) - 1
        of = "" if len(named) == 1 else " for all other measures" if last else f" for {whose}"
        told.append(f"{method}{cited}{of}")
    return "; ".join(told) or "none was computed"


def _contributions(run, cite):
    kinds = run.get("shap_kinds") or {}
    exact = [words.model_words(run, m) for m, kind in kinds.items() if kind == "exact"]
    sampled = [words.model_words(run, m) for m, kind in kinds.items() if kind == "sampled"]
    told = [f"exact for {', '.join(exact)}"] if exact else []
    told += (
        [f"estimated by sampling, with a fixed seed, for {', '.join(sampled)}"] if sampled else []
    )
    return (
        "Contributions of features are Shapley values of held-out patients, on the scale that "
        f"the figures name {cite('shap')}: {'; '.join(told) or 'none were computed'}. "
        "Contributions of a block are the sums over its features. They describe the model, not "
        "causes."
    )
