"""The isotropic noise model: a linear loss on the sphere, with Gaussian gradient noise tangent to it.

L(w) = 1 + μ·w/|w| with |μ| = 1, and a stochastic gradient (arXiv:2511.07308)

    g = ∇L(w) + (σ/|w|) P √s ξ,   ξ ~ N(0, 1) in D dimensions,  P = 1 - w wᵀ/|w|²

so that Tr Σ = (D - 1) σ² at |w| = 1. The spectrum s (ones: isotropic) weighs the coordinates across μ, the first axis.
Two backends take the same steps from the same random numbers: "compiled" keeps a block of replicas in the
registers of one core, "tensor" is autograd on any device and the oracle of the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from thermolab.systems import kernels, random, updates
from thermolab.systems.codes import protocol_code
from thermolab.systems.kernels import DIVERGED, Found, Rates, Span
from thermolab.systems.system import OBSERVABLES, CompiledOrTensor
from thermolab.systems.updates import PROTOCOLS


class IsotropicNoise(CompiledOrTensor):
    """System of the isotropic noise model in any D >= 3.

    dim: D; protocol: the one to start with; spectrum: D - 1 noise variances s_i across μ, mean 1 (default: ones).
    Knobs: eta, lam, sigma (noise per component at |w| = 1), protocol ("elr", "lr" or "sphere").
    """

    name = "isotropic"
    choices: ClassVar = {"protocol": PROTOCOLS}
    divergence_hint = "a smaller sigma"

    def __init__(self, dim: int = 3, protocol: str = "elr", spectrum=None, backend: str = "auto"):
        if dim < 3:
            raise ValueError(f"dim={dim} is too small; allowed: 3 or more (on a circle the gas has one coordinate only)")
        super().__init__(backend)
        self.n_parameters, self.protocol = dim, updates.check_protocol(protocol)
        spectrum = np.ones(dim - 1) if spectrum is None else np.asarray(spectrum, float)
        if spectrum.shape != (dim - 1,) or not (spectrum > 0).all() or abs(spectrum.mean() - 1) > 1e-6:
            raise ValueError(f"spectrum must be {dim - 1} positive variances of mean 1")
        self.amplitude = np.sqrt(np.concatenate([[1.0], spectrum]))
        self.knobs = {"sigma": 1.0, "protocol": self.protocol}

    def settings(self) -> dict:
        """Plain values that rebuild this system."""
        spectrum = [float(a * a) for a in self.amplitude[1:]]
        plain = {"dim": self.n_parameters, "protocol": self.protocol}
        return plain if np.allclose(spectrum, 1) else {**plain, "spectrum": spectrum}

    def start(self, streams: torch.Tensor, seed: int) -> torch.Tensor:
        """Weights [R, D] uniform on the unit sphere."""
        return random.directions(seed, streams, self.n_parameters)

    def advance(self, weights: torch.Tensor, first_step: int, n: int, knobs: Mapping, seed: int, streams, radius, memory=()):
        """As in `System`. Observables before each step: U = 1 + μ·w/|w|, r2 = |w|², p = pressure, g2 = |g|² at |w| = 1."""
        if self.choose_backend(weights) == "tensor":
            return self._advance_tensor(weights, first_step, n, knobs, seed, streams, radius)
        eta, lam, sigma = (np.ascontiguousarray(knobs[k].numpy(), np.float32) for k in ("eta", "lam", "sigma"))
        rates = Rates(eta, lam, radius.numpy(), protocol_code(knobs.get("protocol", self.protocol)))
        span, found = Span(first_step, n, np.uint64(seed), streams.numpy().astype(np.uint32)), Found.nothing(len(weights))
        kernels.advance_isotropic(weights.numpy(), sigma, self.amplitude.astype(np.float32), span, rates, found)
        return {k: torch.from_numpy(s / n) for k, s in zip(OBSERVABLES, found.sums, strict=True)}, torch.from_numpy(
            found.diverged
        )

    def _advance_tensor(self, weights, first_step, n, knobs, seed, streams, radius):
        device, dim, protocol = weights.device, self.n_parameters, knobs.get("protocol", self.protocol)
        amplitude = torch.as_tensor(self.amplitude, dtype=weights.dtype, device=device)
        eta, lam, sigma = (knobs[k].to(weights.dtype) for k in ("eta", "lam", "sigma"))
        totals = {k: torch.zeros(len(weights), dtype=torch.float64, device=device) for k in OBSERVABLES}
        diverged = torch.full((len(weights),), -1, device=device)
        chunk = max(1, 2**20 // (len(weights) * dim))
        for begin in range(0, n, chunk):
            noise = random.normals(seed, streams, first_step + begin, min(chunk, n - begin), dim, weights.dtype) * amplitude
            for i, xi in enumerate(noise):
                w = weights.detach().requires_grad_()
                r = torch.linalg.vector_norm(w, dim=1)
                loss = 1 + w[:, 0] / r
                (gradient,) = torch.autograd.grad(loss.sum(), w)
                direction = (w / r[:, None]).detach()
                tangent = xi - (xi * direction).sum(1, keepdim=True) * direction
                g = gradient + (sigma / r.detach())[:, None] * tangent
                totals["U"] += loss.detach()
                totals["r2"] += r.detach() ** 2
                totals["g2"] += (g * g).sum(1) * r.detach() ** 2
                totals["p"] += updates.update(protocol, weights, g, eta, lam, radius)
                bad = ~((weights * weights).sum(1) < DIVERGED)
                diverged = torch.where(bad & (diverged < 0), first_step + begin + i + 1, diverged)
        return {k: t / n for k, t in totals.items()}, diverged
