"""Observables say what the instruments say of the same weights, and wait until the weights have moved."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from thermolab.engine.experiment import Experiment
from thermolab.instruments import entropy, noise, observables
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData


def cloud(n, seed=0, dim=3, scale=1.0):
    return scale * torch.from_numpy(np.random.default_rng(seed).normal(size=(n, dim)))


def at(step, weights):
    return SimpleNamespace(step=step, weights=weights)


def knobs(eta=0.1, protocol="elr", n=1):
    return {"eta": torch.full((n,), eta), "protocol": protocol}


def unit(w):
    w = w.numpy()
    return w / np.linalg.norm(w, axis=1, keepdims=True)


# --- over the replicas --------------------------------------------------------------------------------------------------
def test_pooled_entropy_is_that_of_the_last_samples_less_its_bias():
    observable = observables.PooledEntropy(window=2, spacing=2.0, of="direction")
    clouds = [cloud(40, i) for i in range(3)]
    for i, n in ((0, 1), (1, 2), (2, 2)):
        found = observable(None, at(20 * i, clouds[i]), knobs())
        expected = entropy.kozachenko_leonenko(np.concatenate([unit(c) for c in clouds[i + 1 - n : i + 1]]), dim=2, sphere=True)
        assert found == {"S": expected.value - expected.bias, "S_error": expected.standard_error}


def test_pooled_entropy_is_that_of_the_direction():
    found = [observables.PooledEntropy(of="direction")(None, at(0, cloud(64) * s), knobs())["S"] for s in (1.0, 8.0)]
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    uniform = observables.PooledEntropy(of="direction")(None, at(0, cloud(2000)), knobs())
    assert uniform["S"] == pytest.approx(math.log(4 * math.pi), abs=5 * uniform["S_error"])


@pytest.mark.parametrize(
    ("protocol", "eta", "r", "steps"),
    [("elr", 0.1, 5.0, 20), ("sphere", 0.05, 5.0, 40), ("lr", 0.1, 2.0, 80), ("lr", 0.4, 0.5, 2)],
)
def test_samples_are_two_relaxation_times_apart(protocol, eta, r, steps):
    """1/η_eff, with η_eff = η/r² at a fixed learning rate; the largest replica is the slowest."""

    def weights(seed):
        w = torch.from_numpy(unit(cloud(40, seed)))
        return w * torch.linspace(0.5 * r, r, 40, dtype=w.dtype)[:, None]

    observable = observables.PooledEntropy(spacing=2.0, of="direction")
    first = observable(None, at(7, weights(0)), knobs(eta, protocol))
    assert observable(None, at(7 + steps - 1, weights(1)), knobs(eta, protocol)) == first
    assert observable(None, at(7 + steps + 1, weights(1)), knobs(eta, protocol)) != first
    assert observable(None, at(7 + steps + 2, weights(2)), knobs(eta, protocol))["S"] != first["S"]  # as before, not the first


def test_the_slowest_replica_sets_the_pace():
    observable = observables.PooledEntropy(spacing=2.0, of="direction")
    eta = {"eta": torch.tensor([1.0, 0.1]), "protocol": "elr"}
    first = observable(None, at(0, cloud(40)), eta)
    assert observable(None, at(10, cloud(40, 1)), eta) == first
    assert observable(None, at(21, cloud(40, 1)), eta) != first


@pytest.mark.parametrize("lost", [math.inf, math.nan])
def test_lost_weights_are_not_taken_in(lost):
    observable = observables.PooledEntropy(of="direction")
    first = observable(None, at(0, cloud(40)), knobs(0.1, "lr"))
    assert observable(None, at(10**9, cloud(40) * lost), knobs(0.1, "lr")) == first


# --- along the path -----------------------------------------------------------------------------------------------------
def test_path_entropy_is_that_of_each_replica_once_the_window_is_full():
    observable = observables.PathEntropy(window=12, spacing=0.25, k=3, of="direction")
    paths = np.random.default_rng(1).normal(size=(2, 14, 4))
    directions = paths / np.linalg.norm(paths, axis=2, keepdims=True)
    for t in range(14):
        found = observable(None, at(3 * t, torch.from_numpy(paths[:, t])), knobs())["S"]
        if t < 11:
            assert np.isnan(found).all()
        else:
            np.testing.assert_array_equal(found, entropy.knn_graph(directions[:, t - 11 : t + 1], dim=3, k=3).value)
            assert found.shape == (2,)
    before = found
    np.testing.assert_array_equal(
        observable(None, at(3 * 13 + 2, torch.from_numpy(paths[:, 0])), knobs())["S"], before
    )  # too soon


# --- minibatches --------------------------------------------------------------------------------------------------------
@pytest.fixture
def net():
    system = NetworkOnData(models.scale_invariant_mlp((64, 6)), data.digits(40))
    return Experiment(system, eta=0.05, lam=0.02, batch_size=8, replicas=3, seed=3)


def test_minibatch_noise_is_that_of_fresh_batches_on_the_unit_sphere(net):
    net.advance(10)
    state = net.state
    found = observables.MinibatchNoise(n=7, of="direction")(net.system, state, net.knobs)
    w = state.weights / torch.linalg.vector_norm(state.weights, dim=1, keepdim=True)
    batches = net.system.gradients(w, 7, 8, 2**32 * 11, torch.arange(3))
    expected = noise.gradient_noise(batches, spectrum=False)
    np.testing.assert_array_equal(found["trace"], expected.trace)
    np.testing.assert_array_equal(found["gradient_squared"], expected.full_gradient_squared)
    np.testing.assert_array_equal(found["snr"], expected.snr)
    assert set(found) == {"trace", "gradient_squared", "snr"}
    # whatever the length of the weights, and anew at each step
    longer = SimpleNamespace(weights=3 * state.weights, step=state.step)
    np.testing.assert_allclose(
        observables.MinibatchNoise(n=7, of="direction")(net.system, longer, net.knobs)["trace"], found["trace"], rtol=1e-4
    )
    later = SimpleNamespace(weights=state.weights, step=state.step + 1)
    assert (observables.MinibatchNoise(n=7, of="direction")(net.system, later, net.knobs)["trace"] != found["trace"]).all()
    bigger = observables.MinibatchNoise(n=40, of="direction")(net.system, state, {**net.knobs, "batch_size": 32})
    assert (bigger["trace"] < found["trace"]).all()


def test_looking_does_not_change_the_run(net):
    alone = Experiment(net.system, eta=0.05, lam=0.02, batch_size=8, replicas=3, seed=3)
    net.observables = {
        "noise": observables.MinibatchNoise(),
        "S": observables.PathEntropy(window=10),
        "where": observables.position,
    }
    for run in (net, alone):
        frames = list(run.frames(5, until=40))
    assert torch.equal(net.state.weights, alone.state.weights)
    assert {"trace", "snr", "S", "along", "across"}.isdisjoint(frames[-1].observables)
    assert {"trace", "gradient_squared", "snr", "S", "along", "across"} <= set(net.history[-1].observables)


def test_position_is_the_first_two_components():
    w = cloud(4)
    found = observables.position(None, at(0, w), {})
    assert torch.equal(found["along"], w[:, 0])
    assert torch.equal(found["across"], w[:, 1])
