"""Measurements on the isotropic noise model: the stationary state over a grid, with any noise spectrum, and the hot end."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import entropy
from thermolab.phenomena.ideal_gas import theory
from thermolab.systems.isotropic import IsotropicNoise

START_SPREAD = 0.25  # half of the replicas start this much (in log r) inside r*, half outside
DIRECTION_TIMES = 6.0  # correlation times 1/η_eff before the window: directions start anywhere on the sphere, at U near 1
SPACING = 2.0  # correlation times 1/η_eff between snapshots
MAX_STEPS = 3_000_000
CELL = ("U", "r", "p", "g2", "r_gap", "diverged", "S", "S_error")  # what is measured in a cell


def grid(eta_range, lam_range) -> tuple[np.ndarray, np.ndarray]:
    """Two logarithmic axes from [low, high, n]."""
    return tuple(np.geomspace(low, high, int(n)) for low, high, n in (eta_range, lam_range))


@Recipe
def stationary(
    protocol: str = "elr",
    *,
    eta=(10**-2.5, 0.1, 7),
    lam=(1e-3, 0.1, 7),
    dim: int = 3,
    sigma: float = 1.0,
    spectrum=None,
    replicas: int = 64,
    snapshots: int = 64,
    relaxations: float = 6.0,
    seed: int = 0,
    n_seeds: int = 3,
    device: str = "cpu",
):
    """The stationary state of the isotropic model over a grid of learning rates and weight decays.

    protocol: "elr", "lr" or "sphere" (radius fixed at r*(η, λ), so that the pressure should come out as λ).
    eta, lam: [low, high, n] logarithmic grids; dim D; sigma: noise per component; spectrum: D - 1 variances of mean 1
    (default isotropic); replicas, snapshots: per cell and seed, their product is the sample of the entropy;
    relaxations: relaxation times of the radius before the window (6 leave e^-6 of the start).

    Half of the replicas start inside and half outside the predicted radius, uniform on the sphere; after the relaxation
    times of the radius or six of the direction (1/η_eff), per cell whichever takes longer, follows a window of
    `snapshots` twice 1/η_eff apart.

    Returns a Dataset, dims (eta, lam, seed) unless said otherwise:
    U, p: means over every step of the window and the replicas (p on the "sphere" only, else λ); r: root of the mean of |w|²
    (the volume is r²/2); g2: E|g|² at |w| = 1;
    S: entropy of the direction (Kozachenko-Leonenko, corrected for its known bias), S_error its standard error;
    S_full: S + (D - 1) log r;
    r_gap: relative gap between the two starts at the end; diverged: share of replicas lost; steps (eta, lam);
    relaxed (eta, lam): whether the burn-in, cut at 3 million steps, lasts 3 relaxation times of the radius;
    spectrum (coordinate), where one was given;
    predictions (eta, lam): T, T_step, eta_eff, r_pred, p_pred, U_pred, S_pred (`theory.isotropic_state`), U_vmf, S_vmf (at T).
    Raises ValueError for a bad protocol, dimension or spectrum. A cell of a grid whose replicas have all diverged is NaN;
    a grid of one cell raises DivergenceError, after a fiftieth of the burn-in at the earliest.
    """
    eta, lam = grid(eta, lam)
    state = theory.isotropic_state(protocol, eta[:, None], lam[None, :], dim, sigma)
    burn_in, spacing = _durations(protocol, eta[:, None], lam[None, :], dim, sigma, state, relaxations)
    common = {
        "protocol": protocol, "dim": dim, "sigma": sigma, "spectrum": None if spectrum is None else list(spectrum),
        "replicas": replicas, "snapshots": snapshots, "device": str(device), "single": len(eta) * len(lam) == 1,
    }  # fmt: skip
    # cells that need about as many steps run as one batch; the slowest ones are few
    size = np.log2(burn_in + snapshots * spacing).round().astype(int)
    places = [(k, *np.nonzero(size == group)) for k in range(n_seeds) for group in np.unique(size)[::-1]]
    settings = [
        common | {
            "eta": eta[i], "lam": lam[j], "start": state["r"][i, j], "cells": i * len(lam) + j, "seed": seeds(seed, n_seeds)[k],
            "burn_in": int(burn_in[i, j].max()), "spacing": int(spacing[i, j].max()),
        }
        for k, i, j in places
    ]  # fmt: skip
    parts = yield Jobs(_stationary_cells, settings, f"isotropic {protocol} D={dim}")
    dims = ("eta", "lam", "seed")
    data = {k: np.full((len(eta), len(lam), n_seeds), np.nan) for k in parts[0]}
    for (k, i, j), part in zip(places, parts, strict=True):
        for name, values in part.items():
            data[name][i, j, k] = values
    out = xr.Dataset(
        {k: (dims, v) for k, v in data.items()},
        coords={"eta": eta, "lam": lam, "seed": seeds(seed, n_seeds)},
        attrs={"protocol": protocol, "dim": dim, "sigma": sigma, "replicas": replicas, "snapshots": snapshots},
    )
    out["S_full"] = theory.full_entropy(out["S"], out["r"], dim)
    for name in ("T", "T_step", "eta_eff"):
        out[name] = (dims[:2], state[name])
    for name in ("r", "p", "U", "S"):
        out[f"{name}_pred"] = (dims[:2], state[name])
    out["U_vmf"] = (dims[:2], theory.energy_vmf(state["T"], dim))
    out["S_vmf"] = (dims[:2], theory.entropy_vmf(state["T"], dim))
    if spectrum is not None:
        out["spectrum"] = ("coordinate", np.asarray(spectrum, float))
    out["steps"] = (dims[:2], burn_in + snapshots * spacing)
    out["relaxed"] = (dims[:2], burn_in >= 3 * theory.relaxation_time(protocol, eta[:, None], lam[None, :], dim, sigma))
    return out


def _durations(protocol, eta, lam, dim, sigma, state, relaxations):
    """Steps of burn-in and between snapshots for each cell."""
    direction = 1 / state["eta_eff"] + 0 * lam
    radius = relaxations * theory.relaxation_time(protocol, eta, lam, dim, sigma)
    burn_in = np.maximum(DIRECTION_TIMES * direction, radius)
    return np.minimum(np.ceil(burn_in), MAX_STEPS), np.ceil(SPACING * direction)


def _stationary_cells(
    *,
    protocol,
    dim,
    sigma,
    spectrum,
    replicas,
    snapshots,
    device,
    single,
    eta,
    lam,
    start,
    cells,
    seed,
    burn_in,
    spacing,
) -> dict[str, np.ndarray]:
    """Cells [n] of `stationary` with one seed, as one batch of n x replicas. Returns {name: [n]}."""
    system = IsotropicNoise(dim, protocol, spectrum)
    n, side = len(eta), np.where(np.arange(replicas) % 2, 1.0, -1.0)
    streams = (cells[:, None] * replicas + np.arange(replicas)).ravel()
    spread = 0.0 if protocol == "sphere" else START_SPREAD
    radius = (np.nan_to_num(start, nan=1.0)[:, None] * np.exp(spread * side)).ravel()
    direction = system.start(torch.as_tensor(streams), seed)
    weights = direction * torch.as_tensor(radius, dtype=direction.dtype)[:, None]
    run = Experiment(
        system, eta=np.repeat(eta, replicas), lam=np.repeat(lam, replicas), sigma=sigma,
        seed=seed, streams=streams, weights=weights, device=device,
    )  # fmt: skip
    samples, sums = np.empty((snapshots, n, replicas, dim), np.float32), {}
    try:
        for _ in run.frames(max(1, burn_in // 50), until=burn_in):  # a frame is where divergence shows
            pass
        run.frame()
        for k, frame in enumerate(run.frames(spacing, until=burn_in + snapshots * spacing)):
            samples[k] = run.state.weights.cpu().numpy().reshape(n, replicas, dim)
            for name, value in frame.gauges.items():
                sums[name] = sums.get(name, 0) + value.reshape(n, replicas) / snapshots
    except DivergenceError:
        if single:
            raise
        return {k: np.full(n, np.nan) for k in CELL} | {"diverged": np.ones(n)}
    alive = (run.state.diverged.cpu().numpy() < 0).reshape(n, replicas)
    out = {k: _mean(v, alive) for k, v in sums.items()}
    out["r"] = np.sqrt(out.pop("r2"))
    r = np.log(np.linalg.norm(samples[-1], axis=-1))
    out["r_gap"] = _mean(r, alive & (side > 0)) - _mean(r, alive & (side < 0))
    out["diverged"] = 1 - alive.mean(1)
    out["S"], out["S_error"] = np.full((2, n), np.nan)
    for i in np.flatnonzero(alive.any(1)):
        w = samples[:, i, alive[i]].reshape(-1, dim).astype(float)
        s = entropy.kozachenko_leonenko(w / np.linalg.norm(w, axis=1, keepdims=True), dim=dim - 1, sphere=True)
        out["S"][i], out["S_error"][i] = s.value - s.bias, s.standard_error
    return out


def _mean(values, keep):
    """Mean over the kept replicas [n, R] -> [n], NaN where none is kept."""
    count = keep.sum(1)
    return np.where(count > 0, np.where(keep, values, 0).sum(1) / np.maximum(count, 1), np.nan)


@Recipe
def hot_sphere(
    temperatures=(0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
    *,
    dim: int = 10,
    eta: float = 4e-3,
    replicas: int = 256,
    steps: int = 30_000,
    seed: int = 0,
    n_seeds: int = 3,
    device: str = "cpu",
):
    """Energy on the fixed unit sphere up to high temperatures, reached by noise (σ² = 2 T/η) at a small step.

    Returns a Dataset: U (temperature, seed) over the second half of the steps; U_vmf, U_small (temperature).
    """
    temperatures = np.asarray(temperatures, float)
    settings = [
        {
            "temperatures": temperatures,
            "dim": dim,
            "eta": eta,
            "replicas": replicas,
            "steps": steps,
            "seed": s,
            "device": str(device),
        }
        for s in seeds(seed, n_seeds)
    ]
    parts = yield Jobs(_hot_cells, settings, f"hot end D={dim}")
    return xr.Dataset(
        {"U": (("temperature", "seed"), np.stack(parts, -1)),
         "U_vmf": ("temperature", theory.energy_vmf(temperatures, dim)),
         "U_small": ("temperature", theory.energy_small_t(temperatures, dim))},
        coords={"temperature": temperatures, "seed": seeds(seed, n_seeds)},
        attrs={"protocol": "sphere", "dim": dim, "eta": eta},
    )  # fmt: skip


def _hot_cells(*, temperatures, dim, eta, replicas, steps, seed, device) -> np.ndarray:
    """U [temperature] of `hot_sphere` with one seed."""
    sigma = np.repeat(np.sqrt(2 * temperatures / eta), replicas)
    run = Experiment(IsotropicNoise(dim, "sphere"), eta=eta, lam=0.0, sigma=sigma, seed=seed, device=device)
    run.advance(steps // 2)
    run.frame()
    run.advance(steps - steps // 2)
    return run.frame().gauges["U"].reshape(len(temperatures), replicas).mean(1)
