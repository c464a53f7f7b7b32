"""The forest plot of a pool: a difference in every cohort, pooled, and expected in a new one."""

import math

from tabular_trainers import plots_labels as words
from tabular_trainers.errors import count
from tabular_trainers.feature_sets import blocks_of
from tabular_trainers.plots_intervals import draw_intervals, line_of
from tabular_trainers.plots_style import COLOURS, INK, MUTED, styled, text_width

COHORTS_DRAWN = 40  # of more, those with the largest weights
LABELS_AT_MOST = 2.1  # inches
ALL, NEW = "All cohorts together", "A new cohort like these"


def added(pool):
    """Name the blocks that are added to the baseline's; None where one of these is lacking.

    Examples
    --------
    >>> added({"feature_set": "clinical+genes", "baseline_feature_set": "clinical"})
    'genes'
    >>> added({"feature_set": "genes", "baseline_feature_set": "clinical"}) is None
    True
    """
    own, before = (blocks_of(pool[key]) for key in ("feature_set", "baseline_feature_set"))
    more = [block for block in own if block not in before]
    if not more or set(before) - set(own):
        return None
    return " + ".join(more)


def compared(pool, labels):
    """Name what a pool compares, with the models."""
    run = {"model_labels": labels}
    own, before = (
        words.feature_set_words(pool[key]) for key in ("feature_set", "baseline_feature_set")
    )
    models = [words.model_words(run, pool[key]) for key in ("model", "baseline_model")]
    if own == before:
        return f"{own}: {models[0]} against {models[1]}"
    if models[0] == models[1]:
        return f"{own} against {before}, {models[0]}"
    return f"{own}, {models[0]}, against {before}, {models[1]}"


def names(cohorts):
    """Name each row of a pool by its cohort, or by its run where a cohort is there twice.

    Returns
    -------
    dict of str to str
        Run: name.
    """
    found = [row["cohort"] for row in cohorts]
    return {
        row["run"]: row["run"] if words.is_missing(row["cohort"]) or found.count(row["cohort"]) > 1
        else row["cohort"]
        for row in cohorts
    }  # fmt: skip


@styled
def forest(name, pool, cohorts, labels):
    """Draw the difference in every cohort of a pool, the pooled one and that of a new cohort.

    Parameters
    ----------
    name : str
        File name of the figure without its ending.
    pool : dict
        A row of `pools`.
    cohorts : list of dict
        Its rows of `pool_cohorts`.
    labels : dict of str to str
        Models in words.

    Returns
    -------
    Drawing
        A matplotlib Figure. Squares grow with the weight; hollow ones are not pooled. Of many
        cohorts only those of the largest weights are drawn.
    """
    metric = words.metric_words(pool["metric"])
    pooled = [row for row in cohorts if row["pooled"]]
    others = [row for row in cohorts if not row["pooled"]]
    shown = sorted(pooled, key=lambda row: -row["weight"])[:COHORTS_DRAWN]
    shown.sort(key=lambda row: -row["difference"])
    named = _fitting(names(cohorts))
    largest = max((row["weight"] for row in shown), default=1.0)
    lines, told = [], []
    for row in shown:
        size = 3.5 + 7.5 * math.sqrt(row["weight"] / largest)
        lines.append(_line(row, named[row["run"]], size=size))
        told.append(f"{named[row['run']]}: {lines[-1]['texts'][-1]}")
    if shown:
        lines.insert(0, {"header": "Cohorts"})
        lines.append({"header": "Random effects"})
        lines += _summary(pool)
        told += [f"{line['label']}: {line['texts'][-1]}" for line in lines[-2:] if "label" in line]
    left = others[: max(0, COHORTS_DRAWN - len(shown))]
    if left:
        lines.append({"header": "Not pooled"})
        lines += [_line(row, named[row["run"]], hollow=True) for row in left]
        told += [
            f"{line['label']}, not pooled: {line['texts'][-1]}" for line in lines[-len(left) :]
        ]
    run = {
        "n_patients": pool["n_patients"],
        "n_events": pool["n_events"],
        "endpoint": {"kind": pool["kind"]},
    }
    drawing = draw_intervals(
        name,
        f"{compared(pool, labels)}: difference in {metric}, {subject(pool)}",
        run,
        lines,
        ("Weight", "95% interval"),
        f"Difference in {metric}",
        0.0,
        solid_reference=True,
        sides=sides(pool),
        labels_at_most=LABELS_AT_MOST,
    )
    hidden = len(cohorts) - len(shown) - len(left)
    drawing.description = (
        f"Forest plot of the difference in {metric} with 95% intervals. {'; '.join(told)}."
        + (f" {count(hidden, 'cohort')} more not drawn." if hidden else "")
    )
    return drawing


def sides(pool):
    """Say which of the two is better on either side of zero, left side first."""
    before = words.feature_set_words(pool["baseline_feature_set"])
    more = added(pool)
    own = f"with {more}" if more else words.feature_set_words(pool["feature_set"])
    better = (f"{before} better", f"{own} better")
    if own == before:
        better = tuple(f"{pool[key]} better" for key in ("baseline_model", "model"))
    return better[::-1] if pool["metric"] in words.LOWER_IS_BETTER else better


def subject(pool):
    """Name what is predicted: the kind of the endpoint, its name and the seed where there is one.

    Examples
    --------
    >>> subject({"kind": "survival", "endpoint": "os", "seed": None})
    'survival (os)'
    """
    known = [str(pool["endpoint"])] if not words.is_missing(pool["endpoint"]) else []
    if not words.is_missing(pool["seed"]):
        known.append(f"seed {int(pool['seed'])}")
    what = "survival" if pool["kind"] == "survival" else "class"
    return f"{what} ({', '.join(known)})" if known else what


def share(weight):
    """Write a weight as percent; a small one with a decimal.

    Examples
    --------
    >>> share(0.234), share(0.0021)
    ('23%', '0.2%')
    """
    return f"{100 * weight:.{0 if weight >= 0.01 else 1}f}%"


def _fitting(named):
    """Cut the middle out of long names, unless that makes two alike."""
    room = LABELS_AT_MOST - 0.3
    cut = {}
    for run, name in named.items():
        keep = len(name)
        shown = name
        while keep > 8 and text_width(shown, 9) > room:
            keep -= 1
            shown = f"{name[: (keep + 1) // 2]}…{name[-(keep // 2) :]}"
        cut[run] = shown
    return cut if len(set(cut.values())) == len(set(named.values())) else named


def _line(row, label, hollow=False, size=6.0):
    text = words.interval(row["difference"], row["lower"], row["upper"], sign=True)
    weight = words.NO_VALUE if hollow else share(row["weight"])
    line = line_of(row, "difference", label, (weight, text), (COLOURS[0], "s"), hollow=hollow)
    return {**line, "size": size}


def _summary(pool):
    """Return the diamond, and the range of a new cohort where there is one."""
    text = words.interval(pool["difference"], pool["lower"], pool["upper"], sign=True)
    line = line_of(pool, "difference", ALL, ("100%", text), (INK, "D"), strong=True)
    lines = [{**line, "form": "diamond"}]
    ends = {"lower": pool["prediction_lower"], "upper": pool["prediction_upper"]}
    if not any(map(words.is_missing, ends.values())):
        text = f"{words.number(ends['lower'])} to {words.number(ends['upper'])}"
        row = {"difference": None, **ends}
        line = line_of(row, "difference", NEW, ("", text), (MUTED, "|"))
        lines.append({**line, "form": "range"})
    return lines
