"""Balance of squared gradients in four architectures: a perceptron, a ConvNet, a residual network, a transformer.

Each learns a noisy teacher of its own kind by plain SGD on |f − y|². `instruments.symmetry` finds the pairs (u, w) of weights
that can be rescaled against each other, and the neighbours that cannot; from every step the squared gradients of both are
summed over windows of time. Source: entropic forces summary (document 2), main results table.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import symmetry
from thermolab.systems import models, random
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import Answers
from thermolab.systems.replicas import Replicas

INPUTS, OUTPUTS, SIZE, TOKENS = 4, 6, 8, 3  # inputs of a vector or token, outputs, side of an image, tokens of a sequence
N_DATA = 20_000
BIAS = 0.3  # standard deviation of the teacher's biases
LEAK = 0.3  # slope of LeakyReLU below 0: a unit that is seldom above 0 balances slowly
BALANCING, PROBES = 30, 100  # rounds of rescaling all pairs; streams that E g² at the start is read from
VALUES = 3.0  # times the usual values and output map of the teacher: with small ones queries and keys hardly matter
SKEW = (0.0, 0.3)  # range of the log of the factor by which u starts longer and w shorter, for each unit
SIZE_OF_TEACHER = {"transformer": 0.6, "resnet": 0.7}
IDENTITY_BATCH = 64
ETA = {"mlp": 0.01, "cnn": 0.05, "tanh": 0.05, "resnet": 0.02, "transformer": 0.015}
BATCH_SIZE = {"mlp": 4, "cnn": 8, "tanh": 8, "resnet": 6, "transformer": 4}
STEPS = {"mlp": 40_000, "cnn": 12_000, "tanh": 12_000, "resnet": 8000, "transformer": 16_000}
COPIES = {"mlp": 8, "cnn": 2, "tanh": 2, "resnet": 2, "transformer": 8}
ARMS = ("mlp", "cnn", "tanh", "resnet", "transformer")


def network(arm: str) -> nn.Module:
    """The module of an arm; "tanh" is the ConvNet with tanh in place of its pooling."""
    if arm == "mlp":
        return models.mlp((INPUTS, 12, 10, OUTPUTS))
    if arm in ("cnn", "tanh"):
        pools, n = ((nn.AvgPool2d(2), nn.MaxPool2d(2)), 4) if arm == "cnn" else ((nn.Tanh(), nn.Tanh()), 100)
        first = [nn.Conv2d(1, 3, 3), nn.LeakyReLU(LEAK), pools[0], nn.Conv2d(3, 4, 2), nn.LeakyReLU(LEAK), pools[1]]
        return nn.Sequential(models.AsImages(SIZE), *first, nn.Flatten(), nn.Linear(n, OUTPUTS))
    if arm == "resnet":
        inner = [nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(LEAK), nn.Linear(4, 4)) for _ in range(2)]
        return nn.Sequential(nn.Linear(INPUTS, 4), *map(models.Residual, inner), nn.Linear(4, OUTPUTS))
    if arm == "transformer":
        return nn.Sequential(nn.Linear(INPUTS, 6), models.Block(6, 2, affine=False), models.MeanToken(), nn.Linear(6, OUTPUTS))
    raise ValueError(f"arm={arm!r} is unknown; allowed: {', '.join(ARMS)}")


def learner(arm: str, noise_std: float, n_data: int, seed: int) -> tuple[NetworkOnData, torch.Tensor]:
    """A network of an arm on bounded inputs, and the weights [P] of its teacher, which the answers follow up to Gaussian noise.

    The teacher has biases other than 0, outputs of unit mean square, and balanced squared gradients in every pair.
    """
    shape = {"transformer": (TOKENS, INPUTS), "cnn": (SIZE**2,), "tanh": (SIZE**2,)}.get(arm, (INPUTS,))
    generator, module = torch.Generator().manual_seed(seed), network(arm)
    x = (2 * torch.rand((n_data, *shape), generator=generator) - 1) * 3**0.5  # a Gaussian input far out can throw a network
    replicas, streams = Replicas(module, "squared"), torch.zeros(1, dtype=torch.long)
    normals = random.normals(seed, streams, 0, 1, replicas.n_parameters, purpose=random.START)[0]
    weights = replicas.start(normals)
    weights = SIZE_OF_TEACHER.get(arm, 1.0) * torch.where(weights == 0, BIAS * normals, weights)[0]
    with torch.no_grad():
        nn.utils.vector_to_parameters(weights, module.parameters())
        for part in (m for m in module.modules() if isinstance(m, models.Attention)):
            for maps in (part.mix.weight[-len(part.out.weight) :], part.out.weight):
                maps *= VALUES
        size = module(x).square().mean().sqrt()
        for part in module[-1].parameters():
            part /= size
        y = module(x)
        weights = nn.utils.parameters_to_vector(module.parameters())
    noise = torch.randn(y.shape, generator=generator)
    loud = NetworkOnData(module, Answers(x, y + noise), loss="squared")
    g = loud.gradients(weights.expand(PROBES, -1), PROBES, 1, seed, torch.arange(PROBES))
    weights = balanced(symmetry.pairs(module), weights, g.square().mean((0, 1)))
    return NetworkOnData(module, Answers(x, y + noise_std * noise), loss="squared"), weights


def balanced(pairs: list[symmetry.Pair], weights: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """Weights [P], rescaled until E|g_u|² = E|g_w|² for every unit, where squares [P] are the E g² to begin with.

    Over and over, for to rescale one pair moves the next. Gradients change the other way round.
    """
    for pair in BALANCING * pairs:
        u, w = symmetry.squared_norms(pair, squares)
        weights, squares = (symmetry.rescale(pair, v, (u / w) ** power) for v, power in ((weights, 0.25), (squares, -0.5)))
    return weights


def skewed(pairs: list[symmetry.Pair], weights: torch.Tensor, seed: int) -> torch.Tensor:
    """Weights [P] of the same function, u of each unit times a factor and w over it, log-uniform in `SKEW`."""
    rng = np.random.default_rng(seed)
    for pair in pairs:
        weights = symmetry.rescale(pair, weights, np.exp(rng.uniform(*SKEW, len(pair.incoming))))
    return weights


@Recipe
def architectures(
    arms=ARMS,
    *,
    eta: float | Mapping[str, float] = ETA,
    batch_size: int | Mapping[str, int] = BATCH_SIZE,
    noise_std: float | Mapping[str, float] = 1.5,
    steps: int | Mapping[str, int] = STEPS,
    logs: int = 10,
    copies: int | Mapping[str, int] = COPIES,
    n_data: int = N_DATA,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Training of each architecture, {arm: Dataset} of "mlp", "cnn", "tanh" (pools replaced), "resnet", "transformer".

    eta, batch_size, noise_std, steps: one number or one for each arm; noise_std: σ of the noise in each answer, whose teacher
    has unit mean square; logs: windows of equal length; copies: runs of each seed. All seeds share a teacher, and all runs
    differ in start and batches; a start is the teacher, rescaled.

    Returns for each arm a Dataset, dims (pair, time, seed), time in steps at the ends of the windows: u2 and w2, means over the
    window and the copies of |g_u|² and |g_w|² summed over the units; log_ratio, log of w2 over u2; U, mean loss (time, seed);
    dims (pair, seed): error of the Noether identity over η² (|g_u|² + |g_w|²) at the weights that the first copy ends with, in
    float64. Coordinates of pair: its name, reason: why it is no rescalable pair, empty if it is one.
    Raises ValueError for settings that are out of range.
    """
    if not len(arms := list(arms)):
        raise ValueError(f"arms={arms}; allowed: one or more of {', '.join(ARMS)}")
    jobs = []
    for arm in arms:
        network(arm)
        given = {"eta": eta, "batch_size": batch_size, "noise_std": noise_std, "steps": steps, "copies": copies}
        own = {name: value[arm] if isinstance(value, Mapping) else value for name, value in given.items()}
        common = checked(**own, logs=logs, n_data=n_data, seed=seed, n_seeds=n_seeds, device=device)
        jobs.append(common | {"arm": arm})
    parts = yield Jobs(_train, jobs, "architectures")
    return dict(zip(arms, parts, strict=True))


def _train(*, arm, eta, batch_size, noise_std, steps, logs, copies, n_data, seed, n_seeds, device) -> xr.Dataset:
    """An arm; all its seeds are one batch of replicas."""
    net, teacher = learner(arm, noise_std, n_data, seed)
    pairs = symmetry.pairs(net.replicas.module)
    weights = torch.stack([skewed(pairs, teacher, [s, copy]) for s in seeds(seed, n_seeds) for copy in range(copies)])
    run = Experiment(net, eta=eta, batch_size=batch_size, seed=seed, weights=weights, device=device)
    found = [*pairs, *symmetry.neighbours(net.replicas.module)]
    rows = []
    for _ in range(logs):
        squares = mean_squares(run, steps // logs, eta)
        squares = squares.unflatten(0, (n_seeds, copies)).mean(1)
        norms = [[side.sum(-1).numpy() for side in symmetry.squared_norms(pair, squares)] for pair in found]
        rows.append((run.frame().gauges["U"].reshape(n_seeds, copies).mean(1), np.array(norms)))
    u2, w2 = np.moveaxis([norms for _, norms in rows], (0, 1, 2), (2, 1, 0))
    x, y = (t[:IDENTITY_BATCH] for t in (net.data.x, net.data.y))
    errors = [symmetry.identity_errors(net.replicas.module, x, y, eta=eta, weights=w) for w in run.state.weights.cpu()[::copies]]
    return xr.Dataset(
        {"u2": (("pair", "time", "seed"), u2), "w2": (("pair", "time", "seed"), w2),
         "log_ratio": (("pair", "time", "seed"), np.log(w2 / u2)), "U": (("time", "seed"), np.array([u for u, _ in rows])),
         "error": (("pair", "seed"), np.array([[e[pair.name] for e in errors] for pair in found]))},
        {"pair": [p.name for p in found], "reason": ("pair", [p.reason for p in found]),
         "time": np.arange(1, logs + 1) * (steps // logs), "seed": seeds(seed, n_seeds)},
    )  # fmt: skip


def mean_squares(run: Experiment, n: int, eta: float) -> torch.Tensor:
    """Mean squared gradients [R, P] over n steps of plain SGD at λ = 0, which goes on by them: a step shows its gradient."""
    total = torch.zeros_like(run.state.weights, dtype=torch.float64)
    for _ in range(n):
        before = run.state.weights
        run.advance(1)
        total += (before - run.state.weights).square()
    return total.cpu() / (n * eta**2)


@Recipe
def twins(
    *, eta: float = 0.02, batch_size: int = 4, noise_std: float = 1.0, steps: int = 400, logs: int = 10, n_data: int = 4000,
    seed: int = 0, n_seeds: int = 5, device: str = "cpu",
):  # fmt: skip
    """Trajectories of the perceptron from one start, and from the same start with its neurons permuted or rescaled, same batches.

    Returns a Dataset, dims (arm, time, seed), arm "permuted" and "rescaled", time in steps: apart, distance between the twin,
    transformed back, and the original, over the distance that the original has travelled. In float64.
    Raises ValueError for settings that are out of range.
    """
    settings = checked(eta=eta, batch_size=batch_size, noise_std=noise_std, steps=steps, logs=logs, n_data=n_data,
                       seed=seed, n_seeds=n_seeds, device=device)  # fmt: skip
    (apart,) = yield Jobs(_twins, [settings], "permuted twins")
    time = np.arange(1, logs + 1) * (steps // logs)
    coords = {"arm": ["permuted", "rescaled"], "time": time, "seed": seeds(seed, n_seeds)}
    return xr.Dataset({"apart": (("arm", "time", "seed"), apart)}, coords)


def _twins(*, eta, batch_size, noise_std, steps, logs, n_data, seed, n_seeds, device) -> np.ndarray:
    net, teacher = learner("mlp", noise_std, n_data, seed)
    net.data = Answers(net.data.x.double(), net.data.y.double())
    pairs = symmetry.pairs(net.replicas.module)
    start = torch.stack([skewed(pairs, teacher, s) for s in seeds(seed, n_seeds)]).double()
    rng = np.random.default_rng([seed, 1])
    orders = [torch.from_numpy(rng.permutation(len(pair.incoming))) for pair in pairs]
    factors = [torch.from_numpy(np.exp(rng.uniform(0.1, 0.4, len(pair.incoming)))) for pair in pairs]

    def permuted(weights, back=False):
        for pair, order in list(zip(pairs, orders, strict=True))[:: -1 if back else 1]:
            weights = symmetry.permute(pair, weights, torch.argsort(order) if back else order)
        return weights

    def rescaled(weights, back=False):
        for pair, factor in zip(pairs, factors, strict=True):
            weights = symmetry.rescale(pair, weights, 1 / factor if back else factor)
        return weights

    begins = torch.cat([start, permuted(start), rescaled(start)])
    # a twin has the streams of its original, hence its batches
    run = Experiment(
        net, eta=eta, batch_size=batch_size, seed=seed, streams=np.tile(np.arange(n_seeds), 3), weights=begins, device=device
    )
    apart = []
    for _ in range(logs):
        run.advance(steps // logs)
        plain, *others = run.state.weights.cpu().chunk(3)
        travelled = torch.linalg.vector_norm(plain - start, dim=1)
        back = [undo(other, back=True) for undo, other in zip((permuted, rescaled), others, strict=True)]
        apart.append([torch.linalg.vector_norm(b - plain, dim=1) / travelled for b in back])
    run.frame()  # raises if a run has diverged
    return np.array([[row.numpy() for row in rows] for rows in apart]).swapaxes(0, 1)


def checked(**settings) -> dict:
    """Settings in their ranges, or a ValueError for the first that is not."""
    for name, value in settings.items():
        least = {"n_data": 100, "n_seeds": 1, "batch_size": 1, "logs": 1, "copies": 1, "steps": settings["logs"]}.get(name)
        if least is not None and (value != int(value) or value < least):
            raise ValueError(f"{name}={value}; allowed: whole numbers from {least}")
    for name, zero in (("eta", False), ("noise_std", True)):
        value = settings[name]
        if not (np.isfinite(value) and (value > 0 or (zero and value == 0))):
            raise ValueError(f"{name}={value}; allowed: finite and {'not negative' if zero else 'positive'}")
    return settings | {"device": str(settings["device"])}
