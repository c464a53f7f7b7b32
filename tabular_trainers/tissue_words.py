"""What is said of one cluster, the same on pictures, cards and in sentences."""

from tabular_trainers import plots_labels as words
from tabular_trainers.errors import count


def cluster_lines(row, facts):
    """Say in short lines how much there is of a cluster, and how it goes with the outcome."""
    lines = [
        f"Median {row.prevalence_median:.1%} of the patches "
        f"({row.prevalence_lower:.1%} to {row.prevalence_upper:.1%}), in "
        f"{count(row.n_patients, 'patient')} of {facts['n_explained']:,}"
    ]
    if words.is_missing(row.adjusted_ratio):
        lines.append((row.note or "not tested").capitalize())
    else:
        rate = words.p_value(row.adjusted_fdr)
        text = ratio_of(row)
        lines.append(f"{text[0].upper()}{text[1:]}, false discovery rate {rate}")
    if row.flag:
        lines.append(flag_words(row))
    return lines


def flag_words(row):
    """Say why a cluster is flagged."""
    if row.flag == "site":
        return (
            f"Flagged: tells site {row.site} (AUC {row.site_auc:.2f}; {row.site_share:.0%} of it "
            "there)"
        )
    return f"Flagged: artefact ({row.artefact:.0%} ink or black, blur {row.blur:.2f})"


def ratio_of(row):
    """Write the adjusted ratio of a cluster with its interval."""
    ends = row.adjusted_lower, row.adjusted_upper
    return f"{row.effect} {words.interval(row.adjusted_ratio, *ends, 2)}"


def adjusted_words(facts):
    """Say what ratios are adjusted for.

    Examples
    --------
    >>> adjusted_words({"has_clinical": True, "n_sites": 3})
    'adjusted for the clinical columns and stratified by site'
    >>> adjusted_words({"has_clinical": False, "n_sites": None})
    'not adjusted, as there are no clinical columns and sites'
    """
    found = ["adjusted for the clinical columns"] if facts["has_clinical"] else []
    found += ["stratified by site"] if (facts["n_sites"] or 0) > 1 else []
    return " and ".join(found) or "not adjusted, as there are no clinical columns and sites"
