"""Gradients of neurons against autograd on the same batches; products of gradients in a network of three layers."""

import numpy as np
import pytest
import torch

from thermolab.engine.experiment import Experiment
from thermolab.instruments import neurons
from thermolab.systems import teacher_student


def student(activation, replicas=2):
    """A network on a noisy teacher of its kind, and random weights [R, P]."""
    net = teacher_student.student((4, 3, 2), lambda x: x[:, :2], activation, [1.0, 1.0], n_data=1000)
    return net, torch.randn(replicas, net.replicas.n_parameters, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", teacher_student.ACTIVATIONS)
def test_gradients_of_neurons_against_autograd(activation):
    """On the batches that the probe drew, one replica after the other."""
    net, weights = student(activation)
    run = Experiment(net, eta=0.1, batch_size=8, weights=weights, seed=5)
    found = neurons.neurons(*neurons.probe(run, 3))
    picked = net.batches(run.seed + 2**33, run.streams, 2**31, 3, 8)
    for k, (x, y) in enumerate(picked):
        for r in range(2):
            first, second = (m[r].clone().requires_grad_() for m in teacher_student.weight_matrices(net, weights))
            inputs = x[r].double() if activation == "linear" else torch.cat([x[r].double(), torch.ones(8, 1)], 1)
            f = {"relu": torch.relu, "tanh": torch.tanh, "linear": lambda h: h}[activation](inputs @ first.T) @ second.T
            a, b = torch.autograd.grad((f - y[r].double()).square().sum() / 8, (first, second))
            np.testing.assert_allclose(found[0][k, r], a.square().sum(1), rtol=1e-4)
            np.testing.assert_allclose(found[1][k, r], b.square().sum(0), rtol=1e-4)


def test_probes_differ_from_moment_to_moment_and_leave_no_trace():
    net, weights = student("relu")
    run, blind = (Experiment(net, eta=1e-9, batch_size=8, weights=weights, seed=5) for _ in range(2))
    looks = []
    for _ in range(2):
        run.advance(3)
        looks.append(neurons.probe(run, 2)[0])
    blind.advance(6)
    assert (run.state.weights == blind.state.weights).all()
    assert not torch.allclose(*looks, rtol=0.01)


def test_products_of_gradients_are_those_of_the_product_of_layers():
    """g_i g_iᵀ is W_{i+1}ᵀ g_K g_Kᵀ W_{i+1}, and g_{i+1}ᵀ g_{i+1} is W_i g_Kᵀ g_K W_iᵀ, in a network of three layers."""
    net = teacher_student.student((3, 4, 4, 2), lambda x: x[:, :2], "linear", [1.0, 1.0], n_data=100)
    weights = net.start(torch.arange(1), 0)
    g = [m[0, 0] for m in neurons.gradients(net, weights, 1, 8, 9, torch.arange(1))]
    first, second, third = (m[0] for m in teacher_student.weight_matrices(net, weights))
    ((x, y),) = [(x[0].double(), y[0].double()) for x, y in net.batches(9, torch.arange(1), 2**31, 1, 8)]
    product = (second @ first).requires_grad_()
    (g_k,) = torch.autograd.grad((x @ (third @ product).T - y).square().sum() / 8, product)
    np.testing.assert_allclose(g[0] @ g[0].T, second.T @ g_k @ g_k.T @ second, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(g[1].T @ g[1], first @ g_k.T @ g_k @ first.T, rtol=1e-4, atol=1e-5)
