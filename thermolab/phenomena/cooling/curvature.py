"""Does the curvature flag transitions? λ_max across the escape from a plateau and across a drop of η.

λ_max belongs to the landscape and not to the motion: it should see an escape and no drop of η. Each arm has null runs, in which
nothing happens. Limit of validity: a search by Lanczos bounds λ_max from below. Source: document 0, section 5.
The claim asks for the power of 0.8 that `detection` asks for. Replicas differ in start and batches, so each counts as one
independent run, whatever its seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, choice, several
from thermolab.instruments.curvature import LargestCurvature
from thermolab.instruments.transitions import rates
from thermolab.phenomena.cooling import classifiers, plateau
from thermolab.phenomena.cooling.classifiers import Difficulty
from thermolab.phenomena.cooling.detection import BURN_IN, DECAY, ETA, POWER, STEPS, WIDTH
from thermolab.phenomena.cooling.plateau import BATCH, bound, deviation

ARMS = (*plateau.ARMS, "drop", "steady")


@recipe("curvature", dims=("arm", "seed", "replica", "point"), over={"arms": "arm"})
def curvature(
    ratio: Positive = 0.5,
    *,
    arms: Annotated[Sequence[str], several(choice(*ARMS))] = ARMS,
    replicas: Count = 2,
    points: Count = 12,
    baseline: Count = 4,
    samples: Count = 256,
    difficulty: Difficulty = "mid",
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """λ_max of the Hessian along the escape from the plateau, and across a drop of η in the stationary state.

    ratio: η drops to `ratio` η after the first `baseline` of the points, which are two windows apart; samples: the Hessian is
    that of the loss on the first so many images. replicas: per seed.

    Returns a Dataset, dims (arm, seed, replica, point), arm "escape", "redrawn" (its null), "drop", "steady" (its null):
    lambda_max, U (mean since the point before). Attribute baseline, in points.
    Raises ValueError for settings that are out of range. Source: document 0, section 5.
    """
    if points < baseline + 2:
        raise ValueError(f"points={points} are too few; allowed: baseline + 2 = {baseline + 2} or more")
    arm = arms[0]
    streams = np.arange(replicas) + replicas * (arm in ("redrawn", "steady"))  # null runs are others than those they judge
    more = {"batch_size": BATCH, "seed": seed, "device": device, "gauges": {"curvature": LargestCurvature(samples, 1e-2)}}
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
    data = {k: (("arm", "point", "replica"), [[f.gauges[k] for f in frames]]) for k in ("lambda_max", "U")}
    return xr.Dataset(data, {"arm": list(arms)}, {"baseline": baseline})


@decides("cooling.fisher-flags", reads=["ratio", "replicas", "points", "baseline", "samples"])
def fisher_flags(curvature: xr.Dataset) -> Decision:
    """Share of the runs whose λ_max leaves the band of its null runs; control: at a drop of η."""
    # Lanczos bounds the eigenvalue from below, so it may come out negative
    log = np.log(np.maximum(curvature["lambda_max"], 1e-12)).stack(run=("seed", "replica")).transpose("arm", "run", "point")

    def flagged(arm: str, null: str) -> Estimate:
        calm, other = (deviation(log.sel(arm=a).values, curvature.attrs["baseline"]) for a in (null, arm))
        # the change may act from the first point on, which `rates` counts as before it: one point without alarm goes ahead
        power = rates(calm, np.pad(other, ((0, 0), (1, 0))), bound(calm), 1).power
        return Estimate(power.value, power.standard_error, curvature.sizes["seed"])

    right, wrong = flagged("escape", "redrawn"), flagged("drop", "steady")
    return with_control(right, wrong, 0.0, "a drop of η, no signal", predicted=POWER, relation="above")
