"""Tables of a batch: hand-made runs with one line each, and three real ones."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import runs
from tabular_trainers.batch_entries import BatchEntry
from tabular_trainers.batch_tables import comparison_tables
from tabular_trainers.comparison import CORRECTED_T
from tabular_trainers.demo import synthetic_cohort
from tabular_trainers.errors import SchemaError
from tabular_trainers.meta_analysis import random_effects
from tabular_trainers.schema import empty
from tabular_trainers.tables import write_table, write_tables

FULL = "clinical+genomics"
DIFFERENCES = {"brca": (0.03, 0.010), "luad": (0.01, 0.012), "ucec": (0.04, 0.020)}


def write_run(
    out, cohort, difference=0.02, error=0.01, *, endpoint="os", kind="survival", seed=0,
    suffix="", ids=None, n=100, feature_set=FULL, model="cox", repeats=1,
):  # fmt: skip
    """Write a run folder that holds no more than the tables of a batch need."""
    name = f"{cohort}_{endpoint}{suffix}"
    folder = out / "runs" / name
    metric = "harrell_c" if kind == "survival" else "auroc"
    ids = [f"{cohort}-{i}" for i in range(n)] if ids is None else ids
    measured = [
        {
            "feature_set": a, "model": model, "metric": metric, "estimate": 0.7 + d,
            "standard_error": 0.03, "lower": 0.64 + d, "upper": 0.76 + d, "method": "jackknife",
            "n": len(ids), "n_events": 40,
        }
        for a, d in (("clinical", 0.0), (feature_set, difference))
    ]  # fmt: skip
    of_a_fold = [row | {"repeat": 0, "fold": 1, "estimate": 0.1, "n": 7} for row in measured]
    of_others = [row | {"metric": "uno_c", "estimate": 0.2} for row in measured]
    at_a_horizon = [row | {"metric": "auc", "horizon": 365.0} for row in measured]
    compared = {
        "feature_set": feature_set, "model": model, "baseline_feature_set": "clinical",
        "baseline_model": model, "metric": metric, "difference": difference,
        "standard_error": error, "lower": difference - 0.02, "upper": difference + 0.02,
        "p_value": 0.2, "method": "paired infinitesimal jackknife", "primary": True,
    }  # fmt: skip
    over_folds = [compared | {"method": CORRECTED_T, "difference": 0.5, "primary": False}]
    tables = {
        "metrics": [*of_a_fold, *measured, *of_others, *at_a_horizon],
        "comparisons": [*(over_folds if repeats > 1 else []), compared],
        "predictions": [
            {"patient_id": i, "repeat": r, "fold": 0, "feature_set": a, "model": model, "risk": 0.0}
            for i in ids
            for r in range(repeats)
            for a in ("clinical", feature_set)
        ],
    }
    for table, rows in tables.items():
        write_table(
            pd.DataFrame(rows).reindex(columns=empty(table).columns), table,
            _made(folder) / f"{table}.parquet",
        )  # fmt: skip
    facts = {"endpoint": {"name": endpoint, "kind": kind}, "seed": seed}
    (folder / "run.json").write_text(json.dumps(facts))
    return BatchEntry(name, "run", cohort, endpoint, seed, f"runs/{name}", "done")


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_three(out, **settings):
    return [write_run(out, name, *numbers, **settings) for name, numbers in DIFFERENCES.items()]


def pools_of(out, entries):
    return comparison_tables(out, entries)["pools"]


def test_three_cohorts_are_pooled(tmp_path):
    tables = comparison_tables(tmp_path, write_three(tmp_path))
    pool = tables["pools"].iloc[0]
    expected = random_effects(*zip(*DIFFERENCES.values(), strict=True))
    assert len(tables["pools"]) == 1
    assert pool[["kind", "endpoint", "seed", "metric"]].tolist() == [
        "survival", "os", 0, "harrell_c",
    ]  # fmt: skip
    assert pool[["feature_set", "model", "baseline_feature_set", "baseline_model"]].tolist() == [
        FULL, "cox", "clinical", "cox",
    ]  # fmt: skip
    assert pool[["n_cohorts", "n_left_out", "n_patients", "n_events"]].tolist() == [3, 0, 300, 120]
    assert pool["difference"] == expected.estimate
    for name in ("standard_error", "lower", "upper", "p_value", "tau2", "i2", "q", "q_p_value",
                 "prediction_lower", "prediction_upper"):  # fmt: skip
        assert pool[name] == getattr(expected, name), name
    assert pool["reads"] == "not shown"
    assert pool["reason"] is None
    assert pool["primary"]
    members = tables["pool_cohorts"]
    assert members["cohort"].tolist() == list(DIFFERENCES)
    assert members["weight"].tolist() == expected.weights.tolist()
    assert members["pooled"].all()
    assert members["difference"].tolist() == [0.03, 0.01, 0.04]
    assert members["lower"].tolist() == pytest.approx([0.01, -0.01, 0.02])


@pytest.mark.parametrize(("sign", "reads"), [(1, "adds"), (-1, "worse")])
def test_the_verdict_is_read_from_the_interval(tmp_path, sign, reads):
    entries = [write_run(tmp_path, name, sign * 0.05, 0.005) for name in DIFFERENCES]
    assert pools_of(tmp_path, entries)["reads"].tolist() == [reads]


def test_the_overall_headline_measure_is_shown_once_a_model(tmp_path):
    entries = write_three(tmp_path, repeats=2)
    entries.append(
        BatchEntry("lost_os", "run", "lost", "os", 0, "runs/lost_os", "failed", "no events")
    )
    entries.append(BatchEntry("quickstart", "notebook", None, None, None, "notebooks/q", "done"))
    table = comparison_tables(tmp_path, entries)["comparison"]
    assert table["run"].tolist() == [
        "brca_os", "brca_os", "luad_os", "luad_os", "ucec_os", "ucec_os", "lost_os", "quickstart",
    ]  # fmt: skip
    assert table["estimate"].tolist()[:6] == pytest.approx([0.7, 0.73, 0.7, 0.71, 0.7, 0.74])
    assert table["n"].tolist()[:6] == [100] * 6
    assert table["difference"].tolist()[1:6:2] == [0.03, 0.01, 0.04]  # not the corrected t's 0.5
    assert table["difference_standard_error"].tolist()[1] == 0.010
    assert table["difference_lower"].tolist()[1] == pytest.approx(0.01)
    assert table["standard_error"].tolist()[1] == 0.03
    assert table["primary"].tolist() == [False, True] * 3 + [False, False]
    assert table.loc[[0, 2, 4, 6, 7], "difference"].isna().all()
    failed, notebook = table.iloc[6], table.iloc[7]
    assert failed[["status", "reason", "cohort"]].tolist() == ["failed", "no events", "lost"]
    assert notebook[["status", "what"]].tolist() == ["done", "notebook"]
    assert table.iloc[6:][["feature_set", "estimate", "n", "kind"]].isna().all().all()


def test_two_cohorts_are_too_few(tmp_path):
    tables = comparison_tables(tmp_path, write_three(tmp_path)[:2])
    pool = tables["pools"].iloc[0]
    assert pool["reads"] == "not pooled"
    assert pool["reason"] == "2 cohorts, at least 3 are needed"
    assert pool["n_cohorts"] == 2
    assert pd.isna(pool["difference"])
    assert not tables["pool_cohorts"]["pooled"].any()
    assert set(tables["pool_cohorts"]["reason"]) == {"not pooled: 2 cohorts, at least 3 are needed"}


def test_a_cohort_whose_risks_rank_alike_is_listed_and_not_pooled(tmp_path):
    entries = write_three(tmp_path)
    entries += [
        write_run(tmp_path, "alike", 0.0, 0.0),
        write_run(tmp_path, "rounded", 0.0, 1e-17),
        write_run(tmp_path, "unknown", 0.01, np.nan),
        write_run(tmp_path, "undefined", np.nan, np.nan),
    ]
    tables = comparison_tables(tmp_path, entries)
    pool, members = tables["pools"].iloc[0], tables["pool_cohorts"].set_index("cohort")
    assert pool["difference"] == random_effects(*zip(*DIFFERENCES.values(), strict=True)).estimate
    assert pool[["n_cohorts", "n_left_out", "n_patients"]].tolist() == [3, 4, 300]
    assert members.index.tolist() == [*DIFFERENCES, "alike", "rounded", "unknown", "undefined"]
    assert members["pooled"].tolist() == [True] * 3 + [False] * 4
    alike = "its two risks rank the patients alike: standard error 0"
    assert members.loc[["alike", "rounded"], "reason"].tolist() == [alike] * 2
    lacking = "its difference has no standard error"
    assert members.loc[["unknown", "undefined"], "reason"].tolist() == [lacking] * 2
    assert members["weight"].isna().tolist() == [False] * 3 + [True] * 4
    few = comparison_tables(tmp_path, entries[1:])["pools"].iloc[0]
    assert few["reason"] == "2 cohorts (4 left out), at least 3 are needed"


def test_a_patient_in_two_cohorts_is_counted_and_not_named(tmp_path):
    entries = write_three(tmp_path)[:2]
    ids = [" brca-3", "brca-7 ", "luad-1", "luad-2", *(f"ucec-{i}" for i in range(20))]
    entries.append(write_run(tmp_path, "ucec", ids=[*ids, "brca-1"]))
    tables = comparison_tables(tmp_path, entries)
    pool = tables["pools"].iloc[0]
    assert pool["reads"] == "not pooled"
    assert pool["reason"] == (
        "each patient may count once, but there are ids of 3 patients in both brca_os and ucec_os, "
        "2 patients in both luad_os and ucec_os. If they are different people, give ids a prefix"
    )
    assert not re.search(r"brca-\d", str({name: t.to_dict() for name, t in tables.items()}))


def test_a_cohort_that_is_left_out_shares_patients_with_nobody(tmp_path):
    entries = write_three(tmp_path)
    entries.append(write_run(tmp_path, "alike", 0.0, 0.0, ids=["brca-1", "brca-2"]))
    assert pools_of(tmp_path, entries)["n_cohorts"].tolist() == [3]


def test_kinds_of_endpoints_are_never_pooled_together(tmp_path):
    entries = write_three(tmp_path)
    entries += write_three(tmp_path, endpoint="response", kind="classification")
    pools = pools_of(tmp_path, entries)
    assert pools["kind"].tolist() == ["survival", "classification"]
    assert pools["metric"].tolist() == ["harrell_c", "auroc"]
    assert pools["endpoint"].tolist() == ["os", "response"]
    assert pools["n_cohorts"].tolist() == [3, 3]


def test_endpoints_of_other_names_are_pooled_where_each_cohort_has_one(tmp_path):
    entries = write_three(tmp_path)[:2]
    entries.append(write_run(tmp_path, "ucec", 0.04, 0.02, endpoint="survival", seed=3))
    pools = pools_of(tmp_path, entries)
    assert pools["n_cohorts"].tolist() == [3]
    assert pools["endpoint"].tolist() == [None]
    assert pools["seed"].isna().all()


@pytest.mark.parametrize(
    "other", [{"endpoint": "pfs"}, {"seed": 1, "suffix": "_seed1"}], ids=["endpoint", "seed"]
)
def test_a_cohort_with_two_endpoints_or_seeds_is_in_two_pools(tmp_path, other):
    entries = write_three(tmp_path)
    entries += [write_run(tmp_path, name, **other) for name in ("brca", "luad")]
    pools = pools_of(tmp_path, entries)
    assert pools["n_cohorts"].tolist() == [3, 2]
    assert pools["endpoint"].tolist() == ["os", other.get("endpoint", "os")]
    assert pools["seed"].tolist() == [0, other.get("seed", 0)]
    assert pools["reads"].tolist() == ["not shown", "not pooled"]


def test_each_comparison_has_a_pool_of_the_runs_that_have_it(tmp_path):
    entries = write_three(tmp_path)
    late = f"late:{FULL}"
    entries += [
        write_run(tmp_path, name, feature_set=late, suffix="_late") for name in ("skcm", "blca")
    ]
    pools = pools_of(tmp_path, entries)
    assert pools["feature_set"].tolist() == [FULL, late]
    assert pools["n_cohorts"].tolist() == [3, 2]


def test_a_pool_is_primary_where_all_of_its_runs_named_it(tmp_path):
    entries = write_three(tmp_path)
    path = tmp_path / "runs" / "luad_os" / "comparisons.parquet"
    write_table(pd.read_parquet(path).assign(primary=False), "comparisons", path)
    assert not pools_of(tmp_path, entries)["primary"].any()


def test_nothing_done_gives_empty_tables(tmp_path):
    failed = BatchEntry("x_os", "run", "x", "os", 0, "runs/x_os", "failed", "no events")
    tables = comparison_tables(tmp_path, [failed])
    assert [len(tables[name]) for name in ("comparison", "pools", "pool_cohorts")] == [1, 0, 0]
    assert len(comparison_tables(tmp_path, [])["comparison"]) == 0


def test_every_run_that_cannot_be_read_is_named(tmp_path):
    entries = write_three(tmp_path)
    folders = [tmp_path / entry.path for entry in entries]
    (folders[0] / "run.json").unlink()
    (folders[1] / "run.json").write_text("{")
    (folders[2] / "metrics.parquet").write_bytes(b"PAR1")
    with pytest.raises(SchemaError) as error:
        comparison_tables(tmp_path, entries)
    text = str(error.value)
    assert f"{folders[0]} holds no run.json" in text
    assert f"{folders[1]}: run.json is not that of a run." in text
    assert f"{folders[2]}: metrics.parquet cannot be read, or lacks a column. Remove" in text


def test_patients_that_cannot_be_read_are_no_leave_to_pool(tmp_path):
    entries = write_three(tmp_path)
    (tmp_path / entries[1].path / "predictions.parquet").unlink()
    with pytest.raises(SchemaError, match=r"luad_os: predictions\.parquet cannot be read"):
        comparison_tables(tmp_path, entries)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Three cohorts of other patients, two models; nothing is explained, probed or drawn."""
    out = tmp_path_factory.mktemp("batch")
    entries = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tabular_trainers.report.write_report", lambda folder: None)
        patch.setattr("tabular_trainers.probes.probe", lambda *_, **__: empty("probes"))
        shap = empty("shap"), empty("shap_blocks")
        patch.setattr("tabular_trainers.runs.explain", lambda *_, **__: shap)
        for seed in (1, 2, 3):
            cohort = synthetic_cohort(80, features={"clinical": 2, "genomics": 2}, seed=seed)
            path = f"runs/cohort{seed}_os"
            runs.run(
                cohort, out=out / path, feature_sets=[FULL], models=["cox", "sksurv_coxnet"],
                folds=2, n_trials=1, n_resamples=10, n_jobs=1,
            )  # fmt: skip
            name = path.removeprefix("runs/")
            entries.append(BatchEntry(name, "run", f"cohort{seed}", "os", 0, path, "done"))
    return out, entries


def test_tables_of_real_runs(real, tmp_path):
    out, entries = real
    tables = comparison_tables(out, entries)
    table, pools, members = (tables[n] for n in ("comparison", "pools", "pool_cohorts"))
    assert len(table) == 3 * 2 * 3  # runs, feature sets, two models and the selected one
    assert set(table["model"]) == {"cox", "sksurv_coxnet", "selected"}
    assert len(pools) == 3
    assert pools.loc[pools["primary"], ["feature_set", "model"]].to_numpy().tolist() == [
        [FULL, "selected"]
    ]
    for entry in entries:
        facts = json.loads((out / entry.path / "run.json").read_text())
        own = table[(table["run"] == entry.name) & table["primary"]]
        assert own["difference"].item() == facts["verdict"]["difference"]
        assert own["difference_lower"].item() == facts["verdict"]["lower"]
        assert own["n"].item() == facts["n_patients"] == 80
        assert own["n_events"].item() == facts["n_events"]
        metrics = pd.read_parquet(out / entry.path / "metrics.parquet")
        expected = metrics[metrics["fold"].isna()].query(
            "feature_set == @FULL and model == 'selected' and metric == 'harrell_c'"
        )
        assert own["estimate"].item() == expected["estimate"].item()
    assert members["model"].value_counts().to_dict() == dict.fromkeys(table["model"], 3)
    write_tables(tables, tmp_path / "one")
    write_tables(comparison_tables(out, entries), tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        assert str(out).encode() not in path.read_bytes()


def test_the_same_patients_by_another_name_are_noticed(real):
    out, entries = real
    twice = dataclasses.replace(entries[0], name="again_os", cohort="again")
    pools = pools_of(out, [*entries, twice])
    assert set(pools["reads"]) == {"not pooled"}
    assert "80 patients in both cohort1_os and again_os" in pools["reason"].iloc[0]
