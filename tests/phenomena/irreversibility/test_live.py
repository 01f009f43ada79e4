"""The panels of notebook 00: what the rules conserve and undo, the law beside the walker, and replay."""

import numpy as np
import pytest
import torch

from thermolab.lab.live.views import Arm, Board, Trajectory, read
from thermolab.phenomena.irreversibility import live
from thermolab.phenomena.irreversibility.live import LANDSCAPE, WALKER


def frames(scenario, events, every, steps, **settings):
    run = scenario.start(seed=4, **settings)
    return run, list(run.follow(events, every, steps))


def last(rule, eta, forward, backward=0, **settings):
    events = [[forward, {"way": "backward"}]] if backward else []
    _, found = frames(LANDSCAPE, events, forward + backward, forward + backward, rule=rule, eta=eta, **settings)
    return {name: float(x[0]) for name, x in found[-1].gauges.items()}


def test_the_force_is_a_gradient():
    place = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    energy = (place.prod(1) - 1) ** 2
    (g,) = torch.autograd.grad(energy.sum(), place, create_graph=True)
    (full,) = torch.autograd.grad((energy + 0.3 * (g * g).sum(1)).sum(), place)
    torch.testing.assert_close(live.force(place.detach(), 0.3), full)


def test_one_step_of_descent():
    found = last("descent", 0.05, 1)
    g = live.force(torch.tensor([[1.8, -0.6]], dtype=torch.float64), 0.0)[0].numpy()
    np.testing.assert_allclose([found["x"], found["y"]], [1.8 - 0.05 * g[0], -0.6 - 0.05 * g[1]])
    assert found["missed"] == pytest.approx(0.05 * np.hypot(*g))
    assert found["time"] == 0.05


@pytest.mark.parametrize(("rule", "order"), [("flow of L", 2), ("flow of F", 3)])
def test_a_step_follows_the_flow_to_its_order(rule, order):
    errors = []
    for eta in (0.01, 0.005):
        step, flow = (np.array([last(r, eta, 1)[k] for k in "xy"]) for r in ("descent", rule))
        errors.append(np.linalg.norm(step - flow))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("rule", "order"), [("descent", 2), ("descent, undone on F", 3)])
def test_a_step_is_undone_to_its_order(rule, order):
    errors = [last(rule, eta, 1, 1)["missed"] for eta in (0.01, 0.005)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("rule", ["flow of L", "flow of F"])
def test_flows_come_back(rule):
    there = last(rule, 0.04, 60)
    back = last(rule, 0.04, 60, 60)
    assert there["U"] < 1e-6
    assert there["time"] == pytest.approx(live.LATEST)
    assert back["time"] == pytest.approx(0, abs=1e-9)
    assert back["missed"] < 1e-5
    assert last("descent", 0.04, 60, 60)["missed"] > 0.1


def test_only_the_flow_of_the_loss_conserves_the_imbalance():
    assert last("flow of L", 0.05, 30)["Q"] == pytest.approx(1.8**2 - 0.6**2, rel=1e-5)
    for rule in ("descent", "flow of F"):
        assert last(rule, 0.05, 30)["Q"] < 0.95 * (1.8**2 - 0.6**2)
    _, found = frames(LANDSCAPE, [], 5, 5, rule="flow of L")
    assert LANDSCAPE.predict(found[-1], LANDSCAPE.checked({"rule": "flow of L"})) == {"Q": pytest.approx(2.88)}
    assert LANDSCAPE.predict(found[-1], LANDSCAPE.checked({})) == {}


def test_replicas_start_beside_the_first():
    run = LANDSCAPE.start(replicas=5)
    place = run.state.weights[:, :2]
    assert place[0].tolist() == [1.8, -0.6]
    assert 0 < float((place[1:] - place[0]).norm(dim=1).max()) < 5 * live.SPREAD


def test_the_panel_draws_four_paths():
    arms = [Arm(rule, LANDSCAPE, LANDSCAPE.checked({"rule": rule})) for rule in live.RULES]
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
    measured = np.array([f.gauges["r"].mean() for f in found])
    theory = np.array([WALKER.predict(f, {})["r"] for f in found])
    np.testing.assert_allclose(measured[3:], theory[3:], rtol=0.1)
    assert theory[7] > 1.8 * theory[0]
    assert theory[-1] < 0.9 * theory[7]
    np.testing.assert_allclose([f.gauges["U"].mean() for f in found[4:]], 0.25, rtol=0.1)


def test_the_circle_is_that_of_the_law():
    arm = Arm("walk", WALKER, WALKER.checked({"replicas": 4}))
    readings = [read(arm, f) for f in frames(WALKER, [], 10, 30, replicas=4)[1]]
    x, y = live.circle(Board([arm], [readings]))
    np.testing.assert_allclose(np.hypot(x, y), readings[-1].theory["r"])
    assert np.hypot(*live.circle(Board([arm], [[]]))) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("scenario", "events", "settings"),
    [
        (LANDSCAPE, [[20, {"eta": 0.01}], [40, {"way": "backward"}]], {"rule": "flow of F", "replicas": 3}),
        (LANDSCAPE, [[30, {"way": "backward"}]], {"rule": "descent, undone on F"}),
        (WALKER, [[20, {"eta": 0.3, "sigma": 1.0}], [40, {"lam": 0.01}]], {"replicas": 8, "dim": 3}),
    ],
)
def test_it_replays(replays, scenario, events, settings):
    run, _ = frames(scenario, events, 10, 60, **settings)
    replays(scenario, run, settings)


@pytest.mark.parametrize("scenario", [LANDSCAPE, WALKER])
def test_what_a_panel_needs(scenario):
    assert set(scenario.defaults) == set(scenario.settings)
    settings = scenario.checked({"replicas": 1})
    reading = read(Arm("run", scenario, settings), next(scenario.start(**settings).frames(2)))
    assert set(scenario.gauges) <= set(reading.values)
    assert set(reading.theory) <= set(scenario.gauges)


@pytest.mark.parametrize(
    ("scenario", "bad"), [(LANDSCAPE, {"rule": "ascent"}), (LANDSCAPE, {"start_x": 9.0}), (WALKER, {"dim": 1})]
)
def test_bad_settings(scenario, bad):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        scenario.start(**bad)


def test_an_unknown_rule():
    with pytest.raises(ValueError, match="rule='up' is unknown"):
        live.Landscape("up")
