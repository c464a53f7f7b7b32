import tomllib

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import SchemaError, demo_cohort, load_cohort, synthetic_cohort
from tabular_trainers.cohort_review import named_like_outcome
from tabular_trainers.demo import write_cohort
from tabular_trainers.proposal import check, propose

N = 60


def tables(folder):
    """Write a clinical table, a table of outcomes and an embedding, as a hospital would."""
    draw = np.random.default_rng(0)
    ids = [f"{i:03d}" for i in range(N)]
    clinical = pd.DataFrame(
        {
            "PatientID": ids,
            "hospital": draw.choice(["Ulm", "Bonn", "Kiel"], N),
            "primary_tumor_site": draw.choice(["larynx", "pharynx"], N),
            "age": draw.integers(40, 90, N),
            "sex": draw.choice(["f", "m"], N),
            "smoking_status": draw.choice(["never", "former"], N),
            "days_to_recurrence": draw.integers(1, 900, N),
            "first_treatment": draw.choice(["surgery", "radiation"], N),
            "date_of_birth": [f"19{i + 20}-01-01" for i in range(N)],
            "country": "DE",
        }
    )
    targets = pd.DataFrame(
        {
            "case": ids,
            "last_contact_days": draw.integers(30, 3000, N),
            "vital_status": draw.choice(["alive", "deceased"], N),
            "pfs_months": draw.integers(0, 90, N),
            "pfs_event": draw.choice([0, 1], N),
        }
    )
    targets.loc[0, "pfs_months"] = 0
    clinical.to_csv(folder / "clinical.csv", index=False)
    targets.to_csv(folder / "targets.csv", index=False)
    np.savez(folder / "slides.npz", **{i: draw.normal(size=4) for i in ids})
    return folder / "clinical.csv", {
        "targets": folder / "targets.csv",
        "pathology": folder / "slides.npz",
    }


def test_a_proposal_says_what_the_tables_tell_and_leaves_the_rest_open(tmp_path):
    text = propose(*tables(tmp_path), folder=tmp_path)
    found = tomllib.loads(text)
    assert found == {
        "title": "clinical",
        "time_zero": "FILL_IN",
        "missing_blocks": "drop",
        "clinical": {"table": "clinical.csv", "patient_id": "PatientID", "site": "hospital"},
        "endpoints": {
            "pfs": {
                "kind": "survival",
                "table": "targets.csv",
                "key": "case",
                "time": "pfs_months",
                "unit": "months",
                "event": "pfs_event",
                "event_values": ["FILL_IN"],  # 0 or 1 is never guessed
                "zero_time": "FILL_IN",
            },
            "os": {
                "kind": "survival",
                "table": "targets.csv",
                "key": "case",
                "time": "last_contact_days",
                "unit": "days",
                "event": "vital_status",
                "event_values": ["deceased"],
            },
        },
        "blocks": {
            "clinical": {
                "columns": ["primary_tumor_site", "age", "sex"],
                "categorical": ["primary_tumor_site", "sex"],
            },
            "pathology": {"table": "slides.npz"},
        },
    }
    assert (
        "# Left out, named like something known only later: smoking_status, days_to_recurrence, "
        "first_treatment" in text.splitlines()
    )
    assert (
        "# Left out (ids, dates, free text, or always the same): date_of_birth, country"
        in text.splitlines()
    )


def test_a_proposal_that_is_filled_in_can_be_read(tmp_path):
    text = propose(*tables(tmp_path), folder=tmp_path)
    path = tmp_path / "cohort.toml"
    path.write_text(text)
    with pytest.raises(SchemaError) as caught:
        load_cohort(path)
    assert str(caught.value) == (
        "cohort.toml: still to be filled in: time_zero, endpoints.pfs.event_values, "
        "endpoints.pfs.zero_time. Replace every FILL_IN (the comments beside it say with what)."
    )
    text = text.replace('time_zero = "FILL_IN"', 'time_zero = "diagnosis"')
    text = text.replace('["FILL_IN"]', "[1]").replace('zero_time = "FILL_IN"', 'zero_time = "drop"')
    path.write_text(text)
    cohort = load_cohort(path)
    assert len(cohort.patients) == N
    assert set(cohort.endpoints) == {"pfs", "os"}
    assert cohort.analysis_set("os").X.shape == (N, 7)


def test_what_is_proposed_for_a_drawn_cohort_loads_as_that_cohort(tmp_path):
    drawn = synthetic_cohort(80, n_sites=5, seed=2)
    folder = write_cohort(drawn, tmp_path).parent
    text = propose(folder / "patients.csv", {n: folder / f"{n}.csv" for n in drawn.blocks}, folder)
    text = text.replace('time_zero = "FILL_IN"', 'time_zero = "diagnosis"')
    text = text.replace('["FILL_IN"]', "[1]").replace('unit = "FILL_IN"', 'unit = "days"')
    (folder / "proposed.toml").write_text(text)
    found = load_cohort(folder / "proposed.toml")
    pd.testing.assert_frame_equal(found.analysis_set().X, drawn.analysis_set().X)
    assert np.array_equal(found.analysis_set().y, drawn.analysis_set().y)
    assert found.site.tolist() == drawn.site.tolist()


def test_without_outcomes_or_ids_everything_is_left_open(tmp_path):
    (tmp_path / "t.csv").write_text("age,sex\n1,f\n2,m\n3,f\n")
    found = tomllib.loads(propose(tmp_path / "t.csv", folder=tmp_path))
    assert found["clinical"]["patient_id"] == "FILL_IN"
    assert found["endpoints"]["os"]["time"] == "FILL_IN"
    assert found["endpoints"]["os"]["event_values"] == ["FILL_IN"]


def test_families_of_columns_are_blocks_of_their_own(tmp_path):
    draw = np.random.default_rng(0)
    genes = {f"G{i}_rnaseq": draw.normal(size=30) for i in range(25)}
    frame = pd.DataFrame({"case_id": [f"c{i}" for i in range(30)], "age": range(30), **genes})
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = tomllib.loads(propose(tmp_path / "t.csv", folder=tmp_path))
    assert found["blocks"] == {
        "clinical": {"columns": ["age"]},
        "rnaseq": {"columns": ["*_rnaseq"]},
    }


def test_several_rows_a_patient_ask_for_a_pool(tmp_path):
    (tmp_path / "t.csv").write_text("patient_id,age\na,1\nb,2\nc,3\n")
    (tmp_path / "s.csv").write_text("patient_id,x\na,1\na,2\nb,3\n")
    text = propose(tmp_path / "t.csv", {"slides": tmp_path / "s.csv"}, tmp_path)
    assert 'pool = "FILL_IN"  # 1 patient with several rows: "mean", "max" or "first"' in text


def test_tables_that_cannot_be_read_come_at_once(tmp_path):
    (tmp_path / "s.csv").write_text("")
    with pytest.raises(SchemaError) as caught:
        propose(tmp_path / "t.csv", {"slides": tmp_path / "s.csv"}, tmp_path)
    assert str(caught.value) == (
        f"2 problems:\n- t.csv: no such file in {tmp_path}. Did you mean 's.csv'?\n"
        "- s.csv: the table is empty; expected a header and at least one row."
    )


@pytest.mark.parametrize(
    "name",
    [
        "recurrence",
        "Tumor_Progression",
        "death",
        "cause_of_death",
        "lastContact",
        "last_seen",
        "follow_up",
        "followup_months",
        "er_status",
        "adjuvant_treatment",
        "treatment2",
        "days_to_anything",
        "DAYS TO X",
        "new_tumor_event_type",
        "OS",
        "PFI.time",
    ],
)
def test_names_that_are_never_proposed(name, tmp_path):
    assert named_like_outcome(name)
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"patient_id": [f"p{i}" for i in range(30)], "age": range(30)})
    frame[name] = draw.normal(size=30)
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = tomllib.loads(propose(tmp_path / "t.csv", folder=tmp_path))
    assert found["blocks"] == {"clinical": {"columns": ["age"]}}


@pytest.mark.parametrize("name", ["age", "elastic_modulus", "plasma", "stage", "contrast", "dose"])
def test_names_that_are(name):
    assert not named_like_outcome(name)


def test_the_check_of_the_demo():
    assert check(demo_cohort()) == [
        "GSE7390 breast cancer: 198 patients, no site.",
        "endpoint distant_metastasis: 198 patients, 51 events (event: distant metastasis (e.tdm); "
        "time: t.tdm, days).",
        "block clinical: 4 columns, 198 patients (198 with distant_metastasis).",
        "block genomics: 76 columns, 198 patients (198 with distant_metastasis).",
        "every block: 198 patients.",
    ]


@pytest.fixture
def leaky(tmp_path):
    """Write and load a cohort with a column that tells the outcome."""

    def load(kind, leak):
        drawn = synthetic_cohort(150, kind=kind, seed=3)
        path = write_cohort(drawn, tmp_path)
        table = pd.read_csv(tmp_path / "genomics.csv", dtype={"patient_id": str})
        table["x02"] = leak(drawn.endpoint().table.reset_index(drop=True))
        table.rename(columns={"x03": "x03_status"}).to_csv(tmp_path / "genomics.csv", index=False)
        return load_cohort(path)

    return load


def test_columns_that_tell_too_much(leaky):
    lines = check(leaky("survival", lambda t: -t["time"] + 50 * np.sin(np.arange(len(t)))))
    assert lines[-2] == (
        "warning: block genomics: named like something known only later: x03_status; was it known "
        "at time zero (diagnosis)?"
    )
    assert lines[-1] == (
        "warning: block genomics: x02 alone has a C of 0.98 for endpoint os; was it known at time "
        "zero, and does it not hold the answer?"
    )


def test_labels_that_tell_too_much(leaky):
    lines = check(leaky("classification", lambda t: np.where(t["label"], "yes", "no")))
    assert lines[-1] == (
        "warning: block genomics: x02 alone has an AUROC of 1.00 for endpoint response; was it "
        "known at time zero, and does it not hold the answer?"
    )


def test_c_of_one_column_is_what_scikit_survival_finds():
    from sksurv.metrics import concordance_index_censored

    from tabular_trainers.cohort_review import _concordance, _survival_pairs

    cohort = synthetic_cohort(300, seed=5)  # times without ties
    table = cohort.endpoint().table
    values = cohort.blocks["clinical"].table["x1"].round(1).to_numpy()
    expected = concordance_index_censored(
        table["event"].to_numpy(), table["time"].to_numpy(), values
    )[0]
    assert _concordance(values, *_survival_pairs(table)) == pytest.approx(expected, abs=1e-12)


def test_check_tells_what_is_wrong_with_every_endpoint(tmp_path):
    path = write_cohort(synthetic_cohort(60), tmp_path)
    text = path.read_text()
    section = text[text.index("[endpoints.os]") : text.index("[blocks.clinical]")]
    other = section.replace("os]", "other]").replace('event = "os_event"', 'event = "os_evnt"')
    more = section.replace("os]", "more]").replace("[1]", "[2]")
    path.write_text(text.replace(section, section + other + more))
    cohort = load_cohort(path)
    with pytest.raises(SchemaError) as caught:
        check(cohort)
    assert str(caught.value) == (
        "2 problems:\n"
        "- patients.csv: no column 'os_evnt' ([endpoints.other]). Did you mean 'os_event'?\n"
        "- patients.csv, column os_event: '2' of event_values in [endpoints.more] is not among its "
        "labels, '0', '1'."
    )
