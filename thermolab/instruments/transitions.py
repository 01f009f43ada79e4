"""Did something change in this series, and when: detectors, their thresholds, and how often they are right.

The second difference |Δ²S| = |S_t − 2 S_{t−1} + S_{t−2}| (document 0, section 5) sees a lasting step twice, at the step and
one sample later, and in white noise of deviation σ its own deviation is √6 σ. CUSUM adds the evidence up (Page 1954,
Biometrika 41, 100): C⁺_t = max(0, C⁺_{t−1} + z_t − κ), C⁻_t = max(0, C⁻_{t−1} − z_t − κ) with z = (S − mean)/σ; it alarms
when C exceeds a level h. For independent Gaussian z and κ = ½ the two-sided CUSUM alarms falsely each 168, 370, 465 samples
on average at h = 4, 4.77, 5 (Montgomery, "Introduction to statistical quality control", table 9.3).

Limit of validity: those rates hold for independent samples only. In a series of autocorrelation time τ the sums spread as
if σ² were τ σ², so the chance that C⁺ exceeds h falls as exp(−2κh/τ) instead of exp(−2κh), and an error of the baseline's
mean, σ √(τ/n) for n samples, is added up as well: false alarms come far more often than the tables say. Thresholds are
therefore calibrated on runs in which nothing changes (`threshold`), and tested on others (`rates`).
All series are [..., T], one run per row, equally spaced in time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from thermolab.instruments.autocorrelation import as_numbers, rounding_alone, unwrap


@dataclass(frozen=True)
class Share:
    """A share of n runs and its standard error, half the width of Wilson's score interval at z = 1: never 0 for finite n."""

    value: float
    standard_error: float
    n: int


@dataclass(frozen=True)
class Rates:
    """How often a detector is right at a level.

    false_positives: share of the null runs with an alarm at any time.
    power: share of the changed runs whose first alarm comes at the change or later.
    early: share of the changed runs whose first alarm comes before the change; it is no detection.
    delay: median time from change to first alarm over all changed runs, in samples, a run without detection counting
        as infinite: inf at a power below one half.
    delay_error: half the distance between the order statistics that bracket the median in 68 % of samples; nan where
        one of them is infinite or there are too few runs.
    """

    level: float
    false_positives: Share
    power: Share
    early: Share
    delay: float
    delay_error: float


def second_difference(series) -> np.ndarray:
    """Size of the second difference |S_t − 2 S_{t−1} + S_{t−2}|, at the time t at which it is known.

    series: [..., T]. Returns [..., T] in the unit of the series; the first two are nan.
    Raises ValueError for fewer than 3 samples, nan or inf.
    Source: document 0, section 5, "entropy acceleration".

    >>> second_difference([0.0, 0.0, 1.0, 1.0, 1.0])
    array([nan, nan,  1.,  1.,  0.])
    """
    series = _series(series, 3)
    out = np.full(series.shape, np.nan)
    out[..., 2:] = np.abs(np.diff(series, 2))
    return out


def cusum(
    series,
    *,
    baseline: int | None = None,
    mean=None,
    sigma=None,
    kappa: float = 0.5,
    side: Literal["both", "up", "down"] = "both",
) -> np.ndarray:
    """CUSUM statistic of each run, in units of σ: evidence so far that the mean has moved by more than κσ.

    series: [..., T]. Positive autocorrelation raises its rate of false alarms far above the nominal one: see above.
    baseline: the first so many samples of each run yield its mean and σ (with n − 1); the statistic is 0 up to there.
    mean, sigma: instead of a baseline, known values in the unit of the series, numbers or of the leading shape.
    kappa: drift in units of σ, best at half the shift that is looked for.
    side: "up", "down", or "both", which is the larger of the two.
    Returns [..., T].
    Raises ValueError unless either a baseline or mean and sigma are given, for σ = 0, κ < 0, another side, nan or inf.
    Source: Page 1954, Biometrika 41, 100.

    >>> cusum([0.0, 0.0, 2.0, 2.0, -4.0], mean=0, sigma=1)
    array([0. , 0. , 1.5, 3. , 3.5])
    """
    series = _series(series, 1)
    if side not in ("both", "up", "down"):
        raise ValueError(f"side={side!r} is unknown; allowed: both, up, down")
    if not 0 <= kappa < math.inf:
        raise ValueError(f"kappa={kappa} is no drift; allowed: 0 or more, 0.5 for a shift of one sigma")
    z = _standardised(series, baseline, mean, sigma)
    begin = baseline or 0
    up, down = np.zeros(z.shape[:-1]), np.zeros(z.shape[:-1])
    out = np.zeros(z.shape)
    for t in range(begin, z.shape[-1]):
        up = np.maximum(0.0, up + z[..., t] - kappa)
        down = np.maximum(0.0, down - z[..., t] - kappa)
        out[..., t] = {"up": up, "down": down}[side] if side != "both" else np.maximum(up, down)
    return out


def threshold(null, rate: float = 0.05) -> float:
    """Level that a further run without a change exceeds at any time with probability at most `rate`.

    null: statistic [runs, T] of runs in which nothing changes, as long as the runs to be judged; nan counts as no alarm.
    rate: false alarms per run.
    Returns the k-th smallest of the n run maxima, k = ⌈(n + 1)(1 − rate)⌉: whatever the distribution and the
    autocorrelation within a run, a run of the same kind exceeds it with probability 1 − k/(n + 1) (conformal quantile).
    Raises ValueError for a rate outside 0 … 1, or for fewer than 1/rate − 1 runs.
    Source: Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world".
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate={rate} is no share of the runs; allowed: above 0 and below 1")
    highest = np.sort(_highest(null))
    n = len(highest)
    k = math.ceil((n + 1) * (1 - rate) - 1e-9)  # 20 · 0.95 is 19, not a little more
    if k > n:
        least = math.ceil(1 / rate - 1 - 1e-9)
        raise ValueError(f"{n} null runs cannot bound a false-positive rate of {rate}: at least {least}, or a larger rate")
    return float(highest[k - 1])


def first_alarm(statistic, level: float) -> np.ndarray:
    """Time at which each run first exceeds the level.

    statistic: [runs, T]; nan counts as no alarm. Returns indices [runs], −1 for a run that never does.
    """
    above = _statistic(statistic) > level
    return np.where(above.any(-1), above.argmax(-1), -1)


def rates(null, changed, level: float, change: int) -> Rates:
    """False-positive rate, power and delay of a detector at a level.

    null: statistic [runs, T] of runs in which nothing changes, others than those that gave the level.
    changed: statistic [runs, T'] of runs with a change between the samples change − 1 and change.
    level: from `threshold`, or a nominal one.
    Returns `Rates`.
    Raises ValueError if the change lies outside 1 … T' − 1, or if there are no runs.
    """
    null, changed = _statistic(null), _statistic(changed)
    if not 1 <= change < changed.shape[1]:
        raise ValueError(f"change={change} lies outside the runs; allowed: 1 to {changed.shape[1] - 1}")
    alarm = first_alarm(changed, level)
    late, early = alarm >= change, (alarm >= 0) & (alarm < change)
    delay = np.where(late, alarm - float(change), math.inf)
    false = first_alarm(null, level) >= 0
    return Rates(float(level), _share(false), _share(late), _share(early), *_median(delay))


def steepest(series, *, lag: int = 1) -> np.ndarray | float:
    """Time at which a series changes most: the middle of the `lag` samples over which |S_{t+lag} − S_t| is largest.

    series: [..., T], such as S or the loss over an escape from a plateau; the difference of two such times is a lead.
    lag: in samples; a longer one is steadier and less precise.
    Returns times of the leading shape in samples, halves included; the first of equal ones.
    Raises ValueError for a lag outside 1 … T − 1, nan or inf.
    """
    series = _series(series, 2)
    if not 1 <= lag < series.shape[-1]:
        raise ValueError(f"lag={lag} with T={series.shape[-1]} samples; allowed: 1 to {series.shape[-1] - 1}")
    return unwrap(np.abs(series[..., lag:] - series[..., :-lag]).argmax(-1) + lag / 2)


def _standardised(series: np.ndarray, baseline: int | None, mean, sigma) -> np.ndarray:
    """z = (S − mean)/σ, by the first `baseline` samples or by given values."""
    given = mean is not None and sigma is not None
    if (baseline is None) is not given or (baseline is not None and (mean is not None or sigma is not None)):
        raise ValueError(f"baseline={baseline}, mean={mean}, sigma={sigma}: give either a baseline, or both mean and sigma")
    if given:
        mean, sigma = (np.broadcast_to(np.asarray(v, float), series.shape[:-1])[..., None] for v in (mean, sigma))
    else:
        if not 2 <= baseline < series.shape[-1]:
            raise ValueError(f"baseline={baseline} with T={series.shape[-1]} samples; allowed: 2 to {series.shape[-1] - 1}")
        before = series[..., :baseline]
        mean, sigma = before.mean(-1, keepdims=True), before.std(-1, ddof=1, keepdims=True)
    constant = baseline is not None and rounding_alone(series[..., :baseline])
    if not (sigma > 0).all() or np.any(constant):
        least = 0.0 if np.any(constant) else float(np.min(sigma))
        raise ValueError(f"sigma={least} for a run; allowed: above 0: its baseline is constant, take a longer one")
    return (series - mean) / sigma


def _series(values, least: int) -> np.ndarray:
    """Series [..., T] in float64, finite and of at least `least` samples."""
    values = as_numbers(values)
    if values.ndim == 0 or values.size == 0 or values.shape[-1] < least:
        raise ValueError(f"values of shape {values.shape} hold no series; allowed: [..., T] with T of {least} or more")
    if not np.isfinite(values).all():
        raise ValueError("the series holds nan or inf: drop the frames before the observable is full, and runs that diverged")
    return values


def _statistic(values) -> np.ndarray:
    """A statistic [runs, T] in float64."""
    values = as_numbers(values)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"a statistic of shape {values.shape}; allowed: [runs, T] with one run or more, [None] for a single one")
    return values


def _highest(statistic) -> np.ndarray:
    """Largest value of each run; −inf for a run of nan only."""
    statistic = _statistic(statistic)
    return np.where(np.isnan(statistic), -math.inf, statistic).max(-1)


def _share(hits: np.ndarray) -> Share:
    """The share of hits with half of Wilson's interval at z = 1."""
    n, p = len(hits), float(hits.mean())
    return Share(p, math.sqrt(p * (1 - p) / n + 1 / (4 * n * n)) / (1 + 1 / n), n)


def _median(delay: np.ndarray) -> tuple[float, float]:
    """Median of values of which some may be infinite, and half of its distribution-free 68 % interval."""
    n, ordered = len(delay), np.sort(delay)
    low, high = ordered[(n - 1) // 2], ordered[n // 2]
    median = (low + high) / 2
    # the j-th smallest lies above the median with the chance that fewer than j of n fair coins show heads
    j = int(stats.binom.ppf(stats.norm.cdf(-1), n, 0.5))
    if j < 1 or not np.isfinite(ordered[n - j]):
        return float(median), math.nan
    return float(median), float(ordered[n - j] - ordered[j - 1]) / 2
