"""The panel of notebook 04: neurons that go to the diagonal, theory that follows the knobs, and replay."""

import dataclasses

import numpy as np
import pytest

from thermolab.lab.live.views import Arm, Board, Scatter, read
from thermolab.phenomena.neuron_balance import live, theory
from thermolab.phenomena.neuron_balance.live import NETWORK


def readings(events, every, steps, **settings):
    arm = Arm("a", NETWORK, NETWORK.checked(settings))
    run = NETWORK.start(seed=3, **arm.settings)
    return arm, [read(arm, frame) for frame in run.follow(events, every, steps)]


def test_neurons_go_to_the_diagonal_and_stay_off_it_with_tanh():
    ends = {}
    for name in ("relu", "tanh"):
        _, found = readings([], 100, 2000, activation=name, eta=0.05)
        ratio = [r.means["log_ratio"][0] for r in found]
        assert ratio[0] < -0.5
        ends[name] = abs(np.mean(ratio[10:]))
    assert ends["relu"] < 0.15 < 0.4 < ends["tanh"]


def test_weight_decay_holds_them_where_theory_says():
    _, found = readings([[500, {"lam": 0.2}]], 100, 6000, eta=0.05, replicas=16)
    measured, known = (
        np.mean([get(r) for r in found[20:]]) for get in (lambda r: r.means["log_ratio"][0], lambda r: r.theory["log_ratio"])
    )
    assert known < -0.4
    assert measured == pytest.approx(known, abs=0.1)


def test_theory_follows_the_knobs():
    settings = NETWORK.checked({})
    frame = next(NETWORK.start(seed=1, **settings).frames(5))
    now = {k: frame.observables[k].mean() for k in ("g2_in", "in2", "out2")}
    decayed = dataclasses.replace(frame, knobs=frame.knobs | {"lam": np.array([0.1])})
    shift = theory.decay_shift(0.02, 0.1) * (now["in2"] - now["out2"])
    assert NETWORK.predict(frame, settings) == {"log_ratio": 0.0}
    assert NETWORK.predict(decayed, settings)["log_ratio"] == pytest.approx(np.log((now["g2_in"] - shift) / now["g2_in"]))
    assert NETWORK.predict(frame, settings | {"activation": "tanh"}) == {}


def test_a_dot_for_each_neuron_and_none_for_a_dead_one():
    arm, found = readings([], 10, 20, replicas=4, width=3)
    assert found[-1].values["g2_in"].shape == (4, 3)
    (chart,) = Scatter("g2_in", "g2_out", curve=live.diagonal).charts(Board([arm], [found]))
    (x, y), (dots_x, dots_y) = chart.points(Board([arm], [found]))
    assert dots_x.size == dots_y.size == 12
    assert (x == y).all()
    assert x[0] == min(dots_x.min(), dots_y.min())
    run = NETWORK.start(seed=3, **arm.settings)
    weights = run.state.weights
    net = run.system
    net.replicas.views(weights)["0.bias"][0, 0] = -100.0
    net.replicas.views(weights)["0.weight"][0, 0] = 0.0
    dead = read(arm, run.frame())
    assert np.isnan(dead.values["g2_in"][0, 0])
    assert np.isfinite(dead.values["g2_in"]).sum() == 11
    assert np.isfinite(dead.means["log_ratio"][0])


def test_reading_neurons_leaves_no_trace():
    looked, blind = (NETWORK.start(seed=5, **NETWORK.checked({})) for _ in range(2))
    for _ in looked.frames(7, until=70):
        pass
    blind.advance(70)
    assert (looked.state.weights == blind.state.weights).all()


def test_it_replays(replays):
    run = NETWORK.start(seed=5, **NETWORK.checked({}))
    list(run.follow([[20, {"eta": 0.05, "lam": 0.1}], [40, {"batch_size": 2}]], 10, 60))
    replays(NETWORK, run)
