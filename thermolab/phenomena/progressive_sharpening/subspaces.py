"""A linear network that learns gets sharper across symmetry orbits, and flatter or sharper along them, as its noise says.

Across: of all networks that compute W₂W₁ the flattest has λ_max = 4s, s its largest singular value, which learning raises.
Along: the distance of a network from the flattest point of its orbit is taken as the largest singular value of
W₁W₁ᵀ - W₂ᵀW₂, which is 0 there, and which gradient flow conserves: what changes it is the noise. Descent in finite steps changes
it a little while the function is learnt, so it is followed from the first look on, when that is over. Source: document 2. Limit:
Σ_x = 1 and as many inputs as answers. What counts as a change, of the logarithm of either, is `switch.CHANGE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine import rules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, choice, several
from thermolab.phenomena.progressive_sharpening import two_layers
from thermolab.phenomena.progressive_sharpening.starts import NOISES
from thermolab.phenomena.progressive_sharpening.switch import CHANGE
from thermolab.phenomena.progressive_sharpening.two_layers import Profile
from thermolab.systems import teacher_student


@recipe("linear networks that learn", dims=("noise", "time", "seed"))
def subspaces(
    profile: Profile = two_layers.IMBALANCED,
    *,
    noises: Annotated[Sequence[str], several(choice(*NOISES))] = NOISES,
    strength: Positive = 1.5,
    scale: Positive = 0.5,
    width: Count = 12,
    eta: Positive = 0.02,
    batch_size: Count = 16,
    steps: Count = 12_000,
    logs: Count = 24,
    copies: Count = 2,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """λ_max of networks that learn y = s x + ε from small weights, under each of `noises`, and its two parts.

    profile: σ_i of imbalanced noise, of whose power is the balanced one; strength: s; scale: of the start, relative to Gaussian
    weights of variance 2/fan-in; width: h ≥ d; steps at constant η, with `logs` looks; copies: networks of each seed, of which
    geometric means are taken.

    Returns a Dataset, dims (noise, time, seed), time in steps, 0 is the start: lambda_max; flattest, 4s of the function that is
    computed; distance, the largest singular value of W₁W₁ᵀ - W₂ᵀW₂.
    Raises ValueError for settings that are out of range. Source: document 2.
    """
    two_layers.enough_for(profile, width=width)
    rules.multiple(logs, "logs", steps=steps)
    answer, sigma = two_layers.own_kind(len(profile), "linear", strength=strength), two_layers.kinds(profile)
    found = []
    for noise in noises:
        net = two_layers.learner(sigma[noise], "linear", answer=answer, width=width, seed=seed)
        start = scale * net.start(torch.arange(copies), seed)
        run = Experiment(net, eta=eta, batch_size=batch_size, weights=start, seed=seed, device=device)
        weights = [start, *(run.state.weights for _ in run.frames(steps // logs, until=steps))]
        run.raise_if_diverged()
        found.append([np.log(parts(net, w, answer)).mean(1) for w in weights])
    values = np.exp(np.moveaxis(found, -1, 0))
    names = ("lambda_max", "flattest", "distance")
    coords = {"noise": list(noises), "time": np.arange(logs + 1) * (steps // logs)}
    return xr.Dataset({k: (("noise", "time"), v) for k, v in zip(names, values, strict=True)}, coords=coords)


def parts(net, weights: torch.Tensor, answer) -> np.ndarray:
    """λ_max, 4s and distance [3, R] of linear networks at weights [R, P]."""
    first, second = teacher_student.weight_matrices(net, weights.cpu())
    largest = (
        4 * torch.linalg.matrix_norm(second @ first, 2),
        torch.linalg.matrix_norm(first @ first.mT - second.mT @ second, 2),
    )
    return np.stack([two_layers.sharpness(net, weights, "linear", answer), *(v.numpy() for v in largest)])


def change(values: xr.DataArray, since: int = 0) -> xr.DataArray:
    """log of the end over what it was at look number `since`, (noise, seed)."""
    values = np.log(values.transpose("noise", "seed", "time"))
    return values.isel(time=-1) - values.isel(time=since)


READS = ("profile", "strength", "scale", "width", "steps")


@decides("sharpening.subspaces", reads=READS)
def sharper_across_flatter_along(subspaces: xr.Dataset) -> Decision:
    """Under balanced noise: the rise of 4s or the fall of the distance, whichever is less; without noise nothing falls."""
    least = np.minimum(change(subspaces["flattest"]), -change(subspaces["distance"], 1))
    measured, control = (few_seeds(least.sel(noise=noise)) for noise in ("balanced", "none"))
    return with_control(measured, control, 0.0, "training from there without label noise", CHANGE, "above")


@decides("sharpening.flat-along", reads=READS)
def flatter_along_under_any_noise(subspaces: xr.Dataset) -> Decision:
    """The fall of the distance under imbalanced noise, against that under balanced noise."""
    fall = -change(subspaces["distance"], 1)
    measured, control = (few_seeds(fall.sel(noise=noise)) for noise in ("imbalanced", "balanced"))
    return with_control(measured, control, 0.0, "balanced noise of the same power", CHANGE, "above")
