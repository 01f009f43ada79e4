"""The escape from a loss plateau, on which S moves first, because it is a logarithm.

The plateau comes from starting a perceptron of three layers at 0.04 times its usual scale: the gradient of a layer is
proportional to the product of the other two, so all weights must grow exponentially before the logits, and with them the
loss, move at all. S, the mean log-variance of the weights along the trajectory (`instruments.spread.along_path`), follows
that growth as a logarithm does, while U follows its end. No barrier is crossed and nothing is thermally activated: an
escape takes about the same Σ η under any schedule.
Like is compared with like if the loss is read as a logarithm too, of its distance log K − U from the plateau, down to where U
scatters while nothing is learnt: what both then follow is the growth of the weights (`away`).
Limit of validity: a date is that of the steepest change within the record, which must hold the escape and little after it. As an
alarm S has no lead either: it drifts by nats even if nothing can be learnt, while U hardly scatters, so both leave the band of
such runs in about the same window (`exits`).
Source: document 0, sections 4 and 5.

MISSING, the tolerance of the claim, stands here once and does not move with the data: a date counts as earlier if it is so by a
window or more, and it must in nine runs of ten; by chance it is in about half of them. Replicas differ in start and batches, so
each counts as one independent run, whatever its seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, share, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, choice, integer, several
from thermolab.instruments.spread import along_path
from thermolab.instruments.transitions import first_alarm, steepest, threshold
from thermolab.phenomena.cooling import classifiers
from thermolab.phenomena.cooling.classifiers import Difficulty
from thermolab.systems.data import Dataset

WIDTH, ETA, BATCH = 32, 0.2, 16  # at λ = 0
CLASSES = 10  # K
STEPS, SNAPSHOTS = 16, 8  # of a window
EPOCH = classifiers.N_TRAIN // (BATCH * STEPS)  # in windows: the lag over which S and U are said to change
TINY = 0.04  # scale of the start, in units of the usual one
ARMS = ("escape", "redrawn")
RATE = 0.05  # false alarms per run for which levels are calibrated, or as few as so many null runs can bound
MISSING = 0.1

Windows = Annotated[int, integer(EPOCH + 1)]


@recipe("plateau", dims=("arm", "seed", "replica", "window"), over={"arms": "arm"})
def plateau(
    *,
    arms: Annotated[Sequence[str], several(choice(*ARMS))] = ARMS,
    replicas: Count = 16,
    windows: Windows = 32,
    scale: Positive = TINY,
    difficulty: Difficulty = "mid",
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Training from a tiny start, which stays at U ≈ log 10 and escapes, and on labels redrawn at each batch, which never does.

    windows: of 16 steps, a quarter of an epoch, that end soon after the escape: later on S falls as the images are learnt by
    heart. scale: of the start. replicas: per seed.

    Returns a Dataset, dims (arm, seed, replica, window), arm "escape" or "redrawn": S in nats per parameter, U (mean over the
    window), U_validation at its end; without window: S_date, U_date, the middle of the epoch over which S or U changes most,
    in windows.
    Raises ValueError for settings that are out of range. Source: document 0, sections 4 and 5.
    """
    redrawn, rows = arms[0] == "redrawn", []
    streams = np.arange(replicas) + replicas * redrawn  # null runs are others than those they judge
    run = begin(scale, streams, difficulty, redrawn=redrawn, seed=seed, device=device)
    for _ in range(windows):
        row = {"S": window(run), "U": run.frame().observables["U"]}
        held_out = classifiers.evaluate(run.system.replicas, run.state.weights, classifiers.images(difficulty)[1])[0]
        rows.append(row | {"U_validation": held_out})
    series = {name: np.stack([row[name] for row in rows], -1) for name in rows[0]}
    data = {name: (("arm", "replica", "window"), v[None]) for name, v in series.items()}
    data |= {f"{name}_date": (("arm", "replica"), steepest(series[name], lag=EPOCH)[None] + 1) for name in "SU"}
    return xr.Dataset(data, {"arm": list(arms), "window": np.arange(1, windows + 1)})


def begin(scale: float, streams, difficulty: str, *, seed: int, redrawn: bool = False, **more) -> Experiment:
    """The perceptron of the plateau at its start, one replica for each stream; more: of `Experiment`."""
    net = classifiers.system("mlp", width=WIDTH, difficulty=difficulty)
    if redrawn:
        net.use(any_label(net.data))
    weights = net.start(torch.as_tensor(streams), seed) * scale
    return Experiment(net, eta=ETA, seed=seed, streams=streams, weights=weights, **{"batch_size": BATCH, **more})


def exits(found: xr.Dataset, name: str) -> xr.DataArray:
    """The first window (seed, replica) of an escape in which S or U (`name`) leaves the band of the runs on redrawn labels.

    found: a dataset of `plateau`. The band is about the mean over the first epoch, at 0.05 false alarms per run; NaN: never left.
    """
    calm, other = (deviation(found[name].sel(arm=arm).values, EPOCH) for arm in ("redrawn", "escape"))
    alarm = first_alarm(other.reshape(-1, other.shape[-1]), bound(calm.reshape(-1, calm.shape[-1])))
    alarm = alarm.reshape(other.shape[:-1])
    return xr.DataArray(np.where(alarm < 0, np.nan, alarm + EPOCH + 1), dims=("seed", "replica"))


def deviation(series: np.ndarray, baseline: int) -> np.ndarray:
    """|v − its mean over the first `baseline` samples| of [..., T], from the end of these on."""
    return np.abs(series - series[..., :baseline].mean(-1, keepdims=True))[..., baseline:]


def bound(null: np.ndarray) -> float:
    """The level that a null run [runs, T] exceeds with probability 0.05 at the most, or the least that so few runs can bound."""
    return threshold(null, max(RATE, 1 / (len(null) + 1)))


def any_label(data: Dataset) -> Dataset:
    """Every image once with every label, so that a draw is an image with a label drawn anew; the data as they are come first."""
    k = data.n_classes
    return Dataset(data.x.repeat(k, 1), torch.cat([(data.y + i) % k for i in range(k)]), k)


def window(run: Experiment, steps: int = STEPS, snapshots: int = SNAPSHOTS, which=slice(None)) -> np.ndarray:
    """Take `steps` steps and return S of the window [R], of the replicas `which`; snapshots divides steps."""
    path = []
    for _ in range(snapshots):
        run.advance(steps // snapshots)
        path.append(run.state.weights[which])
    return np.array([along_path(one).value for one in torch.stack(path, 1)])  # one by one: a path fits the cache


@decides("cooling.plateau", reads=["windows", "scale", "replicas"])
def earlier(plateau: xr.Dataset) -> Decision:
    """Share of the escapes in which S changes most at least one window before log(log K − U) does; control: before U does."""

    def early(logarithm: bool):
        lead = dates(plateau, logarithm) - plateau["S_date"].sel(arm="escape")
        return share(lead >= 1)._replace(n=plateau.sizes["seed"])

    return with_control(early(True), early(False), MISSING, "U as it is, without its logarithm", predicted=1.0)


def dates(found: xr.Dataset, logarithm: bool) -> xr.DataArray:
    """Windows (seed, replica) in which the loss of the escapes changes most, as it is or as its distance `away`."""
    loss = away(found) if logarithm else found["U"]
    escape = loss.sel(arm="escape").transpose("seed", "replica", "window")
    return xr.DataArray(steepest(escape.values, lag=EPOCH) + 1, dims=("seed", "replica"))


def away(found: xr.Dataset) -> xr.DataArray:
    """log(log K − U) of the windows of a dataset of `plateau`, its distance from the plateau.

    A distance below the scatter of U over the runs on redrawn labels counts as that.
    """
    return np.log(np.maximum(math.log(CLASSES) - found["U"], float(found["U"].sel(arm="redrawn").std())))
