"""Charts that move: what bqplot is given, and how little of it."""

import numpy as np
import pytest

from thermolab.engine.scenario import Observable
from thermolab.lab.live.board import Board, Goal
from thermolab.lab.live.charts import LiveChart
from thermolab.lab.live.views import HeatMap, Lines, Scatter, Trajectory

OBSERVABLES = {
    "U": Observable("energy U (loss)"),
    "r": Observable("radius r", log=True),
    "v": Observable("height v"),
    "m": Observable("matrix"),
}


@pytest.fixture
def board(live):
    def make(*readings, **more):
        arms = [live.arm(live.clock(observables=OBSERVABLES), label) for label in ("one", "two")[: len(readings)]]
        return Board(arms, list(readings), **more)

    return make


@pytest.fixture
def run(reading):
    def make(n, slope=1.0):
        return [reading(10 * (i + 1), theory={"U": 5.0, "r": 2.0}, U=[slope * i, slope * i + 2], r=[1.0, 3.0]) for i in range(n)]

    return make


def drawn(view, board):
    chart = LiveChart(view.charts(board)[0])
    chart.update(board)
    return chart


def marks(chart):
    """{(label, role): the mark of bqplot}."""
    series = chart.chart.series
    return {(s.label, s.role): mark for s, mark in zip(series, chart.figure.marks[: len(series)], strict=True)}


class Messages:
    """What goes to the page from here on: [(widget, names of traits)]."""

    def __init__(self, chart, monkeypatch):
        self.sent = []
        for widget in (*chart.figure.marks, *chart._scales.values(), *chart._axes.values()):
            monkeypatch.setattr(type(widget), "send_state", lambda w, key=None: self.sent.append((w, key)))


def test_lines_are_drawn_where_they_are(board, run):
    b = board(run(5), run(5, 2.0), guesses={"U": 4.0}, marks=[(20, "η 0.1"), (40, "λ 1")], goals=[Goal("to 3", "U", 3.0)])
    chart = drawn(Lines("U"), b)
    found = marks(chart)
    for key, xy in zip(found, chart.chart.points(b), strict=True):
        if key[1] != "mark":
            np.testing.assert_array_equal(found[key].x, xy[0])
            np.testing.assert_array_equal(found[key].y, xy[1])
            assert bool(found[key].visible) is bool(np.isfinite(xy[1]).any())
    low, high = chart._scales["y"].min, chart._scales["y"].max
    assert low < 0 < 10 < high
    assert (chart._scales["x"].min, chart._scales["x"].max) == (10, 60)
    np.testing.assert_array_equal(found["knob", "mark"].x, [[20, 20], [40, 40]])
    np.testing.assert_array_equal(found["knob", "mark"].y, [[low, high]] * 2)
    (words,) = chart._words
    assert (list(words.text), list(words.x), words.visible) == (["η 0.1", "λ 1"], [20, 40], True)
    assert all(low <= t <= high for t in chart._axes["y"].tick_values)
    assert [axis.label for axis in chart.figure.axes] == ["step", "energy U (loss)"]


def test_series_differ_by_more_than_colour(board, run):
    found = marks(drawn(Lines("U"), board(run(3), run(3))))
    one, two = found["one", "measured"], found["two", "measured"]
    assert one.colors != two.colors
    assert one.marker != two.marker
    assert found["one", "theory"].line_style != found["two", "theory"].line_style


def test_a_logarithmic_observable_has_a_logarithmic_axis(board, run):
    chart = drawn(Lines("r"), board(run(3)))
    assert type(chart._scales["y"]).__name__ == "LogScale"
    assert chart._scales["y"].min > 0


def test_what_did_not_change_is_not_sent_again(board, run, monkeypatch):
    b = board(run(30), marks=[(50, "η 1")])
    chart = drawn(Lines("U"), b)
    limits = [(scale.min, scale.max) for scale in chart._scales.values()]
    b.readings[0][7] = b.readings[0][6]  # within the limits
    messages = Messages(chart, monkeypatch)
    chart.update(b)
    widgets = [w for w, _ in messages.sent]
    assert len(widgets) == len({id(w) for w in widgets})  # one message a series at the most
    assert not {id(w) for w in widgets} & {id(w) for w in (*chart._scales.values(), *chart._axes.values(), *chart._words)}
    assert [(scale.min, scale.max) for scale in chart._scales.values()] == limits


def test_what_is_gone_is_hidden(board, run):
    b = board(run(5), guesses={"U": 1.0}, marks=[(20, "η 1")])
    chart = drawn(Lines("U"), b)
    found = marks(chart)
    assert found["your prediction", "guess"].visible
    b.guesses, b.marks, b.readings = {}, [], [[]]
    chart.update(b)
    assert not any(mark.visible for mark in found.values())
    assert not chart._words[0].visible


def test_one_scale_about_the_origin(board, reading):
    b = board([reading(1, U=[0.5, -3.0], v=[1.0, 2.0])])
    chart = drawn(Scatter("U", "v", equal=True), b)
    x, y = chart._scales["x"], chart._scales["y"]
    assert (x.min, x.max) == (y.min, y.max) == (-x.max, x.max)
    assert x.max > 3
    height, margin = 260.0, chart.figure.fig_margin  # of the figure; what is left for the plot is square
    assert chart.figure.layout.height == "260px"
    width = height * chart.figure.min_aspect_ratio
    assert width - margin["left"] - margin["right"] == pytest.approx(height - margin["top"] - margin["bottom"])
    assert (chart.figure.max_aspect_ratio, chart.figure.padding_x, chart.figure.padding_y) == (width / height, 0, 0)


def test_a_plane_with_theory_behind(board, run):
    b = board(run(4))
    chart = drawn(Trajectory("U", "r", curve=lambda board: (np.array([0.0, 9.0]), np.array([1.0, 50.0]))), b)
    found = marks(chart)
    np.testing.assert_array_equal(found["theory", "theory"].y, [1, 50])
    np.testing.assert_array_equal(found["one", "path"].x, [1, 2, 3, 4])
    assert list(found["one", "measured"].x) == [4]
    assert chart._scales["y"].max > 50
    assert not chart._words


@pytest.mark.parametrize("name", ["U", "r"])
def test_a_ghost_out_of_range_does_not_squash_the_axis(board, run, reading, name):
    alone = drawn(Lines(name), board(run(5)))._scales["y"]
    far = [reading(s, U=[1e6], r=[1e6]) for s in (10, 20)]
    later = [reading(s, U=[-1e6], r=[1e-6]) for s in (10**5, 2 * 10**5)]  # beyond the steps that are shown
    scale = drawn(Lines(name), board(run(5), ghosts={"far": far, "later": later}))._scales["y"]
    span, reach = (np.log10([s.max, s.min]) @ [1, -1] if name == "r" else s.max - s.min for s in (alone, scale))
    assert span < reach < 3 * span
    near = [reading(s, U=[4.0], r=[2.5]) for s in (10, 20)]
    assert drawn(Lines(name), board(run(5), ghosts={"near": near}))._scales["y"].max == alone.max


def test_a_heat_map_has_the_matrix_and_its_colours(board, reading):
    b = board([reading(1, m=[0.0, 1.0, 2.0, np.nan])])
    chart = drawn(HeatMap("m", rows=["a", "b"], columns=["x", "y"], limits=(-1.0, 5.0), x="column", y="row"), b)
    (grid,) = chart.figure.marks
    np.testing.assert_array_equal(grid.color, [[0, 1], [2, 0]])
    scale = chart._scales["color"]
    assert (scale.min, scale.max) == (-1, 5)
    assert [axis.label for axis in chart.figure.axes] == ["column  (dark -1, bright 5)", "row"]
    assert (grid.display_format, scale.colors) == (".3f", ["#9d8fd0", "#fde725"])  # .99 is not 1.00, and black stands out
    assert chart._scales["y"].reverse  # the first row is on top, as in the still picture
    assert (list(grid.row), list(grid.column)) == (["a", "b"], ["x", "y"])


def test_a_series_without_a_place_draws_nothing_and_warns_of_nothing(board, reading):
    """As a path that lies wholly behind a sphere."""
    chart = drawn(Scatter("U", "v", equal=True), board([reading(1, U=[np.nan, np.nan], v=[np.nan, np.nan])]))
    assert (chart._scales["x"].min, chart._scales["x"].max) == (-chart._scales["y"].max, chart._scales["y"].max)
