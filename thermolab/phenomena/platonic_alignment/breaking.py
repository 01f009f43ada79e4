"""What breaks the alignment of two embedded deep linear networks, and what does not: one change at a time.

Network A and network B learn the same data through views of their own (`embedded_linear`). Each case changes one thing in both or in
B alone; the rest stays as it is, random starts and batches included. The proof that they align (arXiv:2507.01098) needs the
global minimum of F = L + (η/4) E|g|², on the same data up to an invertible view. So there are six ways to break it:

- weight decay adds a term to F that depends on the units of the views;
- a transformation of the labels that is not orthogonal is another V and another Σ_ε, so another G;
- at a saddle of L some directions of V are not learnt at all: neurons that begin with no weights in or out stay without;
- without noise E|g|² = 0 at every minimum of L: nothing tells them apart;
- in a finite time, of the order of 1/η², the networks do not get there;
- a view that is not invertible hides part of what the other network sees.

Limit: how much each way costs depends on its strength, which is free; the strengths here are those at which it shows.
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
from thermolab.phenomena.platonic_alignment import networks
from thermolab.systems import embedded_linear
from thermolab.systems.regression import Answers


def both(**changes) -> tuple[dict, dict]:
    """A case that changes the same in A and in B."""
    return changes, changes


def other(**changes) -> tuple[dict, dict]:
    """A case that changes B alone."""
    return {}, changes


BASE, AGAIN = "none", "none, other starts"
WAYS = {
    "weight decay": both(lam=0.1),
    "labels transformed": other(labels=(0.25, 1.0)),
    "saddle": other(live=2),
    "no noise": both(noise=0.0),
    "too little time": both(time=0.025),
    "view not invertible": other(rank=4),
}
# Capacity and number of tasks, each with and without noise.
PLAIN = {"as it is": {}, "narrow": {"width": 6}, "wide": {"width": 24}, "one answer": {"answers": 1}}
QUIET = "{}, no noise"
PRIOR = QUIET.format("weight decay")
CASES = {
    BASE: both(),
    AGAIN: both(stream=1),
    **WAYS,
    **{name: both(**changes) for name, changes in PLAIN.items()},
    **{QUIET.format(name): both(**changes, noise=0.0) for name, changes in PLAIN.items()},
    PRIOR: both(lam=0.1, noise=0.0),
}
# What a case may change. lam: λ; labels: range of the singular values of a matrix that the answers are multiplied by; live:
# neurons of each hidden layer that have weights at all; noise: factor on that of the answers; time: factor on the steps;
# rank: of the view of the inputs; width: of the hidden layers; answers: how many; stream: another start and other batches.
CHANGES = {"lam": 0.0, "labels": None, "live": None, "noise": 1.0, "time": 1.0, "rank": None, "width": None, "answers": None,
           "stream": 0}  # fmt: skip


@Recipe
def pairs(
    cases=None,
    *,
    depth_a: int = 3,
    width_a: int = 8,
    depth_b: int = 4,
    width_b: int = 12,
    eta: float = 0.02,
    batch_size: int = 8,
    steps: int = 12_000,
    spectrum=embedded_linear.SPECTRUM,
    noise=embedded_linear.NOISE,
    d_x: int = 6,
    start: float = networks.START,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Two embedded deep linear networks under each of the cases.

    cases: {name: (changes of A, changes of B)} out of `CHANGES`; default: `CASES`. depth, width: trainable matrices and width of
    the hidden layers; steps: of which the last quarter lowers η to 0; spectrum: singular values of V; noise: standard deviation
    of each answer's; d_x: inputs; start: of the weights, in units of the usual one.

    Returns a Dataset, dims (case, seed): cka (…, layer_a, layer_b) of the hidden layers of A with those of B on fresh inputs;
    excess (…, net): mean |f(x) - Vx|² on those, with V as the case has it. Layers are counted from 1.
    Raises ValueError for settings that are out of range and changes that are unknown. Source: arXiv:2507.01098.
    """
    cases = dict(CASES if cases is None else cases)
    validate.counts(
        depth=min(depth_a, depth_b) - 1, width=min(width_a, width_b), batch_size=batch_size, steps=steps, n_seeds=n_seeds
    )
    validate.positive(eta=eta, start=start)
    unknown = sorted({k for case in cases.values() for changes in case for k in changes} - set(CHANGES))
    if unknown:
        raise ValueError(f"changes {unknown} are unknown; allowed: {', '.join(CHANGES)}")
    for changes in (changes for case in cases.values() for changes in case):
        validate.counts(**{k: v for k, v in changes.items() if k in ("answers", "rank", "live", "width")})
        validate.positive(**{k: v for k, v in changes.items() if k == "time"})
        if changes.get("answers", 1) > len(spectrum) or not 0 <= changes.get("noise", 1.0) < np.inf:
            raise ValueError(
                f"changes={changes} are not allowed; allowed: {len(spectrum)} answers at the most, noise of 0 or more"
            )
    if not 1 <= len(spectrum) == len(noise) <= d_x:
        raise ValueError(
            f"{len(spectrum)} singular values, {len(noise)} noises, d_x={d_x}: as many of the first two, d_x or less"
        )
    common = {"eta": eta, "batch_size": batch_size, "steps": steps, "spectrum": tuple(spectrum), "noises": tuple(noise),
              "d_x": d_x, "start": start, "device": str(device)}  # fmt: skip
    numbers, shapes = seeds(seed, n_seeds), ((depth_a, width_a), (depth_b, width_b))
    jobs = {  # cases share the networks that they leave alone
        (s, which, _key(case[which])): common | {"which": which, "shape": shapes[which], "changes": case[which], "seed": s}
        for s in numbers
        for which in (1, 0)
        for case in cases.values()
    }
    parts = yield Jobs(_train, list(jobs.values()), "what breaks alignment")
    trained = dict(zip(jobs, parts, strict=True))
    nets = [[[trained[s, which, _key(case[which])] for which in (0, 1)] for s in numbers] for case in cases.values()]
    cka = [[alignment.layer_cka(a[0], b[0]) for a, b in row] for row in nets]
    excess = [[(a[1], b[1]) for a, b in row] for row in nets]
    coords = {"case": list(cases), "seed": numbers, "net": ["A", "B"], "layer_a": np.arange(1, depth_a),
              "layer_b": np.arange(1, depth_b)}  # fmt: skip
    dims = ("case", "seed")
    return xr.Dataset({"cka": ((*dims, "layer_a", "layer_b"), cka), "excess": ((*dims, "net"), excess)}, coords=coords)


def _key(changes: dict) -> tuple:
    return tuple(sorted(changes.items()))


@functools.lru_cache(8)  # several cases in a row have the same
def _task(spectrum, noises, factor, d_x, seed) -> tuple[np.ndarray, Answers]:
    """V and the data."""
    v = embedded_linear.target(spectrum, d_x, seed=seed)
    return v, embedded_linear.answers(v, factor * np.array(noises), seed=seed)


def _train(*, changes, which, shape, seed, eta, batch_size, steps, spectrum, noises, d_x, start, device) -> tuple:
    """Features [n, width] of each hidden layer of one network, and its excess."""
    case, (depth, width) = CHANGES | changes, shape
    d_y = len(spectrum) if case["answers"] is None else case["answers"]
    v, learnt = _task(spectrum[:d_y], noises[:d_y], case["noise"], d_x, seed)
    view = embedded_linear.view(d_x, d_y, seed=2 * seed + which)
    if case["labels"] is not None:
        mixed = embedded_linear.view(d_y, d_y, stretch=case["labels"], seed=seed + 2**33).answers
        v, learnt = mixed @ v, Answers(learnt.x, learnt.y @ torch.tensor(mixed.T, dtype=torch.float32))
    if case["rank"] is not None:
        view = embedded_linear.View(_truncated(view.inputs, case["rank"]), view.answers)
    net, streams = (
        embedded_linear.network(view, depth, width if case["width"] is None else case["width"], learnt),
        [2 * case["stream"] + which],
    )
    weights = embedded_linear.start(net, streams, seed, scale=start)
    if case["live"] is not None:
        _silence(list(net.replicas.views(weights).values()), case["live"])
    knobs = {"eta": eta, "lam": case["lam"], "batch_size": batch_size}
    run = Experiment(net, **knobs, streams=streams, weights=weights, seed=seed, device=device)
    end = max(1, round(case["time"] * steps))
    for _ in run.drive(schedules.linear_decay(eta, end), [end], end):  # the frame tells of divergence
        pass
    x = embedded_linear.probe([1.0] * d_x, seed=seed).to(device)
    *hidden, out = (h[0].cpu() for h in embedded_linear.hidden(net, run.state.weights, x, ends=True)[1:])
    excess = networks.excess(networks.Embedded(net, view, weights, seed), out, x.cpu(), v)
    return [h.numpy() for h in hidden], float(excess)


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
