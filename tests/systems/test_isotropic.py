"""The isotropic noise model: one step by hand, the compiled loop against autograd, limits without noise."""

import math

import numpy as np
import pytest
import torch

from thermolab.systems import random
from thermolab.systems.isotropic import OBSERVABLES, IsotropicNoise

PROTOCOLS = ("elr", "lr", "sphere")
EPS32 = 2.0**-24
SEED = 11


def knobs(n, eta=0.05, lam=0.02, sigma=1.0):
    """One value per replica, spread over a factor of two."""
    spread = torch.linspace(1, 2, n, dtype=torch.float64)
    return {"eta": eta * spread, "lam": lam * spread.flip(0), "sigma": sigma * spread.sqrt()}


def spectrum(dim):
    s = np.arange(1.0, dim)
    return s / s.mean()


def advance(system, w, n, k, first=0, streams=None, dtype=None):
    """n steps on a copy of w. Returns weights, observables, diverged."""
    w = w.clone().to(dtype or w.dtype)
    streams = torch.arange(len(w)) if streams is None else streams
    observables, diverged = system.advance(w, first, n, k, SEED, streams, torch.linalg.vector_norm(w, dim=1))
    return w, observables, diverged


def start(n, dim, radius=1.3):
    return radius * IsotropicNoise(dim).start(torch.arange(n), SEED)


def one_step(protocol, w, eta, lam, sigma, s, xi):
    """The step of the docstrings, in plain float64 for one replica."""
    d = len(w)
    r = math.sqrt(w @ w)
    tangent = np.eye(d) - np.outer(w, w) / r**2
    noise = np.concatenate([[1.0], np.sqrt(s)]) * xi
    g = tangent @ np.eye(d)[0] / r + sigma / r * tangent @ noise
    moved = {"lr": w - eta * (g + lam * w), "elr": w - eta * r**2 * (g + lam * w), "sphere": w - eta * r**2 * g}[protocol]
    p = lam
    if protocol == "sphere":
        p = (math.sqrt(moved @ moved) - r) / (eta * r**3)
        moved = moved * r / math.sqrt(moved @ moved)
    return moved, {"U": 1 + w[0] / r, "r2": r**2, "p": p, "g2": g @ g * r**2}


@pytest.mark.parametrize("backend", ["tensor", "compiled"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_step_by_hand(protocol, backend):
    dim, n, first = 6, 5, 40
    k, w = knobs(n, eta=0.2), start(n, dim)
    system = IsotropicNoise(dim, protocol, spectrum(dim), backend)
    dtype, tolerance = (torch.float64, 1e-12) if backend == "tensor" else (torch.float32, 40 * EPS32)
    xi = random.normals(SEED, torch.arange(n), first, 1, dim, torch.float64)[0].numpy()
    found, observables, _ = advance(system, w, 1, k, first, dtype=dtype)
    for i in range(n):
        settings = [float(k[name][i]) for name in ("eta", "lam", "sigma")]
        moved, expected = one_step(protocol, w[i].double().numpy(), *settings, spectrum(dim), xi[i])
        np.testing.assert_allclose(found[i], moved, rtol=0, atol=tolerance * np.linalg.norm(moved))
        for name in OBSERVABLES:
            # the pressure on the sphere is a small difference: its float64 oracle has 1e-16/(η r²) of it
            assert float(observables[name][i]) == pytest.approx(expected[name], rel=max(tolerance, 1e-12), abs=10 * tolerance)


@pytest.mark.parametrize("dim", [3, 4, 10])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_compiled_against_autograd(protocol, dim):
    """Rounding: a hundred steps of about ten operations each, never amplified because the model is a contraction."""
    n, steps = 37, 100
    k, w = knobs(n), start(n, dim)
    s = spectrum(dim)
    ours, observables, diverged = advance(IsotropicNoise(dim, protocol, s, "compiled"), w, steps, k)
    oracle, expected, _ = advance(IsotropicNoise(dim, protocol, s, "tensor"), w, steps, k, dtype=torch.float64)
    tolerance = 10 * steps * EPS32
    assert (diverged == -1).all()
    np.testing.assert_allclose(ours, oracle, rtol=0, atol=tolerance * float(torch.linalg.vector_norm(oracle, dim=1).max()))
    for name in OBSERVABLES:
        np.testing.assert_allclose(observables[name], expected[name], rtol=tolerance, atol=tolerance / 10, err_msg=name)


def test_the_gradient_of_autograd_is_that_of_the_loss():
    """Without noise and decay a small step lowers the loss by η |∇L|²; the first axis is μ."""
    w, h = start(4, 5), 1e-6
    system = IsotropicNoise(5, "lr", backend="tensor")
    k = {"eta": torch.full((4,), h, dtype=torch.float64), "lam": torch.zeros(4), "sigma": torch.zeros(4)}
    moved, observables, _ = advance(system, w, 1, k, dtype=torch.float64)
    loss = [1 + v[:, 0] / torch.linalg.vector_norm(v, dim=1) for v in (w.double(), moved)]
    np.testing.assert_allclose((loss[0] - loss[1]) / h, observables["g2"] / 1.3**2, rtol=1e-4)


def test_the_sphere_keeps_its_radius():
    system = IsotropicNoise(10, "sphere")
    w = start(64, 10, radius=0.7)
    moved, observables, _ = advance(system, w, 5000, knobs(64, eta=0.1))
    np.testing.assert_allclose(torch.linalg.vector_norm(moved, dim=1), 0.7, rtol=1e-6)
    # between two returns to the radius, 64 steps apart, |w|² may lose two units of the last place a step
    np.testing.assert_allclose(observables["r2"], 0.49, rtol=64 * 2 * EPS32)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_noise_it_settles_in_the_minimum(protocol):
    """At -μ the gradient is zero and the radius only decays, by (1 - ηλ) or (1 - ηλr²) a step."""
    n, eta, lam = 8, 0.1, 0.01
    k = {"eta": torch.full((n,), eta), "lam": torch.full((n,), lam), "sigma": torch.zeros(n)}
    system, w = IsotropicNoise(4, protocol), start(n, 4)
    moved, _, _ = advance(system, w, 800, k)
    again, observables, _ = advance(system, moved, 100, k, first=800)
    # float32 cannot tell 1 + cos apart from 0 below 1e-7
    np.testing.assert_allclose(observables["U"], 0, atol=2 * EPS32)
    assert (moved[:, 0] < 0).all()
    r = torch.linalg.vector_norm(moved.double(), dim=1).numpy()
    for _ in range(100):
        r = r * {"lr": 1 - eta * lam, "elr": 1 - eta * lam * r * r, "sphere": 1.0}[protocol]
    np.testing.assert_allclose(torch.linalg.vector_norm(again.double(), dim=1), r, rtol=100 * 2 * EPS32)
    np.testing.assert_allclose(observables["p"], 0 if protocol == "sphere" else lam, rtol=1e-6, atol=1e-9)


def test_both_backends_diverge_at_the_same_step():
    n = 64
    k = {"eta": torch.full((n,), 0.4), "lam": torch.full((n,), 0.01), "sigma": torch.ones(n)}
    w = start(n, 10, radius=7.0)
    found = [advance(IsotropicNoise(10, "elr", backend=b), w, 300, k)[2] for b in ("compiled", "tensor")]
    assert torch.equal(*found)
    assert (found[0] > 0).sum() > n / 2
    once = int(found[0][found[0] > 0].min())
    later = advance(IsotropicNoise(10, "elr"), w, once - 1, k)[2]
    assert (later == -1).all()  # the step that is named is the first one past the limit


def test_start_is_uniform_on_the_unit_sphere():
    w = IsotropicNoise(3).start(torch.arange(20_000), 0).double()
    np.testing.assert_allclose(torch.linalg.vector_norm(w, dim=1), 1, rtol=4 * EPS32)
    error = 1 / math.sqrt(3 * len(w))
    assert (w.mean(0).abs() < 4 * error).all()
    second = w.T @ w / len(w) - torch.eye(3) / 3
    assert second.abs().max() < 4 * math.sqrt(4 / 45 / len(w))  # the variance of x² on the sphere is 4/45


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 2}, r"dim=2 .*allowed: 3 or more"),
        ({"protocol": "adam"}, r"protocol='adam' .*allowed: elr, lr, sphere"),
        ({"backend": "fast"}, r"backend='fast' .*allowed: auto, compiled, tensor"),
        ({"dim": 4, "spectrum": [1.0, 1.0]}, "spectrum must be 3 positive variances of mean 1"),
        ({"dim": 4, "spectrum": [2.0, 1.0, 0.0]}, "positive"),
        ({"dim": 4, "spectrum": [2.0, 2.0, 2.0]}, "mean 1"),
        ({"dim": 4, "spectrum": [1.0, 1.0, math.nan]}, "positive"),
    ],
)
def test_a_system_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        IsotropicNoise(**settings)


@pytest.mark.parametrize("s", [None, [0.5, 0.7, 1.8]])
def test_settings_rebuild_the_system(s):
    system = IsotropicNoise(4, "lr", s)
    again = IsotropicNoise(**system.settings())
    np.testing.assert_allclose(again.amplitude, system.amplitude, rtol=1e-15)
    assert (again.n_parameters, again.protocol) == (4, "lr")


def test_backends_are_chosen_by_what_the_weights_are():
    w = torch.ones(2, 3)
    assert IsotropicNoise(3).choose_backend(w) == "compiled"
    assert IsotropicNoise(3).choose_backend(w.double()) == "tensor"
    assert IsotropicNoise(3, backend="tensor").choose_backend(w) == "tensor"
