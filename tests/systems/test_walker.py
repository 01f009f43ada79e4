"""The scale-invariant walker: its step against autograd, its random numbers, its mean squared gradient in closed form."""

import numpy as np
import pytest
import torch

from thermolab.engine.experiment import Experiment
from thermolab.systems import walker
from thermolab.systems.walker import ScaleInvariantWalker


@pytest.mark.parametrize("dim", [2, 3, 7])
def test_one_step_is_that_of_autograd(dim):
    """The gradient of (f − y)² for the sample that g was made of, and its place in the update."""
    system = ScaleInvariantWalker(dim)
    run = Experiment(system, eta=0.1, lam=0.2, sigma=0.7, replicas=4, seed=3)
    before = run.state.weights.clone() * torch.tensor([0.5, 1.0, 2.0, 3.0])[:, None]
    run = Experiment(system, eta=0.1, lam=0.2, sigma=0.7, weights=before, seed=3)
    run.advance(1)
    z = walker.normals(3, torch.arange(4), 0, 1, dim + 1)[0]
    w = before.clone().requires_grad_()
    f = (w * z[:, :dim]).sum(1) / w.norm(dim=1)
    (g,) = torch.autograd.grad(((f - z[:, 0] - 0.7 * z[:, dim]) ** 2).sum(), w)
    torch.testing.assert_close(run.state.weights, before - 0.1 * (g + 0.2 * before))
    frame = run.frame()
    np.testing.assert_allclose(frame.observables["push"], (g * g).sum(1))
    np.testing.assert_allclose(frame.observables["g2"], (g * g).sum(1) * (before * before).sum(1))


def test_normals_are_normal():
    z = walker.normals(0, torch.arange(50), 7, 400, 5).numpy()
    assert z.shape == (400, 50, 5)
    n = z.size
    assert abs(z.mean()) < 4 / np.sqrt(n)
    assert abs((z**2).mean() - 1) < 4 * np.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 4 * np.sqrt(96 / n)
    assert abs(np.corrcoef(z.reshape(-1, 5).T) - np.eye(5)).max() < 5 / np.sqrt(n / 5)


@pytest.mark.parametrize(("dim", "cosine"), [(2, 1.0), (2, 0.2), (5, -0.6)])
def test_mean_squared_gradient(dim, cosine):
    """At a fixed angle, for learning rates so small that it stays: |w|² E|g|² and the loss."""
    weights = torch.zeros(2000, dim, dtype=torch.float64)
    weights[:, 0], weights[:, 1] = 3 * cosine, 3 * np.sqrt(1 - cosine**2)
    run = Experiment(ScaleInvariantWalker(dim), eta=1e-12, sigma=0.8, weights=weights)
    run.advance(20)
    found = run.frame().observables
    error = found["g2"].std() / np.sqrt(2000)
    assert abs(found["g2"].mean() - walker.moment(cosine, dim, 0.8)) < 4 * error
    assert error < 0.03 * found["g2"].mean()
    np.testing.assert_allclose(found["U"], 0.64 + 2 - 2 * cosine, atol=1e-9)


def test_each_step_adds_its_squared_length():
    run = Experiment(ScaleInvariantWalker(3), eta=0.3, sigma=1.0, replicas=5, seed=1)
    run.advance(50)
    np.testing.assert_allclose((run.state.weights**2).sum(1), 1 + 0.09 * 50 * run.frame().observables["push"], rtol=1e-13)


@pytest.mark.parametrize("dim", [1, 2.5])
def test_a_dimension_that_is_none_is_refused(dim):
    with pytest.raises(ValueError, match=f"dim={dim} is no dimension; allowed: whole numbers from 2"):
        ScaleInvariantWalker(dim)
