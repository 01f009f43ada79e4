"""Entropy windows along a run and probes at a moment of it, against loops over single modules and paths that are known."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.instruments import noise, windows
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.system import Base

RATES = (0.02, 0.05, 0.1)
BATCH = 8


def network(norm, protocol="sphere", rates=RATES, steps=400):
    """A run after some steps, whose weights are far from norm 1."""
    net = NetworkOnData(models.scale_invariant_mlp((64, 6, 6), norm=norm), data.digits(48, label_noise=0.3), protocol)
    run = Experiment(net, eta=rates, batch_size=BATCH, seed=5)
    run.advance(steps)
    return run


@pytest.fixture(scope="module", params=["layer", "batch"])
def run(request):
    return network(request.param)


@pytest.fixture(scope="module")
def layer():
    return network("layer")


def modules(run):
    """One ordinary module in float64 for each replica, its trained weights at norm 1."""
    for w in run.state.weights.double():
        module = copy.deepcopy(run.system.replicas.module).double()
        trained = [p for p in module.parameters() if p.requires_grad]
        nn.utils.vector_to_parameters(w / w.norm(), trained)
        yield module, trained


def gradient(module, trained, x, y):
    grads = torch.autograd.grad(nn.functional.cross_entropy(module(x.double()), y), trained)
    return torch.cat([g.ravel() for g in grads])


# --- probes ------------------------------------------------------------------------------------------------------------
def test_accuracy_is_that_of_single_modules(run):
    d = run.system.data
    each = [float((module(d.x.double()).argmax(1) == d.y).double().mean()) for module, _ in modules(run)]
    np.testing.assert_allclose(windows.accuracy(run, at="unit"), each, rtol=1e-12)
    assert len(set(each)) > 1
    assert max(each) > 0.2  # it has learnt something: labels in another order would give a tenth


def test_the_full_gradient_is_that_of_autograd_at_norm_one(run):
    d = run.system.data
    each = [float(gradient(*m, d.x, d.y).square().sum()) for m in modules(run)]
    np.testing.assert_allclose(windows.full_gradient_squared(run, at="unit"), each, rtol=1e-4)
    norms = torch.linalg.vector_norm(run.state.weights, dim=1)
    assert (norms > 2).all()  # of the weights as they are it would be smaller by their norm squared


def exact(run):
    """Moments of a minibatch gradient [R] from the gradients of all samples."""
    d = run.system.data
    per_sample = torch.stack([torch.stack([gradient(*m, d.x[[i]], d.y[[i]]) for i in range(len(d))]) for m in modules(run)], 1)
    return noise.gradient_noise(per_sample, batch_size=BATCH, kind="per-sample", spectrum=False)


def test_a_probe_finds_the_exact_moments(layer):
    n, known = 600, exact(layer)
    found = windows.probe(layer, BATCH, n, at="unit")
    errors = noise.gradient_noise(windows.fresh_gradients(layer, BATCH, n, at="unit"), spectrum=False)
    assert (errors.trace_error < 0.1 * known.trace).all()  # the errors tell something
    assert (abs(found["trace"] - known.trace) < 4 * errors.trace_error).all()
    assert (abs(found["gradient_squared"] - known.full_gradient_squared) < 4 * errors.full_gradient_squared_error).all()
    total = found["trace"] + found["gradient_squared"]
    assert (abs(total - known.second_moment) < 4 * errors.second_moment_error).all()
    np.testing.assert_allclose(windows.full_gradient_squared(layer, at="unit"), known.full_gradient_squared, rtol=1e-4)
    # control: at another batch size the trace is another one
    assert (abs(windows.probe(layer, 2 * BATCH, n, at="unit")["trace"] - known.trace) > 4 * errors.trace_error).all()


def test_a_probe_changes_nothing_and_draws_afresh_at_each_moment():
    run, twin = network("layer", steps=10), network("layer", steps=10)
    first = windows.probe(run, BATCH, 8, at="unit")
    for name, value in windows.probe(run, BATCH, 8, at="unit").items():
        np.testing.assert_array_equal(value, first[name])
    windows.accuracy(run, at="unit"), windows.full_gradient_squared(run, at="unit")
    g = windows.fresh_gradients(run, BATCH, 2)
    assert g.shape == (2, len(RATES), run.system.n_parameters)
    for a in (run, twin):
        a.advance(5)
    assert torch.equal(run.state.weights, twin.state.weights)
    # the same weights at another step are probed with other batches
    still = network("layer", rates=(1e-30,) * 3, steps=1)
    before = windows.probe(still, BATCH, 8, at="unit")["trace"]
    still.advance(1)
    assert (windows.probe(still, BATCH, 8, at="unit")["trace"] != before).all()


def test_directions_have_norm_one_and_none_where_a_replica_diverged():
    run = network("layer", protocol="lr", rates=(0.05, 1e20, 0.1), steps=8)
    assert (run.state.diverged.numpy() >= 0).tolist() == [False, True, False]
    norms = torch.linalg.vector_norm(windows.unit(run), dim=1)
    assert torch.isfinite(windows.unit(run)).all()
    np.testing.assert_allclose(norms[[0, 2]], 1, rtol=1e-5)


# --- windows -----------------------------------------------------------------------------------------------------------
class Given(Base):
    """A system whose weights follow a table [step, R, D]: after n steps they are its n-th row."""

    name, observables, knobs = "given", ("U",), {}

    def __init__(self, table, lost=()):
        self.table, self.lost, self.n_parameters = torch.as_tensor(table, dtype=torch.float32), list(lost), table.shape[-1]

    def advance(self, weights, first_step, n, knobs, seed, streams, radius, memory=()):
        weights.copy_(self.table[first_step + n])
        diverged = torch.full((len(weights),), -1)
        diverged[self.lost] = first_step + n
        return {"U": torch.zeros(len(weights), dtype=torch.float64)}, diverged

    def run(self, rates):
        return Experiment(self, eta=rates, weights=self.table[0])


def graph(path, k):
    """Graph entropy of a path [N, D] in D - 1 dimensions, by brute force."""
    path = np.asarray(path, float)
    n, d = len(path), path.shape[1] - 1
    distance = np.sort(np.linalg.norm(path[:, None] - path[None], axis=-1), 1)[:, 1 : k + 1]
    return d * math.log(distance.sum()) - (d - 1) * math.log(n)


@pytest.mark.parametrize(("n", "k"), [(40, 10), (300, 50)])
def test_the_entropy_of_a_path_is_that_of_its_neighbours(n, k):
    path = np.random.default_rng(1).normal(size=(n, 6))
    assert windows.graph_entropy(path).value == pytest.approx(graph(path, k), rel=1e-6)
    assert windows.graph_entropy(path).k == k


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_larger_cloud_has_more_entropy(dtype):
    """By (D - 1) log c for all lengths c times as long, wherever the cloud lies."""
    path = np.random.default_rng(2).normal(size=(60, 30)).astype(dtype)
    base = windows.graph_entropy(path).value
    for c in (1e-3, 0.5, 7.0):
        assert windows.graph_entropy((c * path).astype(dtype)).value - base == pytest.approx(29 * math.log(c), abs=1e-3)
    assert windows.graph_entropy(path + dtype(3)).value == pytest.approx(base, abs=1e-3)


def test_weights_of_a_window_lie_a_quarter_of_a_correlation_time_apart():
    """Every 4 steps at the least, 0.25/rate apart else, from the first frame after the burn-in on."""
    rates, gaps, burn_in, window, samples = (1.0, 1 / 32, 0.01, 1 / 160), (4, 8, 24, 40), 12, 24 * 11 + 4, 12
    table = np.random.default_rng(3).normal(size=(burn_in + window + 1, 4, 5))
    run, called = Given(table).run(rates), []
    found = windows.slow_windows(run, rates, burn_in, window, samples, called.append)
    for i, gap in enumerate(gaps[:3]):
        path = table[burn_in + 4 + gap * np.arange(samples), i]
        assert found["S"][i] == pytest.approx(graph(path, 3), rel=1e-5), gap
        assert found["tau"][i] >= 1
    assert np.isnan([found["S"][3], found["tau"][3]]).all()  # twelve weights 40 steps apart do not fit
    assert called == list(range(window // 4))
    assert run.state.step == burn_in + window
    assert len(run.history) == 1 + window // 4
    # one frame less, and the third does not fit either
    short = windows.slow_windows(Given(table).run(rates), rates, burn_in, window - 4, samples)
    assert np.isnan(short["S"]).tolist() == [False, False, True, True]


def test_a_process_with_the_correlation_time_of_the_rate():
    """Samples of an Ornstein-Uhlenbeck process lie exp(-1/4) apart: τ = (1 + ρ)/(1 - ρ); its size shifts S by (D - 1) log c."""
    rate, dim, samples, rng = 1 / 32, 24, 1600, np.random.default_rng(4)
    n = 8 * samples + 17
    kicks, path, keep = rng.normal(size=(n, 2, dim)), np.empty((n, 2, dim)), math.exp(-rate)
    path[0] = kicks[0]
    for i in range(1, n):
        path[i] = keep * path[i - 1] + math.sqrt(1 - keep**2) * kicks[i]
    path[:, 1] = 3 * path[:, 0]
    found = windows.slow_windows(Given(path).run((rate, rate)), (rate, rate), 16, 8 * samples, samples)
    rho = math.exp(-0.25)
    tau = (1 + rho) / (1 - rho)
    # each of the 2 · 5τ terms of the sum is too small by τ/n, for the mean is that of the window
    np.testing.assert_allclose(found["tau"], tau - 10 * tau**2 / samples, rtol=0.1)
    assert found["S"][1] - found["S"][0] == pytest.approx(23 * math.log(3), abs=1e-2)


def test_diverged_replicas_have_no_entropy():
    rates = (0.25, 0.3, 0.35)
    table = np.random.default_rng(5).normal(size=(101, 3, 5))
    table[50:, 1] = np.nan
    found = windows.slow_windows(Given(table, lost=[1]).run(rates), rates, 20, 80, 12)
    for name in ("S", "tau"):
        assert np.isnan(found[name]).tolist() == [False, True, False], name
