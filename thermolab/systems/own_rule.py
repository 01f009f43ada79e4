"""A network on data that takes steps of one's own: a function of weights and gradient in the place of an optimiser.

The batches are those that the network itself would learn from, so two runs of one seed differ in the rule and in nothing else.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping

import torch

from thermolab.systems.kernels import DIVERGED
from thermolab.systems.network import NetworkOnData


class RuleError(ValueError):
    """A rule of one's own raised, or returned what are no weights: one line."""

    remedy = "Mend it and run its cell again"


class OwnRule(NetworkOnData):
    """The network of `net` under step(w, g, eta, lam), or step(w, g, eta, lam, t), which returns the new ones.

    w, g: weights and gradient of the batch, [R, P]; eta, lam: [R, 1]; t: the number of the step, from 0 on. They are copies, so a
    rule may change them. Raises ValueError where the network does not take plain SGD, or the step takes other arguments.
    """

    observables = ("U", "r2", "g2")  # the pressure of an unknown rule is not known

    def __init__(self, net: NetworkOnData, step: Callable):
        if type(net) is not NetworkOnData or net.optimiser != "sgd" or net.protocol != "lr":
            kind = f"{type(net).__name__}, {getattr(net, 'optimiser', 'no optimiser')}, {getattr(net, 'protocol', 'no protocol')}"
            raise ValueError(f"a rule of your own takes the place of plain SGD (NetworkOnData, sgd, lr), not of {kind}")
        taken = len(inspect.signature(step).parameters)
        if taken not in (4, 5):
            raise ValueError(f"your step takes {taken} arguments; allowed: step(w, g, eta, lam) or step(w, g, eta, lam, t)")
        kept = {"replacement": net.replacement, "starts": net.starts, "precision": net.replicas.precision}
        super().__init__(net.replicas.module, net.data, net.protocol, net.replicas.loss_function, net.backend, **kept)
        self.own, self._timed = step, taken == 5
        self.knobs, self.choices = {}, {}  # a protocol would have no say

    def settings(self) -> dict:
        """Plain values; the function is none, so that no log of it replays elsewhere."""
        return {**super().settings(), "optimiser": "your rule"}

    def choose_backend(self, weights: torch.Tensor) -> str:
        """Never the compiled steps, which know the package's rules alone."""
        return self.replicas.backend

    def advance(self, weights: torch.Tensor, first_step: int, n: int, knobs: Mapping, seed: int, streams, radius, memory=()):
        """As in `System`. Raises RuleError."""
        eta, lam = (knobs[k].to(weights.dtype)[:, None] for k in ("eta", "lam"))
        g = torch.empty_like(weights)
        totals = {k: torch.zeros(len(weights), dtype=torch.float64, device=weights.device) for k in self.observables}
        diverged = torch.full((len(weights),), -1, device=weights.device)
        memory = memory if isinstance(memory, dict) else self.start_memory(weights)
        with torch.no_grad(), self._gradients(weights, memory, seed, streams) as gradient:
            for i, (x, y) in enumerate(self.batches(seed, streams, first_step, n, int(knobs["batch_size"]))):
                totals["U"] += gradient(first_step + i, weights, x, y, g)
                r2, g2 = ((v * v).sum(1) for v in (weights, g))
                totals["r2"] += r2
                totals["g2"] += g2 * r2
                alive = r2 < DIVERGED
                weights.copy_(self._moved(weights, g, eta, lam, first_step + i, alive))
                bad = ~((weights * weights).sum(1) < DIVERGED)
                diverged = torch.where(bad & (diverged < 0), first_step + i + 1, diverged)
        return {k: t / n for k, t in totals.items()}, diverged

    def _moved(self, w, g, eta, lam, t: int, alive: torch.Tensor) -> torch.Tensor:
        """What the rule makes of the weights, if it is weights."""
        given = (w.clone(), g.clone(), eta.clone(), lam.clone(), *((t,) if self._timed else ()))
        try:
            found = self.own(*given)
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1].lineno
            raise RuleError(f"your step raised {type(error).__name__} in line {line}: {_first_line(error)}") from error
        try:
            new = torch.as_tensor(found).to(w)
        except (TypeError, ValueError, RuntimeError):
            raise RuleError(f"your step returned {type(found).__name__}; allowed: the new weights, {_shape(w)}") from None
        if new.shape != w.shape:
            raise RuleError(f"your step returned {_shape(new)}; allowed: the new weights, {_shape(w)}")
        if not new[alive].isfinite().all():
            raise RuleError(f"your step returned numbers that are not finite at step {t}")
        return new


def _shape(w: torch.Tensor) -> str:
    return f"shape {list(w.shape)}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
