"""What is read off curves over η or over time: temperatures, minima of the free energy, exponents; and their errors over seeds.

A single network's U(η) and S(η) scatter by more than they change from one rate to the next, so temperatures come from
the mean over seeds, and errors from leaving one seed out at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy import special

from thermolab.claims import COVERAGE, Estimate
from thermolab.instruments.temperature import FreeEnergyTemperature, free_energy_temperature, slope_temperature

LAST = slice(-5, None)  # logs of a training run


def jackknife(statistic: Callable[[xr.Dataset], float], *data: xr.Dataset) -> Estimate:
    """A number read off the means over seeds of datasets, and its standard error, widened by Student's t.

    statistic(*means) takes datasets without the dim "seed"; they must have the same seeds.
    Raises ValueError for fewer than 3 seeds.
    """
    n = data[0].sizes["seed"]
    if n < 3:
        raise ValueError(f"{n} seeds are too few to leave one out; use 3 or more")
    whole = statistic(*(d.mean("seed", skipna=False) for d in data))
    parts = [statistic(*(d.drop_isel(seed=i).mean("seed", skipna=False) for d in data)) for i in range(n)]
    error = math.sqrt((n - 1) * np.var(parts))
    return Estimate(float(whole), float(error * special.stdtrit(n - 1, (1 + COVERAGE) / 2) / 2), n)


def leave_one_out(statistic: Callable[[xr.Dataset], np.ndarray], data: xr.Dataset) -> xr.DataArray:
    """A curve read off the means over seeds, as (seed, curve): its mean is that curve, its spread the jackknife's error.

    For `plots.points`, which takes mean and error over the seeds.
    """
    whole, n = statistic(data.mean("seed")), data.sizes["seed"]
    parts = np.stack([statistic(data.drop_isel(seed=i).mean("seed")) for i in range(n)]) if n > 1 else whole[None]
    return xr.DataArray(whole + (n - 1) * (parts.mean(0) - parts), dims=("seed", "curve"))


def stationary_only(data: xr.Dataset) -> xr.Dataset:
    """The rates at which the entropy window was long enough for every seed."""
    return data.sel(eta=data["S"].notnull().all("seed")) if "seed" in data.dims else data.sel(eta=data["S"].notnull())


def end_of(run: xr.Dataset) -> xr.Dataset:
    """The end of training: medians over the last five logs."""
    return run.isel(time=LAST).median("time")


def collapsed(run: xr.Dataset) -> xr.Dataset:
    """The end of training at the rates where every seed knows all labels."""
    end = end_of(run)
    return end.sel(eta=(end["accuracy"] > 0.99).all("seed"))


def temperature(mean: xr.Dataset) -> np.ndarray:
    """T = dU/dS along the curve of stationary states (S(η), U(η)), by central differences; NaN at both ends.

    Source: arXiv:2505.23489.
    """
    t = np.full(mean.sizes["eta"], np.nan)
    if len(t) > 2:
        t[1:-1] = (mean["U"].values[2:] - mean["U"].values[:-2]) / (mean["S"].values[2:] - mean["S"].values[:-2])
    return t


def rise(mean: xr.Dataset, shuffled: bool = False) -> float:
    """The smallest step of log T from one learning rate to the next: positive where T(η) increases throughout.

    NaN for fewer than four states, of which the two at the ends have no central difference. shuffled: with the rates
    permuted.
    """
    t = temperature(mean)[1:-1]
    if t.size < 2:
        return math.nan
    if shuffled:
        t = t[np.random.default_rng(0).permutation(t.size)]
    if not (t > 0).all():
        return -float(np.ptp(np.log(np.abs(t))))  # a negative temperature between positive ones is a fall
    return float(np.diff(np.log(t)).min())


def bounds(mean: xr.Dataset) -> FreeEnergyTemperature:
    """The interval of temperatures at which each state has the least F; crossed where there is none."""
    return free_energy_temperature(mean["U"].values, mean["S"].values)


def compatible(mean: xr.Dataset) -> float:
    """Share of the learning rates between the two ends whose bounds on T do not cross."""
    return float(1 - bounds(mean).crossed[1:-1].mean()) if mean.sizes["eta"] > 2 else math.nan


def free_energy(mean: xr.Dataset, shift: int = 0) -> np.ndarray:
    """F [state, temperature] = U − T S with the T that belongs to each η, or to the rate `shift` places further."""
    return mean["U"].values[:, None] - np.roll(temperature(mean), -shift) * mean["S"].values[:, None]


def own_minima(mean: xr.Dataset, shift: int = 0) -> float:
    """Share of the learning rates between the two ends whose own state has the least F at their temperature."""
    if mean.sizes["eta"] < 3:
        return math.nan
    f = free_energy(mean, shift)
    known = np.isfinite(f).all(0) & (np.arange(len(f)) > 0) & (np.arange(len(f)) < len(f) - 1)
    return float((f.argmin(0) == np.arange(len(f)))[known].mean())


def exponent(x, y) -> float:
    """Slope of log y over log x by least squares; NaN where fewer than three points are positive."""
    x, y = np.ravel(x), np.ravel(y)
    good = np.isfinite(x * y) & (x > 0) & (y > 0)
    return float(np.polyfit(np.log(x[good]), np.log(y[good]), 1)[0]) if good.sum() > 2 else math.nan


def running_temperature(energy, entropy, window: int = 5) -> np.ndarray:
    """T = dU/dS in windows of a run [..., time], from the first log on."""
    return slope_temperature(energy, entropy, window).value


def fall(run: xr.Dataset) -> float:
    """Decades by which |dU/dS| of a run, dims (time), falls from its first quarter to the rest.

    The noise is in S, so S is regressed on U: where S has settled, the slope of U on S would be that of noise, and vanish.
    """
    u, s = run["U"].values, run["S"].values
    quarter = max(3, len(u) // 4)
    first, rest = (abs(np.polyfit(u[part], s[part], 1)[0]) for part in (slice(0, quarter), slice(quarter, None)))
    return float(np.log10(rest / first))
