"""Points on a sphere: one step by hand, the compiled loop against the plain one, symmetries, readings far below 1e-100."""

import math

import numpy as np
import pytest
import torch

from thermolab.engine.experiment import Experiment
from thermolab.systems import random
from thermolab.systems.sphere_quadric import OBSERVABLES, QuadricPoints

PROTOCOLS = ("elr", "lr", "sphere")
SEED = 5


def points(n, dim, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim))


def knobs(n, eta=0.05, lam=0.02):
    spread = torch.linspace(1, 2, n, dtype=torch.float64)
    return {"eta": eta * spread, "lam": lam * spread.flip(0)}


def advance(system, w, n, k, first=0, streams=None):
    w = w.clone()
    streams = torch.arange(len(w)) if streams is None else streams
    observables, diverged = system.advance(w, first, n, k, SEED, streams, torch.linalg.vector_norm(w, dim=1))
    return w, observables, diverged


def loss(d, w):
    return float(np.mean((d @ w) ** 2) / (w @ w))


def gradient(d, w, h=1e-6):
    """Central differences of the loss of the docstring: no formula of the module enters."""
    e = np.eye(len(w)) * h
    return np.array([(loss(d, w + x) - loss(d, w - x)) / (2 * h) for x in e])


@pytest.mark.parametrize("backend", ["compiled", "tensor"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_step_by_hand(protocol, backend):
    n, dim, batch, replicas, first = 4, 5, 3, 6, 40
    d = points(n, dim)
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    system = QuadricPoints(7.0 * d, batch, protocol, backend)
    w, k = 1.3 * system.start(torch.arange(replicas), SEED), knobs(replicas, 0.2)
    picks = random.indices(SEED, torch.arange(replicas), first, 1, batch, n)[0].numpy()
    moved, observables, diverged = advance(system, w, 1, k, first)
    assert (diverged == -1).all()
    for i in range(replicas):
        x, eta, lam = w[i].numpy(), float(k["eta"][i]), float(k["lam"][i])
        r, g = np.linalg.norm(x), gradient(d[picks[i]], x)
        new = {"lr": x - eta * (g + lam * x), "elr": x - eta * r**2 * (g + lam * x), "sphere": x - eta * r**2 * g}[protocol]
        p = (np.linalg.norm(new) - r) / (eta * r**3) if protocol == "sphere" else lam
        new = new * r / np.linalg.norm(new) if protocol == "sphere" else new
        np.testing.assert_allclose(moved[i], new, atol=1e-9)
        for name, value in {"U": loss(d, x), "r2": r * r, "p": p, "g2": g @ g * r * r}.items():
            assert float(observables[name][i]) == pytest.approx(value, abs=1e-9), name


def test_rotations_signs_and_lengths_of_the_points_change_nothing():
    d, k = points(4, 3), knobs(8, 0.2)
    q, _ = np.linalg.qr(points(3, 3, 1))
    w = QuadricPoints(d).start(torch.arange(8), SEED)
    moved, observables, _ = advance(QuadricPoints(d), w, 50, k)
    turned, again, _ = advance(QuadricPoints(-np.array([[1], [2], [3], [1e-8]]) * d @ q.T), w @ torch.from_numpy(q.T), 50, k)
    np.testing.assert_allclose(turned, moved @ torch.from_numpy(q.T), atol=1e-13)
    for name in OBSERVABLES:
        np.testing.assert_allclose(again[name], observables[name], rtol=1e-12, err_msg=name)


def test_one_point_in_the_plane_is_exact():
    """d = x: tan of the angle from the minimum shrinks by 1 - 2η cos² (1 + 2η cos²)^-1 a step; at η = 1 linear step -1."""
    eta, w = 0.2, torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    moved, observables, _ = advance(QuadricPoints([[1.0, 0.0]]), w, 1, knobs(1, eta, 0.0))
    stretch = 1 + 2 * eta * 0.36
    assert float(moved[0, 0] / moved[0, 1]) == pytest.approx((stretch * 0.6 - 2 * eta * 0.6) / (stretch * 0.8), rel=1e-14)
    assert float(observables["g2"]) == pytest.approx((2 * 0.6 * 0.8) ** 2, rel=1e-14)  # |∇L| = sin 2φ


def test_a_full_batch_of_one_point_descends_to_the_last_digit_of_float64():
    """No noise: t shrinks by 1 - 2η a step, far below the 1e-32 at which a loss with rounding in its points would end."""
    run = Experiment(QuadricPoints([[1.0, 0.0]]), eta=0.25, weights=torch.tensor([[1e-3, 1.0]], dtype=torch.float64))
    run.advance(400)
    found = float(run.system.readings(run.state.weights)["log_U"])
    assert found == pytest.approx(2 * (math.log(1e-3) + 400 * math.log(0.5)), rel=1e-4)
    assert found < math.log(1e-200)


def test_readings_are_exact_sums_over_the_points():
    d = points(5, 4)
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    w = 3.0 * QuadricPoints(d).start(torch.arange(6), SEED)
    found = {k: np.exp(v.numpy()) for k, v in QuadricPoints(d, batch=2).readings(w).items()}
    for i, x in enumerate(w.numpy() / 3):
        each = np.array([gradient(row[None], x) for row in d])
        full = each.mean(0) @ each.mean(0)
        trace = (each**2).sum(1).mean() - full
        assert found["log_U"][i] == pytest.approx(loss(d, x), rel=1e-12)
        assert found["log_full"][i] ** 2 == pytest.approx(full, rel=1e-7)
        assert found["log_stochastic"][i] ** 2 == pytest.approx(full + trace / 2, rel=1e-7)
        assert found["log_snr"][i] ** 2 == pytest.approx(2 * full / trace, rel=1e-7)


def test_readings_far_below_where_squares_underflow():
    system = QuadricPoints([[0.8, 0.6, 0.0], [0.8, -0.6, 0.0]])
    near, far = (
        system.readings(torch.tensor([[3 * s, 2 * s, 1.0]], dtype=torch.float64)) for s in (1e-5, 1e-200)
    )  # loss 1e-10 and 1e-400
    for name, power in {"log_U": 2, "log_full": 1, "log_stochastic": 1, "log_snr": 0}.items():
        assert float(near[name] - far[name]) == pytest.approx(power * 195 * math.log(10), rel=1e-9, abs=1e-8), name


def test_all_points_are_drawn_equally_often():
    picks = random.indices(SEED, torch.arange(64), 0, 500, 1, 3).numpy()
    share = np.bincount(picks.ravel(), minlength=3) / picks.size
    np.testing.assert_allclose(share, 1 / 3, atol=4 * math.sqrt(2 / 9 / picks.size))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points": [1.0, 2.0]}, r"shape \(2,\); allowed: \[n, D\]"),
        ({"points": [[1.0], [2.0]]}, r"D >= 2"),
        ({"points": [[0.0, 0.0]]}, "zero or not finite"),
        ({"points": [[math.nan, 1.0]]}, "zero or not finite"),
        ({"points": [[1.0, 1.0]], "batch": 0}, "batch=0 must be"),
        ({"points": [[1.0, 1.0]], "batch": 1.5}, "batch=1.5 must be"),
        ({"points": [[1.0, 1.0]], "protocol": "adam"}, "allowed: elr, lr, sphere"),
        ({"points": [[1.0, 1.0]], "backend": "fast"}, "allowed: auto, compiled, tensor"),
    ],
)
def test_a_system_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        QuadricPoints(**settings)


def test_float32_takes_the_plain_path_and_compiled_refuses_it():
    w = torch.ones(2, 3)
    assert QuadricPoints(points(2, 3)).choose_backend(w) == "tensor"
    assert QuadricPoints(points(2, 3)).choose_backend(w.double()) == "compiled"
    with pytest.raises(ValueError, match="takes float64 on the CPU"):
        QuadricPoints(points(2, 3), backend="compiled").choose_backend(w)


def test_settings_rebuild_the_system():
    system = QuadricPoints(points(3, 3), 2, "elr")
    again = QuadricPoints(**system.settings())
    np.testing.assert_array_equal(again.directions, system.directions)
    assert (again.batch, again.protocol) == (2, "elr")
