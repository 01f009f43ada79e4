"""The panels of notebook 06: a noise that is switched, the sharpness that follows its closed form, the edge, and replay."""

import dataclasses

import numpy as np
import pytest
import torch

from thermolab.instruments import curvature
from thermolab.lab.live.views import Arm, read
from thermolab.phenomena.progressive_sharpening.live import EDGE, NETWORK
from thermolab.systems.regression import NoisyAnswers, number, profile


def readings(scenario, events, every, steps, seed=3, **settings):
    arm = Arm("a", scenario, scenario.checked(settings))
    run = scenario.start(seed=seed, **arm.settings)
    return run, [read(arm, frame) for frame in run.follow(events, every, steps)]


def late(found, name, of=5):
    return np.mean([r.means[name][0] for r in found[-of:]])


# --- the parts ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(2.0, 1.0, 0.6, 0.4, 0.3), (1.0, 3.0, 2.0), (1.0, 1.0, 1.0)])
def test_a_profile_of_any_imbalance_has_the_power_and_the_order_of_its_shape(shape):
    for ratio in (1.0, 1.5, 8.0):
        found = profile(shape, ratio)
        assert np.mean(found**2) == pytest.approx(1)
        assert found.max() / found.min() == pytest.approx(ratio)
    assert (np.argsort(found) == np.argsort(-np.arange(3) if len(set(shape)) == 1 else shape)).all()
    own = max(shape) / min(shape)
    np.testing.assert_allclose(profile(shape, own), shape / np.sqrt(np.mean(np.square(shape))))


def test_noise_is_set_to_the_bit():
    clean, noise = (torch.randn(50, 2, generator=torch.Generator().manual_seed(i)) for i in range(2))
    data = NoisyAnswers(torch.zeros(50, 1), clean, noise)
    first, memory = data.y.clone(), data.y.data_ptr()
    data.set((0.0, 3.0))
    torch.testing.assert_close(data.y, clean + noise * torch.tensor([0.0, 3.0]))
    assert data.to("cpu").sigma == (0.0, 3.0)
    assert (data.to("cpu").y == data.y).all()
    data.set((1.0, 1.0))
    assert (data.y == first).all()
    assert data.y.data_ptr() == memory


def test_a_knob_of_the_data_is_one_number():
    assert number({"a": torch.tensor([2.0, 2.0])}, "a") == number({"a": np.float64(2)}, "a") == 2
    run = NETWORK.start(replicas=2)
    run.set(imbalance=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"imbalance=\[1.0, 2.0\] differs between replicas"):
        run.advance(1)


@pytest.mark.parametrize("wrong", [[1.0], "1, 2", [1, 0], [1, float("inf")], [1, "a"], None, [1.0] * 17])
def test_what_is_no_profile_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^noise_profile=.*; allowed: a list of 2 to 16, each a positive number$"):
        NETWORK.checked({"noise_profile": wrong})


# --- the switch -----------------------------------------------------------------------------------------------------------
def test_the_switch():
    """Sharper, and flat again; alignment is lost at each switch and comes back; the last is annealed and lands on theory."""
    events = [[1500, {"imbalance": 6.67}], [6000, {"imbalance": 1.0}], [7500, {"eta": 0.01}]]
    _, found = readings(NETWORK, events, 100, 9000)
    parts = [[r for r in found if a < r.step <= b] for a, b in ((500, 1500), (1500, 6000), (6000, 7500), (7500, 9000))]
    flat, sharp, again, cold = (late(part, "lambda_max") for part in parts)
    assert flat < 6 < 9 < sharp < 11
    assert again < 6
    assert 4 < cold < min(4.8, 0.95 * again)
    lost = [part[0].means["cka"][0] for part in parts[1:3]]
    kept = [late(part, "cka") for part in parts[:3]]
    assert max(lost) < 0.93 < 0.97 < min(kept)


@pytest.mark.parametrize("settings", [{}, {"imbalance": 5.0, "eta": 0.03}, {"noise_profile": (1.0, 0.5), "noise_std": 0.5}])
def test_the_loss_is_that_of_theory(settings):
    _, found = readings(NETWORK, [], 200, 8000, **settings)
    assert late(found, "U", 25) == pytest.approx(found[-1].theory["U"], rel=0.015)
    floor = settings.get("noise_std", 1.0) ** 2 * len(settings.get("noise_profile", range(5)))
    assert found[-1].theory["U"] > 1.01 * floor


def test_theory_follows_the_knobs():
    frame = next(NETWORK.start().frames(5))

    def theory(knobs, **settings):
        turned = dataclasses.replace(frame, knobs=frame.knobs | {k: np.full(4, v) for k, v in knobs.items()})
        return NETWORK.predict(turned, NETWORK.checked(settings))

    assert theory({})["lambda_max"] == pytest.approx(4)
    assert theory({"imbalance": 20 / 3})["lambda_max"] == pytest.approx(10.84, abs=0.01)  # physics page 06
    assert theory({"noise_std": 2.0})["lambda_max"] == pytest.approx(4)
    assert theory({"noise_std": 2.0})["U"] == pytest.approx(4 * theory({})["U"])
    assert theory({"lam": 0.1}) == theory({}, activation="tanh") == theory({}, activation="relu") == {}


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_other_activations_have_a_sharpness_and_no_theory(activation):
    _, found = readings(NETWORK, [[1500, {"imbalance": 6.67}]], 100, 6000, activation=activation)
    flat, sharp = (np.mean([r.means["lambda_max"][0] for r in found if a < r.step <= b]) for a, b in ((500, 1500), (4000, 6000)))
    assert sharp > 1.03 * flat
    assert "cka" not in found[-1].values
    assert found[-1].theory == {}


# --- the edge -------------------------------------------------------------------------------------------------------------
def test_descent_comes_to_the_edge_and_falls_to_the_next():
    run, found = readings(EDGE, [[1100, {"eta": 0.4}]], 50, 1500, n_data=100)
    ratio = np.array([r.means["lambda_max"][0] / r.theory["lambda_max"] for r in found])
    assert ratio[0] < 0.8
    assert ratio[[15, 21, -1]] == pytest.approx(1, abs=0.1)
    assert found[-1].theory["lambda_max"] == 5
    again = curvature.HessianProducts(run.system, run.state.weights[0], run.system.data.x, run.system.data.y)
    exact = curvature.largest_eigenvalue(again, tolerance=1e-4, most=200, looks=2).value
    assert found[-1].means["lambda_max"][0] == pytest.approx(exact, rel=0.02)


# --- all ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scenario", [NETWORK, EDGE])
def test_observables_leave_no_trace(scenario):
    looked, blind = (scenario.start(seed=5) for _ in range(2))
    for _ in looked.frames(7, until=70):
        pass
    blind.advance(70)
    assert (looked.state.weights == blind.state.weights).all()


@pytest.mark.parametrize(
    ("scenario", "events"),
    [
        (NETWORK, [[20, {"imbalance": 5.0, "lam": 0.1}], [40, {"noise_std": 0.5}], [50, {"imbalance": 1.0}]]),
        (EDGE, [[20, {"eta": 0.4}], [40, {"lam": 0.1}]]),
    ],
)
def test_it_replays(replays, scenario, events):
    run = scenario.start(seed=5)
    list(run.follow(events, 10, 60))
    replays(scenario, run)


def test_a_log_does_not_fit_a_panel_with_another_noise():
    one, other = (NETWORK.start(seed=0, noise_profile=shape, replicas=1) for shape in ((2.0, 1.0), (1.0, 2.0)))
    one.set(imbalance=3.0)
    one.advance(5)
    with pytest.raises(ValueError, match="the log is of another system"):
        other.replay(one.log)
