"""Every start of the phenomenon at 200 seeds, without training: finite weights, a loss and a gradient for a first step."""

import pytest
import torch

from thermolab.engine import recipe
from thermolab.phenomena.temperature_collapse import convnets, networks, ordinary, plateau, theory
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.sphere_quadric import QuadricPoints

SEEDS = [recipe.seeds(seed, 1)[0] for seed in range(200)]
NETS = {
    "narrow, BatchNorm": networks.system(networks.UP, norm="batch"),
    "narrow": networks.system(networks.UP),
    "wide": networks.system(networks.OP),
    "narrowest": networks.system(4, norm="batch"),
    **{
        f"ConvNet {arm}": NetworkOnData(models.scale_invariant_cnn(channels), data.digits(64, label_noise=0.3), "sphere")
        for arm, (channels, _) in convnets.ARMS.items()
    },
    "ordinary": ordinary.system(),
    "plateau": plateau.system(),
}
STARTS = {"ordinary": ordinary.start, "plateau": plateau.start}


@pytest.mark.parametrize("name", NETS)
def test_a_network_can_take_its_first_step(name):
    net = NETS[name]
    for seed in SEEDS:
        weights = STARTS[name](net, 2, seed) if name in STARTS else net.start(torch.arange(2), seed)
        size = torch.linalg.vector_norm(weights, dim=1)
        assert ((size > 0.1) & (size < 100)).all(), seed
        gradient, (x, y) = torch.empty_like(weights), next(net.batches(seed, torch.arange(2), 0, 1, 32))
        with torch.no_grad():
            loss = net.replicas.loss_and_gradient(weights, x, y, gradient)
        assert (torch.isfinite(loss) & (loss < 20)).all(), seed
        assert torch.isfinite(gradient).all(), seed
        assert (torch.linalg.vector_norm(gradient, dim=1) > 0).all(), seed


@pytest.mark.parametrize("points", [theory.UNDER, theory.OVER])
def test_points_start_above_their_minimum(points):
    system, best = QuadricPoints(theory.aligned(points), 1), theory.minimum(points).loss
    for seed in SEEDS:
        weights = system.start(torch.arange(64), seed)
        assert abs(torch.linalg.vector_norm(weights, dim=1) - 1).max() < 1e-9
        log_loss = system.readings(weights)["log_U"]
        assert torch.isfinite(log_loss).all(), seed
        assert float(log_loss.exp().mean()) > best, seed
