"""A small ConvNet on digits in place of the perceptron: narrow, wide, and wide on labels that mean nothing.

Replicas of a convolution go through autograd, so seeds and learning rates are one batch. Source: arXiv:2505.23489.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments.temperature import gas_temperature
from thermolab.instruments.windows import accuracy, full_gradient_squared
from thermolab.phenomena.temperature_collapse.networks import checked
from thermolab.systems import data, models
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

ARMS = {"narrow": ((4, 8), False), "wide": ((16, 32), False), "redrawn": ((16, 32), True)}  # channels, labels redrawn each step


@Recipe
def convnets(
    rates=(2e-3, 2e-2),
    *,
    batch_size: int = 32,
    label_noise: float = 0.3,
    n_data: int = 256,
    steps: int = 2000,
    logs: int = 10,
    probes: int = 4,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Training of three scale-invariant ConvNets on the unit sphere, {arm: Dataset} of "narrow", "wide" and "redrawn".

    rates: η; probes: of |∇L|² and accuracy per interval; "redrawn" has the wide net learn labels drawn anew at each step.

    Returns for each arm a Dataset, dims (eta, time, seed), time in steps: U, accuracy, g2 = E|g|², gradient_squared |∇L|²
    over the whole data set, trace Tr Σ = E|g|² − |∇L|², T_gas = η Tr Σ/(2(D − 1)).
    """
    rates = checked(rates, steps=steps, logs=logs, probes=probes, n_seeds=n_seeds)
    common = {"rates": rates, "batch_size": batch_size, "label_noise": label_noise, "n_data": n_data, "steps": steps,
              "logs": logs, "probes": probes, "seed": seed, "n_seeds": n_seeds, "device": str(device)}  # fmt: skip
    parts = yield Jobs(_cells, [common | {"arm": arm} for arm in ARMS], "ConvNets")
    coords = {
        "eta": rates,
        "time": np.arange(1, logs + 1) * max(1, steps // logs // probes) * probes,
        "seed": seeds(seed, n_seeds),
    }
    return {
        arm: xr.Dataset({k: (("eta", "time", "seed"), v) for k, v in part.items()}, coords=coords)
        for arm, part in zip(ARMS, parts, strict=True)
    }


def _cells(*, arm, rates, batch_size, label_noise, n_data, steps, logs, probes, seed, n_seeds, device) -> dict[str, np.ndarray]:
    channels, redrawn = ARMS[arm]
    digits = data.digits(n_data, label_noise=label_noise)
    if redrawn:  # every image once with every label: a draw from these is an image with a label drawn anew
        n, k = len(digits), digits.n_classes
        digits = Dataset(digits.x.repeat_interleave(k, 0), torch.arange(k).repeat(n), k)
    net = NetworkOnData(models.scale_invariant_cnn(channels), digits, "sphere")
    shape, eta = (len(rates), n_seeds), np.repeat(rates, n_seeds)
    streams = torch.arange(len(eta))
    weights = net.start(streams, seed)
    weights /= torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    run, rows = Experiment(net, eta=eta, batch_size=batch_size, seed=seed, weights=weights, device=device), []
    for _ in range(logs):
        full, right = [], []
        for _ in range(probes):
            run.advance(max(1, steps // logs // probes))
            full.append(full_gradient_squared(run))
            right.append(accuracy(run))
        found = run.frame().gauges
        row = {"U": found["U"], "g2": found["g2"], "gradient_squared": np.mean(full, 0), "accuracy": np.mean(right, 0)}
        row["trace"] = np.maximum(row["g2"] - row["gradient_squared"], 0)
        rows.append(row | {"T_gas": gas_temperature(eta, row["trace"], net.n_parameters)})
    return {k: np.stack([row[k].reshape(shape) for row in rows], 1) for k in rows[0]}
