"""200 seeds of all starts and teachers, without training: finite, and none of them dead or beyond the edge of stability."""

import numpy as np
import pytest
import torch

from thermolab.instruments.curvature import HessianProducts, largest_eigenvalue
from thermolab.phenomena.progressive_sharpening import architectures, cause, edge, starts, switch, two_layers
from thermolab.systems import embedded_linear as views
from thermolab.systems.full_batch import FullBatch

SEEDS = range(200)


@pytest.mark.parametrize("activation", ["linear", "tanh", "relu"])
def test_two_layers_start_below_the_edge(activation):
    net = two_layers.learner(two_layers.IMBALANCED, activation, width=12)
    weights = torch.cat([net.start(torch.arange(1), seed) for seed in SEEDS])
    assert torch.isfinite(weights).all()
    sharp = two_layers.sharpness(net, weights / 2, activation)  # as `switch` starts
    assert sharp.min() > 0
    assert (sharp * switch.ETA[activation]).max() < 2
    sharp = two_layers.sharpness(net, weights, activation)  # as `starts` does
    assert (sharp * starts.ETA["sgd"]).max() < 2


def test_teachers_answer_in_all_their_outputs():
    x = np.random.default_rng(0).standard_normal((64, 5))
    for seed in SEEDS:
        spread = two_layers.own_kind(5, "tanh", seed=seed)(x).std(0)
        assert 0.05 < spread.min() <= spread.max() < 5


def test_views_can_be_learnt():
    for seed in SEEDS:
        v = views.target(np.linspace(1.3, 0.7, 5), 6, seed=seed)
        np.testing.assert_allclose(np.linalg.svd(v, compute_uv=False), np.linspace(1.3, 0.7, 5))
        for k in range(2):
            view = views.view(6, 5, stretch=cause.STRETCH, seed=2 * seed + k)
            assert all(np.linalg.cond(m) < 3.1 for m in (view.inputs, view.answers)), seed


def test_perceptrons_start_flatter_than_most_of_their_edges():
    """On the images of one seed: a few starts are beyond the edge of the largest rate, from where they come down."""
    net, found = edge.digits(60), []
    for seed in SEEDS:
        hessian = HessianProducts(net, edge.SCALE * net.start(torch.arange(1), seed)[0], net.data.x, net.data.y)
        found.append(largest_eigenvalue(hessian, looks=1, most=12).value)
    assert min(found) > 0
    assert max(found) < 2 / sorted(edge.ETAS)[-2]
    assert np.mean(np.array(found) > 2 / max(edge.ETAS)) < 0.2


@pytest.mark.parametrize("name", architectures.NETWORKS)
def test_other_networks_start_flatter_than_their_edge(name):
    """On the images of one seed: all of them finite, and the sharpness of every tenth."""
    net, eta = FullBatch(architectures.NETWORKS[name](), edge.answers(20), loss="squared"), 0.1
    assert max(architectures.architectures.checked()["etas"]) == eta
    starts = torch.cat([edge.SCALE * net.start(torch.arange(1), seed) for seed in SEEDS])
    gradients = net.gradients(starts, 1, 20, 0, torch.arange(len(starts)))[0]
    assert torch.isfinite(gradients).all()
    assert (gradients.norm(dim=1) > 0).all()
    for start in starts[::10]:
        hessian = HessianProducts(net, start, net.data.x, net.data.y)
        assert 0 < largest_eigenvalue(hessian, looks=1, most=8).value < 2 / eta
