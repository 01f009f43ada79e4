"""A scale-invariant model walks to infinity.

Each step of the walker (`systems.walker`) adds η²|g|² to |w|² exactly. With C(θ) = |w|² E|g|² at the angle θ to the minimum,

    d|w|⁴/dt = 2η²C(0) − 4ηλ|w|⁴ in the end,   C(0) = 4σ²(d − 1).

The neglected excess of C is of order (d + 1) η/|w|² and vanishes while |w| grows. Gradient flow conserves |w|.
Source: document 4, part 2. Limit: the noise of the targets does not depend on x.

The tolerances stand here once and do not move with the data. What the law of |w|⁴ neglects is 2 % over the second half of the
default walk: GROWTH is 5 %. That each step adds η²|g|² is exact but for rounding, which grows with the root of the number of
steps: IDENTITY is 1e-10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from scipy.integrate import solve_ivp

from thermolab.claims import Decision, decides, extreme, with_control
from thermolab.engine import rules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Positives
from thermolab.systems.walker import ScaleInvariantWalker, moment

GROWTH, IDENTITY = 0.05, 1e-10


def law(r4, eta: float, lam: float, constant: float, time):
    """|w|⁴ after `time` steps from r4, by the module docstring's law with C(0) = `constant`.

    >>> float(law(1.0, 0.1, 0.0, 1.0, 50)), float(law(1.0, 0.1, 0.5, 2.0, 1e9))
    (2.0, 0.2)
    """
    if lam == 0:
        return r4 + 2 * eta**2 * constant * np.asarray(time, float)
    end = eta * constant / (2 * lam)
    return end + (r4 - end) * np.exp(-4 * eta * lam * np.asarray(time, float))


def flow_radius(times: np.ndarray) -> np.ndarray:
    """|w| at `times` (ascending) along dw/dt = −∇L, L = σ² + 2 − 2 cos θ, from w = e₂, whatever d is."""

    def downhill(t, w):
        r = np.hypot(*w)
        return 2 * (np.array([1.0, 0.0]) - w[0] * w / r**2) / r

    return np.hypot(*solve_ivp(downhill, (0, times[-1]), (0.0, 1.0), "DOP853", times, rtol=1e-12, atol=1e-14).y)


@recipe("scale-invariant walkers", over={"dims": "dim"}, dims=("dim", "eta", "seed", "time"))
def growth(
    rates: Positives = (0.1, 0.3),
    *,
    dims: Annotated[Sequence[int], rules.several(rules.integer(2))] = (2, 8),
    sigma: Positive = 0.5,
    steps: Count = 20_000,
    logs: Count = 50,
    replicas: Count = 16,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """Walkers that start at the minimum with |w| = 1, and gradient flow.

    rates: η; dims: d; sigma: σ; logs: intervals of equal length at the ends of which |w| is read, an even number; replicas: of
    each seed, with the same data at all rates.

    Returns a Dataset. Dims (dim, eta, seed, time), time in steps from 0: r4, mean of |w|⁴ over the replicas; (dim, eta, time):
    law, 1 + 2η²C(0)t. Dims (dim, eta, seed): slope, growth of |w|⁴ over the second half of the run over that of the law;
    identity, the largest error of |w|² = 1 + η² Σ|g|² at any reading, relative to |w|². Dims (dim, eta): flow_slope, the slope of
    gradient flow over equal time, from a start at a right angle to e₁.
    All seeds are one batch of replicas, but none changes another.
    Raises ValueError for settings that are out of range. Source: document 4, part 2.
    """
    if logs % 2:
        raise ValueError(f"logs={logs} is odd; allowed: an even number, 2 or more")
    rules.multiple(logs, "logs", steps=steps)
    (dim,), eta, n = dims, np.array(rates), replicas * len(seeds)
    shape, every, half = (len(rates), len(seeds), replicas), steps // logs, logs // 2
    weights = torch.zeros(len(rates) * n, dim, dtype=torch.float64)
    weights[:, 0] = 1
    run = Experiment(ScaleInvariantWalker(dim), eta=np.repeat(eta, n), sigma=sigma, seed=seeds[0] // 1000, weights=weights,
                     streams=np.tile(np.arange(n), len(rates)), device=device)  # fmt: skip
    r2, pushed = [np.ones(shape)], [np.zeros(shape)]
    for frame in run.frames(every, until=steps):
        r2.append((run.state.weights**2).sum(1).cpu().numpy().reshape(shape))
        pushed.append(frame.observables["push"].reshape(shape) * every)
    r2, added = np.stack(r2, -1), eta[:, None, None, None] ** 2 * np.cumsum(np.stack(pushed, -1), -1)
    r4, time = (r2**2).mean(2), np.arange(logs + 1) * every
    theory = law(1.0, eta[:, None], 0.0, moment(1.0, dim, sigma), time)
    expected = theory[:, -1] - theory[:, half]
    flow = np.stack([flow_radius(np.array([every * half, steps]) * rate) for rate in eta]) ** 4
    found = {
        "r4": (("eta", "seed", "time"), r4),
        "law": (("eta", "time"), theory),
        "slope": (("eta", "seed"), (r4[..., -1] - r4[..., half]) / expected[:, None]),
        "identity": (("eta", "seed"), (abs(r2 - 1 - added) / r2).max((-2, -1))),
        "flow_slope": ("eta", (flow[:, 1] - flow[:, 0]) / expected),
    }
    return xr.Dataset(found, {"eta": eta, "seed": seeds, "time": time}).expand_dims({"dim": [dim]})


@decides("irreversibility.scale-growth", reads=["rates", "dims", "sigma", "steps"])
def scale_growth(growth: xr.Dataset) -> Decision:
    """Worst deviation, in units of its tolerance, of the growth of |w|⁴ from the law and of |w|² from the sum of η²|g|²."""
    seeds_first = growth[["slope", "identity"]].transpose("seed", "dim", "eta")
    walk = np.stack([(seeds_first["slope"] - 1) / GROWTH, seeds_first["identity"] / IDENTITY], -1)
    # the flow has no noise: each seed would give the same
    flow = (growth["flow_slope"].values[None] - 1) / GROWTH * np.ones((growth.sizes["seed"], 1, 1))
    return with_control(extreme(walk), extreme(flow), 1.0, "gradient flow, which conserves |w|")
