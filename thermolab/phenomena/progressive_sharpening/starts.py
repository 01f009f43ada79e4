"""What noisy answers do to λ_max from a random, a flat and a sharp start, under SGD and under Adam.

All starts but the random ones compute what is to be learnt: "flat" is where balanced noise leaves a random start, "sharp" is
that point with the first layer multiplied by c and the last one divided by it (which for linear and ReLU networks leaves the
function as it is, if biases are scaled too). Networks learn what one of their own kind can compute. Source: document 4, part 4.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.engine.schedules import STAGES, cool
from thermolab.phenomena.common import validate
from thermolab.phenomena.progressive_sharpening import setting

STARTS = ("random", "flat", "sharp")
NOISES = ("balanced", "imbalanced", "none")
ETA = {"sgd": 0.04, "adam": 0.005}
ADAM = {"beta2": 0.995, "eps": 1e-7}
PREPARATION, FINAL = 16_000, 2400  # steps towards the flat start, and of the decay at its end


@Recipe
def starts(
    activation: str = "linear",
    profile=setting.IMBALANCED,
    *,
    optimiser: str = "sgd",
    starts=STARTS,
    noises=NOISES,
    strength: float = 1.5,
    stretch: float = 2.0,
    width: int = 12,
    eta: float | None = None,
    batch_size: int = 16,
    steps: int = 8000,
    decay: int = 2400,
    logs: int = 10,
    copies: int = 2,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """λ_max on the way from each of `starts` under each of `noises`.

    activation: "linear", "tanh" or "relu"; profile: σ_i of imbalanced noise, of whose power is the balanced one; optimiser:
    "sgd" or "adam" (β₂ = 0.995, ε = 1e-7, as in the source's figure); strength: s of what is learnt; stretch: c of the sharp
    start; eta: default 0.04 for SGD, 0.005 for Adam; steps at constant η, with λ_max read at `logs` moments; decay: steps of the
    final decay; copies: networks of each seed, averaged.

    Returns a Dataset, dims (noise, start, time, seed): lambda_max and excess, the loss on noiseless answers; time in steps, the
    first, 0, is the start, the last is after the final decay. All seeds see the same data and differ in starts and batches.
    Raises ValueError for settings that are out of range.
    """
    profile = setting.check(profile, width)
    for name, value, allowed in (("activation", [activation], setting.ACTIVATIONS), ("optimiser", [optimiser], tuple(ETA)),
                                 ("starts", starts, STARTS), ("noises", noises, NOISES)):  # fmt: skip
        if not set(value) <= set(allowed) or not len(value):
            raise ValueError(f"{name}={value} is unknown; allowed: {', '.join(allowed)}")
    eta = ETA[optimiser] if eta is None else eta
    validate.counts(batch_size=batch_size, steps=steps, decay=decay, logs=logs, copies=copies, n_seeds=n_seeds)
    validate.positive(eta=eta, strength=strength, stretch=stretch)
    validate.multiples(logs, "logs", steps=steps)
    validate.multiples(STAGES, "stages", decay=decay)
    numbers = seeds(seed, n_seeds)
    common = {"activation": activation, "profile": profile, "optimiser": optimiser, "starts": tuple(starts), "eta": eta,
              "strength": strength, "stretch": stretch, "width": width, "batch_size": batch_size, "steps": steps,
              "decay": decay, "logs": logs, "copies": copies, "seed": seed, "numbers": numbers,
              "device": str(device)}  # fmt: skip
    parts = yield Jobs(_starts, [common | {"noise": noise} for noise in noises], f"{activation} networks from other starts")
    time = [*(np.arange(logs + 1) * (steps // logs)), steps // logs * logs + decay]
    dims = ("noise", "start", "time", "seed")
    values = {name: (dims, np.stack([p[k] for p in parts])) for k, name in enumerate(("lambda_max", "excess"))}
    return xr.Dataset(values, coords={"noise": list(noises), "start": list(starts), "time": time, "seed": numbers})


def _starts(
    *, activation, profile, optimiser, starts, eta, strength, stretch, width, batch_size, steps, decay, logs, copies, seed,
    numbers, device, noise,
) -> np.ndarray:  # fmt: skip
    """λ_max and excess [2, start, time, seed] under one noise, all starts and seeds at once."""
    answer = setting.own_kind(len(profile), activation, strength=strength, seed=seed)
    even = setting.balanced(profile)
    sigma = {"balanced": even, "imbalanced": profile, "none": setting.NONE * even}[noise]
    streams = np.add.outer(np.multiply(1000, numbers), np.arange(copies)).ravel()
    common = {"answer": answer, "width": width, "seed": seed}
    net = setting.learner(even, activation, **common)
    begins = {"random": net.start(torch.as_tensor(streams), seed)}
    if set(starts) - {"random"}:
        prepare = Experiment(
            net, eta=ETA["sgd"], batch_size=16, weights=begins["random"] / 2, streams=streams, seed=seed, device=device
        )
        prepare.advance(PREPARATION)
        cool(prepare, FINAL)
        prepare.frame()
        begins["flat"] = prepare.state.weights.cpu()
        begins["sharp"] = stretched(net, begins["flat"], stretch)
    net = setting.learner(sigma, activation, optimiser=optimiser, **common)
    rates = ADAM if optimiser == "adam" else {}
    run = Experiment(
        net, eta=eta, batch_size=batch_size, weights=torch.cat([begins[k] for k in starts]), device=device,
        streams=np.tile(streams, len(starts)), seed=seed + 2**32, **rates,
    )  # fmt: skip

    def look():
        w = run.state.weights
        return [v.reshape(len(starts), len(numbers), copies).mean(-1)
                for v in (setting.sharpness(net, w, activation, answer), setting.excess(net, w, answer))]  # fmt: skip

    rows = [look()]
    for _ in range(logs):
        run.advance(steps // logs)
        run.frame()
        rows.append(look())
    cool(run, decay)
    run.frame()  # tells of divergence
    rows.append(look())
    return np.array(rows).transpose(1, 2, 0, 3)


def stretched(net, weights: torch.Tensor, by: float) -> torch.Tensor:
    """Weights [R, P] with the first layer and its biases multiplied by a number and the last layer divided by it."""
    weights = weights.clone()
    for name, view in net.replicas.views(weights).items():
        view.mul_(by if name.startswith("0.") else 1 / by)
    return weights


def flattening(**settings):
    """`starts` of linear networks from a sharp point, with balanced noise and without any."""
    return starts("linear", starts=("sharp",), noises=("balanced", "none"), **settings)


def from_scratch(**settings) -> dict:
    """`starts` of tanh and of ReLU networks, random and flat, to be awaited `together`."""
    long = {"starts": ("random", "flat"), "noises": ("imbalanced", "balanced"), "steps": 12_000, "logs": 6, "copies": 4}
    return {name: starts(name, **(long | settings)) for name in ("tanh", "relu")}


def adam(**settings):
    """`starts` of linear networks from a flat and a very sharp point under Adam."""
    few = {"stretch": 3.0, "steps": 6000, "copies": 1}
    return starts("linear", optimiser="adam", starts=("flat", "sharp"), noises=NOISES[:2], **(few | settings))
