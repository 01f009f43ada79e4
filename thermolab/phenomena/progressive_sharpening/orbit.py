"""λ_max along symmetry orbits of two-layer networks: all points of an orbit compute the same function.

"stretch": W₁ -> A W₁, W₂ -> W₂ A⁻¹ with A = e^θS, S symmetric, of a linear network; "rescale": the same with a diagonal A,
biases of the first layer included, of a ReLU network; "rotate": of a linear network again, A = e^θK orthogonal, K antisymmetric.
The last turns the weights as a whole, and with them the Hessian, so all its eigenvalues stay; the others do not.
Source: document 2.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments.two_layer_hessian import hessian
from thermolab.phenomena.common import validate
from thermolab.phenomena.progressive_sharpening import setting
from thermolab.systems.regression import samples

ORBITS = ("stretch", "rescale", "rotate")
LENGTH = 1.5  # of the orbit to either side: the largest singular value of S and K


@Recipe
def orbit(
    *, d: int = 5, width: int = 12, strength: float = 1.0, points: int = 21, copies: int = 8, seed: int = 0, n_seeds: int = 5
):
    """λ_max of a random network that makes no error, and of all networks on three orbits through it.

    d: inputs and outputs; width: h ≥ d; strength: a linear network computes s x, a ReLU network has neurons of |u| |w| = s;
    points of each orbit, an odd number, the middle one is where it starts; copies: networks of each seed.

    Returns a Dataset, dims (orbit, position, copy, seed), position θ from -1 to 1: lambda_max; apart, the largest
    difference of an output from what it is in the middle, over the largest output. In float64.
    Raises ValueError for settings that are out of range.
    """
    validate.counts(d=d, width=width, points=points, copies=copies, n_seeds=n_seeds)
    validate.positive(strength=strength)
    setting.check(np.ones(d), width)
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points={points} is not allowed; allowed: odd numbers from 3")
    numbers, at = seeds(seed, n_seeds), np.linspace(-1, 1, points)
    jobs = [{"d": d, "width": width, "strength": strength, "at": at, "copies": copies, "seed": s} for s in numbers]
    found = np.stack((yield Jobs(_orbits, jobs, "symmetry orbits")), -1)
    dims = ("orbit", "position", "copy", "seed")
    values = {name: (dims, v) for name, v in zip(("lambda_max", "apart"), found, strict=True)}
    return xr.Dataset(values, coords={"orbit": list(ORBITS), "position": at, "seed": numbers})


def _orbits(*, d, width, strength, at, copies, seed) -> np.ndarray:
    """λ_max and difference of the outputs [2, orbit, position, copy]."""
    rng = np.random.default_rng([seed, 8])
    return np.stack([_of_one(d, width, strength, at, rng) for _ in range(copies)], -1)


def _of_one(d, width, strength, at, rng) -> np.ndarray:
    x = torch.tensor(samples(np.ones(d), [], n_data=setting.PROBES)[0])
    plain = torch.tensor(rng.normal(size=(width, d)) / np.sqrt(width))
    linear = plain, strength * torch.linalg.pinv(plain)
    biased = torch.tensor(np.sqrt(strength / (d + 1)) * rng.normal(size=(width, d + 1)))
    relu = biased, torch.tensor(np.sqrt(strength / d) * rng.normal(size=(d, width)))
    found = []
    for name, (activation, (first, second)) in zip(ORBITS, (("linear", linear), ("relu", relu), ("linear", linear)), strict=True):
        g = torch.tensor(rng.normal(size=(width, width)))
        g = {"stretch": g + g.T, "rescale": torch.diag(g.diagonal()), "rotate": g - g.T}[name]
        maps = torch.matrix_exp(torch.tensor(at)[:, None, None] * LENGTH * g / torch.linalg.matrix_norm(g, 2))
        us, ws = maps @ first, second @ torch.linalg.inv(maps)
        inputs = x if activation == "linear" else torch.cat([x, torch.ones(len(x), 1)], 1)
        hidden = inputs @ us.mT
        outputs = (hidden if activation == "linear" else hidden.clamp_min(0)) @ ws.mT
        y = outputs[len(at) // 2]
        sharp = torch.linalg.eigvalsh(hessian(activation, us, ws, x, y))[:, -1]
        found.append((sharp.numpy(), ((outputs - y).abs().amax((1, 2)) / y.abs().max()).numpy()))
    return np.array(found).transpose(1, 0, 2)
