"""The panels of notebook 00: what is read and predicted of the landscape, the law beside the walker, the cloud, and replay."""

import numpy as np
import pytest

from thermolab.lab.live.views import Arm, Board, Trajectory, read
from thermolab.phenomena.irreversibility import live
from thermolab.phenomena.irreversibility.live import CLOUD, LANDSCAPE, WALKER
from thermolab.systems.hyperbola import RULES


def frames(scenario, events, every, steps, **settings):
    run = scenario.start(seed=4, **settings)
    return run, list(run.follow(events, every, steps))


def test_what_is_read_of_the_landscape():
    """After a step and a step back: place, energy, imbalance, distance from the start and time."""
    run, (frame,) = frames(LANDSCAPE, [[1, {"way": "backward"}]], 2, 2, eta=0.05)
    x, y, time = run.state.weights[0].tolist()
    expected = {"x": x, "y": y, "U": (x * y - 1) ** 2, "Q": x**2 - y**2, "missed": np.hypot(x - 1.8, y + 0.6), "time": time}
    assert {name: float(value[0]) for name, value in frame.observables.items()} == pytest.approx(expected)
    assert expected["missed"] > 0.1


def test_the_imbalance_is_predicted_along_the_flow_of_the_loss_alone():
    _, found = frames(LANDSCAPE, [], 5, 5, rule="flow of L")
    assert LANDSCAPE.predict(found[-1], LANDSCAPE.checked({"rule": "flow of L"})) == {"Q": pytest.approx(2.88)}
    assert LANDSCAPE.predict(found[-1], LANDSCAPE.checked({})) == {}


def test_replicas_start_beside_the_first():
    run = LANDSCAPE.start(replicas=5)
    place = run.state.weights[:, :2]
    assert place[0].tolist() == [1.8, -0.6]
    assert 0 < float((place[1:] - place[0]).norm(dim=1).max()) < 5 * live.SPREAD


def test_the_panel_draws_four_paths():
    arms = [Arm(rule, LANDSCAPE, LANDSCAPE.checked({"rule": rule})) for rule in RULES]
    readings = [[read(arm, f) for f in frames(LANDSCAPE, [], 2, 10, **arm.settings)[1]] for arm in arms]
    board = Board(arms, readings)
    (chart,) = Trajectory("x", "y", curve=live.minima).charts(board)
    drawn = chart.points(board)
    assert len(drawn) == len(chart.series) == 1 + 2 * len(arms)
    np.testing.assert_allclose(np.prod(drawn[0], 0), 1)
    assert [len(x) for x, _ in drawn[1:]] == [5, 1] * 4


def test_the_law_stands_beside_the_walker():
    """Through a turn of η and the coming of weight decay, from a start far from the minimum."""
    events = [[1000, {"eta": 0.3}], [2000, {"lam": 2e-3}]]
    _, found = frames(WALKER, events, 250, 4000, replicas=64)
    measured = np.array([f.observables["r"].mean() for f in found])
    theory = np.array([WALKER.predict(f, {})["r"] for f in found])
    np.testing.assert_allclose(measured[3:], theory[3:], rtol=0.1)
    assert theory[7] > 1.8 * theory[0]
    assert theory[-1] < 0.9 * theory[7]
    np.testing.assert_allclose([f.observables["U"].mean() for f in found[4:]], 0.25, rtol=0.1)


def test_the_circle_is_that_of_the_law():
    arm = Arm("walk", WALKER, WALKER.checked({"replicas": 4}))
    readings = [read(arm, f) for f in frames(WALKER, [], 10, 30, replicas=4)[1]]
    x, y = live.circle(Board([arm], [readings]))
    np.testing.assert_allclose(np.hypot(x, y), readings[-1].theory["r"])
    assert np.hypot(*live.circle(Board([arm], [[]]))) == pytest.approx(1.0)


def test_the_cloud_turns_as_predicted_stops_and_turns_back():
    _, found = frames(CLOUD, [[400, {"angle": 0.0}], [800, {"angle": 135.0}]], 200, 1200, replicas=400)
    turns = np.array([f.observables["turns"].mean() for f in found])
    error = np.array([f.observables["turns"].std() / 20 for f in found])
    theory = np.array([CLOUD.predict(f, {})["turns"] for f in found])
    assert (abs(turns - theory) < 0.1 + 3 * error).all()
    assert theory[1] == theory[3] > 1.4
    assert theory[-1] == pytest.approx(0, abs=1e-9)
    hand = found[0].observables
    assert np.arctan2(hand["hand_y"], hand["hand_x"])[0] % (2 * np.pi) == pytest.approx(2 * np.pi * turns[0] % (2 * np.pi))
    np.testing.assert_allclose([f.observables["U"].mean() for f in found], [CLOUD.predict(f, {})["U"] for f in found], rtol=0.1)


def test_the_cloud_starts_at_rest():
    knobs = {"eta": 0.3, "lam": 0.1, "sigma": 2.0, "angle": 20.0}
    w = CLOUD.start(**knobs, replicas=1000).state.weights.numpy()
    s11, s12, s22 = live._covariance(*knobs.values())
    np.testing.assert_allclose(np.cov(w[:, :2].T), [[s11, s12], [s12, s22]], rtol=0.15)
    assert live.expected_turn(0.3, 0.1, 2.0, 90.0) == pytest.approx(0, abs=1e-12)
    assert live.expected_turn(0.3, 0.1, 2.0, 20.0) == pytest.approx(-live.expected_turn(0.3, 0.1, 2.0, 160.0))


def test_the_ellipse_follows_the_knobs():
    arm = Arm("cloud", CLOUD, CLOUD.checked({"replicas": 4}))
    readings = [read(arm, f) for f in frames(CLOUD, [[20, {"sigma": 2.0}]], 10, 30, replicas=4)[1]]
    before, after = live.ellipse(Board([arm], [[]])), live.ellipse(Board([arm], [readings]))
    np.testing.assert_allclose(after, 2 * np.array(before))
    assert max(before[0]) == pytest.approx(2 * np.sqrt(live._covariance(0.1, 0.0, 1.0, 45.0)[0]), rel=0.01)
    np.testing.assert_allclose(np.hypot(*live.clock(None)), 1)


@pytest.mark.parametrize(
    ("scenario", "events", "settings"),
    [
        (LANDSCAPE, [[20, {"eta": 0.01}], [40, {"way": "backward"}]], {"rule": "flow of F", "replicas": 3}),
        (LANDSCAPE, [[30, {"way": "backward"}]], {"rule": "descent, undone on F"}),
        (WALKER, [[20, {"eta": 0.3, "sigma": 1.0}], [40, {"lam": 0.01}]], {"replicas": 8, "dim": 3}),
        (CLOUD, [[20, {"angle": 10.0}], [40, {"eta": 0.3}]], {"replicas": 8}),
    ],
)
def test_it_replays(replays, scenario, events, settings):
    run, _ = frames(scenario, events, 10, 60, **settings)
    replays(scenario, run, settings)


@pytest.mark.parametrize("scenario", [LANDSCAPE, WALKER, CLOUD])
def test_what_a_panel_needs(scenario):
    assert set(scenario.defaults) == set(scenario.settings)
    settings = scenario.checked({"replicas": 1})
    reading = read(Arm("run", scenario, settings), next(scenario.start(**settings).frames(2)))
    assert set(scenario.observables) <= set(reading.values)
    assert set(reading.theory) <= set(scenario.observables)


@pytest.mark.parametrize(
    ("scenario", "bad"),
    [(LANDSCAPE, {"rule": "ascent"}), (LANDSCAPE, {"start_x": 9.0}), (WALKER, {"dim": 1}), (CLOUD, {"angle": -1.0})],
)
def test_scenarios_refuse_settings_out_of_range(scenario, bad):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        scenario.start(**bad)
