"""Where replicas start: at the usual Gaussian where that is right, else at the module's own weights; or anew, layer by layer."""

import pytest
import torch
from torch import nn

from tests.zoo import MORE, ZOO
from thermolab.systems import models
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

STREAMS = torch.tensor([4, 0, 7])


def system(animal, starts="auto"):
    module = animal.born()
    return module, NetworkOnData(module, Dataset(*animal.data(16, torch.float32)), starts=starts)


def own(module):
    return torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad])


GAUSSIAN = ("mlp", "relu mlp", "cnn", "dropout", "activation first", "norm first", "group norm", "conv 1d", "conv 3d", "sequence")


@pytest.mark.parametrize("name", [*ZOO, "gru", "group norm", "padding index", "conv 1d", "conv 3d", "attention", "slow twin"])
def test_the_own_initialisation_is_kept_where_the_usual_scale_is_not_right(name):
    module, net = system({**ZOO, **MORE}[name])
    start = net.start(STREAMS, 1)
    usual = name in (*GAUSSIAN, "one activation twice", "one linear twice", "tied weights", "layer norm of two dimensions")
    assert torch.equal(start, own(module).expand(3, -1)) != usual
    assert start.dtype == torch.float32


def test_fresh_starts_are_those_of_the_constructor_and_a_function_of_seed_and_stream():
    module, net = system(MORE["padding index"], "fresh")
    state, start = torch.get_rng_state(), net.start(STREAMS, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(net.start(STREAMS[1:2], 1)[0], start[1])
    assert not torch.equal(net.start(STREAMS, 2), start)
    views = net.replicas.views(start)
    assert not views["0.weight"][:, 0].any()  # the padding
    bound = 12**-0.5
    assert (views["2.weight"].abs() <= bound).all()
    assert views["2.weight"].std() == pytest.approx(bound / 3**0.5, rel=0.2)
    assert not torch.equal(start[0], start[1])
    assert own(module).equal(own(MORE["padding index"].born()))


def test_starts_by_a_function():
    animal = ZOO["language"]
    _, net = system(animal, animal.make)
    start = net.start(STREAMS, 1)
    assert torch.equal(net.start(STREAMS[2:], 1)[0], start[2])
    assert torch.pdist(start).min() > 1
    assert net.settings()["starts"].endswith("Language")
    _, net = system(animal, lambda: models.mlp((2, 2)))
    with pytest.raises(
        ValueError, match=r"^the function makes a module with the parameters \{[^\n]*\}; allowed: those of the first[^\n]*$"
    ):
        net.start(STREAMS, 1)


@pytest.mark.parametrize("name", ["weight norm", "old weight norm", "spectral norm", "pruned", "lists of parameters", "language"])
def test_no_fresh_starts_where_layers_have_none(name):
    _, net = system({**ZOO, **MORE}[name], "fresh")
    with pytest.raises(
        ValueError, match=r"^layer '.*', \w+, has no reset_parameters\(\) that [^\n]*; allowed: starts='own', or a [^\n]*$"
    ):
        net.start(STREAMS, 1)
    with pytest.raises(ValueError, match=r"^starts='random' is unknown; allowed: auto, gaussian, own, fresh, or a function"):
        system(ZOO["mlp"], "random")


def test_double_modules_start_in_double():
    net = NetworkOnData(nn.Sequential(nn.Linear(5, 3)).double(), Dataset(*ZOO["mlp"].data(16)))
    assert net.start(STREAMS, 0).dtype == torch.float64
