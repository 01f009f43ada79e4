"""What noisy answers do to λ_max from a random, a flat and a sharp start, under SGD and under Adam.

All starts but the random ones compute what is to be learnt: "flat" is where balanced noise leaves a random start, "sharp" is
that point with the first layer multiplied by c and the last one divided by it (which for linear and ReLU networks leaves the
function as it is, if biases are scaled too). Networks learn what one of their own kind can compute. Source: document 4, part 4.
λ_max is compared as a logarithm; what counts as a change is `switch.CHANGE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine import rules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, choice, several
from thermolab.engine.schedules import STAGES, cool
from thermolab.phenomena.progressive_sharpening import two_layers
from thermolab.phenomena.progressive_sharpening.switch import CHANGE
from thermolab.phenomena.progressive_sharpening.two_layers import Activation, Profile

STARTS = ("random", "flat", "sharp")
NOISES = ("balanced", "imbalanced", "none")
ETA = {"sgd": 0.04, "adam": 0.005}
ADAM = {"beta2": 0.995, "eps": 1e-7}
PREPARATION, FINAL = 16_000, 2400  # steps towards the flat start, and of the decay at its end


@dataclass(frozen=True)
class Training:
    """How networks are trained from a start, at a constant η and then in a final decay.

    optimiser: "sgd" or "adam" (β₂ = 0.995, ε = 1e-7, as in the source's figure); eta: default 0.04 for SGD, 0.005 for Adam; steps
    at constant η, with λ_max read at `logs` moments; decay: steps of the final decay.
    """

    optimiser: Literal["sgd", "adam"] = "sgd"
    eta: Annotated[float | None, rules.positive()] = None
    batch_size: Count = 16
    steps: Count = 8000
    decay: Count = 2400
    logs: Count = 10

    def __post_init__(self):
        rules.multiple(self.logs, "logs", steps=self.steps)
        rules.multiple(STAGES, "stages", decay=self.decay)


@recipe("{activation} networks from other starts", dims=("noise", "start", "time", "seed"), over={"noises": "noise"})
def starts(
    activation: Activation = "linear",
    profile: Profile = two_layers.IMBALANCED,
    *,
    starts: Annotated[Sequence[str], several(choice(*STARTS))] = STARTS,
    noises: Annotated[Sequence[str], several(choice(*NOISES))] = NOISES,
    strength: Positive = 1.5,
    stretch: Positive = 2.0,
    width: Count = 12,
    training: Training,
    copies: Count = 2,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """λ_max on the way from each of `starts` under each of `noises`.

    activation: "linear", "tanh" or "relu"; profile: σ_i of imbalanced noise, of whose power is the balanced one; strength: s of
    what is learnt; stretch: c of the sharp start; width: h ≥ d; training: its fields are settings of the recipe; copies: networks
    of each seed, averaged.

    Returns a Dataset, dims (noise, start, time, seed): lambda_max and excess, the loss on noiseless answers; time in steps, the
    first, 0, is the start, the last is after the final decay. All seeds see the same data and differ in starts and batches.
    Raises ValueError for settings that are out of range.
    """
    two_layers.enough_for(profile, width=width)
    base, (noise,) = seeds[0] // 1000, noises  # base: the seed that the data have in common
    answer, sigma = two_layers.own_kind(len(profile), activation, strength=strength, seed=base), two_layers.kinds(profile)
    streams = np.add.outer(np.multiply(1000, seeds), np.arange(copies)).ravel()
    common = {"answer": answer, "width": width, "seed": base}
    net = two_layers.learner(sigma["balanced"], activation, **common)
    begins = {"random": net.start(torch.as_tensor(streams), base)}
    if set(starts) - {"random"}:
        half = begins["random"] / 2
        prepare = Experiment(net, eta=ETA["sgd"], batch_size=16, weights=half, streams=streams, seed=base, device=device)
        prepare.advance(PREPARATION)
        cool(prepare, FINAL)
        prepare.raise_if_diverged()
        begins["flat"] = prepare.state.weights.cpu()
        begins["sharp"] = stretched(net, begins["flat"], stretch)
    net = two_layers.learner(sigma[noise], activation, optimiser=training.optimiser, **common)
    rates = ADAM if training.optimiser == "adam" else {}
    run = Experiment(
        net, eta=training.eta or ETA[training.optimiser], batch_size=training.batch_size, streams=np.tile(streams, len(starts)),
        weights=torch.cat([begins[k] for k in starts]), seed=base + 2**32, device=device, **rates,
    )  # fmt: skip

    def look():
        run.raise_if_diverged()
        w = run.state.weights
        return [v.reshape(len(starts), len(seeds), copies).mean(-1)
                for v in (two_layers.sharpness(net, w, activation, answer), two_layers.excess(net, w, answer))]  # fmt: skip

    rows, every = [look()], training.steps // training.logs
    for _ in range(training.logs):
        run.advance(every)
        rows.append(look())
    cool(run, training.decay)
    rows.append(look())
    time = [*range(0, training.steps + 1, every), training.steps + training.decay]
    values = {k: (("time", "start", "seed"), v) for k, v in zip(("lambda_max", "excess"), np.swapaxes(rows, 0, 1), strict=True)}
    coords = {"start": list(starts), "time": time, "seed": list(seeds)}
    return xr.Dataset(values, coords=coords).expand_dims(noise=[noise])


def stretched(net, weights: torch.Tensor, by: float) -> torch.Tensor:
    """Weights [R, P] with the first layer and its biases multiplied by a number and the last layer divided by it."""
    weights = weights.clone()
    for name, view in net.replicas.views(weights).items():
        view.mul_(by if name.startswith("0.") else 1 / by)
    return weights


def gain(data: xr.Dataset) -> xr.DataArray:
    """log of λ_max at the end over that at the start, (noise, start, seed)."""
    sharp = np.log(data["lambda_max"].transpose("noise", "start", "time", "seed"))
    return sharp.isel(time=-1) - sharp.isel(time=0)


@decides("sharpening.flattening", reads=["strength", "stretch", "width", "steps"])
def flattens(sharp_start: xr.Dataset) -> Decision:
    """Log of λ_max at the end over that at the sharp start, under balanced noise; control: without noise."""
    measured, control = (few_seeds(gain(sharp_start).sel(start="sharp", noise=noise)) for noise in ("balanced", "none"))
    return with_control(measured, control, 0.0, "training from there without label noise", -CHANGE, "below")


@decides("sharpening.from-scratch", reads=["profile", "strength", "width", "steps"])
def sharpens_from_scratch(from_scratch: Mapping[str, xr.Dataset]) -> Decision:
    """Log of λ_max at the end over that at the start, under imbalanced noise, mean over networks; control: a flat start."""
    gains = [gain(data).sel(noise="imbalanced") for data in from_scratch.values()]
    measured, control = (few_seeds(np.mean([g.sel(start=start).values for g in gains], 0)) for start in ("random", "flat"))
    return with_control(measured, control, 0.0, "networks that start from a flat point, where it does", CHANGE, "above")


@decides("sharpening.adam", reads=["profile", "strength", "stretch", "width", "steps"])
def sharpens_under_adam(adam: xr.Dataset) -> Decision:
    """Log of λ_max at the end under imbalanced noise over that at the start, or over the balanced end; the smaller."""

    def sharpening(start: str) -> np.ndarray:
        imbalanced, balanced = (gain(adam).sel(start=start, noise=noise).values for noise in ("imbalanced", "balanced"))
        return np.minimum(imbalanced, imbalanced - balanced)

    measured, control = (few_seeds(sharpening(start)) for start in ("flat", "sharp"))
    return with_control(measured, control, 0.0, "a sharp start, from which λ_max falls under both", CHANGE, "above")
