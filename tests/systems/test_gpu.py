"""The engine on a CUDA device: the same numbers are drawn, so paths agree with the CPU's until rounding tells them apart."""

import asyncio
import warnings

import numpy as np
import pytest
import torch

from thermolab.engine.experiment import Experiment
from thermolab.phenomena.ideal_gas import isotropic, theory
from thermolab.systems import data, models, random
from thermolab.systems.isotropic import IsotropicNoise
from thermolab.systems.network import NetworkOnData

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch.cuda.is_available() is False: no NVIDIA GPU"),
]
EPS32 = 2.0**-24


def gas(device, protocol="elr", replicas=40):
    eta = np.linspace(0.03, 0.1, replicas)
    return Experiment(IsotropicNoise(10, protocol), eta=eta, lam=0.05, seed=7, device=device)


def net(device, protocol="elr"):
    system = NetworkOnData(models.scale_invariant_mlp((64, 8, 8), head_norm=1.0), data.digits(100), protocol)
    return Experiment(system, eta=[0.005, 0.01, 0.02], lam=0.05, batch_size=16, seed=7, device=device)


def test_the_same_numbers_are_drawn():
    streams = torch.tensor([0, 3, 2**32 - 1])
    there = streams.to(DEVICE)
    for seed in (0, 2**40 + 5):
        picks = random.indices(seed, there, 2**31, 4, 10, 1797)
        assert picks.device.type == torch.device(DEVICE).type
        assert torch.equal(picks.cpu(), random.indices(seed, streams, 2**31, 4, 10, 1797))
        normals = [random.normals(seed, s, 9, 4, 10, torch.float64).cpu() for s in (streams, there)]
        torch.testing.assert_close(*normals, rtol=0, atol=1e-12)


@pytest.mark.parametrize("protocol", ["elr", "lr", "sphere"])
def test_the_gas_takes_the_same_path(protocol):
    steps = 100
    there, here = gas(DEVICE, protocol), gas("cpu", protocol)
    frames = [list(run.frames(steps, until=steps))[-1] for run in (there, here)]
    assert there.state.weights.device.type == torch.device(DEVICE).type
    tolerance = 10 * steps * EPS32
    np.testing.assert_allclose(there.state.weights.cpu(), here.state.weights, rtol=0, atol=2 * tolerance)
    for name in frames[0].observables:
        np.testing.assert_allclose(
            frames[0].observables[name], frames[1].observables[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("protocol", ["elr", "lr", "sphere"])
def test_the_network_takes_the_same_path(protocol):
    steps = 10
    there, here = net(DEVICE, protocol), net("cpu", protocol)
    frames = [list(run.frames(steps, until=steps))[-1] for run in (there, here)]
    tolerance = 100 * steps * EPS32  # sums over batch and width, and normalisation, each step
    np.testing.assert_allclose(
        there.state.weights.cpu(), here.state.weights, rtol=0, atol=tolerance * float(here.state.weights.abs().max())
    )
    for name in frames[0].observables:
        np.testing.assert_allclose(frames[0].observables[name], frames[1].observables[name], rtol=tolerance, err_msg=name)


def test_a_replay_there_is_exact():
    run = gas(DEVICE)
    run.advance(13)
    run.set(sigma=0.5)
    run.advance(20)
    assert torch.equal(run.replay(run.log).state.weights, run.state.weights)


def test_the_stationary_state_is_that_of_theory():
    settings = {"eta": (0.1, 0.1, 1), "lam": (0.05, 0.1, 2), "dim": 4, "replicas": 256, "snapshots": 16, "device": DEVICE}
    found = asyncio.run(isotropic.stationary("elr", **settings))  # as a notebook calls it
    state = theory.isotropic_state("elr", 0.1, found["lam"].values, 4, 1.0)
    np.testing.assert_allclose(found["r"].mean("seed").values[0], state["r"], rtol=0.015)
    assert found["U"].mean().item() == pytest.approx(state["U"].mean(), rel=0.04)


def synchronisations(run, n):
    """How often n steps made the host wait for the device."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run.advance(n)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(w.message) for w in caught)


@pytest.mark.parametrize("make", [gas, net])
def test_no_step_waits_for_the_device(make):
    run = make(DEVICE)
    run.advance(3)
    assert synchronisations(run, 5) == synchronisations(run, 40)
