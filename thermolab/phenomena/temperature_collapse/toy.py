"""Measurements on the toy of temperature collapse: the stationary state of points that no w fits, and the fall where one does.

Both recipes take any points [n, D] (`theory.around`, `theory.fan`, or a list); each replica has batches of its own.
Averages of what falls by decades are exp(mean log), for a plain mean is ruled by the few replicas that fell least.
Source: arXiv:2505.23489, toy example.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import entropy
from thermolab.phenomena.temperature_collapse import theory
from thermolab.systems.sphere_quadric import QuadricPoints

NEIGHBOURS = 4  # of the entropy: fewer cost accuracy, more would see the cloud's shape
SMALLEST = math.log(1e-300)  # of log U; below it float64 runs out
MAX_STEPS = 1_000_000
RATES = tuple(float(f"{rate:.4g}") for rate in np.geomspace(10**-2.25, 10**-0.75, 13))
WINDOW = 4  # length of the window of `stationary` in burn-ins
START = math.pi / 4  # half of the replicas start this far from the minimum, half at it: too hot and too cold


@Recipe
def stationary(
    points=None,
    eta=RATES,
    *,
    batch: int = 1,
    replicas: int = 512,
    relaxations: float = 8.0,
    snapshots: int = 16,
    seed: int = 0,
    n_seeds: int = 3,
    device: str = "cpu",
):
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
    Raises ValueError for points that some w fits exactly (use `converging`), or whose minimum is a valley.
    """
    points, eta = theory.aligned(theory.UNDER if points is None else points), np.asarray(eta, float)
    at = theory.minimum(points)
    if at.overparameterised:
        raise ValueError("some w fits all points, so U goes to 0 and nothing is stationary; use converging() or move a point")
    steps = np.ceil(relaxations / (eta * at.hessian.min())).astype(int)
    if steps.max() > MAX_STEPS:
        raise ValueError(f"{steps.max()} steps to relax at eta={eta.min():.3g} exceed {MAX_STEPS}; raise the lowest rate")
    common = {"points": points, "batch": batch, "replicas": replicas, "snapshots": snapshots, "device": str(device)}
    # rates that need about as many steps run as one batch; the slowest are few
    size = np.log2(steps).round()
    places = [(k, np.flatnonzero(size == group)) for k in range(n_seeds) for group in np.unique(size)[::-1]]
    settings = [
        {**common, "eta": eta[i], "cells": i, "steps": int(steps[i].max()), "seed": seeds(seed, n_seeds)[k]} for k, i in places
    ]
    parts = yield Jobs(_stationary_cells, settings, "toy, stationary")
    values = {k: np.full((len(eta), n_seeds), np.nan) for k in parts[0]}
    taken = np.zeros(len(eta), int)
    for (k, i), part in zip(places, parts, strict=True):
        taken[i] = (1 + WINDOW) * steps[i].max()
        for name, column in part.items():
            values[name][i, k] = column
    data = {k: (("eta", "seed"), v) for k, v in values.items()} | {"steps": ("eta", taken)}
    out = _dataset(data, points, eta, seeds(seed, n_seeds), batch, replicas)
    out["U_min"], out["critical"] = at.loss, theory.mean_square_critical_rate(points, batch)
    out["T"] = 2 * (out["U"] - at.loss) / (points.shape[1] - 1)
    for ending, state in (("pred", theory.stationary_state), ("lead", theory.leading_state)):
        found = [state(points, h, batch) for h in eta]
        for name, field in (("T", "temperature"), ("U", "energy"), ("S", "entropy"), ("snr", "snr")):
            out[f"{name}_{ending}"] = ("eta", np.array([getattr(f, field) for f in found]))
    return out


def _stationary_cells(*, points, eta, cells, batch, replicas, steps, snapshots, seed, device) -> dict[str, np.ndarray]:
    """Cells [n] of `stationary` with one seed, as one batch of n x replicas. Returns {name: [n]}."""
    at, system, (n, dim) = theory.minimum(points), QuadricPoints(points, batch), (len(eta), points.shape[1])
    streams = (cells[:, None] * replicas + np.arange(replicas)).ravel()
    hot = np.arange(replicas) % 2 == 1
    weights = _beside(system.start(torch.as_tensor(streams), seed), at, np.tile(np.where(hot, START, 0.0), n))
    run = Experiment(system, eta=np.repeat(eta, replicas), seed=seed, streams=streams, weights=weights, device=device)
    run.advance(steps)
    run.frame()
    spacing, w, energy, signal, noise = max(1, WINDOW * steps // snapshots), [], 0.0, 0.0, 0.0
    for frame in run.frames(spacing, until=steps + snapshots * spacing):
        energy = energy + frame.gauges["U"].reshape(n, replicas) / snapshots
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


@Recipe
def converging(
    points=None,
    eta=(0.01, 0.03, 0.1, 0.3, 0.9, 0.94, 0.97, 1.03, 1.06, 1.1),
    *,
    batch: int = 1,
    replicas: int = 256,
    steps: int = 3000,
    records: int = 40,
    seed: int = 0,
    n_seeds: int = 3,
    device: str = "cpu",
):
    """How loss and gradients of SGD fall on over-parameterised points, or do not, over learning rates.

    points: [n, D] (default `theory.OVER`; others serve as a control); eta: learning rates; batch: B; replicas: per learning
    rate and seed, starting uniform on the sphere; records: moments, evenly spaced over the steps, besides the start.
    Avoid η = 0.5, an exact projection.

    Returns a Dataset, dims (eta, seed) unless said otherwise:
    log_U, log_full, log_stochastic, log_snr (eta, time, seed): means over the replicas of log L, log |∇L|, log √E|g|² of a
    batch and log(|∇L|/√Tr Σ), NaN once a replica is below 1e-300; U_final: exp(log_U) at the last record that has one;
    U: mean of the full loss over all steps of the second half and the replicas; drift: slope of log U there per step;
    lyapunov: half the slope of log_U over the later half of the records that it has, per step; lyapunov_pred and
    lyapunov_pred_error (eta), of `theory.lyapunov`; snr: exp(mean log_snr) over those records;
    power: exponent of √E|g|² as a power of |∇L| over all records; snr_power: that of the SNR;
    U_min (scalar); critical (scalar): `theory.critical_rate`, NaN for under-parameterised
    points, which never fall; points (point, axis), the minimum as last axis.
    Raises ValueError for points whose minimum is a valley, and for fewer than 8 records.
    """
    if records < 8 or steps < records:
        raise ValueError(f"records={records}, steps={steps}; allowed: 8 or more records, no more than steps")
    points, eta = theory.aligned(theory.OVER if points is None else points), np.asarray(eta, float)
    common = {"points": points, "eta": eta, "batch": batch, "replicas": replicas, "steps": steps, "records": records}
    settings = [{**common, "seed": s, "device": str(device)} for s in seeds(seed, n_seeds)]
    parts = yield Jobs(_converging_cells, settings, "toy, converging")
    each = [{"points": points, "eta": float(h), "batch": batch} for h in eta]
    predicted = np.array((yield Jobs(theory.lyapunov, each, "toy, Lyapunov exponents")))
    dims = {2: ("eta", "time", "seed"), 1: ("eta", "seed")}
    data = {k: (dims[parts[0][k].ndim], np.stack([p[k] for p in parts], -1)) for k in parts[0]}
    out = _dataset(data, points, eta, seeds(seed, n_seeds), batch, replicas)
    out = out.assign_coords(time=np.arange(records + 1) * (steps // records))
    at = theory.minimum(points)
    out["U_min"] = at.loss
    out["critical"] = theory.critical_rate(points, batch)[0] if at.overparameterised else math.nan
    out["lyapunov_pred"], out["lyapunov_pred_error"] = (("eta", column) for column in predicted.T)
    return out


def _converging_cells(*, points, eta, batch, replicas, steps, records, seed, device) -> dict[str, np.ndarray]:
    """Cells [eta] and curves [eta, time] of `converging` with one seed."""
    system, n, every = QuadricPoints(points, batch), len(eta), steps // records
    run = Experiment(system, eta=np.repeat(eta, replicas), seed=seed, device=device)
    curves = [_curves(system, run.state.weights, n)]
    energy = []
    for frame in run.frames(every, until=records * every):
        curves.append(_curves(system, run.state.weights, n))
        energy.append(frame.gauges["U"].reshape(n, replicas).mean(1))
    out = {k: np.stack([c[k] for c in curves], 1) for k in curves[0]}
    later = energy[records // 2 :]
    out["U"] = np.mean(later, 0)
    cells = [_falling(*(out[k][i] for k in ("log_U", "log_full", "log_stochastic", "log_snr")), every) for i in range(n)]
    return out | {k: np.array([c[k] for c in cells]) for k in cells[0]}


def _curves(system, weights, n: int) -> dict[str, np.ndarray]:
    """Means over the replicas [n] of the readings, NaN where one is below what float64 resolves."""
    found = {k: v.cpu().numpy().reshape(n, -1) for k, v in system.readings(torch.as_tensor(weights)).items()}
    gone = (found["log_U"] < SMALLEST).any(1)
    with np.errstate(invalid="ignore"):
        return {k: np.where(gone, np.nan, v.mean(1)) for k, v in found.items()}


def _falling(log_u, log_full, log_stochastic, log_snr, every: int) -> dict[str, float]:
    """What one learning rate's curves [time] come to."""
    known = np.flatnonzero(np.isfinite(log_u))
    late = known[len(known) // 2 :]
    slope = _slope(late * every, log_u[late])
    second_half = known[known >= len(log_u) // 2]
    return {
        "U_final": float(np.exp(log_u[known[-1]])),
        "drift": _slope(second_half * every, log_u[second_half]),
        "lyapunov": slope / 2,
        "snr": float(np.exp(log_snr[late].mean())),
        "power": _slope(log_full[known], log_stochastic[known]),
        "snr_power": _slope(log_full[known], log_snr[known]),
    }


def _slope(x, y) -> float:
    """Slope of a straight line, NaN for fewer than three points."""
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 2 else math.nan


def _dataset(data, points, eta, seed_list, batch: int, replicas: int) -> xr.Dataset:
    out = xr.Dataset(data, coords={"eta": eta, "seed": seed_list}, attrs={"batch": batch, "replicas": replicas})
    out.attrs["dim"] = points.shape[1]
    out["points"] = (("point", "axis"), points)
    return out
