"""Every start of notebook 00 at two hundred seeds, without training: finite, and with a finite loss and slope that are not 0."""

import numpy as np
import pytest
import torch

from thermolab.phenomena.irreversibility import cloud, continual, symmetry_recipes
from thermolab.phenomena.irreversibility.landscape import Landscape
from thermolab.phenomena.irreversibility.symmetries import TABLE
from thermolab.systems import data, models
from thermolab.systems.bowl import HESSIAN
from thermolab.systems.network import NetworkOnData

SEEDS = range(200)


@pytest.mark.slow
def test_landscapes_have_a_slope_and_a_largest_curvature():
    for seed in SEEDS:
        land = Landscape(seed=seed)
        gradient, bend = land.slopes(land.start)
        assert 0 < float(gradient.norm()) < 1e3
        assert 0 < float(bend.norm()) < 1e5
        assert 0.1 < land.sharpness() < 1e3


@pytest.mark.parametrize("name", TABLE)
def test_rows_of_the_table_have_losses_and_gradients(name):
    row = TABLE[name]
    drawn = (symmetry_recipes._drawn(row, seed, "cpu")[:3] for seed in SEEDS)
    theta, x, y = map(torch.stack, zip(*drawn, strict=True))
    losses, entropy = torch.vmap(row.losses)(theta, x, y), torch.vmap(row.entropy)(theta, x, y)
    assert losses.isfinite().all()
    assert float(losses.abs().mean(1).min()) > 1e-3  # what changes of the loss are compared with
    assert entropy.isfinite().all()
    assert float(entropy.min()) > 1e-6


@pytest.mark.parametrize("hidden", [(32,), (32, 32)])
def test_perceptrons_on_digits_have_a_loss(hidden):
    images = data.digits(continual.N_TRAIN)
    net = NetworkOnData(models.mlp((64, *hidden, 10)), images, "lr")
    for seed in SEEDS:
        w = net.start(torch.arange(2), seed)
        x, y = net.data.x.expand(2, -1, -1), net.data.y.expand(2, -1)
        slope = torch.empty_like(w)
        loss = net.replicas.loss_and_gradient(w, x, y, slope)
        assert ((loss > 0.5) & (loss < 10)).all()
        assert ((slope.norm(dim=1) > 0) & slope.isfinite().all(1)).all()
        assert (continual.dead_share(net, w) < 0.5).all()


def test_targets_with_noise_are_finite():
    for seed in SEEDS:
        assert continual.noisy_digits(4, 0.3, seed).data.y.isfinite().all()


def test_clouds_start_at_rest_at_every_rate_that_is_stable():
    for eta in np.linspace(0.01, 1.95, 40):
        sigma, _ = cloud.at_rest(eta, np.diag(HESSIAN), cloud.turned(45))
        assert np.linalg.eigvalsh(sigma).min() > 0
        assert np.isfinite(cloud._drawn([sigma], 10, 0)).all()
