"""Views are pure: limits, ticks and points of small boards, written out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermolab.engine.experiment import Frame
from thermolab.engine.scenario import Knob, Observable
from thermolab.lab.live import board as boards
from thermolab.lab.live.axes import limits, steps_window, ticks
from thermolab.lab.live.board import Board, Goal, Reading, mark
from thermolab.lab.live.views import HeatMap, Lines, Scatter, Sphere, Trajectory

OBSERVABLES = {"U": Observable("energy U"), "r": Observable("radius r", log=True), "m": Observable("matrix")}
positive = st.floats(1e-12, 1e12)
numbers = st.one_of(positive, positive.map(lambda x: -x), st.just(0.0))


@pytest.fixture
def board(live):
    """board([readings], …, ghosts=…) with arms "one", "two", … that have the observables U, r and m."""

    def make(*readings, **more):
        arms = [live.arm(live.clock(observables=OBSERVABLES), label) for label in ("one", "two", "three")[: len(readings)]]
        return Board(arms, list(readings), **more)

    return make


def points(view, board):
    """{(label, role): (x, y)} of the first chart."""
    chart = view.charts(board)[0]
    return {(s.label, s.role): xy for s, xy in zip(chart.series, chart.points(board), strict=True)}


# --- limits -----------------------------------------------------------------------------------------------------------
def test_limits_leave_a_quarter_of_room_on_each_side():
    assert limits([np.array([1.0, 3.0]), np.array([2.0])], False) == pytest.approx((0.5, 3.5))
    assert limits([np.array([0.01, 100.0])], True) == pytest.approx((1e-3, 1e3))
    assert limits([np.array([[1.0, 3.0], [2.0, 2.0]])], False) == pytest.approx((0.5, 3.5))


def test_limits_of_nothing_and_of_one_value():
    assert limits([], False) == (0.0, 1.0)
    assert limits([np.array([math.nan, math.inf])], True) == (0.1, 1.0)
    assert limits([np.array([-1.0, 0.0])], True) == (0.1, 1.0)
    assert limits([np.zeros(0)], False, (2.0, 5.0)) == (2.0, 5.0)
    assert limits([np.array([10.0])], False) == pytest.approx((9.25, 10.75))
    low, high = limits([np.array([10.0])], True)
    assert (low * high, high / low) == (pytest.approx(100), pytest.approx(10**0.3))
    low, high = limits([np.array([0.0])], False)
    assert low < 0 < high


@given(st.lists(numbers, min_size=1), st.booleans())
def test_limits_hold_all_that_can_be_drawn(values, log):
    low, high = limits([np.array(values), np.array([math.nan])], log)
    assert low < high
    drawn = [v for v in values if v > 0 or not log]
    assert all(low < v < high for v in drawn)
    assert low > 0 or not log


@given(st.lists(numbers, min_size=1), st.lists(numbers, min_size=1), st.booleans())
def test_limits_stay_unless_values_leave_them_or_shrink(first, then, log):
    before = limits([np.array(first)], log)
    after = limits([np.array(then)], log, before)
    assert limits([np.array(then)], log, after) == pytest.approx(after)  # no flicker
    fresh = limits([np.array(then)], log)
    assert after in (before, fresh)
    drawn = [v for v in then if v > 0 or not log]
    assert all(after[0] <= v <= after[1] for v in drawn)


def test_limits_move_only_when_they_must():
    before = (0.0, 9.0)
    for values, kept in (([1.0, 8.0], True), ([3.0, 6.1], True), ([3.0, 5.0], False), ([1.0, 9.5], False), ([-0.5, 8.0], False)):
        assert (limits([np.array(values)], False, before) == before) is kept, values
    assert limits([np.array([0.1, 10.0])], True, (0.01, 100.0)) == (0.01, 100.0)
    assert limits([np.array([1.0, 2.0])], True, (0.01, 100.0)) != (0.01, 100.0)


# --- steps and ticks --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("steps", "window"),
    [((130, 2210), (0, 3000)), ((0, 0), (0, 0.2)), ((1, 100), (0, 120)), ((5000, 9000), (5000, 10_000)), ((0, 4500), (0, 5000))],
)
def test_the_window_of_steps(steps, window):
    assert steps_window(*steps) == pytest.approx(window)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_window_of_steps_holds_them_in_round_numbers(a, b):
    first, last = sorted((a, b))
    low, high = steps_window(first, last)
    assert low <= first + 1e-9 * last
    assert high > last
    assert high - low <= 2 * max(last - first, 1)
    moved = {steps_window(first + d, last + d) for d in range(10)}
    assert len(moved) <= 12 if last - first < 10 else len(moved) < 10  # it moves in jumps


@given(st.lists(numbers, min_size=1), st.booleans())
def test_ticks_are_two_or_more_inside_and_ascending(values, log):
    low, high = limits([np.array(values)], log)
    found = ticks(low, high, log)
    assert 2 <= len(found) <= 12
    assert found == sorted(set(found))
    room = 1e-5 * (high - low)
    assert low - room <= found[0] <= found[-1] <= high + room
    assert all(t == float(f"{t:.6g}") for t in found)


@pytest.mark.parametrize("limits", [(2.1, 6.7), (1.5, 70.0), (0.3, 0.8), (1e-3, 1e3), (1.1e-6, 4e-6)])
def test_ticks_of_a_logarithmic_axis(limits):
    found = ticks(*limits, True)
    assert len(found) >= 2
    assert limits[0] <= found[0] < found[-1] <= limits[1]


# --- readings -----------------------------------------------------------------------------------------------------------
def test_a_reading_is_the_mean_with_its_standard_error(live):
    def read(frame, settings):
        return {**frame.observables, "width": np.full(3, settings["width"]), "S": np.array(1.5), "S_error": np.array([0.1, 0.3])}

    def predict(frame, settings):
        return {"U": frame.knob("eta") * settings["width"]}

    arm = live.arm(live.clock(read=read, predict=predict), width=4)
    observables = {"U": np.array([1.0, 2.0, math.nan, 6.0]), "r": np.array([7.0]), "lost": np.array([math.nan, math.nan])}
    frame = Frame(17, {"eta": np.full(4, 0.5), "protocol": "lr"}, observables)
    found = boards.read(arm, frame)
    assert (found.step, found.knobs) == (17, {"eta": 0.5, "protocol": "lr"})
    assert found.means["U"] == pytest.approx((3.0, np.std([1, 2, 6], ddof=1) / math.sqrt(3)))
    assert found.means["r"] == pytest.approx((7.0, math.nan), nan_ok=True)
    assert np.isnan(found.means["lost"]).all()
    assert found.means["S"] == pytest.approx((1.5, 0.2))  # its own error, not that of the replicas
    assert found.means["width"] == (4.0, 0.0)
    assert found.theory == {"U": 2.0}
    np.testing.assert_array_equal(found.values["U"], observables["U"])


# --- goals --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "eta", "reached"),
    [
        ([1.0] * 20, [0.5] * 20, True),
        ([0.8, 1.2] * 10, [0.5] * 20, True),  # the mean counts
        ([0.8] * 10 + [1.2] * 10, [0.5] * 20, False),  # of each half: it is only passing by
        ([1.0] * 19, [0.5] * 19, False),  # too few
        ([1.2] * 20, [0.5] * 20, False),
        ([0.0] * 30 + [1.05] * 20, [0.5] * 50, True),  # the last twenty
        ([1.0] * 20, [0.5] * 19 + [0.6], False),  # the fixed knob was touched
        ([1.0] * 40, [0.6] * 20 + [0.5] * 20, True),  # and put back
        ([math.nan] + [1.0] * 19, [0.5] * 20, False),
    ],
)
def test_goals(reading, values, eta, reached):
    goal = Goal("U to 1", "U", 1.0, within=0.1, fixed=("eta",))
    readings = [reading(i, {"eta": h, "lam": i}, U=u) for i, (u, h) in enumerate(zip(values, eta, strict=True))]
    assert bool(goal.reached(readings, {"eta": 0.5, "lam": 99})) is reached
    assert not Goal("r", "r", 1.0).reached(readings, {"eta": 0.5})  # an observable that this arm lacks


def test_how_many_readings_a_goal_needs(reading):
    readings = [reading(i, {}, U=9.0) for i in range(5)] + [reading(i, {}, U=1.0) for i in range(3)]
    assert Goal("", "U", 1.0).reached(readings, {}, least=3)
    assert not Goal("", "U", 1.0).reached(readings, {}, least=4)
    assert Goal("", "U", -1.0, within=2.0).reached(readings, {}, least=3)  # relative to |target|


# --- lines ----------------------------------------------------------------------------------------------------------------
def test_lines_are_band_measured_and_theory_of_each_arm(board, reading):
    one = [reading(10, theory={"U": 2.0}, U=[1.0, 3.0]), reading(20, theory={"U": 2.5}, U=[2.0, 4.0])]
    two = [reading(10, U=[math.nan]), reading(20, U=[5.0])]
    (chart,) = Lines("U").charts(board(one, two))
    assert (chart.key, chart.x.label, chart.y.label, chart.y.log, chart.kind) == ("U", "step", "energy U", False, "lines")
    assert [(s.label, s.role, s.arm) for s in chart.series[:6]] == [
        (label, role, i) for i, label in enumerate(("one", "two")) for role in ("band", "measured", "theory")
    ]
    found = points(Lines("U"), board(one, two))
    np.testing.assert_allclose(found["one", "measured"], [[10, 20], [2, 3]])
    np.testing.assert_allclose(found["one", "band"][1], [[0, 1], [4, 5]])  # ± 2 SE of two values that differ by 2
    np.testing.assert_allclose(found["one", "theory"], [[10, 22], [2.0, 2.5]])  # to the end of the axis
    np.testing.assert_allclose(found["two", "measured"], [[20], [5]])
    assert found["two", "band"][1].shape == (2, 0)
    assert np.isnan(found["two", "theory"][1]).all()


def test_markers_are_thinned_and_stay_the_same_ones(board, reading):
    """At most 32 of a full window and the newest, and a reading that was marked stays marked while the window moves on."""
    readings, kept = [], 240
    b = board(readings)
    view = Lines("U").charts(b)[0]
    before = set()
    for step in range(1, 400):
        readings.append(reading(step, U=[1.0]))
        del readings[:-kept]
        b.taken = step
        (marked, _) = view.points(b)[1]
        assert len(readings) / 8 <= len(marked) <= 33
        assert marked[-1] == step
        if step > kept:
            assert {s for s in before if s >= readings[0].step} <= set(marked)
            assert len(view.points(b)[0][0]) == 0  # one replica: no band
        before = set(marked[:-1])


def test_the_band_of_a_logarithmic_observable_stays_positive(board, reading):
    found = points(Lines("r"), board([reading(10, r=[1.0, 3.0])]))
    np.testing.assert_allclose(found["one", "band"][1], [[0.2], [4.0]])


def test_lines_have_goals_guesses_ghosts_and_marks(board, reading):
    readings = [reading(10, U=[1.0]), reading(30, U=[1.0])]
    full = board(
        readings, ghosts={"before": [reading(5, U=[7.0]), reading(25, U=[8.0])]},
        goals=[Goal("to two", "U", 2.0), Goal("elsewhere", "r", 3.0)], guesses={"U": 1.25, "r": 9.0},
        marks=[(5, "η 1"), (12, "η 2"), (12, "λ 2"), (12, "η 3"), (30, "η 4")],
    )  # fmt: skip
    found = points(Lines("U"), full)
    np.testing.assert_array_equal(found["before", "ghost"], [[5, 25], [7, 8]])
    for key, value in ((("to two", "goal"), 2.0), (("your prediction", "guess"), 1.25)):
        (low, high), y = found[key]
        assert low <= 10 < 30 <= high  # as wide as what is in view
        assert list(y) == [value] * 2
    assert ("elsewhere", "goal") not in found
    np.testing.assert_array_equal(found["knob", "mark"][0], [12, 30])  # those that are not in view are left out
    assert full.turns == {5: "η 1", 12: "η 3, λ 2", 30: "η 4"}  # one place for the words of one step
    assert np.isnan(points(Lines("U"), board(readings))["your prediction", "guess"][1]).all()


def test_a_board_without_readings_can_be_drawn(board):
    for view in (Lines("U", "r"), Scatter("U", "r"), Trajectory("U", "r")):
        for xy in points(view, board([], [])).values():
            assert np.size(xy[0]) in (0, 2)


def test_arms_with_observables_of_their_own_share_a_board(live, reading):
    other = live.arm(live.clock(observables={"T": Observable("temperature")}), "other")
    both = Board([live.arm(), other], [[reading(10, U=[1.0])], [reading(10, T=[2.0])]])
    both.ghosts = {"before": both.readings[0]}
    found = points(Lines("T"), both)
    assert found["clock", "measured"][0].size == 0
    np.testing.assert_array_equal(found["other", "measured"], [[10], [2]])
    assert [len(x) for x, _ in Scatter("U", "T").charts(both)[0].points(both)] == [1, 0]
    assert all(len(x) == len(y) for x, y in Trajectory("U", "T").charts(both)[0].points(both))


# --- planes and matrices ---------------------------------------------------------------------------------------------------
def test_a_scatter_is_the_last_frame(board, reading):
    b = board([reading(10, U=[0.0], r=[0.0]), reading(20, U=[1.0, 2.0], r=[3.0, 4.0])], [])
    view = Scatter("U", "r", curve=lambda board: (np.array([0.0, 1.0]), np.array([5.0, 6.0])))
    (chart,) = view.charts(b)
    assert (chart.kind, chart.x.label, chart.x.log, chart.y.label, chart.y.log) == ("plane", "energy U", False, "radius r", True)
    found = points(view, b)
    np.testing.assert_array_equal(found["theory", "theory"], [[0, 1], [5, 6]])
    np.testing.assert_array_equal(found["one", "measured"], [[1, 2], [3, 4]])
    assert found["two", "measured"][0].size == 0
    assert Scatter("U", "r", equal=True).charts(b)[0].kind == "equal"


def test_a_trajectory_is_the_path_of_the_means_and_its_end(board, reading):
    b = board([reading(10, U=[0.0, 2.0], r=[1.0]), reading(20, U=[2.0, 4.0], r=[5.0])])
    found = points(Trajectory("U", "r", curve=lambda board: (np.zeros(1), np.ones(1))), b)
    np.testing.assert_array_equal(found["one", "path"], [[1, 3], [1, 5]])
    np.testing.assert_array_equal(found["one", "measured"], [[3], [5]])
    assert found["theory", "theory"][1] == [1.0]


def test_a_heat_map_is_the_matrix_of_the_last_frame(board, reading):
    view = HeatMap("m", rows=["a", "b"], columns=["x", "y", "z"], limits=(0.0, 5.0), x="column", y="row")
    (chart,) = view.charts(board([]))
    assert (chart.kind, chart.colours, chart.x.names, chart.y.names) == ("heat", (0.0, 5.0), ("x", "y", "z"), ("a", "b"))
    ((nothing, matrix),) = chart.points(board([reading(1, m=range(6))]))
    assert nothing is None
    np.testing.assert_array_equal(matrix, [[0, 1, 2], [3, 4, 5]])
    assert np.isnan(chart.points(board([]))[0][1]).all()


@pytest.mark.parametrize(
    "view", [Lines("U", "warp"), Scatter("warp", "U"), Trajectory("U", "warp"),
             HeatMap("warp", rows="a", columns="b", limits=(0, 1), x="", y="")],
)  # fmt: skip
def test_an_unknown_observable_is_one_line(board, view):
    with pytest.raises(ValueError, match=r"^warp is no observable of one, two; allowed: U, m, r$"):
        view.charts(board([], []))


@pytest.mark.parametrize(
    ("knob", "value", "text"),
    [(Knob("learning rate η"), 0.12345, "η 0.123"), (Knob("batch size B"), 32, "B 32"),
     (Knob("protocol", scale="choice", options=("lr",)), "lr", "protocol lr")],
)  # fmt: skip
def test_marks(knob, value, text):
    assert mark(knob, value) == text


# --- what a view may not trip over ----------------------------------------------------------------------------------------
def test_limits_of_what_vanishes():
    """The loss of points that some direction fits falls below any float."""
    low, high = limits([np.array([1e-320, 1e-289, 1.0])], True)
    assert 0 < low <= 1e-289 < 1 < high
    assert ticks(low, high, True)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "across", "up"),
    [(0, 0, [0, 1, 0], [0, 0, 1]), (90, 0, [-1, 0, 0], [0, 0, 1]), (0, 90, [0, 1, 0], [-1, 0, 0])],
)
def test_a_sphere_seen_from_the_axes(board, azimuth, elevation, across, up):
    """The unit vectors x, y, z: one points at the eye, the other two lie in the plane that is seen."""
    places = {k: [np.array([float(k == j)]) for j in "xyz"] for k in "xyz"}
    knobs = {"azimuth": azimuth, "elevation": elevation}
    readings = [Reading(i, knobs, {j: places[k][n] for n, j in enumerate("xyz")}, {}, {}) for i, k in enumerate("xyz")]
    (chart,) = Sphere().charts(board(readings))
    path = chart.points(board(readings))[2]
    np.testing.assert_allclose(path, [across, up], atol=1e-12)


def test_what_lies_behind_the_sphere_is_left_out(board):
    values = {"x": np.array([1.0, -1.0]), "y": np.zeros(2), "z": np.zeros(2)}
    readings = [Reading(1, {"azimuth": 0.0, "elevation": 0.0}, values, {}, {})]
    (chart,) = Sphere().charts(board(readings))
    assert [len(axis) for axis in chart.points(board(readings))[3]] == [1, 1]
