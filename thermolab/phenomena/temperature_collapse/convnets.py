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
from thermolab.instruments.windows import accuracy, full_gradient_squared
from thermolab.systems import data, models
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

ARMS = {"narrow": ((4, 8), False), "wide": ((16, 32), False), "redrawn": ((16, 32), True)}  # channels, labels redrawn each step
MORE = 1.0  # decades by which T of a wide ConvNet falls further than that of a narrow one, which falls as η does


@recipe("ConvNets", over={"arms": "arm"}, dims=("arm", "eta", "time", "seed"))
def convnets(
    rates: Positives = (2e-3, 2e-2),
    arms: Annotated[Sequence[str], several(choice(*ARMS))] = tuple(ARMS),
    *,
    batch_size: Count = 32,
    label_noise: Annotated[float, number(0, 1)] = 0.3,
    n_data: Count = 256,
    steps: Count = 2000,
    logs: Count = 10,
    probes: Count = 4,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """Training of scale-invariant ConvNets on the unit sphere: "narrow", "wide" and "redrawn".

    rates: η; probes: of |∇L|² and accuracy per interval; "redrawn" has the wide net learn labels drawn anew at each step.

    Returns a Dataset, dims (arm, eta, time, seed), time in steps: U, accuracy, g2 = E|g|², gradient_squared |∇L|²
    over the whole data set, trace Tr Σ = E|g|² − |∇L|², T_gas = η Tr Σ/(2(D − 1)).
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
        full, right = [], []
        for _ in range(probes):
            run.advance(every)
            full.append(full_gradient_squared(run))
            right.append(accuracy(run))
        found = run.frame().observables
        row = {"U": found["U"], "g2": found["g2"], "gradient_squared": np.mean(full, 0), "accuracy": np.mean(right, 0)}
        row["trace"] = np.maximum(row["g2"] - row["gradient_squared"], 0)
        rows.append(row | {"T_gas": gas_temperature(eta, row["trace"], net.n_parameters)})
    values = {k: np.stack([row[k].reshape(len(rates), -1) for row in rows], 1)[None] for k in rows[0]}
    coords = {"arm": list(arms), "eta": list(rates), "time": np.arange(1, logs + 1) * every * probes, "seed": seeds}
    return xr.Dataset({k: (("arm", "eta", "time", "seed"), v) for k, v in values.items()}, coords)


@decides("collapse.architectures", reads=["n_data", "steps", "logs", "probes"])
def architectures(convnets: xr.Dataset) -> Decision:
    """By how many decades more T falls from the largest rate to the smallest, over the last three intervals.

    E|g|² and |∇L|² are averaged before they are subtracted: in one interval the few probes of |∇L|² may exceed E|g|².
    """
    end = convnets[["g2", "gradient_squared"]].isel(time=slice(-3, None)).mean("time")
    temperature = convnets["eta"] * (end["g2"] - end["gradient_squared"])  # times 1/(2(D − 1)), the same for all η of an arm
    fall = np.log10(temperature.isel(eta=-1) / temperature.isel(eta=0)).transpose("arm", "seed")

    def more(arm: str):
        return few_seeds(fall.sel(arm=arm).values - fall.sel(arm="narrow").values)

    return with_control(more("wide"), more("redrawn"), 0.0, "labels redrawn at every step", MORE, "above")
