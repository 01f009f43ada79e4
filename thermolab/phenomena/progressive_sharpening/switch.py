"""The noise of the answers is switched while a network learns: balanced, imbalanced, balanced again, at equal power.

What the network has to compute stays the same, and so does the loss without noise. η is constant, so λ_max misses the closed
form of a linear network, upwards for balanced and downwards for strongly imbalanced noise: what counts is the
order. Source: document 4, part 4.

CHANGE, the tolerance, stands here once and does not move with the data: a change of λ_max by less than 5 % counts as none, for
that is what the fluctuations of a balanced network leave in a mean over half a phase. λ_max is compared as a logarithm, and the
second half of a phase counts as its end.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine import rules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count
from thermolab.phenomena.progressive_sharpening import theory, two_layers
from thermolab.phenomena.progressive_sharpening.two_layers import Activation, Profile

ETA = {"linear": 0.05, "tanh": 0.05, "relu": 0.04}
ARMS = ("imbalanced", "balanced")
ANOTHER = 500_000  # added to the seed of a data set with other noise of the same variances
CHANGE = 0.05


@recipe("{activation} networks, noise switched", shared=["predicted"], dims=("arm", "time", "seed"))
def switch(
    activation: Activation = "linear",
    profile: Profile = two_layers.IMBALANCED,
    *,
    width: Count = 12,
    eta: Annotated[float | None, rules.positive()] = None,
    batch_size: Count = 16,
    steps: Count = 10_000,
    logs: Count = 16,
    copies: Count = 6,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """λ_max of two-layer networks that learn y = x + ε from random weights, while the noise is switched twice.

    activation: "linear", "tanh" or "relu"; profile: σ_i, standard deviation of the noise of each answer in the middle phase; in
    the others all have their root mean square; width: h ≥ d; eta: default 0.05, for ReLU 0.04; steps: of a phase; logs: moments
    of each phase at which λ_max is read; copies: networks of each seed, averaged.

    Returns a Dataset, dims (arm, time, seed): lambda_max, U (mean loss since the last moment). time: in steps, with coordinate
    phase 0, 1, 2. In arm "balanced", the control, the middle phase has another balanced noise. predicted (arm, stage): the
    closed form of a linear network without fluctuations, in each phase.
    Raises ValueError for settings that are out of range. Source: document 4, part 4.
    """
    two_layers.enough_for(profile, width=width)
    rules.multiple(logs, "logs", steps=steps)
    eta, even = ETA[activation] if eta is None else eta, two_layers.balanced(profile)

    def phase(noise, seed_of_data, start, number):
        net = two_layers.learner(noise, activation, width=width, seed=seed_of_data)
        start = net.start(torch.arange(copies), seed) / 2 if start is None else start
        run = Experiment(net, eta=eta, batch_size=batch_size, weights=start, seed=seed + 2**32 * number, device=device)
        rows = [
            (two_layers.sharpness(net, run.state.weights, activation).mean(), frame.observables["U"].mean())
            for frame in run.frames(steps // logs, until=steps)
        ]
        return rows, run.state.weights

    first, middle = phase(even, seed, None, 0)
    found = []
    for noise, seed_of_data in ((profile, seed), (even, seed + ANOTHER)):
        second, end = phase(noise, seed_of_data, middle, 1)
        third, _ = phase(even, seed, end, 2)
        found.append(first + second + third)
    sharp, loss = np.moveaxis(found, -1, 0)
    closed = [[theory.lambda_max(p) for p in (even, noise, even)] for noise in (profile, even)]
    return xr.Dataset(
        {"lambda_max": (("arm", "time"), sharp), "U": (("arm", "time"), loss), "predicted": (("arm", "stage"), closed)},
        coords={
            "arm": list(ARMS),
            "time": np.arange(1, 3 * logs + 1) * (steps // logs),
            "phase": ("time", np.repeat(range(3), logs)),
        },
    )


def rise_and_return(data: xr.Dataset) -> xr.DataArray:
    """The rise of log λ_max with the first switch, less twice what is left of it after the second, (arm, seed).

    At CHANGE or above, λ_max has gone up by CHANGE at least, and more than half of that has gone again.
    """
    phases = [np.log(data["lambda_max"]).isel(time=data["phase"].values == k) for k in range(3)]
    first, middle, last = (p.isel(time=slice(p.sizes["time"] // 2, None)).mean("time", skipna=False) for p in phases)
    return ((middle - first) - 2 * abs(last - first)).transpose("arm", "seed")


@decides("sharpening.switch.linear", data="switch_linear", reads=["profile", "width", "steps"])
@decides("sharpening.switch.tanh", data="switch_tanh", reads=["profile", "width", "steps"])
@decides("sharpening.switch.relu", data="switch_relu", reads=["profile", "width", "steps"])
def rises_and_returns(data: xr.Dataset) -> Decision:
    """Rise of log λ_max with the first switch less twice what is left of it after the second; control: another balanced noise."""
    measured, control = map(few_seeds, rise_and_return(data).sel(arm=["imbalanced", "balanced"]).values)
    return with_control(measured, control, 0.0, "switching from one balanced noise to another", CHANGE, "above")
