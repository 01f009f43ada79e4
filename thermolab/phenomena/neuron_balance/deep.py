"""Balance in a deep linear network, where each inner width can be mixed by any matrix: an equation between matrices.

For successive layers and g_K the gradient in their product K = W_{i+1}W_i it reads W_{i+1}ᵀ E[g_K g_Kᵀ] W_{i+1} =
W_i E[g_Kᵀ g_K] W_iᵀ. Source: document 4, part 2, with the transposes corrected.

BALANCE, the tolerance, stands here once and does not move with the data: a residual within 0.1 of 0.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positives, integer
from thermolab.instruments import neurons
from thermolab.phenomena.neuron_balance.networks import late
from thermolab.systems import teacher_student

BALANCE = 0.1


@recipe("deep linear networks", dims=("eta", "time", "seed", "pair", "row", "column"))
def matrix(
    rates: Positives = (0.02, 0.001),
    *,
    d: Count = 5,
    width: Count = 6,
    depth: Annotated[int, integer(2)] = 4,
    batch_size: Count = 8,
    sigma: NotNegative = 1.0,
    steps: Count = 60_000,
    logs: Count = 20,
    moments: Count = 10,
    batches: Count = 16,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """A deep linear network that learns the identity from random weights: balance between successive layers, as matrices.

    rates: η, all for the same number of steps; d: inputs and outputs; depth: layers, 2 or more; sigma: noise of the answers.

    Returns a Dataset, dims (eta, time, seed, pair, row, column), time in steps at the ends of intervals of equal length:
    above = W_{i+1}ᵀ E[g_K g_Kᵀ] W_{i+1} and below = W_i E[g_Kᵀ g_K] W_iᵀ, with g_K the gradient in K = W_{i+1}W_i and E over
    minibatches of the interval, computed as E[g_i g_iᵀ] and E[g_{i+1}ᵀ g_{i+1}] from the layers' own gradients; U: loss
    (eta, time, seed). Their distance: `residual`.
    Raises ValueError for settings that are out of range.
    """
    net, first = started(d, width, depth, sigma, seed)
    start = first.repeat(len(rates), 1)
    run = Experiment(net, eta=rates, batch_size=batch_size, weights=start, streams=[0] * len(rates), seed=seed, device=device)
    rows, energy, every = [], [], max(1, steps // logs // moments)
    for _ in range(logs):
        seen = []
        for _ in range(moments):
            run.advance(every)
            g = neurons.probe(run, batches)
            seen.append([[(a @ a.mT).mean(0).cpu().numpy(), (b.mT @ b).mean(0).cpu().numpy()] for a, b in itertools.pairwise(g)])
        rows.append(np.mean(seen, 0))
        energy.append(run.frame().observables["U"])
    moments_of = dict(zip(("above", "below"), np.moveaxis(np.array(rows), 2, 0), strict=True))
    return xr.Dataset(
        {name: (("time", "pair", "eta", "row", "column"), values) for name, values in moments_of.items()}
        | {"U": (("time", "eta"), energy)},
        coords={"eta": list(rates), "time": np.arange(1, logs + 1) * (every * moments)},
    )


def started(d: int, width: int, depth: int, sigma: float, seed: int):
    """The network of `matrix` and its start [1, P]: usual weights over √2, whose gain makes up for a ReLU."""
    net = teacher_student.student((d, *[width] * (depth - 1), d), lambda x: x, "linear", [sigma] * d, seed=seed)
    return net, net.start(torch.arange(1), seed) / math.sqrt(2)


def residual(data: xr.Dataset) -> xr.DataArray:
    """|A - B|/((|A| + |B|)/2) of the matrices of `matrix`, in Frobenius norm: 0 in balance, at most 2."""

    def size(m):
        return np.sqrt((m**2).sum(("row", "column")))

    return size(data["above"] - data["below"]) / (size(data["above"]) + size(data["below"])) * 2


@decides("balance.matrix", reads=["rates", "d", "width", "depth", "sigma", "steps"])
def matrices_balance(matrix: xr.Dataset) -> Decision:
    """Relative distance of the two sides of the matrix equation, at the largest rate; control: at the smallest."""
    found = residual(late(matrix)).mean("pair")
    large, small = (few_seeds(found.sel(eta=eta)) for eta in (matrix["eta"].max(), matrix["eta"].min()))
    return with_control(large, small, BALANCE, "small η in the same number of steps")
