"""A schedule of η that waits for the escape from a plateau, against one that cools from the start.

An escape takes about the same Σ η under any schedule (`plateau`), so one that cools meanwhile merely loses time.
Limit of validity: what tells that a plateau lies behind is calibrated on runs that cannot leave it.
Source: document 0, section 5.

TIE, the tolerance of the claim, stands here once and does not move with the data: schedules that end within 5 % of each other's
loss tie; the loss of a single run scatters by twice that. Replicas differ in start and batches, so each counts as one
independent run, whatever its seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import xarray as xr

from thermolab.claims import Decision, decides, replicas, with_control
from thermolab.engine.recipe import Recipe, recipe
from thermolab.engine.rules import Count, choice, several
from thermolab.phenomena.cooling import classifiers
from thermolab.phenomena.cooling.classifiers import Difficulty
from thermolab.phenomena.cooling.plateau import EPOCH, ETA, STEPS, TINY, Windows, begin, plateau, window

SCHEDULES = ("cosine", "constant", "adaptive")
TASKS = {"delayed": TINY, "direct": 1.0}  # scale of the start
MARGIN = 1.0  # nats by which S must exceed all null runs: starts scatter by 0.3, an escape raises S by 10
TIE = 0.05


@Recipe
def adaptive(
    *,
    replicas: int = 8,
    windows: int = 40,
    difficulty: str = "mid",
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Three schedules of η on two tasks: training from a tiny start, which begins with a plateau, and from the usual one.

    First the runs on redrawn labels, the largest S of which is that of a plateau; then `three_schedules`, to which the settings
    belong. The gain is time, for an escape takes about the same Σ η.

    Returns the Dataset of `three_schedules`. Attribute level: a nat above the largest S of as many runs on redrawn labels; above
    it there is no plateau.
    Raises ValueError for settings that are out of range. Source: document 0, section 5.
    """
    settings = {"replicas": replicas, "windows": windows, "difficulty": difficulty,
                "seed": seed, "n_seeds": n_seeds, "device": device}  # fmt: skip
    null = yield from plateau.function(arms=("redrawn",), **settings)
    level = float(null["S"].max()) + MARGIN
    found = yield from three_schedules.function(level, **settings)
    return found.assign_attrs(level=level)


@recipe("schedules", dims=("task", "schedule", "seed", "replica"), over={"tasks": "task"})
def three_schedules(
    level: float,
    *,
    tasks: Annotated[Sequence[str], several(choice(*TASKS))] = tuple(TASKS),
    replicas: Count = 8,
    windows: Windows = 40,
    difficulty: Difficulty = "mid",
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """ "cosine" cools from the first window on, "constant" never, "adaptive" once `passed` says that S has made its transition.

    Adaptive cooling goes along a cosine over the rest. windows: of 16 steps each; level: what S stays below on the plateau. A
    replica has the same start and batches under each of the schedules.

    Returns a Dataset, dims (task, schedule, seed, replica), task "delayed" or "direct": U_validation at the end, begin: the
    window before which cooling began, travelled: Σ η up to the window in which U first was below log(10)/2, NaN if none was.
    Raises ValueError for settings that are out of range. Source: document 0, section 5.
    """
    run = begin(TASKS[tasks[0]], np.tile(np.arange(replicas), 3), difficulty, seed=seed, device=device)
    starts, last = np.repeat([0, windows, windows], replicas), slice(2 * replicas, None)
    rates, energy, entropy = [], [], []
    for w in range(windows):
        rates.append(ETA * cosine_after(starts, w, windows))
        run.set(eta=rates[-1])
        entropy.append(window(run, which=last))
        energy.append(run.frame().observables["U"])
        begins = (starts[last] == windows) & passed(np.stack(entropy, -1), level)
        starts[last] = np.where(begins, w + 1, starts[last])
    low, travelled = np.stack(energy) < np.log(10) / 2, STEPS * np.cumsum(rates, 0)
    escape = np.where(low.any(0), travelled[low.argmax(0), np.arange(3 * replicas)], np.nan)
    loss = classifiers.evaluate(run.system.replicas, run.state.weights, classifiers.images(difficulty)[1])[0]
    found = {"U_validation": loss, "begin": starts.astype(float), "travelled": escape}
    values = {name: (("task", "schedule", "replica"), value.reshape(1, 3, replicas)) for name, value in found.items()}
    return xr.Dataset(values, {"task": list(tasks), "schedule": list(SCHEDULES)})


def cosine_after(begin, now: int, end: int) -> np.ndarray:
    """η/η₀ [R] at window `now` of a schedule that holds η₀ up to window `begin` [R] and falls along a cosine to 0 at `end`.

    >>> cosine_after([0, 2, 4], 2, 4)
    array([0.5, 1. , 1. ])
    """
    done = np.maximum(0, now - np.asarray(begin)) / np.maximum(1, end - np.asarray(begin))
    return (1 + np.cos(np.pi * done)) / 2


def passed(entropy: np.ndarray, level: float, lag: int = EPOCH) -> np.ndarray:
    """Whether the transition lies behind [R]: S is above the level of a plateau, and no longer rises half as fast as it did.

    entropy: S [R, t] up to now; level: what S stays below on the plateau; lag: windows over which S rises.
    A run that starts above the level has no transition to wait for, and has passed it at once.
    """
    before = np.concatenate([entropy[:, :1].repeat(min(lag, entropy.shape[1]), 1), entropy[:, :-lag]], 1)
    rise = entropy - before
    return (entropy[:, -1] > level) & (rise[:, -1] <= rise.max(1) / 2)


@decides("cooling.adaptive")
def adaptive_wins(adaptive: xr.Dataset) -> Decision:
    """Log ratio of the final validation losses of the adaptive schedule and of cosine, below −5 %; control: without a plateau."""

    def gain(task: str):
        loss = np.log(adaptive["U_validation"].sel(task=task))
        return replicas(loss.sel(schedule="adaptive") - loss.sel(schedule="cosine"))._replace(n=adaptive.sizes["seed"])

    right, wrong = gain("delayed"), gain("direct")
    return with_control(right, wrong, 0.0, "the usual start, which has no plateau", predicted=-TIE, relation="below")
