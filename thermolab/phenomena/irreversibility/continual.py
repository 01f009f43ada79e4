"""A perceptron on digits: gradient norms at equal loss, perturbations early and late, and one task after another.

S = E|∇l|² is the mean squared gradient of a single sample, the entropy of SGD (`S_SGD` of document 4), |∇L|² that of the mean
loss. With noisy labels the loss is |f − y|², else the cross-entropy. Batches are drawn with replacement.
Source: document 4, introduction and part 1. Limit: networks of a few thousand weights; nothing here is a theorem.

The tolerances stand here once and do not move with the data. No theory says how much smaller a gradient norm, how much larger an
effect or how great a loss of plasticity is: SMALLER is a twentieth of the gradient norm, LOST one neuron and one image in twenty,
LARGER half as much again of the effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive, Positives, integer, several
from thermolab.systems import data, models
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

SMALLER, LARGER, LOST = math.log(0.95), math.log(1.5), 0.05
EQUAL = 0.01  # relative difference of losses that count as equal: S is nearly proportional to the loss, and 0.05 is asked for
FIRST_STEPS = 10  # a push before step 10 or earlier comes within the first steps
N_TRAIN = 256
FLOW = {"eta": 0.02, "batch_size": 256}  # small steps on batches as large as the data
COPIES = 32  # of the data, each with noise of its own
FLOOR = (0.003, 500), (0.01, 4000), (0.003, 4000)  # η and steps before all arms; at the start larger rates are unstable
LAST = {"eta": 0.002, "batch_size": 64}, 3000  # of all arms: what the larger rates fluctuate goes, and the losses are equal


# --- gradient norms at equal loss -------------------------------------------------------------------------------------
@recipe("gradient norms at equal loss", dims=("eta", "seed", "time"))
def equal_loss(
    rates: Positives = (0.005, 0.01, 0.02),
    *,
    batch_size: Count = 16,
    width: Count = 32,
    label_noise: NotNegative = 0.3,
    duration: Positive = 60.0,
    logs: Count = 20,
    replicas: Count = 2,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """One perceptron on the floor of its loss, from where it goes on at several rates and along the gradient flow.

    rates: η of SGD; label_noise: standard deviation of the noise in each target, drawn anew in each of 32 copies of the data,
    so that no network learns it and the loss has a floor; duration: η · steps; logs: readings on the way; replicas: starts of
    each seed, the same for all arms. The flow is SGD at η = 0.02 on batches of 256. All arms start at the floor and end with
    the same steps at a small rate, so that they are read at equal loss.

    Returns a Dataset. Dims (eta, seed): U and S at the end, the loss and E|∇l|² over all data, S as the mean of its logarithm
    over the replicas, exponentiated; (eta, seed, time), time as η · steps: S_t. For the flow: flow_U, flow_S, flow_S_t.
    Raises ValueError for settings that are out of range.
    """
    if round(duration / logs / max(*rates, FLOW["eta"])) < 1:
        raise ValueError(f"duration={duration} is too short; allowed: {logs} steps or more at eta={max(*rates, FLOW['eta'])}")
    net, arms = noisy_digits(width, label_noise, seed), []
    warm = Experiment(net, eta=FLOOR[0][0], batch_size=batch_size, seed=seed, replicas=replicas, device=device)
    for eta, steps in FLOOR:
        warm.set(eta=eta)
        warm.advance(steps)

    def read(run) -> tuple[float, float]:
        energy, square, _ = gradient_norms(net, run.state.weights)
        return float(energy.mean()), float(square.log().mean().exp())

    for knobs in [*({"eta": eta, "batch_size": batch_size} for eta in rates), FLOW]:
        run = Experiment(net, seed=seed, weights=warm.state.weights, device=device, **knobs)
        every = round(duration / logs / knobs["eta"])
        rows = [read(run)[1] for _ in run.frames(every, until=logs * every)]
        run.set(**LAST[0])
        run.advance(LAST[1])
        run.raise_if_diverged()
        arms.append((*read(run), rows))
    found = {}
    for name, form, values in zip(("U", "S", "S_t"), ((), (), ("time",)), zip(*arms, strict=True), strict=True):
        found |= {name: (("eta", *form), [*values[:-1]]), f"flow_{name}": (form, values[-1])}
    return xr.Dataset(found, {"eta": [*rates], "time": np.arange(1, logs + 1) * duration / logs})


def noisy_digits(width: int, label_noise: float, seed: int) -> NetworkOnData:
    """The perceptron 64-h-10 on digits with noisy one-hot targets, for the squared loss."""
    digits = data.digits(N_TRAIN)
    targets = torch.nn.functional.one_hot(digits.y, 10).float().repeat(COPIES, 1)
    targets += label_noise * torch.randn(targets.shape, generator=torch.Generator().manual_seed(seed))
    return NetworkOnData(models.mlp((64, width, 10)), Dataset(digits.x.repeat(COPIES, 1), targets), "lr", loss="squared")


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


@decides("irreversibility.large-rate-regularises", reads=["rates", "batch_size", "width", "label_noise", "duration"])
def large_rate_regularises(equal_loss: xr.Dataset) -> Decision:
    """Logarithm of S = E|∇l|² at the end of the largest η over that of the smallest, undecided unless their losses are equal."""
    name = "gradient flow at the same losses, in place of the large rate"
    measured, control = shrunk(equal_loss, "eta"), shrunk(equal_loss, "eta", flow=True)
    return with_control(measured, control, 0.0, name, predicted=SMALLER, relation="below")


def shrunk(found: xr.Dataset, by: str, *, flow: bool = False) -> Estimate:
    """log S at the largest value of the dim `by`, or of the flow, over that at the smallest; NaN where losses differ."""
    large, small = (found.sel({by: pick(found[by])}) for pick in (max, min))
    arm = found[["flow_U", "flow_S"]].rename(flow_U="U", flow_S="S") if flow else large
    return few_seeds(np.log(arm["S"] / small["S"]).where(abs(arm["U"] / small["U"] - 1) < EQUAL))


# --- perturbations ----------------------------------------------------------------------------------------------------
@recipe("perturbed twins", dims=("push", "seed"))
def perturbed(
    times: Annotated[Sequence[int], several(integer(0))] = (0, 3, 10, 30, 300, 1500, 2700),
    *,
    steps: Count = 3000,
    size: Positive = 0.1,
    starts: Count = 3,
    directions: Count = 2,
    eta: Positive = 0.3,
    batch_size: Count = 16,
    width: Count = 32,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Twins of a perceptron with the same start and batches, of which each is pushed once and one is not.

    times: steps before which the push comes; steps: until the comparison; size: length of the push over |w| at the start, the
    same vectors at all times; starts: independent networks of a seed, with batches of their own, and directions: random ones of
    each, in which it is pushed.

    Returns a Dataset, dims (push, seed), push in steps: changed, the mean total variation distance at the end between the class
    probabilities of the pushed network and its twin on 1024 images that neither saw; moved, the distance of their weights
    over the length of the push; both are geometric means over the starts. Raises ValueError for settings that are out of range.
    """
    if max(times) >= steps:
        raise ValueError(f"times={[*times]} is too late for steps={steps}; allowed: steps below that")
    times = sorted(times)
    images = data.digits(N_TRAIN + 1024)
    train, unseen = (Dataset(images.x[part], images.y[part]) for part in (slice(N_TRAIN), slice(N_TRAIN, None)))
    net = NetworkOnData(models.mlp((64, width, width, 10)), train, "lr")
    shape = (starts, 1 + len(times) * directions, net.n_parameters)  # of each start first the one that is not pushed
    run = Experiment(net, eta=eta, batch_size=batch_size, seed=seed, streams=np.repeat(range(starts), shape[1]), device=device)
    push = np.random.default_rng([seed, 1]).normal(size=(starts, directions, net.n_parameters))
    length = size * run.state.weights.reshape(shape)[:, :1].norm(dim=-1, keepdim=True)
    push = torch.from_numpy(push / np.linalg.norm(push, axis=-1, keepdims=True)).to(length) * length
    for k, time in enumerate(times):
        run.advance(time - run.state.step)
        weights = run.state.weights.clone()
        weights.reshape(shape)[:, 1 + k * directions : 1 + (k + 1) * directions] += push
        run.put(weights)
    run.advance(steps - run.state.step)
    run.raise_if_diverged()
    w, p = run.state.weights.reshape(shape), net.replicas.outputs(run.state.weights, unseen.x.to(device)).softmax(-1)
    p = p.reshape(*shape[:2], *p.shape[1:])
    found = {
        "changed": (p[:, 1:] - p[:, :1]).abs().sum(-1).mean(-1) / 2,
        "moved": (w[:, 1:] - w[:, :1]).norm(dim=-1) / length[..., 0],
    }
    of_starts = {name: x.reshape(starts, -1, directions).mean(-1).log().mean(0).exp() for name, x in found.items()}
    found = {name: ("push", x.cpu().numpy()) for name, x in of_starts.items()}
    return xr.Dataset(found, {"push": times}, {"steps": steps, "size": size})


@decides("irreversibility.chaos-transient", reads=["times", "steps", "size", "eta", "batch_size", "width"])
def chaos_transient(perturbed: xr.Dataset) -> Decision:
    """Logarithm of the effect of a push within the first steps over that of an equal push halfway through training.

    The control takes the last push of all in place of the first ones. The pushes come before and at half of the steps.
    """
    log = np.log(perturbed["changed"])
    half = log.sel(push=perturbed.attrs["steps"] // 2)
    early, late = log.sel(push=slice(None, FIRST_STEPS)).mean("push"), log.isel(push=-1)
    measured, control = few_seeds(early - half), few_seeds(late - half)
    return with_control(measured, control, 0.0, "the push applied late in training", predicted=LARGER, relation="above")


# --- one task after another -------------------------------------------------------------------------------------------
@recipe("one task after another", dims=("task", "seed"))
def tasks(
    *,
    n_tasks: Count = 60,
    steps: Count = 300,
    eta: Positive = 0.2,
    batch_size: Count = 16,
    width: Count = 32,
    replicas: Count = 6,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """A perceptron that learns digits under one permutation of the pixels after another, and new ones that learn the last alone.

    steps: of each task; replicas: of each arm and seed, which see the same tasks.

    Returns a Dataset. Dims (task, seed): dead, the share of hidden neurons that no image of the task activates, and accuracy
    on the task's own images, both at the task's end. Dim (seed): fresh_dead and fresh_accuracy of the new network after the
    last.
    Raises ValueError for settings that are out of range.
    """
    images, rng = data.digits(N_TRAIN).to(device), np.random.default_rng([seed, 2])
    net = NetworkOnData(models.mlp((64, width, width, 10)), images, "lr")
    settings = {"eta": eta, "batch_size": batch_size, "seed": seed, "device": device}
    run, rows = Experiment(net, replicas=replicas, **settings), []
    for _ in range(n_tasks):
        net.use(Dataset(images.x[:, rng.permutation(64)], images.y))
        run.advance(steps)
        rows.append((dead_share(net, run.state.weights), accuracy(net, run.state.weights)))
    run.raise_if_diverged()
    fresh = Experiment(net, streams=np.arange(replicas, 2 * replicas), **settings)
    fresh.advance(steps)
    dead, right = np.mean(rows, -1).T
    found = {"dead": ("task", dead), "accuracy": ("task", right)}
    found |= {
        "fresh_dead": dead_share(net, fresh.state.weights).mean(),
        "fresh_accuracy": accuracy(net, fresh.state.weights).mean(),
    }
    return xr.Dataset(found, {"task": np.arange(1, n_tasks + 1)})


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


@decides("irreversibility.dead-neurons", reads=["n_tasks", "steps", "eta", "batch_size", "width"])
def dead_neurons(tasks: xr.Dataset) -> Decision:
    """The smaller of the share of neurons that died and of the accuracy that was lost, of the last task against the first.

    The control is the same of a new network on the last task.
    """
    first, last = tasks.isel(task=0), tasks.isel(task=-1)

    def lost(dead: xr.DataArray, accuracy: xr.DataArray) -> Estimate:
        return min(few_seeds(dead - first["dead"]), few_seeds(first["accuracy"] - accuracy))

    old, new = lost(last["dead"], last["accuracy"]), lost(tasks["fresh_dead"], tasks["fresh_accuracy"])
    name = "a newly initialised network that sees the last task only"
    return with_control(old, new, 0.0, name, predicted=LOST, relation="above")
