"""The arrow of time: descent against its reversal, the gradient flow and half steps, and the entropy that sets them apart.

A step of gradient descent with rate η acts, to first order in η, like motion on another loss, F = L + c η |∇L|². What c is
depends on what is to agree with the step: 1/4 for the gradient flow over a time η, 1/2 for one step of ascent that undoes it,
1/8 for two steps of rate η/2 ((n − 1)/4n for n of rate η/n). The source prints c = 1 for all three, which misses by 3, 1 and 7
times as much as c = 0. With minibatches E|g|² = |∇L|² + Tr cov(g)/B takes the place of |∇L|², in an epoch that takes each of m
batches once Σ_k |∇L_k|²/m. All in float64, a perceptron with the loss |f − y|² on random data.
Source: document 4, part 1; Smith et al., arXiv:2101.12176. Limit: the orders need three derivatives, so no ReLU.

The tolerances stand here once and do not move with the data. An exponent is a whole number; the slope of log error over log η
differs from it by about ηλ_max of the next order, at most 0.1 with the default rates: ORDER is 0.2, of the distance 1 between
orders. Two vectors that agree to leading order differ by the same share: NEXT_ORDER is 0.1. What is exact holds to rounding:
ROUNDING, 1e-15 of a number for the four roundings of the parabola, SUMS, 1e-12 for sums over minibatches and samples. The control
of the latter is stricter than its check: it must fail even with FACTORISED, 0.1 of tolerance, for the register asks for a
deviation of more than 10 %.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Check, Decision, Estimate, decides, few_seeds, with_control
from thermolab.engine import rules
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Counts, Positives
from thermolab.phenomena.irreversibility.landscape import Landscape, Samples, Smooth, Widths, flow

ORDER, NEXT_ORDER, ROUNDING, SUMS, FACTORISED = 0.2, 0.1, 1e-15, 1e-12, 0.1
FLOW, UNDO, HALVES = 1 / 4, 1 / 2, 1 / 8  # c of L + c η |∇L|²: of the flow, of the reversal, of two steps of rate η/2
PRINTED = 1.0  # c in the source, for all three
CONSTANTS = tuple(k / 8 for k in range(9))  # c
AGAINST = ("undo", "flow", "halves")
SHARES = (0.1, 0.05, 0.025, 0.0125)  # η in units of 1/λ_max
SLOWER = 1 / 4  # in an epoch ηm is so much of that, for there the next order is larger
TIME = 2.0  # in units of 1/λ_max
MOST_PARTS, MOST_BATCHES = 6, 300_000  # m of m! orders; minibatches gone through one by one
BLOCK = 4096  # of them at once
NETWORK = ("widths", "activation", "n_data")
Rates = Annotated[Sequence[float] | None, rules.several(rules.positive())]


@recipe("steps on a parabola")
def quadratic(rates: Positives = (0.02, 0.1, 0.3, 0.9), *, seed: int = 0) -> xr.Dataset:
    """A step forward and a step back on L = θ²/2.

    rates: η. Returns a Dataset, dims (eta, seed): miss (θ₀ − θ₂)/θ₀; (seed): start θ₀, drawn from a normal distribution.
    Raises ValueError for settings that are out of range. Source: document 4, part 1.
    """
    start, eta = np.random.default_rng(seed).normal(), np.array(rates)
    there = start - eta * start
    return xr.Dataset({"start": start, "miss": ("eta", (start - (there + eta * there)) / start)}, {"eta": eta})


@decides("irreversibility.quadratic", reads=["rates"])
def misses_by_a_square(quadratic: xr.Dataset) -> Decision:
    """Largest |miss − η²| of a step forward and back, in units of θ₀; the least such number for the powers 1, 3 and 4."""
    off = {power: float(abs(quadratic["miss"] - quadratic["eta"] ** power).max()) for power in (1, 2, 3, 4)}
    name = "the error predicted with any other power of η, the closest"
    measured = Estimate(off.pop(2), 0.0, quadratic.sizes["seed"])
    return with_control(measured, (min(off.values()), 0.0), ROUNDING, name)


@recipe("steps forward and back")
def steps(
    rates: Rates = None,
    *,
    widths: Widths = (3, 6, 2),
    activation: Smooth = "tanh",
    n_data: Samples = 24,
    time: Annotated[float | None, rules.positive()] = None,
    constants: Annotated[Sequence[float], rules.several(rules.number(-100, 100))] = CONSTANTS,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
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
    land = Landscape(widths, activation, n_data, seed, device)
    sharpest = land.sharpness()
    eta = np.array(SHARES) / sharpest if rates is None else np.array(rates)
    often = np.maximum(1, np.round((TIME / sharpest if time is None else time) / eta)).astype(int)
    # each pair of a constant and a rate is one row of weights
    pairs, grid = [a.ravel() for a in np.meshgrid(constants, eta, indexing="ij")], (len(AGAINST), len(constants), len(eta))
    local, whole = (np.linalg.norm(_gaps(land, *pairs, n), axis=-1).reshape(grid) for n in (1, np.tile(often, len(constants))))
    # what is left at c = 0, over η², is to be made up for by 2 c H ∇L
    wanted = _gaps(land, 0 * eta, eta, 1) / eta[:, None] ** 2
    bend = 2 * land.slopes(land.start)[1][0].cpu().numpy()
    fitted = wanted @ bend / (bend @ bend)
    undo, flowing = wanted[0], wanted[1]
    found = {
        "local": (("against", "constant", "rate"), local),
        "whole": (("against", "constant", "rate"), whole),
        "fitted": (("against", "rate"), fitted),
        "eta": ("rate", eta),
        "unlike": ("rate", _relative(undo, flowing)),
        "unlike_shape": ("rate", _relative(undo / fitted[0][:, None], flowing / fitted[1][:, None])),
        "lambda_max": sharpest,
    }
    return xr.Dataset(found, {"against": [*AGAINST], "constant": [*constants]})


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


def _relative(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """|u − v|/|v| of the rows."""
    return np.linalg.norm(u - v, axis=-1) / np.linalg.norm(v, axis=-1)


@decides("irreversibility.reversal", reads=["rates", *NETWORK])
def reversal(steps: xr.Dataset) -> Decision:
    """Order in η of the distance from the start after one step forward and one back on L."""
    back = steps["local"].sel(against="undo")
    name = "ascent on L + (η/2)|∇L|² instead of L"
    return with_control(order(back, steps, 0.0), order(back, steps, UNDO), ORDER, name, predicted=2.0)


@decides("irreversibility.reversal.printed", reads=["rates", *NETWORK])
def reversal_as_printed(steps: xr.Dataset) -> Decision:
    """Order in η of the distance from the start after one step forward on L and one back on L + η|∇L|²; 3 if that undoes it."""
    back = steps["local"].sel(against="undo")
    name = "ascent on L + (η/2)|∇L|² instead"
    return with_control(order(back, steps, PRINTED), order(back, steps, UNDO), ORDER, name, predicted=3.0)


@decides("irreversibility.modified-flow", reads=["rates", *NETWORK])
def modified_flow(steps: xr.Dataset) -> Decision:
    """Order in η of the distance of the flow of L + (η/4)|∇L|² from one step."""
    once = steps["local"].sel(against="flow")
    return with_control(order(once, steps, FLOW), order(once, steps, 0.0), ORDER, "gradient flow of L alone", predicted=3.0)


@decides("irreversibility.modified-flow.printed", reads=["rates", *NETWORK])
def modified_flow_as_printed(steps: xr.Dataset) -> Decision:
    """Order in η of the distance of the flow of L + η|∇L|² from one step; 3 if it does what the step does."""
    once, name = steps["local"].sel(against="flow"), "gradient flow of L + (η/4)|∇L|² instead"
    return with_control(order(once, steps, PRINTED), order(once, steps, FLOW), ORDER, name, predicted=3.0)


@decides("irreversibility.one-constant", reads=["rates", *NETWORK])
def one_constant(steps: xr.Dataset) -> Decision:
    """|u − v|/|v| of the terms that undoing a step and matching it by a flow want in the force, at the smallest rate."""
    least = {"rate": steps["eta"].argmin("rate")}
    whole, shape = (few_seeds(steps[name].isel(least)) for name in ("unlike", "unlike_shape"))
    return with_control(whole, shape, NEXT_ORDER, "both terms with their constants divided out")


@decides("irreversibility.global-error", reads=["rates", "time", *NETWORK])
def global_error(steps: xr.Dataset) -> Decision:
    """Order in η of the distance of the flow of L + (η/4)|∇L|² from descent after a fixed time."""
    end = steps["whole"].sel(against="flow")
    return with_control(order(end, steps, FLOW), order(end, steps, 0.0), ORDER, "gradient flow of L alone", predicted=2.0)


@decides("irreversibility.half-rate", reads=["rates", "time", *NETWORK])
def half_rate(steps: xr.Dataset) -> Decision:
    """Order in η of the distance, after a fixed time, of descent with η/2 on L + (η/8)|∇L|² from descent with η on L.

    A flow of half the step has an entropy of its own, so that 1/8 is what is left of the 1/4 of the flow.
    """
    end = steps["whole"].sel(against="halves")
    name = "rate η/2 on L itself, without the entropic term"
    return with_control(order(end, steps, HALVES), order(end, steps, 0.0), ORDER, name, predicted=2.0)


@decides("irreversibility.half-rate.printed", reads=["rates", "time", *NETWORK])
def half_rate_as_printed(steps: xr.Dataset) -> Decision:
    """Order in η of the distance, after a fixed time, of descent with η/2 on L + η|∇L|² from descent with η on L."""
    end, name = steps["whole"].sel(against="halves"), "rate η/2 on L + (η/8)|∇L|² instead"
    return with_control(order(end, steps, PRINTED), order(end, steps, HALVES), ORDER, name, predicted=2.0)


def order(distance: xr.DataArray, steps: xr.Dataset, constant: float) -> Estimate:
    """Mean and standard error over the seeds of the power of η with which a distance goes, at one constant."""
    return few_seeds(slope(distance.sel(constant=constant), steps["eta"]))


def slope(error: xr.DataArray, eta: xr.DataArray) -> np.ndarray:
    """Slope [seed] of log error over log η, both (rate, seed), by least squares; NaN for a single rate."""
    x, y = (np.log(a.transpose("rate", "seed").values) for a in (eta, error))
    if len(x) < 2:
        return np.full(x.shape[1], math.nan)
    x = x - x.mean(0)
    return (x * y).sum(0) / (x * x).sum(0)


@recipe("epochs in all orders")
def epochs(
    rates: Rates = None,
    *,
    parts: Annotated[int, rules.integer(2, MOST_PARTS)] = 4,
    widths: Widths = (3, 6, 2),
    activation: Smooth = "tanh",
    n_data: Samples = 24,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """One epoch that takes each of m minibatches once, in every order, against flows over the time m η.

    rates: η (default: SLOWER · SHARES over m λ_max); parts: m, whose m! orders are all taken; the others as in `steps`.

    Returns a Dataset, dims (term, rate, seed): error, the distance of the mean over all orders from the flow of
    L + (η/4m) Σ_k |∇L_k|², term "batches", and from that of L, term "none"; (rate, seed): one_order, the root mean square
    distance of a single order from the first flow, and eta.
    Raises ValueError for settings that are out of range. Source: Smith et al., arXiv:2101.12176, eq. 1.
    """
    rules.multiple(parts, "parts", n_data=n_data)
    land = Landscape(widths, activation, n_data, seed, device)
    rates = SLOWER * np.array(SHARES) / (parts * land.sharpness()) if rates is None else np.array(rates)
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
    found = {
        "error": (("term", "rate"), (ends.mean(1) - flows).norm(dim=-1).cpu().numpy()),
        "one_order": ("rate", (ends - flows[0][:, None]).square().sum(-1).mean(-1).sqrt().cpu().numpy()),
        "eta": ("rate", rates),
    }
    return xr.Dataset(found, {"term": ["batches", "none"]})


@decides("irreversibility.epoch", reads=["rates", "parts", *NETWORK])
def epoch(epochs: xr.Dataset) -> Decision:
    """Order in η of the distance of the mean over all orders of an epoch from the flow of L + (η/4m) Σ_k |∇L_k|²."""
    ours, control = (few_seeds(slope(epochs["error"].sel(term=term), epochs["eta"])) for term in ("batches", "none"))
    return with_control(ours, control, ORDER, "the flow without the minibatch term", predicted=3.0)


@recipe("squared gradients")
def split(
    batch_sizes: Counts = (1, 2),
    *,
    times: Annotated[Sequence[int], rules.several(rules.integer(0))] = (0, 10, 100, 1000),
    copies: Count = 4,
    widths: Widths = (3, 6, 2),
    activation: Smooth = "tanh",
    n_data: Samples = 24,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The mean squared gradient over all minibatches, drawn with replacement, and what it is made of, along gradient descent.

    batch_sizes: B, each with all its N^B minibatches; times: steps of descent with η = 0.1/λ_max at which to look; copies: data
    sets and starts for each seed; the others as in `steps`.

    Returns a Dataset, dims (batch_size, time, copy, seed): g2 = E|g|², the mean over the minibatches; (time, copy, seed):
    S_GD = |∇L|², trace = Tr cov of the gradients of single samples; (layer, time, copy, seed), for each map p = W h + b:
    S = E|g|² of single samples, product = E[|∇_p l|² (|h|² + 1)], factorised = E|∇_p l|² E(|h|² + 1).
    Raises ValueError for settings that are out of range. Source: document 4, part 1.
    """
    if [*times] != sorted(times):
        raise ValueError(f"times={[*times]} are not in order; allowed: steps in ascending order")
    if n_data ** max(batch_sizes) > MOST_BATCHES:
        most = f"at most {MOST_BATCHES} minibatches N^B"
        raise ValueError(f"batch_sizes={[*batch_sizes]} are too large for n_data={n_data}; allowed: {most}")
    runs = [_descent(Landscape(widths, activation, n_data, (seed, copy), device), batch_sizes, times) for copy in range(copies)]
    dims = {"g2": ("batch_size",), "S": ("layer",), "product": ("layer",), "factorised": ("layer",)}
    values = {k: np.stack([np.stack([row[k] for row in run], -1) for run in runs], -1) for k in runs[0][0]}
    coords = {"batch_size": [*batch_sizes], "time": [*times], "layer": np.arange(1, len(widths))}
    return xr.Dataset({k: ((*dims.get(k, ()), "time", "copy"), v) for k, v in values.items()}, coords)


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


@decides("irreversibility.entropy-split", reads=["batch_sizes", "times", *NETWORK])
def entropy_split(split: xr.Dataset) -> Decision:
    """Largest relative deviation of E|g|² from |∇L|² + Tr cov/B, and of E[|∇_p l|² (|h|² + 1)] from E|g|² of a map.

    The control is the largest deviation, over maps and moments, of the product of the means, averaged over copies and seeds.
    """
    parts = split["S_GD"] + split["trace"] / split["batch_size"]
    exact = max(float(abs(split["g2"] / parts - 1).max()), float(abs(split["product"] / split["S"] - 1).max()))
    factorised = few_seeds(abs(split["factorised"] / split["S"] - 1).max(("layer", "time")).mean("copy"))
    name = "the layerwise product of means, E|∇_p l|² · E|h|², which must deviate by more than 10 %"
    return Decision(Check(exact, 0.0, SUMS), name, Check(factorised.value, 0.0, FACTORISED, factorised.error), factorised.n)
