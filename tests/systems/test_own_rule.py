"""A rule of one's own: plain SGD written out takes the package's steps, and what is no rule is one line."""

import numpy as np
import pytest
import torch
from torch import nn

from thermolab import phenomena
from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.engine.scenario import scripted, with_rule
from thermolab.phenomena.cooling import classifiers
from thermolab.phenomena.cooling.live import IMAGES
from thermolab.systems.network import NetworkOnData
from thermolab.systems.own_rule import OwnRule, RuleError


def plain(w, g, eta, lam):
    return w - eta * (g + lam * w)


@pytest.fixture
def net():
    return classifiers.system("mlp", width=8, difficulty="mid", label_noise=0.1)


def run(system, steps=20, **knobs):
    experiment = Experiment(system, **{"eta": [0.1, 0.2], "lam": 0.01, "batch_size": 8} | knobs)
    experiment.advance(steps)
    return experiment


def test_plain_sgd_written_out_takes_the_packages_steps(net):
    theirs, mine = run(net), run(OwnRule(net, plain))
    torch.testing.assert_close(mine.state.weights, theirs.state.weights, rtol=1e-4, atol=1e-5)
    a, b = theirs.frame().observables, mine.frame().observables
    for name in ("U", "r2", "g2"):
        np.testing.assert_allclose(b[name], a[name], rtol=1e-3)
    assert "p" not in b
    assert not torch.allclose(run(OwnRule(net, lambda w, g, eta, lam: w - eta * g.sign())).state.weights, theirs.state.weights)


def test_a_rule_may_write_into_what_it_is_given_and_know_the_step(net):
    seen = []

    def rule(w, g, eta, lam, t):
        seen.append(t)
        return w.mul_(1 - eta * lam).sub_(eta * g)

    torch.testing.assert_close(run(OwnRule(net, rule)).state.weights, run(net).state.weights, rtol=1e-4, atol=1e-5)
    assert seen == list(range(20))


def test_the_steps_do_not_depend_on_how_a_run_is_cut(net):
    one, other = run(OwnRule(net, plain), 7), run(OwnRule(net, plain), 3)
    other.advance(4)
    assert torch.equal(one.state.weights, other.state.weights)


@pytest.mark.parametrize("settings", [{"replacement": False}, {"loss": nn.functional.cross_entropy}, {}])
def test_batches_loss_masks_and_statistics_are_those_of_the_network(net, settings):
    layers = nn.Linear(net.data.x[0].numel(), 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 10)
    own = NetworkOnData(nn.Sequential(nn.Flatten(), *layers), net.data, **settings)
    theirs, mine = run(own), run(OwnRule(own, plain))
    torch.testing.assert_close(mine.state.weights, theirs.state.weights, rtol=1e-4, atol=1e-5)
    halves = NetworkOnData(own.replicas.module, net.data, precision="bf16")
    assert OwnRule(halves, plain).replicas.precision == "bf16"
    assert sorted(mine.state.memory) == sorted(theirs.state.memory)
    for name, kept in theirs.state.memory.items():
        torch.testing.assert_close(mine.state.memory[name], kept, rtol=1e-4, atol=1e-5)


def broken(w, g, eta, lam):
    return w @ g


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda w, g, eta, lam: None, r"your step returned NoneType; allowed: the new weights, shape \[2, \d+\]"),
        (lambda w, g, eta, lam: w[0], r"your step returned shape \[\d+\]; allowed: the new weights, shape \[2, \d+\]"),
        (lambda w, g, eta, lam: w * float("nan"), "your step returned numbers that are not finite at step 0"),
        (lambda w, g, eta, lam: "w", "your step returned str; allowed: the new weights"),
        (broken, r"your step raised RuntimeError in line \d+: mat1 and mat2"),
        (lambda w, g, eta, lam: 1 / 0, r"your step raised ZeroDivisionError in line \d+: division by zero"),
    ],
)
def test_what_is_no_rule_is_one_line(net, rule, said):
    with pytest.raises(RuleError, match=f"^{said}") as error:
        run(OwnRule(net, rule))
    assert "\n" not in str(error.value)


def test_a_rule_that_diverges_is_a_divergence(net):
    with pytest.raises(DivergenceError, match="try eta"):
        run(OwnRule(net, lambda w, g, eta, lam: 1e3 * w), 40, eta=0.1).frame()


def test_only_plain_sgd_is_replaced(net):
    with pytest.raises(ValueError, match=r"^your step takes 3 arguments; allowed: step\(w, g, eta, lam\) or"):
        OwnRule(net, lambda w, g, eta: w)
    with pytest.raises(ValueError, match=r"^a rule of your own takes the place of plain SGD"):
        with_rule(phenomena.scenarios()["ideal_gas.network"], plain).start()


def test_a_scenario_under_a_rule_runs_beside_its_own(monkeypatch):
    few = {"every": 4, "steps": 8, "width": 8, "batch_size": 64}
    (theirs, _), (mine, error) = (scripted.run(s, [], **few) for s in (IMAGES, with_rule(IMAGES, plain)))
    assert error is None
    assert [f.step for f in mine] == [f.step for f in theirs] == [4, 8]
    np.testing.assert_allclose(mine[-1].observables["lambda_max"], theirs[-1].observables["lambda_max"], rtol=0.05)
    _, error = scripted.run(with_rule(IMAGES, lambda w, g, eta, lam: None), [], **few)
    assert error.startswith("your step returned NoneType")
