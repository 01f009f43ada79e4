"""Balance of squared gradients in four architectures: a perceptron, a ConvNet, a residual network, a transformer.

Each learns a noisy teacher of its own kind (`learners`) by plain SGD on |f − y|². `instruments.symmetry` finds the pairs (u, w)
of weights that can be rescaled against each other, and the neighbours that cannot; from every step the squared gradients of both
are summed over windows of time. Source: entropic forces summary (document 2), main results table.

Tolerances stand here once and do not move with the data. BALANCE: 0.1 in log(E|g_w|²/E|g_u|²), as which the summary's
"ratio ≈ 1.0" is read. IDENTITY: 1e-10 of η² (|g_u|² + |g_w|²), rounding in float64 with room for |w| ≫ η |g|. The last three
tenths of the time count as the end. Of several pairs the one furthest off decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive, integer
from thermolab.instruments import symmetry
from thermolab.phenomena.neuron_balance import learners

USUAL = {  # η, B, steps, copies
    "mlp": (0.01, 4, 40_000, 8),
    "cnn": (0.05, 8, 12_000, 2),
    "cnn_tanh": (0.05, 8, 12_000, 2),
    "resnet": (0.02, 6, 8000, 2),
    "transformer": (0.015, 4, 16_000, 8),
}
IDENTITY_BATCH = 64
BALANCE, IDENTITY = 0.1, 1e-10
END = 0.3  # share of the time


@recipe("{arm} on its way to balance", dims=("pair", "time", "seed"))
def train(
    arm: learners.Arm = "mlp",
    *,
    eta: Positive = None,
    batch_size: Count = None,
    noise_std: NotNegative = 1.5,
    steps: Count = None,
    logs: Count = 10,
    copies: Count = None,
    n_data: Annotated[int, integer(100)] = learners.N_DATA,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """Training of an architecture; "cnn_tanh" is "cnn" with tanh in place of its pools.

    eta, batch_size, steps, copies: default the arm's own, `USUAL`; noise_std: σ of the noise in each answer, whose teacher has
    unit mean square; logs: windows of equal length; copies: runs of each seed. All seeds share a teacher, and all runs differ in
    start and batches; a start is the teacher, rescaled.

    Returns a Dataset, dims (pair, time, seed), time in steps at the ends of the windows: u2 and w2, means over the window and
    the copies of |g_u|² and |g_w|² summed over the units; log_ratio, log of w2 over u2; U, mean loss (time, seed); dims (pair,
    seed): error of the Noether identity over η² (|g_u|² + |g_w|²) at the weights that the first copy ends with, in float64.
    Coordinates of pair: its name, reason: why it is no rescalable pair, empty if it is one.
    Raises ValueError for settings that are out of range.
    """
    given = zip((eta, batch_size, steps, copies), USUAL[arm], strict=True)
    eta, batch_size, steps, copies = (usual if value is None else value for value, usual in given)
    steps, seed = integer(logs)("steps", steps), seeds[0] // 1000
    net, teacher = learners.learner(arm, noise_std, n_data, seed)
    pairs = symmetry.pairs(net.replicas.module)
    weights = torch.stack([learners.skewed(pairs, teacher, [s, copy]) for s in seeds for copy in range(copies)])
    run = Experiment(net, eta=eta, batch_size=batch_size, seed=seed, weights=weights, device=device)
    found = [*pairs, *symmetry.neighbours(net.replicas.module)]
    energy, norms = [], []
    for _ in range(logs):
        squares = mean_squares(run, steps // logs, eta).unflatten(0, (len(seeds), copies)).mean(1)
        norms.append([[side.sum(-1).numpy() for side in symmetry.squared_norms(pair, squares)] for pair in found])
        energy.append(run.frame().observables["U"].reshape(len(seeds), copies).mean(1))
    u2, w2 = np.moveaxis(np.array(norms), 2, 0)
    x, y = (t[:IDENTITY_BATCH] for t in (net.data.x, net.data.y))
    errors = [symmetry.identity_errors(net.replicas.module, x, y, eta=eta, weights=w) for w in run.state.weights.cpu()[::copies]]
    every = ("time", "pair", "seed")
    return xr.Dataset(
        {
            "u2": (every, u2),
            "w2": (every, w2),
            "log_ratio": (every, np.log(w2 / u2)),
            "U": (("time", "seed"), np.array(energy)),
            "error": (("pair", "seed"), [[e[pair.name] for e in errors] for pair in found]),
        },
        coords={
            "pair": [p.name for p in found],
            "reason": ("pair", [p.reason for p in found]),
            "time": np.arange(1, logs + 1) * (steps // logs),
            "seed": list(seeds),
        },
    )


def mean_squares(run: Experiment, n: int, eta: float) -> torch.Tensor:
    """Mean squared gradients [R, P] over n steps of plain SGD at λ = 0, which goes on by them: a step shows its gradient."""
    total = torch.zeros_like(run.state.weights, dtype=torch.float64)
    for _ in range(n):
        before = run.state.weights
        run.advance(1)
        total += (before - run.state.weights).square()
    return total.cpu() / (n * eta**2)


def log_ratios(data: xr.Dataset) -> xr.DataArray:
    """log(E|g_w|²/E|g_u|²) (pair, seed) at the end, of one window at least."""
    n = data.sizes["time"]
    late = data[["u2", "w2"]].isel(time=slice(min(round((1 - END) * n), n - 1), None)).mean("time")
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
    found = choose((few_seeds(row) for part in parts for row in log_ratios(part).values), key=lambda mean: abs(mean.value))
    return found._replace(value=abs(found.value))


@decides("balance.mlp", reads=["steps"])
def perceptron(mlp: xr.Dataset) -> Decision:
    """Distance from balance of the pair that is furthest off; control: the same pairs without the incoming bias."""
    bare = rejected(mlp, symmetry.BIAS)
    return with_control(furthest(rescalable(mlp)), furthest(bare), BALANCE, "pairs that leave out the incoming bias")


@decides("balance.cnn", reads=["steps"])
def convnet(cnn: xr.Dataset, cnn_tanh: xr.Dataset) -> Decision:
    """The same of the ConvNet; control: the same layers with tanh between them in place of pooling."""
    right, wrong = furthest(rescalable(cnn)), furthest(rejected(cnn_tanh))
    return with_control(right, wrong, BALANCE, "a CNN in which tanh takes the place of max and average pooling")


@decides("balance.resnet", reads=["steps"])
def residual_blocks(resnet: xr.Dataset) -> Decision:
    """The same of the pairs inside residual blocks, which no skip connection joins with others; control: of those across."""
    inside = chosen(resnet, lambda name, reason: not reason and "+" not in name)
    return with_control(furthest(inside), furthest(rejected(resnet, symmetry.SKIP)), BALANCE, "pairs across blocks")


@decides("balance.transformer", reads=["steps"])
def attention(transformer: xr.Dataset) -> Decision:
    """Query to key and value to output map, whichever is further off; control: output map/first layer and query/value."""
    paired = ("query -> 1.attention.key", "value -> 1.attention.out")
    right = chosen(transformer, lambda name, reason: not reason and name.endswith(paired))
    wrong = chosen(transformer, lambda name, _: name.endswith(("out -> 1.perceptron.0", "query -> 1.attention.value")))
    nearest = furthest(wrong, choose=min)  # both must be off
    return with_control(furthest(right), nearest, BALANCE, "the pairs O/W₁ and Q/V, which share no rescaling symmetry")


@decides("balance.adjacent-layers", reads=["steps"])
def adjacent_layers(mlp: xr.Dataset, resnet: xr.Dataset) -> Decision:
    """Distance from balance of the neighbour that is furthest off, of those without a bias or across a block boundary."""
    others = furthest(rejected(mlp, symmetry.BIAS), rejected(resnet, symmetry.SKIP))
    return with_control(others, furthest(rescalable(mlp)), BALANCE, "adjacent layers that form a rescalable pair")


@decides("balance.identity", reads=["steps"])
def identity(mlp: xr.Dataset, cnn: xr.Dataset, resnet: xr.Dataset, transformer: xr.Dataset) -> Decision:
    """Largest error of the identity over all pairs; control: the smallest over all neighbours that are none."""
    runs = (mlp, cnn, resnet, transformer)
    largest = max(float(rescalable(data)["error"].max()) for data in runs)
    smallest = min(float(rejected(data)["error"].min()) for data in runs)
    measured = Estimate(largest, 0.0, mlp.sizes["seed"])
    return with_control(measured, (smallest, 0.0), IDENTITY, "pairs of layers that are not rescalable")
