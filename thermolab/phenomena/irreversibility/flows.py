"""The arrow of time: descent against its reversal, the gradient flow and half steps, and the entropy that sets them apart.

A step of gradient descent with rate η acts, to first order in η, like motion on another loss, F = L + c η |∇L|². What c is
depends on what is to agree with the step: 1/4 for the gradient flow over a time η, 1/2 for one step of ascent that undoes it,
1/8 for two steps of rate η/2 ((n − 1)/4n for n of rate η/n). With minibatches E|g|² = |∇L|² + Tr cov(g)/B takes the place of
|∇L|², in an epoch that takes each of m batches once Σ_k |∇L_k|²/m. All in float64, a perceptron with the loss |f − y|² on random
data. Source: document 4, part 1; Smith et al., arXiv:2101.12176. Limit: the orders need three derivatives, so no ReLU.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.phenomena.irreversibility.landscape import Landscape, check, flow, settings, together

CONSTANTS = tuple(k / 8 for k in range(9))  # c
AGAINST = ("undo", "flow", "halves")
SHARES = (0.1, 0.05, 0.025, 0.0125)  # η in units of 1/λ_max
SLOWER = 1 / 4  # in an epoch ηm is so much of that, for there the next order is larger
TIME = 2.0  # in units of 1/λ_max
MOST_PARTS, MOST_BATCHES = 6, 300_000  # m of m! orders; minibatches gone through one by one
BLOCK = 4096  # of them at once


@Recipe
def quadratic(rates=(0.02, 0.1, 0.3, 0.9), *, seed: int = 0, n_seeds: int = 5):
    """A step forward and a step back on L = θ²/2.

    rates: η. Returns a Dataset, dims (eta, seed): miss (θ₀ − θ₂)/θ₀; (seed): start θ₀, drawn from a normal distribution.
    Raises ValueError for settings that are out of range. Source: document 4, part 1.
    """
    check(rates, n_seeds=n_seeds)
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_there_and_back, [{"rates": [*rates], "seed": s} for s in numbers], "steps on a parabola")
    return together(parts, numbers, eta=[*rates])


def _there_and_back(*, rates, seed) -> dict:
    start, eta = np.random.default_rng(seed).normal(), np.array(rates)
    there = start - eta * start
    return {"start": ((), start), "miss": (("eta",), (start - (there + eta * there)) / start)}


@Recipe
def steps(
    rates=None,
    *,
    widths=(3, 6, 2),
    activation: str = "tanh",
    n_data: int = 24,
    time: float | None = None,
    constants=CONSTANTS,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Gradient descent on L against what F = L + c η |∇L|² should make agree with it.

    rates: η (default: SHARES over λ_max, the largest curvature at each start); widths: of the perceptron, from inputs
    to outputs; activation: "tanh", "sigmoid", "softplus" or "gelu"; n_data: N; time: training time of the long runs (default:
    TIME over λ_max); constants: c.
    Data and start differ with the seed. Against: "undo", steps of ascent on F, which should lead back to the start; "flow",
    the gradient flow of F over the same time, and "halves", twice as many steps of rate η/2 on F, which should end alike.

    Returns a Dataset, dims (against, constant, rate, seed): local, the distance in weight space after one step, and whole,
    after all the steps of `time`; (against, rate, seed): fitted, the c that makes the local distance least; (rate, seed):
    eta; unlike, |u − v|/|v| of the terms u and v that "undo" and "flow" want in the force, and unlike_shape, the same
    with the fitted c divided out; (seed): lambda_max at the start.
    Raises ValueError for settings that are out of range. Source: document 4, part 1.
    """
    check(rates, time=time, n_seeds=n_seeds)
    if np.ndim(constants) != 1 or not len(constants) or not np.isfinite(constants).all():
        raise ValueError(f"constants={constants} are not allowed; allowed: a list of finite numbers")
    common = {"rates": rates, "time": time, "constants": [*constants]} | settings(widths, activation, n_data, device)
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_steps, [common | {"seed": s} for s in numbers], "steps forward and back")
    return together(parts, numbers, against=[*AGAINST], constant=[*constants])


def _steps(*, rates, time, constants, **network) -> dict:
    """(dims, values) of one seed; each pair of a constant and a rate is one row of weights."""
    land = Landscape(**network)
    sharpest = land.sharpness()
    rates = np.array(SHARES) / sharpest if rates is None else np.array(rates, float)
    often = np.maximum(1, np.round((TIME / sharpest if time is None else time) / rates)).astype(int)
    c, eta = (a.ravel() for a in np.meshgrid(constants, rates, indexing="ij"))
    grid = (len(AGAINST), len(constants), len(rates))
    local, whole = (np.linalg.norm(_gaps(land, c, eta, n), axis=-1).reshape(grid) for n in (1, np.tile(often, len(constants))))
    # what is left at c = 0, over η², is to be made up for by 2 c H ∇L
    wanted = _gaps(land, 0 * rates, rates, 1) / rates[:, None] ** 2
    bend = 2 * land.slopes(land.start)[1][0].cpu().numpy()
    fitted = wanted @ bend / (bend @ bend)
    undo, flowing = wanted[0], wanted[1]
    return {
        "local": (("against", "constant", "rate"), local),
        "whole": (("against", "constant", "rate"), whole),
        "fitted": (("against", "rate"), fitted),
        "eta": (("rate",), rates),
        "unlike": (("rate",), _relative(undo, flowing)),
        "unlike_shape": (("rate",), _relative(undo / fitted[0][:, None], flowing / fitted[1][:, None])),
        "lambda_max": ((), sharpest),
    }


def _gaps(land: Landscape, c, eta, often) -> np.ndarray:
    """Vectors [against, row, P] by which each way misses what it should meet, after `often` steps; c, eta, often: of each row."""
    often = np.broadcast_to(often, eta.shape)
    start = land.start.expand(len(eta), -1)
    c, eta, often = (torch.from_numpy(np.array(a))[:, None].to(start) for a in (c, eta, often))

    def force(w):
        gradient, bend = land.slopes(w)
        return -gradient - 2 * c * eta * bend

    end, halved = start.clone(), start.clone()
    for k in range(int(often.max())):
        end -= eta * (k < often) * land.gradient(end)
        for _ in range(2):
            halved += eta / 2 * (k < often) * force(halved)
    back = end.clone()
    for k in range(int(often.max())):
        back -= eta * (k < often) * force(back)
    return torch.stack([start - back, flow(force, start, often * eta) - end, halved - end]).cpu().numpy()


@Recipe
def epochs(
    rates=None, *, parts: int = 4, widths=(3, 6, 2), activation: str = "tanh",
    n_data: int = 24, seed: int = 0, n_seeds: int = 5, device: str = "cpu",
):  # fmt: skip
    """One epoch that takes each of m minibatches once, in every order, against flows over the time m η.

    rates: η (default: SLOWER · SHARES over m λ_max); parts: m, whose m! orders are all taken; the others as in `steps`.

    Returns a Dataset, dims (term, rate, seed): error, the distance of the mean over all orders from the flow of
    L + (η/4m) Σ_k |∇L_k|², term "batches", and from that of L, term "none"; (rate, seed): one_order, the root mean square
    distance of a single order from the first flow, and eta.
    Raises ValueError for settings that are out of range. Source: Smith et al., arXiv:2101.12176, eq. 1.
    """
    check(rates, n_seeds=n_seeds)
    if not 2 <= parts <= MOST_PARTS or n_data % parts:
        raise ValueError(f"parts={parts} of n_data={n_data} are not allowed; allowed: a divisor of it from 2 to {MOST_PARTS}")
    common = {"rates": rates, "parts": parts} | settings(widths, activation, n_data, device)
    numbers = seeds(seed, n_seeds)
    found = yield Jobs(_epochs, [common | {"seed": s} for s in numbers], "epochs in all orders")
    return together(found, numbers, term=["batches", "none"])


def _epochs(*, rates, parts, **network) -> dict:
    """(dims, values) of one seed."""
    land = Landscape(**network)
    rates = SLOWER * np.array(SHARES) / (parts * land.sharpness()) if rates is None else np.array(rates, float)
    orders = torch.tensor([*itertools.permutations(range(parts))])
    batches = [t.unflatten(0, (parts, -1)) for t in (land.x, land.y)]
    eta = torch.from_numpy(rates)[:, None].to(land.start)
    pace = eta.repeat_interleave(len(orders), 0)
    w = land.start.repeat(len(pace), 1)
    for batch in orders.repeat(len(rates), 1).T:
        w -= pace * land.gradient(w, *(t[batch] for t in batches))
    ends = w.unflatten(0, (len(rates), -1))
    everywhere = [t.repeat(len(rates), 1, 1) for t in batches]

    def force(w):  # the first half of the rows has the term
        _, bends = land.slopes(w[: len(rates)].repeat_interleave(parts, 0), *everywhere)
        term = eta / 2 * bends.unflatten(0, (-1, parts)).mean(1)
        return -land.gradient(w) - torch.cat([term, torch.zeros_like(term)])

    flows = flow(force, land.start.repeat(2 * len(rates), 1), parts * eta.repeat(2, 1)).unflatten(0, (2, -1))
    return {
        "error": (("term", "rate"), (ends.mean(1) - flows).norm(dim=-1).cpu().numpy()),
        "one_order": (("rate",), (ends - flows[0][:, None]).square().sum(-1).mean(-1).sqrt().cpu().numpy()),
        "eta": (("rate",), rates),
    }


@Recipe
def split(
    batch_sizes=(1, 2), *, times=(0, 10, 100, 1000), copies: int = 4, widths=(3, 6, 2), activation: str = "tanh",
    n_data: int = 24, seed: int = 0, n_seeds: int = 5, device: str = "cpu",
):  # fmt: skip
    """The mean squared gradient over all minibatches, drawn with replacement, and what it is made of, along gradient descent.

    batch_sizes: B, each with all its N^B minibatches; times: steps of descent with η = 0.1/λ_max at which to look; copies: data
    sets and starts for each seed; the others as in `steps`.

    Returns a Dataset, dims (batch_size, time, copy, seed): g2 = E|g|², the mean over the minibatches; (time, copy, seed):
    S_GD = |∇L|², trace = Tr cov of the gradients of single samples; (layer, time, copy, seed), for each map p = W h + b:
    S = E|g|² of single samples, product = E[|∇_p l|² (|h|² + 1)], factorised = E|∇_p l|² E(|h|² + 1).
    Raises ValueError for settings that are out of range. Source: document 4, part 1.
    """
    check(None, n_seeds=n_seeds, copies=copies)
    if not len(times) or min(times) < 0 or any(t % 1 for t in times) or [*times] != sorted(times):
        raise ValueError(f"times={[*times]} are not allowed; allowed: whole numbers of steps from 0 on, in order")
    for b in batch_sizes:
        if b < 1 or b % 1 or n_data**b > MOST_BATCHES:
            raise ValueError(f"batch_size={b} of n_data={n_data}; allowed: 1 or more with at most {MOST_BATCHES} batches N^B")
    common = {"batch_sizes": [*batch_sizes], "times": [*times], "copies": copies} | settings(widths, activation, n_data, device)
    numbers = seeds(seed, n_seeds)
    found = yield Jobs(_split, [common | {"seed": s} for s in numbers], "squared gradients")
    return together(found, numbers, batch_size=[*batch_sizes], time=[*times], layer=np.arange(1, len(widths)))


def _split(*, batch_sizes, times, copies, seed, **network) -> dict:
    """(dims, values) of one seed."""
    runs = [_descent(Landscape(seed=(seed, copy), **network), batch_sizes, times) for copy in range(copies)]
    dims = {"g2": ("batch_size",), "S": ("layer",), "product": ("layer",), "factorised": ("layer",)}
    values = {k: np.stack([np.stack([row[k] for row in run], -1) for run in runs], -1) for k in runs[0][0]}
    return {k: ((*dims.get(k, ()), "time", "copy"), v) for k, v in values.items()}


def _descent(land: Landscape, batch_sizes, times) -> list[dict]:
    """What `_entropies` finds at each time."""
    eta, w, rows = SHARES[0] / land.sharpness(), land.start.clone(), []
    for more in np.diff(times, prepend=0):
        for _ in range(more):
            w -= eta * land.gradient(w)
        rows.append(_entropies(land, w, batch_sizes))
    return rows


def _entropies(land: Landscape, w, batch_sizes) -> dict:
    """Values at one point w [1, P]."""
    n, everyone = len(land.x), []
    for b in batch_sizes:
        picks = torch.cartesian_prod(*[torch.arange(n)] * b).view(-1, b)
        squares = [land.gradient(w.expand(len(p), -1), land.x[p], land.y[p]).square().sum() for p in picks.split(BLOCK)]
        everyone.append(float(sum(squares)) / len(picks))
    single = land.gradient(w.expand(n, -1), land.x[:, None], land.y[:, None])
    squares = [(d.square().sum(1), h.square().sum(1) + 1) for h, d in land.maps(w)]
    views = list(land.replicas.views(single).values())  # weight and bias of one map after the other
    return {
        "g2": everyone,
        "S_GD": float(land.gradient(w).square().sum()),
        "trace": float(single.var(0, correction=0).sum()),
        "S": [sum(float(v.square().sum()) / n for v in pair) for pair in zip(views[::2], views[1::2], strict=True)],
        "product": [float((a * b).mean()) for a, b in squares],
        "factorised": [float(a.mean() * b.mean()) for a, b in squares],
    }


def _relative(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """|u − v|/|v| of the rows."""
    return np.linalg.norm(u - v, axis=-1) / np.linalg.norm(v, axis=-1)
