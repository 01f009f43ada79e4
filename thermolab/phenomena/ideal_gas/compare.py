"""What the claims and figures of notebook 03 compare: slopes, minima, Maxwell relation, exponents, from the recipes' datasets."""

from __future__ import annotations

import numpy as np
import xarray as xr

from thermolab.claims import Estimate, extreme
from thermolab.phenomena.ideal_gas import theory


def seeds_first(*arrays: xr.DataArray) -> np.ndarray:
    """Several arrays with a dim "seed" as one matrix [seed, …]."""
    return np.concatenate([a.transpose("seed", ...).values.reshape(a.sizes["seed"], -1) for a in arrays], 1)


def worst(*arrays: xr.DataArray) -> Estimate:
    """The largest |mean over seeds| of several arrays with a dim "seed"."""
    return extreme(seeds_first(*arrays))


def plane(data: xr.Dataset, name: str = "S_full") -> np.ndarray:
    """Slopes [seed, (log η, log λ)] of the plane that fits `name` over the grid; cells that are NaN are left out."""
    return np.stack([_fit(_design(data, 1), row)[1:] for row in seeds_first(data[name])])


def _fit(design: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least-squares coefficients over the finite values; NaN if these are too few to tell."""
    ok = np.isfinite(values)
    if ok.sum() <= design.shape[1]:
        return np.full(design.shape[1], np.nan)
    return np.linalg.lstsq(design[ok], values[ok], rcond=None)[0]


def own_minimum(energy, entropy, temperature, pressure, radius, shape=None, within: int = 0) -> float:
    """Share of cells [n] whose potential U - T S + p r²/2, with their own T and p, is least among all at their own state.

    shape: of the grid, whose cells these are; within: so many cells of it away, along each axis, will do.
    """
    potential = theory.gibbs(energy, entropy, temperature[:, None], pressure[:, None], radius)
    ok = np.isfinite(energy) & np.isfinite(entropy) & np.isfinite(radius)
    best = np.argmin(np.where(ok, potential, np.inf), 1)
    place = np.stack(np.unravel_index(np.arange(len(ok)), shape or (len(ok),)))
    near = abs(place[:, best] - place).max(0) <= within
    return float(np.mean(near[ok])) if ok.any() else np.nan


def own_minima(data: xr.Dataset, temperature: str, swap: bool = False, within: int = 0) -> np.ndarray:
    """`own_minimum` [seed]; swap: each cell gets the temperature of its diagonal neighbour (the control)."""
    t = np.roll(data[temperature].values, (1, 1) if swap else 0, axis=(0, 1) if swap else 0).ravel()
    p = (0 * data["T"] + data["lam"]).transpose("eta", "lam").values.ravel()
    cells = zip(*(seeds_first(data[k]) for k in ("U", "S_full", "r")), strict=True)
    shape = data.sizes["eta"], data.sizes["lam"]
    return np.array([own_minimum(u, s, t, p, r, shape, within) for u, s, r in cells])


def maxwell(data: xr.Dataset, direction: np.ndarray, log_radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the Maxwell relation of the protocol is missed, from a quadratic fit of S in log η and log λ.

    direction, log_radius: [seed, cell], entropy of the direction and log r, from which S = direction + (D - 1) log r.
    "lr": ∂S/∂log η - ∂S/∂log λ = (D - 1)/2; "elr": -∂S/∂log λ = (D - 1)/2 (arXiv:2511.07308, Sec. 4).
    Returns the relative error [seed, cell] and R² [seed] of the fit. Cells that are NaN are left out of the fit.
    """
    d = data.attrs["dim"] - 1
    design = _design(data, 2)
    _, x, y, *_ = design.T
    errors, r2 = [], []
    for total in direction + d * log_radius:
        ok = np.isfinite(total)
        fit = _fit(design, total)
        slope_eta, slope_lam = fit[1] + 2 * x * fit[3] + y * fit[5], fit[2] + 2 * y * fit[4] + x * fit[5]
        relation = slope_eta - slope_lam if data.attrs["protocol"] == "lr" else -slope_lam
        errors.append(relation / (d / 2) - 1)
        r2.append(1 - (total[ok] - design[ok] @ fit).var() / total[ok].var() if np.isfinite(fit).all() else np.nan)
    return np.array(errors), np.array(r2)


def _design(data: xr.Dataset, order: int) -> np.ndarray:
    x, y = (v.ravel() for v in np.meshgrid(np.log(data["eta"]), np.log(data["lam"]), indexing="ij"))
    x, y = x - x.mean(), y - y.mean()
    return np.stack([np.ones_like(x), x, y, *([x * x, y * y, x * y] if order == 2 else [])], 1)


def idle_exponent(data: xr.Dataset, idle: str) -> np.ndarray:
    """Exponent [seed] of σ² along a direction of the (log η, log λ) plane in which it should not change.

    idle: "lam" (λ at fixed η), "eta" (η at fixed λ) or "ratio" (η/λ at fixed ηλ).
    """
    slopes = plane(data.assign(log_sigma=np.log(data["trace"])), "log_sigma")
    return slopes @ {"eta": [1, 0], "lam": [0, 1], "ratio": [0.5, -0.5]}[idle]


def nonsense_entropy(data: xr.Dataset) -> np.ndarray:
    """A function [cell] of η λ alone, on which the temperature depends, that has nothing to do with an entropy."""
    product = (data["eta"] * data["lam"]).transpose("eta", "lam").values.ravel()
    return data.attrs["dim"] / 10 * np.log(product) ** 2


def entropy_rise(where: xr.DataArray, entropy: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Temperature or rate and rise of the entropy above the coldest one, where every seed has an entropy."""
    known = np.isfinite(entropy).all("seed")
    entropy = entropy.where(known, drop=True)
    return where.where(known, drop=True), entropy - entropy[:1].mean()


def entropy_slope(temperature, entropy) -> float:
    """Slope of S in log T over the finite entries; NaN if there are fewer than two."""
    ok = np.isfinite(entropy)
    return float(np.polyfit(np.log(temperature[ok]), entropy[ok], 1)[0]) if ok.sum() > 1 else np.nan
