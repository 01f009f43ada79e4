"""Points on a sphere: the quadratic, scale-invariant loss of a few data directions, learnt by SGD from batches of them.

With n unit vectors d_i in R^D and weights w (the toy of arXiv:2505.23489 has D = 3)

    l_i(w) = (d_i·w)²/|w|²,   L = mean of l_i,   ∇l_i = 2 a_i (d_i - a_i w/|w|)/|w|,   a_i = d_i·w/|w|.

If some w is orthogonal to all d_i the loss reaches 0 there (overparameterised), otherwise its least value is positive.
Two backends take the same steps from the same batches: "compiled" for the CPU, "tensor" for any device and as the oracle
of the first. The weights are float64: on its way to zero a loss of 1e-300 still counts, provided that the d_i have exact
zeros along the minimum (`phenomena.temperature_collapse.theory.aligned` turns them so); else it ends near 1e-32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from thermolab.systems import random, updates
from thermolab.systems.codes import ProtocolCode, protocol_code
from thermolab.systems.jit import cached_njit
from thermolab.systems.kernels import DIVERGED
from thermolab.systems.system import OBSERVABLES, CompiledOrTensor
from thermolab.systems.updates import PROTOCOLS

CHUNK = 2**20  # batch indices drawn at a time


class QuadricPoints(CompiledOrTensor):
    """System of n data directions in D >= 2 dimensions.

    points: [n, D] directions, of any length (only their directions enter); batch: B points drawn with replacement at each
    step, independently in each replica; protocol: the one to start with; backend: "auto", "compiled" or "tensor".
    Knobs: eta, lam, protocol ("elr", "lr" or "sphere"). Source: arXiv:2505.23489, toy example.
    Raises ValueError for points that are no [n, D] of finite, non-zero vectors, and for a bad batch, protocol or backend.
    """

    name = "points"
    choices: ClassVar = {"protocol": PROTOCOLS}
    divergence_hint = "a larger batch"
    compiled_type = torch.float64

    def __init__(self, points, batch: int = 1, protocol: str = "sphere", backend: str = "auto"):
        super().__init__(backend)
        if int(batch) != batch or batch < 1:
            raise ValueError(f"batch={batch} must be a whole number, 1 or more")
        self.directions = torch.from_numpy(unit_rows(points))
        self.n_parameters, self.batch = self.directions.shape[1], int(batch)
        self.protocol = updates.check_protocol(protocol)
        self.knobs = {"protocol": self.protocol}

    def settings(self) -> dict:
        """Plain values that rebuild this system."""
        return {"points": self.directions.tolist(), "batch": self.batch, "protocol": self.protocol}

    def to(self, device) -> None:
        """Move the points to a device."""
        self.directions = self.directions.to(device)

    def start(self, streams: torch.Tensor, seed: int) -> torch.Tensor:
        """Weights [R, D] uniform on the unit sphere, float64."""
        return random.directions(seed, streams, self.n_parameters, torch.float64)

    def advance(self, weights: torch.Tensor, first_step: int, n: int, knobs: Mapping, seed: int, streams, radius, memory=()):
        """As in `System`.

        Before each step: U = L(w), the loss over all points, r2 = |w|², p = pressure, g2 = |g|² of the batch at |w| = 1.
        """
        take = _steps if self.choose_backend(weights) == "compiled" else self._plain_steps
        protocol = knobs.get("protocol", self.protocol)
        eta, lam = (knobs[k].to(weights.dtype) for k in ("eta", "lam"))
        totals = torch.zeros(len(OBSERVABLES), len(weights), dtype=torch.float64, device=weights.device)
        diverged = torch.full((len(weights),), -1, dtype=torch.int64, device=weights.device)
        chunk = max(1, CHUNK // (len(weights) * self.batch))
        for begin in range(first_step, first_step + n, chunk):
            count = min(chunk, first_step + n - begin)
            picks = random.indices(seed, streams, begin, count, self.batch, len(self.directions))
            tensors = (weights, self.directions, picks, eta, lam, radius, totals, diverged)
            if take is _steps:
                tensors = [t.contiguous().numpy() for t in tensors]
            take(*tensors, protocol_code(protocol), begin)
        return dict(zip(OBSERVABLES, totals / n, strict=True)), diverged

    def _plain_steps(self, w, directions, picks, eta, lam, radius, totals, diverged, protocol, first_step):
        directions = directions.to(w.dtype)
        for i, pick in enumerate(picks):
            r = torch.linalg.vector_norm(w, dim=1)
            u = w / r[:, None]
            a = u @ directions.T
            drawn = a.gather(1, pick)
            g = 2 * (drawn[..., None] * (directions[pick] - drawn[..., None] * u[:, None])).mean(1)
            totals[0] += (a * a).mean(1)
            totals[1] += r * r
            totals[3] += (g * g).sum(1)
            totals[2] += updates.update(PROTOCOLS[protocol], w, g / r[:, None], eta, lam, radius)
            bad = ~((w * w).sum(1) < DIVERGED)
            diverged[bad & (diverged < 0)] = first_step + i + 1

    def readings(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logarithms of loss, gradients and signal-to-noise ratio at weights [R, D], exact sums over all points, each [R].

        Returns log_U = log L; log_full = log |∇L|; log_stochastic = log √E|g|² of a batch; log_snr = log(|∇L|/√Tr Σ) with
        Tr Σ the noise of a batch; gradients at |w| = 1. Minus infinity where the quantity is 0. The products are scaled
        before they are squared, so a loss is resolved down to 1e-600.
        """
        u = weights.double() / torch.linalg.vector_norm(weights.double(), dim=1, keepdim=True)
        a = u @ self.directions.T
        scale = a.abs().amax(1, keepdim=True)
        log_scale, b = torch.log(scale[:, 0]), a / torch.where(scale > 0, scale, 1)
        full = 2 * (b @ self.directions / len(self.directions) - (a * b).mean(1, keepdim=True) * u)
        squared = (full * full).sum(1)
        each = (4 * b * b * (1 - a * a)).mean(1)  # E|g_i|² of one point
        trace = (each - squared).clamp(min=0) / self.batch
        return {
            "log_U": torch.log((b * b).mean(1)) + 2 * log_scale,
            "log_full": torch.log(squared) / 2 + log_scale,
            "log_stochastic": torch.log(squared + trace) / 2 + log_scale,
            "log_snr": (torch.log(squared) - torch.log(trace)) / 2,
        }


def unit_rows(points) -> np.ndarray:
    """Points [n, D] divided by their lengths, float64. Raises ValueError unless n >= 1, D >= 2 and all are finite and not 0."""
    points = np.array(points, float)
    if points.ndim != 2 or points.shape[0] < 1 or points.shape[1] < 2:
        raise ValueError(f"points have shape {points.shape}; allowed: [n, D] with n >= 1 and D >= 2")
    length = np.linalg.norm(points, axis=1, keepdims=True)
    if not np.isfinite(length).all() or not (length > 0).all():
        raise ValueError("a point is zero or not finite and has no direction; leave it out")
    return points / np.where(np.abs(length - 1) < 1e-14, 1, length)  # what is normalised keeps its bits: logs compare them


@cached_njit(error_model="numpy", nogil=True)
def _steps(w, directions, picks, eta, lam, radius, sums, diverged, protocol, first_step):
    """As `_plain_steps`: w [R, D], directions [n, D], picks [steps, R, B], sums [4, R]."""
    steps, n_replicas, batch = picks.shape
    n, dim = directions.shape
    g = np.empty(dim)
    for i in range(steps):
        for r in range(n_replicas):
            length2 = 0.0
            for k in range(dim):
                length2 += w[r, k] * w[r, k]
            length = np.sqrt(length2)
            loss = 0.0
            for j in range(n):
                a = 0.0
                for k in range(dim):
                    a += directions[j, k] * w[r, k]
                loss += a * a
            g[:] = 0.0
            for b in range(batch):
                d = picks[i, r, b]
                a = 0.0
                for k in range(dim):
                    a += directions[d, k] * w[r, k]
                a /= length
                for k in range(dim):
                    g[k] += 2 * a * (directions[d, k] - a * w[r, k] / length) / batch
            g2 = 0.0
            for k in range(dim):
                g2 += g[k] * g[k]
            h, pressure, decay = eta[r], lam[r], 0.0
            if protocol == ProtocolCode.ELR:
                push, decay = h * length, h * length2 * lam[r]
            elif protocol == ProtocolCode.LR:
                push, decay = h / length, h * lam[r]
            else:
                push = h * length
                stretch = h * h * g2
                pressure = stretch / (1 + np.sqrt(1 + stretch)) / (h * length2)
            new2 = 0.0
            for k in range(dim):
                w[r, k] = (1 - decay) * w[r, k] - push * g[k]
                new2 += w[r, k] * w[r, k]
            if protocol == ProtocolCode.SPHERE:
                back = radius[r] / np.sqrt(new2)
                for k in range(dim):
                    w[r, k] *= back
                new2 = radius[r] * radius[r]
            sums[0, r] += loss / (length2 * n)
            sums[1, r] += length2
            sums[2, r] += pressure
            sums[3, r] += g2
            if not (new2 < DIVERGED) and diverged[r] < 0:
                diverged[r] = first_step + i + 1
