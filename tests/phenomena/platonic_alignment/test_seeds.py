"""200 seeds of all that is drawn at random before training: targets, views, data, starts. Nothing is trained."""

import numpy as np
import pytest
import torch

from thermolab.phenomena.platonic_alignment import digits, networks, neural_collapse, theory
from thermolab.systems import embedded_linear, models
from thermolab.systems.network import NetworkOnData

SEEDS = range(200)


def test_each_seed_has_a_target_and_two_views_whose_minimum_of_f_is_known():
    task, shapes = networks.Task(), networks.Shapes()
    for seed in SEEDS:
        v = task.target(seed)
        np.testing.assert_allclose(np.linalg.svd(v, compute_uv=False), task.spectrum)
        for which, (depth, _) in enumerate(shapes.each):
            view = task.view(2 * seed + which)
            low, high = task.stretch
            for matrix, times in ((view.inputs, 2), (view.answers, 1)):
                values = np.linalg.svd(matrix, compute_uv=False)
                assert low**times * 0.999 < values.min() <= values.max() < high**times * 1.001
            matrices, q = theory.minimum(view, v, task.noise, depth)
            np.testing.assert_allclose(view.answers @ np.linalg.multi_dot(matrices[::-1]) @ view.inputs, v, atol=1e-9)
            assert 0 < theory.rate(matrices, q, 16) < np.inf
            assert 0 < theory.sharpness(view, matrices) < 100  # 2/λ_max = 0.02: above the η of all recipes


def test_each_seed_has_starts_of_the_usual_size():
    _, both = networks.pair(networks.Shapes(), networks.Task(), 0)
    for one in both:
        weights = torch.cat([embedded_linear.start(one.net, [0, 1, 2, 3], seed, scale=networks.START) for seed in SEEDS])
        for m in embedded_linear.matrices(one.net, weights):
            sizes = m.flatten(1).std(1) / (networks.START * np.sqrt(2 / m.shape[2]))
            assert 0.6 < sizes.min() <= sizes.max() < 1.5


@pytest.mark.parametrize(("which", "shape"), [(0, (48, 48)), (1, (32, 32, 32))])
def test_each_start_on_digits_passes_something_on(which, shape):
    learnt, x, _ = digits.noisy_digits(0.5, which)
    net = NetworkOnData(models.mlp((digits.KEPT, *shape, 10)), learnt, "lr", loss="squared")
    weights = torch.cat([embedded_linear.start(net, [0, 1, 2, 3], seed, scale=digits.LECUN) for seed in SEEDS])
    layers = embedded_linear.hidden(net, weights, x[:50].to(weights.dtype), ends=True)[1:]
    for h in layers:
        assert torch.isfinite(h).all()
        assert (h.flatten(1).abs().amax(1) > 0.1).all()
        assert h.abs().max() < 100


def test_each_seed_has_classes_that_lie_alike():
    for seed in SEEDS:
        learnt, truth = neural_collapse.task("labels", 0.3, n_data=500, seed=seed)
        assert torch.isfinite(learnt.x).all()
        assert torch.isfinite(learnt.y).all()
        assert (np.bincount(truth) == 100).all()
