"""The isotropic noise model on its way: how its radius relaxes, and the claim on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Positives, integer
from thermolab.phenomena.ideal_gas import theory
from thermolab.phenomena.ideal_gas.compare import worst
from thermolab.systems.isotropic import IsotropicNoise

RELAXATION = 0.05  # of the radius along its way: the laws are of leading order in η
OTHER = {"elr": "lr", "lr": "elr"}


@recipe("relaxation {protocol}", shared=["r_star", "r_pred", "r_other"], dims=("eta", "start", "time", "seed"), n_seeds=3)
def relaxation(
    protocol: Literal["elr", "lr"] = "elr",
    *,
    eta: Positives = (0.03, 0.1),
    lam: Positive = 0.01,
    dim: Annotated[int, integer(3)] = 3,
    sigma: Positive = 1.0,
    starts: Positives = (0.5, 2.0),
    replicas: Count = 256,
    points: Count = 60,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """How the radius relaxes to r* from `starts` times r*.

    eta: learning rates; lam: one weight decay. Runs 5 relaxation times of the slowest rate.

    Returns a Dataset: r (eta, start, time, seed), mean over the replicas; r_pred (eta, start, time), the law of this
    protocol (`theory.relaxation`); r_other, the law of the other one at the same rate constants; r_star (eta).
    Source: arXiv:2511.07308, appendix.
    """
    eta = np.array(eta)
    slowest = float(np.max(theory.relaxation_time(protocol, eta, lam, dim, sigma)))
    every = max(1, int(np.ceil(5 * slowest / points)))
    time = np.arange(1, points + 1) * every
    star = theory.radius(protocol, eta, lam, dim, sigma)
    first = star[:, None] * starts
    shape = (*first.shape, replicas)
    rate, radius = (np.broadcast_to(v, shape).ravel() for v in (eta[:, None, None], first[..., None]))
    system = IsotropicNoise(dim, protocol)
    direction = system.start(torch.arange(rate.size), seed)
    weights = direction * torch.as_tensor(radius, dtype=direction.dtype)[:, None]
    run = Experiment(system, eta=rate, lam=lam, sigma=sigma, seed=seed, weights=weights, device=device)
    found = [
        torch.linalg.vector_norm(run.state.weights, dim=1).cpu().numpy().reshape(shape).mean(-1)
        for _ in run.frames(every, until=points * every)
    ]
    moment = (dim - 1) * sigma**2 + theory.isotropic_state(protocol, eta, lam, dim, sigma)["gradient_squared"]
    law = {p: theory.relaxation(p, time, first[..., None], eta[:, None, None], lam, moment[:, None, None]) for p in OTHER}
    dims = ("eta", "start", "time")
    return xr.Dataset(
        {"r": (dims, np.stack(found, -1)), "r_star": ("eta", star), "r_pred": (dims, law[protocol]),
         "r_other": (dims, law[OTHER[protocol]])},
        coords={"eta": eta, "start": list(starts), "time": time},
        attrs={"protocol": protocol, "dim": dim, "sigma": sigma, "lam": lam},
    )  # fmt: skip


@decides("ideal-gas.iso.relaxation", reads=["eta", "lam", "dim", "sigma", "starts"], by_protocol="relaxation")
def laws(by_protocol: Mapping[str, xr.Dataset]) -> Decision:
    """Radius over its predicted curve, less 1, at every point of every curve; the worst decides."""
    right, wrong = (worst(*(d["r"] / d[name] - 1 for d in by_protocol.values())) for name in ("r_pred", "r_other"))
    return with_control(right, wrong, RELAXATION, "law of the other protocol")
