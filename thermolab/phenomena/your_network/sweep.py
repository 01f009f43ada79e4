"""The same networks over a range of learning rates, and at twice the batch size: temperatures, entropies, signal and noise.

With T = dU/dS along the sweep, U(η) and S(η) of stationary states: that T rises with η says that U(S) is convex, and that
F = U − TS is least in the state whose temperature T is (notebook 02). Tolerances: none for a rise, which must be positive;
ENERGY: 15 % of U, as in 02; GAS: 10 % of the perfect gas; EDGE: a factor of two. The exponent of the signal-to-noise ratio
must lie nearer to ½ (UP) than to 0 (OP).
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from thermolab.claims import Decision, Estimate, NotApplicable, decides, few_seeds, with_control
from thermolab.phenomena.your_network import theory
from thermolab.phenomena.your_network.trained import READS, plain, point

ENERGY, GAS, EDGE = 0.15, 0.1, 1.0
FLAT = 1e-3  # of the edge: as far from it counts a curvature along the gradient that is negative


def slopes(y: xr.DataArray, x: xr.DataArray) -> np.ndarray:
    """The slope of a straight line through y(x) over the rates, for each seed [seed]."""
    x, y = (np.asarray(v.broadcast_like(y).transpose("eta", "seed"), float) for v in (x, y))
    x = x - x.mean(0)
    return (x * y).sum(0) / (x * x).sum(0)


def _low(data: xr.Dataset) -> xr.Dataset:
    return data.isel(eta=slice(None, data.sizes["eta"] // 2 + 1))


def _high(data: xr.Dataset) -> xr.Dataset:
    return data.isel(eta=slice(data.sizes["eta"] // 2, None))


@decides("general.temperature", reads=READS)
def rises(trained: xr.Dataset) -> Decision | NotApplicable:
    """dU/dS of the upper half of the rates less that of the lower, over the sum of their sizes, -1 where U falls over the lower;
    control: the U of the rates in another order."""
    if why := plain(trained):
        return NotApplicable(why)
    order = np.roll(np.arange(trained.sizes["eta"]), 2)
    shuffled = trained.assign(U=(trained["U"].dims, trained["U"].values[order]))
    return with_control(_convex(trained), _convex(shuffled), 0.0, "U of the rates in another order", relation="above")


def _convex(data: xr.Dataset) -> Estimate:
    """The difference of dU/dS over both halves of the rates over their mean; that of the upper half alone where one falls."""
    low, high = (slopes(half["U"], half["S"]) for half in (_low(data), _high(data)))
    return few_seeds(np.where(low > 0, (high - low) / np.maximum(np.abs(high) + np.abs(low), 1e-300), -1.0))


@decides("general.ratio", reads=READS)
def one_ratio(trained: xr.Dataset, double: xr.Dataset) -> Decision | NotApplicable:
    """Relative difference of U between (η, B) and (2η, 2B); control: between (η, B) and (η, 2B)."""
    if why := plain(trained, double):
        return NotApplicable(why)
    here, (same, faster) = point(trained)["U"].values, double["U"].transpose("eta", "seed").values
    right, wrong = (few_seeds(other / here - 1) for other in (faster, same))
    return with_control(right, wrong, ENERGY, "the same η at twice the batch size")


@decides("general.snr", reads=READS)
def under(trained: xr.Dataset) -> Decision | NotApplicable:
    """Exponent of |∇L + λw|/√Tr Σ in η; control: a perfect gas, for which it is ½."""
    if why := plain(trained):
        return NotApplicable(why)
    known = (trained[name].where(trained[name] > 0) for name in ("snr", "snr_gas"))  # an estimate of |∇L|² may be negative
    network, gas = (few_seeds(slopes(np.log(snr), np.log(trained["eta"]))) for snr in known)
    return with_control(network, gas, 0.0, "a perfect gas of as many weights", predicted=theory.UNDER / 2, relation="above")


@decides("general.gas", reads=READS)
def perfect(trained: xr.Dataset) -> Decision | NotApplicable:
    """dS/d log T over D/2, T = η Tr Σ/(2D); control: a perfect gas of as many weights at the same η, samples and spacing."""
    if why := plain(trained):
        return NotApplicable(why)
    dim = trained.attrs["dim"]
    t = np.log(theory.temperature(trained["eta"], trained["trace"], dim))
    network = few_seeds(slopes(trained["S"], t) / (theory.PERFECT_GAS * dim))
    gas = few_seeds(slopes(trained["S_gas"], np.log(trained["eta"])) / (theory.PERFECT_GAS * dim))
    return with_control(network, gas, GAS, "a perfect gas of as many weights", predicted=1.0)


@decides("general.edge", reads=READS)
def at_the_edge(trained: xr.Dataset) -> Decision | NotApplicable:
    """log₂ of η/2 times the batch sharpness, a mean over the rates; control: at the start."""
    if why := plain(trained):
        return NotApplicable(why)
    if trained.attrs["draws"]:
        return NotApplicable("the network draws random numbers, as dropout does: a batch has no curvature of its own")
    ratios = (trained["eta"] * trained[name] / theory.EDGE for name in ("sharpness", "sharpness_start"))
    end, start = (few_seeds(np.log2(np.maximum(ratio, FLAT)).mean("eta", skipna=False)) for ratio in ratios)
    return with_control(end, start, EDGE, "at the start")
