"""Gradient descent on all data at once: a network without the noise of batches."""

from __future__ import annotations

import torch

from thermolab.systems.network import NetworkOnData


class FullBatch(NetworkOnData):
    """Replicas of a module that learn a data set, every step on all of it: no noise and no batch size. Knobs: eta, lam."""

    name = "full batch"
    has_batches = False
    divergence_hint = "another start"

    def choose_backend(self, weights: torch.Tensor) -> str:
        """Never the compiled one, which draws its batches itself."""
        return self.replicas.backend

    def batches(self, seed: int, streams: torch.Tensor, first_step: int, n: int, batch_size: int):
        """The whole data n times, the same for each replica; a module that may write to its inputs gets copies."""
        whole = [t.expand(len(streams), *t.shape) for t in (self.data.x, self.data.y)]
        copied = self.replicas.backend == "loop"
        yield from ([t.clone() for t in whole] if copied else whole for _ in range(n))

    def advance(self, weights, first_step, n, knobs, seed, streams, radius, memory=()):
        """As in `NetworkOnData`."""
        return super().advance(weights, first_step, n, {**knobs, "batch_size": len(self.data)}, seed, streams, radius, memory)
