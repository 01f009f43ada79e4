"""Embedded linear networks: what their frozen and trained matrices make of inputs, and the features of their layers."""

import numpy as np
import pytest
import torch
from embedded import DATA, case, product
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.systems import embedded_linear, models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import Answers


def test_views_and_targets_have_the_singular_values_that_were_asked_for():
    view, v = embedded_linear.view(6, 5, stretch=(0.5, 2.0), seed=3), embedded_linear.target((3, 2, 1), 5, seed=1)
    np.testing.assert_allclose(np.linalg.svd(view.answers)[1], np.linspace(0.5, 2, 5)[::-1])
    assert abs(np.linalg.det(view.inputs)) == pytest.approx(np.prod(np.linspace(0.5, 2, 6)) ** 2)
    np.testing.assert_allclose(np.linalg.svd(v)[1], [3, 2, 1])
    assert not np.allclose(view.inputs, embedded_linear.view(6, 5, stretch=(0.5, 2.0), seed=4).inputs)


def test_a_network_is_the_product_of_its_matrices_and_frozen_ones_stay():
    v, view, _ = case()
    net = embedded_linear.network(view, 3, 4, embedded_linear.answers(v, DATA["noise"], inputs=DATA["inputs"], n_data=500))
    weights, x = embedded_linear.start(net, [0, 0, 1], 5), embedded_linear.probe(DATA["inputs"], 20)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    full = [product(view, [m[r].numpy() for m in embedded_linear.matrices(net, weights)]) for r in range(3)]
    np.testing.assert_allclose(net.replicas.outputs(weights, x.float()), x.numpy() @ np.swapaxes(full, 1, 2), atol=1e-5)
    layers = embedded_linear.hidden(net, weights, x, ends=True)
    assert [h.shape[-1] for h in layers] == [3, 4, 4, 2]
    by_hand = x.numpy() @ view.inputs.T
    for layer, matrix in zip(layers, [np.eye(3), *(m[2].numpy() for m in embedded_linear.matrices(net, weights))], strict=True):
        by_hand = by_hand @ matrix.T
        np.testing.assert_allclose(layer[2], by_hand, atol=1e-5)
    assert [h.shape[-1] for h in embedded_linear.hidden(net, weights, x)] == [4, 4]
    run = Experiment(net, eta=0.01, batch_size=8, weights=weights)
    assert net.choose_backend(run.state.weights) == "compiled"
    run.advance(20)
    np.testing.assert_allclose(net.replicas.module[0].weight, view.inputs, atol=1e-6)


def test_hidden_layers_of_a_relu_network_are_its_activations():
    net = NetworkOnData(models.mlp((3, 5, 4, 2)), Answers(torch.zeros(8, 3), torch.zeros(8, 2)), "lr", loss="squared")
    weights, x = net.start(torch.arange(2), 0), torch.randn(7, 3)
    found = embedded_linear.hidden(net, weights, x)
    for r in range(2):
        nn.utils.vector_to_parameters(weights[r], net.replicas.module.parameters())
        for a, upto in zip(found, (2, 4), strict=True):
            np.testing.assert_allclose(a[r], net.replicas.module[:upto](x).detach(), atol=1e-6)
    assert embedded_linear.hidden(net, weights, x, ends=True)[-1].shape == (2, 7, 2)


def test_the_probe_has_exact_moments():
    x = embedded_linear.probe(DATA["inputs"], 16).numpy()
    np.testing.assert_allclose(x.T @ x / 16, np.diag(np.square(DATA["inputs"])), atol=1e-12)
    assert not np.allclose(x, embedded_linear.probe(DATA["inputs"], 16, seed=1))
