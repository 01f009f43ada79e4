"""A scale-invariant model walks to infinity.

f(w) = w·x/|w| learns y = e₁·x + σξ from one fresh Gaussian x in R^d at a time, with the loss |f − y|². The gradient is
orthogonal to w, so each step adds η²|g|² to |w|² exactly. With the angle θ to e₁ and C(θ) = |w|² E|g|²,

    C = 4 [(σ² + (1 − cos θ)²)(d − 1) + sin²θ (d + 1)],   d|w|⁴/dt = 2η²C(0) − 4ηλ|w|⁴ in the end,   C(0) = 4σ²(d − 1).

The neglected excess of C is of order (d + 1) η/|w|² and vanishes while |w| grows. Gradient flow conserves |w|.
Source: document 4, part 2. Limit: the noise of the targets does not depend on x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from scipy.integrate import solve_ivp

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.phenomena.common import validate
from thermolab.systems import random, updates
from thermolab.systems.kernels import DIVERGED

GAUGES = ("U", "r2", "p", "g2", "push")
GRAIN = 2**31  # values of a uniform random number, from which the normal ones are made
CHUNK = 2**20  # random numbers drawn at a time


def moment(cosine, dim: int, sigma):
    """C(θ) = |w|² E|g|² of one sample (module docstring), from cos θ; arrays broadcast.

    >>> float(moment(1.0, 2, 0.5)), float(moment(-1.0, 3, 0.0))
    (1.0, 32.0)
    """
    cosine = np.asarray(cosine, float)
    return 4 * ((np.square(sigma) + (1 - cosine) ** 2) * (dim - 1) + (1 - cosine**2) * (dim + 1))


class ScaleInvariantWalker:
    """System of the walker in d >= 2 dimensions, one fresh sample at each step; weights float64.

    dim: d. Knobs: eta, lam, sigma (of the targets' noise). Raises ValueError for dim below 2.
    """

    name = "scale-invariant walker"
    gauges = GAUGES
    has_batches = False
    choices: ClassVar = {}
    less_noise = "a smaller sigma"  # what helps against divergence

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
        w = random.normals(seed, streams, 0, 1, self.n_parameters, torch.float64, purpose=random.START)[0]
        return w / torch.linalg.vector_norm(w, dim=1, keepdim=True)

    def choose_backend(self, weights: torch.Tensor) -> str:
        """The only one."""
        return "tensor"

    def advance(self, weights: torch.Tensor, first_step: int, n: int, knobs: Mapping, seed: int, streams, radius):
        """n steps, in place. weights [R, d]; knobs and streams [R].

        Returns the means over the steps of each gauge, {name: [R] float64}, taken before each step: U = E|f − y|², exact,
        r2 = |w|², p = λ, g2 = |g|² |w|² and push = |g|², and the step [R] at which a replica diverged, -1 where none did.
        """
        eta, lam, sigma = (knobs[k].to(weights.dtype) for k in ("eta", "lam", "sigma"))
        totals = torch.zeros(len(GAUGES), len(weights), dtype=torch.float64, device=weights.device)
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
        return dict(zip(GAUGES, totals / n, strict=True)), diverged


def normals(seed: int, streams: torch.Tensor, first_step: int, n: int, count: int) -> torch.Tensor:
    """Standard normals [n, R, count], float64, five times as fast as those of `systems.random`: the data of each step."""
    return torch.special.ndtri((random.indices(seed, streams, first_step, n, count, GRAIN).double() + 0.5) / GRAIN)


def law(r4, eta: float, lam: float, constant: float, time):
    """|w|⁴ after `time` steps from r4, by the module docstring's law with C(0) = `constant`.

    >>> float(law(1.0, 0.1, 0.0, 1.0, 50)), float(law(1.0, 0.1, 0.5, 2.0, 1e9))
    (2.0, 0.2)
    """
    if lam == 0:
        return r4 + 2 * eta**2 * constant * np.asarray(time, float)
    end = eta * constant / (2 * lam)
    return end + (r4 - end) * np.exp(-4 * eta * lam * np.asarray(time, float))


@Recipe
def growth(
    rates=(0.1, 0.3),
    *,
    dims=(2, 8),
    sigma: float = 0.5,
    steps: int = 20_000,
    logs: int = 50,
    replicas: int = 16,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Walkers that start at the minimum with |w| = 1, and gradient flow.

    rates: η; dims: d; sigma: σ; logs: intervals of equal length at the ends of which |w| is read; replicas: of each seed, with
    the same data at all rates.

    Returns a Dataset. Dims (dim, eta, seed, time), time in steps from 0: r4, mean of |w|⁴ over the replicas; (dim, eta, time):
    law, 1 + 2η²C(0)t. Dims (dim, eta, seed): slope, growth of |w|⁴ over the second half of the run over that of the law;
    identity, the largest error of |w|² = 1 + η² Σ|g|² at any reading, relative to |w|². Dims (dim, eta): flow_slope, the slope of
    gradient flow over equal time, from a start at a right angle to e₁.
    All seeds are one batch of replicas, but none changes another.
    Raises ValueError for settings that are out of range. Source: document 4, part 2.
    """
    rates, dims = validate.all_positive("rates", rates), list(dims)
    for dim in dims:
        ScaleInvariantWalker(dim)  # complains of a bad one
    if not sigma > 0:
        raise ValueError(f"sigma={sigma} must be positive: without noise the walker stands still")
    if logs < 2 or logs % 2 or steps % logs:
        raise ValueError(f"logs={logs} must be even, 2 or more, and divide steps={steps}")
    validate.counts(replicas=replicas, n_seeds=n_seeds)
    plain = {"rates": rates, "sigma": sigma, "steps": steps, "logs": logs, "replicas": replicas, "n_seeds": n_seeds,
             "seed": seed, "device": str(device)}  # fmt: skip
    parts = yield Jobs(_walks, [plain | {"dim": d} for d in sorted(dims, reverse=True)], "scale-invariant walkers")
    parts = dict(zip(sorted(dims, reverse=True), parts, strict=True))
    cell = ("dim", "eta")
    forms = {"r4": (*cell, "seed", "time"), "law": (*cell, "time"), "slope": (*cell, "seed"), "identity": (*cell, "seed"),
             "flow_slope": cell}  # fmt: skip
    out = {name: (form, np.stack([parts[d][name] for d in dims])) for name, form in forms.items()}
    coords = {"dim": dims, "eta": rates, "seed": seeds(seed, n_seeds), "time": np.arange(logs + 1) * (steps // logs)}
    return xr.Dataset(out, coords).assign_attrs(sigma=sigma, replicas=replicas)


def _walks(*, dim, rates, sigma, steps, logs, replicas, n_seeds, seed, device) -> dict[str, np.ndarray]:
    """Both arms in d dimensions: the walkers [rate, seed, …], and the flow [rate]."""
    shape, every = (len(rates), n_seeds, replicas), steps // logs
    weights = torch.zeros(int(np.prod(shape)), dim, dtype=torch.float64)
    weights[:, 0] = 1
    run = Experiment(ScaleInvariantWalker(dim), eta=np.repeat(rates, n_seeds * replicas), sigma=sigma, seed=seed, weights=weights,
                     streams=np.tile(np.arange(n_seeds * replicas), len(rates)), device=device)  # fmt: skip
    r2, pushed = [np.ones(shape)], [np.zeros(shape)]
    for frame in run.frames(every, until=steps):
        r2.append((run.state.weights**2).sum(1).cpu().numpy().reshape(shape))
        pushed.append(frame.gauges["push"].reshape(shape) * every)
    r2, added = np.stack(r2, -1), rates[:, None, None, None] ** 2 * np.cumsum(np.stack(pushed, -1), -1)
    r4, half = (r2**2).mean(2), logs // 2
    theory = law(1.0, rates[:, None], 0.0, moment(1.0, dim, sigma), np.arange(logs + 1) * every)
    expected = theory[:, -1] - theory[:, half]
    flow = np.stack([flow_radius(np.array([every * half, steps]) * eta) for eta in rates]) ** 4
    return {
        "r4": r4,
        "law": theory,
        "slope": (r4[..., -1] - r4[..., half]) / expected[:, None],
        "identity": (abs(r2 - 1 - added) / r2).max((-2, -1)),
        "flow_slope": (flow[:, 1] - flow[:, 0]) / expected,
    }


def flow_radius(times: np.ndarray) -> np.ndarray:
    """|w| at `times` (ascending) along dw/dt = −∇L, L = σ² + 2 − 2 cos θ, from w = e₂, whatever d is."""

    def downhill(t, w):
        r = np.hypot(*w)
        return 2 * (np.array([1.0, 0.0]) - w[0] * w / r**2) / r

    return np.hypot(*solve_ivp(downhill, (0, times[-1]), (0.0, 1.0), "DOP853", times, rtol=1e-12, atol=1e-14).y)
