"""Figures: alt text, error bars, labels, marks."""

import base64
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from thermolab import plots
from thermolab.claims import few_seeds

pytestmark = pytest.mark.usefixtures("no_window")


@pytest.fixture
def axes():
    return plots.panels(1)[1][0]


def seeds(rows):
    return xr.DataArray(np.asarray(rows, float), dims=("eta", "seed"))


def test_show_gives_a_picture_with_alt_text_and_closes_the_figure():
    figure, (ax,) = plots.panels(1)
    ax.plot([0, 1], [0, 1])
    html = plots.show(figure, 'r < r* & "late"').data
    (tag,) = re.findall(r"<img [^>]*>", html)
    assert 'alt="r &lt; r* &amp; &quot;late&quot;"' in tag
    picture = base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', tag)[1])
    assert picture.startswith(b"\x89PNG")
    assert not plt.fignum_exists(figure.number)


def test_a_figure_has_its_number_and_caption_and_keeps_it_when_its_cell_runs_again(monkeypatch):
    monkeypatch.setattr(plots, "_numbers", {})

    def first():
        return plots.show(plots.panels(1)[0], "a < b").data

    def second():
        return plots.show(plots.panels(1)[0], "c").data

    for function, number in ((first, 1), (second, 2), (first, 1)):
        html = function()
        assert f"<figcaption><b>Figure {number}.</b> " in html
        assert f'<figure id="{plots.anchor(function.__name__)}"' in html
    assert (plots.number("second"), plots.number("third")) == (2, None)
    assert "<b>Figure" not in plots.show(plots.panels(1)[0], "live", name="").data


def test_panels_have_letters_where_there_are_several():
    assert [ax.get_title("left") for ax in plots.panels(3)[1]] == ["(a)", "(b)", "(c)"]
    assert plots.panels(1)[1][0].get_title("left") == ""


@pytest.mark.parametrize(("preset", "said"), [("smoke", 1), ("lab", 0)])
def test_a_figure_of_a_first_look_says_so(monkeypatch, preset, said):
    shell = type("Shell", (), {"user_ns": {"preset": preset}})
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    assert plots.show(plots.panels(1)[0], "a figure", name="").data.count("decide little") == said


def test_panels_are_a_row():
    figure, axes = plots.panels(3, width=2.0, height=1.5)
    assert len(axes) == 3
    assert figure.get_size_inches().tolist() == [6.0, 1.5]


def test_panels_are_rows_of_so_many_columns():
    figure, axes = plots.panels(4, width=2.0, height=1.5, columns=3)
    assert len(axes) == len(figure.axes) == 4  # no empty ones
    assert figure.get_size_inches().tolist() == [6.0, 3.0]
    places = [ax.get_subplotspec() for ax in axes]
    assert [(p.rowspan.start, p.colspan.start) for p in places] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert plots.panels(2, width=2.0, height=1.5, columns=3)[0].get_size_inches().tolist() == [4.0, 1.5]


def test_points_have_error_bars_of_two_standard_errors(axes):
    values = seeds([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]])
    plots.points(axes, [0.1, 0.2], values, index=1, label="measured")
    (container,) = axes.containers
    markers, _, (bars,) = container
    np.testing.assert_allclose(markers.get_xydata(), [[0.1, 2.0], [0.2, 4.0]])
    mean, error, _ = few_seeds([1.0, 2.0, 3.0])
    np.testing.assert_allclose(bars.get_segments()[0], [[0.1, mean - 2 * error], [0.1, mean + 2 * error]])
    np.testing.assert_allclose(bars.get_segments()[1], [[0.2, 4.0], [0.2, 4.0]])
    assert markers.get_color() == plots.COLOURS[1]
    assert markers.get_marker() == plots.MARKERS[1]
    assert markers.get_linestyle() == "None"
    assert container.get_label() == "measured"


@pytest.mark.parametrize("values", [seeds([[1.0], [2.0]]), xr.DataArray([1.0, 2.0], dims="eta")])
def test_one_seed_has_no_error_bars(axes, values):
    plots.points(axes, [1, 2], values)
    markers, _, bars = axes.containers[0]
    assert markers.get_ydata().tolist() == [1.0, 2.0]
    assert bars == ()


def test_mean_and_error_over_a_grid():
    values = xr.DataArray(np.random.default_rng(0).normal(size=(3, 4, 2)), dims=("seed", "eta", "lam"))
    mean, error = plots.mean_and_error(values)
    assert mean.shape == error.shape == (4, 2)
    np.testing.assert_allclose(mean, values.mean("seed"))
    assert error[2, 1] == pytest.approx(2 * few_seeds(values.values[:, 2, 1])[1])


def test_a_line_is_drawn_from_left_to_right(axes):
    plots.line(axes, [3, 1, 2], [30, 10, 20])
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 10], [2, 20], [3, 30]])


def test_the_working_point_is_a_star_in_every_language(axes, monkeypatch):
    monkeypatch.setenv("THERMOLAB_LANGUAGE", "de")
    plots.points(axes, [1], xr.DataArray([2.0], dims="eta"), label="your working point")
    assert axes.get_lines()[0].get_marker() == "*"
    assert axes.get_legend_handles_labels()[1] != ["your working point"]


def test_a_panel_is_labelled_and_lines_have_the_colour_of_their_points(axes):
    values = seeds([[1.0, 1.1], [2.0, 2.1]])
    figure = plots.panel(
        axes, {"lr": ([1, 2], values), "elr": ([1, 2], 2 * values)}, {"elr": ([1, 2], [2, 4]), "bound": ([1, 2], [5, 5])},
        x="η", y="U (loss)", log="xy", title="Energy",
    )  # fmt: skip
    assert figure is axes.figure
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("η", "U (loss)", "Energy")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["bound", "theory", "lr", "elr"]
    theory, bound = (line for line in axes.lines if line.get_linestyle() != "None" and len(line.get_xdata()) == 2)
    assert theory.get_color() == plots.COLOURS[1]  # elr is the second of the points
    assert bound.get_color() == "0.15"
    colours = [c.lines[0].get_color() for c in axes.containers]
    assert colours == plots.COLOURS[:2]


def test_a_bar_that_reaches_zero_does_not_stretch_a_logarithmic_axis(axes):
    axes.errorbar([1, 2, 3], [1, 0.1, 1e-3], [0.1, 0.01, 1e-3 - 1e-9], capsize=2)
    plots.label(axes, "η", "U (loss)", log="y")
    assert axes.get_ylim()[0] == pytest.approx(1e-3 / 2)  # the lowest marker is at 1e-3, its bar reaches 1e-9
    figure, (empty,) = plots.panels(1)
    plots.label(empty, "x", "y", log="y")
    plots.plt.close(figure)


def test_a_panel_without_axes_is_a_figure_of_its_own():
    figure = plots.panel(None, {"a": ([1], xr.DataArray([1.0], dims="eta"))}, x="x", y="y")
    (ax,) = figure.axes
    assert (ax.get_xlabel(), ax.get_xscale()) == ("x", "linear")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a"]


def test_labels(axes):
    axes.plot([0.01, 0.1], [1, 2], label="theory")
    plots.label(axes, "η", "U", log="x", legend="")
    assert axes.get_legend() is None
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("η", "U")
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    labels = [t.get_text() for t in axes.get_xticklabels() if low <= t.get_position()[0] <= high]
    assert labels == ["0.01", "0.02", "0.05", "0.1"]


def test_categories_stand_side_by_side(axes):
    both = {"with": {"a": seeds([[1.0, 1.0]]), "a long name": seeds([[2.0, 2.0]])}, "without": {"a": seeds([[3.0, 3.0]])}}
    plots.categories(axes, both, y="CKA")
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "a long name"]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["with", "without"]
    first = [c.lines[0] for c in axes.containers]
    assert [round(float(x.get_xdata()[0]), 3) for x in first] == [-0.1, 0.9, 0.1]
    np.testing.assert_allclose([x.get_ydata()[0] for x in first], [1, 2, 3])


def test_a_heat_map_shows_its_values_with_the_first_row_on_top(axes):
    plots.heat_map(axes, [[0.0, 0.25], [0.5, 1.0]], ("a", "b"), ("x", "y"), label="CKA", title="all layers")
    assert [t.get_text() for t in axes.texts] == ["0.00", "0.25", "0.50", "1.00"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["x", "y"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    assert axes.yaxis_inverted()
    assert axes.collections[0].get_clim() == (0, 1)
    assert axes.figure.axes[1].get_ylabel() == "CKA"


def test_style_leaves_legible_figures():
    with plt.rc_context():
        plots.style()
        assert plt.rcParams["axes.spines.top"] is False
        assert plots.panels(1)[0].get_layout_engine() is not None
