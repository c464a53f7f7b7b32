"""What the report says of late entry: on fabricated tables, apart from any evaluation."""

import re

import bs4
import pytest

from tabular_trainers import plots, report, report_entry
from tests import example_run

FOUND = {"tau": 0.123, "standard_error": 0.05, "p_value": 0.014, "n_pairs": 900}
SMALL = {"n": 60, "feature_sets": ("clinical", "blood", "clinical+blood"), "models": ("cox", "rsf")}


def late_run(p_value=0.4, landmark=None):
    tables, run = example_run.example_tables(**SMALL)
    run["endpoint"] |= {"entry": True, "landmark": landmark}
    run["entry_dependence"] = FOUND | {"p_value": p_value}
    run["follow_up"]["start"] = 90.0
    curves = tables["kaplan_meier"]
    tables["kaplan_meier"] = curves[curves["time"] >= 90.0].reset_index(drop=True)
    rows = tables["metrics"]
    at = rows["metric"].isin(["uno_c", "auc"]) & rows["fold"].isna()
    numbers = ["estimate", "standard_error", "lower", "upper"]
    if landmark is None:
        rows.loc[at, numbers] = None
        rows.loc[at, "method"] = "not computed: with entry times (left truncation) give a landmark"
        tables.pop("decision_curve")
    else:
        rows.loc[at, "n"] = 41
        rows.loc[at, "n_events"] = 0
        rows.loc[at, "method"] += f"; 41 of 60 patients at risk at landmark {landmark:g}"
    return tables, run


def text_of(tables, run):
    page = bs4.BeautifulSoup(report.page(tables, run, {}), "html.parser")
    return page, re.sub(r"\s+", " ", page.get_text())


def test_dependence_takes_all_estimates_down_in_the_verdict():
    page, _ = text_of(*late_run(p_value=0.014))
    told = page.find(class_="verdict").get_text()
    assert "(conditional Kendall's tau 0.12, p = 0.014)" in told
    assert (
        "Neither the estimates of this report, which are adjusted for late entry, nor naive" in told
    )


def test_independence_is_not_claimed():
    page, text = text_of(*late_run(p_value=0.4))
    assert "Neither the estimates" not in text
    assert "A dependence was not shown (conditional Kendall's tau 0.12, p = 0.40), nor is" in text
    tables, run = late_run()
    run["entry_dependence"] = None
    assert "could not be tested" in report_entry.dependence(run)
    run["endpoint"]["entry"] = False
    assert report_entry.dependence(run) is None


def test_without_a_landmark_the_report_says_what_to_give():
    page, text = text_of(*late_run())
    assert "Uno's C and AUC: with entry times (left truncation) give a landmark." in text
    assert "they need a landmark in the endpoint's section of the cohort file" in text
    assert "This run has no decision curve. With entry times (left truncation) it needs a" in text


def test_with_a_landmark_it_says_of_whom_and_counts_events_of_all():
    tables, run = late_run(landmark=200.0)
    page, text = text_of(tables, run)
    assert "Uno's C and AUC: of 41 of 60 patients, those at risk at the landmark, 200 days" in text
    assert "Uno's C, AUC and net benefit are of the patients at risk at the landmark, 200 " in text
    method = re.search(r"Method: (.*?)\. The primary", text).group(1)
    assert "landmark" not in method
    rows = tables["metrics"]
    by_horizon = rows[rows["fold"].isna()].groupby("horizon")["n_events"].max()
    cells = [row.find_all("td")[-1].text for row in page.find(id="horizons").tbody.find_all("tr")]
    assert [int(cell) for cell in cells] == by_horizon.tolist()
    assert min(by_horizon) > 0


def test_curves_say_from_when_they_are():
    tables, run = late_run()
    text = text_of(tables, run)[1]
    assert "Median follow-up, reverse Kaplan-Meier, given still followed at 90 days: 4.1" in text
    curves = tables["kaplan_meier"]
    start = curves.loc[curves["curve"] == "overall", "time"].min()
    pair = (run["primary_model"]["feature_set"], run["primary_model"]["model"])
    told = report_entry.curves_start(tables, run, "overall")
    assert f"probabilities are given alive at {start:.3g} days." in told
    assert "The three start together" in report_entry.curves_start(tables, run, "thirds", pair)
    drawing = plots.follow_up(tables, run)
    titles = [ax.get_title(loc="left") for ax in drawing.axes]
    assert any("given alive at" in title for title in titles)
    assert any("given still followed at" in title for title in titles)
    ax = next(ax for ax in drawing.axes if "given alive" in ax.get_title(loc="left"))
    first = ax.get_lines()[0].get_xdata()[0]
    assert first == pytest.approx(start / 365.25)
    thirds = plots.risk_thirds(tables, run)
    assert any("given alive at" in ax.get_ylabel() for ax in thirds.axes)
    tables, run = example_run.example_tables(**SMALL)
    assert report_entry.curves_start(tables, run, "overall") == ""
    assert report_entry.methods(run) == report_entry.calibration(run) == ""
