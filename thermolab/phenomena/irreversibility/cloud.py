"""The arrow of time inside the stationary state: the cloud of weights about a minimum keeps its shape, and turns.

Near a minimum of Hessian H, w <- A w − ηξ with A = 1 − ηH and noise of covariance C. At rest Σ = AΣAᵀ + D with D = η²C. As the
mean of the next step is A w, twice the area that w sweeps in a step has the mean K₂₁, K = AΣ − ΣAᵀ, whatever else ξ is like. K is
the probability current; it is 0 if and only if Σ commutes with H, as for noise that is isotropic or proportional to H. For
Gaussian ξ, with Σ − AΣAᵀ = D put into the mean of log p(w′|w)/p(w|w′), a step produces the entropy

    −Tr(D⁻¹AK) >= 0 nats.

As η → 0 the angle by which the cloud turns and the entropy that it produces per unit ηt tend to constants: it is the noise, not
the finite step, that breaks detailed balance here. With finitely many minibatches a step has no way back at all, and the log
ratio is infinite ("absolutely irreversible", document 4); K is as above.
Source: Chaudhari & Soatto, arXiv:1710.11029; Godrèche & Luck, arXiv:1807.00694, for continuous time; the form for finite η is
derived here. Limit: a quadratic loss.

The tolerances stand here once and do not move with the data. The closed forms are exact: RESOLVED, 5 %, is what the runs can
resolve. What the finite step can break of detailed balance is of order ηλ_max: as much of a turn is allowed per relaxation time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from scipy import linalg, stats
from torch import nn

from thermolab.claims import Decision, decides, extreme, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positives, number, several
from thermolab.systems.bowl import HESSIAN, Bowl
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

RESOLVED = 0.05
LEVELS = 32  # values of ξ
Angles = Annotated[Sequence[float], several(number(0, 90))]


def at_rest(eta: float, hessian, noise) -> tuple[np.ndarray, np.ndarray]:
    """Σ and K of the module docstring, [d, d] each; hessian H, noise C: [d, d].

    >>> at_rest(0.5, np.eye(2), np.eye(2))[1]
    array([[0., 0.],
           [0., 0.]])
    """
    a = np.eye(len(hessian)) - eta * np.asarray(hessian)
    sigma = linalg.solve_discrete_lyapunov(a, eta**2 * np.asarray(noise))
    return sigma, a @ sigma - sigma @ a.T


def entropy_production(eta: float, hessian, noise) -> float:
    """Mean of log p(w′|w)/p(w|w′) in nats per step, −Tr(D⁻¹AK), for Gaussian noise."""
    a, current = np.eye(len(hessian)) - eta * np.asarray(hessian), at_rest(eta, hessian, noise)[1]
    return -float(np.trace(np.linalg.solve(eta**2 * np.asarray(noise), a @ current)))


def turned(angle: float) -> np.ndarray:
    """C [2, 2] of the bowl at σ = 1: its Hessian turned by an angle in degrees."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[cos, -sin], [sin, cos]])
    return turn @ np.diag(HESSIAN) @ turn.T


def turning_rate(eta: float, current, sigma) -> float:
    """Angle in radians by which the cloud turns in one relaxation time 1/(η h), h the mean curvature of the bowl."""
    return float(current[1, 0] / (2 * np.sqrt(np.linalg.det(sigma)) * eta * np.mean(HESSIAN)))


def _drawn(covariances, replicas: int, seed: int) -> np.ndarray:
    """Gaussian weights [len(covariances) · replicas, 2], as many of each covariance."""
    z = np.random.default_rng([seed, 3]).normal(size=(len(covariances), replicas, 2))
    return np.concatenate([part @ np.linalg.cholesky(sigma).T for part, sigma in zip(z, covariances, strict=True)])


# --- Gaussian noise in the bowl -----------------------------------------------------------------------------------------
@recipe("clouds in a bowl", over={"angles": "angle"}, shared=["rate_pred", "produced_pred"], dims=("angle", "eta", "seed"))
def cloud(
    rates: Positives = (0.05, 0.1, 0.2),
    angles: Angles = (0.0, 20.0, 45.0),
    *,
    steps: Count = 300,
    replicas: Count = 512,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """A cloud at rest in the bowl of `systems.bowl`, where the noise is the Hessian turned by an angle.

    rates: η; angles: in degrees; steps, replicas: of each rate and angle, from starts that are drawn at rest.

    Returns a Dataset, dims (angle, eta, seed): rate, the angle in radians by which the cloud turns in one relaxation time 1/(ηh),
    h the mean curvature; produced, entropy in nats in the same time; (angle, eta): rate_pred and produced_pred, the closed forms.
    Raises ValueError for settings that are out of range. Source: arXiv:1710.11029.
    """
    (angle,), eta, h = angles, np.array(rates), np.mean(HESSIAN)
    hessian, noise = np.diag(HESSIAN), turned(angle)
    rest = [at_rest(e, hessian, noise) for e in rates]
    start = torch.from_numpy(_drawn([sigma for sigma, _ in rest], replicas, seed))
    weights = torch.nn.functional.pad(start, (0, 1))
    run = Experiment(Bowl(), eta=np.repeat(eta, replicas), angle=angle, seed=seed, weights=weights, device=device)
    run.advance(steps)
    run.raise_if_diverged()
    found = {name: v.reshape(len(rates), replicas).mean(1) / (eta * h) for name, v in run.frame().observables.items()}
    area = [2 * np.sqrt(np.linalg.det(sigma)) for sigma, _ in rest]
    data = {
        "rate": found["swept"] / area,
        "produced": found["produced"],
        "rate_pred": [turning_rate(e, current, sigma) for e, (sigma, current) in zip(rates, rest, strict=True)],
        "produced_pred": [entropy_production(e, hessian, noise) / (e * h) for e in rates],
    }
    return xr.Dataset({name: ("eta", v) for name, v in data.items()}, {"eta": eta}).expand_dims(angle=[angle])


@decides("irreversibility.entropy-production", reads=["rates", "angles"])
def produces(cloud: xr.Dataset) -> Decision:
    """Worst |ratio − 1| over the rates of the entropy produced to −Tr(D⁻¹AK), at the largest angle; the control: at the least."""
    most, least = (cloud.sel(angle=pick(cloud["angle"])) for pick in (max, min))
    measured, control = (extreme((a["produced"] / most["produced_pred"] - 1).transpose("seed", "eta")) for a in (most, least))
    return with_control(measured, control, RESOLVED, "noise that is proportional to the Hessian")


@decides("irreversibility.detailed-balance", reads=["rates", "angles"])
def detailed_balance(cloud: xr.Dataset) -> Decision:
    """Angle by which the cloud turns in a relaxation time at the smallest rate, at the largest angle; tolerance: that rate."""
    slow = cloud.sel(eta=min(cloud["eta"]))
    measured, control = (few_seeds(slow["rate"].sel(angle=pick(cloud["angle"]))) for pick in (max, min))
    return with_control(measured, control, float(slow["eta"]) * max(HESSIAN), "noise that is proportional to the Hessian")


# --- minibatches ----------------------------------------------------------------------------------------------------------
def answers(contrast: float) -> Dataset:
    """Inputs x = (±a, ±b) with E 2xxᵀ = `HESSIAN`, and answers ξ of mean 0, whose variance is 1 ± contrast.

    The answers are noisier, + contrast, where both inputs have the same sign; the mean variance is 1. x [128, 2], y [128, 1].
    """
    xi = stats.norm.ppf((np.arange(LEVELS) + 0.5) / LEVELS)
    rows = [
        (*(s * np.sqrt(np.array(HESSIAN) / 2)), np.sqrt(1 + contrast * s[0] * s[1]) * e)
        for s, e in itertools.product(itertools.product((-1, 1), repeat=2), xi / xi.std())
    ]
    x, y = torch.tensor(rows, dtype=torch.float32).split((2, 1), 1)
    return Dataset(x, y, 1)


@recipe("clouds of minibatches", over={"contrasts": "contrast"}, dims=("contrast", "eta", "seed"))
def minibatches(
    rates: Positives = (0.2, 0.4),
    contrasts: Annotated[Sequence[float], several(number(0, 0.99))] = (0.0, 0.9),
    *,
    batch_size: Count = 4,
    steps: Count = 250,
    replicas: Count = 512,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """SGD on least squares, on answers that are noisier for some inputs than for others.

    rates: η; contrasts: of the variances of the noise, 0 for noise that is proportional to the Hessian; steps, replicas: of each
    rate, from starts that are at rest in linear theory, a quarter as many steps after them.

    Returns a Dataset, dims (contrast, eta, seed): swept, the mean of w₁w′₂ − w₂w′₁; expected, K₂₁ with the covariance Σ of the
    same weights; linear, K₂₁ with the Σ of noise as it is at the minimum.
    Raises ValueError for settings that are out of range. Source: arXiv:1710.11029.
    """
    (contrast,), eta, hessian = contrasts, np.array(rates), np.diag(HESSIAN)
    net = NetworkOnData(nn.Linear(2, 1, bias=False), answers(contrast), "lr", loss="squared")
    x, y = (v.double().numpy() for v in (net.data.x, net.data.y))
    rest = [at_rest(e, hessian, 4 * (x * y**2).T @ x / len(x) / batch_size) for e in rates]
    weights, pace = torch.from_numpy(_drawn([sigma for sigma, _ in rest], replicas, seed)).float(), np.repeat(eta, replicas)
    run = Experiment(net, eta=pace, batch_size=batch_size, seed=seed, weights=weights, device=device)
    run.advance(steps // 4)
    swept, moments = torch.zeros(len(pace), dtype=torch.float64, device=device), 0.0
    before = run.state.weights.double()
    for _ in range(steps):
        moments = moments + before[:, :, None] * before[:, None]
        run.advance(1)
        after = run.state.weights.double()
        swept += before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
        before = after
    run.raise_if_diverged()
    of_rates = [(v / steps).reshape(len(rates), replicas, *v.shape[1:]).mean(1).cpu().numpy() for v in (swept, moments)]
    keep = np.eye(2) - eta[:, None, None] * hessian
    data = {
        "swept": of_rates[0],
        "expected": (keep @ of_rates[1] - of_rates[1] @ keep)[:, 1, 0],
        "linear": [current[1, 0] for _, current in rest],
    }
    return xr.Dataset({name: ("eta", v) for name, v in data.items()}, {"eta": eta}).expand_dims(contrast=[contrast])


@decides("irreversibility.turning-cloud", reads=["rates", "contrasts", "batch_size"])
def turns(minibatches: xr.Dataset) -> Decision:
    """Worst |ratio − 1| over the rates of the area swept to K₂₁ with the measured Σ, both at the largest contrast.

    The control takes the area that noise proportional to the Hessian sweeps, against the same.
    """
    most, least = (minibatches.sel(contrast=pick(minibatches["contrast"])) for pick in (max, min))
    expected = most["expected"].mean("seed")
    measured = extreme((most["swept"] / most["expected"] - 1).transpose("seed", "eta"))
    control = extreme((least["swept"] / expected - 1).transpose("seed", "eta"))
    return with_control(measured, control, RESOLVED, "noise that is proportional to the Hessian")
