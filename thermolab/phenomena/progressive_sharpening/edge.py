"""The edge of stability: gradient descent on all data at once brings λ_max to 2/η, without any noise.

A step of gradient descent multiplies the distance from a minimum along an eigenvector of the Hessian by 1 - ηλ, so beyond
λ = 2/η a quadratic valley throws it out. A network is not thrown out: training first sharpens it up to 2/η, and from there on
each excursion along the sharpest direction lowers λ_max again. What drives this is the descent itself, no balance of noise:
another mechanism than that of the noise switch, with the same name in the literature. A start beyond the edge comes down to it,
or diverges. Source: Cohen et al., arXiv:2103.00065; document 4, part 4. Limit of validity: the squared loss and enough time; how
sharp a network becomes by itself depends on data and start, and a rate whose 2/η lies above that never meets its edge.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments.curvature import LargestCurvature
from thermolab.phenomena.common import validate
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import Answers

ETAS = (0.3, 0.2, 0.15, 0.02)
SCALE = 0.4  # of the start: λ_max is about 5 there, below 2/η of all these rates
ACCURACY = 3e-3  # of λ_max, relative: at the edge it wanders by 1 %


class FullBatch(NetworkOnData):
    """Replicas of a module that learn a data set, every step on all of it: no noise and no batch size. Knobs: eta, lam."""

    name = "full batch"
    has_batches = False
    less_noise = "another start"  # what helps against divergence

    def choose_backend(self, weights: torch.Tensor) -> str:
        """Never the compiled one, which draws its batches itself."""
        return self.replicas.backend

    def batches(self, seed: int, streams: torch.Tensor, first_step: int, n: int, batch_size: int):
        """The whole data n times, the same for each replica."""
        whole = [t.expand(len(streams), *t.shape) for t in (self.data.x, self.data.y)]
        yield from (whole for _ in range(n))

    def advance(self, weights, first_step, n, knobs, seed, streams, radius, memory=()):
        """As in `NetworkOnData`."""
        return super().advance(weights, first_step, n, {**knobs, "batch_size": len(self.data)}, seed, streams, radius, memory)


def digits(n_data: int = 200, widths=(32, 32), activation: str = "tanh", *, seed: int = 0) -> FullBatch:
    """A perceptron on n_data images of digits, with the classes as one-hot targets of the squared loss.

    Raises ValueError for an activation that is unknown or more images than there are.
    """
    if activation not in models.ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is unknown; allowed: {', '.join(models.ACTIVATIONS)}")
    images = data.digits(n_data, seed=seed)
    answers = Answers(images.x, nn.functional.one_hot(images.y, images.n_classes).float())
    return FullBatch(models.mlp((64, *widths, images.n_classes), activation=activation), answers, loss="squared")


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
    """`digits` under gradient descent, one replica for each of the rates, all from one start; gauges U and lambda_max.

    scale: of the start, relative to Gaussian weights of variance 2/fan-in; the default starts flat, below every edge.
    """
    net = digits(n_data, widths, activation, seed=seed)
    start = scale * net.start(torch.arange(1), seed).repeat(len(etas), 1)
    gauges = {"sharpness": LargestCurvature(tolerance=ACCURACY)}
    return Experiment(net, eta=list(etas), weights=start, seed=seed, device=device, gauges=gauges)


@Recipe
def edge(
    etas=ETAS,
    *,
    n_data: int = 200,
    widths=(32, 32),
    activation: str = "tanh",
    scale: float = SCALE,
    steps: int = 1230,
    every: int = 41,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Gradient descent on all of n_data digits at several rates η from one start, and λ_max of the loss along the way.

    etas: rates, the smallest of which is meant to be too small for the time; widths: of the hidden layers; activation: "tanh"
    or "relu"; scale: of the start, see `experiment`; steps: of each run, whatever η is; every: steps between two
    measurements, an odd number, as beyond the edge weights jump to and fro every other step. Each seed has its own images.

    Returns a Dataset, dims (eta, seed, time), time in steps: lambda_max of the loss |f - y|² over all data (relative error
    0.3 %), U = mean loss over the steps since the measurement before; and edge (eta) = 2/η. NaN where a run diverged.
    Raises ValueError for settings that are out of range, DivergenceError where every run diverged.
    Source: Cohen et al., arXiv:2103.00065; document 4, part 4.
    """
    etas = [float(eta) for eta in etas]
    validate.counts(n_data=n_data, steps=steps, every=every, n_seeds=n_seeds, **{f"widths[{k}]": w for k, w in enumerate(widths)})
    validate.positive(scale=scale, **{f"etas[{k}]": eta for k, eta in enumerate(etas)})
    if len(set(etas)) < max(2, len(etas)):
        raise ValueError(f"etas={etas} must be two or more different rates")
    digits(n_data, widths, activation)  # tells of images or an activation that there are not
    common = {"etas": etas, "n_data": n_data, "widths": tuple(widths), "activation": activation, "scale": scale,
              "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    settings = [common | {"steps": steps, "every": every, "seed": s} for s in numbers]
    parts = yield Jobs(_edge, settings, "gradient descent on all data")
    values = {k: (("eta", "seed", "time"), np.stack([p[k] for p in parts], 1)) for k in parts[0]}
    time = np.arange(0, steps + 1, every)
    return xr.Dataset(values | {"edge": ("eta", 2 / np.array(etas))}, coords={"eta": etas, "seed": numbers, "time": time})


def _edge(*, steps: int, every: int, **settings) -> dict[str, np.ndarray]:
    """Values [eta, time]."""
    run = experiment(**settings)
    frames = [run.frame(), *run.frames(every, until=steps - steps % every)]
    loss = [np.full(len(settings["etas"]), np.nan), *(frame.gauges["U"] for frame in frames[1:])]
    return {"lambda_max": np.stack([frame.gauges["lambda_max"] for frame in frames], 1), "U": np.stack(loss, 1)}
