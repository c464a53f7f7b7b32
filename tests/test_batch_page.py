import io
import re
import shutil
import subprocess

import bs4
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tabular_trainers import batch_page, plots_labels, plots_pool, report_pools
from tabular_trainers.batch_entries import BatchEntry
from tests import example_run
from tests.example_batch import ALIKE, COHORTS, example_batch
from tests.test_plots import overhang, words_of

TITLE = "Does genomics add? Six cohorts"
NAMES = {"cox": "Cox, elastic net", "logistic": "logistic regression"}


def rendered(title=TITLE, **kwargs):
    """Return the page of a fabricated batch: HTML, figures, tables."""
    tables, entries = example_batch(**kwargs)
    entries = [BatchEntry(**entry) for entry in entries]
    links = {
        entry.name: f"{entry.path}/report.html" if entry.what == "run" else entry.path
        for entry in entries
        if entry.status == "done"
    }
    return *batch_page.render(tables, title, entries, links), tables


def soup(html):
    return bs4.BeautifulSoup(html, "html.parser")


def text_of(element):
    return " ".join(element.get_text(" ").split())


def records(table):
    return table.astype(object).where(table.notna(), None).to_dict("records")


@pytest.fixture(scope="module")
def six():
    return rendered(effect=0.04, left_out=("tcga_skcm",), failed=("tcga_blca",))


@pytest.fixture(scope="module")
def page(six):
    return soup(six[0])


# --- the answer ----------------------------------------------------------------------------------


def test_the_answer_comes_first_with_its_number_and_interval(six, page):
    _, _, tables = six
    pool = tables["pools"].query("primary").iloc[0]
    found = page.select_one(".verdict")
    assert (
        text_of(found.select_one(".question")) == "Does genomics add to clinical, across cohorts?"
    )
    ends = f"{plots_labels.number(pool['lower'])} to {plots_labels.number(pool['upper'])}"
    assert text_of(found.select_one(".headline")) == (
        f"Adds: with genomics, Harrell's C changes by {pool['difference']:+.3f} "
        f"(95% interval {ends}), across 4 cohorts."
    )
    assert "adds" in found["class"]
    before = found.find_all_previous(["h2", "table", "figure"])
    assert [element.name for element in before] == ["h2"]


def pool_row(**change):
    tables, _ = example_batch(effect=0.03)
    pool = records(tables["pools"].query("primary"))[0]
    rows = tables["pool_cohorts"]
    keys = ["feature_set", "model"]
    own = rows[(rows[keys] == [pool[k] for k in keys]).all(axis=1)]
    return {**pool, **change}, records(own)


@pytest.mark.parametrize(
    ("reads", "lower", "estimate", "upper", "headline", "pairs"),
    [
        ("adds", 0.005, 0.021, 0.037, "Adds: with genomics, Harrell's C changes by +0.021 (95% "
         "interval 0.005 to 0.037), across 6 cohorts.", "21 more (5 more to 37 more)"),
        ("worse", -0.05, -0.03, -0.01, "Worse: with genomics, Harrell's C changes by −0.030 (95% "
         "interval −0.050 to −0.010), across 6 cohorts.", "30 fewer (50 fewer to 10 fewer)"),
        ("not shown", -0.01, 0.004, 0.018, "Not shown: with genomics, Harrell's C changes "
         "by +0.004 (95% interval −0.010 to 0.018), across 6 cohorts.",
         "4 more (10 fewer to 18 more)"),
    ],
)  # fmt: skip
def test_every_verdict_in_words(reads, lower, estimate, upper, headline, pairs):
    pool, rows = pool_row(reads=reads, lower=lower, difference=estimate, upper=upper)
    found = report_pools.answer(pool, rows, NAMES)
    assert (found["reads"], found["headline"]) == (reads, headline)
    meaning = dict(found["sentences"])["What it means."]
    assert f"of 1,000 such pairs, {pairs} are put in the right order than by clinical." in meaning
    assert ("both signs" in meaning) == (reads == "not shown")


def test_disagreement_names_extremes_and_those_whose_interval_is_on_one_side():
    pool, rows = pool_row(tau2=0.0004, i2=42.4, q_p_value=0.0321)
    ends = [(0.01, -0.01, 0.03), (0.08, 0.05, 0.11), (-0.06, -0.1, -0.02)]
    ends += [(0.03, 0.0, 0.06), (0.02, 0.001, 0.05), (0.0, -0.1, 0.1)]
    for row, (difference, lower, upper) in zip(rows, ends, strict=True):
        row |= {"difference": difference, "lower": lower, "upper": upper}
    told = dict(report_pools.answer(pool, rows, NAMES)["sentences"])["Where cohorts disagree."]
    assert told == (
        "From −0.060 in tcga_gbmlgg to +0.080 in tcga_brca. Taken alone, the interval lies above "
        "zero in 2 (tcga_brca, tcga_skcm), and the interval lies below zero in 1 (tcga_gbmlgg). "
        "Heterogeneity: I² = 42%, the share of the spread that chance does not explain; the true "
        "differences vary around their mean with a standard deviation (tau) of 0.0200; p = 0.032."
    )
    pool["tau2"], pool["i2"] = 0.0, 0.0
    told = dict(report_pools.answer(pool, rows, NAMES)["sentences"])["Where cohorts disagree."]
    assert "no more spread than chance alone would give" in told


@pytest.mark.parametrize(
    ("lower", "upper", "read"),
    [
        (0.01, 0.05, "a gain is to be expected there too."),
        (-0.05, -0.01, "a loss is to be expected there too."),
        (-0.01, 0.05, "neither a gain nor a loss there can be counted on."),
    ],
)
def test_prediction_interval_in_words(lower, upper, read):
    pool, rows = pool_row(prediction_lower=lower, prediction_upper=upper)
    found = dict(report_pools.answer(pool, rows, NAMES)["sentences"])["A new cohort like these."]
    signed = f"{plots_labels.number(lower, sign=True)} to {plots_labels.number(upper, sign=True)}"
    assert signed in found
    assert found.endswith(read)


def test_cohorts_left_out_are_named_with_their_reason(page):
    told = text_of(page.select_one(".verdict"))
    assert f"Not pooled. tcga_skcm: {ALIKE}." in told


def test_feature_sets_that_do_not_hold_the_baseline_are_compared_not_added():
    pool, rows = pool_row(feature_set="genomics")
    found = report_pools.answer(pool, rows, NAMES)
    assert found["question"] == "Does genomics predict better than clinical, across cohorts?"
    assert "Harrell's C of genomics minus that of clinical is +" in found["headline"]


def test_several_primary_pools_are_counted():
    html, figures, _ = rendered(seeds=range(8), cohorts=COHORTS[:3])
    page = soup(html)
    assert len(figures) == len(page.select(".verdict")) == batch_page.POOLS_DRAWN
    counted = text_of(page.select_one("#answer ~ p"))
    assert counted.startswith("8 comparisons were named before the runs: ")
    rest = page.select_one("#other-pools")
    assert len(rest.select("tr.strong")) == 8 - batch_page.POOLS_DRAWN
    assert len({text_of(v.select("p")[2]) for v in page.select(".verdict")}) == 6  # one a seed


# --- no answer -----------------------------------------------------------------------------------


def test_two_cohorts_are_shown_and_not_pooled():
    html, figures, _ = rendered(cohorts=COHORTS[:2])
    found = soup(html).select_one(".verdict")
    assert text_of(found.select_one(".headline")) == (
        "No answer across cohorts: 2 cohorts, at least 3 are needed."
    )
    assert "Each on its own. tcga_blca +0.0" in text_of(found)
    assert set(figures) == {"pool_1"}
    assert "Hartung" not in html


@pytest.mark.parametrize(
    ("kwargs", "why"),
    [
        ({"cohorts": (), "notebooks": ("quickstart-folds-3",)}, "only notebooks were executed"),
        ({"failed": COHORTS}, "every run failed"),
        ({"primary": False}, "the runs did not name the same comparison beforehand"),
        ({"feature_sets": ("clinical",)}, "no run compares a feature set with a clinical baseline"),
    ],
)
def test_without_a_pool_the_page_says_why(kwargs, why):
    html, figures, _ = rendered(**kwargs)
    page = soup(html)
    assert text_of(page.select_one(".headline")).startswith(f"No answer across cohorts: {why}")
    assert figures == {}
    assert bool(page.find(id="other-pools")) == (kwargs == {"primary": False})
    assert bool(page.find(id="runs")) == ("failed" not in kwargs and "notebooks" not in kwargs)


def test_notebooks_are_listed_with_their_links():
    html, _, _ = rendered(cohorts=COHORTS[:3], notebooks=("first", "second"))
    page = soup(html)
    assert [a["href"] for a in page.select('#runs-section ~ ul a[href^="notebooks/"]')] == [
        "notebooks/first.ipynb",
        "notebooks/second.ipynb",
    ]
    assert "3 runs of 3 cohorts and 2 notebooks; none failed." in text_of(page.select_one(".lead"))


def test_classification_speaks_of_positive_patients():
    html, _, _ = rendered(kind="classification", endpoint="hpv")
    text = text_of(soup(html))
    assert "AUROC is the chance that, of a positive and a negative patient" in text
    assert " positive; p = " in text
    assert "Harrell's C (95% interval)" not in text


# --- the table of runs ---------------------------------------------------------------------------


def test_every_row_is_in_the_table_with_its_interval_and_link(six, page):
    rows = page.select("#runs tbody tr")
    comparison = six[2]["comparison"].query("status == 'done'")
    assert len(rows) == len(comparison) == 5 * 3 * 2
    for shown, row in zip(rows, comparison.itertuples(), strict=True):
        cells = [text_of(cell) for cell in shown.find_all(["th", "td"])]
        assert cells[0] == row.run
        assert cells[5] == plots_labels.interval(row.estimate, row.lower, row.upper)
        if row.feature_set == "clinical":
            assert cells[6] == "baseline"
        else:
            ends = (row.difference, row.difference_lower, row.difference_upper)
            assert cells[6] == plots_labels.interval(*ends, sign=True)
        assert shown.a["href"] == f"runs/{row.run}/report.html"
        assert ("strong" in shown.get("class", ())) == row.primary


def test_missing_intervals_and_runs_without_a_primary_comparison():
    html, _, _ = rendered(intervals=False)
    assert all(
        text_of(row.find_all("td")[4]).endswith("(–)")
        for row in soup(html).select("#runs tbody tr")
    )


def test_columns_that_tell_nothing_apart_are_left_out():
    def heads(**kwargs):
        table = batch_page.run_table(
            example_batch(cohorts=("a", "b"), **kwargs)[0]["comparison"], {}
        )
        return table.columns

    assert "Seed" not in heads()
    assert "Measure" not in heads()
    assert "Seed" in heads(seeds=(0, 1))
    one, other = (
        example_batch(cohorts=("a",), kind=kind)[0]["comparison"]
        for kind in ("survival", "classification")
    )
    both = batch_page.run_table(pd.concat([one, other]), {}).columns
    assert "Measure" in both
    assert "Estimate (95% interval)" in both


def test_too_many_rows_leave_those_that_were_named_before(monkeypatch):
    monkeypatch.setattr(batch_page, "ROWS_SHOWN", 20)
    table = batch_page.run_table(example_batch()[0]["comparison"], {})
    assert len(table.rows) == 6 * 3  # the primary row, and both models of the baseline
    assert table.notes[0] == "18 of 36 rows are shown: primary comparisons and baselines."


# --- failures ------------------------------------------------------------------------------------


def test_failures_are_at_the_top_with_their_reasons(page):
    box = page.select_one(".failures")
    assert "1 failed; the numbers below are of the others." in text_of(box)
    assert text_of(box.li) == "tcga_blca_os: no event in the test part of fold 3."
    assert box.find_next("h2")["id"] == "answer"
    assert "6 runs of 6 cohorts; 1 failed." in text_of(page.select_one(".lead"))


def test_many_failures_are_folded():
    names = [f"c{i}" for i in range(13)]
    box = soup(rendered(cohorts=names, failed=names)[0]).select_one(".failures")
    assert len(box.find_all("li")) == 13
    assert text_of(box.summary) == "3 more"
    assert len(box.details.find_all("li")) == 3


def test_links_lead_to_what_is_there_and_of_this_batch(tmp_path):
    def entry(path, status="done"):
        what = "run" if path.startswith("runs") else "notebook"
        return BatchEntry(path.split("/")[1], what, None, None, None, path, status, None)

    entries = [entry("runs/a b"), entry("runs/old", "failed"), entry("runs/gone")]
    entries += [entry("notebooks/n.ipynb"), entry("notebooks/old.ipynb", "failed")]
    entries += [entry("notebooks/f.partial.ipynb", "failed")]
    for name in ("runs/a b", "runs/old", "notebooks"):
        (tmp_path / name).mkdir(parents=True)
    for one in entries:
        place = tmp_path / one.path / "report.html" if one.what == "run" else tmp_path / one.path
        if one.name != "gone":
            place.touch()
    assert batch_page.links(tmp_path, entries) == {
        "a b": "runs/a%20b/report.html",
        "n.ipynb": "notebooks/n.ipynb",
        "f.partial.ipynb": "notebooks/f.partial.ipynb",
    }


# --- the file ------------------------------------------------------------------------------------


def test_same_tables_give_the_same_bytes(six):
    again = rendered(effect=0.04, left_out=("tcga_skcm",), failed=("tcga_blca",))
    assert again[:2] == six[:2]


def test_page_needs_nothing_from_elsewhere(six, page):
    for element in page.find_all(True):
        for name in ("src", "href", "xlink:href"):
            assert element.get(name, "#").startswith(("#", "runs/")), element.name
    assert not page.find_all(["link", "iframe", "object", "embed", "base", "form", "img"])
    (script,) = page.find_all("script")
    assert not re.search(r"https?:|fetch|import|eval|innerHTML", script.get_text())
    assert len(script.get_text().splitlines()) < 30


def test_ids_are_unique_and_references_have_a_target(six, page):
    ids = [element["id"] for element in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', six[0])
    named = [
        i
        for e in page.find_all(attrs={"aria-labelledby": True})
        for i in e["aria-labelledby"].split()
    ]
    assert set(used + named) <= set(ids)


def test_names_of_the_user_are_text_not_markup():
    html, _, _ = rendered(title="<script>alert(1)</script> & co", cohorts=("<b>x</b>", "b", "c"))
    page = soup(html)
    assert len(page.find_all("script")) == 1
    assert "<script>alert(1)</script> & co" in page.h1.get_text()
    assert "<b>x</b>_os" in page.select_one("#runs").get_text()


def test_five_hundred_runs_stay_a_small_page():
    names = [f"cohort_{i:03d}" for i in range(500)]
    html, _, _ = rendered(cohorts=names)
    assert len(html.encode()) < 2e6
    assert html.count("<tr") - html.count("<thead><tr") == 500 * 6 + 500 + 3  # runs, cohorts, pools
    assert "Drawn: the 40 of 500 cohorts with the largest weights." in html


def test_methods_cite_in_reading_order_and_every_reference(page):
    text = " ".join(p.get_text() for p in page.select("#methods-section ~ p"))
    numbers = [int(n) for group in re.findall(r"\[([\d,]+)\]", text) for n in group.split(",")]
    assert numbers == list(range(1, 8))
    assert len(page.select("#methods-section ~ ol li")) == 7


# --- of real run folders -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Write three small fabricated runs of different patients, and a notebook that failed."""
    out = tmp_path_factory.mktemp("batch")
    entries = []
    for number, cohort in enumerate(("north", "south", "west")):
        path = out / "runs" / f"{cohort}_os"
        sets = ("clinical", "clinical+blood")
        example_run.write_example(path, n=60, feature_sets=sets, models=("cox",), seed=number)
        ids = pd.DataFrame({"patient_id": [f"{cohort}{i}" for i in range(60)]})
        ids.to_parquet(path / "predictions.parquet")  # all that is read of it
        (path / "report.html").touch()
        own = (f"{cohort}_os", "run", cohort, "os", 0, f"runs/{cohort}_os", "done", None)
        entries.append(BatchEntry(*own))
    book = ("book", "notebook", None, None, None, "notebooks/book.ipynb", "failed", "division by 0")
    return out, [*entries, BatchEntry(*book)]


def contents(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_tables_page_and_figures_are_written_and_nothing_else(batch):
    out, entries = batch
    before = contents(out)
    (out / "figures").mkdir()
    (out / "figures" / "pool_9.png").touch()  # of an older comparison
    assert batch_page.write_comparison(out, TITLE, entries) == out / "index.html"
    after = contents(out)
    assert set(after) - set(before) == {
        "index.html",
        "figures/pool_1.png",
        "comparison.parquet",
        "pools.parquet",
        "pool_cohorts.parquet",
    }
    page = soup(after["index.html"].decode())
    assert text_of(page.select_one(".question")) == "Does blood add to clinical, across cohorts?"
    assert page.select_one("#runs a")["href"] == "runs/north_os/report.html"
    assert text_of(page.select_one(".failures li")) == "book: division by 0"
    assert "3 runs of 3 cohorts and 1 notebook; 1 failed." in text_of(page.select_one(".lead"))


def test_the_same_runs_elsewhere_give_the_same_bytes_without_their_place(batch, tmp_path):
    out, entries = batch
    again = tmp_path / "elsewhere"
    shutil.copytree(out / "runs", again / "runs")
    batch_page.write_comparison(out, TITLE, entries)
    batch_page.write_comparison(again, TITLE, entries)
    assert contents(again) == contents(out)
    for name, content in contents(again).items():
        if not name.startswith("runs/"):
            assert str(again).encode() not in content, name


# --- the forest plot -----------------------------------------------------------------------------


def drawn(**kwargs):
    tables, _ = example_batch(**kwargs)
    pool = records(tables["pools"].query("primary"))[0]
    rows = tables["pool_cohorts"]
    own = rows[(rows["feature_set"] == pool["feature_set"]) & (rows["model"] == pool["model"])]
    return plots_pool.forest("pool_1", pool, records(own), NAMES), pool, own


def test_forest_shows_every_number_and_which_side_is_which():
    figure, pool, own = drawn(left_out=("tcga_skcm",))
    shown = words_of(figure)
    for row in own.itertuples():
        text = plots_labels.interval(row.difference, row.lower, row.upper, sign=True)
        assert text in shown
        assert row.cohort in shown
    assert (
        plots_labels.interval(pool["difference"], pool["lower"], pool["upper"], sign=True) in shown
    )
    assert "← clinical better" in shown
    assert "with genomics better →" in shown
    assert shown.index("Not pooled") < shown.index("tcga_skcm")
    assert "tcga_skcm, not pooled: 0.000" in figure.description
    assert f"{plots_pool.NEW}: " in figure.description


def test_squares_grow_with_the_weight_and_the_diamond_is_as_wide_as_the_interval():
    figure, pool, own = drawn(left_out=("tcga_skcm",))
    ax = figure.axes[0]
    squares = {float(line.get_xdata()[0]): line for line in ax.lines if line.get_marker() == "s"}
    sizes = [squares[row.difference].get_markersize() for row in own.itertuples() if row.pooled]
    weights = own.loc[own["pooled"].astype(bool), "weight"].astype(float)
    assert np.argsort(sizes).tolist() == np.argsort(weights.to_numpy()).tolist()
    assert squares[0.0].get_markerfacecolor() == "white"
    (diamond,) = ax.patches
    assert diamond.get_xy()[:, 0].min() == pytest.approx(pool["lower"])
    assert diamond.get_xy()[:, 0].max() == pytest.approx(pool["upper"])


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"cohorts": COHORTS[:1]},
        {"cohorts": [f"a_hospital_of_a_very_long_name_in_the_far_north_{i}" for i in range(4)]},
        {"cohorts": [f"cohort{i}" for i in range(90)], "left_out": ["cohort3"]},
        {"effect": -0.2, "feature_sets": ("clinical", "clinical+" + "a_long_block_name_" * 4)},
    ],
)
def test_no_text_of_the_forest_is_cut(kwargs):
    assert overhang(drawn(**kwargs)[0]) < 0.02


def test_long_names_lose_their_middle_unless_that_makes_two_alike():
    ends = [f"a_hospital_of_a_very_long_name_in_the_far_north_{i}" for i in range(4)]
    shown = words_of(drawn(cohorts=ends)[0])
    assert sum(text.startswith("a_hospital") and "…" in text for text in shown) == 4
    middles = [f"a_hospital_of_a_very_{i}_long_name_in_the_far_north" for i in range(4)]
    assert not [text for text in words_of(drawn(cohorts=middles)[0]) if "…" in text]


def test_figures_are_pictures_for_a_paper(six):
    with Image.open(io.BytesIO(six[1]["pool_1"])) as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        assert "not cleared for release" in image.text["Disclaimer"]


# --- in a browser --------------------------------------------------------------------------------

CLICKS = """
<script>
const heads = [...document.querySelectorAll("#runs thead th")];
const rows = () => [...document.querySelectorAll("#runs tbody tr")];
const seen = [6, 6, 0].map((i) => {
  heads[i].querySelector("button").click();
  const sorted = heads.map((head) => head.getAttribute("aria-sort"));
  return { sorted, column: rows().map((row) => row.cells[i].textContent) };
});
const told = document.createElement("pre");
told.textContent = JSON.stringify(seen);
document.body.replaceChildren(told);
</script>
"""


@pytest.mark.browser
def test_headings_sort_by_number_and_by_text(six, tmp_path, chromium):
    import html as escapes
    import json

    (tmp_path / "page.html").write_text(six[0] + CLICKS, encoding="utf-8")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "page.html").as_uri(),
    ]  # fmt: skip
    found = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    seen = json.loads(escapes.unescape(re.search(r"<pre>(.*)</pre>", found.stdout, re.DOTALL)[1]))

    def numbers(seen):
        texts = [t.replace("−", "-").replace("baseline", "0") for t in seen["column"]]
        return [float(text.split(" ")[0]) for text in texts]

    up, down, names = seen
    assert numbers(up) == sorted(numbers(up))
    assert numbers(down) == sorted(numbers(up), reverse=True)
    assert names["column"] == sorted(names["column"])
    assert [s["sorted"][6] for s in seen] == ["ascending", "descending", None]
    assert names["sorted"][0] == "ascending"
