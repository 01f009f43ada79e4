"""Balance of a perceptron as a curve over η²t/B: at two η, under momentum, under gradient flow; and when a pair is there.

All runs (`architectures.train`) begin at one usual start, the first pair of which is set off balance. SGD and the heavy ball come
to balance along one curve of (η/(1 - μ))² t/B (`theory.clock`); gradient flow keeps |u|² - |w|², and the log ratio stays away.

ONE_CURVE, the tolerance, stands here once and does not move with the data: curves that start at 1 and end at 0 coincide within
0.1, as `networks.CLOCK`. The first window is left out: in it the network learns, which is a matter of ηt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from thermolab.claims import Decision, decides, extreme, few_seeds, with_control
from thermolab.phenomena.neuron_balance import architectures

ONE_CURVE = 0.1
SKEW = {"arm": "mlp", "task": "teacher", "skew": 1.5, "noise": 3.0, "n_data": 2000, "batch_size": 8, "logs": 7, "copies": 8}
MOMENTUM = 0.9
FAR = 100  # times as many steps: further ahead a number says nothing
RUNS = {  # {dataset: what differs}; the windows of all but "flow" end at the same η²t/B
    "skewed": {"eta": 0.015, "steps": 2800},
    "skewed_slow": {"eta": 0.01, "steps": 6300},
    "skewed_momentum": {"eta": 0.0015, "steps": 2800, "optimiser": "momentum"},
    "skewed_flow": {"eta": 0.01, "steps": 1680, "optimiser": "flow", "copies": 1},
}
WAITED_FOR = {  # {label: (dataset, end of the pair's name)}
    "MLP, first pair": ("mlp", "-> 2"),
    "MLP, second pair": ("mlp", "-> 4"),
    "MLP on digits": ("mlp_digits", "-> 2"),
    "CNN, last pair": ("cnn", "-> 8"),
    "perceptron, first block": ("transformer", "3.perceptron.2"),
    "perceptron, second block": ("transformer", "4.perceptron.2"),
}


def curve(data: xr.Dataset) -> np.ndarray:
    """The log ratio of the first pair [seed, time]."""
    return data["log_ratio"].isel(pair=0).transpose("seed", "time").values


def remaining(data: xr.Dataset) -> np.ndarray:
    """The same over the skew of the start, from the second window on."""
    return curve(data)[:, 1:] / float(data["skew"])


@decides("balance.clock", reads=["skew"])
def one_curve(skewed: xr.Dataset, skewed_slow: xr.Dataset, skewed_flow: xr.Dataset) -> Decision:
    """Largest distance of two curves of SGD at equal η²t/B, over the skew; control: of SGD and flow at equal ηt."""
    fast, (now, ends) = remaining(skewed), (data["flow_time"].values for data in (skewed, skewed_flow))
    now = (now - now[0] / 2)[1:]  # SGD is read throughout a window, flow at its end
    flow = np.array([np.interp(now, ends[1:], row) for row in remaining(skewed_flow)])
    common = now <= ends[-1]
    control = extreme((fast - flow)[:, common])
    return with_control(
        extreme(fast - remaining(skewed_slow)), control, ONE_CURVE, "gradient flow from the same start at equal ηt"
    )


@decides("balance.momentum", reads=["skew"])
def heavy_ball(skewed: xr.Dataset, skewed_momentum: xr.Dataset) -> Decision:
    """Largest distance of momentum from SGD at equal (η/(1 - μ))²t/B, over the skew; control: at equal η²t/B."""
    plain, heavy, time = remaining(skewed), remaining(skewed_momentum), skewed["clock"].values[1:]
    early = np.array(
        [np.interp(time * (1 - MOMENTUM) ** 2, time, row) for row in plain]
    )  # it does not get beyond the first point
    name = "η²t/B with the η of the heavy ball"
    return with_control(extreme(heavy - plain), extreme(heavy - early), ONE_CURVE, name)


class Arrival(NamedTuple):
    """When a pair is in balance if it goes on as it does.

    power: p of the t^-p with which its log ratio falls, and its error; steps, with earliest and latest two errors off: infinite
    if it does not come nearer, the end of the run if it is there. All are NaN where a run was lost.
    """

    power: float
    error: float
    steps: float
    earliest: float
    latest: float


def arrival(data: xr.Dataset) -> Arrival:
    """Of a dataset of one pair: a line through log |mean log ratio| over log t in the second half of the windows.

    With |log ratio| = BALANCE e^a at the end T, it is within BALANCE at T e^(a/p). Errors are those of the jackknife over the
    seeds, of p and of p/a, widened as in `claims.few_seeds`.
    """
    ratios, time = curve(data), data["time"].values
    if not np.isfinite(ratios).all():
        return Arrival(*[math.nan] * 5)
    half = len(time) // 2
    t = np.log((time - time[0] / 2)[half:] / time[-1])  # the middles of windows

    def fit(rows):
        slope, at_end = np.polyfit(t, np.log(np.abs(rows.mean(0)[half:])), 1)
        above = at_end - np.log(architectures.BALANCE)
        return -slope, -slope / max(above, 1e-9), above

    power, rate, above = fit(ratios)
    others = np.array([fit(np.delete(ratios, k, 0))[:2] for k in range(len(ratios))])
    error, spread = (few_seeds(row).error * (len(ratios) - 1) for row in others.T)

    def when(rate):
        with np.errstate(over="ignore"):
            return float(time[-1] * np.exp(1 / rate)) if rate > 0 else np.inf

    there = [time[-1]] * 3 if above <= 0 else [when(rate), when(rate + 2 * spread), when(rate - 2 * spread)]
    return Arrival(float(power), float(error), *map(float, there))


def arrivals(found: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """A row for each pair that is waited for."""
    rows = {}
    for label, (name, end) in WAITED_FOR.items():
        data = architectures.read_by(found[name], end)
        a, last = arrival(data), int(data["time"][-1])
        if math.isnan(a.power):
            rows[label] = {"log ratio": "a run was lost", "after steps": last}
            continue
        bounds = f"{a.earliest:,.0f} to " + ("∞" if np.isinf(a.latest) else f"{a.latest:,.0f}")
        late = bounds if a.steps > FAR * last else f"{a.steps:,.0f} ({bounds})"
        rows[label] = {
            "log ratio": f"{architectures.furthest(data).value:.3f}",
            "after steps": last,
            "falls as t^-p, p": f"{a.power:.2f} ± {a.error:.2f}",
            "within 0.1 after": "there" if a.steps == last else "never, as it goes" if np.isinf(a.earliest) else late,
        }
    return pd.DataFrame(rows).T.fillna("")
