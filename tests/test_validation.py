"""A run's model on patients who took no part in it: another cohort, and a part set aside."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest

from tabular_trainers import metrics, runs
from tabular_trainers.cohort import load_cohort
from tabular_trainers.demo import synthetic_cohort
from tabular_trainers.errors import DataError, SchemaError
from tabular_trainers.evaluation_plan import make_plan
from tabular_trainers.models import MODELS, predict_risk, predict_survival
from tabular_trainers.models.storage import load_model
from tabular_trainers.schema import validate
from tabular_trainers.tables import read_tables, read_written
from tabular_trainers.validation import validate_on

SETTINGS = {"folds": 2, "n_trials": 1, "n_resamples": 40, "n_jobs": 1}
TABLES = {
    "calibration", "column_differences", "comparisons", "flow", "kaplan_meier", "metrics",
    "predictions", "survival",
}  # fmt: skip


def part_of(cohort, patients):
    """Take some patients of a cohort."""
    return dataclasses.replace(
        cohort,
        patients=cohort.patients[cohort.patients.isin(patients)],
        blocks={
            name: dataclasses.replace(b, table=b.table[b.table.index.isin(patients)])
            for name, b in cohort.blocks.items()
        },
        endpoints={
            name: dataclasses.replace(e, table=e.table[e.table.index.isin(patients)])
            for name, e in cohort.endpoints.items()
        },
        site=None if cohort.site is None else cohort.site[cohort.site.index.isin(patients)],
        flow=None,
        truth=None,
    )


def halves(kind):
    """Draw one cohort and take every second patient for each half."""
    whole = synthetic_cohort(
        440, features={"clinical": 3, "genomics": 4}, kind=kind, n_sites=24, censoring=0.3, seed=8
    )
    return part_of(whole, whole.patients[::2]), part_of(whole, whole.patients[1::2])


def with_block(cohort, name, table):
    block = dataclasses.replace(cohort.blocks[name], table=table)
    return dataclasses.replace(cohort, blocks={**cohort.blocks, name: block})


def with_encoder(cohort):
    """Say that a network which saw these patients made the columns of a block."""
    block = dataclasses.replace(
        cohort.blocks["genomics"], encoder_id="net-1", pretrained_on=("TCGA",)
    )
    blocks = {**cohort.blocks, "genomics": block}
    return dataclasses.replace(cohort, blocks=blocks, sources=("TCGA",))


@pytest.fixture(scope="module", params=["survival", "classification"])
def validated(request, tmp_path_factory):
    """Run on one half with a part set aside and two repeats, and validate on the other half."""
    own, other = map(with_encoder, halves(request.param))
    models = ["cox", "rsf"] if request.param == "survival" else ["logistic"]
    folder = tmp_path_factory.mktemp(request.param)
    run = runs.run(own, out=folder / "run", models=models, n_repeats=2, holdout=0.3, **SETTINGS)
    stage = other.blocks["clinical"].table.assign(bmi=25.0)
    stage.iloc[:6, stage.columns.get_loc("stage")] = "IV"
    other = with_block(other, "clinical", stage)
    return run, own, other, validate_on(run, other, out=folder / "validation", n_resamples=40)


@pytest.fixture(scope="module")
def survival_run(tmp_path_factory):
    """Run one model on one half, and give the other half."""
    own, other = halves("survival")
    out = tmp_path_factory.mktemp("runs") / "run"
    return runs.run(own, out=out, models=["cox"], feature_sets=["clinical+genomics"], **SETTINGS), (
        own,
        other,
    )


def by_hand(run, cohort, patients, horizons):
    """Measure the saved models with nothing of ours but `metrics.score`."""
    facts = json.loads((run / "run.json").read_text())
    analysis = cohort.analysis_set()
    keep = analysis.patient_id.isin(patients)
    kind, y, X = analysis.endpoint.kind, analysis.y[keep], analysis.X[keep]
    times = np.unique([*horizons, *metrics.time_grid(max(horizons))]) if len(horizons) else []
    model = facts["primary_model"]["model"]
    spec, predictions, survival = MODELS[kind][model], [], []
    for name in ("clinical+genomics", "clinical"):
        pipeline, metadata = load_model(run / "models" / name / f"{model}.skops")
        columns = X[list(metadata["columns"])]
        where = {"repeat": 0, "fold": 0, "feature_set": name, "model": model}
        risk = predict_risk(pipeline, spec, columns)
        predictions.append(pd.DataFrame({"patient_id": X.index, **where, "risk": risk}))
        if len(times):
            curves = pd.DataFrame(predict_survival(pipeline, spec, columns, times), X.index, times)
            curves = curves.rename_axis(index="patient_id", columns="time").stack()
            survival.append(curves.rename("survival").reset_index().assign(**where))
    predictions = pd.concat(predictions, ignore_index=True)
    folds = pd.DataFrame({"patient_id": X.index, "repeat": 0, "fold": 0, "part": "test"})
    return metrics.score(
        kind,
        y,
        X.index,
        folds,
        predictions,
        pd.concat(survival, ignore_index=True) if survival else None,
        site=analysis.site[keep],
        horizons=horizons,
        n_resamples=40,
        seed=0,
    )[0]


def shift_by_hand(run, cohort, feature_set, tau):
    """Compute calibration in the large from every patient's curve at every time."""
    analysis, facts = cohort.analysis_set(), json.loads((run / "run.json").read_text())
    model = facts["primary_model"]["model"]
    pipeline, metadata = load_model(run / "models" / feature_set / f"{model}.skops")
    X, y = analysis.X[list(metadata["columns"])], analysis.y
    spec = MODELS[analysis.endpoint.kind][model]
    if analysis.endpoint.kind == "survival":
        end = np.minimum(y["time"], tau)
        hazard = -np.log(np.diag(predict_survival(pipeline, spec, X, end)))
        happened = (y["event"] & (y["time"] <= tau)).sum()
        return pytest.approx(np.log(happened / hazard.sum()), abs=1e-9)
    p = predict_risk(pipeline, spec, X)
    shifts = np.linspace(-2, 2, 400_001)  # the root of an increasing function, to 1e-5
    odds = (p / (1 - p))[:, None]
    expected = np.concatenate(
        [(odds * np.exp(s) / (1 + odds * np.exp(s))).sum(axis=0) for s in np.split(shifts[1:], 40)]
    )
    return pytest.approx(shifts[np.searchsorted(expected, y.sum())], abs=2e-5)


def same_measures(found, expected):
    keys = ["feature_set", "model", "metric", "horizon", "repeat", "fold"]
    shared = found[found["metric"] != "calibration_in_the_large"]
    found, expected = (
        t.set_index(keys).sort_index()[["estimate", "standard_error", "lower", "upper"]]
        for t in (shared, expected)
    )
    pd.testing.assert_frame_equal(found.astype(float), expected.astype(float), rtol=1e-9)


def test_measures_of_another_cohort_are_those_counted_by_hand(validated):
    run, _, other, out = validated
    facts = json.loads((out / "validation.json").read_text())
    found = read_written(out / "metrics.parquet")
    same_measures(found, by_hand(run, other, other.patients, facts["horizons"]))
    assert facts["n_patients"] == len(other.patients)
    shift = found[found["metric"] == "calibration_in_the_large"].set_index("feature_set")
    assert set(shift.index) == {"clinical", "clinical+genomics"}
    for name, row in shift.iterrows():
        assert row["estimate"] == shift_by_hand(run, other, name, row["horizon"])
    comparison = read_written(out / "comparisons.parquet")
    assert comparison[["model", "primary"]].values.tolist() == [[facts["models"][0], True]]
    assert facts["verdict"]["difference"] == pytest.approx(comparison["difference"].item())


def test_the_final_part_is_seen_by_nothing_and_measured_as_another_cohort_is(validated):
    run, own, _, _ = validated
    facts = json.loads((run / "run.json").read_text())
    aside = read_written(run / "holdout" / "predictions.parquet")["patient_id"].unique()
    held = facts["holdout"]
    assert held["n_patients"] == len(aside)
    assert held["n_patients"] + facts["n_patients"] == len(own.patients)
    for name in ("folds", "predictions", "shap_blocks"):
        assert not read_written(run / f"{name}.parquet")["patient_id"].isin(aside).any(), name
    fitted = read_written(run / "folds.parquet")["patient_id"].unique()
    assert not set(own.site[aside]) & set(own.site[fitted])
    flow = read_written(run / "flow.parquet").iloc[-1]
    assert (flow["n_dropped"], flow["n_patients"]) == (len(aside), facts["n_patients"])
    found = read_written(run / "holdout" / "metrics.parquet")
    same_measures(found, by_hand(run, own, aside, held["horizons"]))
    assert read_written(run / "predictors.parquet")["n"].max() == facts["n_patients"]
    page = (run / "report.html").read_text()
    assert 'id="final-section"' in page
    assert held["note"] in page
    # a patient set aside did not fit the model: another cohort may hold them
    validate_on(run, part_of(own, aside), out=run.parent / "aside", n_resamples=10)


def test_repeats_reach_every_table_of_the_run(validated):
    run = validated[0]
    tables = read_tables(run, ["folds", "predictions", "metrics", "trials"])
    for name, table in tables.items():
        assert set(table["repeat"].dropna()) == {0, 1}, name
    assert json.loads((run / "run.json").read_text())["folds_note"].endswith("2 repeats")
    first, second = (
        tables["folds"].query(f"part == 'test' and repeat == {i}").set_index("patient_id")["fold"]
        for i in (0, 1)
    )
    assert not first.sort_index().equals(second.sort_index())


def test_the_folder_is_whole_and_says_how_columns_differ(validated):
    _, _, other, out = validated
    survival = "os" in other.endpoints
    assert {p.stem for p in out.glob("*.parquet")} == TABLES - (set() if survival else {"survival"})
    for path in out.glob("*.parquet"):
        validate(read_written(path), path.stem, str(path))
    assert {p.name for p in out.iterdir() if p.suffix != ".parquet"} == {
        "figures", "validation.html", "validation.json",
    }  # fmt: skip
    page = (out / "validation.html").read_text()
    assert "clinical.stage: IV" in page
    assert "not known to the model and not used: clinical.bmi" in page
    assert "S0" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    assert "S0" not in (out / "validation.json").read_text()
    rows = read_written(out / "column_differences.parquet").set_index(["variable", "level"])
    share = rows.loc[("stage", "IV"), "value_cohort"].item()
    assert share == pytest.approx(6 / len(other.patients))


# --- what is refused; nothing is written ---------------------------------------------------------


def refused(run, cohort, tmp_path, **settings):
    with pytest.raises((SchemaError, DataError)) as caught:
        validate_on(run, cohort, out=tmp_path / "out", **settings)
    assert not list(tmp_path.iterdir())
    return str(caught.value)


def test_an_encoder_that_saw_the_patients_is_told_of(validated):
    run, _, _, folder = validated
    seen = "The encoder of block genomics (net-1) was pretrained on TCGA, from which this cohort"
    facts = json.loads((folder / "validation.json").read_text())
    assert facts["blocks"]["genomics"]["pretraining_overlap"] == facts["sources"] == ["TCGA"]
    assert facts["blocks"]["clinical"]["pretrained_on"] is None
    assert (folder / "validation.html").read_text().count(f"‡ {seen}") >= 3
    final = (run / "report.html").read_text().partition('<section aria-labelledby="final-section">')
    assert final[2].partition("</section>")[0].count(f"‡ {seen}") >= 3


def test_patients_of_the_run_are_refused(survival_run, tmp_path):
    run, (own, other) = survival_run
    mixed = part_of(
        synthetic_cohort(
            440, features={"clinical": 3, "genomics": 4}, n_sites=24, censoring=0.3, seed=8
        ),
        [*other.patients, *own.patients[:2]],
    )
    assert refused(run, mixed, tmp_path) == (
        f"2 of 222 patients of the cohort took part in fitting the model ({own.patients[0]}, "
        f"{own.patients[1]}); a validation needs others. Leave them out, or if other people have "
        "the same ids, give them ids of their own."
    )


def test_columns_and_blocks_are_those_of_the_run(survival_run, tmp_path):
    run, (_, other) = survival_run
    table = other.blocks["genomics"].table
    assert "1 column missing: genomics.x2" in refused(
        run, with_block(other, "genomics", table.drop(columns="x2")), tmp_path
    )
    assert "1 column of another type: genomics.x1 (expected numeric)" in refused(
        run, with_block(other, "genomics", table.assign(x1="text")), tmp_path
    )
    fewer = dataclasses.replace(other, blocks={"clinical": other.blocks["clinical"]})
    assert refused(run, fewer, tmp_path).startswith("the cohort has no block genomics")


def test_the_endpoint_is_of_the_kind_and_unit_of_the_run(survival_run, tmp_path):
    run, (_, other) = survival_run
    months = dataclasses.replace(other.endpoints["os"], unit="months")
    assert refused(run, dataclasses.replace(other, endpoints={"os": months}), tmp_path) == (
        "endpoint os: its unit is months, that of the run's endpoint os is days; expected the same."
    )
    assert refused(run, dataclasses.replace(other, endpoints={}), tmp_path).startswith(
        "the cohort has no endpoint"
    )
    table = other.endpoints["os"].table.assign(event=False)
    alive = dataclasses.replace(other.endpoints["os"], table=table)
    assert refused(run, dataclasses.replace(other, endpoints={"os": alive}), tmp_path) == (
        "endpoint os: 220 patients with no event; a model cannot be measured on them."
    )


def test_a_folder_that_is_no_run_is_said(survival_run, tmp_path):
    _, (_, other) = survival_run
    assert refused(tmp_path / "no", other, tmp_path) == (
        f"{tmp_path / 'no'} holds no run.json: not the folder of a run."
    )


def test_an_error_while_writing_leaves_nothing(survival_run, tmp_path, monkeypatch):
    run, (_, other) = survival_run

    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tabular_trainers.report_validation.write_validation_report", full)
    with pytest.raises(OSError, match="No space"):
        validate_on(run, other, out=tmp_path / "out", n_resamples=10)
    assert not list(tmp_path.iterdir())


def test_a_complete_validation_is_replaced_only_when_asked(survival_run, tmp_path):
    run, (_, other) = survival_run
    early = part_of(other, other.patients[:80])
    table = early.endpoints["os"].table
    late = table["time"] > 900
    table = table.assign(time=table["time"].clip(upper=900), event=table["event"] & ~late)
    endpoint = dataclasses.replace(early.endpoints["os"], table=table)
    few = dataclasses.replace(early, endpoints={"os": endpoint})
    out = validate_on(run, few, out=tmp_path / "out", n_resamples=10)
    facts = json.loads((out / "validation.json").read_text())
    assert facts["horizons"] == [365.0]
    assert any(note.startswith("not measured at 1095, 1825 days:") for note in facts["notes"])
    with pytest.raises(SchemaError, match="holds a complete validation"):
        validate_on(run, other, out=out)
    validate_on(run, other, out=out, overwrite=True, n_resamples=10)
    assert json.loads((out / "validation.json").read_text())["n_patients"] == 220
    with pytest.raises(SchemaError, match="holds no validation; nothing in it is touched"):
        validate_on(run, other, out=run, overwrite=True)


# --- real patients -------------------------------------------------------------------------------


def test_a_model_of_some_hospitals_holds_in_the_others(real_data, root, tmp_path):
    recipe = root / "notebooks" / "cohorts" / "tcga_gbmlgg.toml"
    whole = load_cohort(recipe, real_data("tcga_porpoise"))
    plan = make_plan(whole, models=["cox"], holdout=0.5)
    aside = plan.final_part.analysis.patient_id
    own, other = part_of(whole, whole.patients.difference(aside)), part_of(whole, aside)
    settings = {"models": ["cox"], "feature_sets": ["clinical+genomics"], **SETTINGS}
    run = runs.run(own, out=tmp_path / "run", **settings)
    out = validate_on(run, other, out=tmp_path / "validation", n_resamples=40)
    facts = json.loads((out / "validation.json").read_text())
    assert facts["n_patients"] == len(aside)
    found = read_written(out / "metrics.parquet").query("metric == 'harrell_c' and fold.isna()")
    assert (found["estimate"] > 0.75).all()  # published models of this cohort reach .8 and more


def test_the_baseline_knows_who_lacks_a_block_also_elsewhere(tmp_path):
    own, other = (
        dataclasses.replace(
            synthetic_cohort(
                240, features={"clinical": 3, "genomics": 4}, missing_blocks=0.3, seed=s
            ),
            missing_blocks="impute",
        )
        for s in (1, 2)
    )
    run = runs.run(own, out=tmp_path / "run", models=["cox"], **SETTINGS)
    _, metadata = load_model(run / "models" / "clinical" / "cox.skops")
    assert "missing_blocks.genomics" in metadata["columns"]
    out = validate_on(run, other, out=tmp_path / "validation", n_resamples=40)
    assert set(read_tables(out)["predictions"]["feature_set"]) == {"clinical", "clinical+genomics"}
