"""The contract of what moves: all that the engine asks of a system, and the answers that most systems share."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Protocol

import torch

OBSERVABLES = ("U", "r2", "p", "g2")  # of most systems: energy, |w|², pressure, and |g|² at |w| = 1


class System(Protocol):
    """R replicas of something with P weights, which a step moves; R is known to the weights [R, P] alone.

    name: what logs call it. n_parameters: P. observables: the names of the means that `advance` returns.
    knobs: {name: default} of all that can be turned beside eta and lam; a text is one of `choices` {name: allowed texts}.
    limits: {name: (low, high)} of knobs that are bound by low <= knob < high, and not by 0 <= knob as all others.
    has_batches: whether a step learns from a batch, the size of which is then the knob batch_size.
    memory: names of what is kept from step to step beside the weights, [R, P] each, 0 at the start; a step may keep more.
    divergence_hint: what helps against divergence beside a smaller η, in a few words.
    data_key: what a log calls the data that are learnt now, empty for those that the system was made with.
    """

    name: str
    n_parameters: int
    observables: tuple[str, ...]
    knobs: Mapping[str, float | str]
    choices: Mapping[str, tuple[str, ...]]
    limits: Mapping[str, tuple[float, float]]
    has_batches: bool
    memory: tuple[str, ...]
    divergence_hint: str
    data_key: str

    def settings(self) -> dict:
        """Plain JSON values that say which system this is; a log replays on a system of equal settings alone."""

    def to(self, device) -> None:
        """Move all that belongs to the system, as its data; the weights belong to the run."""

    def recall(self, data_key: str) -> None:
        """Learn from the next step on what had this key before. Raises ValueError, one line, for data that it never had."""

    def start(self, streams: torch.Tensor, seed: int) -> torch.Tensor:
        """Weights [R, P], a function of the seed and the stream of each replica alone."""

    def start_memory(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is kept from step to step beside the weights [R, P], before the first: {name: [R, ...]}."""

    def choose_backend(self, weights: torch.Tensor) -> str:
        """Which of several ways to compute the same steps `advance` takes for these weights: their device and type decide."""

    def advance(
        self, weights: torch.Tensor, first_step: int, n: int, knobs: Mapping, seed: int, streams, radius, memory=()
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """n >= 1 steps, the first of which is number first_step, from 0 on; in place.

        weights [R, P] and memory {name: [R, ...]} change; knobs {name: [R] float64, or a text}, batch_size one whole number;
        streams [R] int64, which with seed and step make all random numbers; radius [R] of the fixed sphere.
        Returns the means over the steps of each observable, {name: [R] float64}, and the step [R] int64 by which a replica first
        diverged, -1 where none did. A replica's weights depend to the bit neither on the others nor on how a run is cut.
        """


class Base(System):
    """A system without batches, choices, memory or data, computed in one way: the defaults of `System`."""

    observables: tuple[str, ...] = OBSERVABLES
    choices: ClassVar[Mapping] = MappingProxyType({})
    limits: Mapping[str, tuple[float, float]] = MappingProxyType({})
    has_batches = False
    memory: tuple[str, ...] = ()
    divergence_hint = "another start"
    data_key = ""

    def to(self, device) -> None:
        """Nothing to move."""

    def recall(self, data_key: str) -> None:
        """Nothing was ever exchanged."""
        if data_key:
            raise ValueError(f"the run learnt data {data_key[:8]}… that this system never had: a log holds their hash alone")

    def start_memory(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """Zeros [R, P] under each name of `memory`."""
        return {name: torch.zeros_like(weights) for name in self.memory}

    def choose_backend(self, weights: torch.Tensor) -> str:
        """The only one."""
        return "tensor"


class CompiledOrTensor(Base):
    """A system with a compiled loop for weights of one type on the CPU, and tensors for all others.

    backend: "auto", "compiled" or "tensor". Raises ValueError for another one, and in `choose_backend` where "compiled" does not
    take the weights.
    """

    compiled_type = torch.float32

    def __init__(self, backend: str = "auto"):
        if backend not in ("auto", "compiled", "tensor"):
            raise ValueError(f"backend={backend!r} is unknown; allowed: auto, compiled, tensor")
        self.backend = backend

    def choose_backend(self, weights: torch.Tensor) -> str:
        """The backend that `advance` takes for these weights."""
        fits = weights.device.type == "cpu" and weights.dtype == self.compiled_type
        if self.backend == "compiled" and not fits:
            takes = str(self.compiled_type).removeprefix("torch.")
            raise ValueError(
                f"backend='compiled' takes {takes} on the CPU, not {weights.dtype} on {weights.device}; allowed: auto, tensor"
            )
        return ("compiled" if fits else "tensor") if self.backend == "auto" else self.backend
