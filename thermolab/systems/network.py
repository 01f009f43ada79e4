"""A network on data as a system: R replicas, each with its own batches, η and λ, under one of six optimisers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import nn

from thermolab.systems import checks, compiled_mlp, global_random, random, updates
from thermolab.systems.batched import plan
from thermolab.systems.codes import protocol_code
from thermolab.systems.compiled_mlp import Chain, Samples
from thermolab.systems.data import Dataset
from thermolab.systems.holding import has_buffers
from thermolab.systems.invariance import scale_invariance
from thermolab.systems.kernels import DIVERGED, Found, Rates, Span
from thermolab.systems.replicas import Replicas
from thermolab.systems.starts import check_starts, start
from thermolab.systems.system import OBSERVABLES, Base
from thermolab.systems.updates import PROTOCOLS

INDEX_BLOCK = 2**18  # batch indices drawn at once
FRESH = 2**31  # steps from here on are never trained on: their batches are independent of a run's, and drawn with replacement


@functools.cache
def _blas():
    """What sets the threads of BLAS, which the compiled steps call; searched once, when it is loaded."""
    return ThreadpoolController().select(user_api="blas")


class NetworkOnData(Base):
    """Replicas of a module that learn a data set under one of the protocols.

    Batches are drawn independently for each replica, with replacement, or as usual training draws them, replacement=False: each
    datum once in an epoch of N // B steps, in a new order, and what is left over dropped (`random.shuffled`).
    optimiser: "sgd", "momentum", "adam", "adagrad", "sam" or "eef" (`updates`), for good. Knobs: eta, lam, protocol and the
    optimiser's: momentum μ; beta1, beta2, eps; rho (an absolute length); lam_entropy λ_S (of either sign). batch_size is one per
    experiment. precision: None or "bf16", as in `Replicas`.
    starts: "auto", "gaussian", "own", "fresh" or a function that makes the module anew (`systems.starts`). The data are checked
    when the system is made: what the module or the loss does not take is a ValueError of one line.
    """

    name = "network"
    has_batches = True
    _invariant: bool | None = None  # whether scale-invariant, not measured yet
    choices: ClassVar = {"protocol": PROTOCOLS}

    def __init__(
        self,
        module: nn.Module,
        data: Dataset,
        protocol: str = "lr",
        loss: str | Callable = "cross-entropy",
        backend: str = "auto",
        optimiser: str = "sgd",
        replacement: bool = True,
        starts: str | Callable = "auto",
        precision: str | None = None,
    ):
        self.replicas, self.data, self.backend = (
            Replicas(checks.materialised(module, data), loss, backend, precision),
            data,
            backend,
        )
        self._precision = checks.check_data(data, self.replicas)
        self.replacement, self.starts = replacement, check_starts(starts)
        self._known = {self.data_key: data}  # all that it has learnt, for a replay
        self.protocol, self.n_parameters = updates.check_protocol(protocol), self.replicas.n_parameters
        self.optimiser, self.rule = optimiser, updates.find_optimiser(optimiser)
        self.knobs = {"protocol": self.protocol, **self.rule.knobs}
        self.limits, self.memory = self.rule.limits, self.rule.memory

    @property
    def divergence_hint(self) -> str:
        """That of the optimiser."""
        return self.rule.remedy

    def settings(self) -> dict:
        """Plain values that describe this system."""
        plain = {
            "module": str(self.replicas.module),
            "n_data": len(self.data),
            "protocol": self.protocol,
            "loss": self.replicas.loss,
        }
        # plain SGD and replacement go without saying, as in the logs from before there were others
        plain |= {} if self.optimiser == "sgd" else {"optimiser": self.optimiser}
        plain |= {} if self.starts == "auto" else {"starts": getattr(self.starts, "__qualname__", str(self.starts))}
        plain |= {"precision": self.replicas.precision} if self.replicas.precision else {}
        return plain if self.replacement else {**plain, "replacement": False}

    def to(self, device) -> None:
        """Move data and frozen parameters."""
        self.data = self.data.to(device)
        self.replicas.to(device)

    def use(self, data) -> None:
        """Learn these data from the next step on, in place of those so far: inputs of the same shape, on the same device.

        A run under way notes their SHA-256 in its log before its next step. Raises ValueError for inputs of another shape.
        """
        new, old = (tuple(d.x.shape[1:]) for d in (data, self.data))
        if new != old:
            raise ValueError(f"inputs have shape {new}; allowed: {old}, as those so far")
        self._precision = checks.check_data(data, self.replicas)
        self.data, content = data, b"".join(t.cpu().numpy().tobytes() for t in (data.x, data.y))
        self.data_key = hashlib.sha256(content).hexdigest()
        self._known[self.data_key] = data

    def recall(self, data_key: str) -> None:
        """Learn again, from the next step on, what it was made with (an empty key) or has been told to `use`."""
        if data_key not in self._known:
            super().recall(data_key)
        if data_key != self.data_key:
            self.data, self.data_key = self._known[data_key].to(self.data.x.device), data_key

    def choose_backend(self, weights: torch.Tensor) -> str:
        """The backend that `advance` takes for these weights."""
        fits = self.backend == "auto" and self.optimiser == "sgd" and self.replacement and self.data.x.dim() == 2
        fits = fits and weights.device.type == "cpu" and self.replicas.chain
        numbers = (weights, self.data.x, *self.replicas.module.parameters(), *([] if self.data.y.dim() == 1 else [self.data.y]))
        compiled = fits and all(t.dtype == torch.float32 for t in numbers)
        return "compiled" if compiled else self.replicas.backend

    def start_memory(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """As in `System`: what the optimiser keeps, and the module's buffers where a step may change them."""
        return {**super().start_memory(weights), **self.replicas.own_memory(weights)}

    def start(self, streams: torch.Tensor, seed: int) -> torch.Tensor:
        """Weights [R, P], as `starts` says."""
        return start(self.replicas, self.starts, streams, seed)

    def batches(self, seed: int, streams: torch.Tensor, first_step: int, n: int, batch_size: int):
        """n batches (x [R, B, ...], y [R, B, ...]), one after the other, all in the same memory."""
        sources = (self.data.x, self.data.y)
        buffers = [t.new_empty((len(streams) * batch_size, *t.shape[1:])) for t in sources]
        draw = random.indices if self.replacement or first_step >= FRESH else random.shuffled
        chunk = max(1, INDEX_BLOCK // (len(streams) * batch_size))
        for begin in range(0, n, chunk):
            picks = draw(seed, streams, first_step + begin, min(chunk, n - begin), batch_size, len(self.data))
            for pick in picks:
                flat = pick.flatten()
                yield [
                    torch.index_select(t, 0, flat, out=b).unflatten(0, pick.shape) for t, b in zip(sources, buffers, strict=True)
                ]

    def advance(self, weights: torch.Tensor, first_step: int, n: int, knobs: Mapping, seed: int, streams, radius, memory=()):
        """As in `System`. Observables before each step: U = loss of the batch, r2 = |w|², p = pressure, g2 = |g|² r²."""
        checks.check_precision(weights, self._precision, self.data)
        checks.check_batch(self.replicas, int(knobs["batch_size"]))
        memory = memory if isinstance(memory, dict) else self.start_memory(weights)
        tangent = self._tangent(knobs.get("protocol", self.protocol), weights)
        if self.choose_backend(weights) == "compiled":
            return self._advance_compiled(weights, first_step, n, knobs, seed, streams, radius, tangent)
        rates = {name: knobs[name].to(weights.dtype) for name in ("eta", "lam", *self.rule.knobs)}
        g, protocol = torch.empty_like(weights), knobs.get("protocol", self.protocol)
        totals = {k: torch.zeros(len(weights), dtype=torch.float64, device=weights.device) for k in OBSERVABLES}
        diverged = torch.full((len(weights),), -1, device=weights.device)
        with torch.no_grad(), self._gradients(weights, memory, seed, streams) as gradient:
            r = torch.linalg.vector_norm(weights, dim=1)
            for i, (x, y) in enumerate(self.batches(seed, streams, first_step, n, int(knobs["batch_size"]))):
                totals["U"] += gradient(first_step + i, weights, x, y, g)
                totals["r2"] += r * r
                totals["g2"] += (torch.linalg.vector_norm(g, dim=1) * r) ** 2
                if self.rule.probe is not None:
                    gradient(first_step + i, self.rule.probe(weights, g, rates), x, y, g)
                at = radius, first_step + i + 1
                totals["p"] += updates.step(self.rule, protocol, weights, g, memory, rates, *at, tangent=tangent)
                r = torch.linalg.vector_norm(weights, dim=1)
                fine = r * r < DIVERGED
                if fine.is_cuda or not fine.all():  # a look costs less than two operations, but on a GPU it waits
                    diverged = torch.where(~fine & (diverged < 0), first_step + i + 1, diverged)
        return {k: t / n for k, t in totals.items()}, diverged

    def _tangent(self, protocol: str, weights: torch.Tensor) -> bool:
        """Whether gradients lie in the sphere, for the pressure: measured once, at a start that is the same for every run."""
        if protocol == "sphere" and self._invariant is None:
            start = self.start(torch.zeros(1, dtype=torch.int64, device=weights.device), 0).to(weights)
            self._invariant = bool(scale_invariance(self, start, self.start_memory(start)).holds.all())
        return protocol != "sphere" or self._invariant

    @contextmanager
    def _gradients(self, weights, memory: dict, seed: int, streams):
        """gradient(step, weights, x, y, out) -> losses, within a span of steps; what the module draws hangs on seed and step."""
        net = self.replicas
        with net.settled(weights):
            if net.backend != "loop" and not has_buffers(memory):
                yield lambda step, *batch: net.loss_and_gradient(*batch)
            elif not net.may_draw:
                yield lambda step, *batch: net.loss_and_gradient(*batch, memory)
            else:
                names = streams.tolist()
                with global_random.kept():
                    yield lambda step, *batch: net.loss_and_gradient(
                        *batch, memory, lambda r: global_random.seed(seed, step, names[r])
                    )

    def _advance_compiled(self, weights, first_step, n, knobs, seed, streams, radius, tangent):
        squared, x, y = self.replicas.loss == "squared", self.data.x.numpy(), self.data.y.numpy()
        outputs = next(layer.out_features for _, layer in reversed(self.replicas.chain) if hasattr(layer, "out_features"))
        if not squared:  # written to since they were checked, they would be read beside the arrays
            checks.check_labels(self.data.y, outputs)
        classes, targets = (np.zeros(0, np.int64), y) if squared else (y, np.zeros((0, 0), np.float32))
        eta, lam = (knobs[k].numpy().astype(np.float32) for k in ("eta", "lam"))
        rates = Rates(eta, lam, radius.numpy(), protocol_code(knobs.get("protocol", self.protocol)))
        span, found = Span(first_step, n, np.uint64(seed), streams.numpy().astype(np.uint32)), Found.nothing(len(weights))
        chain, samples = (
            Chain(*plan(self.replicas.chain, self.replicas.trainable), squared, tangent),
            Samples(x, classes, targets, int(knobs["batch_size"])),
        )
        with _blas().limit(limits=1):  # a second thread costs another replica's or a panel's processor more than it gains
            compiled_mlp.advance_chain(weights.numpy(), chain, samples, span, rates, found)
        return {k: torch.from_numpy(s / n) for k, s in zip(OBSERVABLES, found.sums, strict=True)}, torch.from_numpy(
            found.diverged
        )

    def gradients(self, weights: torch.Tensor, n: int, batch_size: int, seed: int, streams, memory=()) -> torch.Tensor:
        """Gradients [n, R, P] of n fresh batches at fixed weights and memory (default: that of the start)."""
        out = torch.empty((n, *weights.shape), dtype=weights.dtype, device=weights.device)
        memory = {k: v.clone() for k, v in (dict(memory) or self.start_memory(weights)).items()}
        with torch.no_grad(), self._gradients(weights, memory, seed, streams) as gradient:
            for i, (x, y) in enumerate(self.batches(seed, streams, FRESH, n, batch_size)):
                gradient(FRESH + i, weights, x, y, out[i])
        return out
