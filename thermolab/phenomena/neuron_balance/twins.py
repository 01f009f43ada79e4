"""Two symmetries of the loss, one of which is a symmetry of SGD: starts whose neurons are permuted, or rescaled, or alike.

Source: entropic forces summary (document 2).

Tolerances stand here once and do not move with the data. PERMUTED: 1e-10 of the distance travelled, rounding in float64
(another order of summation), grown along the path. ALIKE: neurons are the same to a tenth of their weights. MORE: 0, for the
claim is an inequality.
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
from thermolab.systems import models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import Answers

ARMS = ("permuted", "rescaled")
PERMUTED, ALIKE, MORE = 1e-10, 0.1, 0.0
APART = {"flow": 1e-9, "sgd": 1e-9, "own batches": 1e-9, "near": 1e-2, "same": 0.0}  # how far neurons are apart at the start


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
    module = learners.network("mlp", "teacher")
    net = NetworkOnData(module, learners.taught(module, 4, n_data, noise_std, seed), loss="squared")
    net.use(Answers(net.data.x.double(), net.data.y.double()))
    pairs, start = symmetry.pairs(module), net.start(torch.arange(len(seeds)), seed).double()
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


@recipe("neurons that start alike", dims=("arm", "time", "seed"))
def alike(
    *,
    eta: Positive = 0.03,
    batch_size: Count = 4,
    noise_std: NotNegative = 1.0,
    steps: Count = 800,
    logs: Count = 10,
    width: Annotated[int, integer(2)] = 4,
    n_data: Annotated[int, integer(100)] = 500,
    copies: Count = 24,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Two neurons of a ReLU network that start alike but for a small difference, while it learns a teacher from a usual start.

    Arms: "flow", every step on all the data; "sgd", on minibatches; "own batches", the second neuron's gradient on another
    minibatch than the first's; all three from the same starts; "near" and "same": SGD from a larger difference, and from none
    (`APART`, over the size of the weights). A seed has `copies` teachers, each with its data and a start.

    Returns a Dataset, dims (arm, time, seed), time in steps: distance between the weights of the two neurons over their norm,
    mean over the copies, and growth, mean log of the distance over that at the start (-inf or NaN where they stay the same).
    Raises ValueError for settings that are out of range.
    """
    module, every, streams = models.mlp((5, width, 4)), integer(logs)("steps", steps) // logs, torch.arange(copies)
    taught = [learners.taught(module, 5, n_data, noise_std, copies * seed + k) for k in range(copies)]
    net = learners.Lessons(module, taught, streams, "squared")
    net.use(Answers(net.data.x.double(), net.data.y.double()))
    (pair,) = symmetry.pairs(module)
    first, second = (torch.cat([pair.incoming[k], pair.outgoing[k]]) for k in (0, 1))
    start = net.start(streams, seed).double()
    start[:, second] = start[:, first]
    off = torch.zeros_like(start)
    off[:, second] = torch.randn(copies, len(second), generator=torch.Generator().manual_seed(seed)).double()
    off *= start[:, second].norm(dim=1, keepdim=True) / off.norm(dim=1, keepdim=True)

    def gradient(weights, x, y):
        net.replicas.loss_and_gradient(weights, x, y, out := torch.empty_like(weights))
        return out

    everything = [t.unflatten(0, (copies, n_data)) for t in (net.data.x, net.data.y)]
    rows = []
    for arm, size in APART.items():
        weights, begin, rows = start + size * off, size * off[:, second].norm(dim=1), [*rows, []]
        others = net.batches(seed, streams + copies, 0, steps, batch_size)
        for step, (x, y) in enumerate(net.batches(seed, streams, 0, steps, batch_size), 1):
            g = gradient(weights, *(everything if arm == "flow" else (x, y)))
            if arm == "own batches":
                g[:, second] = gradient(weights, *next(others))[:, second]
            weights = weights - eta * g
            if step % every == 0:
                apart = (weights[:, second] - weights[:, first]).norm(dim=1)
                norm = weights[:, [*first, *second]].norm(dim=1) / 2**0.5
                rows[-1].append([float((apart / norm).mean()), float((apart / begin).log().mean())])
    found = dict(zip(("distance", "growth"), np.moveaxis(np.array(rows), 2, 0), strict=True))
    coords = {"arm": list(APART), "time": np.arange(1, logs + 1) * every}
    return xr.Dataset({name: (("arm", "time"), values) for name, values in found.items()}, coords=coords)


@decides("balance.permutation.unbroken", reads=["steps", "width"])
def neurons_stay_alike(alike: xr.Dataset) -> Decision:
    """Distance at the end of two neurons that were nearly the same, over their size; control: that were the same."""
    near, same = (few_seeds(alike["distance"].sel(arm=arm).isel(time=-1)) for arm in ("near", "same"))
    return with_control(near, same, ALIKE, "neurons that are the same to the last digit")


@decides("balance.permutation.noise", reads=["steps", "width"])
def noise_keeps_neurons_alike(alike: xr.Dataset) -> Decision:
    """Log growth of a difference under SGD less that under the flow; control: where each neuron has batches of its own."""
    growth = alike["growth"].isel(time=-1)
    shared, own = (few_seeds(growth.sel(arm=arm) - growth.sel(arm="flow")) for arm in ("sgd", "own batches"))
    return with_control(shared, own, MORE, "batches of its own for each of the two neurons", relation="below")
