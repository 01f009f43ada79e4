"""The isotropic noise model on its way: how it answers when knobs are turned, and how its radius relaxes."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.isotropic import IsotropicNoise
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import entropy
from thermolab.phenomena.ideal_gas import theory


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
