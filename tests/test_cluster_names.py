"""Names of clusters: everything that is wrong with the table in one message."""

import pandas as pd
import pytest

from tabular_trainers.cluster_names import composition, read_names, template
from tabular_trainers.errors import SchemaError

CLUSTERS = ["c01", "c02", "c03", "c04"]


def written(tmp_path, text):
    path = tmp_path / "names.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_names_come_in_the_order_of_the_clusters_and_may_be_shared(tmp_path):
    path = written(tmp_path, "cluster,name\nc03, fat  tissue \nc01,tumour\nc02,tumour\n")
    found = read_names(path, CLUSTERS)
    assert list(found.items()) == [("c01", "tumour"), ("c02", "tumour"), ("c03", "fat tissue")]


def test_every_problem_is_told_at_once(tmp_path):
    text = "cluster,name\nc01,\nc9,fat\nc02,x\nc02,y\n,z\nc03,c04\nc04," + "n" * 41 + "\n"
    with pytest.raises(SchemaError) as error:
        read_names(written(tmp_path, text), CLUSTERS)
    assert str(error.value).splitlines() == [
        "6 problems:",
        "- names.csv: 1 row without a cluster (row 5). Fill in the column cluster, or remove the "
        "rows.",
        "- names.csv, column cluster: 'c9' is no cluster; expected c01 to c04.",
        "- names.csv, column cluster: c02 has several rows; expected one each.",
        "- names.csv: 1 row with an empty name (row 1). Name these clusters, or remove the rows.",
        "- names.csv: 1 row with a name of more than 40 characters (row 7). Shorten it.",
        "- names.csv: 1 row whose name is the label of another cluster (row 6). Give a name in "
        "words.",
    ]


def test_other_columns_are_refused(tmp_path):
    with pytest.raises(SchemaError, match="no column 'name'; unknown column 'label'"):
        read_names(written(tmp_path, "cluster,label\nc01,fat\n"), CLUSTERS)


def test_the_template_is_read_again_once_it_is_filled_in(tmp_path):
    path = written(tmp_path, template(CLUSTERS).replace(",\n", ',"stroma, loose"\n'))
    assert read_names(path, CLUSTERS) == dict.fromkeys(CLUSTERS, "stroma, loose")


def test_a_composition_sums_what_shares_a_name():
    shares = pd.DataFrame({"c01": [0.25, 0.5], "c02": [0.5, 0.0], "c03": [0.25, 0.5]})
    found = composition(shares, {"c01": "fat", "c03": "fat"})
    assert found.to_dict("list") == {"fat": [0.5, 1.0], "c02": [0.5, 0.0]}
