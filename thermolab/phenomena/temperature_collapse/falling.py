"""The fall of the loss on points that some w fits: below a critical learning rate it goes to 0, above it does not.

Any points [n, D] will do; those that no w fits serve as a control. Averages of what falls by decades are exp(mean log), for
a plain mean is ruled by the few replicas that fell least. Source: arXiv:2505.23489, toy example.

Tolerances of the claims do not move with the data: 0.05 for exponents, 2 % for the critical learning rate.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, extreme, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positives, integer
from thermolab.phenomena.temperature_collapse import theory
from thermolab.systems.sphere_quadric import QuadricPoints

SMALLEST = math.log(1e-300)  # of log U; below it float64 runs out
EXPONENT, CRITICAL = 0.05, 0.02
NEAR = 0.15  # relative distance from the critical rate within which rates of decay and losses are taken as linear
DEEP = 0.5  # learning rates below this are far from the critical one, 1: in a short run too the loss falls by tens of decades


@recipe("toy, converging", shared=["U_min", "critical", "points", "lyapunov_pred", "lyapunov_pred_error"], n_seeds=3)
def converging(
    points=None,
    eta: Positives = (0.01, 0.03, 0.1, 0.3, 0.9, 0.94, 0.97, 1.03, 1.06, 1.1),
    *,
    batch: Count = 1,
    replicas: Annotated[int, integer(2)] = 256,
    steps: Count = 3000,
    records: Annotated[int, integer(8)] = 40,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
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
    Raises ValueError for points whose minimum is a valley, and for fewer steps than records.
    """
    if steps < records:
        raise ValueError(f"steps={steps} is too few; allowed: records={records} or more")
    points, every = theory.aligned(theory.OVER if points is None else points), steps // records
    system, n = QuadricPoints(points, batch), len(eta)
    run = Experiment(system, eta=np.repeat(eta, replicas), seed=seed, device=device)
    curves, energy = [_curves(system, run.state.weights, n)], []
    for frame in run.frames(every, until=records * every):
        curves.append(_curves(system, run.state.weights, n))
        energy.append(frame.observables["U"].reshape(n, replicas).mean(1))
    paths = {name: np.stack([c[name] for c in curves], 1) for name in curves[0]}
    cells = [_falling(*(paths[k][i] for k in ("log_U", "log_full", "log_stochastic", "log_snr")), every) for i in range(n)]
    critical, exponents, errors = _predicted(tuple(map(tuple, points.tolist())), tuple(eta), batch)
    return xr.Dataset(
        {name: (("eta", "time"), path) for name, path in paths.items()}
        | {name: ("eta", [c[name] for c in cells]) for name in cells[0]}
        | {"U": ("eta", np.mean(energy[records // 2 :], 0)), "U_min": theory.minimum(points).loss, "critical": critical}
        | {"lyapunov_pred": ("eta", exponents), "lyapunov_pred_error": ("eta", errors), "points": (("point", "axis"), points)},
        coords={"eta": list(eta), "time": np.arange(records + 1) * every},
        attrs={"batch": batch, "replicas": replicas, "dim": points.shape[1]},
    )


@functools.cache  # the same for all seeds that a process measures
def _predicted(points, eta, batch) -> tuple[float, np.ndarray, np.ndarray]:
    """Critical rate, and Lyapunov exponents [eta] with their errors."""
    exponents, errors = np.array([theory.lyapunov(np.array(points), h, batch) for h in eta]).T
    fits = theory.minimum(points).overparameterised
    return theory.critical_rate(points, batch)[0] if fits else math.nan, exponents, errors


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


# --- its claims -------------------------------------------------------------------------------------------------------
@decides("collapse.toy-op.critical", reads=["batch", "replicas", "steps", "records"], op="toy_two", up="toy_three")
def critical_rate(op: xr.Dataset, up: xr.Dataset) -> Decision:
    """Relative distance, from the critical η, of where the decay below it and the stationary loss above it vanish; the worst.

    op, up: both held to the critical rate and exponents of the over-parameterised toy, op.
    Below, with a rate of decay ∝ η_c - η, measured over predicted exponent tells how far η_c is off; above, U - U_min is
    extrapolated to zero by a straight line.
    """
    if not np.array_equal(op["eta"], up["eta"]):
        raise ValueError("the two toys ran at different learning rates; give both the same eta")
    critical = op["critical"].item()
    near = np.abs(op["eta"].values / critical - 1) < NEAR
    below, above = near & (op["eta"].values < critical), near & (op["eta"].values > critical)
    if not below.any() or above.sum() < 2:
        raise ValueError(f"eta has {below.sum()} rates just below {critical:.3g} and {above.sum()} above; needed: 1 and 2")

    def off(data: xr.Dataset):
        eta = data["eta"].values
        ratio = (data["lyapunov"] / op["lyapunov_pred"]).transpose("seed", "eta").values[:, below]
        decay = (1 - eta[below] / critical) * (ratio - 1)
        excess = (data["U"] - data["U_min"]).transpose("seed", "eta").values[:, above]
        return extreme(np.column_stack([decay, [_root(eta[above], row) / critical - 1 for row in excess]]))

    return with_control(off(op), off(up), CRITICAL, "the under-parameterised toy at the same learning rates")


@decides("collapse.toy-op.power-law", reads=["batch", "replicas", "steps", "records"], op="toy_two", up="toy_three")
def power_law(op: xr.Dataset, up: xr.Dataset) -> Decision:
    """Worst deviation from exponent 1 of √E|g|² and from exponent 0 of the SNR in |∇L| along training, below the critical η."""
    below = op["eta"].values < op["critical"].item()

    def off(data: xr.Dataset):
        d = data.isel(eta=below).transpose("seed", ...)
        return extreme(np.concatenate([d["power"].values - 1, d["snr_power"].values], 1))

    return with_control(off(op), off(up), EXPONENT, "the under-parameterised toy")


def _root(x: np.ndarray, y: np.ndarray) -> float:
    """Where the straight line through y(x) vanishes."""
    slope, offset = np.polyfit(x, y, 1)
    return float(-offset / slope)


def power(op: xr.Dataset) -> Estimate:
    """Exponent of √E|g|² as a power of |∇L|, a mean over the rates below 0.5."""
    return few_seeds(op.sel(eta=op["eta"] < DEEP)["power"].mean("eta"))
