"""What an encoder was pretrained on: read from tables and cohort.toml, said beside every C."""

import re

import bs4
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabular_trainers import load_cohort
from tabular_trainers.cohort_encoders import encoder_facts, encoder_sentence, overlap
from tabular_trainers.cohort_review import check
from tabular_trainers.report import page
from tabular_trainers.tables import read_table
from tests import example_run

TOML = """
title = "A cohort"
time_zero = "diagnosis"
{sources}
[clinical]
table = "clinical.csv"
[endpoints.os]
kind = "survival"
time = "days"
unit = "days"
event = "status"
event_values = ["dead"]
[blocks.clinical]
columns = ["age"]
[blocks.pathology]
table = "pathology.parquet"
{declared}
"""


def write_pathology(folder, ids, **metadata):
    """Write a block's table as Parquet that says where it comes from."""
    table = pa.table({"patient_id": ids, "e000": [0.5 * i for i in range(len(ids))]})
    pq.write_table(table.replace_schema_metadata(metadata), folder / "pathology.parquet")


@pytest.fixture
def load(tmp_path):
    """Return a function that writes a cohort of four patients and loads it."""

    def write_and_load(sources="", declared="", prefix="P", **metadata):
        ids = [f"{prefix}{i}" for i in range(4)]
        clinical = pd.DataFrame({"patient_id": ids, "age": [50, 60, 55, 70]})
        clinical = clinical.assign(days=[10, 20, 30, 40], status=["dead", "alive", "dead", "dead"])
        clinical.to_csv(tmp_path / "clinical.csv", index=False)
        write_pathology(tmp_path, ids, **metadata)
        toml = TOML.format(sources=sources, declared=declared)
        (tmp_path / "cohort.toml").write_text(toml)
        return load_cohort(tmp_path / "cohort.toml")

    return write_and_load


HIPT = {"encoder_id": "hipt-1", "pretrained_on": '["TCGA"]'}
SEEN = (
    "The encoder of block pathology (hipt-1) was pretrained on TCGA, from which this cohort comes: "
    "it has seen these slides, though not their outcomes."
)
ELSEWHERE = (
    "The encoder of block pathology (hipt-1) was pretrained on TCGA; no overlap with this cohort "
    "is known."
)
UNKNOWN = (
    "The encoder of block pathology (uni_v1): what it was pretrained on is unknown, so it may have "
    "seen this cohort."
)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (HIPT, ELSEWHERE),
        (HIPT | {"prefix": "TCGA-02-000"}, SEEN),
        (HIPT | {"sources": 'sources = ["tcga"]'}, SEEN.replace("on TCGA", "on tcga")),
        (HIPT | {"sources": 'sources = ["CPTAC"]'}, ELSEWHERE),
        ({"encoder_id": "uni_v1", "pretrained_on": '["unknown"]'}, UNKNOWN),
        ({"encoder_id": "uni_v1"}, UNKNOWN),
        (
            {
                "encoder_id": "uni_v1",
                "pretrained_on": '["unknown"]',
                "prefix": "TCGA-A1-A0S",
                "declared": 'pretrained_on = ["TCGA-BRCA"]',
            },
            SEEN.replace("hipt-1", "uni_v1"),
        ),
        (
            {"declared": 'pretrained_on = ["CPTAC", "GTEx", "ImageNet-1k"]'},
            "The encoder of block pathology was pretrained on CPTAC, GTEx and ImageNet-1k; no "
            "overlap with this cohort is known.",
        ),
        ({"encoder_id": "stain-1", "pretrained_on": "[]"}, None),
        ({}, None),
    ],
)
def test_what_is_said_of_a_block(load, settings, told):
    cohort = load(**settings)
    facts = encoder_facts(cohort.blocks["pathology"], cohort.sources)
    assert encoder_sentence("pathology", facts) == told
    said = [line for line in check(cohort) if "encoder" in line]
    assert said == ([told] if told else [])
    assert encoder_sentence("clinical", encoder_facts(cohort.blocks["clinical"], ("TCGA",))) is None


def test_a_long_id_is_cut(load):
    cohort = load(encoder_id="hipt-" + 64 * "a", pretrained_on='["TCGA"]')
    told = encoder_sentence("pathology", encoder_facts(cohort.blocks["pathology"], ()))
    assert f"(hipt-{54 * 'a'}…)" in told


def test_metadata_that_is_no_list_is_one_name(load):
    cohort = load(encoder_id="x", pretrained_on="TCGA and others")
    assert cohort.blocks["pathology"].pretrained_on == ("TCGA and others",)
    assert overlap(("TCGA and others",), ("TCGA",)) == ["TCGA"]


@pytest.mark.parametrize(
    ("patient", "known"),
    [
        ("TCGA-02-0001", True),
        ("TCGA-02-0001-01Z", True),
        ("TCGA-02-00012", False),
        ("TCGA1", False),
    ],
)
def test_barcodes_of_tcga_are_known(load, tmp_path, patient, known):
    load()
    for name in ("clinical.csv",):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace("P0", patient))
    cohort = load_cohort(tmp_path / "cohort.toml")
    assert cohort.sources == (("TCGA",) if known else ())


def test_other_tables_say_nothing(tmp_path):
    write_pathology(tmp_path, ["P1"], something="else")
    assert read_table(tmp_path / "pathology.parquet").attrs == {}
    write_pathology(tmp_path, ["P1"], **HIPT)
    assert read_table(tmp_path / "pathology.parquet").attrs == HIPT


SMALL = {"n": 60, "models": ("cox", "rsf")}


def reported(**facts):
    """Write the report of a fabricated run whose block pathology has an encoder."""
    tables, run = example_run.example_tables(**SMALL)
    run["blocks"]["pathology"] |= {"encoder_id": "hipt-1", "pretrained_on": None} | facts
    return bs4.BeautifulSoup(page(tables, run, {}), "html.parser")


def words_of(element):
    return re.sub(r"\s+", " ", element.get_text(" ")).strip()


def test_the_report_says_it_beside_every_c():
    html = reported(pretrained_on=["TCGA"], pretraining_overlap=["TCGA"])
    for name in ("discrimination", "error", "calibration-table", "differences-harrell-c"):
        table = html.find(id=name)
        notes = [words_of(n) for n in table.find_parent("div").find_next_siblings("p", limit=4)]
        assert f"‡ {SEEN}" in notes
        heads = [words_of(th) for th in table.select("tbody th")]
        marked = [head for head in heads if head.endswith("‡") or "‡ (primary)" in head]
        assert marked == [head for head in heads if "pathology" in head]
        assert marked
    assert SEEN in words_of(html.find("div", class_="verdict"))
    notes = [words_of(n) for n in html.find(id="blocks").find_parent("div").find_next_siblings("p")]
    assert SEEN in notes


def test_the_report_says_what_is_unknown():
    html = reported(encoder_id="uni_v1", pretrained_on=["unknown"], pretraining_overlap=[])
    assert UNKNOWN in words_of(html.find("div", class_="verdict"))
    assert words_of(html).count("‡") > 10


def test_no_overlap_is_said_once_where_blocks_are_described():
    html = reported(pretrained_on=["TCGA"], pretraining_overlap=[])
    assert words_of(html).count(ELSEWHERE) == 1
    assert "‡" not in words_of(html)


@pytest.mark.parametrize("facts", [{}, {"pretrained_on": [], "pretraining_overlap": []}])
def test_nothing_is_said_of_what_was_not_trained(facts):
    html = words_of(reported(**facts))
    assert "pretrained" not in html
    assert "‡" not in html
