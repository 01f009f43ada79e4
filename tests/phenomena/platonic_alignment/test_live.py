"""The panel of notebook 05: the map of the layers of two networks, noise that is turned, and replay."""

import numpy as np
import pytest
import torch

from thermolab.engine.experiment import Frame
from thermolab.instruments import alignment
from thermolab.lab.live.views import Arm, Board, HeatMap, read
from thermolab.phenomena.platonic_alignment import live
from thermolab.phenomena.platonic_alignment.live import PAIR
from thermolab.systems import embedded_linear


def readings(events, every, steps, seed=3, **settings):
    arm = Arm("a", PAIR, PAIR.checked(settings))
    run = PAIR.start(seed=seed, **arm.settings)
    return arm, [read(arm, frame) for frame in run.follow(events, every, steps)]


def late(found, name, of=10):
    return np.mean([r.means[name][0] for r in found[-of:]])


@pytest.mark.parametrize("settings", [{}, {"depth_a": 2, "depth_b": 5, "width_a": 5, "width_b": 7}])
def test_the_map_is_that_of_the_features(settings):
    run = PAIR.start(seed=1, replicas=2, **settings)
    run.advance(50)
    settings = PAIR.checked(settings)
    system = run.system
    x = system.nets[0].data.x.double()
    v = embedded_linear.target(seed=1)
    root, turn = np.linalg.eigh(v.T @ np.diag(np.square(embedded_linear.NOISE)) @ v)
    known = x @ torch.tensor(turn * np.maximum(root, 0) ** 0.25)  # features of the kernel x' (V' Σ_ε V)^½ x
    features = [
        f for net, w in zip(system.nets, system.parts(run.state.weights), strict=True) for f in embedded_linear.hidden(net, w, x)
    ]
    features.append(known.expand(2, *known.shape))
    expected = alignment.layer_cka(features, features, samples=-2)
    frame = run.frame()
    np.testing.assert_allclose(frame.observables["map"], expected, atol=1e-6)
    found, a = PAIR.read(frame, settings), settings["depth_a"] - 1
    np.testing.assert_allclose(found["map"], expected.mean(0), atol=1e-6)
    np.testing.assert_allclose(found["cka"], [e[:a, a:-1].min() for e in expected], atol=1e-6)
    np.testing.assert_allclose(found["kernel"], [e[-1, :-1].min() for e in expected], atol=1e-6)
    names = live.names(settings["depth_a"], settings["depth_b"])
    heat = HeatMap("map", rows=names, columns=names, limits=(0, 1), x="", y="")
    arm = Arm("a", PAIR, settings)
    board = Board([arm], [[read(arm, frame)]])
    ((_, matrix),) = heat.charts(board)[0].points(board)
    assert matrix.shape == (len(names),) * 2 == expected.shape[1:]


def test_the_worst_pair_is_one_of_a_and_b():
    """Layers A1, A2, B1 and G: what is within a network, or with G, does not count for `cka`."""
    cka = np.array([[1, 0.1, 0.8, 0.3], [0.1, 1, 0.7, 0.2], [0.8, 0.7, 1, 0.4], [0.3, 0.2, 0.4, 1]])
    frame = Frame(1, {}, {"map": np.stack([cka, cka**2])})
    found = PAIR.read(frame, PAIR.checked({"depth_a": 3, "depth_b": 2}))
    np.testing.assert_allclose(found["cka"], [0.7, 0.49])
    np.testing.assert_allclose(found["kernel"], [0.2, 0.04])


def test_noise_aligns_and_nothing_else_does():
    """Without noise the layers stay as different as the starts left them; with it they align, and with weight decay less so."""
    _, found = readings([[1000, {"noise": 1.0}], [6000, {"lam": 0.06}]], 100, 12_000, noise=0.0)
    quiet, noisy, decayed = ([r for r in found if a < r.step <= b] for a, b in ((500, 1000), (1000, 6000), (6000, 12_000)))
    assert late(quiet, "U", 3) < 1e-8
    assert late(quiet, "cka", 3) < 0.7
    assert late(quiet, "cka", 1) == pytest.approx(quiet[0].means["cka"][0], abs=1e-4)
    assert late(noisy, "cka") > 0.93
    assert late(noisy, "kernel") > 0.95
    assert late(decayed, "cka") < 0.9
    assert [set(part[-1].theory) for part in (quiet, noisy, decayed)] == [set(), {"cka", "kernel", "U"}, set()]


@pytest.mark.parametrize("settings", [{}, {"eta": 0.01, "noise": 0.5, "batch_size": 8}, {"depth_a": 2, "depth_b": 3}])
def test_the_loss_is_that_of_theory(settings):
    _, found = readings([], 400, 12_000, replicas=2, **settings)
    floor = settings.get("noise", 1.0) ** 2 * np.square(embedded_linear.NOISE).sum()
    excess = found[-1].theory["U"] - floor
    assert excess > 0.01 * floor
    # leading order in η: a direction of curvature λ has 1/(1 - ηλ/2) as much, 1.6 at λ_max = 36, in the mean 1.2; noise adds 0.07
    assert late(found, "U", 15) - floor == pytest.approx(excess, rel=0.35)


def test_looking_at_a_run_leaves_no_trace():
    looked, blind = (PAIR.start(seed=5) for _ in range(2))
    for _ in looked.frames(7, until=70):
        pass
    blind.advance(70)
    assert (looked.state.weights == blind.state.weights).all()


def test_it_replays(replays):
    run = PAIR.start(seed=5)
    list(run.follow([[20, {"noise": 0.0, "lam": 0.1}], [40, {"noise": 0.7, "batch_size": 4}], [50, {"eta": 0.01}]], 10, 60))
    replays(PAIR, run)
