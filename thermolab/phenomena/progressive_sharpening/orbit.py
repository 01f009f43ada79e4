"""λ_max along symmetry orbits of two-layer networks: all points of an orbit compute the same function.

"stretch": W₁ -> A W₁, W₂ -> W₂ A⁻¹ with A = e^θS, S symmetric, of a linear network; "rescale": the same with a diagonal A,
biases of the first layer included, of a ReLU network; "rotate": of a linear network again, A = e^θK orthogonal, K antisymmetric.
The last turns the weights as a whole, and with them the Hessian, so all its eigenvalues stay; the others do not.
Source: document 2.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Rule, integer, refuse
from thermolab.instruments.two_layer_hessian import hessian
from thermolab.phenomena.progressive_sharpening import two_layers
from thermolab.phenomena.progressive_sharpening.switch import CHANGE
from thermolab.systems.regression import samples

ORBITS = ("stretch", "rescale", "rotate")
LENGTH = 1.5  # of the orbit to either side: the largest singular value of S and K
ODD = Rule("an odd number, 3 or more", lambda x: integer(3).convert(x) if x % 2 else refuse("is not odd"))


@recipe("symmetry orbits", dims=("orbit", "position", "copy", "seed"))
def orbit(
    *,
    d: Annotated[int, integer(2)] = 5,
    width: Count = 12,
    strength: Positive = 1.0,
    points: Annotated[int, ODD] = 11,
    copies: Count = 8,
    seed: int = 0,
) -> xr.Dataset:
    """λ_max of a random network that makes no error, and of all networks on three orbits through it.

    d: inputs and outputs; width: h ≥ d; strength: a linear network computes s x, a ReLU network has neurons of |u| |w| = s;
    points of each orbit, an odd number, the middle one is where it starts; copies: networks of each seed.

    Returns a Dataset, dims (orbit, position, copy, seed), position θ from -1 to 1: lambda_max; apart, the largest
    difference of an output from what it is in the middle, over the largest output. In float64.
    Raises ValueError for settings that are out of range.
    """
    two_layers.enough_for(range(d), width=width)
    rng, at = np.random.default_rng([seed, 8]), np.linspace(-1, 1, points)
    found = np.stack([_of_one(d, width, strength, at, rng) for _ in range(copies)], -1)
    values = {name: (("orbit", "position", "copy"), v) for name, v in zip(("lambda_max", "apart"), found, strict=True)}
    return xr.Dataset(values, coords={"orbit": list(ORBITS), "position": at})


def _of_one(d, width, strength, at, rng) -> np.ndarray:
    """λ_max and difference of the outputs [2, orbit, position] of one network."""
    x = torch.tensor(samples(np.ones(d), [], n_data=two_layers.PROBES)[0])
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


@decides("sharpening.along-orbit", reads=["d", "width", "strength", "points"])
def changes_along_orbits(orbits: xr.Dataset) -> Decision:
    """log of the largest over the smallest λ_max of an orbit, mean over copies: of those that stretch, the least decides."""
    sharp = np.log(orbits["lambda_max"])
    extents = (sharp.max("position") - sharp.min("position")).mean("copy").transpose("orbit", "seed")
    measured, control = (few_seeds(extents.sel(orbit=names).min("orbit")) for names in (["stretch", "rescale"], ["rotate"]))
    return with_control(measured, control, 0.0, "an orbit of rotations", CHANGE, "above")
