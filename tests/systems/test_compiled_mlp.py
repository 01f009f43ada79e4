"""The compiled steps of a network: against the batched passes in float64, and what a replay to the bit rests on."""

import numpy as np
import pytest
import torch
from torch import nn

from thermolab.systems import models
from thermolab.systems.data import Dataset
from thermolab.systems.network import OBSERVABLES, NetworkOnData

EPS32 = 2.0**-24
SEED = 2**33 + 5


def frozen_middle():
    module = models.mlp((6, 7, 5, 3), activation="tanh")
    module[2].requires_grad_(False)
    return module


MODULES = {
    "relu": lambda: models.mlp((6, 8, 3)),
    "tanh": lambda: models.mlp((6, 7, 5, 3), activation="tanh"),
    "no bias": lambda: models.mlp((6, 8, 3), bias=False),
    "linear": lambda: models.mlp((6, 3)),
    "frozen middle": frozen_middle,
    "batch norm": lambda: models.scale_invariant_mlp((6, 8, 7), 3, norm="batch", head_norm=1.0),
    "layer norm": lambda: models.scale_invariant_mlp((6, 8, 7), 3, norm="layer", activation="tanh", head_norm=1.0),
    "tanh of batch norm": lambda: nn.Sequential(nn.Linear(6, 5), models.normalisation("batch", 5), nn.Tanh(), nn.Linear(5, 3)),
}


def system(name="batch norm", protocol="lr", loss="cross-entropy", backend="auto", dtype=torch.float32):
    """A network on forty random points."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    data = Dataset(x.to(dtype), y.argmax(1) if loss == "cross-entropy" else y.to(dtype), 3)
    return NetworkOnData(MODULES[name]().to(dtype), data, protocol, loss, backend)


def knobs(n, batch=9, eta=0.01, lam=0.05):
    spread = torch.linspace(1, 2, n, dtype=torch.float64)
    return {"eta": eta * spread, "lam": lam * spread.flip(0), "batch_size": batch}


def advance(network, w, n, k, first=0, streams=None):
    w = w.clone()
    streams = torch.arange(len(w)) if streams is None else streams
    observables, diverged = network.advance(w, first, n, k, SEED, streams, torch.linalg.vector_norm(w, dim=1))
    return w, observables, diverged


def start(network, n=5):
    w = network.start(torch.arange(n), SEED)
    return 1.3 * w / torch.linalg.vector_norm(w, dim=1, keepdim=True)


@pytest.mark.parametrize("loss", ["cross-entropy", "squared"])
@pytest.mark.parametrize("protocol", ["elr", "lr", "sphere"])
@pytest.mark.parametrize("name", MODULES)
def test_against_the_batched_passes(name, protocol, loss):
    """Ten steps; each rounds some hundred times and a sum of random roundings is far below its worst case."""
    ours, oracle = system(name, protocol, loss), system(name, protocol, loss, "batched", torch.float64)
    w, k = start(ours), knobs(5)
    assert ours.choose_backend(w) == "compiled"
    assert oracle.choose_backend(w) == "batched"
    found, observables, diverged = advance(ours, w, 10, k, first=3)
    expected, observables_expected, _ = advance(oracle, w.double(), 10, k, first=3)
    tolerance = 10 * 30 * EPS32
    assert (found.double() - w).abs().max() > 1e-3  # it has moved
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))
    for observable in OBSERVABLES:
        np.testing.assert_allclose(
            observables[observable], observables_expected[observable], rtol=3 * tolerance, err_msg=observable
        )
    assert (diverged == -1).all()


def test_the_same_bits_wherever_the_memory_lies():
    """One step from one state, its buffers at ever other addresses: a loop that asks where they lie rounds in two ways."""
    module = models.scale_invariant_mlp((64, 32, 32), norm="layer")
    net = NetworkOnData(module, Dataset(torch.randn(64, 64), torch.arange(64) % 10), "sphere")
    start, rng = net.start(torch.arange(2), 3), np.random.default_rng(0)
    rates = {"eta": torch.full((2,), 0.02), "lam": torch.zeros(2), "batch_size": 32}
    radius, found, held = torch.linalg.vector_norm(start, dim=1), set(), []
    for _ in range(500):
        held = [*held[-20:], np.empty(rng.integers(1, 4000), np.float32)]
        weights = start.clone()
        net.advance(weights, 0, 1, rates, 0, torch.arange(2), radius)
        found.add(weights.numpy().tobytes())
    assert len(found) == 1


def test_the_sphere_keeps_its_radius():
    network = system("batch norm", "sphere")
    w, observables, _ = advance(network, start(network), 2000, knobs(5))
    # the scale is that of a tangent gradient: one step's rounding, which the next step mends
    np.testing.assert_allclose(torch.linalg.vector_norm(w, dim=1), 1.3, rtol=20 * EPS32)
    np.testing.assert_allclose(observables["r2"], 1.69, rtol=20 * EPS32)


@pytest.mark.parametrize("backend", ["auto", "batched"])
def test_divergence_is_dated(backend):
    """At η λ r² far above 2 the radius grows by that factor a step: 1.3, 10², 10⁶ … 10⁷, 10²⁰ … 10²³."""
    network = system("batch norm", "elr", backend=backend)
    w = start(network, 3)
    k = {"eta": torch.tensor([0.02, 20.0, 0.03], dtype=torch.float64), "lam": torch.full((3,), 1.0), "batch_size": 9}
    assert advance(network, w, 20, k)[2].tolist() == [-1, 3, -1]
    assert advance(network, w, 3, k)[2].tolist() == [-1, 3, -1]
    assert advance(network, w, 2, k)[2].tolist() == [-1, -1, -1]
    dates = []
    for t in range(4):
        w, _, date = advance(network, w, 1, k, first=t)
        dates.append(int(date[1]))
    assert dates == [-1, -1, 3, 4]  # a step of what is lost already is dated anew: an Experiment keeps the first
