"""Axes that hold what is drawn and seldom move: limits and ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

LEAST = 1e-290  # on a logarithmic axis; smaller ones leave no room for limits below them


def limits(values: Sequence[np.ndarray], log: bool, before: tuple[float, float] | None = None) -> tuple[float, float]:
    """Limits of an axis that hold all finite values with room to spare.

    The limits of `before` are kept while the values fit and fill at least a third of them: an axis must not flicker.
    """
    v = np.concatenate([np.zeros(0), *(np.ravel(x) for x in values)])
    v = v[np.isfinite(v) & ((v > LEAST) | (not log))]
    if not v.size:
        return before or ((0.1, 1.0) if log else (0.0, 1.0))
    v = np.log10(v) if log else v
    low, high = float(v.min()), float(v.max())
    if before is not None:
        b = np.log10(before) if log else before
        if b[0] <= low and high <= b[1] and high - low > (b[1] - b[0]) / 3:
            return before
    least = 0.2 if log else max(1e-9, 0.1 * max(abs(low), abs(high)))
    room = max(high - low, least) * 0.25
    middle = (low + high) / 2
    half = max((high - low) / 2, least / 2) + room
    low, high = middle - half, middle + half
    return (10 ** max(low, -300.0), 10**high) if log else (low, high)


def within_reach(others: Sequence[np.ndarray], values: Sequence[np.ndarray], log: bool) -> list[np.ndarray]:
    """The `others` for which an axis that has to hold the `values` makes room: it grows to three times their span at most.

    >>> within_reach([np.array([0.0, 2.5, 900.0])], [np.array([1.0, 2.0])], log=False)
    [array([0. , 2.5, 3. ])]
    """
    v = np.concatenate([np.zeros(0), *(np.ravel(x) for x in values)])
    v = v[np.isfinite(v) & ((v > LEAST) | (not log))]
    if not v.size:
        return list(others)
    v = np.log10(v) if log else v
    low, high = float(v.min()), float(v.max())
    span = max(high - low, 0.5 if log else 0.1 * max(abs(low), abs(high)))
    ends = (low - span, high + span)
    return [np.clip(x, *(10**e for e in ends) if log else ends) for x in others]


def steps_window(first: float, last: float) -> tuple[float, float]:
    """Limits of an axis of steps, in round numbers: they move in jumps, so that the ticks stand still in between.

    >>> steps_window(130, 2210)
    (0, 3000)
    """
    span = max(last - first, 1.0)
    unit = 10 ** math.floor(math.log10(span / 2))
    unit *= next(m for m in (1, 2, 5, 10) if span / (m * unit) <= 5)
    return math.floor(first / unit) * unit, (math.floor(last / unit) + 1) * unit


def ticks(low: float, high: float, log: bool, n: int = 4) -> list[float]:
    """Round numbers within the limits, about n of them.

    >>> ticks(0.0, 1.0, False), ticks(0.01, 0.3, True)
    ([0.0, 0.25, 0.5, 0.75, 1.0], [0.01, 0.02, 0.05, 0.1, 0.2])
    """
    if not log:
        found = MaxNLocator(n, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    else:
        decades = math.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
        found = LogLocator(subs=subs, numticks=n + 4).tick_values(low, high)
        if decades < 0.5:
            found = MaxNLocator(n, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    inside = [float(t) for t in found if low * (1 - 1e-9) <= t <= high * (1 + 1e-9) or (not log and low <= t <= high)]
    return [float(f"{t:.6g}") for t in inside]
