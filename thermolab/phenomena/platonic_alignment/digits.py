"""Nonlinear networks on digits: which layers of two networks align, with and without noise in the labels.

Network A and network B see the first principal components of scikit-learn's digits, each with a view of its own: A magnifies
the last components, B the first. They learn one-hot labels, to which Gaussian noise is added, under the squared loss. Each
image comes in many noisy copies whose noise averages to 0, so that the loss has the minimum of clean labels and no noise is
there to be learnt; what noise in the labels adds is noise in the gradient, which lasts when the images have been learnt.
Two networks A from two random starts are one architecture; A and B are two.
Source: document 2, main results; document 4, part 3, "nonlinear networks". Limit: for a ReLU network no kernel is known in
closed form, for its neurons can be rescaled but not mixed; in a tanh network not even that, and noise need not align anything.

The claims all ask whether a CKA exceeds REACHED, 0.9, the published figure of document 2, so there is no other tolerance. CKA is
of the images that the networks learnt from, at the end of training; new images read less, nearer to 0.9 than can be decided.
ACCURACY: arms with and without noise count as equally accurate if they are on new images to 0.02; otherwise nothing is decided.

The start that decides has variance 1/fan-in (LeCun). How much two networks agree without noise is a matter of it: from a small
start they come to agree by themselves, from a large one they do not. With noise they do from any, if later (`presets.STARTS`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, few_seeds, with_control
from thermolab.engine import schedules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Counts, Positive, Rule, integer, not_negative, refuse, several
from thermolab.instruments import alignment
from thermolab.phenomena.platonic_alignment.networks import WARM_UP
from thermolab.systems import data, embedded_linear, models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import Answers

REACHED, ACCURACY = 0.9, 0.02
IMAGES, SEEN, KEPT, COPIES = 1797, 1200, 32, 24  # all images, those learnt, principal components, noisy copies of each
STRETCH = (0.4, 1.6)  # of the components in the view of A, from the first to the last; of B: from the last to the first
PROFILE = np.linspace(1.6, 0.4, 10)  # noise of the ten labels, in units of their mean
LECUN = math.sqrt(0.5)  # variance 1/fan-in, in units of the start of `models`, 2/fan-in
MARKS = 7  # moments at which the networks are compared: 0 and the last 6 halvings of the time
SETS = ("seen", "new")
PARTS = (slice(SEEN), slice(SEEN, None))


def _once(x) -> tuple:
    values = several(not_negative()).convert(x)
    return values if len(set(values)) == len(values) else refuse("has a value twice")


@recipe(
    "{activation} networks on digits",
    dims=("noise", "seed", "time", "images", "layer_a", "layer_b", "net"),
    over={"noises": "noise"},
)
def digits(
    noises: Annotated[Sequence[float], Rule("a list of numbers of 0 or more, each once", _once)] = (0.0, 0.5),
    *,
    activation: Literal["relu", "tanh"] = "relu",
    shape_a: Counts = (48, 48),
    shape_b: Counts = (32, 32, 32),
    eta: Positive = 0.02,
    batch_size: Count = 8,
    steps: Annotated[int, integer(2 ** (MARKS - 1))] = 24_000,
    start: Positive = LECUN,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Two networks A and two B on digits, with each of these noises in the labels, from the same starts.

    noises: mean standard deviation of the noise of a label, 0 for none; shape_a, shape_b: widths of the hidden layers; steps: of
    which the first tenth raises η and the last quarter lowers it to 0; start: of the weights, in units of √(2/fan-in).

    Returns a Dataset, dims (noise, seed, time, images), time in steps from 0, images "seen" in training or "new":
    same (…, layer_a): CKA of the hidden layers of the two networks A; cross (…, layer_a, layer_b): CKA of A and B, mean over
    the four pairs; accuracy (…, net) of A and B; null (noise, seed, images): CKA of the last layers of A and B at the end
    with their images shuffled. Layers are counted from 1.
    Raises ValueError for settings that are out of range. Source: document 2.
    """
    runs, views, (noise,) = [], [], noises
    for which, (shape, streams) in enumerate(((shape_a, [0, 1]), (shape_b, [2, 3]))):
        learnt, x, labels = noisy_digits(noise, which, seed=seed)
        net = NetworkOnData(models.mlp((KEPT, *shape, 10), activation=activation), learnt, "lr", loss="squared")
        weights = embedded_linear.start(net, streams, seed, scale=start)
        runs.append(Experiment(net, eta=eta, batch_size=batch_size, streams=streams, weights=weights, seed=seed, device=device))
        views.append(x)
    frames = [run.drive(schedules.linear_decay(eta, steps, rise=WARM_UP), marks(steps), steps) for run in runs]
    rows = [_compare(runs, views, labels) for _ in zip(*frames, strict=True)]
    a, b = (_layers(run, x)[-2] for run, x in zip(runs, views, strict=True))
    null = [alignment.null(a[0, part], b[0, part], 20).mean() for part in PARTS]
    dims = {"same": ("layer_a",), "cross": ("layer_a", "layer_b"), "accuracy": ("net",)}
    found = {k: (("time", "images", *dims[k]), np.stack([row[k] for row in rows])) for k in rows[0]}
    coords = {"time": marks(steps), "images": list(SETS), "net": ["A", "B"],
              "layer_a": np.arange(len(shape_a)) + 1, "layer_b": np.arange(len(shape_b)) + 1}  # fmt: skip
    return xr.Dataset(found | {"null": ("images", null)}, coords=coords).expand_dims(noise=[noise])


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


def _layers(run: Experiment, x: torch.Tensor) -> list[torch.Tensor]:
    """Features [R, n, width] of the hidden layers, and the outputs."""
    return embedded_linear.hidden(run.system, run.state.weights, x.to(run.device), ends=True)[1:]


def _compare(runs, views, labels) -> dict[str, np.ndarray]:
    """same [images, layer_a], cross [images, layer_a, layer_b], accuracy [images, net] at this moment."""
    a, b = (_layers(run, x) for run, x in zip(runs, views, strict=True))
    accuracy = np.stack([h[-1].argmax(-1).cpu().numpy() == labels for h in (a, b)], -1)
    rows = []
    for part in PARTS:
        own, other = ([h[:, part] for h in layers[:-1]] for layers in (a, b))
        same = [alignment.cka(*h, samples=-2) for h in own]
        cross = alignment.layer_cka([h[:, None] for h in own], other, samples=-2).mean((0, 1))
        rows.append({"same": np.array(same), "cross": cross, "accuracy": accuracy[:, part].mean((0, 1))})
    return {k: np.stack([row[k] for row in rows]) for k in rows[0]}


# --- the claims ---------------------------------------------------------------------------------------------------------
def at_end(data: xr.Dataset) -> xr.Dataset:
    """The images learnt, at the end of training."""
    return data.isel(time=-1).sel(images="seen")


def last(cka: xr.DataArray) -> xr.DataArray:
    """That of the last hidden layers."""
    return cka.isel({name: -1 for name in ("layer_a", "layer_b") if name in cka.dims})


_decides = functools.partial(decides, reads=["noises", "shape_a", "shape_b", "steps", "start"], data="digits_relu")


@_decides("platonic.same-architecture")
def same_architecture(data: xr.Dataset) -> Decision:
    """CKA of the last layers of two networks A with the most noise in the labels, against the least; both equally accurate."""
    arms = [data.sel(noise=noise) for noise in (data["noise"].max(), data["noise"].min())]
    accuracies = [float(arm["accuracy"].isel(time=-1).sel(images="new", net="A").mean()) for arm in arms]
    measured, control = (few_seeds(last(at_end(arm)["same"])) for arm in arms)
    if abs(accuracies[0] - accuracies[1]) > ACCURACY:
        control = Estimate(math.nan, math.nan, control.n)
    return with_control(measured, control, 0.0, "no noise in the labels, the same accuracy", REACHED, "above")


@_decides("platonic.digits.all-layers")
def all_layers(data: xr.Dataset) -> Decision:
    """CKA of A and B with the most noise in the labels, mean over all pairs of hidden layers, against the last pair."""
    cross = at_end(data.sel(noise=data["noise"].max()))["cross"]
    measured, control = few_seeds(cross.mean(("layer_a", "layer_b"), skipna=False)), few_seeds(last(cross))
    return with_control(measured, control, 0.0, "the last pair of layers", REACHED, "above")
