"""Two symmetries of the loss, one of which is a symmetry of SGD: paths from a start whose neurons are permuted, or rescaled.

Source: entropic forces summary (document 2).

PERMUTED, the tolerance, stands here once and does not move with the data: 1e-10 of the distance travelled, rounding in float64
(another order of summation), grown along the path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive, integer
from thermolab.instruments import symmetry
from thermolab.phenomena.neuron_balance import learners
from thermolab.systems.regression import Answers

ARMS = ("permuted", "rescaled")
PERMUTED = 1e-10


@recipe("permuted twins", dims=("arm", "time", "seed"))
def twins(
    *,
    eta: Positive = 0.02,
    batch_size: Count = 4,
    noise_std: NotNegative = 1.0,
    steps: Count = 400,
    logs: Count = 10,
    n_data: Annotated[int, integer(100)] = 4000,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """Trajectories of the perceptron from one start, and from the same start with its neurons permuted or rescaled, same batches.

    Returns a Dataset, dims (arm, time, seed), arm "permuted" and "rescaled", time in steps: apart, distance between the twin,
    transformed back, and the original, over the distance that the original has travelled. In float64.
    Raises ValueError for settings that are out of range.
    """
    every, seed = integer(logs)("steps", steps) // logs, seeds[0] // 1000
    net, teacher = learners.learner("mlp", noise_std, n_data, seed)
    net.use(Answers(net.data.x.double(), net.data.y.double()))
    pairs = symmetry.pairs(net.replicas.module)
    start = torch.stack([learners.skewed(pairs, teacher, s) for s in seeds]).double()
    rng = np.random.default_rng([seed, 1])
    orders = [torch.from_numpy(rng.permutation(len(pair.incoming))) for pair in pairs]
    factors = [torch.from_numpy(np.exp(rng.uniform(0.1, 0.4, len(pair.incoming)))) for pair in pairs]
    there = {symmetry.permute: orders, symmetry.rescale: factors}
    back = {symmetry.permute: [torch.argsort(order) for order in orders], symmetry.rescale: [1 / factor for factor in factors]}

    def turned(act, by, weights):
        for pair, amount in zip(pairs, by, strict=True):
            weights = act(pair, weights, amount)
        return weights

    begins = torch.cat([start, *(turned(act, by, start) for act, by in there.items())])
    streams = np.tile(np.arange(len(seeds)), 3)  # a twin has those of its original, hence its batches
    run = Experiment(net, eta=eta, batch_size=batch_size, seed=seed, streams=streams, weights=begins, device=device)
    apart = []
    for _ in range(logs):
        run.advance(every)
        plain, *others = run.state.weights.cpu().chunk(3)
        travelled = torch.linalg.vector_norm(plain - start, dim=1)
        others = [turned(act, by, other) for (act, by), other in zip(back.items(), others, strict=True)]
        apart.append([(torch.linalg.vector_norm(other - plain, dim=1) / travelled).numpy() for other in others])
    run.raise_if_diverged()
    return xr.Dataset(
        {"apart": (("time", "arm", "seed"), np.array(apart))},
        coords={"arm": list(ARMS), "time": np.arange(1, logs + 1) * every, "seed": list(seeds)},
    )


@decides("balance.permutation", reads=["steps"])
def permutation(twins: xr.Dataset) -> Decision:
    """Relative distance at the end between a trajectory and its transformed twin, brought back."""
    apart = twins["apart"].isel(time=-1)
    measured, control = (few_seeds(apart.sel(arm=arm)) for arm in ARMS)
    return with_control(measured, control, PERMUTED, "a continuous symmetry (rescaling), which SGD breaks")
