"""How many samples of a trajectory count as one, and what error a mean over them has.

The integrated autocorrelation time is
τ = 1 + 2 Σ_{t ≥ 1} ρ(t), in samples, with ρ the normalised autocorrelation; τ = 1 for independent samples, and
the mean of n samples has the variance of n/τ independent ones. The sum stops at the smallest W ≥ 5 τ(W), and
the error is that of the truncated sum (Madras & Sokal 1988; Sokal 1997, "Monte Carlo methods in statistical
mechanics", section 3). Limit of validity: the series must be stationary and some fifty τ long; a shorter one
yields a τ that is too small, and says so: it is `short`. Anticorrelated series, whose true τ is below 1, are given the
safe value 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import irfft, next_fast_len, rfft

ROUNDING = 8 * float(np.finfo(np.float64).eps)  # differences of values of order one below which nothing but rounding is seen
ENOUGH = 50  # autocorrelation times that a series should last, as in emcee (arXiv:1202.3665)


@dataclass(frozen=True)
class AutocorrelationTime:
    """τ and its standard error in samples, the `window` W at which the sum stopped, n samples. nan: constant series."""

    value: np.ndarray | float
    standard_error: np.ndarray | float
    window: np.ndarray | int
    n: int

    @property
    def short(self) -> np.ndarray | bool:
        """Whether the series lasts fewer than `ENOUGH` τ, so that τ may be too small; a constant one has none to be short of."""
        return is_short(self.n, self.value)


@dataclass(frozen=True)
class Mean:
    """A mean over n samples, its standard error, and the autocorrelation time (nan: taken as independent)."""

    value: np.ndarray | float
    standard_error: np.ndarray | float
    n: int
    autocorrelation_time: np.ndarray | float

    @property
    def short(self) -> np.ndarray | bool:
        """Whether the samples last fewer than `ENOUGH` autocorrelation times, so that the error may be too small."""
        return is_short(self.n, self.autocorrelation_time)


def integrated_autocorrelation_time(series, *, window_factor: float = 5.0) -> AutocorrelationTime:
    """Integrated autocorrelation time of each series along the last axis.

    series: [..., T] at equal spacing. Returns arrays of the leading shape, floats without one.
    Raises ValueError if T < 2 or a value is not finite.
    """
    series = _as_array(series)
    return _windowed(_autocorrelation(series, axis=-1), series.shape[-1], window_factor)


def trajectory_autocorrelation_time(trajectory, *, window_factor: float = 5.0, max_coordinates: int = 256) -> AutocorrelationTime:
    """Autocorrelation time of a moving vector: ρ(t) is averaged over the coordinates that move, then summed.

    trajectory: [..., T, P]. Of more than `max_coordinates` coordinates, so many are taken, evenly spaced. The
    error is that of a single coordinate, an upper bound where the coordinates are independent.
    Raises ValueError if T < 2 or a value is not finite.
    """
    stride = -(-trajectory.shape[-1] // max_coordinates)
    trajectory = _as_array(trajectory[..., ::stride])
    rho = _autocorrelation(trajectory, axis=-2)
    moving = ~np.isnan(rho[..., :1, :])
    count = moving.sum(-1)
    total = np.where(moving, rho, 0.0).sum(-1)
    with np.errstate(invalid="ignore"):
        return _windowed(total / count, trajectory.shape[-2], window_factor)


def sample_mean(samples, *, time_ordered: bool = False) -> Mean:
    """Mean over the last axis with its standard error; with `time_ordered` the error is widened by √τ.

    samples: [..., n]. The error is nan for n = 1.
    """
    samples = _as_array(samples)
    n = samples.shape[-1]
    value = samples.mean(-1)
    error = samples.std(-1, ddof=1) / np.sqrt(n) if n > 1 else np.full_like(value, np.nan)
    tau = np.full_like(value, np.nan)
    if time_ordered:
        tau = np.asarray(integrated_autocorrelation_time(samples).value)
        error = error * np.sqrt(np.where(np.isnan(tau), 1.0, tau))
    return Mean(unwrap(value), unwrap(error), n, unwrap(tau))


def is_short(n: int, tau) -> np.ndarray | bool:
    """Whether n samples are fewer than `ENOUGH` autocorrelation times; False where tau is nan, of independent samples.

    By the estimated τ, which is too small just then: of series about as long as that, some pass.

    >>> is_short(1000, 30.0), is_short(1000, 10.0), is_short(3, float("nan"))
    (True, False, False)
    """
    return unwrap(n < ENOUGH * np.asarray(tau))


def jackknife_error(left_out: np.ndarray) -> float:
    """Standard error of a statistic from its n values with one sample left out each; nan if one is not finite."""
    n = len(left_out)
    if not np.isfinite(left_out).all():
        return float("nan")
    return float(np.sqrt((n - 1) / n * np.square(left_out - left_out.mean()).sum()))


def unwrap(array) -> np.ndarray | float:
    """A Python float in place of a 0-dimensional array."""
    array = np.asarray(array)
    return array if array.ndim else array.item()


def as_numbers(values) -> np.ndarray:
    """Values in float64, from tensors or whatever NumPy takes. Raises ValueError for complex numbers."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    if np.iscomplexobj(values):
        raise ValueError("the values are complex; allowed: real ones, such as their real parts")
    return np.asarray(values, dtype=np.float64)


def rounding_alone(series: np.ndarray) -> np.ndarray:
    """Whether values [..., T] differ by no more than the rounding of their size, [...]: a constant series.

    >>> rounding_alone(np.array([[0.3, 0.1 + 0.2], [0.3, 0.3001]]))
    array([ True, False])
    """
    return np.ptp(series, axis=-1) <= ROUNDING * np.abs(series).max(-1)


def _as_array(values) -> np.ndarray:
    values = as_numbers(values)
    if values.ndim == 0 or values.size == 0:
        raise ValueError(f"values of shape {values.shape} hold no series")
    if not np.isfinite(values).all():
        raise ValueError("the series holds nan or inf: mask the diverged replicas before measuring")
    return values


def _autocorrelation(series: np.ndarray, axis: int) -> np.ndarray:
    """Normalised autocorrelation at lags 0 … T − 1; nan where the series is constant."""
    n = series.shape[axis]
    if n < 2:
        raise ValueError(f"a series of T={n} has no autocorrelation: T must be at least 2")
    largest = np.abs(series).max(axis, keepdims=True)
    series = series - np.take(series, [0], axis=axis)  # a constant series is then exactly zero
    deviation = series - series.mean(axis, keepdims=True)
    size = np.abs(deviation).max(axis, keepdims=True)
    constant = size <= largest * ROUNDING
    deviation = np.divide(deviation, size, where=~constant, out=deviation)
    transform = rfft(deviation, next_fast_len(2 * n, real=True), axis=axis)
    power = irfft(np.abs(transform) ** 2, next_fast_len(2 * n, real=True), axis=axis)
    covariance = np.take(power, range(n), axis=axis)
    variance = np.take(power, [0], axis=axis)
    return np.divide(covariance, variance, where=~constant, out=np.full_like(covariance, np.nan))


def _windowed(rho: np.ndarray, n: int, factor: float) -> AutocorrelationTime:
    """Sum ρ [..., T] up to the first lag W ≥ factor · τ(W)."""
    running = 2 * np.cumsum(rho, axis=-1) - 1
    long_enough = np.arange(n) >= factor * running
    window = np.where(long_enough.any(-1), long_enough.argmax(-1), n - 1)
    tau = np.maximum(np.take_along_axis(running, window[..., None], -1)[..., 0], 1.0)
    error = tau * np.sqrt(2 * (2 * window + 1) / n)
    return AutocorrelationTime(unwrap(tau), unwrap(error), unwrap(window), n)
