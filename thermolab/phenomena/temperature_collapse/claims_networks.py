"""The claims about networks on digits: stationary states, the collapse, batch size, momentum, Adam, width.

Tolerances stand here once and do not move with the data. A monotone or convex curve has none: the smallest step must be
positive, no bound may cross. An exponent of 1 is asked for to within 0.05 (the paper's "≈ 1"); one that belongs to a quantity
that vanishes must be 0.1 at least (it then halves in three decades at the slowest). A collapse is a fall by three decades, a
decay one by a decade. Energies that agree to leading order in η: 15 %.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Check, Pair, few_seeds, with_control
from thermolab.phenomena.temperature_collapse import curves
from thermolab.phenomena.temperature_collapse.curves import jackknife

EXPONENT, VANISHING, SHARE, ENERGY = 0.05, 0.1, 0.1, 0.15
COLLAPSE, DECAY, DOUBLE = 3.0, 1.0, 1.0  # decades, decades, powers of two
MORE = 1.0  # decades by which T of a wide ConvNet falls further than that of a narrow one, which falls as η does
FLOOR = -6.0  # decades of U that count as zero
SMALL, LARGE = slice(0, 1), slice(2, 4)  # of the rates of `networks.by_batch`
LAST = slice(-5, None)  # logs of a training run


def _shuffled(data: xr.Dataset, *names: str) -> xr.Dataset:
    """The named variables permuted over η, those of all seeds alike."""
    order = np.random.default_rng(0).permutation(data.sizes["eta"])
    return data.assign({k: (data[k].dims, data[k].values[order]) for k in names})


# --- stationary states of the underparameterised network ----------------------------------------------------------
def monotone(up: xr.Dataset) -> Pair:
    up = curves.stationary_only(up)
    shuffled = jackknife(lambda mean: curves.rise(mean, shuffled=True), up)
    return with_control(jackknife(curves.rise, up), shuffled, 0.0, "η permuted", 0.0, "above")


def minimum(up: xr.Dataset) -> Pair:
    up = curves.stationary_only(up)
    other = jackknife(lambda mean: curves.own_minima(mean, 1), up)
    return with_control(jackknife(curves.own_minima, up), other, SHARE, "temperature of the next η", 1.0)


def convex(up: xr.Dataset) -> Pair:
    up = curves.stationary_only(up)
    shuffled = jackknife(curves.compatible, _shuffled(up, "U"))
    return with_control(jackknife(curves.compatible, up), shuffled, SHARE, "U permuted over η", 1.0)


def two_temperatures(up: xr.Dataset) -> Pair:
    up = curves.stationary_only(up)

    def off(gas):
        return lambda mean: float(np.abs(np.log2(curves.temperature(mean) / gas(mean)))[1:-1].max(initial=0.0))

    gas, eta = jackknife(off(lambda mean: mean["T_gas"].values), up), jackknife(off(lambda mean: mean["eta"].values), up)
    return with_control(gas, eta, DOUBLE, "η alone in place of the gas temperature", 0.0)


def _snr_exponent(mean: xr.Dataset) -> float:
    low = mean.sel(eta=mean["eta"] < 8 * mean["eta"].min())
    return curves.exponent(low["eta"], low["snr"])


def snr_batchnorm(up: xr.Dataset, op: xr.Dataset) -> Pair:
    right, wrong = jackknife(_snr_exponent, up), jackknife(_snr_exponent, _collapsed(op))
    return with_control(right, wrong, 0.0, "the overparameterised network", VANISHING, "above")


def snr_layernorm(layer: xr.Dataset, up: xr.Dataset) -> Pair:
    return with_control(jackknife(_snr_exponent, layer), jackknife(_snr_exponent, up), 0.0, "BatchNorm", VANISHING, "above")


def _collapsed(op: xr.Dataset) -> xr.Dataset:
    """The end of training, at the rates where every seed knows all labels."""
    end = op.isel(time=LAST).median("time")
    return end.sel(eta=(end["accuracy"] > 0.99).all("seed"))


# --- the overparameterised network in training --------------------------------------------------------------------
def collapse(op: xr.Dataset, up: xr.Dataset) -> Pair:
    def decades(mean: xr.Dataset) -> float:
        end = mean["T_gas"].isel(time=-1)
        return float(np.log10(end.sel(eta=1e-2, method="nearest") / end.sel(eta=1e-3, method="nearest")))

    return with_control(jackknife(decades, op), jackknife(decades, up), 0.0, "the underparameterised network", COLLAPSE, "above")


def decay(op: xr.Dataset, up: xr.Dataset) -> Pair:
    def decades(runs: xr.Dataset) -> tuple[float, float]:
        low = runs.sel(eta=1e-3, method="nearest")
        return few_seeds([curves.fall(low.isel(seed=i)) for i in range(low.sizes["seed"])])

    return with_control(decades(op), decades(up), 0.0, "the underparameterised network", DECAY, "above")


def loss_zero(op: xr.Dataset, toy: tuple[float, float]) -> Pair:
    """toy: decades of U at the end of the toy's run, and their standard error."""
    least = jackknife(lambda mean: float(np.log10(mean["U"].min())), op)
    return with_control(least, toy, 0.0, "the toy of two points", FLOOR, "below")


def _power(mean: xr.Dataset) -> float:
    """Exponent of √E|g|² over |∇L| along training, from the second log on."""
    after = mean.isel(time=slice(1, None))
    return curves.exponent(np.sqrt(after["gradient_squared"]), np.sqrt(after["g2"]))


def _mean_power(op: xr.Dataset) -> tuple[float, float]:
    rates = _collapsed(op)["eta"]
    return jackknife(lambda mean: float(np.mean([_power(mean.sel(eta=e)) for e in rates.values])), op)


def power_law(op: xr.Dataset, toy: tuple[float, float]) -> Pair:
    """toy: the toy's exponent and its standard error."""
    return with_control(_mean_power(op), toy, EXPONENT, "the toy of two points", 1.0)


# --- batch size and other optimisers ------------------------------------------------------------------------------
def _energy_ratio(which: slice):
    return lambda a, b: float(np.abs(a["U"].values[which] / b["U"].values[which] - 1).max())


def batch_small(batches: Mapping[int, xr.Dataset]) -> Pair:
    few, usual = batches[8], batches[32]

    def equal_eta(a: xr.Dataset, b: xr.Dataset) -> float:  # the rates are a factor of four apart, as the batches are
        return float(np.abs(a["U"].values[1:] / b["U"].values[:-1] - 1).max())

    same, control = jackknife(_energy_ratio(slice(0, 2)), few, usual), jackknife(equal_eta, few, usual)
    return with_control(same, control, ENERGY, "runs at equal η", 0.0)


def batch_large(batches: Mapping[int, xr.Dataset]) -> Pair:
    large, small = (jackknife(_energy_ratio(which), batches[128], batches[32]) for which in (LARGE, SMALL))
    return with_control(large, small, ENERGY, "small η", 0.0)


def momentum(plain: xr.Dataset, heavy: xr.Dataset) -> Pair:
    """plain: SGD at three rates; heavy: momentum μ at (1 − μ) times these, and at the first of them."""

    def scaled(a: xr.Dataset, b: xr.Dataset) -> float:
        return float(np.abs(b["U"].values[:-1] / a["U"].values - 1).max())

    def unscaled(a: xr.Dataset, b: xr.Dataset) -> float:
        return float(abs(b["U"].values[-1] / a["U"].values[0] - 1))

    return with_control(jackknife(scaled, plain, heavy), jackknife(unscaled, plain, heavy), ENERGY, "plain SGD at equal η", 0.0)


def adam(adam: xr.Dataset) -> Pair:
    return monotone(adam)


# --- width --------------------------------------------------------------------------------------------------------
def width(widths: Mapping[int, xr.Dataset]) -> Pair:
    narrow, wide = widths[min(widths)], widths[max(widths)]

    def decades(index: int):
        return lambda a, b: float(np.log10(a["T_gas"].values[index, -1] / b["T_gas"].values[index, -1]))

    slow, fast = (jackknife(decades(index), narrow, wide) for index in (0, -1))
    return with_control(slow, fast, 0.0, "the larger η", COLLAPSE, "above")


def width_exponent(widths: Mapping[int, xr.Dataset]) -> Pair:
    narrow, wide = widths[min(widths)], widths[max(widths)]
    low, high = (np.array([_power(d.isel(eta=0, seed=i)) for i in range(d.sizes["seed"])]) for d in (narrow, wide))
    of_wide, rise = few_seeds(high), few_seeds(high - low)
    return Check(of_wide[0], 1.0, EXPONENT, of_wide[1]), "it increases with width", Check(rise[0], 0.0, 0.0, rise[1], "above")


def architectures(convnets: Mapping[str, xr.Dataset]) -> Pair:
    """By how many decades more T falls from the largest rate to the smallest; means of log T, for T has spikes."""

    def decades(data: xr.Dataset) -> np.ndarray:
        end = np.log10(data["T_gas"].isel(time=slice(-3, None))).mean("time").transpose("eta", "seed").values
        return end[-1] - end[0]

    right, wrong = (few_seeds(decades(convnets[arm]) - decades(convnets["narrow"])) for arm in ("wide", "redrawn"))
    return with_control(right, wrong, 0.0, "labels redrawn at every step", MORE, "above")
