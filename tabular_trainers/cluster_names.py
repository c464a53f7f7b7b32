"""Names that a pathologist gives to clusters of patches: read them, and speak in them."""

import csv
import io
from collections import Counter

from tabular_trainers.errors import Problems, SchemaError, count, listing, nearest, rows
from tabular_trainers.tables import read_table, table_name

COLUMNS = ("cluster", "name")
NAME_WIDTH = 40  # characters; longer ones fit no legend


def read_names(path, clusters):
    r"""Read a table ``cluster, name``; clusters may share a name, and may have none.

    Parameters
    ----------
    path : path
        CSV or any table that `read_table` reads.
    clusters : sequence of str or None
        Labels that there are: ``c01, c02, ...``; None: not known, any will do.

    Returns
    -------
    dict of str to str
        Names by cluster, in the order of the clusters; those without a row are not in it.

    Raises
    ------
    SchemaError
        With everything that is wrong: columns, unknown clusters, clusters named twice, empty or
        long names, names that are the label of a cluster.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "names.csv"
    >>> _ = path.write_text("cluster,name\nc02,stroma\nc01,tumour\n")
    >>> read_names(path, ["c01", "c02", "c03"])
    {'c01': 'tumour', 'c02': 'stroma'}
    """
    frame, where = read_table(path, text=COLUMNS), table_name(path)
    lacking = [column for column in COLUMNS if column not in frame]
    unknown = [column for column in frame if column not in COLUMNS]
    if lacking or unknown:
        told = [f"no column {listing(map(repr, lacking))}"] if lacking else []
        told += [f"unknown column {listing(map(repr, unknown))}"] if unknown else []
        raise SchemaError(f"{where}: {'; '.join(told)}. Expected the columns cluster, name.")
    given = frame["cluster"].fillna("").str.strip()
    names = frame["name"].fillna("").map(lambda name: " ".join(name.split()))
    problems = Problems()

    def wrong(bad, what, do):
        if bad.any():
            at = bad.to_numpy().nonzero()[0]
            problems.add(f"{where}: {count(len(at), 'row')} {what} ({rows(at)}). {do}")

    wrong(given == "", "without a cluster", "Fill in the column cluster, or remove the rows.")
    if clusters is None:
        clusters = sorted(set(given) - {""})
    strange = dict.fromkeys(given[(given != "") & ~given.isin(clusters)])
    if strange:
        hint = nearest(next(iter(strange)), clusters)
        problems.add(
            f"{where}, column cluster: {listing(map(repr, strange))} "
            f"{'is' if len(strange) == 1 else 'are'} no cluster; expected {clusters[0]} to "
            f"{clusters[-1]}.{hint}"
        )
    twice = sorted(label for label, times in Counter(given[given != ""]).items() if times > 1)
    if twice:
        problems.add(
            f"{where}, column cluster: {listing(twice)} "
            f"{'has' if len(twice) == 1 else 'have'} several rows; expected one each."
        )
    wrong(names == "", "with an empty name", "Name these clusters, or remove the rows.")
    wrong(
        names.str.len() > NAME_WIDTH,
        f"with a name of more than {NAME_WIDTH} characters",
        "Shorten it.",
    )
    wrong(
        names.isin(clusters) & (names != given),
        "whose name is the label of another cluster",
        "Give a name in words.",
    )
    problems.raise_if_any()
    found = dict(zip(given, names, strict=True))
    return {label: found[label] for label in clusters if label in found}


def template(clusters, names=None):
    """Write the CSV for a pathologist to fill in: a row a cluster, empty where it has no name.

    Examples
    --------
    >>> print(template(["c01", "c02"], {"c02": "fat"}), end="")
    cluster,name
    c01,
    c02,fat
    """
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(COLUMNS)
    out.writerows([label, (names or {}).get(label, "")] for label in clusters)
    return text.getvalue()


def full_name(cluster, names):
    """Give a cluster's label, with its name where it has one.

    Examples
    --------
    >>> full_name("c03", {"c03": "stroma"}), full_name("c04", {})
    ('c03 stroma', 'c04')
    """
    return f"{cluster} {names[cluster]}" if cluster in names else cluster


def composition(prevalence, names):
    """Sum the prevalence of clusters that share a name; clusters without one stay as they are.

    Parameters
    ----------
    prevalence : DataFrame (n_patients, n_clusters)
        Columns: labels of the clusters.
    names : dict of str to str

    Returns
    -------
    DataFrame (n_patients, n_names)
        Names in the order in which their first cluster comes. Rows sum to what they summed to.

    Examples
    --------
    >>> import pandas as pd
    >>> shares = pd.DataFrame({"c01": [0.5], "c02": [0.3], "c03": [0.2]}, index=["P1"])
    >>> composition(shares, {"c01": "tumour", "c03": "tumour"})
        tumour  c02
    P1     0.7  0.3
    """
    spoken = [names.get(label, label) for label in prevalence.columns]
    return prevalence.T.groupby(spoken, sort=False).sum().T
