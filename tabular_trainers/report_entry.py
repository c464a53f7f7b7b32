"""Words of the report for an endpoint with late entry (left truncation); nothing for others."""

from tabular_trainers import plots_labels as words

AT_LANDMARK = ("uno_c", "auc")  # these cannot take entry times
ALPHA = 0.05  # below it entry and event are taken to depend


def invalid(run):
    """Say that no estimate is valid where entry and event were found to depend; None elsewhere."""
    found = run.get("entry_dependence")
    if not found or found["p_value"] >= ALPHA:
        return None
    return (
        "Time of entry and time of the event depend on each other "
        f"({_test(found)}). Neither the estimates of this report, which are adjusted for late "
        "entry, nor naive estimates that ignore it are valid."
    )


def dependence(run):
    """Say how the test of independent entry came out; None without entry."""
    found = run.get("entry_dependence")
    if not run["endpoint"].get("entry"):
        return None
    if not found:
        return (
            "Whether time of entry and time of the event depend could not be tested: no two "
            "patients with different entry were under observation together at an event."
        )
    return invalid(run) or (
        "Estimates adjusted for late entry assume that time of entry and time of the event are "
        f"independent. A dependence was not shown ({_test(found)}), nor is it shown that there is "
        "none."
    )


def curves_start(tables, run, curve, pair=None):
    """Say where the curves of a figure start; empty where they start at time zero."""
    rows = tables.get("kaplan_meier")
    if rows is None:
        return ""
    rows = rows[rows["curve"] == curve]
    if pair is not None:
        rows = rows[(rows["feature_set"] == pair[0]) & (rows["model"] == pair[1])]
    start = words.curve_start(rows)
    if not start:
        return ""
    together = " The three start together, at the latest of their starts." if pair else ""
    return (
        " Patients enter late, so the first patients at risk are few. A curve starts where at "
        "least 10 are at risk, and stay so until their number is at its largest; probabilities "
        f"are {words.given_alive(start, run)}.{together}"
    )


def calibration(run):
    """Say whose risk a calibration figure shows; empty without entry."""
    if not run["endpoint"].get("entry"):
        return ""
    return " Risks are from a patient's entry to the time shown, of those who entered before it."


def landmark_notes(rows, run):
    """Say under a table of measures which of them are of whom, or why they are empty."""
    told = {}
    landmark, unit = run["endpoint"].get("landmark"), run["endpoint"].get("unit")
    for r in rows[rows["metric"].isin(AT_LANDMARK)].itertuples():
        lacking, reason, why = str(r.method).partition("not computed: ")
        if reason and not lacking:
            text, at = f"{why}.", "" if words.is_missing(r.horizon) else r.horizon
        elif landmark is not None and ";" in str(r.method):
            text, at = (
                f"of {r.n:,} of {run['n_patients']:,} patients, those at risk at the landmark, "
                f"{words.horizon_words(landmark, unit)}, with the clock restarted there.",
                "",
            )
        else:
            continue
        name = words.metric_words(r.metric)
        # all horizons are in one boat, but those before the landmark
        early = at and landmark is not None and at <= landmark
        name += f" at {words.time_words(at, unit)}" if early else ""
        told.setdefault(text, {})[name] = None
    return [f"{' and '.join(names)}: {text}" for text, names in told.items()]


def net_benefit(run):
    """Say of whom a decision curve is; empty without a landmark."""
    endpoint = run["endpoint"]
    if not endpoint.get("landmark"):
        return ""
    at = words.horizon_words(endpoint["landmark"], endpoint.get("unit"))
    return f" Of the patients at risk at the landmark, {at}, given survival to it."


def methods(run):
    """Say how measures take late entry, as part of the methods; empty without entry."""
    endpoint = run["endpoint"]
    if not endpoint.get("entry"):
        return ""
    text = (
        " Patients are at risk after entry only (left truncation): in every risk set, in the pairs "
        "of Harrell's C, and in the estimate of censoring. Brier score and calibration at a time "
        "are of the patients who entered before it: predicted survival is given survival to entry, "
        "S(time) / S(entry), and censoring weights are given observation at entry, as is the "
        "observed share of events. "
    )
    if endpoint.get("landmark"):
        at = words.horizon_words(endpoint["landmark"], endpoint.get("unit"))
        return text + (
            f"Uno's C, AUC and net benefit are of the patients at risk at the landmark, {at}, with "
            "the clock restarted there; tau and horizons are given on the original clock."
        )
    return text + (
        "Uno's C, AUC and net benefit cannot take entry times and were not computed: they need a "
        "landmark in the endpoint's section of the cohort file."
    )


def _test(found):
    p = words.p_value(found["p_value"])
    p = p if p.startswith("<") else f"= {p}"
    return f"conditional Kendall's tau {words.number(found['tau'], 2)}, p {p}"
