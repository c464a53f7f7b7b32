import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers import DataError, SchemaError, demo_cohort, load_cohort, synthetic_cohort
from tabular_trainers.cohort_endpoints import label_key
from tabular_trainers.demo import write_cohort
from tabular_trainers.schema import validate

TOML = """
title = "A cohort"
time_zero = "diagnosis"
[clinical]
table = "clinical.csv"
site = "hospital"
[endpoints.os]
kind = "survival"
time = "days"
unit = "days"
event = "status"
event_values = ["dead"]
[blocks.clinical]
columns = ["age", "stage"]
[blocks.genomics]
table = "genes.csv"
columns = ["*_rnaseq"]
"""
CLINICAL = """patient_id,hospital,age,stage,smoker,days,status
003,H2,70,II,True,300,alive
001,H1,61.5,I,,100,dead
002,H1,,III,False,200,dead
1,H1,50,,True,50,alive
"""
GENES = """patient_id,A_rnaseq,B_rnaseq,A_cnv
002,1,2,0
001,3,4,0
003,5,6,0
999,0,0,0
"""


@pytest.fixture
def load(tmp_path):
    """Return a function that writes tables and a cohort.toml, and loads them."""

    def write_and_load(toml=TOML, endpoint=None, **tables):
        for name, text in {"clinical": CLINICAL, "genes": GENES, **tables}.items():
            if isinstance(text, str):
                (tmp_path / f"{name}.csv").write_text(text)
        (tmp_path / "cohort.toml").write_text(toml)
        return load_cohort(tmp_path / "cohort.toml", endpoint=endpoint)

    return write_and_load


def test_tables_are_joined_on_exact_ids(load):
    cohort = load()
    assert cohort.patients.tolist() == ["001", "002", "003", "1"]
    assert cohort.blocks["genomics"].table.index.tolist() == ["001", "002", "003"]
    analysis = cohort.analysis_set()
    assert analysis.patient_id.tolist() == ["001", "002", "003"]
    assert analysis.X["genomics.A_rnaseq"].tolist() == [3, 1, 5]
    assert analysis.X["clinical.stage"].tolist() == ["I", "III", "II"]
    assert analysis.y["time"].tolist() == [100, 200, 300]
    assert analysis.y["event"].tolist() == [True, True, False]
    assert analysis.site.tolist() == ["H1", "H1", "H2"]
    assert analysis.categorical == ("clinical.stage",)
    assert cohort.notes == (
        "[blocks.clinical]: text, so taken as categorical: stage.",
        "[blocks.genomics], genes.csv: 1 id is not in clinical.csv, and left out.",
    )


def test_who_was_dropped_and_why_is_counted(load):
    clinical = CLINICAL.replace("300,alive", ",alive").replace("100,dead", "0,dead")
    toml = TOML.replace('unit = "days"', 'unit = "days"\nzero_time = "drop"')
    analysis = load(toml, clinical=clinical + "2,H2,55,I,,10,dead\n").analysis_set()
    validate(analysis.flow, "flow")
    assert analysis.flow.to_dict("records") == [
        {
            "step": 0,
            "description": "patients in the clinical table (clinical.csv)",
            "n_dropped": 0,
            "n_patients": 5,
        },
        {
            "step": 1,
            "description": "endpoint os not known (days, status)",
            "n_dropped": 1,
            "n_patients": 4,
        },
        {"step": 2, "description": "endpoint os at time zero", "n_dropped": 1, "n_patients": 3},
        {"step": 3, "description": "without block genomics", "n_dropped": 2, "n_patients": 1},
    ]
    assert analysis.dropped.index.tolist() == ["001", "003", "1", "2"]
    assert list(analysis.dropped.columns) == list(analysis.X.columns)


def test_half_a_unit_and_negative_times(load):
    clinical = CLINICAL.replace("100,dead", "0,dead").replace("50,alive", "-3,alive")
    toml = TOML.replace(
        'unit = "days"', 'unit = "days"\nzero_time = "half_unit"\nnegative_time = "drop"'
    )
    endpoint = load(toml, clinical=clinical).endpoint()
    assert endpoint.table["time"].to_dict() == {"001": 0.5, "002": 200, "003": 300}
    assert endpoint.dropped == (("endpoint os before time zero", 1),)


@pytest.mark.parametrize("declared", ["0", "0.0", '"0"', '"0.0"', "false"])
@pytest.mark.parametrize("written", ["0,1", "0.0,1.0"])
def test_numeric_labels_are_compared_as_numbers(load, declared, written):
    dead, alive = written.split(",")
    clinical = CLINICAL.replace("dead", dead).replace("alive", alive)
    endpoint = load(TOML.replace('"dead"', declared), clinical=clinical).endpoint()
    assert endpoint.table["event"].to_dict() == {
        "001": True,
        "002": True,
        "003": False,
        "1": False,
    }


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, "1.0", True),
        ("1", 1.0, True),
        (True, "True", True),
        ("yes", "Yes", False),
        ("dead", "dead ", False),
        (1, "one", False),
    ],
)
def test_label_key(one, other, same):
    assert (label_key(one) == label_key(other)) is same


def test_codes_are_labels_without_a_point(load):
    clinical = CLINICAL.replace(",II,", ",2,").replace(",III,", ",3,").replace(",I,", ",1,")
    toml = TOML.replace('"stage"]', '"stage"]\ncategorical = ["stage"]')
    block = load(toml, clinical=clinical).blocks["clinical"]
    assert block.table["stage"].tolist() == ["1", "3", "2", None]  # one is missing: read as 1.0


def test_booleans_are_numbers_also_with_missing_values(load):
    block = load(TOML.replace('"stage"]', '"smoker"]')).blocks["clinical"]
    assert block.table["smoker"].dtype == "float64"
    assert block.table["smoker"].fillna(-1).tolist() == [-1, 0, 1, 1]


SEVERAL = GENES + "001,5,8,0\n"


@pytest.mark.parametrize(
    ("pool", "expected"), [("mean", [4, 6]), ("max", [5, 8]), ("first", [3, 4])]
)
def test_several_rows_are_pooled_and_said_so(load, pool, expected):
    cohort = load(TOML + f'pool = "{pool}"\n', genes=SEVERAL)
    assert cohort.blocks["genomics"].table.loc["001"].tolist() == expected
    assert cohort.blocks["genomics"].n_rows == 4
    assert cohort.notes[1] == (
        f"[blocks.genomics], genes.csv: 4 rows of 3 patients pooled by {pool} (1 patient with "
        "several rows)."
    )


def test_rows_that_agree_count_once(load):
    cohort = load(genes=GENES + "001,3,4,77\n")  # differs only in a column that is not used
    assert cohort.blocks["genomics"].table.loc["001"].tolist() == [3, 4]
    assert cohort.notes[1] == (
        "genes.csv: 4 rows of 3 patients agree in every column used; one row a patient was kept."
    )


def test_brackets_in_names_mean_nothing_and_stars_do(load):
    genes = "patient_id,Cells [#/volume],Cells,mass\n001,1,2,3\n002,4,5,6\n003,7,8,9\n"
    columns = 'columns = ["Cells [#/volume]", "m*"]'
    cohort = load(TOML.replace('columns = ["*_rnaseq"]', columns), genes=genes)
    assert list(cohort.blocks["genomics"].table) == ["Cells [#/volume]", "mass"]


def test_a_block_of_all_columns_takes_neither_ids_nor_outcomes(load):
    toml = TOML.replace('columns = ["age", "stage"]', "")
    cohort = load(toml)
    assert list(cohort.blocks["clinical"].table) == ["age", "stage", "smoker"]
    assert "[blocks.clinical]: outcome columns are left out: days, status." in cohort.notes


def test_exclude_takes_patterns(load):
    cohort = load(TOML.replace('["*_rnaseq"]', '["*"]\nexclude = ["B_*"]'))
    assert list(cohort.blocks["genomics"].table) == ["A_rnaseq", "A_cnv"]


def test_a_block_may_join_tables_with_other_keys(load):
    toml = TOML.replace(
        'table = "genes.csv"', 'table = ["genes.csv", "more.csv"]\nkey = ["patient_id", "case"]'
    ).replace('["*_rnaseq"]', '["*_rnaseq", "extra"]')
    cohort = load(toml, more="case,extra\n001,9\n1,8\n")
    table = cohort.blocks["genomics"].table
    assert table.index.tolist() == ["001", "002", "003", "1"]
    assert table["extra"].fillna(-1).tolist() == [9, -1, -1, 8]


def test_patients_without_any_value_lack_the_block(load):
    cohort = load(genes=GENES.replace("001,3,4,0", "001,,,0"))
    assert cohort.blocks["genomics"].table.index.tolist() == ["002", "003"]


def test_with_impute_everybody_stays_and_says_what_is_missing(load):
    toml = TOML.replace("time_zero", 'missing_blocks = "impute"\ntime_zero')
    analysis = load(toml).analysis_set()
    assert analysis.patient_id.tolist() == ["001", "002", "003", "1"]
    assert analysis.X["missing_blocks.genomics"].tolist() == [0, 0, 0, 1]
    assert analysis.X.loc["1", ["genomics.A_rnaseq", "genomics.B_rnaseq"]].isna().all()
    for columns in analysis.feature_sets.values():
        assert columns[-1] == "missing_blocks.genomics"
    assert analysis.dropped is None


def test_late_fusion_has_the_columns_of_early_fusion_and_comes_after_it(load):
    cohort = load()
    assert cohort.feature_sets(["late:genomics + clinical"]) == (
        "clinical",
        "late:clinical+genomics",
    )
    analysis = cohort.analysis_set(feature_sets=["clinical+genomics", "late:genomics+clinical"])
    early, late = "clinical+genomics", "late:clinical+genomics"
    assert analysis.feature_sets[late] == analysis.feature_sets[early]
    assert (analysis.baseline, analysis.full) == ("clinical", early)
    for more in ([], ["genomics"]):
        assert cohort.analysis_set(feature_sets=[late, *more]).full == late
    assert not any("late" in name for name in cohort.feature_sets())
    for wrong in ("late:genomics", "late:"):
        with pytest.raises(DataError) as caught:
            cohort.feature_sets([wrong])
    with pytest.raises(DataError) as caught:
        cohort.feature_sets(["late:genomics"])
    assert str(caught.value) == (
        "feature set 'late:genomics': late fusion needs two blocks or more, joined by +; the "
        "cohort's blocks: clinical, genomics."
    )
    with pytest.raises(DataError, match="unknown block 'genomic'.* Did you mean 'genomics'"):
        cohort.feature_sets(["late:clinical+genomic"])


def test_the_full_feature_set_is_one_of_those_asked_for(load):
    three = load(TOML + '[blocks.cnv]\ntable = "genes.csv"\ncolumns = ["*_cnv"]\n')
    asked = ["clinical+genomics", "clinical+cnv", "cnv"]
    assert three.analysis_set(feature_sets=asked).full == "clinical+cnv"


def test_feature_sets(load):
    three = load(TOML + '[blocks.cnv]\ntable = "genes.csv"\ncolumns = ["*_cnv"]\n')
    assert three.feature_sets() == (
        "clinical",
        "genomics",
        "cnv",
        "clinical+genomics",
        "clinical+cnv",
        "clinical+genomics+cnv",
    )
    assert three.feature_sets(["cnv+clinical"]) == ("clinical", "clinical+cnv")
    assert three.feature_sets("genomics") == ("clinical", "genomics")
    with pytest.raises(DataError) as caught:
        three.feature_sets(["clinical+genomic"])
    assert str(caught.value) == (
        "unknown block 'genomic'; known: clinical, genomics, cnv. Did you mean 'genomics'?"
    )
    with pytest.raises(DataError, match="names a block twice"):
        three.feature_sets(["cnv+cnv"])


def test_only_the_blocks_used_decide_who_is_analysed(load):
    analysis = load().analysis_set(feature_sets=["clinical"])
    assert analysis.patient_id.tolist() == ["001", "002", "003", "1"]
    assert analysis.full == analysis.baseline == "clinical"
    assert set(analysis.feature_sets) == {"clinical"}


TWO = (
    TOML
    + """[endpoints.rfs]
kind = "survival"
time = "age"
unit = "days"
event = "status"
event_values = ["gone"]
"""
)


def test_what_is_wrong_with_one_endpoint_does_not_stop_another(load):
    cohort = load(TWO.replace('columns = ["age", "stage"]', 'columns = ["stage"]'))
    assert cohort.endpoint("os").n_events == 2
    assert cohort.endpoint_names == ("os", "rfs")
    with pytest.raises(SchemaError, match="'gone' of event_values"):
        cohort.endpoint("rfs")
    with pytest.raises(SchemaError, match="'gone' of event_values"):
        cohort.analysis_set("rfs")
    with pytest.raises(DataError, match=r"several endpoints; name one of os, rfs\."):
        cohort.endpoint()
    with pytest.raises(SchemaError, match="'gone' of event_values"):
        load(TWO.replace('columns = ["age", "stage"]', 'columns = ["stage"]'), endpoint="rfs")


CLASSES = (
    TOML
    + """[endpoints.response]
kind = "classification"
label = "stage"
positive = "III"
missing_values = ["I"]
leave_out = ["A_*"]
"""
)


def test_a_label_is_never_its_own_predictor(load):
    cohort = load(CLASSES, clinical=CLINICAL.replace(",,True", ",III,True"))
    assert "clinical.stage" in cohort.analysis_set("os").X
    analysis = cohort.analysis_set("response")
    assert list(analysis.X) == ["clinical.age", "genomics.B_rnaseq"]
    assert analysis.y.tolist() == [1, 0]
    assert analysis.y.dtype == "int8"
    assert analysis.notes == (
        "endpoint response: clinical.stage left out of the predictors (the label itself, or named "
        "under leave_out).",
        "endpoint response: genomics.A_rnaseq left out of the predictors (the label itself, or "
        "named under leave_out).",
    )
    assert cohort.endpoint("response").dropped == (("endpoint response not known (stage)", 1),)


def test_entry_makes_a_third_field(load):
    clinical = "\n".join(
        f"{line},{'entry' if i == 0 else 10 * i}"
        for i, line in enumerate(CLINICAL.strip().split("\n"))
    )
    toml = TOML.replace('event = "status"', 'event = "status"\nentry = "entry"\nlandmark = 15')
    cohort = load(toml, clinical=clinical)
    assert cohort.endpoint().has_entry
    assert cohort.endpoint().landmark == 15.0
    assert cohort.analysis_set().y["entry"].tolist() == [20, 30, 10]
    assert cohort.endpoint().description == (
        "event: status is 'dead'; time: days, days; entry: entry, days"
    )


def test_patients_without_a_site_are_kept_together(load):
    cohort = load(clinical=CLINICAL.replace("003,H2", "003,"))
    assert cohort.site["003"] == "(unknown)"
    assert cohort.notes[0] == (
        "[clinical], clinical.csv: 1 patient without hospital, kept together as '(unknown)'."
    )


def test_the_source_hash_follows_every_byte(load):
    first = load().source_hash
    assert load().source_hash == first
    assert load(genes=GENES + "998,0,0,0\n").source_hash != first
    assert load(TOML.replace("A cohort", "B")).source_hash != first


def test_data_may_lie_elsewhere(load, tmp_path):
    load()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "cohort.toml").rename(elsewhere / "cohort.toml")
    assert load_cohort(elsewhere / "cohort.toml", tmp_path).patients.size == 4
    with pytest.raises(SchemaError, match=r"clinical\.csv: no such file"):
        load_cohort(elsewhere / "cohort.toml")


def test_a_cohort_without_endpoints_can_be_scored(load):
    cohort = load(TOML[: TOML.index("[endpoints")] + TOML[TOML.index("[blocks.clinical]") :])
    assert cohort.endpoint_names == ()
    with pytest.raises(DataError, match="has no endpoint"):
        cohort.endpoint()


def test_a_cohort_is_frozen_and_says_what_it_holds():
    cohort = demo_cohort()
    assert repr(cohort) == (
        "Cohort 'GSE7390 breast cancer': 198 patients; endpoints distant_metastasis; blocks "
        "clinical (4), genomics (76)"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        cohort.title = "other"


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(12, 40),
    kind=st.sampled_from(["survival", "classification"]),
    n_sites=st.sampled_from([0, 4]),
    missing=st.sampled_from([0.0, 0.3]),
)
def test_write_read_round_trip(tmp_path_factory, seed, n, kind, n_sites, missing):
    drawn = synthetic_cohort(
        n, kind=kind, n_sites=n_sites, missing_blocks=missing, censoring=0.2, seed=seed
    )
    endpoint = drawn.endpoint()
    outcome = endpoint.table.iloc[:, 0]
    if outcome.all() or not outcome.any():
        return
    read = load_cohort(write_cohort(drawn, tmp_path_factory.mktemp("cohort")))
    assert read.patients.equals(drawn.patients)
    pd.testing.assert_frame_equal(read.endpoint().table, endpoint.table)
    for name, block in drawn.blocks.items():
        pd.testing.assert_frame_equal(read.blocks[name].table, block.table)
        assert read.blocks[name].categorical == block.categorical
    ours, theirs = drawn.analysis_set(), read.analysis_set()
    pd.testing.assert_frame_equal(ours.X, theirs.X)
    assert np.array_equal(ours.y, theirs.y)
    assert ours.feature_sets == theirs.feature_sets
    assert (ours.site is None) == (theirs.site is None) == (n_sites == 0)
    if n_sites:
        assert ours.site.tolist() == theirs.site.tolist()


def test_a_wide_block_may_be_kept_as_it_is(load):
    reduced = TOML.replace("[blocks.genomics]", "[blocks.genomics]\nreduce = { pca = 0 }")
    assert load(reduced).blocks["genomics"].reduce == {"pca": 0}


def test_a_folder_given_by_a_relative_path(tmp_path, monkeypatch):
    """The block has no table of its own, so the clinical one is found a second time."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "clinical.csv").write_text("id,age,days,dead\n1,50,10,1\n2,60,20,0\n")
    (tmp_path / "cohort.toml").write_text(
        'title = "t"\ntime_zero = "diagnosis"\n[clinical]\ntable = "clinical.csv"\n'
        'patient_id = "id"\n[endpoints.os]\nkind = "survival"\ntime = "days"\nunit = "days"\n'
        'event = "dead"\nevent_values = [1]\n[blocks.clinical]\ncolumns = ["age"]\n'
    )
    monkeypatch.chdir(tmp_path)
    assert len(load_cohort("cohort.toml", "tables").blocks["clinical"].table) == 2


def test_a_written_landmark_is_read_again(tmp_path):
    drawn = synthetic_cohort(60, entry=True)
    endpoint = dataclasses.replace(drawn.endpoint(), landmark=365.0)
    drawn = dataclasses.replace(drawn, endpoints={endpoint.name: endpoint})
    assert load_cohort(write_cohort(drawn, tmp_path)).endpoint().landmark == 365.0


def test_the_feature_set_of_all_columns_is_no_copy():
    cohort = synthetic_cohort(60, features={"clinical": 3, "pathology": 4})
    found = cohort.analysis_set(feature_sets=["clinical", "clinical+pathology"])
    assert found.columns_of("clinical+pathology") is found.X
    one = found.columns_of("clinical")
    assert one is not found.X
    assert list(one.columns) == list(found.feature_sets["clinical"])
    pd.testing.assert_frame_equal(one, found.X[list(one.columns)])
