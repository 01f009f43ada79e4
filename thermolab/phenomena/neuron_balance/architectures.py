"""Balance of squared gradients in four architectures: a perceptron, a ConvNet, a residual network, a transformer.

Each starts from the usual weights and learns a noisy teacher, or digits (`learners`). `instruments.symmetry` finds the pairs
(u, w) of weights that can be rescaled against each other, and the neighbours that cannot; from every step the squared gradients
of both are summed over windows of time. Source: entropic forces summary (document 2), main results table.

Not yet, or not: by the Noether identity a pair is off balance by exactly as much as |u|² - |w|² still moves, E|g_u|² - E|g_w|² =
Δ(|u|² - |w|²)/(η² steps). Inputs of small variance hold their weights for longer than any run here: |u|² grows meanwhile.

Tolerances stand here once and do not move with the data. BALANCE: 0.1 in log(E|g_w|²/E|g_u|²), as which the summary's
"ratio ≈ 1.0" is read. IDENTITY: 1e-10 of η² (|g_u|² + |g_w|²), rounding in float64 with room for |w| ≫ η |g|. The last three
tenths of the time count as the end. Of several pairs the one furthest off decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, few_seeds, pick, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive, integer
from thermolab.instruments import symmetry
from thermolab.phenomena.neuron_balance import learners, theory

USUAL = {  # η, B, steps, copies, steps of warm-up: without it η = 0.2 throws one transformer in a hundred
    ("mlp", "teacher"): (0.03, 4, 8000, 4, 0),
    ("mlp", "digits"): (0.2, 4, 8000, 6, 0),
    ("cnn", "digits"): (0.3, 4, 5000, 6, 0),
    ("cnn_tanh", "digits"): (0.3, 4, 5000, 6, 0),
    ("resnet", "digits"): (0.1, 4, 5000, 4, 0),
    ("transformer", "digits"): (0.2, 4, 5000, 4, 200),
}
COPIES = 64  # at the most: a copy has the same start and batches whatever their number
WARM_UP = 0.25  # of η, while it lasts
TASKS = {arm: [task for known, task in USUAL if known == arm] for arm in learners.ARMS}
NOISE = {"teacher": 1.5, "digits": 0.5}  # standard deviation in each answer; share of the labels drawn anew
N_DATA = {"teacher": 20_000, "digits": 1797}
IDENTITY_BATCH = 64
BALANCE, IDENTITY = 0.1, 1e-10
END = 0.3  # share of the time


@recipe("{arm} on its way to balance", dims=("pair", "time", "seed"))
def train(
    arm: learners.Arm = "mlp",
    task: learners.Task | None = None,
    *,
    eta: Positive = None,
    batch_size: Count = None,
    noise: NotNegative = None,
    steps: Count = None,
    logs: Count = 10,
    copies: Annotated[int | None, integer(1, COPIES)] = None,
    warm_up: Annotated[int | None, integer(0)] = None,
    optimiser: Literal["sgd", "momentum", "adam", "adagrad", "flow"] = "sgd",
    skew: NotNegative = 0.0,
    directions: Count = None,
    n_data: Annotated[int | None, integer(100)] = None,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """Training of an architecture from usual starts (He et al.); "cnn_tanh" is "cnn" with tanh in place of LeakyReLU.

    task: "teacher" or "digits" (`learners`), by default the first that `USUAL` has of the arm, as are eta, batch_size, steps,
    copies and warm_up of both; noise and n_data: default `NOISE` and `N_DATA`; logs: windows of equal length; copies: runs of
    each seed; warm_up: steps at `WARM_UP` η before the first window, not counted in time; optimiser: as in `systems.updates`,
    with momentum μ = 0.9, or "flow", SGD on all data at once; skew: by how much the log ratio of the first pair is larger at the
    start, as its u are multiplied by e^(skew/4) and its w divided; directions: of the inputs of digits. A seed has a data set
    of its own, a teacher or a choice of digits; its copies differ in start and batches, and are averaged: what is independent are
    the seeds.

    Returns a Dataset, dims (pair, time, seed), time in steps at the ends of the windows, with coordinates clock = η²t/B and
    flow_time = ηt, both with η/(1 - μ) for η under momentum: u2 and w2, means over the window (of "flow": over minibatches at its
    end) and the copies of |g_u|² and |g_w|² summed over the units; log_ratio, log of w2 over u2; in2 and out2, |u|² and |w|² at
    the end of the window; dims (pair, seed): error of the Noether identity over η² (|g_u|² + |g_w|²) at the weights that the
    first copy ends with, in float64. Coordinates: skew; of pair its name, reason: why it is no rescalable pair, empty if it is
    one. NaN where a run diverged. Raises ValueError for settings that are out of range.
    """
    task = TASKS[arm][0] if task is None else task
    if task not in TASKS[arm]:
        raise ValueError(f"task={task!r} is none of {arm}; allowed: {', '.join(TASKS[arm])}")
    given = zip((eta, batch_size, steps, copies, warm_up), USUAL[arm, task], strict=True)
    eta, batch_size, steps, copies, warm_up = (usual if value is None else value for value, usual in given)
    noise, every = NOISE[task] if noise is None else noise, integer(logs)("steps", steps) // logs
    n_data = N_DATA[task] if n_data is None else n_data
    net = learners.lessons(arm, task, noise, n_data, seeds, copies, optimiser, directions)
    module, seed = net.replicas.module, seeds[0] // 1000
    streams = (COPIES * torch.arange(len(seeds))[:, None] + torch.arange(copies)).flatten()
    found = [*symmetry.pairs(module), *symmetry.neighbours(module)]
    start = symmetry.rescale(found[0], net.start(streams, seed), math.exp(skew / 4))
    run = Experiment(net, eta=eta, batch_size=batch_size, seed=seed, streams=streams.numpy(), weights=start, device=device)
    if warm_up:
        run.set(eta=WARM_UP * eta)
        run.advance(warm_up)
        run.set(eta=eta)

    def sides(squares):
        """Sums over u and w of all pairs [pair, side, seed], means over the copies."""
        squares = squares.double().cpu().unflatten(0, (len(seeds), copies)).mean(1)
        return [[side.sum(-1).numpy() for side in symmetry.squared_norms(pair, squares)] for pair in found]

    rows = []
    for _ in range(logs):
        net.replicas.squares = 0.0
        run.advance(every)
        mean = (
            net.replicas.squares / every
            if optimiser != "flow"
            else net.mean_squares(run.state.weights, batch_size, seed, streams)
        )
        rows.append([sides(mean), sides(run.state.weights.square())])
    (u2, w2), (in2, out2) = np.moveaxis(np.array(rows), (1, 3), (0, 1))
    x, y = (t[:IDENTITY_BATCH].cpu() for t in (net.data.x, net.data.y))
    loss, ends = net.replicas.loss, run.state.weights.cpu()[::copies]
    errors = [symmetry.identity_errors(module.cpu(), x, y, eta=eta, loss=loss, weights=w) for w in ends]
    every_dim, time = ("time", "pair", "seed"), np.arange(1, logs + 1) * every
    momentum = net.rule.knobs.get("momentum", 0.0)
    values = {"u2": u2, "w2": w2, "log_ratio": np.log(w2 / u2), "in2": in2, "out2": out2}
    return xr.Dataset(
        {name: (every_dim, value) for name, value in values.items()}
        | {"error": (("pair", "seed"), [[e[pair.name] for e in errors] for pair in found])},
        coords={
            "pair": [p.name for p in found],
            "reason": ("pair", [p.reason for p in found]),
            "time": time,
            "skew": skew,
            "clock": ("time", theory.clock(eta, net.size if optimiser == "flow" else batch_size, time, momentum)),
            "flow_time": ("time", eta / (1 - momentum) * time),
            "seed": list(seeds),
        },
    )


def log_ratios(data: xr.Dataset) -> xr.DataArray:
    """log(E|g_w|²/E|g_u|²) (pair, seed) at the end, of one window at least."""
    n = data.sizes["time"]
    late = data[["u2", "w2"]].isel(time=slice(min(round((1 - END) * n), n - 1), None)).mean("time", skipna=False)
    return np.log(late["w2"] / late["u2"]).transpose("pair", "seed")


def chosen(data: xr.Dataset, choose: Callable[[str, str], bool]) -> xr.Dataset:
    """Those rows of a dataset for which choose(name, reason) is true; a pair has no reason, ""."""
    rows = enumerate(zip(data["pair"].values, data["reason"].values, strict=True))
    return data.isel(pair=[i for i, (name, reason) in rows if choose(str(name), str(reason))])


def rescalable(data: xr.Dataset) -> xr.Dataset:
    """The pairs among the rows of a dataset."""
    return chosen(data, lambda _, reason: not reason)


def rejected(data: xr.Dataset, why: str = "") -> xr.Dataset:
    """The neighbours that are no pairs, all or those for a reason."""
    return chosen(data, lambda _, reason: bool(reason) and why in reason)


def furthest(*parts: xr.Dataset, choose=max) -> Estimate:
    """Mean and error over seeds of the log ratio at the end that is furthest from 0 (choose=min: nearest to 0), as a distance."""
    rows = (few_seeds(row) for part in parts for row in log_ratios(part).values)
    found = pick(choose, rows, key=lambda mean: abs(mean.value))
    return found._replace(value=abs(found.value))


def read_by(data: xr.Dataset, layer: str) -> xr.Dataset:
    """The pairs whose name ends so, with the layer that reads."""
    return chosen(data, lambda name, reason: not reason and name.endswith(layer))


def whole_stream(data: xr.Dataset) -> xr.Dataset:
    """The pair of all that writes into a stream and all that reads from it."""
    return chosen(data, lambda name, reason: not reason and "+" in name)


@decides("balance.mlp", reads=["steps"])
def perceptron(mlp: xr.Dataset) -> Decision:
    """Log ratio of the pair that is furthest from balance; control: the same pairs without the incoming bias."""
    bare = rejected(mlp, symmetry.BIAS)
    return with_control(furthest(rescalable(mlp)), furthest(bare), BALANCE, "pairs that leave out the incoming bias")


@decides("balance.digits", reads=["steps"])
def soft_inputs(mlp_digits: xr.Dataset, mlp_even: xr.Dataset) -> Decision:
    """Log ratio of the first pair, on digits; control: on digits of which few directions are left, of equal variance."""
    name = "digits with four directions of equal variance"
    return with_control(furthest(read_by(mlp_digits, "-> 2")), furthest(read_by(mlp_even, "-> 2")), BALANCE, name)


@decides("balance.adam", reads=["steps"], adaptive="mlp_adam")
@decides("balance.adagrad", reads=["steps"], adaptive="mlp_adagrad")
def preconditioned(adaptive: xr.Dataset, mlp_even: xr.Dataset) -> Decision:
    """Log ratio of the first pair under an adaptive rule, on digits of few directions; control: under SGD."""
    off, plain = (furthest(read_by(data, "-> 2")) for data in (adaptive, mlp_even))
    return with_control(off, plain, 0.0, "plain SGD on the same data", BALANCE, "above")


@decides("balance.cnn", reads=["steps"])
def convolutions(cnn: xr.Dataset, cnn_tanh: xr.Dataset) -> Decision:
    """Log ratio of the two convolutions of a ConvNet; control: the same network with tanh in place of LeakyReLU."""
    wrong = chosen(cnn_tanh, lambda name, _: name == "1 -> 4")
    return with_control(furthest(read_by(cnn, "-> 4")), furthest(wrong), BALANCE, "tanh in place of LeakyReLU")


@decides("balance.cnn.last", reads=["steps"])
def last_layer(cnn: xr.Dataset) -> Decision:
    """Log ratio of the second convolution and the last layer; control: of the two convolutions."""
    return with_control(furthest(read_by(cnn, "-> 8")), furthest(read_by(cnn, "-> 4")), BALANCE, "the pair of its convolutions")


@decides("balance.resnet", reads=["steps"])
def stream(resnet: xr.Dataset) -> Decision:
    """Log ratio of the whole stream, of all that writes into it and all that reads from it; control: of one and one of these."""
    name = "pairs across blocks, one writer and one reader"
    return with_control(furthest(whole_stream(resnet)), furthest(rejected(resnet, symmetry.SKIP)), BALANCE, name)


@decides("balance.transformer", reads=["steps"])
def attention(transformer: xr.Dataset) -> Decision:
    """Log ratio of value and output map, in the block that is further off; control: query and value of a head, the nearest."""
    right, wrong = read_by(transformer, ".out"), rejected(transformer, symmetry.PARALLEL)
    name = "query and value of a head, which share no rescaling symmetry"
    return with_control(furthest(right), furthest(wrong, choose=min), BALANCE, name)


@decides("balance.transformer.perceptron", reads=["steps"])
def perceptrons_of_blocks(transformer: xr.Dataset) -> Decision:
    """Log ratio of the layers of a block's perceptron, the nearest to balance; control: value to output map, the furthest off."""
    slow, fast = (read_by(transformer, end) for end in ("perceptron.2", ".out"))
    return with_control(furthest(slow, choose=min), furthest(fast), BALANCE, "value and output map of the same blocks")


@decides("balance.adjacent-layers", reads=["steps"])
def adjacent_layers(mlp: xr.Dataset, resnet: xr.Dataset) -> Decision:
    """Log ratio of the neighbour that is furthest off, of those without a bias or across a block boundary."""
    others = furthest(rejected(mlp, symmetry.BIAS), rejected(resnet, symmetry.SKIP))
    right = furthest(rescalable(mlp), whole_stream(resnet))
    return with_control(others, right, BALANCE, "pairs of the same networks, that of the whole stream among them")


@decides("balance.identity", reads=["steps"])
def identity(mlp: xr.Dataset, cnn: xr.Dataset, resnet: xr.Dataset, transformer: xr.Dataset) -> Decision:
    """Largest error of the identity, over its terms, of all pairs; control: the smallest of all neighbours that are none."""
    runs = (mlp, cnn, resnet, transformer)
    largest = float(np.max([rescalable(data)["error"].max(skipna=False) for data in runs]))
    smallest = float(np.min([rejected(data)["error"].min(skipna=False) for data in runs]))
    measured = Estimate(largest, 0.0, mlp.sizes["seed"])
    return with_control(measured, (smallest, 0.0), IDENTITY, "pairs of layers that are not rescalable")
