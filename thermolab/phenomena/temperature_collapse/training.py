"""Networks along training, narrow and wide: where the temperature collapses, how it decays, and where gradients go to 0 together.

Tolerances of the claims stand here once and do not move with the data. A collapse is a fall by three decades, a decay one by a
decade. An exponent of 1 is asked for to within 0.05 (the paper's "≈ 1"). Source: arXiv:2505.23489.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import numpy as np
import xarray as xr

from thermolab.claims import Check, Decision, Estimate, decides, few_seeds, with_control
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positives, integer
from thermolab.instruments.windows import accuracy, full_gradient_squared, graph_entropy
from thermolab.phenomena.temperature_collapse import curves, falling
from thermolab.phenomena.temperature_collapse.curves import jackknife
from thermolab.phenomena.temperature_collapse.networks import Wide, derived

RATES = tuple(np.geomspace(1e-3, 0.1, 11).round(6))
EXPONENT = 0.05
COLLAPSE, DECAY = 3.0, 1.0  # decades
FLOOR = -6.0  # decades of U that count as zero


@recipe("training at width {width}")
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
    differences only), gradient_squared |∇L|² over the whole data set, trace Tr Σ = E|g|² − |∇L|², g2 = E|g|², snr, T_gas.
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
                full.append(full_gradient_squared(run))
                right.append(accuracy(run))
        row = {"U": np.mean(energy, 0), "g2": np.mean(g2, 0), "gradient_squared": np.mean(full, 0)}
        row |= {"accuracy": np.mean(right, 0), "S": np.array([graph_entropy(path[:, i]).value for i in range(len(rates))])}
        row["trace"] = np.maximum(row["g2"] - row["gradient_squared"], 0)
        rows.append(derived(row, np.asarray(rates), network.width))
    values = {name: (("eta", "time"), np.stack([row[name] for row in rows], 1)) for name in rows[0]}
    times = np.arange(1, logs + 1) * every * samples
    return xr.Dataset(values, {"eta": list(rates), "time": times}, network.attrs())


def by_width(widths=(8, 12, 16, 24, 32), rates=(4e-3, 1.6e-2), **settings) -> dict[int, partial]:
    """`training` at each width, not yet called."""
    return {h: partial(training, rates=rates, width=h, **settings) for h in widths}


def over_width(widths: Mapping[int, xr.Dataset], name: str) -> xr.DataArray:
    """One variable at the end of training at each width, [width, eta, seed]."""
    return xr.concat([d[name].isel(time=-1, drop=True) for d in widths.values()], dim="width").assign_coords(width=[*widths])


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


@decides("collapse.op.loss-zero", reads=["norm", "n_data", "logs", "samples"])
def loss_zero(op_run: xr.Dataset, toy_two: xr.Dataset) -> Decision:
    """Decades of the least U."""
    least = jackknife(lambda mean: float(np.log10(mean["U"].min())), op_run)
    return with_control(least, falling.depth(toy_two), 0.0, "the toy of two points", FLOOR, "below")


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
    """Decades of T at the end of training between the narrowest and the widest network, at the lowest η."""
    narrow, wide = widths[min(widths)], widths[max(widths)]

    def decades(index: int):
        return lambda a, b: float(np.log10(a["T_gas"].values[index, -1] / b["T_gas"].values[index, -1]))

    slow, fast = (jackknife(decades(index), narrow, wide) for index in (0, -1))
    return with_control(slow, fast, 0.0, "the larger η", COLLAPSE, "above")


@decides("collapse.width.exponent", reads=READS)
def width_exponent(widths: Mapping[int, xr.Dataset]) -> Decision:
    """The exponent of the widest network at the lowest η; the control asks whether it rises with width at all."""
    narrow, wide = widths[min(widths)], widths[max(widths)]
    low, high = (np.array([_power(d.isel(eta=0, seed=i)) for i in range(d.sizes["seed"])]) for d in (narrow, wide))
    of_wide, rise = few_seeds(high), few_seeds(high - low)
    rises = Check(rise.value, 0.0, 0.0, rise.error, "above")
    return Decision(Check(of_wide.value, 1.0, EXPONENT, of_wide.error), "it increases with width", rises, of_wide.n)
