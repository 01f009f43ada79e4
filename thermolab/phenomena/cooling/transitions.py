"""Does entropy flag transitions? A drop of η seen in S; and curvature across such a drop and across the escape from a plateau.

S is the mean log-variance of the weights along the trajectory (`instruments.spread.along_path`), read in windows of 32 steps
that follow each other. In a stationary state it goes as 2 log η, so a drop of η is a step in a series that scatters by 0.15
nats from window to window. The largest eigenvalues of Hessian and Fisher matrix belong to the landscape and not to the motion:
they should see an escape and no drop of η.
Limit of validity: the stationary state is one of weight decay, whose relaxation time 1/(ηλ) is ten windows. A search by Lanczos
bounds λ_max from below, one draw of labels the Fisher's from above. Source: document 0, section 5.

Tolerances stand here once and do not move with the data. A detector must reach a power of 0.8 at 0.06 false alarms per run (the
register); levels are calibrated for 0.05, and where other null runs alarm significantly more often than 0.06 nothing is decided.
Replicas differ in start and batches, so each counts as one independent run, whatever its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Rule, choice, integer, positive, refuse, several
from thermolab.instruments.curvature import LargestCurvature, LargestFisher
from thermolab.instruments.transitions import Rates, cusum, rates, second_difference
from thermolab.phenomena.cooling import classifiers, plateau
from thermolab.phenomena.cooling.classifiers import Difficulty
from thermolab.phenomena.cooling.plateau import BATCH, RATE, bound, deviation, window

WIDTH, ETA, DECAY = 16, 0.1, 3e-2
STEPS, SNAPSHOTS = 32, 16  # of a window
BURN_IN = 60  # windows
ARMS = (*plateau.ARMS, "drop", "steady")

POWER, FALSE_ALARMS = 0.8, 0.06
RATIO = 0.8  # of the drop of η that the register names

A_DROP = Rule("a positive number other than 1", lambda x: positive().convert(x) if x != 1 else refuse("is no drop"))
AtLeastThree = Annotated[int, integer(3)]


# --- a drop of η in S ---------------------------------------------------------------------------------------------------
@recipe("drops of η", dims=("ratio", "seed", "replica", "window"))
def detection(
    ratios: Annotated[Sequence[float], several(A_DROP)] = (0.9, 0.8, 0.5),
    *,
    replicas: Count = 10,
    burn_in: Count = BURN_IN,
    baseline: AtLeastThree = 30,
    before: Count = 30,
    after: AtLeastThree = 20,
    difficulty: Difficulty = "mid",
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """S of a stationary perceptron, with and without a drop of η to `ratio` η.

    ratios: one or more, other than 1. burn_in, baseline, before, after: in windows of 32 steps; η drops after the first three of
    them. replicas: per seed, each of them once without a drop and once for each ratio, and as many others for calibration.

    Returns a Dataset, dims (ratio, seed, replica, window), window from the end of the burn-in on, ratio beginning with 1, no
    drop: S in nats per parameter; calibration (seed, replica, window): S of the runs without a drop from which levels come.
    Attributes baseline and change, in windows. Up to the change the runs of all ratios are the same.
    Raises ValueError for settings that are out of range. Source: document 0, section 5.
    """
    ratios, change = [1.0, *ratios], baseline + before
    net = classifiers.system("mlp", width=WIDTH, difficulty=difficulty)
    more = {"lam": DECAY, "batch_size": BATCH, "seed": seed, "device": device}
    run = Experiment(net, eta=ETA, replicas=2 * replicas, **more)
    run.advance(burn_in * STEPS)
    first = np.stack([window(run, STEPS, SNAPSHOTS) for _ in range(change)], -1)
    calibration, same = np.arange(replicas), np.arange(replicas, 2 * replicas)
    origin = np.concatenate([calibration, *[same] * len(ratios)])
    # on from the same weights with random numbers that nobody had before
    streams = 2 * replicas + np.arange(len(origin))
    eta = ETA * np.repeat([1.0, *ratios], replicas)
    run = Experiment(net, eta=eta, weights=run.state.weights[origin], streams=streams, **more)
    second = np.stack([window(run, STEPS, SNAPSHOTS) for _ in range(after)], -1)
    found = np.concatenate([first[origin], second], -1).reshape(1 + len(ratios), replicas, -1)
    data = {"S": (("ratio", "replica", "window"), found[1:]), "calibration": (("replica", "window"), found[0])}
    return xr.Dataset(data, {"ratio": ratios, "window": np.arange(change + after)}, {"baseline": baseline, "change": change})


def accelerations(series, baseline: int) -> np.ndarray:
    """|Δ²S| of [..., T], from the end of the baseline on, as `sums` has it."""
    return second_difference(series)[..., baseline:]


def sums(series, baseline: int) -> np.ndarray:
    """CUSUM of [..., T] with mean and deviation of each run's baseline, from its end on."""
    return cusum(series, baseline=baseline)[..., baseline:]


def performance(detection: xr.Dataset, statistic: Callable, ratio: float = RATIO) -> Rates:
    """False alarms and power of a statistic (`accelerations` or `sums`) at a drop of η to `ratio` η.

    detection: a dataset of the recipe. Returns `Rates`, times in windows.
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


@decides("cooling.second-difference", reads=["replicas", "burn_in", "baseline", "before", "after"])
def second_differences(detection: xr.Dataset) -> Decision:
    """Power of |Δ²S| at a drop of η to 0.8 η, at 0.05 false alarms per run; control: of CUSUM on the same S."""

    def power(statistic: Callable) -> Estimate:
        found = performance(detection, statistic)
        false, enough = found.false_positives, found.power.n >= 1 / RATE - 1  # so many null runs bound the rate
        allowed = enough and false.value - 2 * false.standard_error <= FALSE_ALARMS
        value, error = (found.power.value, found.power.standard_error) if allowed else (np.nan, np.nan)
        return Estimate(value, error, detection.sizes["seed"])

    right, wrong = power(accelerations), power(sums)
    return with_control(right, wrong, 0.0, "CUSUM on the same S", predicted=POWER, relation="above")


# --- curvature ----------------------------------------------------------------------------------------------------------
@recipe("curvature", dims=("arm", "seed", "replica", "point"), over={"arms": "arm"})
def curvature(
    ratio: Positive = 0.5,
    *,
    arms: Annotated[Sequence[str], several(choice(*ARMS))] = ARMS,
    replicas: Count = 3,
    points: Count = 12,
    baseline: Count = 4,
    samples: Count = 128,
    difficulty: Difficulty = "mid",
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Largest eigenvalues of Hessian and Fisher matrix along the escape from the plateau, and across a drop of η when stationary.

    ratio: η drops to `ratio` η after the first `baseline` of the points, which are two windows apart; samples: both are taken
    on the first so many images. replicas: per seed.

    Returns a Dataset, dims (arm, seed, replica, point), arm "escape", "redrawn" (its null), "drop", "steady" (its null):
    lambda_max, fisher_max, U (mean since the point before). Attribute baseline, in points.
    Raises ValueError for settings that are out of range. Source: document 0, section 5.
    """
    if points < baseline + 2:
        raise ValueError(f"points={points} are too few; allowed: baseline + 2 = {baseline + 2} or more")
    arm = arms[0]
    streams = np.arange(replicas) + replicas * (arm in ("redrawn", "steady"))  # null runs are others than those they judge
    observables = {"curvature": LargestCurvature(samples, 1e-2), "fisher": LargestFisher(samples)}
    more = {"batch_size": BATCH, "seed": seed, "device": device, "observables": observables}
    if arm in plateau.ARMS:
        run = plateau.begin(plateau.TINY, streams, difficulty, redrawn=arm == "redrawn", **more)
        events, every = [], 2 * plateau.STEPS
    else:
        net = classifiers.system("mlp", width=WIDTH, difficulty=difficulty)
        run = Experiment(net, eta=ETA, lam=DECAY, streams=streams, **more)
        every = 2 * STEPS
        run.advance(BURN_IN * STEPS)
        run.frame()
        change = {"eta": ETA * ratio} if arm == "drop" else {}
        events = [[run.state.step + baseline * every, change]]
    frames = list(run.follow(events, every, run.state.step + points * every))
    data = {k: (("arm", "point", "replica"), [[f.observables[k] for f in frames]]) for k in ("lambda_max", "fisher_max", "U")}
    return xr.Dataset(data, {"arm": list(arms)}, {"baseline": baseline})


@decides("cooling.hessian-flags", reads=["ratio", "replicas", "points", "baseline", "samples"])
def hessian_flags(curvature: xr.Dataset) -> Decision:
    """Share of the runs whose λ_max leaves the band of its null runs; control: at a drop of η."""
    return flagged(curvature, "lambda_max")


@decides("cooling.fisher-flags", reads=["ratio", "replicas", "points", "baseline", "samples"])
def fisher_flags(curvature: xr.Dataset) -> Decision:
    """Share of the runs whose largest eigenvalue of the Fisher matrix leaves the null runs' band; control: at a drop of η."""
    return flagged(curvature, "fisher_max")


def flagged(curvature: xr.Dataset, name: str) -> Decision:
    """Power of the largest eigenvalue `name` to flag an escape, and as control a drop of η."""
    # Lanczos bounds the eigenvalue from below, so it may come out negative
    log = np.log(np.maximum(curvature[name], 1e-12)).stack(run=("seed", "replica")).transpose("arm", "run", "point")

    def power(arm: str, null: str) -> Estimate:
        calm, other = (deviation(log.sel(arm=a).values, curvature.attrs["baseline"]) for a in (null, arm))
        # the change may act from the first point on, which `rates` counts as before it: one point without alarm goes ahead
        found = rates(calm, np.pad(other, ((0, 0), (1, 0))), bound(calm), 1).power
        return Estimate(found.value, found.standard_error, curvature.sizes["seed"])

    right, wrong = power("escape", "redrawn"), power("drop", "steady")
    return with_control(right, wrong, 0.0, "a drop of η, no signal", predicted=POWER, relation="above")
