"""Scale invariance is measured, and the pressure on the sphere knows what was found."""

import numpy as np
import pytest
import torch
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.systems import models
from thermolab.systems.data import digits
from thermolab.systems.invariance import scale_invariance
from thermolab.systems.network import NetworkOnData


def partly():
    """Scale-invariant layers under a head that is trained."""
    return nn.Sequential(nn.Linear(64, 6, bias=False), nn.LayerNorm(6, elementwise_affine=False), nn.Linear(6, 10))


INVARIANT = {"batch": True, "layer": True, "cnn": True, "mlp": False, "partly": False, "homogeneous": False, "large eps": False}
KINDS = {
    "batch": lambda: models.scale_invariant_mlp((64, 6), norm="batch"),
    "layer": lambda: models.scale_invariant_mlp((64, 6), norm="layer"),
    "cnn": lambda: models.scale_invariant_cnn((2,), size=8),
    "mlp": lambda: models.mlp((64, 6, 10)),
    "partly": partly,
    "homogeneous": lambda: models.mlp((64, 6, 10), bias=False),
    "large eps": lambda: nn.Sequential(
        nn.Linear(64, 6, bias=False),
        nn.LayerNorm(6, eps=1e-1, elementwise_affine=False),
        nn.ReLU(),
        models.frozen_head(6, 10, 10.0),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0.3, 1.0, 20.0])
def test_scale_invariance_is_measured(kind, length):
    system = NetworkOnData(KINDS[kind](), digits(60))
    w = system.start(torch.arange(3), 2)
    found = scale_invariance(system, w / w.norm(dim=1, keepdim=True) * length)
    assert found.holds.tolist() == [INVARIANT[kind]] * 3
    w[1] = float("nan")
    assert not scale_invariance(system, w).holds[1]


def pressure_by_hand(kind, system, w, eta, seed):
    """(|w - η r² g| - r)/(η r³) of one step from weights [R, P], with gradients of plain modules."""
    x, y = (t.clone() for t in next(iter(system.batches(seed, torch.arange(len(w)), 0, 1, 16))))
    found = []
    for r, row in enumerate(w.double()):
        module = KINDS[kind]().double()
        trained = [p for p in module.parameters() if p.requires_grad]
        nn.utils.vector_to_parameters(row, trained)
        g = torch.autograd.grad(nn.functional.cross_entropy(module(x[r].double()), y[r]), trained)
        g, length = torch.cat([k.flatten() for k in g]), row.norm()
        found.append(float(((row - eta * length**2 * g).norm() - length) / (eta * length**3)))
    return np.array(found)


@pytest.mark.parametrize("backend", ["auto", "batched", "autograd", "loop"])
@pytest.mark.parametrize("kind", ["mlp", "layer"])
def test_the_pressure_on_the_sphere_is_what_the_projection_takes(kind, backend):
    """Also where the gradient has a part along w, of the first order in η; the control leaves it out."""
    system = NetworkOnData(KINDS[kind](), digits(60), "sphere", backend=backend)
    w = system.start(torch.arange(3), 2)
    w *= 2 / w.norm(dim=1, keepdim=True)
    run = Experiment(system, eta=0.05, batch_size=16, seed=4, weights=w)
    run.advance(1)
    p, expected = run.frame().observables["p"], pressure_by_hand(kind, system, w, 0.05, 4)
    np.testing.assert_allclose(p, expected, rtol=1e-3, atol=1e-5)
    blind = NetworkOnData(KINDS[kind](), digits(60), "sphere", backend=backend)
    blind._invariant = True
    run = Experiment(blind, eta=0.05, batch_size=16, seed=4, weights=w)
    run.advance(1)
    assert np.allclose(run.frame().observables["p"], expected, rtol=0.05) == (kind == "layer")
