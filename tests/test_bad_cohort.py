"""Every bad input that is seen while a cohort is read: the whole message is compared."""

import pytest

from tabular_trainers import DataError, SchemaError, load_cohort

TOML = """title = "A cohort"
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
CLINICAL = """patient_id,hospital,age,stage,days,status
003,H2,70,II,300,alive
001,H1,61.5,I,100,dead
002,H1,,III,200,dead
1,H1,50,,50,alive
"""
GENES = """patient_id,A_rnaseq,B_rnaseq
002,1,2
001,3,4
003,5,6
"""
RESPONSE = TOML.replace(
    TOML[TOML.index("[endpoints") : TOML.index("[blocks.clinical]")],
    """[endpoints.response]
kind = "classification"
label = "stage"
positive = "III"
""",
)
MANY_LEVELS = "patient_id,hospital,age,stage,days,status\n" + "".join(
    f"P{i},H1,60,L{i},{i + 1},{'dead' if i % 2 else 'alive'}\n" for i in range(500)
)


@pytest.fixture
def refused(tmp_path):
    """Return a function that writes a cohort and gives the error of loading it."""

    def message(kind=SchemaError, toml=TOML, clinical=CLINICAL, genes=GENES, endpoint=None):
        for name, text in (("clinical", clinical), ("genes", genes)):
            if text is not None:
                (tmp_path / f"{name}.csv").write_text(text)
        (tmp_path / "cohort.toml").write_text(toml)
        with pytest.raises((SchemaError, DataError)) as caught:
            load_cohort(tmp_path / "cohort.toml", endpoint=endpoint)
        assert type(caught.value) is kind
        return str(caught.value).replace(str(tmp_path), "DIR")

    return message


# --- the cohort.toml -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "columns =",
            "colums =",
            "2 problems:\n"
            "- cohort.toml, [blocks.clinical]: unknown option 'colums'; known: table, key, "
            "columns, "
            "exclude, categorical, pool, reduce, pretrained_on. Did you mean 'columns'?\n"
            "- cohort.toml, [blocks.genomics]: unknown option 'colums'; known: table, key, "
            "columns, "
            "exclude, categorical, pool, reduce, pretrained_on. Did you mean 'columns'?",
        ),
        (
            "[clinical]",
            "[clinic]",
            "2 problems:\n"
            "- cohort.toml: no option 'clinical'; it is required.\n"
            "- cohort.toml: unknown option 'clinic'; known: title, time_zero, missing_blocks, "
            "sources, clinical, endpoints, blocks. Did you mean 'clinical'?",
        ),
        (
            'unit = "days"',
            'unit = "day"',
            "cohort.toml, [endpoints.os], option 'unit': expected 'days', 'weeks', 'months' or "
            "'years'. Did you mean 'days'?",
        ),
        (
            'unit = "days"\n',
            "",
            "cohort.toml, [endpoints.os]: no option 'unit'; it is required.",
        ),
        (
            'kind = "survival"',
            'knd = "survival"',
            "cohort.toml, [endpoints.os]: no option 'kind'; expected 'survival' or "
            "'classification'. Is it 'knd'?",
        ),
        (
            '["dead"]',
            '"dead"',
            "cohort.toml, [endpoints.os], option 'event_values': expected a list of texts.",
        ),
        (
            '["dead"]',
            '["dead"]\nhorizons = [3, 1]',
            "cohort.toml, [endpoints.os], option 'horizons': expected times above 0 in increasing "
            "order.",
        ),
        (
            "[blocks.genomics]",
            '[blocks."gen.omics"]',
            "cohort.toml, option 'blocks': the name 'gen.omics' may hold only letters, digits, _ "
            "and -.",
        ),
        (
            "[blocks.genomics]",
            "[blocks.late-genomics]",
            "cohort.toml, option 'blocks': the name 'late-genomics' is taken by the folders of "
            "late fusion.",
        ),
        (
            '["dead"]',
            '["FILL_IN"]',
            "cohort.toml: still to be filled in: endpoints.os.event_values. Replace every FILL_IN "
            "(the comments beside it say with what).",
        ),
    ],
)
def test_options(refused, old, new, expected):
    assert refused(toml=TOML.replace(old, new)) == expected


def test_not_toml(refused):
    assert refused(toml="title = ").startswith("cohort.toml: not a TOML file (Invalid value")


def test_unknown_endpoint(refused):
    assert refused(DataError, endpoint="osx") == (
        "unknown endpoint 'osx'; known: os. Did you mean 'os'?"
    )


# --- tables and columns --------------------------------------------------------------------------


def test_missing_file(refused):
    assert refused(genes=None) == (
        "genes.csv: no such file in DIR. Give the folder of the tables with --data, if it is "
        "another."
    )


def test_missing_file_whose_name_is_nearly_right(refused):
    assert refused(toml=TOML.replace('"genes.csv"', '"gene.csv"')) == (
        "gene.csv: no such file in DIR. Did you mean 'genes.csv'? Give the folder of the tables "
        "with --data, if it is another."
    )


def test_missing_clinical_table_and_another(refused):
    assert refused(clinical=None, genes=None) == (
        "2 problems:\n"
        "- clinical.csv: no such file in DIR. Give the folder of the tables with --data, if it is "
        "another.\n"
        "- genes.csv: no such file in DIR. Give the folder of the tables with --data, if it is "
        "another."
    )


def test_not_a_csv(refused):
    assert refused(genes="PK\x03\x04") == (
        "genes.csv: not a CSV file but a workbook or zip; open it and save the table as CSV."
    )


def test_empty_table(refused):
    assert refused(genes="patient_id,A_rnaseq\n") == (
        "genes.csv: the table is empty; expected a header and at least one row."
    )


def test_missing_column(refused):
    assert refused(toml=TOML.replace('"age"', '"size"')) == (
        "clinical.csv: no column 'size' ([blocks.clinical])."
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            ",age,",
            ",Age,",
            "clinical.csv: no column 'age' ([blocks.clinical]). Did you mean 'Age'?",
        ),
        (
            "patient_id",
            "PatientID",
            "clinical.csv: no column 'patient_id' ([clinical]). Did you mean 'PatientID'?",
        ),
        (
            "status",
            "Status",
            "clinical.csv: no column 'status' ([endpoints.os]). Did you mean 'Status'?",
        ),
        (
            "hospital",
            "hospitals",
            "clinical.csv: no column 'hospital' ([clinical]). Did you mean 'hospitals'?",
        ),
    ],
)
def test_renamed_column(refused, old, new, expected):
    assert refused(clinical=CLINICAL.replace(old, new)) == expected


def test_duplicate_column(refused):
    assert refused(clinical=CLINICAL.replace("stage", "age")) == (
        "clinical.csv: column 'age' is there more than once; rename or remove the copies."
    )


def test_patterns_that_match_nothing(refused):
    toml = TOML.replace("*_rnaseq", "*_cnv") + 'exclude = ["C_rnaseq"]\n'
    assert refused(toml=toml) == (
        "2 problems:\n"
        "- [blocks.genomics], exclude: 'C_rnaseq' is no column. Did you mean 'B_rnaseq'?\n"
        "- genes.csv: no column matches '*_cnv' ([blocks.genomics])."
    )


def test_categorical_that_is_no_column(refused):
    assert refused(toml=TOML + 'categorical = ["B_rnasek"]\n') == (
        "[blocks.genomics], categorical: 'B_rnasek' is not among the block's columns. Did you mean "
        "'B_rnaseq'?"
    )


def test_outcomes_and_ids_are_no_predictors(refused):
    assert refused(toml=TOML.replace('"stage"', '"status", "patient_id"')) == (
        "2 problems:\n"
        "- [blocks.clinical]: column 'status' is the outcome of endpoint os, not a predictor; "
        "leave "
        "it out of columns.\n"
        "- [blocks.clinical]: column 'patient_id' is the patient id, not a predictor."
    )


def test_a_column_in_two_tables(refused):
    toml = TOML.replace('"genes.csv"', '["genes.csv", "clinical.csv"]')
    clinical = CLINICAL.replace("stage", "A_rnaseq")
    assert refused(toml=toml.replace('"stage"', '"age"'), clinical=clinical).splitlines()[-1] == (
        "[blocks.genomics]: column 'A_rnaseq' is in several tables (genes.csv, clinical.csv); "
        "rename it in one of them."
    )


# --- patient ids ---------------------------------------------------------------------------------


def test_duplicate_patient_id(refused):
    assert refused(clinical=CLINICAL + "001,H1,63,I,100,dead\n") == (
        "clinical.csv, column patient_id: 1 of 4 patient ids is there more than once, with "
        "different values in age (patient 001; rows 2, 5). Keep one row a patient, or set pool = "
        '"mean", "max" or "first" in [blocks.clinical].'
    )


def test_duplicate_patient_id_with_another_outcome(refused):
    assert refused(clinical=CLINICAL + "001,H1,61.5,I,101,alive\n") == (
        "clinical.csv, column patient_id: 1 of 4 patient ids is there more than once, with "
        "different values in days, status (patient 001; rows 2, 5). Keep one row a patient "
        "([endpoints.os])."
    )


def test_duplicate_patient_id_with_another_site(refused):
    assert refused(clinical=CLINICAL + "001,H2,61.5,I,100,dead\n") == (
        "clinical.csv, column patient_id: 1 of 4 patient ids is there more than once, with "
        "different values in hospital (patient 001; rows 2, 5). Keep one row a patient "
        "([clinical])."
    )


def test_labels_cannot_be_averaged(refused):
    genes = "patient_id,A_rnaseq,kind\n001,1,a\n001,2,b\n002,3,a\n"
    assert refused(toml=TOML.replace('["*_rnaseq"]', '["*"]\npool = "mean"'), genes=genes) == (
        "genes.csv, column patient_id: 1 of 2 patient ids is there more than once, with different "
        "labels in kind, which 'mean' cannot pool (patient 001; rows 1, 2). Leave those columns "
        'out, or set pool = "first" in [blocks.genomics].'
    )


def test_missing_patient_id(refused):
    assert refused(clinical=CLINICAL.replace("003,H2", ",H2")) == (
        "clinical.csv, column patient_id: 1 of 4 rows has no patient id (row 1)."
    )


def test_ids_that_match_nowhere(refused):
    clinical = CLINICAL.replace("\n1,", "\n004,")
    assert refused(DataError, clinical=clinical, genes="patient_id,A_rnaseq\n1,1\n2,2\n") == (
        "genes.csv, column patient_id: none of its 2 ids is in clinical.csv, column patient_id "
        "(here '1', '2'; there '003', '001', '002' and 1 more). Ids are compared exactly as text. "
        "They would match without leading zeros. Correct the ids in one of the tables."
    )


def test_a_block_with_no_patient_in_common(refused):
    assert refused(DataError, genes="patient_id,A_rnaseq\nX1,1\nX2,2\n") == (
        "genes.csv, column patient_id: none of its 2 ids is in clinical.csv, column patient_id "
        "(here 'X1', 'X2'; there '003', '001', '002' and 1 more). Ids are compared exactly as "
        "text. Correct the ids in one of the tables."
    )


def test_blocks_without_a_patient_in_common(tmp_path):
    (tmp_path / "clinical.csv").write_text(CLINICAL)
    (tmp_path / "genes.csv").write_text(GENES)
    (tmp_path / "cells.csv").write_text("patient_id,cd3\n1,5\n")
    (tmp_path / "cohort.toml").write_text(TOML + '[blocks.cells]\ntable = "cells.csv"\n')
    with pytest.raises(DataError) as caught:
        load_cohort(tmp_path / "cohort.toml").analysis_set()
    assert str(caught.value) == (
        "no patient has endpoint os and every one of the blocks clinical, genomics, cells; compare "
        "their patient ids, or leave a block out."
    )


# --- endpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "100,dead",
            "-100,dead",
            "clinical.csv, column days: 1 of 4 times is negative (row 2); expected days >= 0. "
            'Correct them, or set negative_time = "drop" in [endpoints.os] to leave these patients '
            "out.",
        ),
        (
            "100,dead",
            "100 d,dead",
            "clinical.csv, column days: 1 of 4 values is not a number (row 2); expected days from "
            "time zero, or an empty cell where unknown ([endpoints.os]).",
        ),
        (
            "100,dead",
            "inf,dead",
            "clinical.csv, column days: 1 of 4 values is infinite (row 2); expected days from time "
            "zero, or an empty cell where unknown ([endpoints.os]).",
        ),
        (
            "100,dead",
            "0,dead",
            "clinical.csv, column days: 1 of 4 times is zero (row 2); expected days > 0. Set "
            'zero_time = "drop", or "half_unit" to count them as half of one of the days, in '
            "[endpoints.os].",
        ),
        (
            "50,alive",
            "50,lost",
            "clinical.csv, column status: 2 labels besides event_values: 'alive', 'lost'; expected "
            "one. Name the labels that mean censored in censored_values, and those that mean "
            "unknown in missing_values, in [endpoints.os].",
        ),
        (
            "dead",
            "deceased",
            "clinical.csv, column status: 'dead' of event_values in [endpoints.os] is not among "
            "its labels, 'alive', 'deceased'. Did you mean 'deceased'?",
        ),
    ],
)
def test_times_and_events(refused, old, new, expected):
    assert refused(clinical=CLINICAL.replace(old, new)) == expected


def test_labels_that_are_neither_events_nor_censored(refused):
    toml = TOML.replace('["dead"]', '["dead"]\ncensored_values = ["alive"]')
    assert refused(toml=toml, clinical=CLINICAL.replace("50,alive", "50,lost")) == (
        "clinical.csv, column status: 1 of 4 labels is 'lost' (row 4); expected 'dead' "
        "(event_values) or 'alive' (censored_values). Correct them, or name them in "
        "missing_values, "
        "in [endpoints.os]."
    )


def test_at_most_ten_labels_are_shown_each_cut_at_forty_characters(refused):
    rows = "".join(f"P{i:02d},H1,60,I,9,label {i:02d} {'x' * 40}\n" for i in range(12))
    shown = ", ".join(f"'label {i:02d} {'x' * 30}…'" for i in range(10))
    genes = "patient_id,A_rnaseq\nP01,1\nP02,2\n"
    clinical = CLINICAL.splitlines()[0] + "\n" + rows
    assert refused(clinical=clinical, genes=genes) == (
        "clinical.csv, column status: 'dead' of event_values in [endpoints.os] is not among its "
        f"labels, {shown} and 2 more."
    )


def test_all_censored(refused):
    assert refused(DataError, clinical=CLINICAL.replace("dead", "alive")) == (
        "clinical.csv, column status: none of 4 patients has the event; event_values in "
        "[endpoints.os] is 'dead', and the column holds 'alive'."
    )


def test_nobody_censored_is_a_warning(tmp_path):
    (tmp_path / "clinical.csv").write_text(CLINICAL.replace("alive", "dead"))
    (tmp_path / "genes.csv").write_text(GENES)
    (tmp_path / "cohort.toml").write_text(TOML)
    assert load_cohort(tmp_path / "cohort.toml").notes[-1] == (
        "[endpoints.os]: all 4 patients have the event and nobody is censored; is that so, or were "
        "the censored patients left out?"
    )


def test_no_status_at_all(refused):
    clinical = CLINICAL.replace("dead", "").replace("alive", "")
    assert refused(clinical=clinical) == (
        "clinical.csv, column status: no value is known; expected one label a patient "
        "([endpoints.os])."
    )


def test_entry_after_time(refused):
    toml = TOML.replace('event = "status"', 'event = "status"\nentry = "entry"')
    values = ["entry", 10, 100, 250, -5]  # the second equals its time
    lines = CLINICAL.splitlines()
    clinical = "".join(f"{a},{b}\n" for a, b in zip(lines, values, strict=True))
    assert refused(toml=toml, clinical=clinical) == (
        "2 problems:\n"
        "- clinical.csv, column entry: 1 of 4 times is negative (row 4); expected days >= 0 from "
        "time zero. Correct them, or leave these patients out of the table ([endpoints.os]).\n"
        "- clinical.csv, column entry: 2 of 4 times are not before days (rows 2, 3); expected "
        "entry < time, days. Correct them, or leave these patients out of the table "
        "([endpoints.os])."
    )


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            "landmark = 30",
            "[endpoints.os]: landmark is given without entry; it is for patients who came under "
            "observation after time zero. Give entry, or leave landmark out.",
        ),
        (
            'entry = "entry"\nlandmark = 0',
            "[endpoints.os], option 'landmark': expected a time above 0.",
        ),
        (
            'entry = "entry"\nlandmark = 365\nhorizons = [100, 365]',
            "[endpoints.os]: landmark is not before the largest of horizons; expected one that is.",
        ),
    ],
)
def test_landmark(refused, lines, told):
    toml = TOML.replace('event = "status"', f'event = "status"\n{lines}')
    assert refused(toml=toml) == f"cohort.toml, {told}"


def test_more_than_two_classes(refused):
    assert refused(toml=RESPONSE) == (
        "clinical.csv, column stage: 2 labels besides 'III' (positive): 'II', 'I'; expected one. "
        "Name those that mean unknown in missing_values, in [endpoints.response]."
    )


def test_a_positive_label_that_is_not_there(refused):
    assert refused(toml=RESPONSE.replace('"III"', '"IV"')) == (
        "clinical.csv, column stage: 'IV' of positive in [endpoints.response] is not among its "
        "labels, 'I', 'II', 'III'. Did you mean 'I'?"
    )


def test_one_class(refused):
    toml = RESPONSE.replace('"III"', '"III"\nmissing_values = ["I", "II"]')
    assert refused(DataError, toml=toml) == (
        "clinical.csv, column stage: every one of 1 patient is 'III' (positive in "
        "[endpoints.response]); expected two classes."
    )


def test_leave_out_that_is_in_no_block(refused):
    toml = TOML.replace('event = "status"', 'event = "status"\nleave_out = ["stages"]')
    assert refused(toml=toml) == (
        "[endpoints.os], leave_out: 'stages' is in no block. Did you mean 'stage'?"
    )


# --- values of blocks ----------------------------------------------------------------------------


def test_inf(refused):
    assert refused(clinical=CLINICAL.replace("61.5", "inf")) == (
        "clinical.csv, column age: 1 of 4 values is infinite (row 2); expected numbers, or an "
        "empty "
        "cell where unknown ([blocks.clinical])."
    )


def test_numbers_with_slips_are_not_taken_as_labels(refused):
    assert refused(clinical=CLINICAL.replace("61.5", "6l.5")) == (
        "clinical.csv, column age: 1 of 3 values is not a number (row 2). Correct them, or name "
        "the "
        "column under categorical in [blocks.clinical]."
    )


def test_a_column_with_all_values_missing(refused):
    genes = "patient_id,A_rnaseq,B_rnaseq\n001,1,\n002,2,\n"
    assert refused(genes=genes) == (
        "[blocks.genomics]: all 2 values of column B_rnaseq are missing; leave it out of columns, "
        "or name it under exclude."
    )


def test_a_categorical_with_500_levels(refused):
    genes = "patient_id,A_rnaseq\nP0,1\nP1,2\n"
    assert refused(clinical=MANY_LEVELS, genes=genes) == (
        "[blocks.clinical]: column stage is categorical with 500 labels in 500 patients; expected "
        "fewer than 100, and several patients a label. Leave it out, or group its labels."
    )


# --- everything at once --------------------------------------------------------------------------


def test_every_problem_comes_in_one_message(refused):
    toml = TOML.replace('"age"', '"aeg"').replace('"hospital"', '"hospitl"')
    clinical = CLINICAL.replace("100,dead", "-100,dead").replace("50,alive", "0,alive")
    assert refused(toml=toml, clinical=clinical, genes=GENES.replace("5,6", "inf,6")) == (
        "5 problems:\n"
        "- clinical.csv: no column 'hospitl' ([clinical]). Did you mean 'hospital'?\n"
        "- clinical.csv: no column 'aeg' ([blocks.clinical]). Did you mean 'age'?\n"
        "- genes.csv, column A_rnaseq: 1 of 3 values is infinite (row 3); expected numbers, or an "
        "empty cell where unknown ([blocks.genomics]).\n"
        "- clinical.csv, column days: 1 of 4 times is negative (row 2); expected days >= 0. "
        'Correct them, or set negative_time = "drop" in [endpoints.os] to leave these patients '
        "out.\n"
        "- clinical.csv, column days: 1 of 4 times is zero (row 4); expected days > 0. Set "
        'zero_time = "drop", or "half_unit" to count them as half of one of the days, in '
        "[endpoints.os]."
    )
