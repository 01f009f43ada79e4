"""Stationary states of networks over the learning rate: energy, entropy and temperature, under SGD, momentum and Adam.

Tolerances of the claims stand here once and do not move with the data. A monotone or convex curve has none: the smallest step
must be positive, no bound may cross; a tenth of the states may miss. An exponent that belongs to a quantity that vanishes must
be 0.1 at least (it then halves in three decades at the slowest). Energies that agree to leading order in η: 15 %; thermometers
within a factor of two. Source: arXiv:2505.23489.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np
import xarray as xr

from thermolab.claims import Decision, decides, with_control
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positives, integer, number
from thermolab.instruments.windows import FRAME, accuracy, probe, slow_windows
from thermolab.phenomena.temperature_collapse import curves
from thermolab.phenomena.temperature_collapse.curves import jackknife
from thermolab.phenomena.temperature_collapse.networks import Narrow, derived

RATES = tuple(np.geomspace(2e-3, 0.05, 6).round(6))  # U stays below log 10, that of a uniform guess
BATCH_RATES = (1.25e-3, 5e-3, 0.02, 0.08)  # at B = 32
VANISHING, SHARE, ENERGY = 0.1, 0.1, 0.15
DOUBLE = 1.0  # powers of two
SMALL, LARGE = slice(0, 1), slice(2, 4)  # of the rates of `by_batch`


@dataclass(frozen=True)
class Window:
    """When a network is measured. burn_in, window: steps; samples: weights per entropy window, a quarter of a correlation
    time 1/η apart; moments: of the window at which 16 fresh minibatches probe the gradient."""

    burn_in: Count = 12_000
    window: Annotated[int, integer(2 * FRAME)] = 12_000
    samples: Annotated[int, integer(4)] = 96
    moments: Count = 100


@recipe("networks of width {width}")
def stationary(
    rates: Positives = RATES,
    *,
    network: Narrow,
    window: Window,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The network at a range of learning rates after `burn_in` steps, over a window of `window` steps.

    rates: η on the unit sphere; the other settings are those of `Narrow` and `Window`.

    Returns a Dataset, dims (eta, seed): U and g2 = E|g|² over the window, accuracy on the training data at its moments,
    trace Tr Σ, gradient_squared |∇L|² and snr = |∇L|/√Tr Σ at |w| = 1, T_gas = η Tr Σ/(2(D − 1)), S: graph entropy
    (differences only; NaN where the window is too short for its stride), tau: autocorrelation time of the weights in
    samples, drift: log of U in the second half of the window over U in the first.
    Raises ValueError for settings that are out of range. Source: arXiv:2505.23489.
    """
    found = _measured(np.asarray(rates), network, window, seed, device)
    return xr.Dataset({name: ("eta", v) for name, v in found.items()}, {"eta": list(rates)}, network.attrs())


@recipe("networks of width {width}", dims=("eta", "seed"))
def optimised(
    rates: Positives = RATES,
    *,
    optimiser: Literal["momentum", "adam"] = "momentum",
    momentum: Annotated[float, number(0, 0.999)] = 0.9,
    network: Narrow,
    window: Window,
    seeds,
    device: str = "cpu",
) -> xr.Dataset:
    """`stationary` under another optimiser than SGD; momentum: μ, which Adam does without.

    Its step is as quick for all seeds as for one, so they are one batch of replicas. Returns what `stationary` does.
    """
    knobs = {"momentum": momentum} if optimiser == "momentum" else {}
    shape, each = (len(rates), len(seeds)), np.repeat(rates, len(seeds))
    found = _measured(each, network, window, seeds[0], device, optimiser=optimiser, **knobs)
    values = {name: (("eta", "seed"), v.reshape(shape)) for name, v in found.items()}
    return xr.Dataset(values, {"eta": list(rates), "seed": seeds}, network.attrs())


def _measured(rates, network: Narrow, window: Window, seed: int, device: str, **optimiser) -> dict[str, np.ndarray]:
    """Values [R] of replicas at these rates."""
    run, frames, probes = network.begin(rates, seed=seed, device=device, **optimiser), window.window // FRAME, []

    def look(k):
        if k % max(1, frames // window.moments) == 0:
            probes.append(probe(run, network.batch_size, 16, at="unit") | {"accuracy": accuracy(run, at="unit")})

    found = slow_windows(run, rates, window.burn_in, window.window, window.samples, look)
    energy = np.stack([f.observables["U"] for f in run.history[1:]])
    found |= {"U": energy.mean(0), "g2": np.mean([f.observables["g2"] for f in run.history[1:]], 0)}
    found["drift"] = np.log(energy[frames // 2 :].mean(0) / energy[: frames // 2].mean(0))
    return found | derived({name: np.mean([p[name] for p in probes], 0) for name in probes[0]}, rates, network.width)


def by_batch(sizes=(8, 32, 128), rates=BATCH_RATES, *, steps: int = 8000, **settings) -> dict[int, partial]:
    """`stationary` at equal η/B for each batch size, not yet called; rates and steps are those of B = 32.

    Smaller batches take smaller steps, and as many more of them: burn-in and window last equally long in η · steps.
    """
    lasting = {b: {"burn_in": steps * 32 // b, "window": steps * 32 // b} for b in sizes}
    return {
        b: partial(stationary, rates=tuple(np.asarray(rates) * b / 32), batch_size=b, **lasting[b], **settings) for b in sizes
    }


def by_optimiser(
    rates=(2e-3, 4e-3), adam=(2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2), *, momentum: float = 0.9, **settings
) -> dict[str, partial]:
    """`stationary` with plain SGD, momentum and Adam, not yet called.

    Momentum runs at (1 − μ) times the rates of plain SGD, and at the first of these as it is. Both take three times as many
    seeds as Adam: at low rates the basins in which single runs end differ by more than momentum from plain SGD.
    """
    many = settings | {"n_seeds": 3 * settings.get("n_seeds", 5)}
    heavy = tuple((1 - momentum) * np.asarray(rates)) + tuple(rates[:1])
    return {
        "plain": partial(stationary, rates=rates, **many),
        "momentum": partial(optimised, rates=heavy, optimiser="momentum", momentum=momentum, **many),
        "adam": partial(optimised, rates=adam, optimiser="adam", **settings),
    }


# --- claims: the curves of states over the learning rate --------------------------------------------------------------
READS = ("rates", "width", "norm", "n_data", "burn_in", "window", "samples", "moments")


@decides("collapse.up.monotone", reads=READS, states="up")
@decides("collapse.adam", reads=READS, states="adam")
def monotone(states: xr.Dataset) -> Decision:
    """The smallest step of log T from one learning rate to the next."""
    states = curves.stationary_only(states)
    shuffled = jackknife(lambda mean: curves.rise(mean, shuffled=True), states)
    return with_control(jackknife(curves.rise, states), shuffled, 0.0, "η permuted", 0.0, "above")


@decides("collapse.up.minimum", reads=READS)
def minimum(up: xr.Dataset) -> Decision:
    """Share of the states whose own F is least at their temperature."""
    up = curves.stationary_only(up)
    other = jackknife(lambda mean: curves.own_minima(mean, 1), up)
    return with_control(jackknife(curves.own_minima, up), other, SHARE, "temperature of the next η", 1.0)


@decides("collapse.up.convex", reads=READS)
def convex(up: xr.Dataset) -> Decision:
    """Share of the states whose bounds on T do not cross."""
    up = curves.stationary_only(up)
    order = np.random.default_rng(0).permutation(up.sizes["eta"])  # of all seeds alike
    permuted = up.assign(U=(up["U"].dims, up["U"].values[order]))
    return with_control(jackknife(curves.compatible, up), jackknife(curves.compatible, permuted), SHARE, "U permuted over η", 1.0)


@decides("collapse.two-temperatures", reads=READS)
def two_temperatures(up: xr.Dataset) -> Decision:
    """Largest distance of dU/dS from the gas temperature, in powers of two."""
    up = curves.stationary_only(up)

    def off(name: str):
        return jackknife(lambda m: float(np.abs(np.log2(curves.temperature(m) / m[name].values))[1:-1].max(initial=0.0)), up)

    return with_control(off("T_gas"), off("eta"), DOUBLE, "η alone in place of the gas temperature", 0.0)


# --- claims: the signal-to-noise ratio --------------------------------------------------------------------------------
def _snr_exponent(mean: xr.Dataset) -> float:
    low = mean.sel(eta=mean["eta"] < 8 * mean["eta"].min())
    return curves.exponent(low["eta"], low["snr"])


@decides("collapse.up.snr.batchnorm", reads=[name for name in READS if name != "norm"])
def snr_batchnorm(up: xr.Dataset, layer: xr.Dataset) -> Decision:
    """Exponent of the SNR in η at the low rates."""
    return with_control(jackknife(_snr_exponent, up), jackknife(_snr_exponent, layer), 0.0, "LayerNorm", VANISHING, "above")


@decides("collapse.up.snr.layernorm", reads=[name for name in READS if name != "norm"])
def snr_layernorm(layer: xr.Dataset, up: xr.Dataset) -> Decision:
    """Exponent of the SNR in η at the low rates."""
    return with_control(jackknife(_snr_exponent, layer), jackknife(_snr_exponent, up), 0.0, "BatchNorm", VANISHING, "above")


# --- claims: batch size and momentum ----------------------------------------------------------------------------------
def _energy_ratio(which: slice):
    return lambda a, b: float(np.abs(a["U"].values[which] / b["U"].values[which] - 1).max())


@decides("collapse.batch.small", reads=["width", "norm", "n_data", "samples", "moments"])
def batch_small(batches: Mapping[int, xr.Dataset]) -> Decision:
    """Largest relative difference of U between B = 8 and B = 32 at equal η/B, of the two lowest."""
    few, usual = batches[8], batches[32]

    def equal_eta(a: xr.Dataset, b: xr.Dataset) -> float:  # the rates are a factor of four apart, as the batches are
        return float(np.abs(a["U"].values[1:] / b["U"].values[:-1] - 1).max())

    same, control = jackknife(_energy_ratio(slice(0, 2)), few, usual), jackknife(equal_eta, few, usual)
    return with_control(same, control, ENERGY, "runs at equal η", 0.0)


@decides("collapse.batch.large", reads=["width", "norm", "n_data", "samples", "moments"])
def batch_large(batches: Mapping[int, xr.Dataset]) -> Decision:
    """Largest relative difference of U between B = 128 and B = 32 at equal η/B, of the two highest."""
    large, small = (jackknife(_energy_ratio(which), batches[128], batches[32]) for which in (LARGE, SMALL))
    return with_control(large, small, ENERGY, "small η", 0.0)


@decides("collapse.momentum", reads=["width", "norm", "n_data", "burn_in", "window"], heavy="momentum")
def momentum(plain: xr.Dataset, heavy: xr.Dataset) -> Decision:
    """Largest relative difference of U between momentum μ at (1 − μ)η and plain SGD at η, over rates; control: at one η."""

    def scaled(a: xr.Dataset, b: xr.Dataset) -> float:
        return float(np.abs(b["U"].values[:-1] / a["U"].values - 1).max())

    def unscaled(a: xr.Dataset, b: xr.Dataset) -> float:
        return float(abs(b["U"].values[-1] / a["U"].values[0] - 1))

    return with_control(jackknife(scaled, plain, heavy), jackknife(unscaled, plain, heavy), ENERGY, "plain SGD at equal η", 0.0)
