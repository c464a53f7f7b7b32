"""What the report says of blocks of patches: how their clusters were made, and what names mean."""

from tabular_trainers.errors import count, listing

UNSURE = 0.5  # of the match: below, another cluster is half as near again at the most


def n_clusters(run):
    """Give the number of clusters of each block of patches: {block: k}."""
    ways = {name: block.get("reduce") or {} for name, block in (run.get("blocks") or {}).items()}
    return {name: way["clusters"] for name, way in ways.items() if "clusters" in way}


def methods(run, cite):
    """Say how patches became columns; nothing where no block is of patches."""
    asked = n_clusters(run)
    if not asked:
        return ""
    which = " and ".join(f"{k} clusters (block {name})" for name, k in asked.items())
    return (
        f" Patches of slides were grouped into {which} inside each training part: up to 100,000 "
        "patches of its patients, drawn evenly over patients and their slides, standardised, "
        "columns weighted by the share of their variance that lies within slides, and brought to "
        f"unit length, by k-means {cite('kmeans')}. A patient's columns are the shares "
        "of its patches nearest to each centre, averaged over its slides. In figures of "
        "contributions a cluster has the name of the cluster of all patients that it was matched "
        f"with {cite('hungarian')}; nothing else comes from clusters of all patients."
    )


def matches(tables, run):
    """Say how well the clusters of the training parts were matched: a list of sentences."""
    rows = tables.get("cluster_matches")
    if rows is None or rows.empty:
        return []
    said = []
    for block, own in rows.groupby("block", sort=False):
        by_name = own.groupby("matched")["quality"].median()
        unsure = sorted(by_name.index[by_name < UNSURE])
        text = (
            f"Names of the clusters of block {block} are those of clusters of all patients. "
            f"Quality of the match (1: the same centre, 0: another is as near), median over "
            f"{count(own['fold'].nunique(), 'fold')} and clusters: {own['quality'].median():.2f}"
        )
        if unsure:
            text += (
                f"; median over folds below {UNSURE:g}, so not the same tissue in every fold: "
                f"{listing(unsure, 20)}"
            )
        said.append(f"{text}.")
    return said
