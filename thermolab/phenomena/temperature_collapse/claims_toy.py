"""The toy's claims of notebook 02, decided from the datasets of `toy`, each with its control.

Tolerances are the accuracy that the closed forms are held to and do not move with the data: 5 % in T and 0.05 nats a
coordinate in S for learning rates below a tenth of the critical one, 0.05 for exponents, 2 % for the critical learning rate.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from thermolab.claims import Pair, extreme, few_seeds, with_control

TEMPERATURE, ENTROPY_PER_COORDINATE, EXPONENT, CRITICAL = 0.05, 0.05, 0.05, 0.02
COLD = 0.1  # of the critical learning rate: up to here the closed forms are held to these tolerances
BANDS = 3  # of learning rates, over which T and S are averaged: a single rate's are known to 1 % only
NEAR = 0.15  # relative distance from the critical rate within which rates of decay and losses are taken as linear


def toy_temperature(up: xr.Dataset):
    """Worst of T and S over bands of learning rates, each in units of its tolerance."""
    cold = _cold(up)
    dim = up.attrs["dim"]

    def off(factor: float):
        t = cold["T"] / (factor * cold["T_pred"]) - 1
        s = (cold["S"] - cold["S_pred"]) / (dim - 1) - np.log(factor) / 2
        return extreme(np.concatenate([_bands(t) / TEMPERATURE, _bands(s) / ENTROPY_PER_COORDINATE], 1))

    return with_control(off(1.0), off(2.0), 1.0, "twice the constant in T")


def toy_snr(up: xr.Dataset, op: xr.Dataset):
    """Exponent of the stationary signal-to-noise ratio in η, in the under- and in the over-parameterised toy."""
    falling = op.isel(eta=op["eta"].values <= COLD * up["critical"].item())
    slopes = [few_seeds(_exponent(d["eta"].values, d["snr"])) for d in (_cold(up), falling)]
    return with_control(*slopes, EXPONENT, "the over-parameterised toy", predicted=0.5)


def toy_critical(op: xr.Dataset, up: xr.Dataset):
    """Relative distance, from the critical η, of where the decay below it and the stationary loss above it vanish; the worst.

    op, up: datasets of `toy.converging`, both held to the critical rate and exponents of the over-parameterised toy.
    Below, with a rate of decay ∝ η_c - η, measured over predicted exponent tells how far η_c is off; above, U - U_min is
    extrapolated to zero by a straight line.
    """
    critical = op["critical"].item()
    near = np.abs(op["eta"].values / critical - 1) < NEAR
    below, above = near & (op["eta"].values < critical), near & (op["eta"].values > critical)
    if not below.any() or above.sum() < 2:
        raise ValueError(f"eta has {below.sum()} rates just below {critical:.3g} and {above.sum()} above; needed: 1 and 2")

    def off(data: xr.Dataset):
        eta = data["eta"].values
        ratio = (data["lyapunov"] / op["lyapunov_pred"]).transpose("seed", "eta").values[:, below]
        decay = (1 - eta[below] / critical) * (ratio - 1)
        excess = (data["U"] - data["U_min"]).transpose("seed", "eta").values[:, above]
        return extreme(np.column_stack([decay, [_root(eta[above], row) / critical - 1 for row in excess]]))

    return with_control(off(op), off(up), CRITICAL, "the under-parameterised toy at the same learning rates")


def toy_power_law(op: xr.Dataset, up: xr.Dataset):
    """Worst deviation from exponent 1 of √E|g|² and from exponent 0 of the SNR in |∇L| along training, below the critical η."""
    below = op["eta"].values < op["critical"].item()

    def off(data: xr.Dataset):
        d = data.isel(eta=below).transpose("seed", ...)
        return extreme(np.concatenate([d["power"].values - 1, d["snr_power"].values], 1))

    return with_control(off(op), off(up), EXPONENT, "the under-parameterised toy")


def decide(up_stationary: xr.Dataset, op: xr.Dataset, up: xr.Dataset) -> dict[str, Pair]:
    """The checks of the toy's claims by id: (check, name of the control, control).

    up_stationary: `toy.stationary`; op: `toy.converging` of over-parameterised points; up: the same recipe at the same
    learning rates with under-parameterised points. Raises ValueError if these rates differ.
    """
    if not np.array_equal(op["eta"], up["eta"]):
        raise ValueError("the two toys ran at different learning rates; give both the same eta")
    toy = "collapse.toy-"
    return {
        toy + "up.temperature": toy_temperature(up_stationary),
        toy + "up.snr": toy_snr(up_stationary, op),
        toy + "op.critical": toy_critical(op, up),
        toy + "op.power-law": toy_power_law(op, up),
    }


def _cold(data: xr.Dataset) -> xr.Dataset:
    """The learning rates up to a tenth of the critical one."""
    cold = data["eta"].values <= COLD * data["critical"].item()
    if cold.sum() < 2:
        raise ValueError(f"{cold.sum()} rates up to {COLD * data['critical'].item():.3g}; needed: 2 or more, add lower ones")
    return data.isel(eta=cold)


def _bands(values: xr.DataArray) -> np.ndarray:
    """Means [seed, band] over bands of neighbouring learning rates."""
    bands = np.array_split(values.transpose("seed", "eta").values, min(BANDS, values.sizes["eta"]), axis=1)
    return np.stack([band.mean(1) for band in bands], 1)


def _exponent(eta: np.ndarray, values: xr.DataArray) -> np.ndarray:
    """Slopes [seed] of log values in log η."""
    return np.polyfit(np.log(eta), np.log(values.transpose("eta", "seed").values), 1)[0]


def _root(x: np.ndarray, y: np.ndarray) -> float:
    """Where the straight line through y(x) vanishes."""
    slope, offset = np.polyfit(x, y, 1)
    return float(-offset / slope)
