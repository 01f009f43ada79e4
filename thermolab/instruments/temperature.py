"""Three thermometers for stationary SGD: from gradient noise, from free energies, from a slope.

* T_gas = η_eff Tr Σ̃/(2 (D − 1)), gradients at r = 1 (arXiv:2511.07308): needs isotropic noise of size that does
  not depend on place.
* T at which F = U − T S of a set of stationary states is least in state i (arXiv:2505.23489). Every other state
  bounds it: states of higher entropy from above, of lower entropy from below. If the bounds cross, state i lies
  off the convex hull of (S, U) and no temperature makes it the minimum.
* T = dU/dS, the slope of a trajectory in the (S, U) plane (arXiv:2505.23489): needs a slow one. Noise in S
  flattens the slope, so the window must span a change of S well above the error of S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from thermolab.instruments.autocorrelation import ROUNDING, as_numbers, rounding_alone


@dataclass(frozen=True)
class FreeEnergyTemperature:
    """T_i [..., n] with the interval [`lower`, `upper`] in which F is least in state i.

    value: middle of the interval; nan where the bounds cross and at both ends of the entropy range, where one
        bound is infinite. crossed: no temperature does it; the crossed bounds are kept.
    """

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    crossed: np.ndarray


@dataclass(frozen=True)
class SlopeTemperature:
    """dU/dS in each window [..., T − window + 1], standard error from the residuals, mean S and U of the window."""

    value: np.ndarray
    standard_error: np.ndarray
    entropy: np.ndarray
    energy: np.ndarray
    window: int


def gas_temperature(eta_eff, trace, dim):
    """Temperature of the ideal gas, η_eff Tr Σ̃/(2 (D − 1)) (arXiv:2511.07308), in units of the loss.

    eta_eff: effective learning rate η/r². trace: Tr Σ̃, covariance of the gradient at r = 1 (of the gradient at
    radius r, times r²). dim: D, weights on the sphere. Scalars or arrays that broadcast; linear in `trace`, so its
    standard error goes through the same function. Raises ValueError for D < 2.
    """
    if np.any(np.asarray(dim) < 2):
        raise ValueError(f"dim={dim}: a sphere needs D of at least 2")
    return eta_eff * trace / (2 * (dim - 1))


def free_energy_temperature(energy, entropy) -> FreeEnergyTemperature:
    """The temperature at which each stationary state has the least F = U − T S of all (arXiv:2505.23489).

    energy, entropy: U, S [..., n] of n stationary states, one per learning rate, in any order; S may hold any
    constant. T_i lies above every (U_i − U_j)/(S_i − S_j) with S_j < S_i and below every one with S_j > S_i;
    a state of the same entropy, rounding aside, and lower energy crosses out state i.
    Raises ValueError for shapes that differ, fewer than 3 states, or values that are not finite.

    >>> free_energy_temperature([0.0, 1.0, 3.0], [0.0, 1.0, 2.0]).value  # between the slopes 1 and 2
    array([nan, 1.5, nan])
    """
    energy, entropy = _pair(energy, entropy, least=3)
    # Row i, column j.
    rise = energy[..., None, :] - energy[..., :, None]
    gain = entropy[..., None, :] - entropy[..., :, None]
    gain = np.where(np.abs(gain) <= ROUNDING * np.abs(entropy).max(-1, initial=0)[..., None, None], 0.0, gain)
    slope = np.divide(rise, gain, where=gain != 0, out=np.zeros_like(rise))
    upper = np.where(gain > 0, slope, math.inf).min(-1)
    lower = np.where(gain < 0, slope, -math.inf).max(-1)
    crossed = (lower > upper) | ((gain == 0) & (rise < 0)).any(-1)
    bounded = np.isfinite(lower) & np.isfinite(upper) & ~crossed
    value = np.full_like(energy, np.nan)
    value[bounded] = (lower[bounded] + upper[bounded]) / 2
    return FreeEnergyTemperature(value, lower, upper, crossed)


def slope_temperature(energy, entropy, window: int) -> SlopeTemperature:
    """T = dU/dS along a trajectory, by a straight line through each `window` of successive points.

    energy, entropy: U, S [..., T]. Windows overlap, so neighbouring values are not independent; the standard error
    takes the residuals within a window as independent. nan where S does not change within the window but by rounding.
    Raises ValueError for shapes that differ, a window outside 3 … T, or values that are not finite.
    """
    energy, entropy = _pair(energy, entropy, least=3)
    if not 3 <= window <= energy.shape[-1]:
        raise ValueError(f"window={window} for {energy.shape[-1]} points: must lie in 3 … {energy.shape[-1]}")
    u = np.lib.stride_tricks.sliding_window_view(energy, window, axis=-1)
    s = np.lib.stride_tricks.sliding_window_view(entropy, window, axis=-1)
    u_mean, s_mean = u.mean(-1), s.mean(-1)
    du, ds = u - u_mean[..., None], s - s_mean[..., None]
    spread = np.square(ds).sum(-1)
    spread = np.where((spread > 0) & ~rounding_alone(s), spread, np.nan)
    slope = (du * ds).sum(-1) / spread
    residual = np.square(du - slope[..., None] * ds).sum(-1)
    return SlopeTemperature(slope, np.sqrt(residual / (window - 2) / spread), s_mean, u_mean, window)


def _pair(energy, entropy, least: int) -> tuple[np.ndarray, np.ndarray]:
    energy, entropy = map(as_numbers, (energy, entropy))
    if energy.shape != entropy.shape:
        raise ValueError(f"energy {energy.shape} and entropy {entropy.shape} must have the same shape")
    if energy.ndim < 1 or energy.shape[-1] < least:
        raise ValueError(f"{energy.shape} points are too few: at least {least}")
    if not (np.isfinite(energy).all() and np.isfinite(entropy).all()):
        raise ValueError("energy or entropy holds nan or inf: drop diverged and collapsed states first")
    return energy, entropy
