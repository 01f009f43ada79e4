"""For any module, data and loss what plain PyTorch gives on the same batches: losses, gradients, twenty steps, buffers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.zoo import MORE, ZOO
from thermolab.engine.experiment import Experiment
from thermolab.systems import global_random
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

STEPS, BATCH, SEED, N = 20, 6, 5, 24
ETA, LAM, STREAMS = (0.01, 0.02), (0.01, 0.0), [3, 1]
DOUBLE = 1e-10  # of twenty steps whose operations may come in another order
EVERYTHING = {**ZOO, **MORE}


def smooth(outputs, targets):
    """A loss of one's own, of outputs [..., 3] and labels [...]."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), label_smoothing=0.1) + 1e-3 * outputs.square().mean()


def plain_cross_entropy(outputs, targets):
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def plain_squared(outputs, targets):
    return (outputs - targets).square().flatten(1).sum(1).mean()


LOSSES = {"cross-entropy": plain_cross_entropy, "squared": plain_squared, smooth: smooth}


def born(animal, dtype):
    """A module of this dtype; one that has two keeps them, a traced one is what it is."""
    module = animal.born()
    parameters = list(module.parameters())
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in parameters):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            module(animal.data(2, torch.float32)[0])
    return module if len({p.dtype for p in parameters}) > 1 else module.to(dtype)


def experiment(animal, loss, dtype=torch.float64, backend="auto"):
    x, y = animal.data(N, dtype, regression=loss == "squared")
    system = NetworkOnData(born(animal, dtype), Dataset(x, y), "lr", loss, backend, starts="own")
    return Experiment(system, eta=list(ETA), lam=list(LAM), batch_size=BATCH, seed=SEED, streams=STREAMS)


def plain(animal, loss, system, dtype=torch.float64, r=0, steps=STEPS):
    """(module, its losses, its gradients at each step) of replica r by torch.optim.SGD on the same batches."""
    module, losses, gradients = born(animal, dtype), [], []
    free = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(free, lr=ETA[r], weight_decay=LAM[r])
    for step, (x, y) in enumerate(system.batches(SEED, torch.tensor(STREAMS), 0, steps, BATCH)):
        optimiser.zero_grad()
        with global_random.kept():
            global_random.seed(SEED, step, STREAMS[r])
            value = LOSSES[loss](module(x[r].clone()), y[r])
        value.backward()
        losses.append(value.item())
        zeros = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in free]
        gradients.append(torch.cat([g.flatten().double() for g in zeros]))
        for p in free:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.to_dense()  # λ acts on a weight without gradient too
        optimiser.step()
    weights = torch.cat([p.detach().flatten().double() for p in free])
    return module, weights, losses, gradients


def state_of(module, names):
    buffers = {f"buffers.{k}": v for k, v in module.named_buffers()}
    return {k: buffers[k] for k in names if k in buffers}


@pytest.mark.parametrize("loss", list(LOSSES), ids=["classes", "regression", "own"])
@pytest.mark.parametrize("name", EVERYTHING)
def test_twenty_steps_are_those_of_plain_torch(name, loss):
    animal = EVERYTHING[name]
    run = experiment(animal, loss)
    tolerance = DOUBLE if name != "two dtypes" else 1e-5
    for n in (1, 12, STEPS - 13):  # however a run is cut
        run.advance(n)
    energy = run.frame().observables["U"]
    for r in range(2):
        module, weights, losses, _ = plain(animal, loss, run.system, r=r)
        torch.testing.assert_close(run.state.weights[r].double(), weights, rtol=0, atol=tolerance)
        assert energy[r] == pytest.approx(sum(losses) / STEPS, abs=tolerance)
        assert (weights - run.start.weights[r]).abs().max() > 1e-3  # it has moved
        for key, value in state_of(module, run.state.memory).items():
            torch.testing.assert_close(run.state.memory[key][r], value, rtol=0, atol=tolerance)
