"""Closed forms of alignment against minimisation, sampled gradients, dense Hessians and finite differences."""

import numpy as np
import pytest
import torch
from embedded import DATA, case, product

from thermolab.instruments.alignment import cka, layer_cka
from thermolab.phenomena.common import linear_theory
from thermolab.phenomena.platonic_alignment import descent, minimum, theory
from thermolab.systems import embedded_linear


def test_free_energy_against_sampled_gradients_and_finite_differences():
    v, view, w = case()
    rng, n, batch = np.random.default_rng(0), 50_000, 4
    x = rng.standard_normal((n, batch, 3)) * DATA["inputs"]
    y = x @ v.T + rng.standard_normal((n, batch, 2)) * DATA["noise"]
    before = [x @ view.inputs.T]
    for m in w:
        before.append(before[-1] @ m.T)
    error = before[-1] @ view.answers.T - y
    back, g2 = 2 / batch * error @ view.answers, 0.0
    for m, h in zip(w[::-1], before[-2::-1], strict=True):
        g2 += np.square(np.swapaxes(back, 1, 2) @ h).sum((1, 2)).mean()
        back = back @ m
    how = (v, DATA["noise"], 0.3, DATA["inputs"], batch)
    loss, found, slopes = theory.free_energy(view, w, *how)
    assert loss == pytest.approx(np.square(error).sum(-1).mean(), rel=0.02)
    assert found == pytest.approx(g2, rel=0.03)
    for i in range(3):
        moved = [[m + (k == i) * s * 1e-5 * np.eye(*m.shape) for k, m in enumerate(w)] for s in (1, -1)]
        high, low = (f[0] + 0.3 / 4 * f[1] for f in (theory.free_energy(view, m, *how) for m in moved))
        assert np.trace(slopes[i]) == pytest.approx((high - low) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("depth", [2, 4])
def test_minimum_and_kernel_against_dense_minimisation(depth):
    """L-BFGS from random weights finds the same kernel in all hidden layers, and the same least E|g|²."""
    v, view, w = case(depth, seed=depth)
    found, loss, g2 = minimum.least(view, w, v, DATA["noise"], 1e-4, inputs=DATA["inputs"], batch_size=3)
    best, q = theory.minimum(view, v, DATA["noise"], depth, DATA["inputs"])
    assert g2 == pytest.approx(4 * depth * q / 3, rel=5e-3)
    assert loss == pytest.approx(np.square(DATA["noise"]).sum(), rel=1e-4)
    np.testing.assert_allclose(product(view, best), v, atol=1e-12)
    assert theory.free_energy(view, best, v, DATA["noise"], 0.0, DATA["inputs"], 3)[1] == pytest.approx(4 * depth * q / 3)
    x = embedded_linear.probe(DATA["inputs"], 32).numpy()
    rooted = x @ linear_theory.root(theory.kernel(v, DATA["noise"], DATA["inputs"]))
    for matrices, least in ((found, 1 - 1e-5), (best, 1 - 1e-12)):
        assert layer_cka(descent.features(view, matrices, x)[1:-1], [rooted]).min() > least
    assert cka(rooted, x) < 0.99  # so that the comparison can fail


def test_kernel_is_the_printed_formula():
    v, noise, scale = embedded_linear.target((1.5, 0.5), 3), np.diag([1.0, 0.36]), np.diag([1.3, 1.0, 0.7])
    inner = linear_theory.root(scale @ v.T @ noise @ v @ scale)
    expected = np.linalg.inv(scale) @ inner @ np.linalg.inv(scale)
    np.testing.assert_allclose(theory.kernel(v, [1.0, 0.6], DATA["inputs"]), expected, atol=1e-7)


def test_sharpness_against_the_dense_hessian():
    v, view, _ = case()
    best, _ = theory.minimum(view, v, DATA["noise"], 3, DATA["inputs"])
    shapes = [m.shape for m in best]
    m_in, m_out = torch.tensor(view.inputs * np.array(DATA["inputs"])), torch.tensor(view.answers)

    def loss(flat):
        w = [p.view(s) for p, s in zip(flat.split([a * b for a, b in shapes]), shapes, strict=True)]
        return (m_out @ w[2] @ w[1] @ w[0] @ m_in - torch.tensor(v * DATA["inputs"])).square().sum()

    hessian = torch.autograd.functional.hessian(loss, torch.tensor(np.concatenate([m.ravel() for m in best])))
    assert theory.sharpness(view, best, DATA["inputs"]) == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]))


def test_recommended_settings_follow_depth_batch_views_and_noise():
    known = {"spectrum": DATA["spectrum"], "noise": DATA["noise"], "inputs": DATA["inputs"]}
    flat, steps = theory.recommended((2, 3), **known)
    steep, more = theory.recommended((2, 6), **known)
    assert steep < flat
    assert more > steps
    assert theory.recommended((2, 3), **known, batch_size=32) == (flat, pytest.approx(2 * steps, abs=2))
    assert theory.recommended((2, 3), **known, eta=flat / 2) == (flat / 2, pytest.approx(4 * steps, abs=4))
    assert theory.recommended((2, 3), **known, eta=1e-6) == (1e-6, theory.LONGEST)
    eta, longer = theory.recommended((2, 3), **known, stretch=(0.4, 1.8))
    assert longer * eta**2 > 2 * steps * flat**2  # what is seen faintly aligns slowly
    loud = known | {"noise": (10.0, 6.0)}
    assert theory.recommended((2, 3), **loud)[0] < flat / 4  # λ_max alone would ask for a third
    assert theory.recommended((2, 3), **loud, batch_size=10**6)[0] > flat / 4


@pytest.mark.parametrize("depth", [2, 4])
def test_rate_of_alignment_against_the_second_derivative_on_the_orbit(depth):
    """h_k → exp(A) h_k with the same A everywhere: the cost, over the square of how far the weights move."""
    v, view, _ = case(depth)
    best, q = theory.minimum(view, v, DATA["noise"], depth, DATA["inputs"])
    a, step, g2 = np.array([[0.0, 1.0], [1.0, 0.0]]), 1e-3, []  # A² = 1
    for s in (-step, 0.0, step):
        turn, back = (np.cosh(s) * np.eye(2) + np.sinh(x) * a for x in (s, -s))
        moved = [turn @ best[0], *(turn @ w @ back for w in best[1:-1]), best[-1] @ back]
        g2.append(theory.free_energy(view, moved, v, DATA["noise"], 0.0, DATA["inputs"], 3)[1])
    curvature = (g2[0] - 2 * g2[1] + g2[2]) / step**2
    way = np.square(a @ best[0]).sum() + np.square(best[-1] @ a).sum()
    assert theory.rate(best, q, 3) == pytest.approx(curvature / way / 4, rel=1e-4)  # weights move by -(η²/4) dE|g|²/dW a step
