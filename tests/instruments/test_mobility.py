"""How far an optimiser goes in the long run for each unit of gradient: against what torch's own optimisers do."""

import pytest
import torch

from thermolab.engine.experiment import Experiment
from thermolab.instruments import mobility
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData

STEPS = 2000
MADE = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True),
    "dampened": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, dampening=0.5),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0, amsgrad=True),
}


@pytest.mark.parametrize("name", MADE)
def test_a_constant_gradient_moves_the_weights_by_the_mobility_a_step(name):
    w = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer, g = MADE[name]([w]), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for step in range(STEPS):
        before = w.detach().clone()
        w.grad = g.clone()
        optimizer.step()
        if step < STEPS - 1:
            continue
        torch.testing.assert_close(mobility.of_optimizer(optimizer, [w]) * g, before - w.detach(), rtol=1e-6, atol=0)


def test_groups_have_rates_of_their_own_and_strangers_none():
    a, b, c = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.5, "weight_decay": 0.1}, {"params": [b]}], lr=0.1)
    assert mobility.of_optimizer(optimizer, [b, a, c]).tolist() == pytest.approx([0.1, 0.1, 0.5, 0.5, 0, 0])
    found = mobility.rates(optimizer)
    assert (found.eta, found.lam) == ([0.5, 0.1], [0.1, 0])
    assert str(found) == "SGD (η 0.5, λ 0.1, η 0.1, λ 0)"


def test_of_other_optimizers_no_mobility_is_known():
    w = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.RMSprop([w], lr=0.1)
    assert mobility.of_optimizer(optimizer, [w]).isnan().all()
    assert not mobility.rates(optimizer).known


@pytest.mark.parametrize(("optimiser", "made"), [("sgd", "sgd"), ("momentum", "momentum"), ("adam", "adam")])
def test_a_run_of_the_engine_has_the_mobility_of_its_twin(optimiser, made):
    """The same batches through torch's optimiser: weights and mobility agree, as far as float32 goes."""
    images = data.digits(64)
    net = NetworkOnData(models.mlp((64, 5, 10)), images, optimiser=optimiser)
    eta = 0.01 if optimiser == "adam" else 0.1
    run = Experiment(net, eta=eta, batch_size=8)
    twin = models.mlp((64, 5, 10))
    torch.nn.utils.vector_to_parameters(run.state.weights[0].clone(), twin.parameters())
    optimizer = MADE[made](list(twin.parameters()))
    for x, y in net.batches(0, run.streams, 0, 5, 8):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(twin(x[0]), y[0]).backward()
        optimizer.step()
    run.advance(5)
    expected = mobility.of_optimizer(optimizer, list(twin.parameters()))
    found = mobility.of_run(net, run.state, run.knobs)[0].expand_as(expected)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)  # of Adam 1/(√ŝ + ε), where ŝ of float32 is small


def test_on_the_sphere_a_step_is_as_long_as_its_radius_asks_for():
    net = NetworkOnData(models.mlp((64, 5, 10)), data.digits(64))
    run = Experiment(net, eta=0.1, batch_size=8, protocol="sphere")
    assert mobility.of_run(net, run.state, run.knobs).item() == pytest.approx(0.1 * float(run.state.radius) ** 2, rel=1e-6)


def test_of_sam_none_is_known():
    net = NetworkOnData(models.mlp((64, 5, 10)), data.digits(64), optimiser="sam")
    run = Experiment(net, eta=0.1, batch_size=8)
    assert mobility.of_run(net, run.state, run.knobs).isnan().all()
