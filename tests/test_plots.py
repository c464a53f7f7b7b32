import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import tabular_trainers
from tabular_trainers import plots, plots_contributions, plots_curves, plots_labels, plots_style
from tests import example_run

SURVIVAL_ONLY = {"follow_up", "risk_thirds", "risk_thirds_grid"}
TIME = {"follow_up", "risk_thirds", "risk_thirds_grid"}
PROBABILITY = {
    "calibration",
    "calibration_grid",
    "decision_curve",
    "follow_up",
    "risk_thirds",
    "risk_thirds_grid",
}


@pytest.fixture(scope="module")
def survival():
    return example_run.example_tables(n=90)


@pytest.fixture(scope="module")
def classification():
    return example_run.example_tables("classification", n=90)


def words_of(figure):
    """Return every text of a figure that is shown."""
    texts = figure.findobj(lambda artist: isinstance(artist, matplotlib.text.Text))
    return [text.get_text() for text in texts if text.get_text().strip()]


def overhang(figure):
    """Return how far the drawn parts reach over the edges of their figure, in inches."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - width, box.y1 - height, 0.0)


def test_the_namespace_is_public():
    assert tabular_trainers.plots is plots
    assert len(plots.__all__) == len(set(plots.__all__)) == 12


@pytest.mark.parametrize("name", plots.__all__)
def test_every_figure_names_patients_events_and_units(name, survival):
    tables, run = survival
    figure = getattr(plots, name)(tables, run)
    assert isinstance(figure, Figure)
    assert f"90 patients, {run['n_events']} events" in figure.title
    shown = " ".join(words_of(figure))
    assert f"90 patients, {run['n_events']} events" in shown
    assert len(figure.description) > 40
    if name in TIME:
        assert "Time since diagnosis (years)" in shown
    if name in PROBABILITY:
        assert "robability" in shown
    if name == "contributions":
        assert "(log hazard)" in shown


@pytest.mark.parametrize("name", sorted(set(plots.__all__) - SURVIVAL_ONLY))
def test_every_figure_of_a_classification(name, classification):
    tables, run = classification
    figure = getattr(plots, name)(tables, run)
    assert f"90 patients, {run['n_events']} positive" in figure.title


@pytest.mark.parametrize("name", plots.__all__)
def test_no_text_is_cut(name, survival):
    assert overhang(getattr(plots, name)(*survival)) < 0.02


def test_no_text_is_cut_with_long_names_and_eight_feature_sets(monkeypatch):
    blocks = ["clinical", "pathology", "blood"]
    long = "transcriptomics_of_the_resected_primary_tumour"
    monkeypatch.setitem(example_run.FEATURES, long, ("a_very_long_gene_name_" * 4, "cost$ of $x"))
    sets = [*blocks, "clinical+pathology", "clinical+blood", "pathology+blood", long]
    sets.append("+".join([*blocks, long]))
    models = ("cox", "rsf", "xgb")
    tables, run = example_run.example_tables(n=60, feature_sets=sets, models=models)
    run["time_zero"] = "the first surgical resection at any of the participating hospitals (day)"
    for name in plots.__all__:
        assert overhang(getattr(plots, name)(tables, run)) < 0.02, name


def test_baseline_is_marked_and_selected_is_named_in_words(survival):
    tables, run = survival
    shown = words_of(plots.discrimination(tables, run))
    assert "clinical (baseline)" in shown
    assert plots_labels.SELECTED in shown
    assert "selected" not in shown


def test_forest_plot_shows_the_numbers_of_the_table(survival):
    tables, run = survival
    rows = tables["metrics"]
    row = rows[(rows["metric"] == "harrell_c") & rows["fold"].isna()].iloc[0]
    expected = f"{row['estimate']:.3f} ({row['lower']:.3f} to {row['upper']:.3f})"
    assert expected in words_of(plots.discrimination(tables, run))


def test_a_missing_interval_leaves_the_point_and_a_dash():
    tables, run = example_run.example_tables(n=60, intervals=False)
    shown = words_of(plots.discrimination(tables, run))
    assert sum(text.endswith(" (–)") for text in shown) == 20


def test_primary_comparison_comes_first_and_is_marked(survival):
    tables, run = survival
    shown = words_of(plots.differences(tables, run))
    headers = [text for text in shown if text.startswith(("Primary", "Exploratory"))]
    assert headers[0].startswith("Primary, named before the run, against clinical")
    assert len(headers) == 5


def test_numbers_at_risk_are_those_of_the_table(survival):
    tables, run = survival
    rows = tables["kaplan_meier"]
    chosen = run["primary_model"]
    low = rows[
        (rows["curve"] == "thirds")
        & (rows["feature_set"] == chosen["feature_set"])
        & (rows["model"] == chosen["model"])
        & (rows["group"] == "low")
    ].sort_values("time")
    # At two years (730.5 days): those whose row is the first at or after that time.
    expected = low.loc[low["time"] >= 730.5, "n_at_risk"].iloc[0]
    figure = plots.risk_thirds(tables, run)
    below = figure.axes[1]
    ticks = list(figure.axes[0].get_xticks())
    row = [t for t in below.texts if t.get_position()[1] == 0 and t.get_text() != "low"]
    assert [t.get_text() for t in row][ticks.index(2)] == str(expected)
    assert [t.get_position()[0] for t in row] == ticks


def test_step_curve_is_thinned_but_keeps_its_ends():
    tables, run = example_run.example_tables(n=3000, feature_sets=("clinical",), models=("cox",))
    figure = plots.follow_up(tables, run)
    line = figure.axes[0].lines[0]
    rows = tables["kaplan_meier"].query("curve == 'overall'")
    assert len(line.get_xdata()) <= plots_curves.POINTS + 2
    assert line.get_xdata()[-1] == pytest.approx(rows["time"].max() / 365.25)
    assert line.get_ydata()[-1] == pytest.approx(rows["survival"].min())


@pytest.mark.parametrize(("n", "rasterised"), [(60, False), (400, True)])
def test_many_points_are_rasterised(n, rasterised):
    tables, run = example_run.example_tables(n=n, feature_sets=("clinical",), models=("cox",))
    n_points = len(tables["shap"])
    assert (n_points > plots_contributions.POINTS_AS_PATHS) == rasterised
    figure = plots.contributions(tables, run)
    points = [p for p in figure.axes[0].collections if len(p.get_offsets())]
    assert sum(len(p.get_offsets()) for p in points) == n_points
    assert all(bool(p.get_rasterized()) == rasterised for p in points)


def test_points_stay_in_their_row():
    # Eleven points in one place: spread up and down, at most 0.38 of a row.
    offsets = plots_contributions._spread(np.zeros(11, dtype=int))
    assert len(set(offsets)) == 11
    assert np.abs(offsets).max() <= 0.38


def test_a_feature_of_two_values_has_the_two_ends_of_the_scale(survival):
    tables, run = survival
    shap = tables["shap"]
    shap = shap[shap["feature"] == "age"].assign(feature="yes_or_no")
    shap["value"] = (np.arange(len(shap)) % 7 == 0).astype(float)
    figure = plots.contributions(tables | {"shap": shap}, run)
    assert set(figure.axes[0].collections[0].get_array()) == {0.0, 1.0}


def test_figures_do_not_depend_on_the_users_settings(survival):
    tables, run = survival
    first = plots.calibration(tables, run)._repr_png_()
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "lines.linewidth": 9}):
        assert plots.calibration(tables, run)._repr_png_() == first


def test_a_name_in_another_script_is_drawn_without_a_warning(survival, recwarn):
    tables, run = survival
    shap = tables["shap"].replace({"feature": {"age": "年齢"}})
    figure = plots.contributions(tables | {"shap": shap}, run)
    figure._repr_png_()
    assert "年齢" in figure.description
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_nothing_to_draw_says_so(survival):
    tables, run = survival
    empty = {name: table.iloc[:0] for name, table in tables.items()}
    for name in plots.__all__:
        assert "his run has no" in " ".join(words_of(getattr(plots, name)(empty, run))), name


def test_curves_of_groups_differ_by_more_than_colour():
    styles = [plots_style.GROUPS[name] for name in ("low", "middle", "high")]
    assert len({str(dashes) for _, dashes in styles}) == 3
    looks = plots_style.model_looks(["a", "b", "c", "selected"])
    assert len({marker for _, marker in looks.values()}) == 4


def test_colours_contrast_with_white():
    # WCAG 2.1: graphics need 3 to 1, text 4.5 to 1.
    def contrast(colour):
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(
            channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)

    assert min(contrast(colour) for colour in plots_style.COLOURS) >= 3
    assert min(contrast(c) for c in (plots_style.INK, plots_style.MUTED)) >= 4.5


def test_text_is_measured_as_it_is_drawn():
    figure = plots_style.Drawing()
    for text, size, weight in (("Number at risk", 9, "normal"), ("0.712 (0.660)", 8.5, "bold")):
        with plots_style.styled_context():
            drawn = figure.text(0, 0, text, size=size, weight=weight)
            width = drawn.get_window_extent().width / figure.dpi
        assert plots_style.text_width(text, size, weight) == pytest.approx(width, rel=0.06)


def test_wrapped_text_fits_and_keeps_every_word():
    text = "the first surgical resection at any of the participating hospitals"
    lines = plots_style.wrapped(text, 1.5)
    assert " ".join(lines) == text
    assert max(plots_style.text_width(line) for line in lines) <= 1.5


def test_figure_is_an_svg_on_its_own(survival, tmp_path):
    path = tmp_path / "figure.svg"
    plots.discrimination(*survival).savefig(path)
    root = ElementTree.parse(path).getroot()
    assert re.fullmatch(r"\{.*\}svg", root.tag)


def test_for_whom_tells_groups_too_small_and_the_interaction(survival):
    figure = plots.for_whom(*survival)
    shown = words_of(figure)
    assert "too few events" in shown
    assert "interaction p 0.34" in shown
    assert "age at initial diagnosis, thirds" in shown
    assert "Difference in Harrell's C" in shown
    assert "sex female: " in figure.description
    assert "stage I: 9 patients, 4 events, too few events" in figure.description


def test_for_whom_without_a_baseline_has_one_panel_and_without_events_none():
    tables, run = example_run.example_tables(n=90, feature_sets=("blood", "pathology+blood"))
    shown = words_of(plots.for_whom(tables, run))
    assert not any(text.startswith("Difference") for text in shown)
    few = tables["subgroups"].assign(too_few=True)
    shown = words_of(plots.for_whom({"subgroups": few}, run))
    assert "This run has no group of patients with 10 events." in shown
