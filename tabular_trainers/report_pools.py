"""The words and tables of pooled differences: what was asked across cohorts, and the answer."""

from tabular_trainers import plots_labels as words
from tabular_trainers.errors import count, listing
from tabular_trainers.plots_pool import added, compared, names, share, subject
from tabular_trainers.report_methods import citing
from tabular_trainers.report_tables import Table

PAIRS = {  # what a difference of 0.001 is, of 1,000 pairs of patients
    "harrell_c": "C is the chance that, of two patients, the one with the higher predicted risk "
    "has the event first: 0.5 is a coin, 1 is perfect.",
    "auroc": "AUROC is the chance that, of a positive and a negative patient, the positive one has "
    "the higher predicted probability: 0.5 is a coin, 1 is perfect.",
}
BOTH_SIGNS = (
    "The interval holds both signs: a gain is not shown, nor is it shown that there is none."
)
REFERENCES = {
    "reml": "Viechtbauer W. Bias and efficiency of meta-analytic variance estimators in the "
    "random-effects model. J Educ Behav Stat 2005;30:261-293.",
    "knapp": "Hartung J, Knapp G. A refined method for the meta-analysis of controlled clinical "
    "trials with binary outcome. Stat Med 2001;20:3875-3889.",
    "adhoc": "Röver C, Knapp G, Friede T. Hartung-Knapp-Sidik-Jonkman approach and its "
    "modification for random-effects meta-analysis with few studies. BMC Med Res Methodol "
    "2015;15:99.",
    "heterogeneity": "Higgins JPT, Thompson SG. Quantifying heterogeneity in a meta-analysis. Stat "
    "Med 2002;21:1539-1558.",
    "prediction": "Higgins JPT, Thompson SG, Spiegelhalter DJ. A re-evaluation of random-effects "
    "meta-analysis. J R Stat Soc A 2009;172:137-159.",
    "routinely": "IntHout J, Ioannidis JPA, Rovers MM, Goeman JJ. Plea for routinely presenting "
    "prediction intervals in meta-analysis. BMJ Open 2016;6:e010247.",
    "jackknife": "Therneau TM, Watson DA. The concordance statistic and the Cox model. Technical "
    "report 85, Mayo Clinic, 2015.",
}


def question(pool):
    """Ask what a pool answers.

    Examples
    --------
    >>> question({"feature_set": "clinical+genes", "baseline_feature_set": "clinical"})
    'Does genes add to clinical, across cohorts?'
    """
    before = words.feature_set_words(pool["baseline_feature_set"])
    more = added(pool)
    if more:
        return f"Does {more} add to {before}, across cohorts?"
    own = words.feature_set_words(pool["feature_set"])
    return f"Does {own} predict better than {before}, across cohorts?"


def answer(pool, cohorts, labels):
    """Answer a pool's question: what it reads, a headline with the number, and sentences.

    Parameters
    ----------
    pool : dict
        A row of `pools`.
    cohorts : list of dict
        Its rows of `pool_cohorts`.
    labels : dict of str to str
        Models in words.

    Returns
    -------
    dict
        ``reads``, ``question``, ``headline``, and ``sentences``: pairs of a lead and a text.
    """
    asked = f"{compared(pool, labels)}; {subject(pool)}"
    sentences = [("Compared.", f"{asked}.")]
    if pool["reads"] == "not pooled":
        headline = f"No answer across cohorts: {_ended(str(pool['reason']))}"
        alone = [row for row in cohorts if row["reason"] == f"not pooled: {pool['reason']}"]
        sentences += _single(alone)
        others = [row for row in cohorts if row not in alone]
        sentences += [("Left out.", text) for text in _left_out(others)]
    else:
        headline = _headline(pool)
        sizes = f"{count(int(pool['n_cohorts']), 'cohort')}, {words.cohort_words(_as_run(pool))}"
        sentences = [
            ("Compared.", f"{asked}: {sizes}; p {_equals(pool['p_value'])}."),
            ("What it means.", _meaning(pool)),
            ("Where cohorts disagree.", _disagreement(pool, cohorts)),
            ("A new cohort like these.", _prediction(pool)),
            *(("Not pooled.", text) for text in _left_out(cohorts)),
        ]
    return {
        "reads": pool["reads"],
        "question": question(pool),
        "headline": headline,
        "sentences": [(lead, text) for lead, text in sentences if text],
    }


def summary(pools):
    """Say in one sentence what several pools read together; None for fewer than two."""
    if len(pools) < 2:
        return None
    found = [pool["reads"] for pool in pools]
    told = [f"{reads} in {found.count(reads)}" for reads in dict.fromkeys(found)]
    return f"{count(len(pools), 'comparison')} were named before the runs: {', '.join(told)}."


def _headline(pool):
    metric = words.metric_words(pool["metric"])
    before = words.feature_set_words(pool["baseline_feature_set"])
    cohorts = count(int(pool["n_cohorts"]), "cohort")
    ends = f"{words.number(pool['lower'])} to {words.number(pool['upper'])}"
    value = f"{words.number(pool['difference'], sign=True)} (95% interval {ends})"
    if added(pool):
        told = f"with {added(pool)}, {metric} changes by {value}, across {cohorts}."
    else:
        own = words.feature_set_words(pool["feature_set"])
        told = f"{metric} of {own} minus that of {before} is {value}, across {cohorts}."
    return f"{pool['reads'].capitalize()}: {told}"


def _meaning(pool):
    """Turn a difference in C or AUROC into pairs of patients."""
    read = BOTH_SIGNS if pool["reads"] == "not shown" else ""
    meaning = PAIRS.get(pool["metric"])
    if meaning is None:
        return read
    ends = f"{_of_thousand(pool['lower'])} to {_of_thousand(pool['upper'])}"
    before = words.feature_set_words(pool["baseline_feature_set"])
    return (
        f"{meaning} The difference says: of 1,000 such pairs, {_of_thousand(pool['difference'])} "
        f"({ends}) are put in the right order than by {before}. {read}"
    ).strip()


def _of_thousand(value):
    """Write a difference as pairs of 1,000.

    Examples
    --------
    >>> _of_thousand(0.0214), _of_thousand(-0.003)
    ('21 more', '3 fewer')
    """
    n = round(1000 * float(value))
    return f"{abs(n):,} {'fewer' if n < 0 else 'more'}"


def _disagreement(pool, cohorts):
    """Say where cohorts disagree: extremes, intervals on one side, heterogeneity."""
    named = names(cohorts)
    rows = sorted((r for r in cohorts if r["pooled"]), key=lambda row: -row["difference"])
    ends = [
        f"{words.number(row['difference'], sign=True)} in {named[row['run']]}"
        for row in (rows[0], rows[-1])
    ]
    above = [named[row["run"]] for row in rows if row["lower"] > 0]
    below = [named[row["run"]] for row in rows if row["upper"] < 0]
    i2 = f"{pool['i2']:.0f}%"
    tau = words.magnitude(float(pool["tau2"]) ** 0.5)
    spread = (
        f"the true differences vary around their mean with a standard deviation (tau) of {tau}"
        if pool["tau2"] > 0
        else "no more spread than chance alone would give (tau = 0)"
    )
    return (
        f"From {ends[1]} to {ends[0]}. Taken alone, "
        f"{_shown(above, 'above')}, and {_shown(below, 'below')}. Heterogeneity: I² = {i2}, "
        f"the share of the spread that chance does not explain; {spread}; p "
        f"{_equals(pool['q_p_value'])}."
    )


def _shown(found, side):
    if not found:
        return f"no cohort's interval lies {side} zero"
    return f"the interval lies {side} zero in {len(found)} ({listing(found)})"


def _prediction(pool):
    lower, upper = pool["prediction_lower"], pool["prediction_upper"]
    if words.is_missing(lower) or words.is_missing(upper):
        return None
    if lower > 0:
        read = "a gain is to be expected there too"
    elif upper < 0:
        read = "a loss is to be expected there too"
    else:
        read = "that holds both signs, so neither a gain nor a loss there can be counted on"
    ends = f"{words.number(lower, sign=True)} to {words.number(upper, sign=True)}"
    return f"The difference there: {ends} (95% prediction interval); {read}."


def _left_out(cohorts):
    """Say which cohorts are not pooled, by reason."""
    named = names(cohorts)
    by_reason = {}
    for row in cohorts:
        if not row["pooled"]:
            by_reason.setdefault(row["reason"] or "no reason is known", []).append(row["run"])
    return [
        f"{listing(named[run] for run in runs)}: {_ended(reason)}"
        for reason, runs in by_reason.items()
    ]


def _single(cohorts):
    """Say what each cohort found where there is no pool."""
    named = names(cohorts)
    told = [
        f"{named[row['run']]} "
        f"{words.interval(row['difference'], row['lower'], row['upper'], sign=True)}"
        for row in cohorts
        if not words.is_missing(row["difference"])
    ]
    return [("Each on its own.", f"{listing(told)}.")] if told else []


def cohort_table(pool, cohorts, labels, name):
    """Return the numbers of a forest plot as a table."""
    events = "Events" if pool["kind"] == "survival" else "Positive"
    columns = ["Cohort", "Patients", events, "Difference (95% interval)", "Weight", "Not pooled"]
    common = f"not pooled: {pool['reason']}"  # stands in the headline already
    reasons = ["" if row["reason"] in (None, common) else row["reason"] for row in cohorts]
    if not any(reasons):
        columns.pop()
    table = Table(name, f"{compared(pool, labels)}, {subject(pool)}: every cohort", columns)
    named = names(cohorts)
    for row, reason in zip(cohorts, reasons, strict=True):
        weight = row["weight"]
        cells = [
            named[row["run"]],
            _count(row["n"]),
            _count(row["n_events"]),
            words.interval(row["difference"], row["lower"], row["upper"], sign=True),
            words.NO_VALUE if words.is_missing(weight) else share(weight),
            reason,
        ]
        table.add(*cells[: len(columns)])
    return table


def pool_table(pools, labels):
    """Return pools as a table, a row each; None without any."""
    if not pools:
        return None
    columns = [
        "Compared",
        "Predicted",
        "Reads",
        "Difference (95% interval)",
        "p",
        "New cohort (95% prediction)",
        "I²",
        "Cohorts",
        "Patients",
    ]
    table = Table("other-pools", "Other comparisons, pooled", columns)
    metrics = list(dict.fromkeys(pool["metric"] for pool in pools))
    for pool in pools:
        done = pool["reads"] != "not pooled"
        value = words.interval(pool["difference"], pool["lower"], pool["upper"], sign=True)
        ends = [pool["prediction_lower"], pool["prediction_upper"]]
        new = f"{words.number(ends[0])} to {words.number(ends[1])}"
        table.add(
            compared(pool, labels),
            subject(pool),
            pool["reads"] if done else f"not pooled: {pool['reason']}",
            value,
            words.p_value(pool["p_value"]),
            words.NO_VALUE if any(map(words.is_missing, ends)) else new,
            f"{pool['i2']:.0f}%" if not words.is_missing(pool["i2"]) else words.NO_VALUE,
            _count(pool["n_cohorts"]),
            _count(pool["n_patients"]),
            strong=bool(pool["primary"]),
        )
    told = " and ".join(words.metric_words(metric) for metric in metrics)
    notes = [f"Differences in {told}. p values are not adjusted for the number of comparisons."]
    if any(pool["primary"] for pool in pools):
        notes.append("Bold: named before the runs; the others are exploratory.")
    table.notes += notes
    return table


def methods(pools):
    """Return how differences were pooled, as paragraphs for a paper, with their references."""
    cite, cited = citing()
    if not any(pool["reads"] != "not pooled" for pool in pools):
        return [], []
    text = (
        "In each cohort two models were measured on the same held-out patients, so that their "
        "difference is paired; its standard error is from the infinitesimal jackknife (Harrell's "
        f"C {cite('jackknife')}) or the bootstrap (AUROC). Differences of the cohorts were pooled "
        "by a random-effects model: the variance between cohorts (tau²) by restricted maximum "
        f"likelihood {cite('reml')}; the interval of the mean after Hartung and Knapp "
        f"{cite('knapp')} with k - 1 degrees of freedom, k being the number of cohorts, and never "
        f"narrower than the plain one (factor max(1, q) {cite('adhoc')}); heterogeneity as I² and "
        f"Cochran's Q {cite('heterogeneity')}; and a prediction interval, which says what to "
        "expect in another cohort from among those that these stand for "
        f"{cite('prediction', 'routinely')}. At least 3 cohorts are pooled, "
        "and no patient counts twice. 'Adds' means that the whole 95% "
        "interval lies above zero, 'worse' that it lies below."
    )
    limits = (
        "The intervals of the cohorts are for the fitted models given these patients and leave out "
        "training variation; to the extent that it differs between cohorts, it is part of tau². "
        "With few cohorts tau², I² and the prediction interval are themselves uncertain."
    )
    return [text, limits], [REFERENCES[key] for key in cited]


def _count(value):
    return words.NO_VALUE if words.is_missing(value) else f"{int(value):,}"


def _equals(value):
    p = words.p_value(value)
    return p if p.startswith("<") else f"= {p}"


def _ended(text):
    return text if text.endswith(".") else f"{text}."


def _as_run(pool):
    return {
        "n_patients": pool["n_patients"],
        "n_events": pool["n_events"],
        "endpoint": {"kind": pool["kind"]},
    }
