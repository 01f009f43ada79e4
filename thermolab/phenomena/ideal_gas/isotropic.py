"""Measurements on the isotropic noise model: the stationary state over a grid, relaxation, the hot end, anisotropy."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.engine.isotropic import IsotropicNoise
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import entropy
from thermolab.phenomena.ideal_gas import theory

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
    spectrum (coordinate), where one was given;
    predictions (eta, lam): T, T_step, eta_eff, r_pred, p_pred, U_pred, S_pred (`theory.isotropic_state`), U_vmf, S_vmf (at T).
    Raises ValueError for a bad protocol, dimension or spectrum. A cell of a grid whose replicas have all diverged is NaN;
    a grid of one cell raises DivergenceError as soon as a replica diverges.
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
    settings, places = [], []
    for s in seeds(seed, n_seeds):
        for group in np.unique(size)[::-1]:
            i, j = np.nonzero(size == group)
            settings.append(
                common | {
                    "eta": eta[i], "lam": lam[j], "start": state["r"][i, j], "cells": i * len(lam) + j, "seed": s,
                    "burn_in": int(burn_in[i, j].max()), "spacing": int(spacing[i, j].max()),
                }
            )  # fmt: skip
            places.append((s - seeds(seed, 1)[0], i, j))
    parts = yield Jobs(_stationary_cells, settings, f"isotropic {protocol} D={dim}")
    dims = ("eta", "lam", "seed")
    data = {k: np.full((len(eta), len(lam), n_seeds), np.nan) for k in parts[0]}
    for (s, i, j), part in zip(places, parts, strict=True):
        for k, v in part.items():
            data[k][i, j, s] = v
    out = xr.Dataset(
        {k: (dims, v) for k, v in data.items()},
        coords={"eta": eta, "lam": lam, "seed": seeds(seed, n_seeds)},
        attrs={"protocol": protocol, "dim": dim, "sigma": sigma, "replicas": replicas, "snapshots": snapshots},
    )
    out["S_full"] = theory.full_entropy(out["S"], out["r"], dim)
    predictions = {
        "T": "T",
        "T_step": "T_step",
        "eta_eff": "eta_eff",
        "r_pred": "r",
        "p_pred": "p",
        "U_pred": "U",
        "S_pred": "S",
    }
    for name, key in predictions.items():
        out[name] = (dims[:2], np.broadcast_to(state[key], size.shape).copy())
    out["U_vmf"], out["S_vmf"] = (
        (dims[:2], theory.energy_vmf(out["T"].values, dim)),
        (dims[:2], theory.entropy_vmf(out["T"].values, dim)),
    )
    if spectrum is not None:
        out["spectrum"] = ("coordinate", np.asarray(spectrum, float))
    out["steps"] = (dims[:2], burn_in + snapshots * spacing)
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
        run.advance(burn_in)
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
def response(
    protocol: str = "elr",
    events=((2000, {"eta": 0.1}), (4000, {"lam": 0.1})),
    *,
    eta: float = 0.03,
    lam: float = 0.01,
    dim: int = 3,
    sigma: float = 1.0,
    replicas: int = 1024,
    every: int = 50,
    steps: int = 6000,
    seed: int = 0,
    device: str = "cpu",
):
    """The gas while knobs are turned: the static twin of the live panel, one ensemble of replicas from the stationary radius.

    events: [[step, {"eta" | "lam" | "sigma": value}], …]; every: steps between frames.

    Returns a Dataset, dim time: U, r, p (mean over the replicas and the steps since the last frame), S (entropy of the
    direction over the ensemble), their standard errors U_error …, and the closed forms at the present knobs, U_pred ….
    """
    settings = {
        "protocol": protocol, "events": [[int(s), dict(k)] for s, k in events], "eta": eta, "lam": lam, "dim": dim,
        "sigma": sigma, "replicas": replicas, "every": every, "steps": steps, "seed": seed, "device": str(device),
    }  # fmt: skip
    (part,) = yield Jobs(_responding, [settings], "turning knobs")
    return part


def _responding(*, protocol, events, eta, lam, dim, sigma, replicas, every, steps, seed, device) -> xr.Dataset:
    system = IsotropicNoise(dim, protocol)
    direction = system.start(torch.arange(replicas), seed)
    r = float(np.nan_to_num(theory.isotropic_state(protocol, eta, lam, dim, sigma)["r"], nan=1.0))
    run = Experiment(system, eta=eta, lam=lam, sigma=sigma, seed=seed, weights=direction * r, device=device)
    rows = []
    for frame in run.follow(events, every, steps):
        row = {k: _with_error(v) for k, v in frame.gauges.items()}
        row["r"] = (np.sqrt(row["r2"][0]), row["r2"][1] / (2 * np.sqrt(row["r2"][0])))
        s = entropy.kozachenko_leonenko(run.state.weights.cpu().numpy().astype(float), dim=dim - 1, sphere=True)
        row["S"] = (s.value - s.bias, s.standard_error)
        knobs = {k: float(v[0]) for k, v in frame.knobs.items()}
        state = predict(protocol, dim=dim, radius=r, **knobs)
        rows.append({k: (*row[k], state[k]) for k in ("U", "r", "p", "S")} | {"T": state["T"], **knobs})
    data = {k: ("time", [row[k] for row in rows]) for k in ("T", "eta", "lam")}
    for k in ("U", "r", "p", "S"):
        for i, name in enumerate((k, f"{k}_error", f"{k}_pred")):
            data[name] = ("time", [float(row[k][i]) for row in rows])
    time = [f.step for f in run.history]
    return xr.Dataset(data, coords={"time": time}, attrs={"protocol": protocol, "dim": dim, "sigma": sigma})


def _with_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def predict(protocol: str, *, eta: float, lam: float, dim: int, sigma: float, radius: float) -> dict[str, float]:
    """What the closed forms say of the gauges T, U, S, r, p at the present knobs; radius: of the fixed sphere."""
    state = theory.isotropic_state(protocol, eta, lam, dim, sigma)
    if protocol == "sphere":
        moment = (dim - 1) * sigma**2 + state["gradient_squared"]
        state |= {"r": radius, "p": theory.finite_step_pressure(eta, radius, moment)}
    return {k: float(state[v]) for k, v in {"T": "T_step", "U": "U", "S": "S", "r": "r", "p": "p"}.items()}


@Recipe
def relaxation(
    protocol: str = "elr",
    *,
    eta=(0.03, 0.1),
    lam: float = 0.01,
    dim: int = 3,
    sigma: float = 1.0,
    starts=(0.5, 2.0),
    replicas: int = 256,
    points: int = 60,
    seed: int = 0,
    n_seeds: int = 3,
    device: str = "cpu",
):
    """How the radius relaxes to r* from `starts` times r*.

    eta: learning rates; lam: one weight decay. Runs 5 relaxation times of the slowest rate.

    Returns a Dataset: r (eta, start, time, seed), mean over the replicas; r_pred (eta, start, time), the law of this
    protocol (`theory.relaxation`); r_other, the law of the other one at the same rate constants; r_star (eta).
    """
    eta = np.asarray(eta, float)
    slowest = float(np.max(theory.relaxation_time(protocol, eta, lam, dim, sigma)))
    every = max(1, int(np.ceil(5 * slowest / points)))
    settings = [
        {"protocol": protocol, "eta": eta, "lam": lam, "dim": dim, "sigma": sigma, "starts": np.asarray(starts, float),
         "replicas": replicas, "points": points, "every": every, "seed": s, "device": str(device)}
        for s in seeds(seed, n_seeds)
    ]  # fmt: skip
    parts = yield Jobs(_relaxing_cells, settings, f"relaxation {protocol}")
    time = np.arange(1, points + 1) * every
    second_moment = (dim - 1) * sigma**2 + theory.isotropic_state(protocol, eta, lam, dim, sigma)["gradient_squared"]
    star = theory.radius(protocol, eta, lam, dim, sigma)
    laws = {
        name: theory.relaxation(
            law, time, (star[:, None] * starts)[..., None], eta[:, None, None], lam, second_moment[:, None, None]
        )
        for name, law in (("r_pred", protocol), ("r_other", "lr" if protocol == "elr" else "elr"))
    }
    return xr.Dataset(
        {"r": (("eta", "start", "time", "seed"), np.stack(parts, -1)), "r_star": ("eta", star)}
        | {k: (("eta", "start", "time"), v) for k, v in laws.items()},
        coords={"eta": eta, "start": list(starts), "time": time, "seed": seeds(seed, n_seeds)},
        attrs={"protocol": protocol, "dim": dim, "sigma": sigma, "lam": lam},
    )


def _relaxing_cells(*, protocol, eta, lam, dim, sigma, starts, replicas, points, every, seed, device) -> np.ndarray:
    """r [eta, start, time] of `relaxation` with one seed, the mean over replicas of the instantaneous radius."""
    shape = (len(eta), len(starts), replicas)
    rate = np.broadcast_to(eta[:, None, None], shape).ravel()
    first = theory.radius(protocol, eta, lam, dim, sigma)[:, None, None] * starts[:, None]
    system = IsotropicNoise(dim, protocol)
    direction = system.start(torch.arange(rate.size), seed)
    weights = direction * torch.as_tensor(np.broadcast_to(first, shape).ravel(), dtype=direction.dtype)[:, None]
    run = Experiment(system, eta=rate, lam=lam, sigma=sigma, seed=seed, weights=weights, device=device)
    radii = []
    for _ in run.frames(every, until=points * every):
        radii.append(torch.linalg.vector_norm(run.state.weights, dim=1).cpu().numpy().reshape(shape).mean(-1))
    return np.stack(radii, -1)


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
