"""A perceptron on digits: gradient norms at equal loss, perturbations early and late, and one task after another.

S = E|∇l|² is the mean squared gradient of a single sample, the entropy of SGD (`S_SGD` of document 4), |∇L|² that of the mean
loss. With noisy labels the loss is |f − y|², else the cross-entropy. Batches are drawn with replacement.
Source: document 4, introduction and part 1. Limit: networks of a few thousand weights; nothing here is a theorem.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.phenomena.common import validate
from thermolab.systems import data, models
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

N_TRAIN = 256
FLOW = {"eta": 0.02, "batch_size": 256}  # small steps on batches as large as the data
COPIES = 32  # of the data, each with noise of its own
FLOOR = (0.003, 500), (0.01, 4000), (0.003, 4000)  # η and steps before all arms; at the start larger rates are unstable
LAST = {"eta": 0.002, "batch_size": 64}, 3000  # of all arms: what the larger rates fluctuate goes, and the losses are equal


# --- gradient norms at equal loss -------------------------------------------------------------------------------------
@Recipe
def equal_loss(
    rates=(0.005, 0.01, 0.02),
    *,
    batch_size: int = 16,
    width: int = 32,
    label_noise: float = 0.3,
    duration: float = 60.0,
    logs: int = 20,
    replicas: int = 2,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """One perceptron on the floor of its loss, from where it goes on at several rates and along the gradient flow.

    rates: η of SGD; label_noise: standard deviation of the noise in each target, drawn anew in each of 32 copies of the data,
    so that no network learns it and the loss has a floor; duration: η · steps; logs: readings on the way; replicas: starts of
    each seed, the same for all arms. The flow is SGD at η = 0.02 on batches of 256. All arms start at the floor and end with
    the same steps at a small rate, so that they are read at equal loss.

    Returns a Dataset. Dims (eta, seed): U and S at the end, the loss and E|∇l|² over all data, S as the mean of its logarithm
    over the replicas, exponentiated; (eta, seed, time), time as η · steps: S_t. For the flow: flow_U, flow_S, flow_S_t.
    Raises ValueError for settings that are out of range.
    """
    rates = validate.all_positive("rates", rates)
    if label_noise < 0 or duration <= 0 or round(duration / logs / max(*rates, FLOW["eta"])) < 1:
        most = f"a duration of {logs} steps or more at eta={max(rates)}, label noise of 0 or more"
        raise ValueError(f"duration={duration}, label_noise={label_noise}; allowed: {most}")
    validate.counts(batch_size=batch_size, width=width, logs=logs, replicas=replicas, n_seeds=n_seeds)
    plain = {"rates": rates, "batch_size": batch_size, "width": width, "label_noise": label_noise, "duration": duration,
             "logs": logs, "replicas": replicas, "device": str(device)}  # fmt: skip
    parts = yield Jobs(_equal_losses, [plain | {"seed": s} for s in seeds(seed, n_seeds)], "gradient norms at equal loss")
    arms = {}
    for name, last in {"U": (), "S": (), "S_t": ("time",)}.items():
        values = np.stack([p[name] for p in parts], 1)  # [arm, seed, …], the flow last
        arms |= {name: (("eta", "seed", *last), values[:-1]), f"flow_{name}": (("seed", *last), values[-1])}
    times = np.arange(1, logs + 1) * duration / logs
    return xr.Dataset(arms, {"eta": rates, "seed": seeds(seed, n_seeds), "time": times})


def noisy_digits(width: int, label_noise: float, seed: int) -> NetworkOnData:
    """The perceptron 64-h-10 on digits with noisy one-hot targets, for the squared loss."""
    digits = data.digits(N_TRAIN)
    targets = torch.nn.functional.one_hot(digits.y, 10).float().repeat(COPIES, 1)
    targets += label_noise * torch.randn(targets.shape, generator=torch.Generator().manual_seed(seed))
    return NetworkOnData(models.mlp((64, width, 10)), Dataset(digits.x.repeat(COPIES, 1), targets), "lr", loss="squared")


def _equal_losses(*, rates, batch_size, width, label_noise, duration, logs, replicas, seed, device) -> dict[str, np.ndarray]:
    """Of each arm [rates and the flow, …]."""
    net, arms = noisy_digits(width, label_noise, seed), []
    warm = Experiment(net, eta=FLOOR[0][0], batch_size=batch_size, seed=seed, replicas=replicas, device=device)
    for eta, steps in FLOOR:
        warm.set(eta=eta)
        warm.advance(steps)
    for knobs in [*({"eta": eta, "batch_size": batch_size} for eta in rates), FLOW]:
        run = Experiment(net, seed=seed, weights=warm.state.weights, device=device, **knobs)
        every, rows = round(duration / logs / knobs["eta"]), []

        def read(run=run):
            energy, square, _ = gradient_norms(net, run.state.weights)
            return float(energy.mean()), float(square.log().mean().exp())

        for _ in run.frames(every, until=logs * every):
            rows.append(read()[1])
        run.set(**LAST[0])
        run.advance(LAST[1])
        run.frame()  # tells of divergence
        arms.append(dict(zip(("U", "S", "S_t"), (*read(), rows), strict=True)))
    return {name: np.stack([arm[name] for arm in arms]) for name in arms[0]}


def gradient_norms(net: NetworkOnData, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Squared loss L, E|∇l|² and |∇L|² over all data of a perceptron with one hidden layer, at weights [R, P]: [R] each.

    For each linear map p = W h + b, |∇l|² = |∇_p l|² (|h|² + 1) holds sample by sample.
    """
    w, b, v, c = net.replicas.views(weights).values()
    x, y = net.data.x.expand(len(weights), -1, -1), net.data.y.expand(len(weights), *net.data.y.shape)
    h = torch.relu(x @ w.transpose(1, 2) + b[:, None])
    f = (h @ v.transpose(1, 2) + c[:, None]).requires_grad_()
    full = torch.empty_like(weights)
    energy = net.replicas.loss_and_gradient(weights, x, y, full)
    with torch.enable_grad():
        (outer,) = torch.autograd.grad((f - y).square().sum(), f)
    inner = (outer @ v) * (h > 0)
    samples = sum((d * d).sum(-1) * ((i * i).sum(-1) + 1) for d, i in ((outer, h), (inner, x)))
    return energy, samples.mean(-1), (full * full).sum(-1)


# --- perturbations ----------------------------------------------------------------------------------------------------
@Recipe
def perturbed(
    times=(0, 3, 10, 30, 100, 300, 1000, 1500, 2000, 2700),
    *,
    steps: int = 3000,
    size: float = 0.1,
    directions: int = 4,
    eta: float = 0.3,
    batch_size: int = 16,
    width: int = 32,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Twins of a perceptron with the same start and batches, of which each is pushed once and one is not.

    times: steps before which the push comes; steps: until the comparison; size: length of the push over |w| at the start, the
    same vectors at all times, in `directions` random directions.

    Returns a Dataset, dims (push, seed), push in steps: changed, the mean total variation distance at the end between the class
    probabilities of the pushed network and its twin on 1024 images that neither saw; moved, the distance of their weights
    over the length of the push. Raises ValueError for settings that are out of range.
    """
    times = sorted(int(t) for t in times)
    if not times or times[0] < 0 or times[-1] >= steps:
        raise ValueError(f"times={times} must lie from 0 to below steps={steps}")
    validate.positive(size=size)
    validate.counts(directions=directions, batch_size=batch_size, width=width, n_seeds=n_seeds)
    plain = {"times": times, "steps": steps, "size": size, "directions": directions, "eta": eta, "batch_size": batch_size,
             "width": width, "device": str(device)}  # fmt: skip
    parts = yield Jobs(_twins, [plain | {"seed": s} for s in seeds(seed, n_seeds)], "perturbed twins")
    out = {name: (("push", "seed"), np.stack([p[name] for p in parts], 1)) for name in parts[0]}
    return xr.Dataset(out, {"push": times, "seed": seeds(seed, n_seeds)}).assign_attrs(steps=steps, size=size)


def _twins(*, times, steps, size, directions, eta, batch_size, width, seed, device) -> dict[str, np.ndarray]:
    images = data.digits(N_TRAIN + 1024)
    train, unseen = (Dataset(images.x[part], images.y[part]) for part in (slice(N_TRAIN), slice(N_TRAIN, None)))
    net = NetworkOnData(models.mlp((64, width, width, 10)), train, "lr")
    n = 1 + len(times) * directions
    run = Experiment(net, eta=eta, batch_size=batch_size, seed=seed, streams=[0] * n, device=device)
    push = np.random.default_rng([seed, 1]).normal(size=(directions, net.n_parameters))
    length = size * float(run.state.weights[0].norm())
    push = torch.tensor(push / np.linalg.norm(push, axis=1, keepdims=True) * length, dtype=torch.float32, device=device)
    for k, time in enumerate(times):
        run.advance(time - run.state.step)
        weights = run.state.weights.clone()
        weights[1 + k * directions : 1 + (k + 1) * directions] += push
        run.state = replace(run.state, weights=weights)
    run.advance(steps - run.state.step)
    run.frame()  # says so if the run diverged
    p = net.replicas.outputs(run.state.weights, unseen.x.to(device)).softmax(-1)
    moved = torch.linalg.vector_norm(run.state.weights[1:] - run.state.weights[0], dim=1) / length
    found = {"changed": (p[1:] - p[0]).abs().sum(-1).mean(1) / 2, "moved": moved}
    return {name: x.reshape(-1, directions).mean(1).cpu().numpy() for name, x in found.items()}


# --- one task after another -------------------------------------------------------------------------------------------
@Recipe
def tasks(
    *,
    n_tasks: int = 60,
    steps: int = 300,
    eta: float = 0.2,
    batch_size: int = 16,
    width: int = 32,
    replicas: int = 6,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """A perceptron that learns digits under one permutation of the pixels after another, and new ones that learn the last alone.

    steps: of each task; replicas: of each arm and seed, which see the same tasks.

    Returns a Dataset. Dims (task, seed): dead, the share of hidden neurons that no image of the task activates, and accuracy
    on the task's own images, both at the task's end. Dim (seed): fresh_dead and fresh_accuracy of the new network after the
    last.
    Raises ValueError for settings that are out of range.
    """
    validate.positive(eta=eta)
    validate.counts(n_tasks=n_tasks, steps=steps, batch_size=batch_size, width=width, replicas=replicas, n_seeds=n_seeds)
    plain = {"n_tasks": n_tasks, "steps": steps, "eta": eta, "batch_size": batch_size, "width": width, "replicas": replicas,
             "device": str(device)}  # fmt: skip
    parts = yield Jobs(_tasks, [plain | {"seed": s} for s in seeds(seed, n_seeds)], "one task after another")
    out = {k: (("task", "seed")[-np.ndim(parts[0][k]) - 1 :], np.stack([p[k] for p in parts], -1)) for k in parts[0]}
    return xr.Dataset(out, {"task": np.arange(1, n_tasks + 1), "seed": seeds(seed, n_seeds)})


def _tasks(*, n_tasks, steps, eta, batch_size, width, replicas, seed, device) -> dict[str, np.ndarray]:
    images, rng = data.digits(N_TRAIN).to(device), np.random.default_rng([seed, 2])
    net = NetworkOnData(models.mlp((64, width, width, 10)), images, "lr")
    settings = {"eta": eta, "batch_size": batch_size, "seed": seed, "device": device}
    run, rows = Experiment(net, replicas=replicas, **settings), []
    for _ in range(n_tasks):
        net.data = Dataset(images.x[:, rng.permutation(64)], images.y)
        run.advance(steps)
        rows.append((dead_share(net, run.state.weights), accuracy(net, run.state.weights)))
    run.frame()  # says so if the run diverged
    fresh = Experiment(net, streams=np.arange(replicas, 2 * replicas), **settings)
    fresh.advance(steps)
    dead, right = np.mean(rows, -1).T
    return {"dead": dead, "accuracy": right, "fresh_dead": dead_share(net, fresh.state.weights).mean(),
            "fresh_accuracy": accuracy(net, fresh.state.weights).mean()}  # fmt: skip


def accuracy(net: NetworkOnData, weights: torch.Tensor) -> np.ndarray:
    """Share [R] of the data that is classified as labelled, at weights [R, P]."""
    return (net.replicas.outputs(weights, net.data.x).argmax(-1) == net.data.y).double().mean(1).cpu().numpy()


def dead_share(net: NetworkOnData, weights: torch.Tensor) -> np.ndarray:
    """Share [R] of the ReLU neurons of a perceptron that no image of its data activates, at weights [R, P]."""
    h, dead, views = net.data.x, [], list(net.replicas.views(weights).values())
    for w, b in zip(views[:-2:2], views[1:-2:2], strict=True):
        h = torch.relu(h @ w.transpose(1, 2) + b[:, None])
        dead.append((h == 0).all(1))
    return torch.cat(dead, 1).double().mean(1).cpu().numpy()
