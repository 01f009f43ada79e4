"""What the curves of a training do: fall, rise, settle. Readings of the datasets of `training`, a number for each seed.

* A quantity "falls" if it is lower at the later of two epochs in three pairs of four, halfway between always and chance.
* S has levelled off if less of its fall comes late than of a fall linear in log(epoch), which has no floor; near the peak of the
  validation accuracy is within 0.02 of it.

F is taken at a fixed T, the mean over the run, for the source identifies T with the learning rate (document 0, section 2), which
is constant here; a shift of S by a constant then changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import xarray as xr

from thermolab.claims import Estimate, few_seeds, pick

FALLING, PEAK = 0.25, 0.02
EARLY = {"accuracy": "early", "cka": "early_cka"}  # the same within the first epoch


def arm(data: xr.Dataset, decays: bool = False) -> xr.Dataset:
    """The arm without weight decay, or the mean over those with λ of 1e-2 or more; dims (time, seed), (moment, seed)."""
    chosen = data.sel(lam=data["lam"] >= 1e-2) if decays else data.sel(lam=data["lam"] == 0)
    if not chosen.sizes["lam"]:
        raise ValueError(f"lams={data['lam'].values.tolist()}; needed: 0 and one of 1e-2 or more")
    return chosen.mean("lam").transpose("time", "moment", "seed")


def falling(series: np.ndarray) -> np.ndarray:
    """Share [seed] of the pairs of epochs of a series [epoch, seed] at the later of which it is lower.

    >>> falling(np.array([[3.0], [2.0], [2.5]]))
    array([0.66666667])
    """
    i, j = np.triu_indices(len(series), 1)
    return (series[j] < series[i]).mean(0)


def weakest(parts: Iterable[np.ndarray], least: float) -> Estimate:
    """Of numbers [seed] that shall all exceed `least`, the estimate of the one that does so by the fewest errors.

    All of them hold if this one does, and it fails if any does.
    """
    return pick(min, map(few_seeds, parts), key=lambda found: (found.value - least) / max(found.error, 1e-12))


def all_fall(series: Iterable[np.ndarray]) -> Estimate:
    """Share of pairs in which it falls, of the series [epoch, seed] in which that is least sure to suffice."""
    return weakest(map(falling, series), 1 - FALLING)


def rise(data: xr.Dataset, name: str = "accuracy", shares=(0.25, 0.5, 0.75)) -> np.ndarray:
    """Epochs [share, seed] at which a curve ("accuracy" or "cka") without weight decay first has made these shares of its way.

    The way is from the start to the mean over the last quarter of the epochs; linear in between, NaN where never.
    """
    data = arm(data)
    t = np.concatenate([data["moment"].values, data["time"].values[1:]])
    curves = np.concatenate([data[EARLY[name]].values, data[name].values[1:]])
    end = late(data[name].values[1:]).mean(0)
    out = np.full((len(shares), curves.shape[1]), np.nan)
    for s, curve in enumerate(curves.T):
        for k, share in enumerate(shares):
            level = curve[0] + share * (end[s] - curve[0])
            j = int(np.argmax(curve >= level))
            if j:
                out[k, s] = np.interp(level, curve[j - 1 : j + 1], t[j - 1 : j + 1])
    return out


def abruptness(data: xr.Dataset, name: str = "accuracy") -> np.ndarray:
    """Log [seed] of the time a curve takes from a quarter to three quarters of its `rise` over that to the half.

    0 for a rise at constant speed from the start, below for one that is late and abrupt.
    """
    quarter, half, three_quarters = rise(data, name)
    return np.log((three_quarters - quarter) / half)


def path_fall(data: xr.Dataset) -> np.ndarray:
    """Fall [seed] of S_path from the mean of the first eighth of the epochs to the median of the last quarter; data: an `arm`.

    In nats per parameter. A single window scatters by half a nat, and now and then a network jumps.
    """
    s = data["S_path"].values[1:]
    return s[: max(1, len(s) // 8)].mean(0) - np.median(late(s), 0)


def late(series: np.ndarray) -> np.ndarray:
    """The last quarter of a series [epoch, ...]."""
    return series[-max(1, len(series) // 4) :]


def settled(data: xr.Dataset) -> np.ndarray:
    """Two numbers [2, seed], above 0 where an `arm` has settled by half-time, at most 1 where nothing changes any more.

    One minus the part of the fall of S_path that comes between the middle and the last quarter of the epochs (NaN where it does
    not fall), in units of that of a fall linear in log(epoch); medians, for now and then a network jumps. One minus the distance
    of the accuracy at half-time from its peak in units of PEAK, both averaged over a quarter of the epochs.
    """
    epochs = data["time"].values[1:]
    s, accuracy = (data[k].values[1:] for k in ("S_path", "accuracy"))

    def share(series):
        first, middle, last = series[0], np.median(series[len(s) * 3 // 8 : len(s) * 5 // 8], 0), np.median(late(series), 0)
        return (middle - last) / np.where(first > last, first - last, np.nan)

    window = max(1, len(s) // 4)
    smooth = np.stack([accuracy[k : k + window].mean(0) for k in range(len(s) - window + 1)])
    distance = smooth.max(0) - smooth[len(s) * 3 // 8]
    return 1 - np.stack([share(s) / share(-np.log(epochs)), distance / PEAK])


def free_energy(data: xr.Dataset, *, fixed: bool = True) -> np.ndarray:
    """F = U − T S [epoch, seed] at λ = 0 from epoch 1 on, S = D/2 (S_path + log 2πe); T of the whole run, or of the epoch."""
    u, s, t = (arm(data)[k].values[1:] for k in ("U", "S_path", "T"))
    entropy = data.attrs["dim"] / 2 * (s + math.log(2 * math.pi * math.e))
    return u - (t.mean(0) if fixed else t) * entropy
