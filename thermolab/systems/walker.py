"""The scale-invariant walker: a linear model that depends on the direction of its weights alone, on one fresh sample a step.

f(w) = w·x/|w| learns y = e₁·x + σξ from one fresh Gaussian x in R^d at a time, with the loss |f − y|². The gradient is
orthogonal to w, so each step without weight decay adds η²|g|² to |w|² exactly. With the angle θ to e₁ and C(θ) = |w|² E|g|²,

    C = 4 [(σ² + (1 − cos θ)²)(d − 1) + sin²θ (d + 1)].

Source: document 4, part 2. Limit: the noise of the targets does not depend on x.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from thermolab.systems import random, updates
from thermolab.systems.kernels import DIVERGED
from thermolab.systems.system import OBSERVABLES, Base

GRAIN = 2**31  # values of a uniform random number, from which the normal ones are made
CHUNK = 2**20  # random numbers drawn at a time


def moment(cosine, dim: int, sigma):
    """C(θ) = |w|² E|g|² of one sample (module docstring), from cos θ; arrays broadcast.

    >>> float(moment(1.0, 2, 0.5)), float(moment(-1.0, 3, 0.0))
    (1.0, 32.0)
    """
    cosine = np.asarray(cosine, float)
    return 4 * ((np.square(sigma) + (1 - cosine) ** 2) * (dim - 1) + (1 - cosine**2) * (dim + 1))


class ScaleInvariantWalker(Base):
    """System of the walker in d >= 2 dimensions, one fresh sample at each step; weights float64.

    dim: d. Knobs: eta, lam, sigma (of the targets' noise). Raises ValueError for dim below 2.
    """

    name = "scale-invariant walker"
    observables = (*OBSERVABLES, "push")
    divergence_hint = "a smaller sigma"

    def __init__(self, dim: int = 2):
        if int(dim) != dim or dim < 2:
            raise ValueError(f"dim={dim} is no dimension; allowed: whole numbers from 2 (a line has one direction)")
        self.n_parameters = int(dim)
        self.knobs = {"sigma": 0.5}

    def settings(self) -> dict:
        """Plain values that rebuild this system."""
        return {"dim": self.n_parameters}

    def start(self, streams: torch.Tensor, seed: int) -> torch.Tensor:
        """Weights [R, d] uniform on the unit sphere, float64."""
        return random.directions(seed, streams, self.n_parameters, torch.float64)

    def advance(self, weights: torch.Tensor, first_step: int, n: int, knobs: Mapping, seed: int, streams, radius, memory=()):
        """As in `System`. Before each step: U = E|f − y|², exact, r2 = |w|², p = λ, g2 = |g|² |w|² and push = |g|²."""
        eta, lam, sigma = (knobs[k].to(weights.dtype) for k in ("eta", "lam", "sigma"))
        totals = torch.zeros(len(self.observables), len(weights), dtype=torch.float64, device=weights.device)
        diverged = torch.full((len(weights),), -1, dtype=torch.int64, device=weights.device)
        dim, chunk = self.n_parameters, max(1, CHUNK // (len(weights) * (self.n_parameters + 1)))
        for begin in range(first_step, first_step + n, chunk):
            count = min(chunk, first_step + n - begin)
            for i, z in enumerate(normals(seed, streams, begin, count, dim + 1)):
                x = z[:, :dim]
                r2 = (weights * weights).sum(1)
                u = weights / r2.sqrt()[:, None]
                f = (u * x).sum(1)
                g = (2 * (f - x[:, 0] - sigma * z[:, dim]))[:, None] * torch.addcmul(x, u, f[:, None], value=-1)
                g2 = (g * g).sum(1)
                totals += torch.stack([sigma * sigma + 2 - 2 * u[:, 0], r2, lam, g2, g2 / r2])
                updates.update("lr", weights, g / r2.sqrt()[:, None], eta, lam, radius)
                bad = ~(r2 < DIVERGED)
                diverged[bad & (diverged < 0)] = begin + i + 1
        return dict(zip(self.observables, totals / n, strict=True)), diverged


def normals(seed: int, streams: torch.Tensor, first_step: int, n: int, count: int) -> torch.Tensor:
    """Standard normals [n, R, count], float64, five times as fast as those of `systems.random`: the data of each step."""
    return torch.special.ndtri((random.indices(seed, streams, first_step, n, count, GRAIN).double() + 0.5) / GRAIN)
