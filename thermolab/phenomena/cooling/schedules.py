"""Schedules of learning rate and batch size side by side.

Document 0 (section 5, eq. 3) takes η for the temperature and cools by η_k = η₀/(1 + α log(1 + k)), "k the epoch/step", or by a
growing batch. To first order in η a step has the drift −η ∇U and noise of covariance η² C/B: in the time t = Σ η that is SGD at
a temperature ∝ η/B, whatever η and B are one by one (arXiv:1711.00489).

Time is counted in epochs, examples seen over N, so that runs whose batches grow compare. A seed's number is the mean over
`copies` of the net, each with its own start and batches; the copies of a seed start alike in all arms.
Limit of validity: η well below 2/λ_max; beyond, here from η = 0.2 on, U and S depend on η itself.

Tolerances stand here once and do not move with the data. "Lower" has none: a schedule ends lower or it does not. Decay of η and
growth of B may differ by a tenth of what cooling does, the difference to a run without it, in U and in S alike. Of the logarithm
the source leaves open α and whether k counts epochs or steps: `log_schedule` takes the α of the other schedules, which is 1, and
epochs, which the source names first; `log_schedule_best` grants it the best of all α and both readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, extreme, few_seeds, with_control
from thermolab.engine import schedules as plans
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive, choice, integer, not_negative, several
from thermolab.instruments.spread import along_path
from thermolab.phenomena.cooling import classifiers
from thermolab.phenomena.cooling.classifiers import BatchSize, Difficulty, Share

SNAPSHOTS = 16  # of a window of S
SPACING = classifiers.N_TRAIN // SNAPSHOTS  # examples between them, in a window of one epoch
FACTOR, DROPS = 0.5, 2  # "decay" halves η after a third of the epochs, and again after two
READ = ("U", "U_val", "accuracy", "S")  # what is read of each replica
ARMS = ("constant", "log in epochs", "log in steps", "reversed", "cosine", "decay", "growth")
READINGS = ("epochs", "steps")  # what k counts
ENDINGS = ("constant", "cosine", "reversed")  # beside the logarithms

GROWTH = 0.1  # share of what cooling changes


@dataclass(frozen=True)
class Task:
    """The perceptron that a schedule cools. eta: η₀; lam: λ; batch_size: B₀; the rest: of its images."""

    eta: Positive = 0.2
    lam: NotNegative = 1e-2
    batch_size: BatchSize = 16
    epochs: Annotated[int, integer(DROPS + 1)] = 30
    difficulty: Difficulty = "mid"
    label_noise: Share = 0.1


def programmes(eta: float, alpha: float, epochs: int, batch_size: int) -> dict[str, tuple[plans.Events, int]]:
    """Events and number of steps of each schedule. All begin at η but "reversed", the rates of "log in epochs" last first.

    "growth" raises B where "decay" lowers η, by the same factor; "constant" leaves both as they are.
    """
    epoch = classifiers.N_TRAIN // batch_size
    steps = epochs * epoch
    log = plans.logarithmic(eta, alpha, steps, epoch=epoch)
    decay = plans.step_decay(eta, FACTOR, [epochs * i // (DROPS + 1) * epoch for i in range(1, DROPS + 1)])
    rates = {
        "constant": plans.constant(eta),
        "log in epochs": log,
        "log in steps": plans.logarithmic(eta, alpha, steps),
        "reversed": plans.reversed_order(log, steps),
        "cosine": plans.cosine(eta, steps, every=epoch),
        "decay": decay,
    }
    found = {name: (events, steps) for name, events in rates.items()}
    found["growth"] = plans.batch_growth(decay, steps, batch_size)
    return {name: ([[0, {"batch_size": batch_size} | e[0][1]], *e[1:]], n) for name, (e, n) in found.items()}


@recipe("schedules", shared=["eta", "batch_size", "steps"], dims=("arm", "time", "seed"), over={"arms": "arm"})
def schedules(
    task: Task,
    *,
    arms: Annotated[Sequence[str], several(choice(*ARMS))] = ARMS,
    alpha: NotNegative = 1.0,
    copies: Count = 4,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The perceptron under each of the schedules of `programmes`, from the same starts, for the same number of epochs.

    task: see `Task`, with B₀ up to 16, which growth makes four times as much; alpha: α; copies: nets whose mean is the number
    of a seed.

    Returns a Dataset, dims (arm, time, seed), time in epochs: U (loss of the training batches, mean over the epoch), U_val and
    accuracy (on images never trained on, at the end of the epoch), S (`spread.along_path` over the epoch, 16 snapshots, nats
    per weight); dims (arm, time): eta and batch_size in force at the end of the epoch, steps taken by then.
    Raises ValueError for settings that are out of range. Source: document 0, section 5.
    """
    if task.batch_size > SPACING * FACTOR**DROPS:
        raise ValueError(
            f"batch_size={task.batch_size} cannot grow; allowed: a power of two from 1 to {SPACING * FACTOR**DROPS:g}"
        )
    events, steps = programmes(task.eta, alpha, task.epochs, task.batch_size)[arms[0]]
    at, (run, held_out) = clock(events, steps, task.epochs), _begin(task, events, copies, seed, device)
    rows = windows(run, events[1:], at.tolist(), steps, held_out)
    data = {k: (("arm", "time"), [[row[k].mean() for row in rows]]) for k in READ}
    ends = at[SNAPSHOTS - 1 :: SNAPSHOTS]
    data |= {k: (("arm", "time"), [plans.values(events, steps, k)[ends - 1]]) for k in ("eta", "batch_size")}
    data["steps"] = (("arm", "time"), [ends])
    return xr.Dataset(data, {"arm": list(arms), "time": np.arange(1, task.epochs + 1)})


def clock(events, steps: int, epochs: int) -> np.ndarray:
    """The steps at which snapshots are due, equally many examples apart."""
    examples = np.cumsum(plans.values(events, steps, "batch_size"))
    return np.searchsorted(examples, SPACING * np.arange(1, SNAPSHOTS * epochs + 1)) + 1


def _begin(task: Task, events, copies: int, seed: int, device: str):
    """The run with its first event, and the images held out."""
    return begin(task.difficulty, task.label_noise, lam=task.lam, replicas=copies, seed=seed, device=device, **events[0][1])


def begin(difficulty: str, label_noise: float, **settings):
    """A run of the perceptron, and the images held out; settings: of `Experiment`."""
    net = classifiers.system(difficulty=difficulty, label_noise=label_noise)
    return Experiment(net, **settings), classifiers.images(difficulty, label_noise)[1]


def windows(run: Experiment, events, at, until: int, held_out) -> list[dict]:
    """READ [replica] for each 16 of the steps `at`, while the events turn the knobs."""
    rows, path, energy = [], [], []
    for frame in run.drive(events, at, until):
        path.append(run.state.weights)
        energy.append(frame.observables["U"])
        if len(path) == SNAPSHOTS:
            loss, right = classifiers.evaluate(run.system.replicas, run.state.weights, held_out)
            # one replica after the other: their paths together would not fit into the cache
            spread = np.array([along_path(torch.stack([w[i] for w in path])).value for i in range(run.n_replicas)])
            rows.append({"U": np.mean(energy, 0), "U_val": loss, "accuracy": right, "S": spread})
            path, energy = [], []
    return rows


# --- ends ---------------------------------------------------------------------------------------------------------------
@recipe("ends of logarithms", dims=("reading", "alpha", "seed"), over={"readings": "reading", "alphas": "alpha"})
def logarithms(
    alphas: Annotated[Sequence[float], several(not_negative())] = (0.1, 0.3, 1.0, 3.0, 10.0),
    *,
    task: Task,
    readings: Annotated[Sequence[str], several(choice(*READINGS))] = READINGS,
    copies: Count = 8,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Final validation loss under logarithmic schedules of several α, k in epochs and in steps: the source gives neither.

    Final: the mean over the last epoch, at 16 moments of it, for at constant η the loss jumps by more from step to step than two
    schedules differ. The other settings are those of `schedules`, of which this has more copies and no traces.

    Returns a Dataset, dims (reading, alpha, seed): U_val.
    Raises ValueError for settings that are out of range. Source: document 0, eq. 3.
    """
    programme = programmes(task.eta, alphas[0], task.epochs, task.batch_size)[f"log in {readings[0]}"]
    data = {"U_val": (("reading", "alpha"), [[_ending(task, *programme, copies, seed, device)]])}
    return xr.Dataset(data, {"reading": list(readings), "alpha": list(alphas)})


@recipe("ends of schedules", dims=("arm", "seed"), over={"arms": "arm"})
def endings(
    task: Task,
    *,
    arms: Annotated[Sequence[str], several(choice(*ARMS[:-1]))] = ENDINGS,
    alpha: NotNegative = 1.0,
    copies: Count = 8,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Final validation loss under schedules to which `logarithms` are compared, from the same starts. alpha: α of "reversed".

    Returns a Dataset, dims (arm, seed): U_val. Attribute alpha.
    Raises ValueError for settings that are out of range. Source: document 0, eq. 3.
    """
    programme = programmes(task.eta, alpha, task.epochs, task.batch_size)[arms[0]]
    data = {"U_val": ("arm", [_ending(task, *programme, copies, seed, device)])}
    return xr.Dataset(data, {"arm": list(arms)}, {"alpha": alpha})


def _ending(task: Task, events, steps: int, copies: int, seed: int, device: str) -> float:
    """Validation loss, mean over the copies and over the last epoch."""
    run, held_out = _begin(task, events, copies, seed, device)
    at, net = steps - SPACING // task.batch_size * np.arange(SNAPSHOTS)[::-1], run.system.replicas
    return float(np.mean([classifiers.evaluate(net, run.state.weights, held_out)[0] for _ in run.drive(events[1:], at, steps)]))


# --- claims -------------------------------------------------------------------------------------------------------------
@decides("cooling.log-schedule", reads=["epochs", "label_noise"])
def log_schedule(logarithms: xr.Dataset, endings: xr.Dataset) -> Decision:
    """Final validation loss with the logarithm, k in epochs, minus that at constant η."""
    log = logarithms["U_val"].sel(reading="epochs", alpha=endings.attrs["alpha"])
    reverse, constant = (endings["U_val"].sel(arm=arm) for arm in ("reversed", "constant"))
    right, wrong = (few_seeds(ends - constant) for ends in (log, reverse))
    return with_control(right, wrong, 0.0, "the same learning rates in reverse order", relation="below")


@decides("cooling.log-schedule-best", reads=["alphas", "epochs", "label_noise"])
def log_schedule_best(logarithms: xr.Dataset, endings: xr.Dataset) -> Decision:
    """Final validation loss with the best of the logarithms, over α and both readings of k, minus that with the cosine.

    The best is chosen by the mean over the seeds, on the same runs, which favours the claim.
    """
    flat = logarithms["U_val"].stack(schedule=("reading", "alpha"))
    best = flat.isel(schedule=int(np.argmin(flat.mean("seed").values)))
    cosine, constant = (few_seeds(best.values - endings["U_val"].sel(arm=arm).values) for arm in ("cosine", "constant"))
    return with_control(cosine, constant, 0.0, "the comparison with constant η", relation="below")


@decides("cooling.decay-is-growth", reads=["epochs", "label_noise"])
def decay_is_growth(schedules: xr.Dataset) -> Decision:
    """Largest difference of U or S between growth of B and decay of η, over what the decay changes, once cooling has begun.

    Compared are means over each stage of the cooling.
    """
    rates = schedules["eta"].sel(arm="decay").values
    # without the highest rate: until it is lowered the three runs are one
    late = [schedules[["U", "S"]].isel(time=rates == rate).mean("time") for rate in np.unique(rates)[:-1]]
    stages = xr.concat(late, "stage").to_array()
    effect = stages.sel(arm="constant").mean("seed") - stages.sel(arm="decay").mean("seed")

    def off(arm: str):
        return extreme(((stages.sel(arm=arm) - stages.sel(arm="decay")) / effect).transpose("seed", ...).values)

    return with_control(off("growth"), off("constant"), GROWTH, "η and B both left as they are")
