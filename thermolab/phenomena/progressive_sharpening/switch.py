"""The noise of the answers is switched while a network learns: balanced, imbalanced, balanced again, at equal power.

What the network has to compute stays the same, and so does the loss without noise. η is constant, so λ_max misses the closed
form of a linear network, upwards for balanced and downwards for strongly imbalanced noise: what counts is the
order. Source: document 4, part 4.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.phenomena.common import validate
from thermolab.phenomena.progressive_sharpening import setting, theory

ETA = {"linear": 0.05, "tanh": 0.05, "relu": 0.04}
ARMS = ("imbalanced", "balanced")
ANOTHER = 500_000  # added to the seed of a data set with other noise of the same variances


@Recipe
def switch(
    activation: str = "linear",
    profile=setting.IMBALANCED,
    *,
    width: int = 12,
    eta: float | None = None,
    batch_size: int = 16,
    steps: int = 10_000,
    logs: int = 16,
    copies: int = 6,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """λ_max of two-layer networks that learn y = x + ε from random weights, while the noise is switched twice.

    activation: "linear", "tanh" or "relu"; profile: σ_i, standard deviation of the noise of each answer in the middle phase; in
    the others all have their root mean square; width: h ≥ d; eta: default 0.05, for ReLU 0.04; steps: of a phase; logs: moments
    of each phase at which λ_max is read; copies: networks of each seed, averaged.

    Returns a Dataset, dims (arm, time, seed): lambda_max, U (mean loss since the last moment). time: in steps, with coordinate
    phase 0, 1, 2. In arm "balanced", the control, the middle phase has another balanced noise. predicted (arm, phase): the
    closed form of a linear network without fluctuations.
    Raises ValueError for settings that are out of range. Source: document 4, part 4.
    """
    profile = setting.check(profile, width)
    if activation not in setting.ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is unknown; allowed: {', '.join(setting.ACTIVATIONS)}")
    eta = ETA[activation] if eta is None else eta
    validate.counts(batch_size=batch_size, logs=logs, copies=copies, n_seeds=n_seeds, steps=steps)
    validate.positive(eta=eta)
    validate.multiples(logs, "logs", steps=steps)
    common = {"activation": activation, "profile": profile, "width": width, "eta": eta, "batch_size": batch_size,
              "every": steps // logs, "logs": logs, "copies": copies, "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_switch, [common | {"seed": s} for s in numbers], f"{activation} networks, noise switched")
    found = dict(zip(("lambda_max", "U"), np.stack(parts, -1), strict=True))
    even = setting.balanced(profile)
    closed = [[theory.lambda_max(p) for p in (even, middle, even)] for middle in (profile, even)]
    coords = {"arm": list(ARMS), "time": np.arange(1, 3 * logs + 1) * (steps // logs), "seed": numbers,
              "phase": ("time", np.repeat(range(3), logs))}  # fmt: skip
    values = {k: (("arm", "time", "seed"), v) for k, v in found.items()}
    return xr.Dataset(values | {"predicted": (("arm", "stage"), closed)}, coords=coords)


def _switch(*, activation, profile, width, eta, batch_size, every, logs, copies, seed, device) -> np.ndarray:
    """λ_max and U [2, arm, time]."""
    even = setting.balanced(profile)

    def phase(noise, seed_of_data, start, number):
        net = setting.learner(noise, activation, width=width, seed=seed_of_data)
        start = net.start(torch.arange(copies), seed) / 2 if start is None else start
        run = Experiment(net, eta=eta, batch_size=batch_size, weights=start, seed=seed + 2**32 * number, device=device)
        rows = [
            (setting.sharpness(net, run.state.weights, activation).mean(), frame.gauges["U"].mean())
            for frame in run.frames(every, until=every * logs)
        ]
        return rows, run.state.weights

    first, middle = phase(even, seed, None, 0)
    found = []
    for noise, seed_of_data in ((profile, seed), (even, seed + ANOTHER)):
        second, end = phase(noise, seed_of_data, middle, 1)
        third, _ = phase(even, seed, end, 2)
        found.append(first + second + third)
    return np.moveaxis(found, -1, 0)


def by_activation(activations=setting.ACTIVATIONS, **settings) -> dict:
    """`switch` for each activation, to be awaited `together`."""
    return {name: switch(name, **settings) for name in activations}
