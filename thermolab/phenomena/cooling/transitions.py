"""Does entropy flag transitions? A drop of η seen in S, and λ_max across such a drop and across the escape from a plateau.

S is the mean log-variance of the weights along the trajectory (`instruments.spread.along_path`), read in windows of 32 steps
that follow each other. In a stationary state it goes as 2 log η, so a drop of η is a step in a series that scatters by 0.15
nats from window to window. λ_max belongs to the landscape and not to the motion: it should see an escape and no drop of η.
Limit of validity: the stationary state is one of weight decay, whose relaxation time 1/(ηλ) is ten windows.
Source: document 0, section 5.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments.curvature import LargestCurvature
from thermolab.phenomena.common import validate
from thermolab.phenomena.cooling import plateau, setting
from thermolab.phenomena.cooling.plateau import BATCH, stacked, window

WIDTH, ETA, DECAY = 16, 0.1, 3e-2
STEPS, SNAPSHOTS = 32, 16  # of a window
BURN_IN = 60  # windows


# --- a drop of the learning rate ----------------------------------------------------------------------------------------
@Recipe
def detection(
    ratios=(0.9, 0.8, 0.5),
    *,
    replicas: int = 10,
    burn_in: int = BURN_IN,
    baseline: int = 30,
    before: int = 30,
    after: int = 20,
    difficulty: str = "mid",
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """S of a stationary perceptron, with and without a drop of η to `ratio` η.

    ratios: one or more, other than 1. burn_in, baseline, before, after: in windows of 32 steps; η drops after the first three of
    them. replicas: per seed, each of them once without a drop and once for each ratio, and as many others for calibration.

    Returns a Dataset, dims (ratio, seed, replica, window), window from the end of the burn-in on, ratio beginning with 1, no
    drop: S in nats per parameter; calibration (seed, replica, window): S of the runs without a drop from which levels come.
    Attributes baseline and change, in windows. Up to the change the runs of all ratios are the same.
    Raises ValueError for settings that are out of range. Source: document 0, section 5.
    """
    ratios = [float(r) for r in np.atleast_1d(ratios)]
    if not ratios or not all(0 < r < np.inf for r in ratios) or 1 in ratios:
        raise ValueError(f"ratios={ratios} are not allowed; allowed: one or more, positive and other than 1")
    validate.counts(1, replicas=replicas, burn_in=burn_in, before=before, n_seeds=n_seeds)
    validate.counts(3, baseline=baseline, after=after)
    ratios = [1.0, *ratios]
    settings = {"ratios": ratios, "replicas": replicas, "burn_in": burn_in, "before": baseline + before, "after": after,
                "difficulty": difficulty, "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_drops, [settings | {"seed": s} for s in numbers], "drops of η")
    dims = ("seed", "replica", "window")
    calibration, found = np.stack([p[0] for p in parts]), np.stack([p[1:] for p in parts], 1)
    out = xr.Dataset(
        {"S": (("ratio", *dims), found), "calibration": (dims, calibration)},
        coords={"ratio": ratios, "seed": numbers, "window": np.arange(baseline + before + after)},
    )
    return out.assign_attrs(baseline=baseline, change=baseline + before)


def _drops(*, ratios, replicas, burn_in, before, after, difficulty, seed, device) -> np.ndarray:
    """S [1 + ratios, replica, window]: the runs for calibration, then those of each ratio."""
    net = setting.system("mlp", width=WIDTH, difficulty=difficulty)
    more = {"lam": DECAY, "batch_size": BATCH, "seed": seed, "device": device}
    run = Experiment(net, eta=ETA, replicas=2 * replicas, **more)
    run.advance(burn_in * STEPS)
    first = np.stack([window(run, STEPS, SNAPSHOTS) for _ in range(before)], -1)
    calibration, same = np.arange(replicas), np.arange(replicas, 2 * replicas)
    origin = np.concatenate([calibration, *[same] * len(ratios)])
    rates = ETA * np.repeat([1.0, *ratios], replicas)
    # on from the same weights with random numbers that nobody had before
    run = Experiment(net, eta=rates, weights=run.state.weights[origin], streams=2 * replicas + np.arange(len(origin)), **more)
    second = np.stack([window(run, STEPS, SNAPSHOTS) for _ in range(after)], -1)
    return np.concatenate([first[origin], second], -1).reshape(1 + len(ratios), replicas, -1)


@Recipe
def curvature(
    ratio: float = 0.5,
    *,
    replicas: int = 2,
    points: int = 12,
    baseline: int = 4,
    samples: int = 256,
    difficulty: str = "mid",
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """λ_max of the Hessian along the escape from the plateau, and across a drop of η in the stationary state.

    ratio: η drops to `ratio` η after the first `baseline` of the points, which are two windows apart; samples: the Hessian is
    that of the loss on the first so many images. replicas: per seed.

    Returns a Dataset, dims (arm, seed, replica, point), arm "escape", "redrawn" (its null), "drop", "steady" (its null):
    lambda_max, U (mean since the point before). Attribute baseline, in points.
    Raises ValueError for settings that are out of range. Source: document 0, section 5.
    """
    validate.positive(ratio=ratio)
    validate.counts(1, replicas=replicas, baseline=baseline, samples=samples, n_seeds=n_seeds)
    validate.counts(baseline + 2, points=points)
    settings = {"ratio": ratio, "replicas": replicas, "points": points, "baseline": baseline, "samples": samples,
                "difficulty": difficulty, "device": str(device)}  # fmt: skip
    arms, numbers = (*plateau.ARMS, "drop", "steady"), seeds(seed, n_seeds)
    parts = yield Jobs(_curvatures, [settings | {"arm": arm, "seed": s} for arm in arms for s in numbers], "curvature")
    out = stacked(parts, ("arm", "seed", "replica", "point"), {"arm": list(arms), "seed": numbers})
    return out.assign_attrs(baseline=baseline)


def _curvatures(*, arm, ratio, replicas, points, baseline, samples, difficulty, seed, device) -> dict[str, np.ndarray]:
    """lambda_max and U [replica, point]."""
    streams = np.arange(replicas) + replicas * (arm in ("redrawn", "steady"))  # null runs are others than those they judge
    more = {"batch_size": BATCH, "seed": seed, "device": device, "gauges": {"curvature": LargestCurvature(samples, 1e-2)}}
    if arm in plateau.ARMS:
        run = plateau.begin(plateau.TINY, streams, difficulty, redrawn=arm == "redrawn", **more)
        events, every = [], 2 * plateau.STEPS
    else:
        net = setting.system("mlp", width=WIDTH, difficulty=difficulty)
        run = Experiment(net, eta=ETA, lam=DECAY, streams=streams, **more)
        every = 2 * STEPS
        run.advance(BURN_IN * STEPS)
        run.frame()
        change = {"eta": ETA * ratio} if arm == "drop" else {}
        events = [[run.state.step + baseline * every, change]]
    frames = list(run.follow(events, every, run.state.step + points * every))
    return {name: np.stack([f.gauges[name] for f in frames], -1) for name in ("lambda_max", "U")}
