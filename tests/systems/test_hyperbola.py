"""The loss (xy − 1)² under its four rules: steps by hand, their orders, and what the flows undo and conserve."""

import numpy as np
import pytest
import torch

from thermolab.engine.experiment import Experiment
from thermolab.systems import hyperbola
from thermolab.systems.hyperbola import Hyperbola

START = np.array([1.8, -0.6])


def moved(rule, eta, forward, backward=0):
    """Place (x, y) and time after steps forward and then backward."""
    run = Experiment(Hyperbola(rule), eta=eta, weights=torch.tensor([[*START, 0.0]], dtype=torch.float64))
    run.advance(forward)
    run.set(way="backward")
    run.advance(backward)
    *place, time = run.state.weights[0].tolist()
    return np.array(place), time


def missed(rule, eta, forward, backward):
    """Distance from the start after going back."""
    return np.linalg.norm(moved(rule, eta, forward, backward)[0] - START)


def test_the_force_is_a_gradient():
    place = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    energy = (place.prod(1) - 1) ** 2
    (g,) = torch.autograd.grad(energy.sum(), place, create_graph=True)
    (full,) = torch.autograd.grad((energy + 0.3 * (g * g).sum(1)).sum(), place)
    torch.testing.assert_close(hyperbola.force(place.detach(), 0.3), full)


def test_one_step_of_descent():
    place, time = moved("descent", 0.05, 1)
    g = hyperbola.force(torch.from_numpy(START)[None], 0.0)[0].numpy()
    np.testing.assert_allclose(place, START - 0.05 * g)
    assert time == 0.05


@pytest.mark.parametrize(("rule", "order"), [("flow of L", 2), ("flow of F", 3)])
def test_a_step_follows_the_flow_to_its_order(rule, order):
    errors = [np.linalg.norm(moved("descent", eta, 1)[0] - moved(rule, eta, 1)[0]) for eta in (0.01, 0.005)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("rule", "order"), [("descent", 2), ("descent, undone on F", 3)])
def test_a_step_is_undone_to_its_order(rule, order):
    errors = [missed(rule, eta, 1, 1) for eta in (0.01, 0.005)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("rule", ["flow of L", "flow of F"])
def test_flows_come_back(rule):
    there, latest = moved(rule, 0.04, 60)
    _, time = moved(rule, 0.04, 60, 60)
    assert (there.prod() - 1) ** 2 < 1e-6
    assert latest == pytest.approx(hyperbola.LATEST)
    assert time == pytest.approx(0, abs=1e-9)
    assert missed(rule, 0.04, 60, 60) < 1e-5
    assert missed("descent", 0.04, 60, 60) > 0.1


def test_only_the_flow_of_the_loss_conserves_the_imbalance():
    balance = {rule: moved(rule, 0.05, 30)[0] ** 2 @ [1, -1] for rule in ("flow of L", "descent", "flow of F")}
    assert balance.pop("flow of L") == pytest.approx(1.8**2 - 0.6**2, rel=1e-5)
    assert max(balance.values()) < 0.95 * (1.8**2 - 0.6**2)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="rule='up' is unknown; allowed: descent"):
        Hyperbola("up")
