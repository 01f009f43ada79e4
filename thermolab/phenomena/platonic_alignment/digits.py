"""Nonlinear networks on digits: which layers of two networks align, with and without noise in the labels.

Network A and network B see the first principal components of scikit-learn's digits, each with a view of its own: A magnifies
the last components, B the first. They learn one-hot labels, to which Gaussian noise is added, under the squared loss. Each
image comes in many noisy copies whose noise averages to 0, so that the loss has the minimum of clean labels and no noise is
there to be learnt; what noise in the labels adds is noise in the gradient, which lasts when the images have been learnt.
Two networks A from two random starts are one architecture; A and B are two.
Source: document 2, main results; document 4, part 3, "nonlinear networks". Limit: for a ReLU network no kernel is known in
closed form, for its neurons can be rescaled but not mixed; in a tanh network not even that, and noise need not align anything.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import xarray as xr

from thermolab.engine import schedules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import alignment
from thermolab.phenomena.common import validate
from thermolab.systems import data, embedded_linear, models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import Answers

IMAGES, SEEN, KEPT, COPIES = 1797, 1200, 32, 24  # all images, those learnt, principal components, noisy copies of each
STRETCH = (0.4, 1.6)  # of the components in the view of A, from the first to the last; of B: from the last to the first
PROFILE = np.linspace(1.6, 0.4, 10)  # noise of the ten labels, in units of their mean
MARKS = 7  # moments at which the networks are compared: 0 and the last 6 halvings of the time
SETS = ("seen", "new")


@Recipe
def digits(
    noises=(0.0, 0.5),
    *,
    activation: str = "relu",
    shape_a=(48, 48),
    shape_b=(32, 32, 32),
    eta: float = 0.02,
    batch_size: int = 8,
    steps: int = 32_000,
    start: float = 0.7,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Two networks A and two B on digits, with each of these noises in the labels, from the same starts.

    noises: mean standard deviation of the noise of a label, 0 for none; activation: "relu" or "tanh"; shape_a, shape_b: widths
    of the hidden layers; steps: of which the last quarter lowers η to 0; start: of the weights, in units of the usual one.

    Returns a Dataset, dims (noise, time, images, seed), time in steps from 0, images "seen" in training or "new":
    same (…, layer_a): CKA of the hidden layers of the two networks A; cross (…, layer_a, layer_b): CKA of A and B, mean over
    the four pairs; accuracy (…, net) of A and B; null (noise, images, seed): CKA of the last layers of A and B at the end
    with their images shuffled. Layers are counted from 1.
    Raises ValueError for settings that are out of range. Source: document 2.
    """
    validate.counts(batch_size=batch_size, n_seeds=n_seeds, width=min(*shape_a, *shape_b))
    validate.positive(eta=eta, start=start)
    if steps < 2 ** (MARKS - 1):
        raise ValueError(f"steps={steps} are too few; allowed: {2 ** (MARKS - 1)} or more")
    if min(noises) < 0 or len(set(noises)) < len(noises):
        raise ValueError(f"noises={tuple(noises)}; allowed: 0 or more, each once")
    if activation not in models.ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is unknown; allowed: {', '.join(models.ACTIVATIONS)}")
    common = {"activation": activation, "shapes": (tuple(shape_a), tuple(shape_b)), "eta": eta, "batch_size": batch_size,
              "steps": steps, "start": start, "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    jobs = [common | {"noise": noise, "seed": s} for noise in noises for s in numbers]
    parts = yield Jobs(_train, jobs, f"{activation} networks on digits")
    values = {k: np.stack([p[k] for p in parts]) for k in parts[0]}
    values = {k: v.reshape(len(noises), n_seeds, *v.shape[1:]) for k, v in values.items()}
    dims = {"same": ("time", "images", "layer_a"), "cross": ("time", "images", "layer_a", "layer_b"),
            "accuracy": ("time", "images", "net"), "null": ("images",)}  # fmt: skip
    coords = {"noise": list(noises), "time": marks(steps), "images": list(SETS), "seed": numbers, "net": ["A", "B"],
              "layer_a": np.arange(len(shape_a)) + 1, "layer_b": np.arange(len(shape_b)) + 1}  # fmt: skip
    return xr.Dataset({k: (("noise", "seed", *dims[k]), v) for k, v in values.items()}, coords=coords)


def marks(steps: int) -> list[int]:
    """0 and the last halvings of the time.

    >>> marks(1024)
    [0, 32, 64, 128, 256, 512, 1024]
    """
    return [0, *(steps >> k for k in reversed(range(MARKS - 1)))]


def noisy_digits(noise: float, which: int, *, seed: int = 0) -> tuple[Answers, torch.Tensor, np.ndarray]:
    """What network `which`, 0 for A and 1 for B, learns; all images [1797, 32] as it sees them, seen ones first; their labels."""
    images, labels = _components(seed)
    x = images * np.linspace(*STRETCH, KEPT)[:: 1 - 2 * which]
    e = np.random.default_rng([seed, 4]).standard_normal((COPIES, SEEN, 10))
    e = (e - e.mean(0)) * np.sqrt(COPIES / (COPIES - 1)) * noise * PROFILE
    y = np.eye(10)[labels[:SEEN]] + e
    learnt = [torch.tensor(a, dtype=torch.float32) for a in (np.tile(x[:SEEN], (COPIES, 1)), y.reshape(-1, 10))]
    return Answers(*learnt), torch.from_numpy(x), labels


@functools.cache
def _components(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """First principal components [1797, 32] of all images, variance 1 in the mean, and the labels."""
    whole = data.digits(IMAGES, seed=seed)
    x = whole.x.double().numpy()
    _, directions = np.linalg.eigh(x.T @ x)
    x = x @ directions[:, : -KEPT - 1 : -1]
    return x / x.std(), whole.y.numpy()


def _train(*, noise, activation, shapes, eta, batch_size, steps, start, seed, device) -> dict[str, np.ndarray]:
    """The variables of `digits` at one noise and seed."""
    runs, views = [], []
    for which, streams in enumerate(([0, 1], [2, 3])):
        learnt, x, labels = noisy_digits(noise, which, seed=seed)
        net = NetworkOnData(models.mlp((KEPT, *shapes[which], 10), activation=activation), learnt, "lr", loss="squared")
        weights = embedded_linear.start(net, streams, seed, scale=start)
        runs.append(Experiment(net, eta=eta, batch_size=batch_size, streams=streams, weights=weights, seed=seed, device=device))
        views.append(x)
    frames = [run.drive(schedules.linear_decay(eta, steps), marks(steps), steps) for run in runs]
    rows = [_compare(runs, views, labels) for _ in zip(*frames, strict=True)]
    found = {k: np.stack([row[k] for row in rows]) for k in rows[0]}
    a, b = (_layers(run, x)[-2] for run, x in zip(runs, views, strict=True))
    null = [alignment.null(a[0, part], b[0, part], 20).mean() for part in _PARTS]
    return found | {"null": np.array(null)}


_PARTS = (slice(SEEN), slice(SEEN, None))


def _layers(run: Experiment, x: torch.Tensor) -> list[torch.Tensor]:
    """Features [R, n, width] of the hidden layers, and the outputs."""
    return embedded_linear.hidden(run.system, run.state.weights, x.to(run.device), ends=True)[1:]


def _compare(runs, views, labels) -> dict[str, np.ndarray]:
    """same [images, layer_a], cross [images, layer_a, layer_b], accuracy [images, net] at this moment."""
    a, b = (_layers(run, x) for run, x in zip(runs, views, strict=True))
    accuracy = np.stack([h[-1].argmax(-1).cpu().numpy() == labels for h in (a, b)], -1)
    rows = []
    for part in _PARTS:
        own, other = ([h[:, part] for h in layers[:-1]] for layers in (a, b))
        same = [alignment.cka(*h) for h in own]
        cross = alignment.layer_cka([h[:, None] for h in own], other).mean((0, 1))
        rows.append({"same": np.array(same), "cross": cross, "accuracy": accuracy[:, part].mean((0, 1))})
    return {k: np.stack([row[k] for row in rows]) for k in rows[0]}


def by_activation(noises=(0.0, 0.5), **settings) -> dict:
    """`digits` with ReLU and with tanh, to be awaited `together`."""
    return {name: digits(noises, activation=name, **settings) for name in ("relu", "tanh")}
