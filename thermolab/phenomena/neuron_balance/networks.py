"""Networks of two layers on their way to balance, with ReLU, tanh or nothing between them.

All runs are SGD on `teacher_student.student`. A network starts where it computes what its teacher does, each neuron rescaled by a
factor of its own: L is at its least from the first step on, and what moves is balance alone. Source: documents 2 and 4.

Tolerances stand here once and do not move with the data. BALANCE: a log ratio within 0.1 of 0, as the register asks of other
networks. CLOCK: curves that start at 1 and end at 0 coincide within 0.1, since terms of relative order η λ_max, 0.16 to 0.3 at
the largest η, are left out. DECAY: the shift within 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, extreme, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive, Rule, integer, not_negative, positive, several
from thermolab.instruments import neurons
from thermolab.phenomena.neuron_balance import theory
from thermolab.systems import teacher_student

ARMS = ((0.02, 8), (0.02, 16), (0.01, 4), (0.01, 8))  # (η, B)
BALANCE, CLOCK, DECAY = 0.1, 0.1, 0.05


def _arm(pair) -> tuple[float, int]:
    """η and B, or a ValueError with the complaint of a rule."""
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError("holds something else")
    return positive().convert(pair[0]), integer(1).convert(pair[1])


@dataclass(frozen=True)
class Start:
    """Widths, the length of the teacher's neurons, and how far off balance the student's start."""

    d_x: Count = 5
    width: Count = 4
    d_y: Count = 4
    strength: Positive = 2.0
    spread: NotNegative = 0.7


@dataclass(frozen=True)
class Readings:
    """How often gradients are read, each time from some fresh minibatches, and of how many networks of a seed."""

    logs: Count = 20
    moments: Count = 5
    batches: Count = 8
    copies: Count = 4


@recipe("{activation} networks on their way to balance", dims=("arm", "time", "seed", "copy", "neuron"))
def relu(
    arms: Annotated[Sequence, several(Rule("a pair (η, B) of a positive number and a whole one", _arm))] = ARMS,
    *,
    activation: Literal["relu", "tanh", "linear"] = "relu",
    lams: Annotated[Sequence[float], several(not_negative())] = (0.0,),
    sigma: NotNegative = 1.0,
    span: Positive = 1.0,
    start: Start,
    readings: Readings,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """A two-layer network that starts at its teacher's function with every neuron out of balance by a factor of its own.

    arms: pairs (η, B); lams: weight decays, each with all arms; sigma: noise of the answers; span: η² t/B at the end; strength:
    |u| |w| of a neuron; spread: u is divided by e^s and w multiplied, s = ±spread with a random sign; logs: intervals of equal
    length, within each of which gradients are probed at `moments` moments with `batches` fresh minibatches; copies: starts of
    each seed.

    Returns a Dataset, dims (arm, time, seed, copy, neuron), arm counting (η, B, λ) with coordinates eta, batch_size and lam:
    g2_in = E|g_u|², g2_out = E|g_w|² of minibatches, in2 = |u|², out2 = |w|², means over the interval that ends at `time`,
    which is η² t/B; the first, at 0, is the start. Gradients of a neuron that never fires are 0.
    Raises ValueError for settings that are out of range. Source: document 4, part 2.
    """
    net, weights = off_balance(
        (start.d_x, start.width, start.d_y), activation, sigma=sigma, strength=start.strength, spread=start.spread,
        copies=readings.copies, seed=seed,
    )  # fmt: skip
    cells = [(eta, batch_size, lam) for lam in lams for eta, batch_size in arms]
    rows = []
    for eta, batch_size, lam in cells:
        run = Experiment(net, eta=eta, lam=lam, batch_size=batch_size, weights=weights, seed=seed, device=device)
        every = max(1, round(span * batch_size / eta**2 / readings.logs / readings.moments))
        rows.append([_look(run, readings)])
        for _ in range(readings.logs):
            seen = []
            for _ in range(readings.moments):
                run.advance(every)
                seen.append(_look(run, readings))
            run.raise_if_diverged()
            rows[-1].append(np.mean(seen, 0))
    found = zip(neurons.MOMENTS, np.moveaxis(np.array(rows), 2, 0), strict=True)
    coords = {name: ("arm", [cell[k] for cell in cells]) for k, name in enumerate(("eta", "batch_size", "lam"))}
    return xr.Dataset(
        {name: (("arm", "time", "copy", "neuron"), values) for name, values in found},
        coords=coords | {"time": np.linspace(0, span, readings.logs + 1)},
    )


def _look(run: Experiment, readings: Readings) -> list[np.ndarray]:
    return list(neurons.moments(run.system, run.state.weights, neurons.probe(run, readings.batches)).values())


def off_balance(
    sizes, activation: str, *, sigma: float = 1.0, strength: float = 2.0, spread: float = 0.7, tilt: float = 1.0,
    copies: int = 1, seed: int = 0,
):  # fmt: skip
    """The student of a random teacher, and weights [copies, P] that compute the same (if ReLU), each neuron rescaled.

    |w| is multiplied by tilt e^s and |u| divided by it, s = ±spread, with a random sign for each neuron.
    """
    d_x, width, d_y = sizes
    master = teacher_student.teacher(d_x, width, d_y, activation, strength=strength, seed=seed)

    def answer(x):
        return master(torch.tensor(x).float()).detach().double().numpy()

    net = teacher_student.student(sizes, answer, activation, [sigma] * d_y, seed=seed)
    weights = torch.cat([p.detach().flatten() for p in master.parameters()]).repeat(copies, 1)
    by = tilt * np.exp(np.random.default_rng([seed, 7]).choice([-spread, spread], (copies, width)))
    by = torch.tensor(by, dtype=torch.float32)
    for name, view in net.replicas.views(weights).items():
        if view.shape[1] == width and name.startswith("0"):
            view.div_(by[..., None] if view.dim() == 3 else by)
        else:
            view.mul_(by[:, None])
    return net, weights


def log_ratio(data: xr.Dataset) -> xr.DataArray:
    """log E|g_w|²/E|g_u|² of each neuron, the moments averaged first over what was averaged in `data`."""
    return np.log(data["g2_out"] / data["g2_in"])


def predicted(data: xr.Dataset) -> xr.Dataset:
    """What `relu` should find in a stationary state with the |u|² and |w|² that it has found.

    gap: E|g_u|² - E|g_w|², 2λ/η (|u|² - |w|²); log_ratio: log E|g_w|²/E|g_u|², NaN where no such state exists.
    """
    gap = xr.DataArray(theory.decay_shift(data["eta"].values, data["lam"].values), dims="arm") * (data["in2"] - data["out2"])
    rest = 1 - gap / data["g2_in"]
    return xr.Dataset({"gap": gap, "log_ratio": np.log(rest.where(rest > 0))})


def late(data: xr.Dataset) -> xr.Dataset:
    """Means over the second half of a run."""
    return data.isel(time=slice((data.sizes["time"] + 1) // 2, None)).mean("time")


def spread_of_ratios(data: xr.Dataset) -> np.ndarray:
    """Root mean square log E|g_w|²/E|g_u|² [seed] late in a run, over neurons, copies and arms."""
    ratio = log_ratio(late(data))
    return np.sqrt((ratio**2).mean(("arm", "copy", "neuron"))).values


SETTINGS = ("arms", "lams", "sigma", "span", "d_x", "width", "d_y", "strength", "spread")


@decides("balance.relu", reads=SETTINGS)
def neurons_balance(relu: xr.Dataset, tanh: xr.Dataset) -> Decision:
    """Spread of the log ratios of ReLU neurons; control: of tanh neurons."""
    measured, control = few_seeds(spread_of_ratios(relu)), few_seeds(spread_of_ratios(tanh))
    return with_control(measured, control, BALANCE, "the same network with tanh")


def remaining(data: xr.Dataset) -> xr.DataArray:
    """What remains of the imbalance at the start, (seed, arm, time): the slope of the log ratios against their first values."""
    ratio = log_ratio(data)
    first = ratio.isel(time=0)
    over = ("copy", "neuron")
    return ((ratio * first).sum(over) / (first**2).sum(over)).transpose("seed", "arm", "time")


def apart(data: xr.Dataset, *, in_steps: bool = False) -> np.ndarray:
    """How far each arm's curve lies from the mean of all, [seed, arm, time], over η²t/B or, with in_steps, over ηt."""
    curves = remaining(data).values
    if in_steps:
        ends = (data["time"] * data["batch_size"] / data["eta"]).transpose("arm", "time").values  # ηt
        grid = np.linspace(0, ends.max(1).min(), data.sizes["time"])
        curves = np.stack([[np.interp(grid, t, c) for t, c in zip(ends, rows, strict=True)] for rows in curves])
    return curves - curves.mean(1, keepdims=True)


@decides("balance.time", reads=SETTINGS)
def one_clock(relu: xr.Dataset) -> Decision:
    """Largest distance of a curve from the mean of all over η²t/B; control: over ηt."""
    measured, control = extreme(apart(relu)), extreme(apart(relu, in_steps=True))
    return with_control(measured, control, CLOCK, "the curves over ηt")


def shift(data: xr.Dataset, unit: np.ndarray) -> np.ndarray:
    """⟨|g_u|² - |g_w|²⟩ over unit · ⟨|u|² - |w|²⟩ [seed], late in a run: one slope through 0 for all neurons and arms."""
    data = late(data)
    y, x = data["g2_in"] - data["g2_out"], (data["in2"] - data["out2"]) * xr.DataArray(unit, dims="arm")
    over = ("arm", "copy", "neuron")
    return ((x * y).sum(over) / (x * x).sum(over)).values


@decides("balance.weight-decay", reads=SETTINGS)
def decay_shifts(decayed: xr.Dataset) -> Decision:
    """Shift of the balance by weight decay over its closed form; control: without weight decay, in those of the smallest λ."""
    some, none = (decayed.isel(arm=np.flatnonzero((decayed["lam"].values > 0) == decays)) for decays in (True, False))
    unit = theory.decay_shift(some["eta"].values, some["lam"].values)
    measured, control = few_seeds(shift(some, unit)), few_seeds(shift(none, np.full(none.sizes["arm"], unit.min())))
    return with_control(measured, control, DECAY, "λ = 0", 1.0)
