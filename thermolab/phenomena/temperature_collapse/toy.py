"""The toy of temperature collapse in its stationary state: SGD on points that no w fits, and its temperature, entropy and noise.

Any points [n, D] will do (`theory.around`, `theory.fan`, or a list); each replica has batches of its own.
Source: arXiv:2505.23489, toy example.

Tolerances of its claims are the accuracy that the closed forms are held to and do not move with the data: 5 % in T and 0.05
nats a coordinate in S for learning rates below a tenth of the critical one, 0.05 for exponents.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, extreme, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Positives, integer
from thermolab.instruments import entropy
from thermolab.phenomena.temperature_collapse import theory
from thermolab.systems.sphere_quadric import QuadricPoints

NEIGHBOURS = 4  # of the entropy: fewer cost accuracy, more would see the cloud's shape
MAX_STEPS = 1_000_000
RATES = tuple(float(f"{rate:.4g}") for rate in np.geomspace(10**-2.25, 10**-0.75, 13))
WINDOW = 4  # length of the window of `stationary` in burn-ins
START = math.pi / 4  # half of the replicas start this far from the minimum, half at it: too hot and too cold
PREDICTED = [f"{name}_{order}" for name in ("T", "U", "S", "snr") for order in ("pred", "lead")]

TEMPERATURE, ENTROPY_PER_COORDINATE, EXPONENT = 0.05, 0.05, 0.05
COLD = 0.1  # of the critical learning rate: up to here the closed forms are held to these tolerances
BANDS = 3  # of learning rates, over which T and S are averaged: a single rate's are known to 1 % only


@recipe("toy, stationary", shared=["steps", "U_min", "critical", "points", *PREDICTED], n_seeds=3)
def stationary(
    points=None,
    eta: Positives = RATES,
    *,
    batch: Count = 1,
    replicas: Annotated[int, integer(2)] = 512,
    relaxations: Positive = 8.0,
    snapshots: Count = 16,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The stationary state of SGD on under-parameterised points over learning rates.

    points: [n, D] (default `theory.UNDER`); eta: learning rates, ascending; batch: B; replicas: per learning rate and seed;
    relaxations: times 1/(η H) of the slowest coordinate before the window, which lasts four times as long;
    snapshots: in the window; replicas x snapshots is the sample of S and snr. Half of the replicas start at the minimum and
    half 45° from it.
    Avoid η = 0.5 at small heights, where a step is almost a projection and S drops.

    Returns a Dataset, dims (eta, seed) unless said otherwise:
    U: full loss, mean over every step of the window and the replicas; T: 2 (U - U_min)/(D - 1);
    S: entropy of w around one of the minima ±v (Kozachenko-Leonenko, k = 4, corrected for its known bias), S_error its
    standard error; S_gauss: that of a Gaussian with the measured covariance in the tangent plane;
    snr: √(mean |∇L|²/mean Tr Σ) of a batch; gap: relative difference of U - U_min in the window between the two starts;
    steps (eta): in all; U_min (scalar); critical (scalar): `theory.mean_square_critical_rate`;
    points (point, axis): with the minimum as the last axis;
    predictions (eta): T_pred, U_pred, S_pred, snr_pred at the finite step (`theory.stationary_state`, NaN where it has
    none), T_lead, U_lead, S_lead, snr_lead to leading order (`theory.leading_state`).
    Raises ValueError for points that some w fits exactly (use `falling.converging`), or whose minimum is a valley.
    """
    points, eta = theory.aligned(theory.UNDER if points is None else points), np.asarray(eta)
    at, dim = theory.minimum(points), points.shape[1]
    if at.overparameterised:
        raise ValueError("some w fits all points, so U goes to 0 and nothing is stationary; use converging() or move a point")
    steps = np.ceil(relaxations / (eta * at.hessian.min())).astype(int)
    if steps.max() > MAX_STEPS:
        raise ValueError(f"{steps.max()} steps to relax at eta={eta.min():.3g} exceed {MAX_STEPS}; raise the lowest rate")
    # rates that need about as many steps run as one batch
    size = np.log2(steps).round()
    batches = [np.flatnonzero(size == group) for group in np.unique(size)[::-1]]
    common = {"batch": batch, "replicas": replicas, "snapshots": snapshots, "seed": seed, "device": device}
    parts = [_cells(points, eta[i], i, steps=int(steps[i].max()), **common) for i in batches]
    order = np.argsort(np.concatenate(batches))
    found = {name: ("eta", np.concatenate([part[name] for part in parts])[order]) for name in parts[0]}
    taken = np.concatenate([np.full(len(i), (1 + WINDOW) * steps[i].max()) for i in batches])[order]
    out = xr.Dataset(found, {"eta": eta}, {"batch": batch, "replicas": replicas, "dim": dim})
    out["T"] = 2 * (out["U"] - at.loss) / (dim - 1)
    out["U_min"], out["critical"] = at.loss, theory.mean_square_critical_rate(points, batch)
    out["steps"], out["points"] = ("eta", taken), (("point", "axis"), points)
    for order, state in (("pred", theory.stationary_state), ("lead", theory.leading_state)):
        states = [state(points, h, batch) for h in eta]
        for name, field in (("T", "temperature"), ("U", "energy"), ("S", "entropy"), ("snr", "snr")):
            out[f"{name}_{order}"] = ("eta", np.array([getattr(s, field) for s in states]))
    return out


def _cells(points, eta, cells, *, batch, replicas, steps, snapshots, seed, device) -> dict[str, np.ndarray]:
    """Cells [n] of `stationary`, numbered for their random numbers, as one batch of n x replicas. Returns {name: [n]}."""
    at, system, (n, dim) = theory.minimum(points), QuadricPoints(points, batch), (len(eta), points.shape[1])
    streams = (cells[:, None] * replicas + np.arange(replicas)).ravel()
    hot = np.arange(replicas) % 2 == 1
    weights = _beside(system.start(torch.as_tensor(streams), seed), at, np.tile(np.where(hot, START, 0.0), n))
    run = Experiment(system, eta=np.repeat(eta, replicas), seed=seed, streams=streams, weights=weights, device=device)
    run.advance(steps)
    run.frame()
    spacing, w, energy, signal, noise = max(1, WINDOW * steps // snapshots), [], 0.0, 0.0, 0.0
    for frame in run.frames(spacing, until=steps + snapshots * spacing):
        energy = energy + frame.observables["U"].reshape(n, replicas) / snapshots
        w.append(run.state.weights.cpu().numpy().reshape(n, replicas, dim))
        full, trace = _gradients(system, run.state.weights, n)
        signal, noise = signal + full, noise + trace
    w = np.concatenate(w, 1) @ at.frame.T
    w *= np.sign(w[..., -1:])  # both minima ±v seen from one
    s, s_error = _entropies(w)
    gap = (energy[:, hot].mean(1) - energy[:, ~hot].mean(1)) / (energy.mean(1) - at.loss)
    return {"U": energy.mean(1), "S": s, "S_error": s_error, "S_gauss": _gaussian_entropies(w),
            "snr": np.sqrt(signal / noise), "gap": gap}  # fmt: skip


def _beside(directions, at: theory.Minimum, angle: np.ndarray) -> torch.Tensor:
    """Weights [R, D] at these angles [R] from the minimum, towards random directions [R, D]."""
    v, away = at.frame[-1], directions.numpy() - np.outer(directions.numpy() @ at.frame[-1], at.frame[-1])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return torch.from_numpy(np.cos(angle)[:, None] * v + np.sin(angle)[:, None] * away)


def _gradients(system, weights, n: int):
    """Means over the replicas [n] of |∇L|² and of Tr Σ of a batch."""
    found = {k: v.cpu().numpy().reshape(n, -1) for k, v in system.readings(weights).items()}
    full = np.exp(2 * found["log_full"])
    return full.mean(1), (np.exp(2 * found["log_stochastic"]) - full).mean(1)


def _entropies(w: np.ndarray):
    """Entropy on the unit sphere of each cloud [n, N, D] and its error, NaN where points coincide (a collapsed coordinate)."""
    value, error = np.full((2, len(w)), np.nan)
    for i, cloud in enumerate(w):
        try:
            found = entropy.kozachenko_leonenko(cloud, k=NEIGHBOURS, sphere=True)
        except ValueError:
            continue
        value[i], error[i] = found.value - found.bias, found.standard_error
    return value, error


def _gaussian_entropies(w: np.ndarray) -> np.ndarray:
    """Entropy on the unit sphere [n] of Gaussians in the tangent plane with the covariance of each cloud [n, N, D]."""
    t, up = w[..., :-1], w[..., -1]
    t = t - t.mean(1, keepdims=True)
    sign, log_det = np.linalg.slogdet(2 * np.pi * np.e * np.einsum("nri,nrj->nij", t, t) / (t.shape[1] - 1))
    with np.errstate(divide="ignore"):
        return np.where(sign > 0, log_det / 2, -np.inf) - np.log(up).mean(1)


# --- its claims -------------------------------------------------------------------------------------------------------
@decides("collapse.toy-up.temperature", reads=["batch", "replicas", "relaxations", "snapshots"])
def temperature(toy: xr.Dataset) -> Decision:
    """Worst of T and S over bands of learning rates, each in units of its tolerance."""
    cold, dim = _cold(toy), toy.attrs["dim"]

    def off(factor: float):
        t = cold["T"] / (factor * cold["T_pred"]) - 1
        s = (cold["S"] - cold["S_pred"]) / (dim - 1) - np.log(factor) / 2
        return extreme(np.concatenate([_bands(t) / TEMPERATURE, _bands(s) / ENTROPY_PER_COORDINATE], 1))

    return with_control(off(1.0), off(2.0), 1.0, "twice the constant in T")


@decides("collapse.toy-up.snr", reads=["batch", "replicas"])
def signal_to_noise(toy: xr.Dataset, toy_two: xr.Dataset) -> Decision:
    """Exponent of the stationary signal-to-noise ratio in η, in the under- and in the over-parameterised toy."""
    falling = toy_two.isel(eta=toy_two["eta"].values <= COLD * toy["critical"].item())
    slopes = [few_seeds(_exponent(d["eta"].values, d["snr"])) for d in (_cold(toy), falling)]
    return with_control(*slopes, EXPONENT, "the over-parameterised toy", predicted=0.5)


def _cold(data: xr.Dataset) -> xr.Dataset:
    """The learning rates up to a tenth of the critical one."""
    cold = data["eta"].values <= COLD * data["critical"].item()
    if cold.sum() < 2:
        raise ValueError(f"{cold.sum()} rates up to {COLD * data['critical'].item():.3g}; needed: 2 or more, add lower ones")
    return data.isel(eta=cold)


def _bands(values: xr.DataArray) -> np.ndarray:
    """Means [seed, band] over bands of neighbouring learning rates."""
    bands = np.array_split(values.transpose("seed", "eta").values, min(BANDS, values.sizes["eta"]), axis=1)
    return np.stack([band.mean(1) for band in bands], 1)


def _exponent(eta: np.ndarray, values: xr.DataArray) -> np.ndarray:
    """Slopes [seed] of log values in log η."""
    return np.polyfit(np.log(eta), np.log(values.transpose("eta", "seed").values), 1)[0]
