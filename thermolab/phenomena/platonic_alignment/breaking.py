"""What breaks the alignment of two embedded deep linear networks, and what does not: one change at a time.

Network A and network B learn the same data through views of their own (`embedded_linear`). Each case changes one thing in both
or in B alone; the rest stays as it is, random starts and batches included. The proof that they align (arXiv:2507.01098) needs the
global minimum of F = L + (η/4) E|g|², on the same data up to an invertible view. So there are six ways to break it:

- weight decay adds a term to F that depends on the units of the views;
- a transformation of the labels that is not orthogonal is another V and another Σ_ε, so another G;
- at a saddle of L some directions of V are not learnt at all: neurons that begin with no weights in or out stay without;
- without noise E|g|² = 0 at every minimum of L: nothing tells them apart;
- in a finite time, of the order of 1/η², the networks do not get there;
- a view that is not invertible hides part of what the other network sees.

How much each way costs depends on its strength, so each has doses, of which the one that decides follows from a rule: weight
decay as strong as the entropic force, ½λ|w|² = (η/4)E|g|² at the minimum of F; labels transformed by a matrix of the condition
of those of the views; one direction of V at a saddle; no noise at all; the time in which alignment grows by a factor of e
(`theory.rate`); one direction of the inputs hidden. DECAY and FOLD are those of the default settings, means over views.

One tolerance for all, registered before the runs: APART = 0.02, ten times the 1 - CKA of the order of η² that aligned networks
have at the working point (physics page 05: 0.002). Less is alignment, more is a way to break it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine import rules
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive, Positives, integer
from thermolab.instruments import alignment
from thermolab.phenomena.platonic_alignment import networks
from thermolab.systems import embedded_linear
from thermolab.systems.regression import Answers

APART = 0.02


@dataclass(frozen=True)
class Changes:
    """What a case changes of one network.

    lam: λ; labels: range of the singular values of a matrix that the answers are multiplied by; live: neurons of each hidden
    layer that have weights at all; noise: factor on that of the answers; time: factor on the steps; rank: of the view of the
    inputs; width: of the hidden layers; answers: how many; stream: another start and other batches.
    Raises ValueError, one line, for a value that is out of range.
    """

    lam: NotNegative = 0.0
    labels: networks.Stretch = None
    live: Count = None
    noise: NotNegative = 1.0
    time: Positive = 1.0
    rank: Count = None
    width: Count = None
    answers: Count = None
    stream: Annotated[int, integer(0)] = 0

    def __post_init__(self):
        rules.checked(rules.rules_of(Changes), vars(self))

    def __str__(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in vars(self).items() if v != getattr(Changes, k))


def both(**changes) -> tuple[Changes, Changes]:
    """A case that changes the same in A and in B."""
    return Changes(**changes), Changes(**changes)


def other(**changes) -> tuple[Changes, Changes]:
    """A case that changes B alone."""
    return Changes(), Changes(**changes)


DECAY, FOLD = 0.025, 0.05  # λ; share of the steps
CONDITION = max(embedded_linear.STRETCH) / min(embedded_linear.STRETCH)  # of the matrices of the views
BASE, AGAIN = "none", "none, other starts"
# {way: {dose: what it changes}}, from weak to strong; dose 1 decides
DOSES = {
    "weight decay": {k: both(lam=DECAY * k) for k in (0.5, 1.0, 2.0)},
    "labels transformed": {k: other(labels=(CONDITION**-k, 1.0)) for k in (0.5, 1.0, 1.5)},
    "saddle": {k: other(live=len(embedded_linear.SPECTRUM) - int(k)) for k in (1.0, 2.0, 3.0)},
    "no noise": {k: both(noise=1 - k) for k in (0.5, 0.75, 1.0)},
    "too little time": {k: both(time=FOLD / k) for k in (0.5, 1.0, 2.0)},
    "view not invertible": {k: other(rank=6 - int(k)) for k in (1.0, 2.0, 3.0)},
}
WAYS = {way: doses[1.0] for way, doses in DOSES.items()}
STRONG = DOSES["weight decay"][2.0][0].lam
# Capacity and number of tasks, each with and without noise.
PLAIN = {"as it is": {}, "narrow": {"width": 6}, "wide": {"width": 24}, "one answer": {"answers": 1}}
QUIET = "{}, no noise"
PRIOR = QUIET.format("weight decay")
CASES = {
    BASE: both(),
    AGAIN: both(stream=1),
    **WAYS,
    **{f"{way}, {k:g}": case for way, doses in DOSES.items() for k, case in doses.items() if k != 1},
    **{name: both(**changes) for name, changes in PLAIN.items()},
    **{QUIET.format(name): both(**changes, noise=0.0) for name, changes in PLAIN.items()},
    PRIOR: both(lam=STRONG, noise=0.0),
}


@recipe("what breaks alignment", dims=("case", "seed", "layer_a", "layer_b", "net"))
def pairs(
    cases: Mapping[str, tuple[Changes, Changes]] = CASES,
    *,
    shapes: networks.Shapes,
    training: networks.Training,
    spectrum: Positives = embedded_linear.SPECTRUM,
    noise: Positives = embedded_linear.NOISE,
    d_x: Count = 6,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Two embedded deep linear networks under each of the cases.

    cases: {name: (changes of A, changes of B)}, see `Changes`, `both`, `other`; spectrum: singular values of V; noise: σ of each
    answer; d_x: inputs; the rest as in `networks`.

    Returns a Dataset, dims (case, seed): cka (…, layer_a, layer_b) of the hidden layers of A with those of B on fresh inputs;
    excess (…, net): mean |f(x) - Vx|² on those, with V as the case has it. Layers are counted from 1.
    Raises ValueError for settings that are out of range. Source: arXiv:2507.01098.
    """
    if len(noise) != len(spectrum):
        raise ValueError(f"noise={list(noise)} has another length; allowed: {len(spectrum)} numbers, as spectrum has")
    if d_x < len(spectrum):
        raise ValueError(f"d_x={d_x} is too small; allowed: {len(spectrum)} or more, as spectrum has")
    for changes in (changes for case in cases.values() for changes in case):
        if (changes.answers or 1) > len(spectrum):
            raise ValueError(f"answers={changes.answers} are too many; allowed: {len(spectrum)} at the most, as spectrum has")

    @functools.cache  # cases share the networks that they leave alone
    def trained(which: int, changes: Changes):
        return _trained(changes, which, shapes.each[which], training, spectrum, noise, d_x, seed, device)

    nets = [[trained(which, changes) for which, changes in enumerate(case)] for case in cases.values()]
    cka, excess = [alignment.layer_cka(a[0], b[0]) for a, b in nets], [(a[1], b[1]) for a, b in nets]
    return xr.Dataset(
        {"cka": (("case", "layer_a", "layer_b"), cka), "excess": (("case", "net"), excess)},
        coords={"case": list(cases), "net": ["A", "B"], "layer_a": np.arange(1, shapes.depth_a),
                "layer_b": np.arange(1, shapes.depth_b)},
    )  # fmt: skip


def _trained(
    changes: Changes, which: int, shape, training: networks.Training, spectrum, noise, d_x: int, seed: int, device: str
) -> tuple[list[np.ndarray], float]:
    """Features [n, width] of each hidden layer of network `which`, 0 for A and 1 for B, and its excess."""
    (depth, width), d_y = shape, changes.answers or len(spectrum)
    v = embedded_linear.target(spectrum[:d_y], d_x, seed=seed)
    learnt = embedded_linear.answers(v, changes.noise * np.array(noise[:d_y]), seed=seed)
    view = embedded_linear.view(d_x, d_y, seed=2 * seed + which)
    if changes.labels is not None:
        mixed = embedded_linear.view(d_y, d_y, stretch=changes.labels, seed=seed + 2**33).answers
        v, learnt = mixed @ v, Answers(learnt.x, learnt.y @ torch.tensor(mixed.T, dtype=torch.float32))
    if changes.rank is not None:
        view = embedded_linear.View(_truncated(view.inputs, changes.rank), view.answers)
    net, stream = embedded_linear.network(view, depth, changes.width or width, learnt), 2 * changes.stream + which
    weights = embedded_linear.start(net, [stream], seed, scale=training.start)
    if changes.live is not None:
        _silence(list(net.replicas.views(weights).values()), changes.live)
    weights = training.ended(net, weights, stream, seed=seed, device=device, lam=changes.lam, time=changes.time)
    x = embedded_linear.probe([1.0] * d_x, seed=seed).to(device)
    *hidden, out = (h[0].cpu() for h in embedded_linear.hidden(net, weights, x, ends=True)[1:])
    return [h.numpy() for h in hidden], float(networks.excess(view, out, x.cpu(), v))


def _truncated(matrix: np.ndarray, rank: int) -> np.ndarray:
    """The matrix without its smallest singular values."""
    u, s, w = np.linalg.svd(matrix)
    return u[:, :rank] * s[:rank] @ w[:rank]


def _silence(layers, live: int) -> None:
    """Weights to and from all neurons of a hidden layer but the first `live`, set to 0 in place."""
    for i, matrix in enumerate(layers):
        if i < len(layers) - 1:
            matrix[:, live:] = 0
        if i:
            matrix[:, :, live:] = 0


# --- the claims ---------------------------------------------------------------------------------------------------------
def mean_pair(data: xr.Dataset) -> xr.DataArray:
    """Mean CKA of all pairs of a hidden layer of A and one of B, (case, seed)."""
    return data["cka"].mean(("layer_a", "layer_b"), skipna=False)


def lowered(data: xr.Dataset) -> xr.DataArray:
    """By how much a case lowers the CKA of A and B, (case, seed)."""
    cka = mean_pair(data)
    return cka.sel(case=BASE) - cka


_decides = functools.partial(decides, reads=["spectrum", "noise", "d_x", "steps", "start"], data="pairs")


def response(data: xr.Dataset, way: str) -> xr.DataArray:
    """Mean CKA (dose, seed) of a way at each of its doses, 0 first."""
    names = [BASE, *(way if k == 1 else f"{way}, {k:g}" for k in DOSES[way])]
    return mean_pair(data).sel(case=names).rename(case="dose").assign_coords(dose=[0.0, *DOSES[way]])


@_decides("platonic.break")
def ways(data: xr.Dataset) -> Decision:
    """Fall of the mean CKA of A and B by the way that lowers it least; control: by none of the six."""
    drop = lowered(data)
    drops = drop.sel(case=list(WAYS)).transpose("case", "seed").values
    weakest = few_seeds(drops[drops.mean(1).argmin()])
    return with_control(weakest, few_seeds(drop.sel(case=AGAIN)), 0.0, "none of the six, from other starts", APART, "above")


@_decides("platonic.weight-decay")
def weight_decay(data: xr.Dataset) -> Decision:
    """CKA of the worst pair at a weight decay as strong as the entropic force, against λ = 0."""
    worst = data["cka"].min(("layer_a", "layer_b"), skipna=False)
    measured, control = (few_seeds(worst.sel(case=name)) for name in ("weight decay", BASE))
    return with_control(measured, control, 0.0, "λ = 0", 1 - APART, "below")


@_decides("platonic.not-simplicity")
def not_simplicity(data: xr.Dataset) -> Decision:
    """Mean CKA of A and B, with noise the least of all sizes and tasks; without noise the best is the control."""
    cka = mean_pair(data).transpose("case", "seed")
    noisy = cka.sel(case=list(PLAIN)).values
    quiet = cka.sel(case=[QUIET.format(name) for name in PLAIN] + [PRIOR]).values
    worst, best = few_seeds(noisy[noisy.mean(1).argmin()]), few_seeds(quiet[quiet.mean(1).argmax()])
    return with_control(worst, best, APART, "the noise switched off, the best aligned of all arms", 1.0, "above")
