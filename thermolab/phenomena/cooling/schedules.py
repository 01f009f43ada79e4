"""Schedules of learning rate and batch size side by side, and what is left of η and B at the same ratio η/B.

Document 0 (section 5, eq. 3) takes η for the temperature and cools by η_k = η₀/(1 + α log(1 + k)), "k the epoch/step", or by a
growing batch. To first order in η a step has the drift −η ∇U and noise of covariance η² C/B: in the time t = Σ η that is SGD at
a temperature ∝ η/B, whatever η and B are one by one (arXiv:1711.00489). At equal η/B, equal numbers of examples take equally
long in t. Weight decay is part of the drift, −η λ w a step: the same λ shrinks the weights equally, nothing has to be adapted.

Time is counted in epochs, examples seen over N, so that runs whose batches grow compare. A seed's number is the mean over
`copies` of the net, each with its own start and batches; the copies of a seed start alike in all arms.
Limit of validity: η well below 2/λ_max; beyond, here from η = 0.2 on, U and S depend on η itself.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import xarray as xr

from thermolab.engine import schedules as plans
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments.spread import along_path
from thermolab.phenomena.common import validate
from thermolab.phenomena.cooling import setting

SNAPSHOTS = 16  # of a window of S
SPACING = setting.N_TRAIN // SNAPSHOTS  # examples between them, in a window of one epoch
FACTOR, DROPS = 0.5, 2  # "decay" halves η after a third of the epochs, and again after two
READINGS = ("epochs", "steps")  # what k counts
READ = ("U", "U_val", "accuracy", "S")  # what is read of each replica


def arms(eta: float, alpha: float, epochs: int, batch_size: int) -> dict[str, tuple[plans.Events, int]]:
    """Events and number of steps of each schedule. All begin at η but "reversed", the rates of "log in epochs" last first.

    "growth" raises B where "decay" lowers η, by the same factor; "constant" leaves both as they are.
    """
    epoch = setting.N_TRAIN // batch_size
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
    programmes = {name: (events, steps) for name, events in rates.items()}
    programmes["growth"] = plans.batch_growth(decay, steps, batch_size)
    return {name: ([[0, {"batch_size": batch_size} | e[0][1]], *e[1:]], n) for name, (e, n) in programmes.items()}


@Recipe
def schedules(
    *,
    eta: float = 0.2,
    lam: float = 1e-2,
    batch_size: int = 16,
    alpha: float = 1.0,
    epochs: int = 30,
    difficulty: str = "mid",
    label_noise: float = 0.1,
    copies: int = 4,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """The perceptron under each of the schedules of `arms`, from the same starts, for the same number of epochs.

    eta: η₀; lam: λ; batch_size: B₀, a power of two up to 16; alpha: α; copies: nets whose mean is the number of a seed.

    Returns a Dataset, dims (arm, time, seed), time in epochs: U (loss of the training batches, mean over the epoch), U_val and
    accuracy (on images never trained on, at the end of the epoch), S (`spread.along_path` over the epoch, 16 snapshots, nats
    per weight); dims (arm, time): eta and batch_size in force at the end of the epoch, steps taken by then.
    Raises ValueError for settings that are out of range. Source: document 0, section 5.
    """
    _check(batch_size=batch_size, most=int(SPACING * FACTOR**DROPS), epochs=epochs, copies=copies, n_seeds=n_seeds)
    common = {"lam": lam, "difficulty": difficulty, "label_noise": label_noise, "copies": copies, "device": device}
    programmes, numbers = arms(eta, alpha, epochs, batch_size), seeds(seed, n_seeds)
    clocks = [_clock(*programme, epochs) for programme in programmes.values()]
    jobs = [
        common | {"events": events, "steps": steps, "at": at.tolist(), "seed": s}
        for (events, steps), at in zip(programmes.values(), clocks, strict=True)
        for s in numbers
    ]
    parts = yield Jobs(_trace, jobs, "schedules")
    shape = (len(programmes), n_seeds, epochs)
    data = {k: (("arm", "time", "seed"), np.reshape([p[k] for p in parts], shape).swapaxes(1, 2)) for k in READ}
    ends = [at[SNAPSHOTS - 1 :: SNAPSHOTS] for at in clocks]
    for k in ("eta", "batch_size"):
        now = [plans.values(*programme, k)[end - 1] for programme, end in zip(programmes.values(), ends, strict=True)]
        data[k] = (("arm", "time"), np.array(now))
    data["steps"] = (("arm", "time"), np.array(ends))
    return xr.Dataset(data, {"arm": list(programmes), "time": np.arange(1, epochs + 1), "seed": numbers})


def _clock(events, steps: int, epochs: int) -> np.ndarray:
    """The steps at which snapshots are due, equally many examples apart."""
    examples = np.cumsum(plans.values(events, steps, "batch_size"))
    return np.searchsorted(examples, SPACING * np.arange(1, SNAPSHOTS * epochs + 1)) + 1


def _trace(*, events, steps, at, **settings) -> dict[str, np.ndarray]:
    run, held_out = _begin(**events[0][1], **settings)
    rows = _windows(run, events[1:], at, steps, held_out)
    return {k: np.array([row[k].mean() for row in rows]) for k in READ}


@Recipe
def endings(
    alphas=(0.1, 0.3, 1.0, 3.0, 10.0),
    *,
    eta: float = 0.2,
    lam: float = 1e-2,
    batch_size: int = 16,
    alpha: float = 1.0,
    epochs: int = 30,
    difficulty: str = "mid",
    label_noise: float = 0.1,
    copies: int = 8,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Final validation loss under logarithmic schedules of several α, k in epochs and in steps, and under others beside them.

    The source gives neither α nor the unit of k. Final: the mean over the last epoch, at 16 moments of it, for at constant η
    the loss jumps by more from step to step than two schedules differ. alpha: the α of "reversed", added to alphas.
    The other settings are those of `schedules`, of which this has more copies and no traces.

    Returns a Dataset, dims (reading, alpha, seed): U_val; dims (arm, seed): U_val_arm of "constant", "cosine", "reversed".
    Raises ValueError for settings that are out of range. Source: document 0, eq. 3.
    """
    alphas = sorted({float(alpha), *np.ravel(alphas).tolist()})
    _check(batch_size=batch_size, most=SPACING, epochs=epochs, copies=copies, n_seeds=n_seeds)
    others, by_alpha = ("constant", "cosine", "reversed"), {a: arms(eta, a, epochs, batch_size) for a in alphas}
    programmes = [by_alpha[alpha][arm] for arm in others]
    programmes += [by_alpha[a][f"log in {reading}"] for reading in READINGS for a in alphas]
    common = {"lam": lam, "difficulty": difficulty, "label_noise": label_noise, "copies": copies, "device": device}
    numbers = seeds(seed, n_seeds)
    jobs = [common | {"events": events, "steps": steps, "seed": s} for events, steps in programmes for s in numbers]
    parts = yield Jobs(_ending, jobs, "ends of schedules")
    found = np.reshape(parts, (len(programmes), n_seeds))
    logs = found[len(others) :].reshape(len(READINGS), len(alphas), n_seeds)
    data = {"U_val": (("reading", "alpha", "seed"), logs), "U_val_arm": (("arm", "seed"), found[: len(others)])}
    coords = {"reading": list(READINGS), "alpha": alphas, "arm": list(others), "seed": numbers}
    return xr.Dataset(data, coords, {"alpha": float(alpha)})


def _ending(*, events, steps, **settings) -> float:
    run, held_out = _begin(**events[0][1], **settings)
    at, net = steps - SPACING // events[0][1]["batch_size"] * np.arange(SNAPSHOTS)[::-1], run.system.replicas
    return float(np.mean([setting.evaluate(net, run.state.weights, held_out)[0] for _ in run.drive(events[1:], at, steps)]))


@Recipe
def ratio(
    ratios=(1 / 640, 1 / 320, 1 / 160),
    batch_sizes=(4, 8, 16, 32, 64, 128),
    *,
    lam: float = 3e-2,
    epochs: int = 24,
    average: int = 8,
    largest: float = 0.4,
    difficulty: str = "mid",
    label_noise: float = 0.1,
    copies: int = 5,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """The perceptron late in training at equal ratios η/B and several batch sizes, λ being the same for all (module docstring).

    ratios: η/B; batch_sizes: B, powers of two up to 128; average: epochs at the end of which the numbers are means, a multiple
    of the window of S; largest: η above which a cell is left empty.
    The window of S has 16 snapshots, as many examples apart for every B: an epoch, or more if the largest B needs it.
    Late is not yet stationary where Σ η is small, but the time is the same for every B.

    Returns a Dataset, dims (ratio, batch_size, seed): U, U_val, accuracy and S as in `schedules`, NaN in an empty cell and
    where a run diverged; dims (ratio, batch_size): eta. Raises ValueError for settings that are out of range.
    Source: document 0, section 5 ("η_k/B_k ≈ const."); arXiv:1711.00489.
    """
    ratios, sizes = (np.unique(values) for values in (ratios, batch_sizes))
    if not ratios.size or not sizes.size or not ratios[0] > 0:
        raise ValueError(f"ratios={ratios.tolist()}, batch_sizes={sizes.tolist()}; allowed: one or more, and above 0")
    for b in sizes:
        _check(batch_size=b, most=128, epochs=epochs, copies=copies, n_seeds=n_seeds)
    spacing = max(SPACING, int(sizes[-1]))  # examples between snapshots
    window = spacing // SPACING  # in epochs
    if average % window or not 0 < average <= epochs:
        raise ValueError(f"average={average} is not allowed; allowed: a multiple of {window} up to epochs={epochs}")
    eta = np.outer(ratios, sizes)
    kept = eta <= largest
    if not kept.any(0).all():
        raise ValueError(f"largest={largest} leaves nothing of batch_size={sizes[-1]}; allowed: {eta[0, -1]:.3g} or more")
    common = {"lam": lam, "epochs": epochs, "average": average, "spacing": spacing, "difficulty": difficulty,
              "label_noise": label_noise, "copies": copies, "device": device}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    cells = [(int(b), e[k].tolist()) for b, e, k in zip(sizes, eta.T, kept.T, strict=True)]
    jobs = [common | {"batch_size": b, "rates": rates, "seed": s} for b, rates in cells for s in numbers]
    parts = yield Jobs(_cells, jobs, "ratios of η and B")
    found = {k: np.full((*eta.shape, n_seeds), np.nan) for k in READ}
    for (i, part), k in itertools.product(enumerate(parts), READ):
        column, s = divmod(i, n_seeds)
        found[k][kept[:, column], column, s] = part[k]
    data = {k: (("ratio", "batch_size", "seed"), v) for k, v in found.items()} | {"eta": (("ratio", "batch_size"), eta)}
    return xr.Dataset(data, {"ratio": ratios, "batch_size": sizes, "seed": numbers})


def _cells(*, rates, batch_size, epochs, average, spacing, copies, **settings) -> dict[str, np.ndarray]:
    """Means [rate] over the last epochs."""
    streams = np.tile(np.arange(copies), len(rates))  # the copies of every rate start alike
    run, held_out = _begin(eta=np.repeat(rates, copies), batch_size=batch_size, copies=len(streams), streams=streams, **settings)
    end, every = epochs * setting.N_TRAIN // batch_size, spacing // batch_size
    run.advance(end - average * setting.N_TRAIN // batch_size)
    run.frame()  # U counts from here on
    rows = _windows(run, [], range(run.state.step + every, end + 1, every), end, held_out)
    return {k: np.mean([row[k] for row in rows], 0).reshape(len(rates), copies).mean(1) for k in READ}


def _begin(*, difficulty: str, label_noise: float, copies: int, **settings):
    net = setting.system(difficulty=difficulty, label_noise=label_noise)
    return Experiment(net, replicas=copies, **settings), setting.images(difficulty, label_noise)[1]


def _windows(run: Experiment, events, at, until: int, held_out) -> list[dict]:
    """READ [replica] for each 16 of the steps `at`, while the events turn the knobs."""
    rows, path, energy = [], [], []
    for frame in run.drive(events, at, until):
        path.append(run.state.weights)
        energy.append(frame.gauges["U"])
        if len(path) == SNAPSHOTS:
            loss, right = setting.evaluate(run.system.replicas, run.state.weights, held_out)
            # one replica after the other: their paths together would not fit into the cache
            spread = np.array([along_path(torch.stack([w[i] for w in path])).value for i in range(run.n_replicas)])
            rows.append({"U": np.mean(energy, 0), "U_val": loss, "accuracy": right, "S": spread})
            path, energy = [], []
    return rows


def _check(*, batch_size: int, most: int, epochs: int, **counts: int) -> None:
    """Raises ValueError, one line, for a batch that does not divide the snapshots of an epoch, or a count that is too low."""
    if not 1 <= batch_size <= most or most % batch_size:
        raise ValueError(f"batch_size={batch_size} is not allowed; allowed: a power of two from 1 to {most}")
    validate.counts(DROPS + 1, epochs=epochs)
    validate.counts(**counts)
