"""A small ConvNet on digits in place of the perceptron: narrow, wide, and wide on labels that mean nothing.

Replicas of a convolution go through autograd, so seeds and learning rates are one batch. Source: arXiv:2505.23489.
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
from thermolab.engine.rules import Count, Positives, choice, number, several
from thermolab.instruments.temperature import gas_temperature
from thermolab.instruments.windows import accuracy, probe
from thermolab.systems import data, models
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

ARMS = {"narrow": ((4, 8), False), "wide": ((16, 32), False), "redrawn": ((16, 32), True)}  # channels, labels redrawn each step
RATES = tuple(np.geomspace(2e-3, 6.4e-2, 3).round(6))
PROBE = 8  # fresh minibatches at each moment of a probe: the labels of "redrawn" make a full gradient ten times as dear
MORE = 1.0  # decades by which T of a wide ConvNet falls further than that of a narrow one, which falls as η does


@recipe("ConvNets", over={"arms": "arm"}, dims=("arm", "eta", "time", "seed"))
def convnets(
    rates: Positives = RATES,
    arms: Annotated[Sequence[str], several(choice(*ARMS))] = tuple(ARMS),
    *,
    batch_size: Count = 32,
    label_noise: Annotated[float, number(0, 1)] = 0.3,
    n_data: Count = 256,
    steps: Count = 2000,
    logs: Count = 10,
    probes: Count = 2,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """Training of scale-invariant ConvNets on the unit sphere: "narrow", "wide" and "redrawn".

    rates: η; probes: moments per interval at which fresh minibatches probe the gradient and the accuracy is read; "redrawn" has
    the wide net learn labels drawn anew at each step.

    Returns a Dataset, dims (arm, eta, time, seed), time in steps: U and g2 = E|g|² over the interval, accuracy, trace Tr Σ,
    gradient_squared |∇L|² (unbiased, it may be negative), T_gas = η Tr Σ/(2(D − 1)).
    """
    channels, redrawn = ARMS[arms[0]]
    digits = data.digits(n_data, label_noise=label_noise)
    if redrawn:  # every image once with every label: a draw from these is an image with a label drawn anew
        n, k = len(digits), digits.n_classes
        digits = Dataset(digits.x.repeat_interleave(k, 0), torch.arange(k).repeat(n), k)
    net = NetworkOnData(models.scale_invariant_cnn(channels), digits, "sphere")
    eta, every, seed = np.repeat(rates, len(seeds)), max(1, steps // logs // probes), seeds[0] // 1000
    weights = net.start(torch.arange(len(eta)), seed)
    weights /= torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    run, rows = Experiment(net, eta=eta, batch_size=batch_size, seed=seed, weights=weights, device=device), []
    for _ in range(logs):
        probed = []
        for _ in range(probes):
            run.advance(every)
            probed.append(probe(run, batch_size, PROBE, at="unit") | {"accuracy": accuracy(run, at="unit")})
        found = run.frame().observables
        row = {"U": found["U"], "g2": found["g2"]}
        row |= {name: np.mean([p[name] for p in probed], 0) for name in probed[0]}
        rows.append(row | {"T_gas": gas_temperature(eta, row["trace"], net.n_parameters)})
    values = {k: np.stack([row[k].reshape(len(rates), -1) for row in rows], 1)[None] for k in rows[0]}
    coords = {"arm": list(arms), "eta": list(rates), "time": np.arange(1, logs + 1) * every * probes, "seed": seeds}
    return xr.Dataset({k: (("arm", "eta", "time", "seed"), v) for k, v in values.items()}, coords)


@decides("collapse.architectures", reads=["n_data", "steps", "logs", "probes"])
def architectures(convnets: xr.Dataset) -> Decision:
    """By how many decades more T falls from the largest rate to the smallest, over the last three intervals."""
    end = np.log10(_end(convnets))
    fall = (end.isel(eta=-1) - end.isel(eta=0)).transpose("arm", "seed")

    def more(arm: str):
        return few_seeds(fall.sel(arm=arm).values - fall.sel(arm="narrow").values)

    return with_control(more("wide"), more("redrawn"), 0.0, "labels redrawn at every step", MORE, "above")


@decides("collapse.architectures.up", reads=["rates", "n_data", "steps", "logs", "probes"])
def rises(convnets: xr.Dataset) -> Decision:
    """The smallest step of log T of the narrow net from one rate to the next, T a mean over the last three intervals."""
    log_t = np.log(_end(convnets).sel(arm="narrow")).transpose("seed", "eta").values

    def least(values: np.ndarray):
        steps = np.diff(values, axis=1)
        return few_seeds(steps[:, steps.mean(0).argmin()])

    return with_control(least(log_t), least(log_t[:, ::-1]), 0.0, "η in reverse order", 0.0, "above")


def _end(convnets: xr.Dataset) -> xr.DataArray:
    """T_gas over the last three intervals."""
    return convnets["T_gas"].isel(time=slice(-3, None)).mean("time")
