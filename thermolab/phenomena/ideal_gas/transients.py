"""The isotropic noise model on its way: how its radius relaxes."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.phenomena.ideal_gas import theory
from thermolab.systems.isotropic import IsotropicNoise


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
