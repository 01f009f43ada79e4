"""Closed forms of sharpness against the layers they come from and dense Hessians."""

import numpy as np
import pytest
import torch
from torch import nn

from thermolab.instruments import curvature
from thermolab.phenomena.common import linear_theory
from thermolab.phenomena.neuron_balance import theory as neuron_balance
from thermolab.phenomena.progressive_sharpening import theory
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import Answers, samples

PROFILES = [(1.0, 1.0, 1.0), (2.0, 1.0, 0.6, 0.4, 0.3), (0.5, 1.5)]


def dense(first, second, x, y) -> float:
    """λ_max by automatic differentiation, of a linear network with these layers."""
    net = nn.Sequential(*(nn.Linear(*w.shape[::-1], bias=False) for w in (first, second)))
    system = NetworkOnData(net, Answers(x, y), loss="squared")
    weights = torch.tensor(np.concatenate([first.ravel(), second.ravel()]))
    return float(torch.linalg.eigvalsh(curvature.dense(system, weights, x, y))[-1])


@pytest.mark.parametrize("profile", PROFILES)
def test_closed_form_against_the_dense_hessian_at_the_layers_of_least_noise(profile):
    d = len(profile)
    first, second = linear_theory.optimal_layers(1.7 * np.eye(d), np.diag(np.square(profile)), width=d + 2)
    x = torch.tensor(samples(np.ones(d), [], n_data=50)[0])
    found = theory.lambda_max(profile, 1.7)
    assert found == pytest.approx(dense(first, second, x, 1.7 * x), rel=1e-10)
    assert found == pytest.approx(linear_theory.hessian_top(first, second), rel=1e-10)


def test_closed_form_of_another_target_and_other_inputs():
    rng = np.random.default_rng(0)
    target, root = rng.normal(size=(3, 4)), rng.normal(size=(4, 4))
    noise, inputs = np.diag([0.5, 1.0, 2.0]), root @ root.T
    first, second = linear_theory.optimal_layers(target, noise, inputs)
    x = torch.tensor(samples(np.ones(4), [], n_data=60)[0] @ np.linalg.cholesky(inputs).T)
    assert linear_theory.hessian_top(first, second, inputs) == pytest.approx(dense(first, second, x, x @ torch.tensor(target).T))


def test_balanced_noise_alone_is_flattest_and_its_scale_does_not_matter():
    assert theory.lambda_max([0.3, 0.3], 2.0) == pytest.approx(8.0)
    for profile in PROFILES[1:]:
        assert theory.lambda_max(profile) > 4
        assert theory.lambda_max(np.multiply(7, profile)) == pytest.approx(theory.lambda_max(profile))


def test_relaxation_is_that_of_the_flow_near_balance():
    """d(b² - a²)/dt = η² (E|g_u|² - E|g_w|²) of a mode with |u| = b, |w| = a, ab = s, as in `neuron_balance.theory`."""
    profile, eta, batch_size, s = np.array([1.5, 1.0, 0.5]), 0.03, 8, 1.3
    d, total = len(profile), (profile**2).sum()
    ratio = profile / np.sqrt((profile**2).mean())  # of |u|²/s in balance

    def speed(log):
        u2, w2 = s * ratio * np.exp(log), s / ratio * np.exp(-log)
        change = eta**2 * 4 / batch_size * (d * profile**2 * w2 - total * u2)
        return change / (u2 + w2)  # of log(u2)

    rate = -(speed(1e-5) - speed(-1e-5)) / 2e-5
    np.testing.assert_allclose(theory.relaxation_steps(profile, eta, batch_size), 1 / rate, rtol=1e-6)
    np.testing.assert_allclose(theory.relaxation_steps([1.0] * 4, eta, 8), neuron_balance.relaxation_steps(eta, 8, 1.0, 4, 4))
