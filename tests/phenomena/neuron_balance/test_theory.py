"""Closed forms of balance against dense minimisation of F_η = L + (η/4) E|g|² over all weights, with gradients by autograd.

The samples are all pairs of an input ±√(d λ_k) v_k and a residual built likewise from Σ_ε: their covariances are exact and
they are independent exactly, so E|g|² over them has no sampling error.
"""

import math

import numpy as np
import pytest
import torch
from scipy import optimize
from torch.autograd.functional import hessian
from torch.func import functional_call, grad, vmap

from thermolab.phenomena.common import linear_theory
from thermolab.phenomena.neuron_balance import theory
from thermolab.systems import teacher_student

RNG = np.random.default_rng(3)


def covariance(d, seed, ratio=3.0):
    """A full covariance matrix with eigenvalues from 1 to ratio, over their mean."""
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    values = np.linspace(1, ratio, d)
    return (q * (values / values.mean())) @ q.T


def corners(cov):
    """2d points of mean 0 and this covariance."""
    values, vectors = np.linalg.eigh(cov)
    half = (vectors * np.sqrt(len(cov) * values)).T
    return np.concatenate([half, -half])


class Dense:
    """L and E|g|² of the loss |W₂W₁x - Vx - ε|² as functions of all weights, float64."""

    def __init__(self, target, noise, inputs, width):
        self.shapes = [(width, target.shape[1]), (len(target), width)]
        x, e = corners(inputs), corners(noise)
        pairs = [(a, target @ a + b) for a in x for b in e]
        self.x, self.y = (torch.tensor(np.array(v)) for v in zip(*pairs, strict=True))

    def split(self, w):
        (h, d_x), (d_y, _) = self.shapes
        return w[: h * d_x].view(h, d_x), w[h * d_x :].view(d_y, h)

    def loss(self, w, x, y):
        first, second = self.split(w)
        return (second @ (first @ x) - y).square().sum()

    def energy(self, w):
        return vmap(self.loss, (None, 0, 0))(w, self.x, self.y).mean()

    def second_moment(self, w, batch_size=1):
        g = vmap(grad(self.loss), (None, 0, 0))(w, self.x, self.y)
        full = g.mean(0).square().sum()
        return full + (g.square().sum(1).mean() - full) / batch_size

    def minimise(self, function, start):
        def value(w):
            w = torch.tensor(w, requires_grad=True)
            f = function(w)
            f.backward()
            return f.item(), w.grad.numpy()

        found = optimize.minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 4000})
        assert np.abs(found.jac).max() < 1e-5
        return torch.tensor(found.x)


CASES = {
    "square": (np.diag([1.0, 0.6]), covariance(2, 1), np.eye(2), 2),
    "wide, everything general": (RNG.normal(size=(2, 3)), covariance(2, 2), covariance(3, 3), 3),
    "tall, more neurons than needed": (RNG.normal(size=(3, 2)), covariance(3, 4), covariance(2, 5), 4),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_are_where_F_is_least(case):
    """The distance of the norms from the closed form is of first order in η: extrapolated to 0 it vanishes."""
    target, noise, inputs, width = CASES[case]
    dense, start = Dense(*CASES[case]), np.random.default_rng(0).normal(size=sum(target.shape) * width) * 0.7
    found = []
    for eta in (0.004, 0.002):
        w = dense.minimise(lambda w, eta=eta: dense.energy(w) + eta / 4 * dense.second_moment(w), start)
        found.append([float(m.square().sum()) for m in dense.split(w)])
        start = w.numpy()
    first, second = np.array(found)
    known = np.array(linear_theory.norms(target, noise, inputs))
    assert abs(second / known - 1).max() < 0.02
    np.testing.assert_allclose(2 * second - first, known, rtol=2e-4)


@pytest.mark.parametrize("case", CASES)
def test_layers_make_the_target_and_no_other_point_of_the_orbit_is_better(case):
    target, noise, inputs, width = CASES[case]
    dense = Dense(*CASES[case])
    first, second = linear_theory.optimal_layers(target, noise, inputs, width)
    np.testing.assert_allclose(second @ first, target, atol=1e-12)

    def second_moment(a, b):
        return float(dense.second_moment(torch.tensor(np.concatenate([a.ravel(), b.ravel()]))))

    least = second_moment(first, second)
    rng = np.random.default_rng(1)
    for size in (1e-3, 0.1, 0.5):
        change = np.eye(width) + size * rng.normal(size=(width, width))
        assert second_moment(change @ first, second @ np.linalg.inv(change)) > least
    d = np.linalg.svd(linear_theory.root(noise) @ target @ linear_theory.root(inputs), compute_uv=False)
    assert least == pytest.approx(8 * math.sqrt(np.trace(inputs) * np.trace(noise)) * d.sum())


@pytest.mark.parametrize(("d_y", "inputs"), [(2, np.eye(2)), (3, np.eye(2)), (2, covariance(3, 7))])
def test_soft_threshold_is_the_minimum_of_F(d_y, inputs):
    """Singular values at the minimum of F_η to first order in η/B; the smallest is cut off altogether."""
    d_x, sigma, batch_size = len(inputs), 1.3, 4
    rng = np.random.default_rng(2)
    p, q = (np.linalg.qr(rng.normal(size=(d, 2)))[0] for d in (d_y, d_x))
    values, vectors = np.linalg.eigh(inputs)
    root = (vectors * np.sqrt(values)) @ vectors.T
    spectrum = np.array([1.0, 0.004])
    target = (p * spectrum) @ q.T @ np.linalg.inv(root)
    dense, lost = Dense(target, sigma**2 * np.eye(d_y), inputs, 2), []
    start = np.random.default_rng(0).normal(size=2 * (d_x + d_y)) * 0.5
    for eta in (0.02, 0.01):
        w = dense.minimise(lambda w, eta=eta: dense.energy(w) + eta / 4 * dense.second_moment(w, batch_size), start)
        first, second = dense.split(w)
        s = np.linalg.svd(second.numpy() @ first.numpy() @ root, compute_uv=False)
        tau = theory.threshold(eta, batch_size, sigma, d_y, np.trace(inputs))
        assert tau > spectrum[1]
        np.testing.assert_allclose(s, theory.soft_threshold(spectrum, tau), atol=0.12 * tau)
        lost.append((1 - s[0]) / tau)
    assert 2 * lost[1] - lost[0] == pytest.approx(1, abs=0.005)


def test_curvature_and_the_flattest_point_of_an_orbit():
    target, width = RNG.normal(size=(3, 2)), 3
    dense = Dense(target, np.eye(3), np.eye(2), width)
    first = RNG.normal(size=(width, 2))
    second = target @ np.linalg.pinv(first)

    def by_autograd(a, b):
        h = hessian(dense.energy, torch.tensor(np.concatenate([a.ravel(), b.ravel()])))
        return torch.linalg.eigvalsh(h)[-1].item(), h.trace().item()

    assert linear_theory.hessian_top_and_trace(first, second) == pytest.approx(by_autograd(first, second))
    lam, trace = linear_theory.flattest(target)

    def on_orbit(flat, k):
        change = np.eye(width) + flat.reshape(width, width)
        return linear_theory.hessian_top_and_trace(change @ first, second @ np.linalg.inv(change))[k]

    for k, least in ((0, lam), (1, trace)):
        found = min(
            optimize.minimize(on_orbit, rng.normal(size=width**2) * 0.3, args=(k,), method="Powell", options={"maxiter": 40}).fun
            for rng in map(np.random.default_rng, range(2))
        )
        assert least * (1 - 1e-9) < found < least * 1.03


def test_balanced_layers_are_flattest_only_for_balanced_noise_and_equal_dimensions():
    def sharpness(d_x, d_y, noise):
        target = np.eye(d_y, d_x)
        return (
            linear_theory.hessian_top_and_trace(*linear_theory.optimal_layers(target, np.diag(noise) ** 2))[0]
            / linear_theory.flattest(target)[0]
        )

    assert sharpness(4, 4, [1.0] * 4) == pytest.approx(1)
    assert sharpness(8, 2, [1.0] * 2) == pytest.approx((2 + 0.5) / 2)  # the trace is least there, λ_max is not
    assert sharpness(4, 4, [2.0, 1, 1, 1]) > 1.1


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_decay_shift_holds_at_every_step(activation):
    """|u|² - |w|² under a step is (1 - a)² of what it was, and η²(|g_u|² - |g_w|²); so where it stands still the shift holds."""
    eta, lam = 0.1, 0.7
    net = teacher_student.network((4, 3, 2), activation).double()
    weights = {
        k: torch.randn(p.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        for k, p in net.named_parameters()
    }
    x, y = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    g = grad(lambda w: (functional_call(net, w, (x,)) - y).square().sum(-1).mean())(weights)
    after = {k: w - eta * (g[k] + lam * w) for k, w in weights.items()}

    def difference(w):
        names = list(w)
        return sum(w[k].reshape(3, -1).square().sum(1) for k in names[:-1]) - w[names[-1]].square().sum(0)

    change = (difference(after) - difference(weights)) / eta**2
    held = difference(g) - theory.decay_shift(eta, lam) * difference(weights)
    torch.testing.assert_close(change, held, rtol=1e-10, atol=1e-10)


def test_relaxation_is_that_of_gradient_flow_on_F():
    """One neuron from d_x inputs to d_y outputs, a little out of balance, under dθ/dt = -η ∇F at a small η."""
    (d_x, d_y), sigma, eta, batch_size = (3, 2), 0.8, 1e-3, 4
    rng = np.random.default_rng(0)
    u, w = (v / np.linalg.norm(v) for v in (rng.normal(size=d_x), rng.normal(size=d_y)))
    dense = Dense(np.outer(w, u), sigma**2 * np.eye(d_y), np.eye(d_x), 1)

    def log_ratio(s):
        """At a neuron scaled by e^s off balance, and its rate of change by ∇F projected on the orbit."""
        a, b = u * (d_x / d_y) ** 0.25 * math.exp(s), w * (d_y / d_x) ** 0.25 * math.exp(-s)
        point = torch.tensor(np.concatenate([a, b]), requires_grad=True)
        f = dense.energy(point) + eta / 4 * dense.second_moment(point, batch_size)
        (g,) = torch.autograd.grad(f, point)
        along = np.concatenate([a, -b])
        return 4 * s, -4 * eta * float(g.numpy() @ along) / float(along @ along)

    ratio, rate = log_ratio(1e-4)
    assert -ratio / rate == pytest.approx(theory.relaxation_steps(eta, batch_size, sigma, d_x, d_y), rel=1e-3)


def test_too_narrow_a_network_is_refused():
    with pytest.raises(ValueError, match="width=1 is too small for a target of rank 2"):
        linear_theory.optimal_layers(np.eye(2), np.eye(2), width=1)
