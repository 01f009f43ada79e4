"""The escape from a loss plateau, on which S moves first, and a schedule of η that waits for it.

The plateau comes from starting a perceptron of three layers at 0.04 times its usual scale: the gradient of a layer is
proportional to the product of the other two, so all weights must grow exponentially before the logits, and with them the
loss, move at all. S, the mean log-variance of the weights along the trajectory (`instruments.spread.along_path`), follows
that growth as a logarithm does, while U follows its end. No barrier is crossed and nothing is thermally activated: an
escape takes about the same Σ η under any schedule, and one that cools meanwhile merely loses time.
Limit of validity: a date is that of the steepest change within the record, which must hold the escape and little after it. S
leads by that measure because it is a logarithm. As an alarm it has no lead: S drifts by nats even if nothing can be learnt, while
U hardly scatters, so both leave the band of such runs in about the same window (S_exit, U_exit), and CUSUM alarms first on U.
Source: document 0, sections 4 and 5.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments.spread import along_path
from thermolab.instruments.transitions import first_alarm, steepest, threshold
from thermolab.phenomena.common import validate
from thermolab.phenomena.cooling import setting
from thermolab.systems.data import Dataset

WIDTH, ETA, BATCH = 32, 0.2, 16  # at λ = 0
STEPS, SNAPSHOTS = 16, 8  # of a window
EPOCH = setting.N_TRAIN // (BATCH * STEPS)  # in windows: the lag over which S and U are said to change
TINY = 0.04  # scale of the start, in units of the usual one
ARMS = ("escape", "redrawn")
SCHEDULES = ("cosine", "constant", "adaptive")
TASKS = {"delayed": TINY, "direct": 1.0}
MARGIN = 1.0  # nats by which S must exceed all null runs: starts scatter by 0.3, an escape raises S by 10
RATE = 0.05  # false alarms per run for which levels are calibrated, or as few as so many null runs can bound


# --- the escape ---------------------------------------------------------------------------------------------------------
@Recipe
def plateau(
    *,
    replicas: int = 16,
    windows: int = 32,
    scale: float = TINY,
    difficulty: str = "mid",
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Training from a tiny start, which stays at U ≈ log 10 and escapes, and on labels redrawn at each batch, which never does.

    windows: of 16 steps, a quarter of an epoch, that end soon after the escape: later on S falls as the images are learnt by
    heart. scale: of the start. replicas: per seed.

    Returns a Dataset, dims (arm, seed, replica, window), arm "escape" or "redrawn": S in nats per parameter, U (mean over the
    window), U_validation at its end; without window: S_date, U_date, the middle of the epoch over which S or U changes most,
    in windows; dims (seed, replica): S_exit, U_exit, the first window of an escape in which S or U is further from its mean over
    the first epoch than those of the runs on redrawn labels ever are (at 0.05 false alarms per run), NaN if none is.
    Raises ValueError for settings that are out of range. Source: document 0, sections 4 and 5.
    """
    settings = _checked(replicas, windows, scale, difficulty, n_seeds, device)
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_plateau, [settings | {"arm": arm, "seed": s} for arm in ARMS for s in numbers], "plateau")
    dims = ("arm", "seed", "replica", "window")
    out = stacked(parts, dims, {"arm": list(ARMS), "seed": numbers, "window": np.arange(1, windows + 1)})
    dates = {f"{name}_date": (dims[:-1], steepest(out[name].values, lag=EPOCH) + 1) for name in "SU"}
    return out.assign(dates | {f"{name}_exit": (dims[1:3], _exit(*out[name].values)) for name in "SU"})


def _plateau(*, arm, replicas, windows, scale, difficulty, seed, device) -> dict[str, np.ndarray]:
    """S, U and U_validation [replica, window]."""
    redrawn, rows = arm == "redrawn", []
    streams = np.arange(replicas) + replicas * redrawn  # null runs are others than those they judge
    run = begin(scale, streams, difficulty, redrawn=redrawn, seed=seed, device=device)
    for _ in range(windows):
        row = {"S": window(run), "U": run.frame().gauges["U"]}
        held_out = setting.evaluate(run.system.replicas, run.state.weights, setting.images(difficulty)[1])[0]
        rows.append(row | {"U_validation": held_out})
    return {name: np.stack([row[name] for row in rows], -1) for name in rows[0]}


def begin(scale: float, streams, difficulty: str, *, seed: int, redrawn: bool = False, **more) -> Experiment:
    """The perceptron of the plateau at its start, one replica for each stream; more: of `Experiment`."""
    net = setting.system("mlp", width=WIDTH, difficulty=difficulty)
    if redrawn:
        net.data = any_label(net.data)
    weights = net.start(torch.as_tensor(streams), seed) * scale
    return Experiment(net, eta=ETA, seed=seed, streams=streams, weights=weights, **{"batch_size": BATCH, **more})


def _exit(series: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Number of the window [seed, replica] in which a series leaves the band of its null runs."""
    calm, other = (deviation(v, EPOCH).reshape(-1, v.shape[-1] - EPOCH) for v in (null, series))
    alarm = first_alarm(other, bound(calm)).reshape(series.shape[:-1])
    return np.where(alarm < 0, np.nan, alarm + EPOCH + 1)


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


# --- schedules ----------------------------------------------------------------------------------------------------------
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

    "cosine" cools from the first window on, "constant" never, "adaptive" once `passed` says that S has made its transition,
    along a cosine over the rest. windows: of 16 steps each. The gain is time, for an escape takes about the same Σ η.

    Returns a Dataset, dims (task, schedule, seed, replica), task "delayed" or "direct": U_validation at the end, begin: the
    window before which cooling began, travelled: Σ η up to the window in which U first was below log(10)/2, NaN if none was.
    Attribute level: a nat above the largest S of as many runs on redrawn labels; above it there is no plateau.
    Raises ValueError for settings that are out of range. Source: document 0, section 5.
    """
    settings, numbers = _checked(replicas, windows, TINY, difficulty, n_seeds, device), seeds(seed, n_seeds)
    null = yield Jobs(_plateau, [settings | {"arm": "redrawn", "seed": s} for s in numbers], "null runs")
    level = float(max(part["S"].max() for part in null)) + MARGIN
    jobs = [settings | {"scale": scale, "level": level, "seed": s} for scale in TASKS.values() for s in numbers]
    parts = yield Jobs(_schedules, jobs, "schedules")
    out = stacked(parts, ("task", "seed", "schedule", "replica"),
                   {"task": list(TASKS), "seed": numbers, "schedule": list(SCHEDULES)})  # fmt: skip
    return out.transpose("task", "schedule", "seed", "replica").assign_attrs(level=level)


def _schedules(*, replicas, windows, scale, level, difficulty, seed, device) -> dict[str, np.ndarray]:
    """Values [schedule, replica]; a replica has the same start and batches under each of the schedules."""
    run = begin(scale, np.tile(np.arange(replicas), 3), difficulty, seed=seed, device=device)
    starts, last = np.repeat([0, windows, windows], replicas), slice(2 * replicas, None)
    rates, energy, entropy = [], [], []
    for w in range(windows):
        rates.append(ETA * cosine_after(starts, w, windows))
        run.set(eta=rates[-1])
        entropy.append(window(run, which=last))
        energy.append(run.frame().gauges["U"])
        begins = (starts[last] == windows) & passed(np.stack(entropy, -1), level)
        starts[last] = np.where(begins, w + 1, starts[last])
    low, travelled = np.stack(energy) < np.log(10) / 2, STEPS * np.cumsum(rates, 0)
    escape = np.where(low.any(0), travelled[low.argmax(0), np.arange(3 * replicas)], np.nan)
    loss = setting.evaluate(run.system.replicas, run.state.weights, setting.images(difficulty)[1])[0]
    found = {"U_validation": loss, "begin": starts.astype(float), "travelled": escape}
    return {name: value.reshape(3, replicas) for name, value in found.items()}


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


# --- settings -----------------------------------------------------------------------------------------------------------
def _checked(replicas, windows, scale, difficulty, n_seeds, device) -> dict:
    """The settings that `plateau` and `adaptive` share."""
    validate.counts(1, replicas=replicas, n_seeds=n_seeds)
    validate.counts(EPOCH + 1, windows=windows)
    if not 0 < scale < np.inf:
        raise ValueError(f"scale={scale} is not allowed; allowed: positive, {TINY} for a plateau")
    return {"replicas": replicas, "windows": windows, "scale": scale, "difficulty": difficulty, "device": str(device)}


def stacked(parts, dims, coords) -> xr.Dataset:
    """The dictionaries of arrays of all jobs, which run over the first two dims, in one Dataset."""
    shape = (len(coords[dims[0]]), len(coords[dims[1]]))
    return xr.Dataset(
        {k: (dims, np.stack([p[k] for p in parts]).reshape(*shape, *parts[0][k].shape)) for k in parts[0]}, coords=coords
    )
