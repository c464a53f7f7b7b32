import re

import pytest

from tabular_trainers.description import deaths_are_censored
from tabular_trainers.report_text import DEATHS_CENSORED
from tabular_trainers.reporting_guideline import checklist
from tabular_trainers.reporting_items import ITEMS
from tabular_trainers.schema import validate
from tests import example_run

SMALL = {"n": 60, "feature_sets": ("clinical", "blood", "clinical+blood"), "models": ("cox", "rsf")}


def filled(change=None, drop=(), **kwargs):
    tables, run = example_run.example_tables(**{**SMALL, **kwargs})
    tables = {name: table for name, table in tables.items() if name not in drop}
    if change:
        change(run)
    return checklist(tables, run).set_index("item")


def test_items_are_those_of_the_guideline():
    # Collins et al. 2024, table 2: 27 items, 52 with their parts
    parts = {"3": "abc", "5": "ab", "6": "abc", "8": "abc", "9": "abc", "12": "abcdefg"}
    parts |= {"18": "abcdef", "20": "abc", "23": "ab", "27": "abc"}
    expected = [
        f"{number}{part}" for number in range(1, 28) for part in parts.get(str(number), [""])
    ]
    assert [item.item for item in ITEMS] == expected
    assert len(expected) == 52


@pytest.mark.parametrize("kind", ["survival", "classification"])
def test_what_the_run_knows_is_filled_and_the_rest_left(kind):
    models = ("cox", "rsf") if kind == "survival" else ("logistic", "xgb")
    table = filled(kind=kind, models=models)
    validate(table.reset_index(), "tripod_ai")
    left = table[table["status"] == "for the author"]
    assert (left["text"] == "").all()
    assert (table.loc[table["status"] != "for the author", "text"].str.len() > 10).all()
    for item in ("2", "3a", "5b", "6c", "8c", "14", "17", "18a", "18d", "19", "25", "27c"):
        assert table.loc[item, "status"] == "for the author", item
    for item in ("12a", "12e", "21"):
        assert table.loc[item, "status"] == "filled", item
    for item in ("8a", "9b", "10", "11", "20b", "26"):
        assert table.loc[item, "status"] == "partly filled", item
    assert not re.search(r"\[\d", " ".join(table["text"]))  # citations are numbered elsewhere


def test_texts_hold_the_numbers_of_the_run():
    table = filled()
    assert "60 patients" in table.loc["20a", "text"]
    assert "survival_status is 'deceased'" in table.loc["8a", "text"]
    assert "Training parts: 48 patients" in table.loc["21", "text"]
    assert "not in block blood: " in table.loc["6b", "text"]
    assert "Riley's rule asks for" in table.loc["10", "text"]


def test_statuses_follow_what_was_run():
    assert filled(site=True).loc["12d", "status"] == "partly filled"
    assert filled(site=False).loc["12d", "status"] == "for the author"
    assert filled(drop=("table_one",)).loc["20b", "status"] == "for the author"

    def of_recurrence(run):
        run["endpoint"]["deaths_censored"] = True

    assert DEATHS_CENSORED in filled(of_recurrence).loc["26", "text"]
    assert DEATHS_CENSORED not in filled().loc["26", "text"]


@pytest.mark.parametrize(
    ("name", "event", "censored"),
    [
        ("os", "status is '1'", False),
        ("overall_survival", "e is '1'", False),
        ("outcome", "vital_status is 'Dead'", False),
        ("outcome", "survival_status is 'deceased'", False),
        ("death_5y", "e is '1'", False),
        ("rfs", "death_or_recurrence is '1'", True),
        ("PFI", "PFI is '1'", True),
        ("dss", "vital_status is 'dead'", True),
        ("cancer_death", "e is '1'", True),
        ("survival", "cause is 'died of disease'", True),
        ("distant_metastasis", "distant metastasis (e.tdm)", True),
        ("dosage", "e is '1'", True),  # 'os' inside another word
    ],
)
def test_endpoints_other_than_death_from_any_cause(name, event, censored):
    from types import SimpleNamespace

    described = f"event: {event}; time: death_days, days"
    endpoint = SimpleNamespace(name=name, kind="survival", description=described)
    assert deaths_are_censored(endpoint) is censored


def test_a_class_has_no_censored_deaths():
    from types import SimpleNamespace

    endpoint = SimpleNamespace(name="relapse", kind="classification", description="label: x is 1")
    assert deaths_are_censored(endpoint) is False
