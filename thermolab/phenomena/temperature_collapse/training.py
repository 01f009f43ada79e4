"""Networks along training, narrow and wide: where the temperature collapses, how it decays, and where gradients go to 0 together.

Tolerances of the claims stand here once and do not move with the data. A collapse is a fall by three decades, a decay one by a
decade. An exponent of 1 is asked for to within 0.05 (the paper's "≈ 1"). A loss that tends to its least falls by a decade within
two decades of steps at least. An accuracy is 1 where less than one image is missed on average; two widths are the same if they
are less than half an octave apart, about the distance of neighbouring ones. Source: arXiv:2505.23489.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated

import numpy as np
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, few_seeds, with_control
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positives, integer
from thermolab.instruments.windows import accuracy, full_gradient_squared, graph_entropy
from thermolab.phenomena.temperature_collapse import curves, falling
from thermolab.phenomena.temperature_collapse.curves import jackknife
from thermolab.phenomena.temperature_collapse.networks import Wide, derived, least_loss

RATES = tuple(np.geomspace(1e-3, 0.1, 11).round(6))
EXPONENT = 0.05
COLLAPSE, DECAY = 3.0, 1.0  # decades
FALLING = -0.5  # exponent in time of what vanishes
OCTAVE = 0.5
KNOWN = 3  # logs at the end over which the accuracy is averaged, and of whose temperatures the one in the middle counts


@recipe("training at width {width}", shared=["U_min"])
def training(
    rates: Positives = RATES,
    *,
    network: Wide,
    steps: Count = 8000,
    logs: Count = 20,
    samples: Annotated[int, integer(4)] = 100,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The network from its random start, `logs` intervals of equal length.

    rates: η on the unit sphere; samples: weights per interval, from which its entropy comes; their stride is the same for all
    rates, so S compares along a run and not across rates; the other settings are those of `networks.Wide`.

    Returns a Dataset, dims (eta, time, seed), time in steps at the ends of the intervals: U and accuracy, S (graph entropy,
    differences only), gradient_squared |∇L|² over the whole data set, trace Tr Σ = E|g|² − |∇L|², g2 = E|g|², snr, T_gas;
    U_min (scalar): the least loss that the frozen head allows (`networks.least_loss`).
    Raises ValueError for settings that are out of range. Source: arXiv:2505.23489.
    """
    run = network.begin(rates, seed=seed, device=device)
    every = max(1, steps // logs // samples)  # so that a short run is longer than asked for
    path, rows = np.empty((samples, *run.state.weights.shape), np.float32), []
    for _ in range(logs):
        energy, g2, full, right = [], [], [], []
        for k, frame in zip(range(samples), run.frames(every), strict=False):
            path[k] = run.state.weights.cpu().numpy()
            energy.append(frame.observables["U"])
            g2.append(frame.observables["g2"])
            if k % max(1, samples // 10) == 0:
                full.append(full_gradient_squared(run, at="unit"))
                right.append(accuracy(run, at="unit"))
        row = {"U": np.mean(energy, 0), "g2": np.mean(g2, 0), "gradient_squared": np.mean(full, 0)}
        row |= {"accuracy": np.mean(right, 0), "S": np.array([graph_entropy(path[:, i]).value for i in range(len(rates))])}
        row["trace"] = np.maximum(row["g2"] - row["gradient_squared"], 0)
        rows.append(derived(row, np.asarray(rates), network.width))
    values = {name: (("eta", "time"), np.stack([row[name] for row in rows], 1)) for name in rows[0]}
    times = np.arange(1, logs + 1) * every * samples
    data = xr.Dataset(values, {"eta": list(rates), "time": times}, network.attrs())
    return data.assign(U_min=least_loss(network))


def by_width(widths=(8, 12, 16, 24, 32), rates=(4e-3, 1.6e-2), **settings) -> dict[int, partial]:
    """`training` at each width, not yet called."""
    return {h: partial(training, rates=rates, width=h, **settings) for h in widths}


def over_width(widths: Mapping[int, xr.Dataset], name: str) -> xr.DataArray:
    """The median of a variable over the last `KNOWN` logs at each width, [width, eta, seed]: without a burst in one of them.

    Now and then a network leaves its minimum for some steps, in which T is a thousand times as large, and comes back.
    """
    late = [d[name].isel(time=slice(-KNOWN, None)).median("time") for d in widths.values()]
    return xr.concat(late, dim="width").assign_coords(width=[*widths])


# --- claims -----------------------------------------------------------------------------------------------------------
READS = ("rates", "norm", "n_data", "steps", "logs", "samples")


@decides("collapse.op.collapse", reads=READS)
def collapse(op_run: xr.Dataset, up_run: xr.Dataset) -> Decision:
    """Decades of T at the end of training between η = 10⁻³ and 10⁻²."""

    def decades(mean: xr.Dataset) -> float:
        end = mean["T_gas"].isel(time=-1)
        return float(np.log10(end.sel(eta=1e-2, method="nearest") / end.sel(eta=1e-3, method="nearest")))

    wide, narrow = jackknife(decades, op_run), jackknife(decades, up_run)
    return with_control(wide, narrow, 0.0, "the underparameterised network", COLLAPSE, "above")


@decides("collapse.op.decay", reads=READS)
def decay(op_run: xr.Dataset, up_run: xr.Dataset) -> Decision:
    """Decades by which dU/dS falls in the course of training at η = 10⁻³."""

    def decades(runs: xr.Dataset) -> Estimate:
        low = runs.sel(eta=1e-3, method="nearest")
        return few_seeds([curves.fall(low.isel(seed=i)) for i in range(low.sizes["seed"])])

    return with_control(decades(op_run), decades(up_run), 0.0, "the underparameterised network", DECAY, "above")


@decides("collapse.op.loss-zero", reads=READS)
def loss_zero(op_run: xr.Dataset) -> Decision:
    """Exponent in time of U − U_min over the last three quarters of training at the lowest η, and at the highest."""
    late = op_run.isel(time=slice(op_run.sizes["time"] // 4, None))

    def falls(index: int) -> Estimate:
        excess = (late["U"] - late["U_min"]).isel(eta=index).transpose("seed", "time").values
        return few_seeds([curves.exponent(late["time"], e) for e in excess])

    return with_control(falls(0), falls(-1), 0.0, "the highest η", FALLING, "below")


def _power(mean: xr.Dataset) -> float:
    """Exponent of √E|g|² over |∇L| along training, from the second log on."""
    after = mean.isel(time=slice(1, None))
    return curves.exponent(np.sqrt(after["gradient_squared"]), np.sqrt(after["g2"]))


@decides("collapse.op.power-law", reads=["norm", "n_data", "logs", "samples"])
def power_law(op_run: xr.Dataset, toy_two: xr.Dataset) -> Decision:
    """Exponent of √E|g|² over |∇L|, a mean over the rates at which the network has collapsed."""
    rates = curves.collapsed(op_run)["eta"].values
    power = jackknife(lambda mean: float(np.mean([_power(mean.sel(eta=e)) for e in rates])), op_run)
    return with_control(power, falling.power(toy_two), EXPONENT, "the toy of two points", 1.0)


@decides("collapse.width", reads=READS)
def width(widths: Mapping[int, xr.Dataset]) -> Decision:
    """Octaves, at the lowest η, between the width at which log T is halfway down and that from which on all images are known.

    Control: the distance to the width at which half of what the narrowest net does not know is known.
    """
    steps, slow = np.log2(sorted(widths)), {h: widths[h].isel(eta=0) for h in sorted(widths)}
    cold = -np.log10(over_width(slow, "T_gas").transpose("seed", "width").values)
    known = xr.concat([d["accuracy"] for d in slow.values()], "width").isel(time=slice(-KNOWN, None)).mean("time")
    known = known.transpose("seed", "width").values
    all_of_them = 1 - 1 / widths[min(widths)].attrs["n_data"]

    def apart(goals) -> Estimate:
        halfway = [_crossing(steps, t, (t[0] + t[-1]) / 2) for t in cold]
        return few_seeds([t - _crossing(steps, a, goal) for t, a, goal in zip(halfway, known, goals, strict=True)])

    right, wrong = apart(np.full(len(known), all_of_them)), apart((1 + known[:, 0]) / 2)
    return with_control(right, wrong, OCTAVE, "where half of the rest is known")


def _crossing(x: np.ndarray, y: np.ndarray, goal: float) -> float:
    """Where the straight lines through y(x) first pass the goal from below; NaN where they never do."""
    if y[0] >= goal or not (y >= goal).any():
        return math.nan
    i = int(np.argmax(y >= goal))
    return float(x[i - 1] + (goal - y[i - 1]) / (y[i] - y[i - 1]) * (x[i] - x[i - 1]))


@decides("collapse.width.fall", reads=READS)
def width_fall(widths: Mapping[int, xr.Dataset]) -> Decision:
    """Decades of T late in training between the narrowest and the widest network, at the lowest η."""
    cold = over_width(widths, "T_gas").transpose("eta", "width", "seed")
    decades = np.log10(cold.sel(width=min(widths)) / cold.sel(width=max(widths))).values
    return with_control(few_seeds(decades[0]), few_seeds(decades[-1]), 0.0, "the larger η", COLLAPSE, "above")


@decides("collapse.width.exponent", reads=READS)
def width_exponent(widths: Mapping[int, xr.Dataset], toy_two: xr.Dataset) -> Decision:
    """Exponent of √E|g|² over |∇L| of the widest network at the lowest η."""
    wide = widths[max(widths)].isel(eta=0)
    power = few_seeds([_power(wide.isel(seed=i)) for i in range(wide.sizes["seed"])])
    return with_control(power, falling.power(toy_two), EXPONENT, "the toy of two points", 1.0)
