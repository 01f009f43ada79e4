"""Networks that learn a teacher: exact covariances of the data, the best network, the matrices of the layers."""

import numpy as np
import pytest
import torch

from thermolab.systems import regression, teacher_student


def test_samples_have_exact_moments():
    x, e = regression.samples([1.0, 2.0], [0.5, 1.0, 3.0], n_data=500, seed=3)
    z = np.concatenate([x, e], 1)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(z.T @ z / 500, np.diag([1, 4, 0.25, 1, 9]), atol=1e-12)


def test_the_best_linear_network_is_the_target():
    target = np.random.default_rng(0).normal(size=(3, 2))
    net = teacher_student.student((2, 4, 3), lambda x: x @ target.T, "linear", [1.0, 2.0, 3.0], n_data=400)
    found = torch.linalg.lstsq(net.data.x.double(), net.data.y.double())
    np.testing.assert_allclose(found.solution.T, target, atol=1e-6)


@pytest.mark.parametrize("activation", teacher_student.ACTIVATIONS)
def test_neurons_of_a_teacher_are_of_equal_length_and_do_different_things(activation):
    net = teacher_student.teacher(6, 4, 5, activation, strength=2.0, seed=3)
    first, second = net[0].weight.detach(), net[-1].weight.detach()
    np.testing.assert_allclose(first @ first.T, 2 * np.eye(4), atol=1e-6)
    np.testing.assert_allclose(second.T @ second, 2 * np.eye(4), atol=1e-6)
    if activation == "linear":
        assert net[0].bias is None
    else:
        np.testing.assert_allclose(net[0].bias.detach().square(), 0.09 * 2, rtol=1e-5)


@pytest.mark.parametrize("activation", teacher_student.ACTIVATIONS)
def test_matrices_of_the_layers_compute_what_the_network_does(activation):
    """A bias is the last column of its layer, for an input that is always 1."""
    net = teacher_student.student((3, 5, 2), lambda x: x[:, :2], activation, [1.0, 1.0], n_data=100)
    weights = torch.randn(2, net.replicas.n_parameters, generator=torch.Generator().manual_seed(0))
    first, second = teacher_student.weight_matrices(net, weights)
    x = net.data.x[:10].double()
    inputs = x if activation == "linear" else torch.cat([x, torch.ones(10, 1)], 1)
    f = {"relu": torch.relu, "tanh": torch.tanh, "linear": lambda h: h}[activation]
    for r in range(2):
        torch.nn.utils.vector_to_parameters(weights[r], net.replicas.module.parameters())
        by_hand = f(inputs @ first[r].T) @ second[r].T
        np.testing.assert_allclose(by_hand, net.replicas.module(net.data.x[:10]).detach(), rtol=1e-4, atol=1e-5)
