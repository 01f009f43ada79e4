"""Linear networks: the norms of two layers, the soft threshold, the shape of the minimum; and balance in a deep network.

All runs are SGD on `teacher_student.student`. A final decay of η takes away what is of first order in η, and the fluctuations, but
leaves the balance that was reached: that moves as η². Source: documents 2 and 4.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
import xarray as xr

from thermolab.engine import schedules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import neurons
from thermolab.phenomena.common import linear_theory, validate
from thermolab.phenomena.neuron_balance import theory
from thermolab.systems import teacher_student

BALANCED, GRADED, QUIET = (1.0,) * 5, (1.4, 1.2, 1.0, 0.8, 0.6), (1.0, 1.0, 1.0, 1.0, 0.4)  # noise of each output
SPECTRUM = (1.0, 0.5, 0.2, 0.1, 0.03)  # singular values of a target


@Recipe
def linear(
    profile=BALANCED,
    *,
    target=1.0,
    inputs=None,
    width: int = 8,
    eta: float = 0.02,
    batch_size: int = 16,
    burn_in: int = 100_000,
    window: int = 10_000,
    decay: int = 10_000,
    tilt: float = 2.0,
    copies: int = 1,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """A two-layer linear network W₂W₁: its product while η is constant, and its layers once η has been lowered at the end.

    profile: σ_i, standard deviation of the noise of each output; target: V [d_y, d_x], or its diagonal, or one number for all
    of that, square then; inputs: standard deviation of each input (default 1); width: h; burn_in, window: steps at constant
    η, the product averaged over the second; decay: steps of the final decay, in 8 stages, each at 0.6 of the rate before;
    tilt: W₁ starts larger by this factor, W₂ smaller, both from half the usual length; copies: replicas of each seed.
    Norms and curvatures are means over them, the product one over replicas and window.

    Returns a Dataset: (seed): norm_1 = |W₁|², norm_2 = |W₂|², lambda_max and trace of the Hessian (for Σ_x = 1) at the end,
    flattest_lambda_max and flattest_trace on the orbit of the same product, start_* of these four at the start; (seed, i):
    singular values of the mean of V̂ Σ_x^½, V̂ = W₂W₁, over the window; predicted: norm_1_theory, norm_2_theory, (i): target, tau.
    Raises ValueError for settings that are out of range. Source: document 4, part 2 and backup slides.
    """
    profile = np.asarray(profile, float)
    target = np.asarray(target, float)
    if target.ndim < 2:
        target = np.diag(np.broadcast_to(target, profile.shape))
    inputs = np.ones(target.shape[1]) if inputs is None else np.asarray(inputs, float)
    if profile.ndim != 1 or target.shape != (len(profile), len(inputs)):
        raise ValueError(f"target {target.shape} does not fit {profile.shape} noises and {inputs.shape} inputs")
    if not (np.isfinite(profile).all() and (profile > 0).all() and np.isfinite(inputs).all() and (inputs > 0).all()):
        raise ValueError(f"profile={profile.tolist()}, inputs={inputs.tolist()}: standard deviations must be positive")
    validate.counts(width=width, batch_size=batch_size, burn_in=burn_in, window=window, decay=decay, copies=copies, n_seeds=n_seeds)
    validate.positive(eta=eta, tilt=tilt)
    if width < np.linalg.matrix_rank(target):
        raise ValueError(f"width={width} is too small; allowed: {np.linalg.matrix_rank(target)} or more, the rank of the target")
    common = {"profile": profile, "target": target, "inputs": inputs, "width": width, "eta": eta, "batch_size": batch_size,
              "burn_in": burn_in, "window": window, "decay": decay, "tilt": tilt, "copies": copies,
              "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_linear, [common | {"seed": s} for s in numbers], "linear networks")
    data = {k: (("seed", "i") if np.ndim(parts[0][k]) else ("seed",), np.stack([p[k] for p in parts])) for k in parts[0]}
    known = linear_theory.norms(target, np.diag(profile**2), np.diag(inputs**2))
    out = xr.Dataset(data | {f"norm_{k + 1}_theory": known[k] for k in (0, 1)}, coords={"seed": numbers})
    sigma = math.sqrt(float((profile**2).mean()))
    out["target"] = ("i", np.linalg.svd(target * inputs, compute_uv=False))
    return out.assign(tau=theory.threshold(eta, batch_size, sigma, len(profile), float((inputs**2).sum())))


def _linear(*, profile, target, inputs, width, eta, batch_size, burn_in, window, decay, tilt, copies, seed, device) -> dict:
    widths = (len(inputs), width, len(profile))
    net = teacher_student.student(widths, lambda x: x @ target.T, "linear", profile, inputs=inputs, seed=seed)
    start = net.start(torch.arange(copies), seed)
    for view, factor in zip(net.replicas.views(start).values(), (tilt, 1 / tilt), strict=True):
        view.mul_(factor / 2)
    run = Experiment(net, eta=eta, batch_size=batch_size, weights=start, seed=seed, device=device)

    def now() -> list[np.ndarray]:
        return [m.cpu().numpy() for m in teacher_student.weight_matrices(net, run.state.weights)]

    begin = now()
    run.advance(burn_in)
    products = []
    for _ in range(max(1, window // 10)):
        run.advance(10)
        first, second = now()
        products.append((second @ first).mean(0) * inputs)
    schedules.cool(run, decay)
    run.frame()  # tells of divergence
    first, second = now()
    found = {"singular": np.linalg.svd(np.mean(products, 0), compute_uv=False)}
    found |= {"norm_1": (first**2).sum() / copies, "norm_2": (second**2).sum() / copies}
    return found | _shape("", first, second) | _shape("start_", *begin)


def _shape(prefix: str, first, second) -> dict[str, float]:
    """Curvature and the least of it, means over the copies [copies, ...]."""
    rows = [[*linear_theory.hessian_top_and_trace(a, b), *linear_theory.flattest(b @ a)] for a, b in zip(first, second, strict=True)]
    names = ("lambda_max", "trace", "flattest_lambda_max", "flattest_trace")
    return {prefix + k: v for k, v in zip(names, np.mean(rows, 0), strict=True)}


def by_profile(profiles=(BALANCED, GRADED, QUIET), **settings) -> dict:
    """`linear` for each profile of the noise, to be awaited `together`."""
    return {tuple(p): linear(p, **settings) for p in profiles}


def thresholded(spectrum=SPECTRUM, *, sigma: float = 1.0, **settings):
    """`linear` with a target of this spectrum, at an η/B so large that τ is seen; the norms of the layers do not matter here."""
    long = {"eta": 0.05, "batch_size": 8, "burn_in": 8000, "window": 40_000, "decay": schedules.STAGES, "copies": 8}
    return linear([sigma] * len(spectrum), target=spectrum, **(long | settings))


@Recipe
def matrix(
    rates=(0.02, 0.001),
    *,
    d: int = 5,
    width: int = 6,
    depth: int = 4,
    batch_size: int = 8,
    sigma: float = 1.0,
    steps: int = 60_000,
    logs: int = 20,
    moments: int = 10,
    batches: int = 16,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """A deep linear network that learns the identity from random weights: balance between successive layers, as matrices.

    rates: η, all for the same number of steps; d: inputs and outputs; depth: layers, 2 or more; sigma: noise of the answers.

    Returns a Dataset, dims (eta, time, seed, pair, row, column), time in steps at the ends of intervals of equal length:
    above = W_{i+1}ᵀ E[g_K g_Kᵀ] W_{i+1} and below = W_i E[g_Kᵀ g_K] W_iᵀ, with g_K the gradient in K = W_{i+1}W_i and E over
    minibatches of the interval, computed as E[g_i g_iᵀ] and E[g_{i+1}ᵀ g_{i+1}] from the layers' own gradients; U: loss
    (eta, time, seed). Their distance: `residual`.
    Raises ValueError for settings that are out of range. Source: document 4, part 2, with the transposes corrected.
    """
    validate.counts(
        d=d, width=width, batch_size=batch_size, steps=steps, logs=logs, moments=moments, batches=batches, n_seeds=n_seeds
    )
    validate.positive(eta=min(rates))
    if depth < 2:
        raise ValueError(f"depth={depth} is too small; allowed: 2 or more layers")
    common = {"rates": tuple(rates), "widths": (d, *[width] * (depth - 1), d), "batch_size": batch_size, "sigma": sigma,
              "steps": steps, "logs": logs, "moments": moments, "batches": batches, "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_matrix, [common | {"seed": s} for s in numbers], "deep linear networks")
    dims = ("eta", "time", "seed", "pair", "row", "column")
    values = {k: (dims, np.stack([p[k] for p in parts], 2)) for k in ("above", "below")}
    values["U"] = (("eta", "time", "seed"), np.stack([p["U"] for p in parts], 2))
    times = np.arange(1, logs + 1) * (max(1, steps // logs // moments) * moments)
    return xr.Dataset(values, coords={"eta": list(rates), "time": times, "seed": numbers})


def _matrix(*, rates, widths, batch_size, sigma, steps, logs, moments, batches, seed, device) -> dict[str, np.ndarray]:
    """above, below [eta, time, pair, row, column], U [eta, time]."""
    net = teacher_student.student(widths, lambda x: x, "linear", [sigma] * widths[-1], seed=seed)
    start = net.start(torch.arange(1), seed).repeat(len(rates), 1) / math.sqrt(2)  # the usual gain makes up for a ReLU
    run = Experiment(net, eta=rates, batch_size=batch_size, weights=start, streams=[0] * len(rates), seed=seed, device=device)
    rows, energy = [], []
    for _ in range(logs):
        seen = []
        for _ in range(moments):
            run.advance(max(1, steps // logs // moments))
            g = neurons.probe(run, batches)
            seen.append([[(a @ a.mT).mean(0).cpu().numpy(), (b.mT @ b).mean(0).cpu().numpy()] for a, b in itertools.pairwise(g)])
        rows.append(np.mean(seen, 0))
        energy.append(run.frame().gauges["U"])
    above, below = np.array(rows).transpose(2, 3, 0, 1, 4, 5)
    return {"above": above, "below": below, "U": np.array(energy).T}


def residual(data: xr.Dataset) -> xr.DataArray:
    """|A - B|/((|A| + |B|)/2) of the matrices of `matrix`, in Frobenius norm: 0 in balance, at most 2."""

    def size(m):
        return np.sqrt((m**2).sum(("row", "column")))

    return size(data["above"] - data["below"]) / (size(data["above"]) + size(data["below"])) * 2
