"""What can be read of a network by its name, in a panel, by `measure` and by a `Watch`: one table of gauges for all three.

A gauge reads a `Probe`, which takes the gradients of fresh batches once and lends them to all gauges of that moment. Gradients
are taken at the weights as they are: nothing is rescaled. In words:

    U            energy: the loss, mean over the batches since the last reading, in units of the loss
    r            |w|
    T            temperature Σ M_i Σ_ii/(2 D), M the mobility (`mobility`), Σ the covariance of the gradient, D weights
    S            entropy of the direction w/|w| along the last readings, up to a constant (`observables.PathEntropy`)
    snr          |∇L|/√Tr Σ, signal over noise of the gradient; 0 where the unbiased estimate of |∇L|² is negative
    sharpness    λ_max, the largest eigenvalue of the Hessian on the first `SAMPLES` data, followed from reading to reading by
                 a few Lanczos products (`FIRST`, then `WARM`); lambda_max_error is what they leave of it: a bound from below
    batch_sharpness  mean of gᵀH_B g/|g|², gradient and Hessian of the same batch (arXiv:2412.20553)
    balance      imbalance: root mean square over the rescalable pairs of log E|g_w|²/E|g_u|² (`symmetry`), 0 in balance; it is
                 never below what the noise of so few batches leaves
    accuracy     share of the first `SAMPLES` data that are classified as labelled
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from thermolab.engine.scenario import Observable
from thermolab.instruments import curvature, mobility, observables, symmetry, whole, windows
from thermolab.systems import checks, global_random
from thermolab.systems.holding import of_replica
from thermolab.systems.loading import chunks
from thermolab.systems.network import NetworkOnData

SAMPLES = 512  # data of which sharpness and accuracy are taken, always the same
BATCHES = 12  # fresh ones for each reading
BATCHES_OF_SHARPNESS = 16
FIRST, WARM = 40, 8  # Hessian products of the first reading, and of the later ones


class Moments:
    """Mean and covariance diagonal of gradients [..., P] that come one after the other, by Welford's sums: none is kept."""

    def __init__(self):
        self.n, self.mean, self.scatter = 0, None, None

    def add(self, gradient: torch.Tensor) -> None:
        """One more gradient [..., P], of which nothing but the sums is kept."""
        if self.mean is None:
            self.mean, self.scatter = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self.n += 1
        off = gradient - self.mean
        self.mean += off / self.n
        self.scatter += off * (gradient - self.mean)

    @property
    def variance(self) -> torch.Tensor:
        """Unbiased variance of each component [..., P]: the diagonal of Σ."""
        return self.scatter / (self.n - 1)

    @property
    def second(self) -> torch.Tensor:
        """Mean square of each component [..., P]."""
        return self.mean.square() + self.scatter / self.n

    @property
    def trace(self) -> np.ndarray:
        """Tr Σ [...]."""
        return self.variance.double().sum(-1).cpu().numpy()

    @property
    def signal(self) -> np.ndarray:
        """|∇L|² [...], unbiased, and therefore negative at times."""
        return self.mean.double().square().sum(-1).cpu().numpy() - self.trace / self.n


class Probe(Protocol):
    """What gauges ask of a moment of a run, or of a plain module that somebody trains."""

    @property
    def moments(self) -> Moments:
        """Of the gradients [R, P] of fresh batches, taken once."""

    @property
    def mobility(self) -> torch.Tensor:
        """M [R, 1] or [R, P]."""

    @property
    def radius(self) -> np.ndarray:
        """|w| [R]."""

    @property
    def dimension(self) -> int:
        """D: the weights that move, less one where the radius is held."""

    @property
    def module(self) -> torch.nn.Module:
        """Whose rescalable pairs are sought."""

    def kept(self, name: str, make: Callable) -> Any:
        """What a gauge keeps from one reading to the next."""

    def energy(self) -> dict:
        """U, unless the system itself gives it."""

    def entropy(self) -> Any:
        """S [R]."""

    def sharpness(self) -> dict:
        """λ_max [R] with the bound of its error."""

    def batch_sharpness(self) -> Any:
        """[R], the mean over fresh batches."""

    def accuracy(self) -> Any:
        """[R]."""


@dataclass
class RunProbe:
    """A run of R replicas at a frame, as an observable of `Experiment` finds it."""

    system: NetworkOnData
    state: object
    knobs: Mapping
    memory: dict  # what the gauges keep from reading to reading
    batches: int = BATCHES

    @cached_property
    def moments(self) -> Moments:
        """Of the gradients of fresh batches, none of which training draws."""
        found, weights, kept = Moments(), self.state.weights, self.state.memory
        streams, size = torch.arange(len(weights), device=weights.device), int(self.knobs["batch_size"])
        for part in chunks(self.batches, weights.nbytes):
            seed = 2**32 * (1 + self.state.step) + part.start
            for gradient in self.system.gradients(weights, part.stop - part.start, size, seed, streams, kept):
                found.add(gradient)
        return found

    @property
    def mobility(self) -> torch.Tensor:
        """M [R, 1] or [R, P]."""
        return mobility.of_run(self.system, self.state, self.knobs)

    @property
    def radius(self) -> np.ndarray:
        """|w| [R]."""
        return torch.linalg.vector_norm(self.state.weights.double(), dim=1).cpu().numpy()

    @property
    def dimension(self) -> int:
        """D: the weights, less one where the radius is held."""
        return self.state.weights.shape[1] - (self.knobs.get("protocol", "lr") == "sphere")

    @property
    def module(self) -> torch.nn.Module:
        """Whose rescalable pairs are sought."""
        return self.system.replicas.module

    def kept(self, name: str, make: Callable):
        """What a gauge keeps from one reading to the next."""
        if name not in self.memory:
            self.memory[name] = make()
        return self.memory[name]

    def energy(self) -> dict:
        """U is among the means that the system itself gives."""
        return {}

    def entropy(self):
        """S [R]."""
        found = self.kept("S", lambda: observables.PathEntropy(of="direction"))
        return found(self.system, self.state, self.knobs)["S"]

    def sharpness(self) -> dict:
        """λ_max [R] with the bound of its error."""
        data, vectors = self.system.data, self.kept("vectors", dict)
        x, y = data.x[:SAMPLES], data.y[:SAMPLES]
        found = np.full((2, len(self.state.weights)), np.nan)
        for r, weights in enumerate(self.state.weights):
            if bool(weights.isfinite().all()):
                kept = of_replica(self.state.memory, r)
                hessian = curvature.HessianProducts(self.system, weights, x, y, memory=kept)
                found[:, r] = follow(hessian, vectors, r, self.state.step)
        return dict(zip(("lambda_max", "lambda_max_error"), found, strict=True))

    def batch_sharpness(self) -> np.ndarray:
        """[R], the mean over fresh batches."""
        seed, size = 2**32 * (1 + self.state.step), int(self.knobs["batch_size"])
        each = []
        for r, weights in enumerate(self.state.weights):
            kept = of_replica(self.state.memory, r)
            found = curvature.batch_sharpness(self.system, weights, size, n=BATCHES_OF_SHARPNESS, seed=seed, memory=kept)
            each.append(found.mean())
        return np.array(each)

    def accuracy(self) -> np.ndarray:
        """[R]."""
        data, replicas = self.system.data, self.system.replicas
        x, y = data.x[:SAMPLES], data.y[:SAMPLES]
        with windows.drawing(0, self.state.step):
            outputs = replicas.outputs(self.state.weights, x, self.state.memory)
        return (outputs.argmax(-1) == y).double().mean(-1).cpu().numpy()


def follow(hessian, vectors: dict, key, seed: int) -> tuple[float, float]:
    """λ_max and what is left of it, from the vector of the reading before, which is replaced."""
    start = vectors.get(key)
    most = FIRST if start is None else WARM
    top = curvature.largest_eigenvalue(hessian, start=start, tolerance=0.01, most=most, seed=seed)
    vectors[key] = top.vector
    return top.value, top.error


def _temperature(probe: Probe) -> dict:
    weighted = (probe.mobility * probe.moments.variance).double().sum(-1)
    return {"T": (weighted / (2 * probe.dimension)).cpu().numpy()}


def _snr(probe: Probe) -> dict:
    with np.errstate(divide="ignore", invalid="ignore"):  # no noise at all: inf, and NaN where there is no gradient either
        return {"snr": np.sqrt(np.maximum(probe.moments.signal, 0) / probe.moments.trace)}


def _imbalance(probe: Probe) -> dict:
    found = probe.kept("pairs", lambda: symmetry.pairs(probe.module))
    logs = torch.stack([symmetry.log_ratio(pair, probe.moments.second.double()) for pair in found])
    return {"imbalance": logs.square().mean(0).sqrt().cpu().numpy()}


@dataclass(frozen=True)
class Gauge:
    """A gauge: read(probe) -> {variable: [R]}, and what is said of the first of its variables."""

    read: Callable[[Probe], Mapping]
    variable: str
    observable: Observable


GAUGES = {
    "U": Gauge(lambda probe: probe.energy(), "U", Observable("energy U (loss)", log=True)),
    "r": Gauge(lambda probe: {"r": probe.radius}, "r", Observable("radius |w|")),
    "T": Gauge(_temperature, "T", Observable("temperature T (loss)", log=True)),
    "S": Gauge(lambda probe: {"S": probe.entropy()}, "S", Observable("entropy S of the direction (nats)")),
    "snr": Gauge(_snr, "snr", Observable("signal/noise |∇L|/√Tr Σ", log=True)),
    "sharpness": Gauge(lambda probe: probe.sharpness(), "lambda_max", Observable("sharpness λ_max")),
    "batch_sharpness": Gauge(
        lambda probe: {"batch_sharpness": probe.batch_sharpness()}, "batch_sharpness", Observable("batch sharpness gᵀHg/|g|²")
    ),
    "balance": Gauge(_imbalance, "imbalance", Observable("imbalance of E|g|², rms log ratio")),
    "accuracy": Gauge(lambda probe: {"accuracy": probe.accuracy()}, "accuracy", Observable("accuracy")),
}


def refusals(system) -> dict[str, str]:
    """{gauge: why not}, of those that cannot be read of a system."""
    if not isinstance(system, NetworkOnData):
        own = {"r", "S", *system.observables}
        return {name: "needs a network on data" for name in GAUGES if name not in own}
    why = {}
    if not system.has_batches:
        why = dict.fromkeys(("T", "snr", "balance", "batch_sharpness"), "needs batches, and every step sees all data")
    logits, draws = _tried(system)
    if draws:  # not so of T and snr: the noise of dropout is part of them
        why = dict.fromkeys(("sharpness", "batch_sharpness"), "the module draws random numbers (dropout in training mode?)") | why
    if system.data.y.is_floating_point() or system.data.y.dim() != 1:
        why["accuracy"] = "needs classes [N]"
    elif not logits:
        why["accuracy"] = "needs outputs that are logits [N, K]"
    return why | refusal_of_pairs(system.replicas.module)


def _tried(system: NetworkOnData) -> tuple[bool, bool]:
    """Whether the module gives a tensor [N, K], and whether it draws random numbers, as a first batch shows; nothing changes."""
    weights = system.replicas.own_weights().to(system._precision)
    with global_random.kept(), torch.no_grad(), system.replicas.holding(weights) as module:
        before = whole.generators()
        outputs, _ = checks.first_outputs(module, system.data.x)
        draws = whole.generators() != before
    return isinstance(outputs, torch.Tensor) and outputs.dim() == 2, draws


def refusal_of_pairs(module: torch.nn.Module) -> dict[str, str]:
    """{"balance": why not} where a module has no rescalable pairs that are found."""
    try:
        return {} if symmetry.pairs(module) else {"balance": "no rescalable pair was found"}
    except ValueError as error:
        return {"balance": str(error).partition(";")[0]}


def check(names: Iterable[str], why_not: Mapping[str, str], others: Iterable[str] = ()) -> tuple[str, ...]:
    """The names, each once. Raises ValueError, one line, for an unknown one and for one that cannot be read here."""
    names, others = tuple(dict.fromkeys([names] if isinstance(names, str) else names)), tuple(others)
    allowed = ", ".join([n for n in GAUGES if n not in why_not] + [n for n in others if n not in GAUGES])
    for name in names:
        if name in why_not and name not in others:
            raise ValueError(f"{name} cannot be read: {why_not[name]}; allowed: {allowed}")
        if name not in GAUGES and name not in others:
            raise ValueError(f"observe={name!r} is unknown; allowed: {allowed}")
    if not names:
        raise ValueError(f"observe names nothing; allowed: {allowed}")
    return names


def for_run(system, names: Iterable[str]) -> tuple[str, ...]:
    """The names, checked against what can be read of a system: gauges, and the observables that it has itself."""
    return check(names, refusals(system), system.observables)


def variable(name: str) -> str:
    """The variable in which a gauge's value stands: lambda_max for sharpness, imbalance for balance, else its own name."""
    return GAUGES[name].variable if name in GAUGES else name


def observable(name: str) -> Observable:
    """How it is called for people."""
    return GAUGES[name].observable if name in GAUGES else Observable(name)


class Reader:
    """The gauges of a run as one observable of an `Experiment`; it keeps what they remember, so each run has its own."""

    def __init__(self, system, names: Iterable[str], batches: int = BATCHES):
        self.names, self.batches, self._memory = for_run(system, names), batches, {}

    def __call__(self, system, state, knobs) -> dict:
        probe = RunProbe(system, state, knobs, self._memory, self.batches)
        return read(probe, self.names)


def read(probe: Probe, names: Iterable[str]) -> dict:
    """{variable: [R]} of the gauges."""
    found = {}
    for name in names:
        if name in GAUGES:
            found |= GAUGES[name].read(probe)
    return found
