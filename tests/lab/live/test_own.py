"""A panel of any run: knobs and what it shows are found from the system, and what it runs is the run itself."""

import asyncio

import numpy as np
import pytest
import torch
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.lab.live import own
from thermolab.systems.bowl import Bowl
from thermolab.systems.own import Network

X, Y = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3


def network(optimiser="sgd", **knobs):
    torch.manual_seed(2)
    net = Network(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), (X, Y), optimiser=optimiser)
    return Experiment(net, **{"eta": 0.1, "lam": 1e-3, "batch_size": 8, "replicas": 2, "seed": 5} | knobs)


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam", "adagrad", "sam", "eef"])
def test_every_knob_is_found_with_its_value_and_a_range_around_it(optimiser):
    run = network(optimiser)
    found = own.scenario(run, ["U"])
    assert set(found.settings) == set(run.knobs)
    again = found.start(seed=5)
    for name, knob in found.settings.items():
        assert knob.check(name, found.defaults[name]) == found.defaults[name]
        ends = knob.options if knob.scale == "choice" else [knob.low, knob.high]
        for end in ends:  # what the panel offers, the run takes
            again.set(**{name: int(end) if knob.scale == "powers of two" else end})


def test_it_runs_what_the_run_would_and_leaves_the_run():
    run = network()
    run.advance(7)
    before = run.state
    found = own.scenario(run, ["U", "T", "balance"])
    (frame,) = found.start(seed=5).frames(20, until=20)
    assert run.state is before
    twin = Experiment(run.system, eta=0.1, lam=1e-3, batch_size=8, seed=5, weights=before.weights)
    (expected,) = twin.frames(20, until=20)
    np.testing.assert_array_equal(frame.observables["U"], expected.observables["U"])
    assert set(found.observables) == {"U", "T", "imbalance"}
    assert set(found.observables) <= set(frame.observables)


def test_a_log_of_it_replays_to_the_bit():
    found = own.scenario(network())
    run = found.start(seed=5)
    list(run.frames(10, until=30))
    run.set(eta=0.2)
    list(run.frames(10, until=60))
    again, driven = found.replay(found.log(run, found.defaults))
    assert [frame.step for frame in driven] == [10, 20, 30, 40, 50, 60]
    assert torch.equal(again.state.weights, run.state.weights)


def test_without_a_front_end_a_picture_is_drawn(capsys):
    asyncio.run(own.live(network(), ["U", "sharpness"], events=[[30, {"eta": 0.3}]], steps=60))
    asyncio.run(own.live(Experiment(Bowl(), eta=0.1), ["U", "turned"] if "turned" in Bowl.observables else ["U"], steps=60))
    assert capsys.readouterr().out.count("HTML") == 2


@pytest.mark.parametrize(
    ("run", "observe", "line"),
    [
        (network, ["heat"], "observe='heat' is unknown; allowed: U, r, T"),
        (lambda: network(eta=[0.1, 0.2]), ["U"], "eta differs between the replicas"),
        (lambda: Experiment(Bowl(), eta=0.1), ["snr"], "snr cannot be read: needs a network on data"),
    ],
)
def test_what_it_does_not_take_is_one_line(run, observe, line):
    with pytest.raises(ValueError, match=line) as error:
        asyncio.run(own.live(run(), observe))
    assert "\n" not in str(error.value)
