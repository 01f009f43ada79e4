"""Two networks as one system: each trains as it would alone, on answers whose noise is one for both."""

import numpy as np
import pytest
import torch

from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.systems import embedded_linear
from thermolab.systems.pair import START, Pair
from thermolab.systems.regression import NoisyAnswers


def experiment(replicas, **knobs):
    v = embedded_linear.target(seed=2)
    data = embedded_linear.answers(v, np.ones(5), n_data=2**10, seed=2)
    clean = data.x @ torch.tensor(v.T, dtype=torch.float32)
    shared = NoisyAnswers(data.x, clean, data.y - clean)
    shapes = ((3, 8), (4, 12))
    nets = [embedded_linear.network(embedded_linear.view(6, 5, seed=i), *shape, shared) for i, shape in enumerate(shapes)]
    return Experiment(Pair(nets, embedded_linear.NOISE), replicas=replicas, seed=2, **{"eta": 0.02, "batch_size": 8} | knobs)


def test_a_pair_is_two_networks_beside_each_other():
    run = experiment(3)
    begin, net = run.state.weights, run.system
    run.advance(30)
    found = run.frame().observables
    for i, (one, first, last) in enumerate(zip(net.nets, net.parts(begin), net.parts(run.state.weights), strict=True)):
        streams = 2 * np.arange(3) + i
        assert (embedded_linear.start(one, torch.tensor(streams), 2, scale=START) == first).all()
        alone = Experiment(one, eta=0.02, batch_size=8, seed=2, streams=streams, weights=first)
        alone.advance(30)
        assert (alone.state.weights == last).all()
        np.testing.assert_array_equal(alone.frame().observables["U"], found["U_" + "ab"[i]])
    np.testing.assert_allclose(found["U"], (found["U_a"] + found["U_b"]) / 2)


def test_the_knob_of_the_noise_multiplies_its_profile_for_both():
    run = experiment(2)
    run.set(noise=0.5)
    run.advance(1)
    assert run.system.nets[0].data is run.system.nets[1].data
    np.testing.assert_allclose(run.system.nets[0].data.sigma, 0.5 * np.array(embedded_linear.NOISE))
    run.set(noise=[0.5, 1.0])
    with pytest.raises(ValueError, match=r"noise=\[0.5, 1.0\] differs between replicas"):
        run.advance(1)


def test_a_network_that_diverges_stops_the_pair():
    run = experiment(2)
    run.system.parts(run.state.weights)[1][1] *= 100
    run.advance(20)
    assert run.state.diverged[0] == -1
    assert run.state.diverged[1] > 0
    run = experiment(1)
    run.system.parts(run.state.weights)[0][0] *= 100
    run.advance(20)
    with pytest.raises(DivergenceError, match=r"try eta=0.005 or a larger batch"):
        run.frame()
