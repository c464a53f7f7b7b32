"""The page on the tissue behind a risk, and its section in the report of the run.

Everything comes from the tables and tissue.json of ``RUN/tissue``; nothing is computed here.
"""

from pathlib import Path

from tabular_trainers import plots_labels as words
from tabular_trainers import (
    plots_tissue,
    report,
    report_tables,
    report_text,
    report_tissue_tables,
)
from tabular_trainers.cluster_names import full_name
from tabular_trainers.errors import count, listing
from tabular_trainers.report_tissue_methods import DESCRIPTIVE, methods
from tabular_trainers.tissue_words import adjusted_words, cluster_lines, flag_words, ratio_of

FIGURES = (
    plots_tissue.risk_explained,
    plots_tissue.cluster_hazards,
    plots_tissue.prevalence_by_third,
    plots_tissue.site_and_artefacts,
    plots_tissue.cluster_stability,
)
NAMED = 5  # clusters named in a sentence
FLAGGED_SHOWN = 20  # in the list


def write_tissue_page(folder, tables, facts, pictures):
    """Write ``tissue.html`` and ``figures/*.png``.

    Parameters
    ----------
    folder : path
    tables : dict of str to DataFrame
    facts : dict
        Content of tissue.json.
    pictures : dict
        As `TissuePictures.draw` gives them.

    Returns
    -------
    Path
    """
    html, figures = render(tables, facts, pictures)
    return report.write_files(Path(folder), "tissue.html", html, figures)


def render(tables, facts, pictures):
    """Return the page as HTML, and its figures as PNG by name."""
    svg, png = report.draw_all({draw.__name__: draw(tables, facts) for draw in FIGURES})
    text, references = methods(tables, facts)
    scores = tables["tissue_scores"]
    store = facts["store"]
    lead = (
        f"{count(store['n_patches'], 'patch', 'patches')} of {count(store['n_slides'], 'slide')} "
        f"of {count(facts['n_explained'], 'patient')} in {facts['k']} clusters"
    )
    html = report.fill(
        "tissue.html.jinja",
        svg,
        run={**facts, "notes": [*facts["notes"], *facts["picture_notes"]]},
        words=words,
        banner=report_text.BANNER,
        lead=lead,
        question=question(facts),
        answer=answer(tables, facts),
        descriptive=DESCRIPTIVE,
        side_by_side=pictures["side_by_side"],
        captions=captions(facts),
        variance=report_tissue_tables.variance_table(tables),
        clusters=report_tissue_tables.cluster_table(tables, facts),
        selection=[
            report_tissue_tables.score_table(scores, "forward selection", facts),
            report_tissue_tables.frequency_table(tables, facts),
        ],
        gallery=gallery(tables, facts, pictures),
        no_pictures=facts["no_pictures"],
        maps_words=map_sentences(tables, facts),
        cases=cases(facts, pictures),
        occlusion=report_tissue_tables.occlusion_table(tables, facts),
        bias_words=bias_sentences(tables, facts),
        flagged=flagged_lines(tables, facts),
        without_flagged=report_tissue_tables.score_table(scores, "without flagged", facts),
        stability_words=stability_sentences(facts),
        matches=report_tissue_tables.match_table(tables, facts),
        methods=text,
        references=references,
        naming=naming(facts),
        files=report_tissue_tables.file_table(tables),
        versions=report_tables.version_table({**facts, "source_hash": store["hash"]}),
    )
    return html, png


def question(facts):
    """Say what was asked."""
    subject = facts["subject"]
    pair = words.pair_words(facts, subject["feature_set"], subject["model"])
    endpoint = facts["endpoint"]
    return (
        f"In {words.cohort_phrase(facts)} ({facts['title']}): which tissue on the slides goes with "
        f"the risk of {endpoint['name']} ({endpoint['description']}) that a model ({pair}) "
        "predicted for patients held out?"
    )


def answer(tables, facts):
    """Say how much clusters explain, which are prognostic, which flagged, and what they add."""
    rows = tables["tissue_variance"].set_index("predictors")
    headline = (
        f"Shares of {facts['k']} clusters explain {_share(rows, 'prevalence')} of the variance"
    )
    headline += " of the risk"
    if "clinical" in rows.index:
        headline += f"; the clinical columns {_share(rows, 'clinical')}"
    return {"headline": f"{headline}.", "sentences": sentences(tables, facts)}


def _share(rows, predictors):
    row = rows.loc[predictors]
    estimate, *ends = (words.number(100 * row[name], 0) for name in ("r_squared", "lower", "upper"))
    return f"{estimate}% ({' to '.join(ends)}%)"


def sentences(tables, facts):
    """Say which clusters are prognostic, which are flagged, and what they add to the clinic."""
    rows = tables["tissue_clusters"]
    found = rows[rows["prognostic"]].sort_values("adjusted_p_value", kind="stable")
    told = []
    if len(found):
        shown = "; ".join(
            f"{full_name(row.cluster, facts['names'])}, {ratio_of(row)}"
            for row in found.head(NAMED).itertuples()
        )
        more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
        told.append(f"Prognostic: {shown}{more}.")
    else:
        told.append(
            "No cluster is prognostic: none that is not flagged has a false discovery rate below "
            f"0.05 {adjusted_words(facts)}."
        )
    flagged = rows[rows["flag"] != ""]
    if len(flagged):
        shown = [
            f"{full_name(row.cluster, facts['names'])} ({row.flag}"
            f"{' ' + row.site if row.flag == 'site' else ''})"
            for row in flagged.itertuples()
        ]
        told.append(f"Flagged as more site or artefact than tissue: {listing(shown, NAMED)}.")
    if len(tables["tissue_selection"]):
        told += score_sentences(tables, "forward selection")
    else:
        told.append(
            "Forward selection chose no cluster in any training part, so nothing was added to "
            "what the clinic knows."
        )
    return told


def score_sentences(tables, analysis):
    """Say how C changed on patients held out, a sentence a comparison."""
    scores = tables["tissue_scores"]
    own = scores[scores["analysis"] == analysis]
    estimates = dict(zip(own["model"], own["estimate"], strict=True))
    lead = {
        "forward selection": "Up to five clusters, made and chosen in each training part, change",
        "without flagged": "Leaving out the flagged clusters changes",
    }[analysis]
    told = []
    for row in own[own["baseline"].notna()].itertuples():
        ends = row.difference_lower, row.difference_upper
        told.append(
            f"{lead} {words.metric_words(row.metric)} of patients held out by "
            f"{words.interval(row.difference, *ends, sign=True)}: from "
            f"{words.number(estimates[row.baseline])} ({row.baseline}) to "
            f"{words.number(row.estimate)} ({row.model})."
        )
    return told


def captions(facts):
    """Return what is said under each figure, by its name."""
    ratio = "Hazard" if words.is_survival(facts) else "Odds"
    marks = "Blue squares: prognostic; orange crosses: flagged; grey circles: neither."
    return {
        "risk_explained": "How well shares of clusters, clinical columns and both predict the "
        "out-of-fold risk of patients in other folds.",
        "cluster_hazards": f"{ratio} ratio for one standard deviation more of a cluster's share, "
        f"{adjusted_words(facts)}; at most the {plots_tissue.SHOWN} clusters of smallest p. FDR: "
        f"false discovery rate. {marks}",
        "prevalence_by_third": "Mean share of the patches of patients in the low, middle and high "
        "third of the risk, formed within each test fold; the clusters of the figure above.",
        "site_and_artefacts": "What flags are read from; clusters that are flagged, and those "
        f"nearest to it. {marks}",
        "cluster_stability": "Jaccard index of a cluster with the most similar one when patients "
        "are drawn with replacement and clustered anew. Above 0.75 (dashed) a cluster is stable, "
        f"below 0.6 it should not be trusted. {marks}",
    }


def gallery(tables, facts, pictures):
    """List a card a cluster that has a picture: prognostic first, then flagged, then by ratio."""
    rows = tables["tissue_clusters"]
    kinds = rows["prognostic"].map({True: 0, False: 2}).where(rows["flag"] == "", 1)
    rows = rows.assign(kind=kinds).sort_values(
        ["kind", "adjusted_ratio"], ascending=[True, False], kind="stable"
    )
    cards = []
    for row in rows.itertuples():
        picture = pictures["clusters"].get(row.cluster)
        if picture is None:
            continue
        kind = "flagged" if row.flag else "prognostic" if row.prognostic else ""
        cards.append(
            {
                "title": full_name(row.cluster, facts["names"]),
                "kind": kind,
                "look": pictures["looks"].get(row.cluster),
                "picture": picture,
                "mark": flag_words(row) if row.flag else kind.capitalize(),
                "lines": [line for line in cluster_lines(row, facts) if line != flag_words(row)],
            }
        )
    return cards


def map_sentences(tables, facts):
    """Say what the maps show, and whether their numbers are exact."""
    terms, told = facts["terms"], []
    if not facts["no_pictures"]:
        told.append(
            "Each case has a page (about one patient); its slides have a map of clusters and one "
            "of the risk. Colours of clusters are the same on every picture."
        )
    if terms["kind"] == "exact":
        checked = tables["patch_terms"]
        told.append(
            f"The numbers of patches are exact ({terms['unit']}): for each of "
            f"{count(len(checked), 'patient')} their mean, with a constant for everything else, is "
            f"the predicted risk (largest difference {checked['difference'].abs().max():.1g}; "
            f"{checked['bound'].min():.1g} would be an error)."
        )
    else:
        told.append(terms["words"])
    return told


def cases(facts, pictures):
    """List the cases with their pictures, from the lowest to the highest risk."""
    found = []
    for case in facts["cases"]:
        own = pictures["cases"].get(case["patient_id"], {"page": None, "maps": []})
        found.append({"title": f"Patient {case['patient_id']}", "lines": case["lines"], **own})
    return found


def bias_sentences(tables, facts):
    """Say what was looked for, and what C is without the flagged clusters."""
    flagged = (tables["tissue_clusters"]["flag"] != "").any()
    sites = (facts["n_sites"] or 0) > 1
    if not flagged:
        return [
            "No cluster is flagged: none tells one site from the others, is ink, or is far more "
            "blurred than the rest."
            if sites
            else "No cluster is flagged as ink or blur; without two sites nothing can be said of "
            "sites."
        ]
    compared = score_sentences(tables, "without flagged")
    lost = ["What becomes of C without them could not be measured."]
    return [
        "Flagged clusters may be the mark of a hospital, a pen or the focus more than tissue, and "
        "are never called prognostic, whatever their ratio."
        + (
            " Of a site: the AUC of the cluster's share for that site against all others, and how "
            "much of the cluster would lie there were all sites of one size."
            if sites
            else ""
        ),
        *(compared or lost),
    ]


def flagged_lines(tables, facts):
    """List the flagged clusters and why; those of the largest share first."""
    rows = tables["tissue_clusters"]
    rows = rows[rows["flag"] != ""].sort_values("prevalence_mean", ascending=False, kind="stable")
    lines = [
        f"{full_name(row.cluster, facts['names'])}: {flag_words(row).removeprefix('Flagged: ')}"
        for row in rows.head(FLAGGED_SHOWN).itertuples()
    ]
    if len(rows) > FLAGGED_SHOWN:
        lines.append(f"{len(rows) - FLAGGED_SHOWN} more, in the table of clusters")
    return lines


def stability_sentences(facts):
    """Say how well the whole clustering is found again."""
    mean, least, n = facts["rand"]
    return [
        f"Over {count(n, 'resample')} of patients the adjusted Rand index with the reference is "
        f"{words.number(mean, 2)} on average, at least {words.number(least, 2)} (1: the same "
        "clusters; 0: what chance gives).",
        "Clusters made in the training parts are matched one to one with the reference by their "
        "centres; quality 1 is the same place, 0 is no nearer than another cluster.",
    ]


def naming(facts):
    """Say how clusters get names."""
    if facts["names"]:
        return (
            f"{count(len(facts['names']), 'cluster')} of {facts['k']} have a pathologist's name; "
            "composition.parquet sums those of one name."
        )
    return (
        "The clusters have no names yet. A pathologist can fill in cluster_names.csv while looking "
        "at the pictures above; given with --names, tables, maps and a composition by name speak "
        "in these words. What was computed is used again."
    )


def section(tables, run):
    """Return what the report of the run says of the tissue, or None where it was not explained.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of the run, with those of ``tissue`` as ``tissue/<name>``.
    run : dict
        Content of run.json; ``tissue`` is that of tissue.json.

    Returns
    -------
    dict or None
    """
    facts = run.get("tissue")
    if not facts:
        return None
    own = own_tables(tables)
    found = answer(own, facts)
    return {
        "question": question(facts),
        "headline": found["headline"],
        "sentences": found["sentences"],
        "variance": report_tissue_tables.variance_table(own),
        "descriptive": DESCRIPTIVE,
    }


def section_captions(run):
    """Return what is said under the figure of the section, by its name."""
    facts = run.get("tissue")
    return {"cluster_hazards": captions(facts)["cluster_hazards"]} if facts else {}


def own_tables(tables):
    """Take the tables of the tissue from those of the run."""
    return {
        name.removeprefix("tissue/"): table
        for name, table in tables.items()
        if name.startswith("tissue/")
    }
