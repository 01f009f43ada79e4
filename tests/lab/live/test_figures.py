"""The static twin: what stands in its axes."""

import numpy as np
import pytest

from thermolab import plots
from thermolab.engine.scenario import Observable
from thermolab.lab.live import figures
from thermolab.lab.live.board import Board, Goal
from thermolab.lab.live.views import HeatMap, Lines, Scatter, Trajectory

pytestmark = pytest.mark.usefixtures("no_window")
OBSERVABLES = {
    "U": Observable("energy U (loss)"),
    "r": Observable("radius r", log=True),
    "v": Observable("height v"),
    "m": Observable("matrix"),
}
HEAT = HeatMap("m", rows=["a", "b"], columns=["x", "y"], limits=(-1.0, 5.0), x="column", y="row")


@pytest.fixture
def draw(live):
    """draw(views, readings, …) -> the figure, as it will be shown."""

    def make(shown, *readings, **more):
        arms = [live.arm(live.clock(observables=OBSERVABLES), label) for label in ("one", "two")[: len(readings)]]
        board = Board(arms, list(readings), **more)
        figure = figures.draw([chart for view in shown for chart in view.charts(board)], board)
        figure.canvas.draw()
        return figure

    return make


@pytest.fixture
def run(reading):
    return [reading(10 * i, theory={"U": 5.0}, U=[i, i + 2.0], r=[1.0, 3.0], m=[0.0, 1.0, 2.0, i]) for i in range(1, 5)]


def test_charts_stand_three_in_a_row_with_one_legend(draw, run):
    figure = draw([Lines("U", "r"), Scatter("U", "r"), Trajectory("U", "r"), HEAT], run)
    assert [ax.get_ylabel() for ax in figure.axes[:5]] == ["energy U (loss)", "radius r", "radius r", "radius r", "row"]
    tops = [round(ax.get_position().y1, 2) for ax in figure.axes[:5]]
    assert tops[0] == tops[1] == tops[2] > tops[3]
    (legend,) = figure.legends
    names = [t.get_text() for t in legend.get_texts()]
    assert {"measured", "theory at the present knobs"} <= set(names)
    assert len(names) == len(set(names))
    assert not any(ax.get_legend() for ax in figure.axes)


def test_a_line_chart(draw, run):
    goals = [Goal("to three", "U", 3.0)]
    figure = draw([Lines("U")], run, goals=goals, marks=[(25, "η 0.1")], ghosts={"before": run[:2]}, guesses={"U": 4.5})
    (ax,) = figure.axes
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xlim()) == ("step", "energy U (loss)", (0, 40))
    by_label = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(by_label["measured"].get_xydata(), [[10, 2], [20, 3], [30, 4], [40, 5]])
    np.testing.assert_array_equal(by_label["theory at the present knobs"].get_xydata(), [[10, 5], [50, 5]])
    np.testing.assert_array_equal(by_label["before"].get_xydata(), [[10, 2], [20, 3]])
    np.testing.assert_array_equal(by_label["goal"].get_ydata(), [3, 3])
    np.testing.assert_array_equal(by_label["your prediction"].get_ydata(), [4.5, 4.5])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(0), pytest.approx(7))  # the means ± 2 SE, SE = 1
    (text,) = ax.texts
    assert (text.get_text(), text.xy[0]) == ("η 0.1", 25)
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":" and len(set(line.get_xdata())) == 1] == [25]


def test_axes_are_logarithmic_where_the_observable_is(draw, run):
    figure = draw([Lines("r"), Scatter("U", "r")], run)
    assert [(ax.get_xscale(), ax.get_yscale()) for ax in figure.axes] == [("linear", "log"), ("linear", "log")]


def test_two_arms_differ_by_more_than_colour(draw, run):
    figure = draw([Lines("U")], run, run)
    one, two = (line for line in figure.axes[0].lines if "measured" in line.get_label())
    assert (one.get_label(), two.get_label()) == ("one, measured", "two, measured")
    assert one.get_color() != two.get_color()
    assert one.get_marker() != two.get_marker()
    theory = [line for line in figure.axes[0].lines if "theory" in line.get_label()]
    assert theory[0].get_linestyle() != theory[1].get_linestyle()


def test_one_scale_about_the_origin(draw, reading):
    (ax,) = draw([Scatter("U", "v", equal=True)], [reading(1, U=[-4.0, 1.0], v=[1.0, 2.0])]).axes
    low, high = ax.get_xlim()
    assert (low, high) == ax.get_ylim() == (-high, high)
    assert high >= 4
    assert ax.get_aspect() == 1


def test_a_heat_map_alone(draw, run):
    figure = draw([HEAT], run)
    ax = figure.axes[0]
    (image,) = ax.collections
    np.testing.assert_array_equal(image.get_array(), [[0, 1], [2, 4]])
    assert ax.yaxis_inverted()  # the first row is on top
    assert image.get_clim() == (-1, 5)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["x", "y"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert figure.axes[1].get_ylabel() == "matrix"


def test_a_run_that_ended_before_its_first_frame_can_be_drawn(draw):
    figure = draw([Lines("U", "r"), Scatter("U", "r"), Scatter("U", "v", equal=True), Trajectory("U", "r"), HEAT], [])
    shown = plots.show(figure, "nothing").data
    assert shown.startswith("<figure")
    assert "<img" in shown
