import hashlib
import io
import json
import re
import shutil
import subprocess

import bs4
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tabular_trainers import plots, plots_labels, report, report_methods, report_text
from tabular_trainers.errors import SchemaError
from tabular_trainers.report import write_report
from tabular_trainers.report_svg import inline_svg
from tabular_trainers.schema import validate
from tests import example_run

SECTIONS = [
    "What was asked, and the verdict",
    "Patients",
    "Discrimination of every feature set and model",
    "Paired differences",
    "For whom",
    "Thirds of the risk",
    "Calibration",
    "Net benefit",
    "Contributions to the risk",
    "Probes: leaks and hospital effects",
    "Methods, ready for a paper",
    "Notes and versions",
    "Reporting guideline: TRIPOD+AI",
]
FIGURES = {
    "patient_flow",
    "follow_up",
    "for_whom",
    "discrimination",
    "differences",
    "risk_thirds",
    "risk_thirds_grid",
    "calibration",
    "calibration_grid",
    "decision_curve",
    "contributions",
    "block_contributions",
}
SMALL = {"n": 60, "feature_sets": ("clinical", "blood", "clinical+blood"), "models": ("cox", "rsf")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = example_run.write_example(tmp_path_factory.mktemp("run") / "survival", **SMALL)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def html(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return bs4.BeautifulSoup(html, "html.parser")


def text_of(soup):
    return " ".join(soup.get_text(" ").split())


def written(tmp_path, **kwargs):
    """Write the report of a fabricated run and return its page."""
    folder = example_run.write_example(tmp_path / "run", **{**SMALL, **kwargs})
    return bs4.BeautifulSoup(write_report(folder).read_text(encoding="utf-8"), "html.parser")


def undrawn(change=None, **kwargs):
    """Return the page of a fabricated run without its figures: drawing takes seconds."""
    tables, run = example_run.example_tables(**{**SMALL, **kwargs})
    if change:
        change(run)
    return bs4.BeautifulSoup(report.page(tables, run, {}), "html.parser")


@pytest.mark.parametrize("kind", ["survival", "classification"])
def test_fabricated_tables_keep_their_contracts(kind):
    tables, _ = example_run.example_tables(kind, n=40, n_repeats=2)
    for name, table in tables.items():
        validate(table, name)


def test_banner_comes_before_the_title(page):
    banner = page.select_one(".banner")
    assert "counts under 5" in banner.get_text()
    assert "Not cleared for release" in banner.get_text()
    assert banner.find_next("h1") is page.h1
    assert banner.find_previous("h1") is None
    assert "Not cleared for release" in page.title.get_text()


def test_sections_are_there_in_order(page):
    assert [heading.get_text() for heading in page.find_all("h2")] == SECTIONS
    assert len(page.find_all("h1")) == 1
    levels = [int(heading.name[1]) for heading in page.find_all(re.compile("^h[1-6]$"))]
    assert max(np.diff(levels)) <= 1


def test_verdict_is_in_plain_words_with_its_interval(page, folder):
    run = json.loads((folder / "run.json").read_text())
    verdict = page.select_one(".verdict").get_text()
    lower, upper = (plots_labels.number(run["verdict"][k]) for k in ("lower", "upper"))
    assert f"({lower} to {upper})" in verdict
    assert "clinical alone" in verdict
    assert "leave out training variation" in page.get_text()


@pytest.mark.parametrize(
    ("reads", "headline"),
    [
        ("adds", "Adds: clinical + blood predicts os better than clinical alone."),
        ("worse", "Worse: clinical + blood predicts os less well than clinical alone."),
        (
            "not shown",
            "Not shown: these patients do not show that clinical + blood predicts os better than "
            "clinical alone.",
        ),
    ],
)
def test_each_verdict_has_its_headline(reads, headline):
    tables, run = example_run.example_tables(**SMALL)
    run["verdict"]["reads"] = reads
    found = report_text.verdict(tables, run)
    assert found["headline"] == headline
    assert any("both signs" in s for s in found["sentences"]) == (reads == "not shown")


def test_file_needs_nothing_from_elsewhere(html, page):
    for element in page.find_all(True):
        for name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
            target = element.get(name, "#")
            assert target.startswith(("#", "data:image/png;base64,")), (element.name, target)
    assert not page.find_all(["script", "link", "iframe", "object", "embed", "base", "form"])
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert len(html.encode()) < 10e6


def test_ids_are_unique_and_references_have_a_target(html, page):
    ids = [element["id"] for element in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', html)
    named = [
        i
        for e in page.find_all(attrs={"aria-labelledby": True})
        for i in e["aria-labelledby"].split()
    ]
    assert set(used + named) <= set(ids)


def test_every_figure_has_a_name_and_a_description(page):
    figures = page.find_all("svg")
    assert len(figures) == len(FIGURES)
    for svg in figures:
        assert svg["role"] == "img"
        title, description = svg["aria-labelledby"].split()
        assert "60 patients" in page.find(id=title).get_text()
        assert len(page.find(id=description).get_text()) > 40
        assert svg.find_parent("figure").figcaption.get_text().startswith("Figure ")


def test_tables_have_captions_and_scoped_headers(page):
    tables = page.find_all("table")
    assert len(tables) >= 10
    for table in tables:
        assert table.caption.get_text().startswith("Table ")
        assert all(th["scope"] in ("col", "row", "rowgroup") for th in table.find_all("th"))
        width = len(table.thead.find_all("th"))
        for row in table.tbody.find_all("tr"):
            assert sum(int(cell.get("colspan", 1)) for cell in row.find_all(["th", "td"])) == width


def test_numbers_of_figures_and_tables_count_up(page):
    for kind, elements in (
        ("Figure", page.find_all("figcaption")),
        ("Table", page.find_all("caption")),
    ):
        numbers = [int(re.match(rf"{kind} (\d+)\.", e.get_text()).group(1)) for e in elements]
        assert numbers == list(range(1, len(numbers) + 1))


def test_language_and_size_of_page_are_given(page):
    assert page.html["lang"] == "en"
    assert page.find("meta", attrs={"name": "viewport"})
    assert "@media print" in page.style.get_text()


def test_every_estimate_of_the_metrics_is_in_the_report(page, folder):
    text = page.get_text()
    rows = pd.read_parquet(folder / "metrics.parquet")
    rows = rows[rows["fold"].isna() & rows["lower"].notna()]
    for row in rows.itertuples():
        decimals = plots_labels.DECIMALS.get(row.metric, 3)
        assert plots_labels.interval(row.estimate, row.lower, row.upper, decimals) in text


def test_missing_intervals_are_explained(page):
    assert "(–): no interval, because" in page.get_text()


def test_figures_are_pictures_for_a_paper(folder):
    found = {path.stem: path for path in (folder / "figures").iterdir()}
    assert set(found) == FIGURES
    for path in found.values():
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
            assert image.width >= 1400
            assert "not cleared for release" in image.text["Disclaimer"]


def test_same_run_gives_the_same_bytes(folder, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    before = {p.name: hashlib.sha256(p.read_bytes()).digest() for p in sorted(again.rglob("*.*"))}
    write_report(again)
    after = {p.name: hashlib.sha256(p.read_bytes()).digest() for p in sorted(again.rglob("*.*"))}
    assert after == before


def test_report_only_writes_itself(folder):
    names = {path.name for path in folder.iterdir() if path.suffix not in (".parquet",)}
    assert names == {"run.json", "report.html", "figures"}


def test_failure_leaves_the_old_report(folder, tmp_path, monkeypatch):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    (again / "report.html").write_text("old")
    monkeypatch.setattr(report, "render", lambda tables, run: ("new", {"calibration": b"new"}))

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(again)
    assert (again / "report.html").read_text() == "old"
    assert not [p for p in again.rglob("*") if p.name.startswith(".")]


def test_classification(tmp_path):
    page = written(tmp_path, kind="classification", models=("logistic", "xgb"))
    text = text_of(page)
    assert "60 patients, " in page.select_one(".lead").get_text()
    assert "AUROC" in text
    assert "AUPRC" in text
    assert "Kaplan-Meier" not in text
    assert "Thirds of the risk" not in text
    assert not page.find(string="–")
    assert "Harrell" not in text


def test_without_a_clinical_baseline_there_is_no_verdict(tmp_path):
    page = written(tmp_path, feature_sets=("blood", "pathology"), models=("cox",))
    text = text_of(page)
    assert (
        page.select_one(".verdict .headline")
        .get_text()
        .startswith("No verdict: there is no clinical feature set")
    )
    assert "Harrell's C: 0." in page.select_one(".verdict").get_text()
    assert "There is nothing to compare" in text


def test_one_feature_set_and_one_model(tmp_path):
    page = written(tmp_path, feature_sets=("clinical",), models=("cox",))
    text = text_of(page)
    assert "only one feature set was run" in page.select_one(".verdict").get_text()
    assert "There is nothing to compare" in text
    assert plots_labels.SELECTED not in text


def test_without_contributions():
    assert "This run has no contributions." in text_of(undrawn(shap=False))


def test_sampled_contributions_are_named():
    tables, run = example_run.example_tables(**SMALL)
    run["primary_model"]["model"] = "rsf"
    assert "Sampled estimates, seeded." in report_text.captions(tables, run)["contributions"]
    text = text_of(undrawn())
    assert "estimated by sampling, with a fixed seed, for random survival forest" in text


def test_without_a_site_the_probes_say_so():
    text = text_of(undrawn(site=False))
    assert text.count("Not probed: no site is named in cohort.toml.") == 3
    assert "Outcomes were shuffled between patients" in text
    assert "Sites tested" not in text


def test_a_probe_that_is_flagged_says_so_and_cancer_types_are_told_where_there_are_some():
    tables, run = example_run.example_tables(**SMALL)
    assert "flagged" not in str([probe["lines"] for probe in report_text.probes(tables)])
    assert not any("cancer type" in probe["question"] for probe in report_text.probes(tables))
    probes = tables["probes"].copy()
    probes.loc[probes["probe"] == "permuted_outcome", "flagged"] = True
    probes = probes.iloc[[0, *range(len(probes))]].reset_index(drop=True)
    probes.loc[0, "probe"] = "within_cancer_type"
    probes.loc[0, ["expected", "flagged"]] = [np.nan, pd.NA]
    told = report_text.probes({**tables, "probes": probes})
    lines = {probe["question"]: probe["lines"] for probe in told}
    shuffled = lines["Does the procedure find something where nothing is?"]
    assert shuffled == ["clinical: Harrell's C 0.497 (0.450 to 0.540); expected 0.50; flagged"]
    assert lines["And within a cancer type?"] == ["clinical: Harrell's C 0.497 (0.450 to 0.540)"]


def test_repeats_are_numbered():
    page = undrawn(n_repeats=2)
    cells = [row.th.get_text() for row in page.select("#folds tbody tr")]
    assert cells == [f"{r}.{f}" for r in (1, 2) for f in (1, 2, 3, 4, 5)]


def test_repeats_add_a_table_of_differences_fold_by_fold():
    assert undrawn().select_one("#differences-harrell-c-folds") is None
    page = undrawn(n_repeats=2)
    beside = page.select("#differences-harrell-c-folds tbody tr")
    assert len(beside) == len(page.select("#differences-harrell-c tbody tr"))
    assert "a t test whose variance allows for training parts that share patients" in (
        page.get_text()
    )


def test_the_method_of_every_interval_is_told_with_its_source():
    tables, run = example_run.example_tables(**SMALL)
    paragraphs, references = report_methods.methods(tables, run)
    text = " ".join(paragraphs)
    found = re.search(
        r"Method: infinitesimal jackknife \[(\d+)\] for Harrell's C; bootstrap "
        r"\(500 resamples of patients within folds\) \[(\d+)\] for all other measures\. ",
        text,
    )
    jackknife, bootstrap = (references[int(number) - 1] for number in found.groups())
    assert "Therneau" in jackknife
    assert "Efron" in bootstrap
    tables, run = example_run.example_tables("classification", **SMALL)
    text = " ".join(report_methods.methods(tables, run)[0])
    assert re.search(r"Method: bootstrap \(500 [a-z ]+\) \[\d+\]\. ", text)


def test_nobody_dropped_gives_a_table_one_without_those_columns():
    page = undrawn(dropped=False)
    heads = [th.get_text() for th in page.select_one("#table-one-clinical").thead.find_all("th")]
    assert heads == ["Characteristic", "Analysed", "Analysed: missing"]


def test_large_differences_are_marked_without_colour(page):
    rows = page.select("#table-one-clinical tbody tr")
    marked = {row.th.get_text(): row.find_all("td")[-1].get_text() for row in rows if row.td}
    assert marked["age"] == "0.21 *"
    assert marked["sex: female"] == "−0.04"


def test_log_rank_is_labelled_descriptive():
    _, run = example_run.example_tables(**SMALL)
    assert report_text.log_rank(run) is None
    run["log_rank"] = [{**run["primary_model"], "statistic": 20.1, "p_value": 0.00004}]
    told = "Log-rank test of the thirds, stratified by fold, descriptive: p <0.001."
    assert report_text.log_rank(run) == told


def test_many_points_become_one_picture_inside_the_figure():
    tables, run = example_run.example_tables(n=600, feature_sets=("clinical",), models=("cox",))
    svg = inline_svg(plots.contributions(tables, run))
    figure = bs4.BeautifulSoup(svg, "html.parser").svg
    pictures = figure.find_all("image")
    assert pictures
    assert all(p["xlink:href"].startswith("data:image/png;base64,") for p in pictures)
    assert len(figure.find_all("use")) < 500


def test_names_of_the_user_are_text_not_markup():
    def named(run):
        run["title"] = "<script>alert(1)</script> & co"
        run["notes"] = ["column <b>x</b> was pooled"]

    page = undrawn(named)
    text = text_of(page)
    assert not page.find_all("script")
    assert "<script>alert(1)</script> & co" in page.h1.get_text()
    assert "column <b>x</b> was pooled" in text


def test_methods_cite_in_reading_order_and_every_reference():
    tables, run = example_run.example_tables(**SMALL)
    paragraphs, references = report_methods.methods(tables, run)
    cited = [
        int(n)
        for group in re.findall(r"\[([\d,]+)\]", " ".join(paragraphs))
        for n in group.split(",")
    ]
    assert list(dict.fromkeys(cited)) == list(range(1, len(references) + 1))


def test_methods_say_what_a_reviewer_asks():
    tables, run = example_run.example_tables(**SMALL)
    text = " ".join(report_methods.methods(tables, run)[0])
    for phrase in (
        "60 patients with",
        "time zero is diagnosis",
        "5 folds",
        "8 trials each: the defaults, then points of a scrambled Sobol sequence",
        "sites kept whole",
        "tau = 5 years (1,826.25 days)",
        "for the fitted models given these patients",
        "leave out training variation",
        "was named before the run",
        "No measure compares patients of different folds",
        "500 resamples",
        "seed 7",
    ):
        assert phrase in text, phrase
    assert "Cox, elastic net chose the penalty by the cross-validated partial likelihood. " in text


def test_tuning_by_the_clock_is_confessed():
    tables, run = example_run.example_tables(**SMALL)
    run["tuning_seconds"] = 30.0
    text = " ".join(report_methods.methods(tables, run)[0])
    assert "Tuning stopped after 30 seconds a model" in text


def test_imputed_blocks_are_confessed():
    tables, run = example_run.example_tables(**SMALL)
    run["missing_blocks"] = "impute"
    text = " ".join(report_methods.methods(tables, run)[0])
    assert "an indicator of the missing block was given to every feature set" in text
    assert "same patients, those with every block" not in text


def test_folder_without_a_run(tmp_path):
    with pytest.raises(SchemaError) as caught:
        write_report(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no run.json; expected the folder of a finished run, as written by "
        "'tabular-trainers run'."
    )


def test_run_json_that_is_not_one(tmp_path):
    (tmp_path / "run.json").write_text('{"title": "x"}')
    with pytest.raises(
        SchemaError, match=r"run.json: lacks time_zero, endpoint, .*; expected the run"
    ):
        write_report(tmp_path)
    (tmp_path / "run.json").write_text('{"title": ')
    with pytest.raises(SchemaError, match=r"run.json: not JSON .*Repeat the run\."):
        write_report(tmp_path)


def test_run_without_its_tables(tmp_path):
    folder = example_run.write_example(tmp_path / "run", **SMALL)
    (folder / "metrics.parquet").unlink()
    with pytest.raises(
        SchemaError, match=r"no metrics.parquet; expected the folder of a finished run"
    ):
        write_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.browser
def test_report_opens_in_a_browser(folder, tmp_path):
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("needs a Chromium: none of chromium, google-chrome is installed")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1100,6000",
        f"--screenshot={tmp_path / 'page.png'}",
        (folder / "report.html").resolve().as_uri(),
    ]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    with Image.open(tmp_path / "page.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[:2] == (6000, 1100)
    banner, rest = pixels[:200], pixels[200:]
    assert (np.abs(banner - [138, 28, 0]).max(axis=2) < 12).sum() > 1000  # the banner's frame
    assert (np.abs(rest - [0, 114, 178]).max(axis=2) < 12).sum() > 300  # blue of the figures
    dark_rows = (rest.max(axis=2) < 110).any(axis=1)
    assert dark_rows.mean() > 0.3  # text all the way down


def test_deaths_of_another_endpoint_are_said_to_be_censored():
    def of_recurrence(run):
        run["endpoint"]["deaths_censored"] = True

    assert report_text.DEATHS_CENSORED in text_of(undrawn(of_recurrence))
    assert report_text.DEATHS_CENSORED not in text_of(undrawn())


def test_sample_size_is_compared_with_rileys_minimum():
    page = undrawn()
    text = text_of(page)
    assert "Riley's rule asks for 600 patients, and 60 were analysed: too few by this rule" in text
    cells = [
        [c.get_text() for c in r.find_all(["th", "td"])] for r in page.select("#sample-size tr")
    ]
    assert cells[0][-1] == "Patients needed"
    assert cells[1][:3] == ["clinical", "3", "3"]
    assert [row[-1] for row in cells[1:]] == ["340", "340", "600"]

    def enough(run):
        run["n_patients"] = 600

    assert "and 600 were analysed: enough by this rule" in text_of(undrawn(enough))


def test_checklist_is_at_the_end_and_says_what_is_left(page):
    heading = page.find("h2", id="checklist-section")
    assert heading.find_next("h2") is None
    assert heading.find_next("details").table["id"] == "tripod-ai"
    assert len(page.select("#tripod-ai tbody tr:not(.group)")) == 52
    assert re.search(
        r"Of 52 points the run filled \d+ and partly filled \d+; \d+ are left for the author",
        heading.find_parent("section").get_text(),
    )


def test_for_whom_has_one_p_value_a_variable_and_none_a_row():
    page = undrawn()
    groups = [row.get_text(strip=True) for row in page.select("#subgroups tr.group")]
    assert groups == ["sex (interaction, exploratory: p 0.34)", "age at initial diagnosis, thirds",
                      "stage"]  # fmt: skip
    heads = [th.get_text() for th in page.select_one("#subgroups").thead.find_all("th")]
    assert heads == ["Group", "Patients", "Events", "Harrell's C", "Harrell's C, baseline",
                     "Difference", "Observed/expected at 5 years"]  # fmt: skip
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])]
            for row in page.select("#subgroups tbody tr:not(.group)")]  # fmt: skip
    assert rows[0][0] == "all patients"
    assert ["I", "9", "4", "too few", "", "", ""] in rows
    assert "does not show that the groups differ" in text_of(page)


def test_a_run_without_groups_has_no_such_section():
    tables, run = example_run.example_tables(**SMALL)
    del tables["subgroups"]
    assert "For whom" not in report.page(tables, run, {})
