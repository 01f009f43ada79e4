"""Two networks side by side as one system: the same data and knobs, weights and batches of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from thermolab.systems import embedded_linear
from thermolab.systems.regression import number
from thermolab.systems.system import Base

START = 0.6  # of the usual start: `embedded_linear.START` throws some deep networks out at the larger η of a live panel


class Pair(Base):
    """Two networks on the same `NoisyAnswers` as one system; weights [R, P_A + P_B], the batches of each its own.

    profile: σ [d_y] of the noise at the knob noise = 1. Knobs: eta, lam, noise (0 for none). batch_size is one for both.
    """

    name = "pair"
    observables = ("U", "U_a", "U_b")
    has_batches = True
    divergence_hint = "a larger batch"

    def __init__(self, nets, profile):
        self.nets, self.profile, self.knobs = tuple(nets), np.asarray(profile, float), {"noise": 1.0}
        self.sizes = [net.n_parameters for net in self.nets]
        self.n_parameters = sum(self.sizes)

    def settings(self) -> dict:
        """Plain values that describe this system."""
        return {"a": self.nets[0].settings(), "b": self.nets[1].settings(), "profile": self.profile.tolist()}

    def to(self, device) -> None:
        """Move the data, which both share, and the frozen views."""
        data = self.nets[0].data.to(device)
        for net in self.nets:
            net.to(device)
            net.data = data

    def choose_backend(self, weights: torch.Tensor) -> str:
        """That of both networks."""
        return self.nets[0].choose_backend(weights)

    def parts(self, weights: torch.Tensor) -> list[torch.Tensor]:
        """The weights [R, P] of A and of B."""
        return list(weights.split(self.sizes, 1))

    def start(self, streams: torch.Tensor, seed: int) -> torch.Tensor:
        """Gaussian weights of A and of B."""
        own = [embedded_linear.start(net, 2 * streams + i, seed, scale=START) for i, net in enumerate(self.nets)]
        return torch.cat(own, 1)

    def advance(self, weights: torch.Tensor, first_step: int, n: int, knobs: Mapping, seed: int, streams, radius, memory=()):
        """As in `System`. Before each step: losses U_a of A, U_b of B and their mean U. One lost network is divergence."""
        self.nets[0].data.follow(lambda knobs: number(knobs, "noise") * self.profile, knobs, "noise")
        losses, diverged = [], []
        for i, (net, part) in enumerate(zip(self.nets, self.parts(weights), strict=True)):
            own = part.contiguous()
            found, bad = net.advance(own, first_step, n, knobs, seed, 2 * streams + i, radius)
            part.copy_(own)
            losses.append(found["U"])
            diverged.append(bad)
        first = torch.where((diverged[0] < 0) | (diverged[1] < 0), torch.maximum(*diverged), torch.minimum(*diverged))
        return {"U": (losses[0] + losses[1]) / 2, "U_a": losses[0], "U_b": losses[1]}, first
