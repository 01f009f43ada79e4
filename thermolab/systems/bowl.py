"""Two weights in a bowl, L = ½ wᵀHw with H = diag(1, 1/10), whose noise is the bowl's own Hessian turned by an angle.

A step w <- w − η(Hw + λw + ξ) has Gaussian ξ of covariance C = σ² R H Rᵀ, R the rotation by the angle φ. At φ = 0 the noise is
proportional to the Hessian. At rest w has mean 0 and a covariance Σ = AΣAᵀ + η²C with A = 1 − η(H + λ), so

    Σ_ij = η² C_ij / (1 − a_i a_j),

exact at every η. At other angles Σ does not commute with H: the cloud of weights turns, though its shape stays as it is.
Source: arXiv:1710.11029; arXiv:1807.00694 (in continuous time). Limit: Gaussian noise that does not depend on w.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from thermolab.systems import random
from thermolab.systems.kernels import DIVERGED
from thermolab.systems.system import Base
from thermolab.systems.walker import CHUNK, normals

HESSIAN = (1.0, 0.1)


def noise(sigma: torch.Tensor, angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """C_11, C_12, C_22 [R] of the module docstring; sigma, angle (in degrees): [R].

    >>> [float(c) for c in noise(torch.tensor(2.0), torch.tensor(0.0))]
    [4.0, 0.0, 0.4000000059604645]
    """
    cos, sin, (h, k) = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle)), HESSIAN
    return tuple(sigma**2 * c for c in (h * cos**2 + k * sin**2, (h - k) * cos * sin, h * sin**2 + k * cos**2))


def covariance(eta, lam, sigma, angle) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Σ_11, Σ_12, Σ_22 [R] at rest, each argument [R]; of no meaning where a step of η is not stable."""
    a, b = (1 - eta * (h + lam) for h in HESSIAN)
    return tuple(eta**2 * c / (1 - f) for c, f in zip(noise(sigma, angle), (a * a, a * b, b * b), strict=True))


class Bowl(Base):
    """System of the module docstring; weights (w₁, w₂, turns) [R, 3], float64.

    turns: how often the replica has gone round, the area that it swept in units of that of the cloud at rest,
    Σ (w × w′)/(4π √det Σ), positive against the clock. Knobs: eta, lam, sigma > 0, angle in degrees.
    """

    name = "bowl"
    observables = ("U", "swept", "produced")
    n_parameters = 3

    def __init__(self):
        self.knobs = {"sigma": 1.0, "angle": 45.0}

    def settings(self) -> dict:
        """Nothing to choose."""
        return {}

    def start(self, streams: torch.Tensor, seed: int) -> torch.Tensor:
        """Places [R, 3] drawn from a Gaussian of variance 1, float64, without a turn."""
        place = random.normals(seed, streams, 0, 1, 2, torch.float64, purpose=random.START)[0]
        return torch.nn.functional.pad(place, (0, 1))

    def advance(self, weights: torch.Tensor, first_step: int, n: int, knobs: Mapping, seed: int, streams, radius, memory=()):
        """As in `System`: U = L before the step; swept = w₁w′₂ − w₂w′₁, twice the area between w and the next w′; produced =
        log p(w′|w)/p(w|w′), entropy in nats."""
        eta, lam, sigma, angle = (knobs[k].to(weights) for k in ("eta", "lam", "sigma", "angle"))
        hessian = weights.new_tensor(HESSIAN)
        keep, root = 1 - eta[:, None] * (hessian + lam[:, None]), hessian.sqrt()
        cos, sin = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle))
        along, across, scale = torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1), (eta * sigma)[:, None]  # R's columns
        s11, s12, s22 = covariance(eta, lam, sigma, angle)
        circle = 4 * math.pi * (s11 * s22 - s12**2).sqrt()
        totals = torch.zeros(3, len(weights), dtype=torch.float64, device=weights.device)
        diverged = torch.full((len(weights),), -1, dtype=torch.int64, device=weights.device)
        chunk = max(1, CHUNK // (2 * len(weights)))
        for begin in range(first_step, first_step + n, chunk):
            count = min(chunk, first_step + n - begin)
            z = normals(seed, streams, begin, count, 2)
            kick = -scale * (root[0] * z[..., :1] * along + root[1] * z[..., 1:] * across)
            path = weights.new_empty(count + 1, len(weights), 2)
            path[0] = weights[:, :2]
            for i in range(count):
                torch.addcmul(kick[i], keep, path[i], out=path[i + 1])
            before, after = path[:-1], path[1:]
            back = (before - keep * after) / scale  # the noise of a step the other way
            z_back = torch.stack([(back * along).sum(-1) / root[0], (back * across).sum(-1) / root[1]], -1)
            swept = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
            energy, produced = (hessian * before**2).sum(-1) / 2, ((z_back**2).sum(-1) - (z**2).sum(-1)) / 2
            totals += torch.stack([part.sum(0) for part in (energy, swept, produced)])
            weights[:, 2] = torch.cumsum(torch.cat([weights[None, :, 2], swept / circle]), 0)[-1]
            weights[:, :2] = path[-1]
            bad = ~((after**2).sum(-1) < DIVERGED)
            first = torch.where(bad.any(0), begin + 1 + bad.to(torch.uint8).argmax(0), -1)
            diverged = torch.where(diverged < 0, first, diverged)
        return dict(zip(self.observables, totals / n, strict=True)), diverged
