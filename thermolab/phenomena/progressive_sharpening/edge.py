"""The edge of stability: gradient descent on all data at once brings λ_max to 2/η, without any noise.

A step of gradient descent multiplies the distance from a minimum along an eigenvector of the Hessian by 1 - ηλ, so beyond
λ = 2/η a quadratic valley throws it out. A network is not thrown out: training first sharpens it up to 2/η, and from there on
each excursion along the sharpest direction lowers λ_max again. What drives this is the descent itself, no balance of noise:
another mechanism than that of the noise switch, with the same name in the literature. A start beyond the edge comes down to it,
or diverges. Source: Cohen et al., arXiv:2103.00065; document 4, part 4. Limit of validity: the squared loss and enough time; how
sharp a network becomes by itself depends on data and start, and a rate whose 2/η lies above that never meets its edge.

EDGE, the tolerance, stands here once and does not move with the data: η λ_max/2, averaged over the last third of a run, within
5 % of 1. The sources state no accuracy ("at, or just above"); to leading order the mean is 1, and the excursions beyond the
edge, which bring λ_max back each time, are of a few per cent.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr
from torch import nn

from thermolab.claims import Decision, Estimate, decides, extreme, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Counts, Positive, positive, several
from thermolab.instruments.curvature import LargestCurvature
from thermolab.systems import data, models
from thermolab.systems.full_batch import FullBatch
from thermolab.systems.regression import Answers

ETAS = (0.3, 0.2, 0.15, 0.02)
SCALE = 0.4  # of the start: λ_max is about 5 there, below 2/η of these rates, but for some starts at the largest
ACCURACY = 3e-3  # of λ_max, relative: at the edge it wanders by 1 %
EDGE = 0.05


def answers(n_data: int, label_noise: float = 0.0, *, seed: int = 0) -> Answers:
    """n_data images of digits, with the classes, of which a share is drawn anew, as one-hot targets of the squared loss."""
    images = data.digits(n_data, label_noise=label_noise, seed=seed)
    return Answers(images.x, nn.functional.one_hot(images.y, images.n_classes).float())


def digits(n_data: int = 200, widths=(32, 32), activation: str = "tanh", *, seed: int = 0) -> FullBatch:
    """A perceptron on n_data images of digits.

    Raises ValueError for an activation that is unknown or more images than there are.
    """
    if activation not in models.ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is unknown; allowed: {', '.join(models.ACTIVATIONS)}")
    return FullBatch(models.mlp((64, *widths, 10), activation=activation), answers(n_data, seed=seed), loss="squared")


def experiment(
    etas,
    *,
    n_data: int = 200,
    widths=(32, 32),
    activation: str = "tanh",
    scale: float = SCALE,
    seed: int = 0,
    device: str = "cpu",
) -> Experiment:
    """`digits` under gradient descent, one replica for each of the rates, all from one start; observables U and lambda_max.

    scale: of the start, relative to Gaussian weights of variance 2/fan-in; the default starts flat, below every edge.
    """
    net = digits(n_data, widths, activation, seed=seed)
    start = scale * net.start(torch.arange(1), seed).repeat(len(etas), 1)
    observables = {"sharpness": LargestCurvature(tolerance=ACCURACY)}
    return Experiment(net, eta=list(etas), weights=start, seed=seed, device=device, observables=observables)


@recipe("gradient descent on all data", shared=["edge"], dims=("eta", "seed", "time"))
def edge(
    etas: Annotated[tuple[float, ...], several(positive(), 2)] = ETAS,
    *,
    n_data: Count = 200,
    widths: Counts = (32, 32),
    activation: Literal["relu", "tanh"] = "tanh",
    scale: Positive = SCALE,
    steps: Count = 1230,
    every: Count = 41,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Gradient descent on all of n_data digits at several rates η from one start, and λ_max of the loss along the way.

    etas: two or more different rates, the smallest of which is meant to be too small for the time; widths: of the hidden
    layers; scale: of the start, see `experiment`; steps: of each run, whatever η is; every: steps between two
    measurements, an odd number, as beyond the edge weights jump to and fro every other step. Each seed has its own images.

    Returns a Dataset, dims (eta, seed, time), time in steps: lambda_max of the loss |f - y|² over all data (relative error
    0.3 %), U = mean loss over the steps since the measurement before; and edge (eta) = 2/η. NaN where a run diverged.
    Raises ValueError for settings that are out of range, DivergenceError where every run diverged.
    Source: Cohen et al., arXiv:2103.00065; document 4, part 4.
    """
    if len(set(etas)) < len(etas):
        raise ValueError(f"etas={list(etas)} are not all different; allowed: two or more different rates")
    run = experiment(etas, n_data=n_data, widths=widths, activation=activation, scale=scale, seed=seed, device=device)
    frames = [run.frame(), *run.frames(every, until=steps - steps % every)]
    loss = [np.full(len(etas), np.nan), *(frame.observables["U"] for frame in frames[1:])]
    sharp = [frame.observables["lambda_max"] for frame in frames]
    return xr.Dataset(
        {"lambda_max": (("time", "eta"), sharp), "U": (("time", "eta"), loss), "edge": ("eta", 2 / np.array(etas))},
        coords={"eta": list(etas), "time": np.arange(0, steps + 1, every)},
    )


def late(data: xr.Dataset) -> xr.DataArray:
    """η λ_max/2 (seed, eta), a mean over the last third of each run."""
    scaled = data["lambda_max"] / data["edge"]
    return scaled.isel(time=slice(2 * data.sizes["time"] // 3, None)).mean("time", skipna=False).transpose("seed", "eta")


@decides("sharpening.edge", reads=["etas", "n_data", "widths", "activation", "scale", "steps"])
def reaches_edge(edge: xr.Dataset) -> Decision:
    """λ_max η/2, less 1, of all rates but the smallest the one furthest from the edge; control: the smallest."""
    off, slow = late(edge) - 1, int(np.argmin(edge["eta"].values))
    fast = off.drop_isel(eta=slow)
    # a run that diverged leaves nothing to say about its rate
    measured = extreme(fast) if fast.notnull().all() else Estimate(np.nan, np.nan, fast.sizes["seed"])
    control = extreme(off.isel(eta=[slow]))
    return with_control(measured, control, EDGE, f"η = {float(edge['eta'][slow]):g}, too small for the time")
