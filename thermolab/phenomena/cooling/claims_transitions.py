"""The claims of notebook 01 on transitions, decided from the datasets of `transitions` and `plateau`.

Tolerances stand here once and do not move with the data. A detector must reach a power of 0.8 at 0.06 false alarms per run (the
register); levels are calibrated for 0.05, and where other null runs alarm significantly more often than 0.06 nothing is decided.
A date counts as earlier if it is so by a window or more, and it must in nine runs of ten: by chance it is in about half of them.
Schedules that end within 5 % of each other's loss tie: the loss of a single run scatters by twice that.
Replicas differ in start and batches, so each counts as one independent run, whatever its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Pair, replicas, with_control
from thermolab.instruments.transitions import Rates, cusum, rates, second_difference
from thermolab.phenomena.cooling.plateau import RATE, bound, deviation

POWER, FALSE_ALARMS, MISSING, TIE = 0.8, 0.06, 0.1, 0.05
RATIO = 0.8  # of the drop of η that the register names


# --- a drop of η --------------------------------------------------------------------------------------------------------
def accelerations(series, baseline: int) -> np.ndarray:
    """|Δ²S| of [..., T], from the end of the baseline on, as `sums` has it."""
    return second_difference(series)[..., baseline:]


def sums(series, baseline: int) -> np.ndarray:
    """CUSUM of [..., T] with mean and deviation of each run's baseline, from its end on."""
    return cusum(series, baseline=baseline)[..., baseline:]


def performance(detection: xr.Dataset, statistic: Callable, ratio: float = RATIO) -> Rates:
    """False alarms and power of a statistic (`accelerations` or `sums`) at a drop of η to `ratio` η.

    detection: the dataset of `transitions.detection`. Returns `Rates`, times in windows.
    """
    baseline = detection.attrs["baseline"]

    def read(series: xr.DataArray) -> np.ndarray:
        return statistic(series.stack(run=("seed", "replica")).transpose("run", "window").values, baseline)

    level = bound(read(detection["calibration"]))
    null, changed = (read(detection["S"].sel(ratio=r)) for r in (1.0, ratio))
    return rates(null, changed, level, detection.attrs["change"] - baseline)


def powers(detection: xr.Dataset, statistic: Callable) -> tuple[list[float], list[float], list[float]]:
    """For a figure: the ratios of the drops, the power of a statistic at each, and its standard error."""
    ratios = [float(r) for r in detection["ratio"].values if r != 1]
    found = [performance(detection, statistic, r).power for r in ratios]
    return ratios, [f.value for f in found], [f.standard_error for f in found]


def second_differences(detection: xr.Dataset) -> Pair:
    """Power of |Δ²S| at a drop of η to 0.8 η, at 0.05 false alarms per run; control: of CUSUM on the same S.

    detection: the dataset of `transitions.detection`. Returns check, name of the control, control.
    """

    def power(statistic: Callable):
        found = performance(detection, statistic)
        false, enough = found.false_positives, found.power.n >= 1 / RATE - 1  # so many null runs bound the rate
        allowed = enough and false.value - 2 * false.standard_error <= FALSE_ALARMS
        return (found.power.value, found.power.standard_error) if allowed else (np.nan, np.nan)

    right, wrong = power(accelerations), power(sums)
    return with_control(right, wrong, 0.0, "CUSUM on the same S", predicted=POWER, relation="above")


# --- the plateau --------------------------------------------------------------------------------------------------------
def earlier(plateau: xr.Dataset) -> Pair:
    """Share of the runs in which S changes most at least one window before U does.

    plateau: the dataset of `plateau.plateau`. Returns check, name of the control, control.
    """

    def share(arm: str):
        one = plateau.sel(arm=arm)
        return replicas(one["U_date"] - one["S_date"] >= 1)

    right, wrong = share("escape"), share("redrawn")
    return with_control(right, wrong, MISSING, "labels redrawn at each batch, no escape", predicted=1.0)


def fisher_flags(curvature: xr.Dataset) -> Pair:
    """Share of the runs whose λ_max leaves the band of its null runs; control: at a drop of η.

    curvature: the dataset of `transitions.curvature`. Returns check, name of the control, control.
    """

    # Lanczos bounds the eigenvalue from below, so it may come out negative
    log = np.log(np.maximum(curvature["lambda_max"], 1e-12)).stack(run=("seed", "replica")).transpose("arm", "run", "point")

    def flagged(arm: str, null: str):
        calm, other = (deviation(log.sel(arm=a).values, curvature.attrs["baseline"]) for a in (null, arm))
        # the change may act from the first point on, which `rates` counts as before it: one point without alarm goes ahead
        power = rates(calm, np.pad(other, ((0, 0), (1, 0))), bound(calm), 1).power
        return power.value, power.standard_error

    right, wrong = flagged("escape", "redrawn"), flagged("drop", "steady")
    return with_control(right, wrong, 0.0, "a drop of η, no signal", predicted=POWER, relation="above")


# --- schedules ----------------------------------------------------------------------------------------------------------
def adaptive_wins(adaptive: xr.Dataset) -> Pair:
    """Log ratio of the final validation losses of the adaptive schedule and of cosine, below −5 %; control: without a plateau.

    adaptive: the dataset of `plateau.adaptive`. Returns check, name of the control, control.
    """

    def gain(task: str):
        loss = np.log(adaptive["U_validation"].sel(task=task))
        return replicas(loss.sel(schedule="adaptive") - loss.sel(schedule="cosine"))

    right, wrong = gain("delayed"), gain("direct")
    return with_control(right, wrong, 0.0, "the usual start, which has no plateau", predicted=-TIE, relation="below")


def checks(
    detection: xr.Dataset, plateau: xr.Dataset, curvature: xr.Dataset, adaptive: xr.Dataset
) -> Mapping[str, Callable[[], Pair]]:
    """What decides each of the four claims, by id; called, it returns check, name of the control, control.

    The datasets of the recipes of these names, two seeds or more.
    """
    return {
        "cooling.second-difference": lambda: second_differences(detection),
        "cooling.plateau": lambda: earlier(plateau),
        "cooling.fisher-flags": lambda: fisher_flags(curvature),
        "cooling.adaptive": lambda: adaptive_wins(adaptive),
    }
