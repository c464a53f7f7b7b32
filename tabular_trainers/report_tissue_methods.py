"""How clusters were made and held against the risk, written out for a paper."""

from tabular_trainers import plots_labels as words
from tabular_trainers.errors import count
from tabular_trainers.report_methods import citing

DESCRIPTIVE = (
    "The clusters that are shown were made of patches of all patients: their table, pictures and "
    "hazard ratios describe these patients. What is scored on patients held out rests on clusters "
    "made anew in each training part. Shares of a patient sum to 1: where more of one cluster goes "
    "with lower risk, less of the others does, so a cluster can be prognostic for what is not "
    "there. The clusters chosen in training parts say which of them tell something of their own."
)
REFERENCES = {
    "wulczyn": "Wulczyn E, Steiner DF, Moran M, et al. Interpretable survival prediction for "
    "colorectal cancer using deep learning. NPJ Digit Med 2021;4:71.",
    "kmeans": "Arthur D, Vassilvitskii S. k-means++: the advantages of careful seeding. Proc 18th "
    "ACM-SIAM Symp Discrete Algorithms 2007:1027-1035.",
    "directions": "Dhillon IS, Modha DS. Concept decompositions for large sparse text data using "
    "clustering. Mach Learn 2001;42:143-175.",
    "hungarian": "Kuhn HW. The Hungarian method for the assignment problem. Nav Res Logist Q "
    "1955;2:83-97.",
    "jaccard": "Hennig C. Cluster-wise assessment of cluster stability. Comput Stat Data Anal "
    "2007;52:258-271.",
    "rand": "Hubert L, Arabie P. Comparing partitions. J Classif 1985;2:193-218.",
    "ridge": "Hoerl AE, Kennard RW. Ridge regression: biased estimation for nonorthogonal "
    "problems. Technometrics 1970;12:55-67.",
    "cox": "Cox DR. Regression models and life-tables. J R Stat Soc B 1972;34:187-220.",
    "fdr": "Benjamini Y, Hochberg Y. Controlling the false discovery rate. J R Stat Soc B "
    "1995;57:289-300.",
    "score": "Rao CR. Large sample tests of statistical hypotheses concerning several parameters. "
    "Proc Camb Philos Soc 1948;44:50-57.",
    "mann_whitney": "Mann HB, Whitney DR. On a test of whether one of two random variables is "
    "stochastically larger than the other. Ann Math Stat 1947;18:50-60.",
}


def methods(tables, facts):
    """Return the methods as paragraphs, and the references that they cite."""
    cite, cited = citing()
    paragraphs = [_clusters(facts, cite), _risk(facts, cite), _bias(facts, cite)]
    paragraphs += [_selection(facts, cite), _patches(facts)]
    return paragraphs, [REFERENCES[key] for key in cited]


def _clusters(facts, cite):
    store = facts["store"]
    by = "each slide counting the same" if facts["subject"]["by"] == "slide" else "as one bag"
    return (
        f"Patches ({count(store['n_patches'], 'patch', 'patches')} of "
        f"{count(store['n_slides'], 'slide')}; encoder {store['encoder_id']}) were clustered as in "
        f"{cite('wulczyn')}: k-means {cite('kmeans')} with k = {facts['k']} on standardised "
        "columns, weighted by the share of their variance that lies within slides (what differs "
        "between slides is mostly staining; a tissue that few slides have counts less too), each "
        f"patch at unit length {cite('directions')}, of at most {facts['sampled']:,} patches, "
        "drawn evenly over patients and their slides. The "
        "prevalence of a cluster is the share of a patient's patches nearest to its centre, "
        f"{by}. Stability: patients drawn with replacement and clustered anew; adjusted Rand "
        f"index {cite('rand')} and Jaccard index a cluster {cite('jaccard')}. Clusters of "
        f"training parts were matched with the reference by their centres {cite('hungarian')}, for "
        "names only."
    )


def _risk(facts, cite):
    survival = words.is_survival(facts)
    ratio = "hazard" if survival else "odds"
    site = ", stratified by site" if (facts["n_sites"] or 0) > 1 else ""
    clinical = facts["has_clinical"]
    predictors = ", clinical columns and both" if clinical else ""
    first = (
        f"Risks of patients held out were standardised within their test fold and predicted from "
        f"prevalences{predictors} by ridge regression {cite('ridge')} on the folds of the run, its "
        "penalty chosen inside the training part; R-squared with a bootstrap interval."
    )
    model = f"Cox regression {cite('cox')}" if survival else "logistic regression"
    adjusted = ", alone and adjusted for the clinical columns" if clinical else ""
    return (
        f"{first} For each cluster, the {ratio} ratio for one standard deviation more of its "
        f"prevalence by {model}{site}{adjusted}; false discovery rate over clusters "
        f"{cite('fdr')}. Clusters in fewer than 10 patients were not tested. Prognostic: a false "
        f"discovery rate below 0.05{' in the adjusted model' if clinical else ''}, and no flag."
    )


def _bias(facts, cite):
    return (
        "A cluster was flagged as site where its prevalence tells one site of 5 patients or more "
        f"from the others (Mann-Whitney {cite('mann_whitney')}, false discovery rate below 0.05 "
        "over clusters and sites) with an AUC of at least 0.8, or where at least 80% of it lies at "
        "one site, sites weighing the same; as artefact where 5% of its pixels have the colour of "
        "ink or are black, or where it is blurred by 0.2 more than the median patch. These limits "
        "were set beforehand."
    )


def _selection(facts, cite):
    measure = "Harrell's C" if words.is_survival(facts) else "AUROC"
    start = "the clinical columns" if facts["has_clinical"] else "none"
    return (
        "Forward selection: in each training part, with clusters made of its patients, up to five "
        f"clusters were added to {start} by the score test {cite('score')}, until its "
        f"p value times the clusters tried was 0.05 or more. {measure} was measured on patients "
        "held out, who took no part in clustering, scaling or selection."
    )


def _patches(facts):
    terms = facts["terms"]
    if terms["kind"] == "exact":
        return (
            "Maps of the risk: the model of the fold in which a patient was held out is linear in "
            "the mean of the patches, so its risk is the mean of one term a patch and a constant; "
            "terms were summed in float64 and held against the predicted risk of every patient."
        )
    if terms["kind"] == "approximate":
        return (
            f"Maps of the risk are approximate, as {terms['why']}: of each patient the patches of "
            "one cluster at a time were left out, the rest pooled again and given to the model of "
            "the fold in which the patient was held out."
        )
    return f"There are no maps of the risk: {terms['why']}"
