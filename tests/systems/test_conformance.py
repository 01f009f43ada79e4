"""What every system keeps, whatever it is: the contract of `systems.system`, over one table. A new system is one row of it."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.systems import embedded_linear, models, regression
from thermolab.systems.bowl import Bowl
from thermolab.systems.data import Dataset
from thermolab.systems.full_batch import FullBatch
from thermolab.systems.hyperbola import Hyperbola
from thermolab.systems.isotropic import IsotropicNoise
from thermolab.systems.kernels import DIVERGED
from thermolab.systems.network import NetworkOnData
from thermolab.systems.own_rule import OwnRule
from thermolab.systems.pair import Pair
from thermolab.systems.sphere_quadric import QuadricPoints
from thermolab.systems.system import System
from thermolab.systems.walker import ScaleInvariantWalker

SEED = 2**33 + 5
STEPS, LONG = 40, 100
EPS32, EPS64 = 2.0**-24, 2.0**-53
CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")]
SUMS = 64 * EPS32  # observables add up to 64 float32 before they join a float64 total


@dataclass(frozen=True)
class Row:
    """A system and how to drive it.

    make(backend) -> system; backends: all that it has, the plain one last; agree: relative to max |w|, how far they may be apart
    after ten steps. knobs: of the experiment, two values where replicas may differ; turn: what is turned during a run. hot: knobs
    with which it diverges within 100 steps, if it can. alone: how far a replica may be from itself among others; 0: to the bit.
    """

    make: Callable[[str], System]
    knobs: Mapping = field(default_factory=dict)
    turn: Mapping = field(default_factory=dict)
    hot: Mapping = field(default_factory=dict)
    backends: tuple[str, ...] = ("auto",)
    agree: float = 0.0
    alone: float = 0.0

    def run(self, backend="auto", pick=range(5), **more) -> Experiment:
        """Five replicas, or those of them that are picked; η and λ are spread over a factor of two."""
        pick, spread = list(pick), np.linspace(1, 2, 5)
        eta, lam = self.knobs.get("eta", 0.01) * spread[pick], self.knobs.get("lam", 0.02) * spread[::-1][pick]
        settings = {**self.knobs, "eta": eta, "lam": lam, "seed": SEED, "streams": pick}
        return Experiment(self.make(backend), **{**settings, **more})


def samples(one_hot=False) -> Dataset:
    """Forty random points of three classes."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(40, 6, generator=generator), torch.randn(40, 3, generator=generator)
    return Dataset(x, y if one_hot else y.argmax(1), 3)


def network(module, optimiser="sgd", loss="cross-entropy", **more) -> Callable[[str], System]:
    """A network on these points; the module, given as a function, has the same frozen weights each time."""

    def make(backend):
        torch.manual_seed(0)
        return NetworkOnData(module(), samples(loss == "squared"), loss=loss, backend=backend, optimiser=optimiser, **more)

    return make


def perceptron():
    return models.mlp((6, 8, 3), activation="tanh")


def own_rule(backend):
    return OwnRule(network(perceptron)(backend), lambda w, g, eta, lam: w - eta * (g + lam * w))


def normalised():
    return models.scale_invariant_mlp((6, 8, 7), 3, norm="batch", head_norm=1.0)


def residual():
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.GELU(), torch.nn.Linear(5, 3))


def noisy_answers():
    generator = torch.Generator().manual_seed(2)
    return regression.NoisyAnswers(*(torch.randn(40, k, generator=generator) for k in (6, 3, 3)))


def noisy(backend):
    def sigma(knobs):
        return np.full(3, regression.number(knobs, "noise"))

    return regression.NoisyNetwork(perceptron(), noisy_answers(), sigma, [1.0], noise=1.0)


def pair(backend):
    views, data = [embedded_linear.view(6, 3, seed=i) for i in range(2)], noisy_answers()
    nets = [embedded_linear.network(view, depth, 8, data, backend=backend) for view, depth in zip(views, (2, 3), strict=True)]
    return Pair(nets, [1.2, 1.0, 0.7])


def full_batch(backend):
    return FullBatch(perceptron(), samples(one_hot=True), loss="squared", backend=backend)


# ten steps, each of which rounds some hundred times; a sum of random roundings is far below its worst case
NETWORK = {"backends": ("auto", "batched", "autograd"), "agree": 10 * 30 * EPS32}
# BLAS takes another way through a batch of other size
BATCHED = {"backends": ("batched", "autograd"), "agree": 10 * 30 * EPS32, "alone": STEPS * 10 * EPS32}
LOST = {"eta": 500.0, "lam": 1.0, "batch_size": 9, "protocol": "elr"}  # r² grows by η λ r² a step
ROWS = {
    "isotropic": Row(
        lambda backend: IsotropicNoise(5, backend=backend),
        {"sigma": 0.7},
        {"sigma": [0.5, 0.6, 0.7, 0.8, 0.9]},
        {"eta": 4.0, "lam": 0.5, "protocol": "elr"},
        ("compiled", "tensor"),
        10 * 10 * EPS32,
    ),
    "spectrum": Row(
        lambda backend: IsotropicNoise(4, "lr", [0.5, 0.7, 1.8], backend),
        turn={"lam": 0.1},
        backends=("compiled", "tensor"),
        agree=10 * 10 * EPS32,
    ),
    "points": Row(
        lambda backend: QuadricPoints(np.random.default_rng(0).normal(size=(4, 5)), 3, backend=backend),
        {"eta": 0.05},
        {"lam": 0.5},
        {"eta": 40.0, "lam": 0.5, "protocol": "elr"},
        ("compiled", "tensor"),
        10 * 20 * EPS64,
    ),
    "perceptron": Row(network(perceptron), {"batch_size": 9, "protocol": "lr"}, {"batch_size": 5}, LOST, **NETWORK),
    "normalised": Row(network(normalised), {"batch_size": 9}, {"batch_size": 16}, LOST, **NETWORK),
    "squared": Row(network(perceptron, loss="squared"), {"batch_size": 9, "eta": 3e-4}, {"eta": 1e-3}, LOST, **NETWORK),
    "without replacement": Row(network(perceptron, replacement=False), {"batch_size": 9}, {"batch_size": 16}, LOST, **BATCHED),
    "no chain": Row(network(residual), {"batch_size": 9}, {"eta": 0.02}, LOST, alone=STEPS * 10 * EPS32),
    "momentum": Row(network(normalised, "momentum"), {"batch_size": 9, "eta": 0.001}, {"momentum": 0.3}, LOST, **BATCHED),
    "adam": Row(network(normalised, "adam"), {"batch_size": 9, "eta": 0.001}, {"beta1": 0.5, "eps": 1e-4}, LOST, **BATCHED),
    "adagrad": Row(network(normalised, "adagrad"), {"batch_size": 9, "eta": 0.001}, {"eps": 1e-4}, LOST, **BATCHED),
    "sam": Row(network(normalised, "sam"), {"batch_size": 9, "eta": 0.001}, {"rho": 0.01}, LOST, **BATCHED),
    "eef": Row(network(normalised, "eef"), {"batch_size": 9, "eta": 0.001}, {"lam_entropy": -0.1}, LOST, **BATCHED),
    "own rule": Row(own_rule, {"batch_size": 9}, {"batch_size": 5}, {"eta": 500.0, "lam": 1.0}, alone=STEPS * 10 * EPS32),
    "noisy answers": Row(noisy, {"batch_size": 9, "noise": 0.5, "eta": 3e-4}, {"noise": 2.0}, LOST),
    "full batch": Row(
        full_batch,
        {"eta": 3e-4},
        {"eta": 1e-3},
        hot={"eta": 500.0},
        backends=("batched", "autograd"),
        agree=10 * 30 * EPS32,
        alone=STEPS * 10 * EPS32,
    ),
    "pair": Row(
        pair, {"batch_size": 9, "noise": 0.5}, {"noise": 2.0}, {"eta": 5.0, "batch_size": 9}, ("auto", "batched"), 10 * 30 * EPS32
    ),
    "walker": Row(lambda backend: ScaleInvariantWalker(3), {"sigma": 0.7}, {"sigma": 0.3}, {"eta": 5.0, "lam": 0.9}),
    "bowl": Row(lambda backend: Bowl(), {"sigma": 0.7}, {"angle": 20.0}, {"eta": 5.0}),
    "hyperbola": Row(lambda backend: Hyperbola("flow of F"), {"eta": 0.01}, {"way": "backward"}, {"eta": 0.9}),
}


def protocols(row):
    return row.make("auto").choices.get("protocol", (None,))


CASES = [pytest.param(row, p, id=f"{name} {p or ''}".strip()) for name, row in ROWS.items() for p in protocols(row)]
EVERY = pytest.mark.parametrize(("row", "protocol"), CASES)
ONCE = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def under(protocol) -> dict:
    return {} if protocol is None else {"protocol": protocol}


def equal(a: Experiment, b: Experiment) -> bool:
    """Two runs are where they are to the bit, with what they remember."""
    names = set(a.state.memory) | set(b.state.memory)
    same = [torch.equal(a.state.memory[name], b.state.memory[name]) for name in names]
    return a.state.step == b.state.step and torch.equal(a.state.weights, b.state.weights) and all(same)


def near(found, expected, tolerance) -> None:
    """Equal to the bit, or within a tolerance relative to the largest weight."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@ONCE
def test_it_has_all_that_the_engine_asks_for(row):
    system = row.make("auto")
    for name in [*System.__annotations__, *(k for k in vars(System) if not k.startswith("_"))]:
        assert hasattr(system, name), name
    run = row.run()
    run.advance(3)
    frame, moved = run.frame(), run.state.weights - run.start.weights
    assert set(frame.observables) == set(system.observables)
    assert all(v.dtype == np.float64 and v.shape == (5,) and np.isfinite(v).all() for v in frame.observables.values())
    assert run.state.weights.shape == (5, system.n_parameters)
    assert run.state.diverged.dtype == torch.int64
    assert (moved.abs().max(1).values > 0).all()
    assert {k for k, v in system.knobs.items() if isinstance(v, str)} == set(system.choices)
    assert system.divergence_hint


@ONCE
def test_settings_are_plain_values_that_no_run_changes(row):
    run = row.run()
    before = json.dumps(run.system.settings())
    assert json.loads(before) == run.system.settings()
    run.advance(3)
    run.set(**row.turn)
    run.advance(3)
    assert json.dumps(run.system.settings()) == before
    assert row.make("auto").settings() == run.system.settings()


@ONCE
def test_a_start_belongs_to_its_stream_and_seed(row):
    system, streams = row.make("auto"), torch.tensor([0, 7, 2**32 - 1])
    whole = system.start(streams, SEED)
    assert torch.equal(system.start(streams[1:2], SEED)[0], whole[1])
    assert len(torch.unique(whole, dim=0)) == 3
    assert not torch.equal(system.start(streams, SEED + 1), whole)


@EVERY
def test_any_slices_give_the_same_bits(row, protocol):
    whole, sliced = (row.run(**under(protocol)) for _ in range(2))
    whole.advance(LONG)
    for n in (1, 1, 63, 7, 0, LONG - 72):
        sliced.advance(n)
    assert equal(whole, sliced)
    found, expected = sliced.frame().observables, whole.frame().observables
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=SUMS, atol=1e-12, err_msg=name)


@EVERY
def test_a_replica_depends_neither_on_their_number_nor_on_its_place(row, protocol):
    whole = row.run(**under(protocol))
    whole.advance(STEPS)
    for pick in ([3], [4, 1], [2, 0, 3]):
        some = row.run(pick=pick, **under(protocol))
        some.advance(STEPS)
        near(some.state.weights, whole.state.weights[pick], row.alone)


@EVERY
def test_what_becomes_of_its_neighbours_is_all_one_to_a_replica(row, protocol):
    """To the bit, though one of them explodes."""
    calm, wild = (row.run(**under(protocol)) for _ in range(2))
    wild.set(eta=[float(x) if r != 1 else 1e6 for r, x in enumerate(wild.knobs["eta"])])
    for run in (calm, wild):
        run.advance(STEPS)
    rest = [0, 2, 3, 4]
    assert torch.equal(calm.state.weights[rest], wild.state.weights[rest])
    assert (wild.state.diverged[rest] == -1).all()


@EVERY
def test_each_backend_takes_the_steps_of_the_plain_one(row, protocol):
    runs = [row.run(backend, **under(protocol)) for backend in row.backends]
    assert len({run.log["backend"] for run in runs}) == len(runs)
    for run in runs:
        run.advance(10)
    *fast, plain = runs
    expected = plain.frame().observables
    for run in fast:
        near(run.state.weights, plain.state.weights, row.agree)
        found = run.frame().observables
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=5 * row.agree, atol=row.agree, err_msg=name)


@EVERY
def test_a_log_replays_to_the_bit(row, protocol):
    """Knobs turned, weights put, the device moved, and frames at any steps."""
    run = row.run(**under(protocol))
    list(run.frames(5, until=17))
    run.set(**row.turn)
    list(run.frames(7, until=35))
    run.put(0.9 * run.state.weights)
    run.advance(2)
    run.move("cpu")
    run.set(lam=0.01)
    list(run.frames(3, until=45))
    log = run.log
    assert log["events"][1] == [17, row.turn]
    again = run.replay(json.loads(json.dumps(log)))
    assert equal(again, run)
    assert again.log == log
    for name, series in again.record().items():
        np.testing.assert_array_equal(series, run.record()[name])
    unturned = row.run(**under(protocol))
    unturned.advance(45)
    assert not torch.equal(unturned.state.weights, run.state.weights)


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items() if row.hot])
def test_divergence_is_found_and_dated(row):
    whole, sliced = (row.run(**row.hot) for _ in range(2))
    whole.advance(LONG)
    for n in (1, 2, 3, LONG - 6):
        sliced.advance(n)
    date = whole.state.diverged
    assert torch.equal(date, sliced.state.diverged)
    lost = int(torch.where(date > 0, date, LONG).argmin())
    assert 0 < date[lost] <= LONG
    again = row.run(**row.hot)
    again.advance(int(date[lost]))
    assert not float(again.state.weights[lost].double().square().sum()) < DIVERGED
    whole.set(eta=1.0, lam=0.0)  # one setting for all
    with pytest.raises(DivergenceError) as error:
        whole.frame()
    assert str(error.value).endswith(f"or {whole.system.divergence_hint}")
    assert "\n" not in str(error.value)


@ONCE
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_a_moved_run_keeps_its_weights_and_goes_on(row, device):
    run, still = row.run(), row.run()
    for r in (run, still):
        r.advance(20)
    run.move(device)
    assert torch.equal(run.state.weights.cpu(), still.state.weights)
    assert run.state.weights.device.type == device
    if device != "cpu":
        run.advance(2)
        run.move("cpu")
        assert torch.isfinite(run.state.weights).all()
        return
    for r in (run, still):
        r.advance(20)
    assert equal(run, still)


@ONCE
def test_unknown_knobs_and_values_are_refused_in_one_line(row):
    run = row.run()
    system, before = run.system, json.dumps(run.events)
    wrong = [{"nosuch": 1.0}, {"eta": math.nan}, {"eta": 0.0}, {"lam": -1.0}, {"lam": [0.1, 0.2]}]
    wrong += [{name: "nosuch"} for name in system.choices]
    for name in set(system.knobs) - set(system.choices):
        low, high = system.limits.get(name, (0.0, math.inf))
        wrong += [{name: math.nan}, {name: high}, *([{name: low - 1.0}] if math.isfinite(low) else [])]
    if system.has_batches:
        wrong += [{"batch_size": size} for size in (0, 2.5, [9, 9, 9, 9, 9])]
    else:
        wrong.append({"batch_size": 8})
    for knobs in wrong:
        with pytest.raises(ValueError, match=next(iter(knobs))) as error:
            run.set(**{"lam": 0.5} | knobs)
        assert "\n" not in str(error.value)
        assert json.dumps(run.events) == before
