"""A plateau that is a false minimum: a unit whose frequency has to cross a barrier, and how long that takes.

A unit sin(w x + ψ) learns y = sin(w* x + ψ) + σξ from x ∈ {1, 2}, ψ uniform on the circle, ξ = ±1. Its loss |f − y|² (no ½)
depends on δ = w − w* alone, U = σ² + 1 − (cos δ + cos 2δ)/2. Half a turn off, at δ = π, it is right for x = 2 and of
the wrong sign for x = 1: a false minimum with U″ = 3/2, left over the tops cos δ = −¼ on both sides, 9/16 higher.
With Σ(δ) the variance of a sample's gradient g, equipartition gives T = η Σ(π)/(2B) as η → 0.

How rare is a climb against many small kicks −η g? Between the tops the cloud is Z exp(−V/η) (a quasi-potential; Freidlin &
Wentzell), and putting that into a step leaves, order by order in η, E exp(−V′ g) = 1 (Cramér's root, at V′ ≠ 0) and an
equation for Z (`cloud`). Where noise is large against U′ these are those of a diffusion, V′ = 2BU′/Σ and Z = 1/Σ. The mean
time ηn until one of the two tops is crossed is Kramers',

    t = π √(Σ_top/Σ_π) / √(U″_π |U″_top|) · Σ_π Z_π/(Σ_top Z_top) · exp(V_top/η),

and log t is a straight line in 1/η of slope V_top: exits are Arrhenius. That is not the loss over the temperature: the noise
grows up the slope, and V_top lies far below 9/16 · η/T. Limit: V and Z are exact as η → 0 and good to O(η) in t and O(η²) in
T; at the default rates, 1 % and 4 to 10 %, against the exact chain. Source: arXiv:2505.23489, open question 2.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from scipy.integrate import cumulative_trapezoid, trapezoid
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, integer, number, several
from thermolab.phenomena.temperature_collapse.plateau import SAMPLES, SPACING
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData
from thermolab.systems.replicas import Replicas

NOISE, TEACHER = 0.6, 1.0  # σ, w*
PHASES = 16  # values of ψ: more than 4 make all moments of U and Σ exact
FALSE, TOP = np.pi, np.arccos(-0.25)  # δ of the false minimum and of the top
HEIGHT, BOTTOM = 9 / 16, 1 + NOISE**2  # of the top above the false minimum; U there
CURVATURES = 1.5, -1.875  # U″ at the false minimum and at the top
OUT = 1.0  # |δ| at which a run counts as out: well beyond the top, so that it does not come back
LAGS = 5  # windows before an exit
WINDOW = SPACING * SAMPLES  # in ηn
RATES = (0.04, 0.05, 0.06, 0.08)


# --- the task and its theory ------------------------------------------------------------------------------------------
class SineUnit(nn.Module):
    """sin(w x + ψ), from inputs (x, ψ) [B, 2] to [B, 1], with one trained number, w."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([TEACHER + FALSE]))

    def forward(self, x):
        return torch.sin(self.w * x[..., :1] + x[..., 1:])


class _ByHand(Replicas):
    """Replicas of `SineUnit` with the squared loss and its gradient written out, several times faster than autograd."""

    def loss_and_gradient(self, weights, x, y, out):
        angle = weights * x[..., 0] + x[..., 1]
        error = torch.sin(angle) - y[..., 0]
        torch.mean(2 * error * x[..., 0] * torch.cos(angle), 1, keepdim=True, out=out)
        return error.square().mean(1)


def population() -> Dataset:
    """All 64 cases (x, ψ, ξ) once: inputs [64, 2], targets [64, 1]."""
    phases = (np.arange(PHASES) + 0.5) * 2 * np.pi / PHASES
    x, psi, xi = (torch.tensor(v.ravel(), dtype=torch.float32) for v in np.meshgrid([1, 2], phases, [-1, 1]))
    return Dataset(torch.stack([x, psi], 1), (torch.sin(TEACHER * x + psi) + NOISE * xi)[:, None], 1)


def system() -> NetworkOnData:
    """The unit on its task."""
    net = NetworkOnData(SineUnit(), population(), "lr", loss="squared")
    net.replicas = _ByHand(net.replicas.module, "squared")
    return net


def loss(delta) -> np.ndarray:
    """U at distances δ from the teacher."""
    return NOISE**2 + 1 - (np.cos(delta) + np.cos(2 * np.asarray(delta))) / 2


def derivatives(delta) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative in w of the loss of each of the 64 cases at distances δ [...]: g and h, both [..., 64]."""
    data = population()
    (x, psi), y = data.x.double().numpy().T, data.y[:, 0].double().numpy()
    angle = (TEACHER + np.asarray(delta, float)[..., None]) * x + psi
    error = np.sin(angle) - y
    return 2 * error * x * np.cos(angle), 2 * x**2 * (np.cos(angle) ** 2 - error * np.sin(angle))


def noise(delta) -> np.ndarray:
    """Σ, the variance of a sample's gradient, at distances δ."""
    return derivatives(delta)[0].var(-1)


def tilt(g: np.ndarray) -> np.ndarray:
    """θ, the root other than 0 of E exp(−θ g) = 1 over gradients g [..., n] whose mean is not 0."""
    theta = 2 * g.mean(-1) / g.var(-1)  # beyond the minimum of the convex log E exp(−θ g), so Newton arrives
    for _ in range(20):
        weight = np.exp(-theta[..., None] * g)
        theta += np.log(weight.mean(-1)) * weight.mean(-1) / (weight * g).mean(-1)
    return theta


@functools.cache
def cloud(batch_size: int = 1, points: int = 801) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances δ [points] from the top to the false minimum, V and log Z there, both zero in the minimum.

    In K(δ, q) = E exp(q g_B) of a batch, V′ = −q is the root of K = 1, and Z follows along it from the next order in η,
    (log Z)′ = −(½ q′ K_qq + K_qδ)/K_q. Where the noise is large, V′ = 2BU′/Σ and Z = 1/Σ.
    """
    delta = np.linspace(TOP, FALSE, points)
    g, h = derivatives(delta[1:-1])
    q = -tilt(g)  # of one sample; a batch has K^B at q/B, so that B enters by powers alone
    weight = np.exp(q[:, None] * g)
    k_q, k_d = (weight * g).mean(-1), q * (weight * h).mean(-1) * batch_size
    k_qq = (weight * g * g).mean(-1) / batch_size + (1 - 1 / batch_size) * k_q**2
    k_qd = (weight * (1 + q[:, None] * g) * h).mean(-1) + (batch_size - 1) * q * k_q * (weight * h).mean(-1)
    log_z = -(k_qd - k_d * k_qq / (2 * k_q)) / k_q
    ends = 2 * log_z[[0, -1]] - log_z[[1, -2]]  # 0/0 where q = 0: the straight line goes on
    v = batch_size * cumulative_trapezoid(np.concatenate([[0], -q, [0]]), delta, initial=0)
    log_z = cumulative_trapezoid(np.concatenate([ends[:1], log_z, ends[1:]]), delta, initial=0)
    return delta, v - v[-1], log_z - log_z[-1]


def escape_time(eta, batch_size: int = 1):
    """Kramers' mean time ηn until the unit leaves the false minimum, in units of 1/loss; eta: scalars or arrays."""
    _, v, log_z = cloud(batch_size)
    ratio = noise(FALSE) / noise(TOP)
    rate = np.sqrt(-CURVATURES[0] * CURVATURES[1] / ratio) * np.exp(log_z[0]) / np.pi
    return np.exp(v[0] / np.asarray(eta)) / rate


def temperature(eta, batch_size: int = 1):
    """T = 2(U − U_false) of the cloud Z exp(−V/η) in the well, η Σ(π)/(2B) as η → 0; eta: scalars or arrays."""
    delta, v, log_z = cloud(batch_size)
    density = np.exp(log_z - v / np.asarray(eta, float)[..., None])
    return 2 * trapezoid(density * (loss(delta) - BOTTOM), delta) / trapezoid(density, delta)


def barrier(times: xr.DataArray) -> xr.DataArray:
    """Slopes (seed) of log times (eta, seed) in 1/η, that is V_top where exits are Arrhenius; NaN where a rate has no exit."""
    logs = np.log(times.where(np.isfinite(times))).assign_coords(eta=1 / times["eta"])
    return logs.polyfit("eta", 1, skipna=False)["polyfit_coefficients"].sel(degree=1, drop=True)


# --- the measurement --------------------------------------------------------------------------------------------------
@recipe("false minimum", over={"rates": "eta"}, dims=("eta", "seed", "lag"), n_seeds=3)
def metastable(
    rates: Annotated[tuple[float, ...], several(number(1e-6, SPACING), 2)] = RATES,
    *,
    batch_size: Count = 1,
    replicas: Annotated[int, integer(2)] = 300,
    length: Annotated[float, number((LAGS + 1) * WINDOW, 1e6)] = 250.0,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """The unit from the false minimum on: temperature and entropy of its plateau, and how soon it gets out.

    rates: η, two or more; batch_size: B; replicas: per learning rate and seed; length: of a run, in ηn, above 48: what has
    not left by then is counted as time without an exit. A window lasts 8/η steps as in `plateau`.

    Returns a Dataset. Dims (eta, seed), over all that is still in the well, from window 1 on: T = 2(U − U_false); S, mean
    entropy ½ log(2πe Var w) in nats of a window of one trajectory; exits, how many left; time, all time spent there over
    exits, the maximum-likelihood mean of ηn until an exit (inf where none). Dims (eta, seed, lag): S_before, the same
    entropy in the windows before an exit, the last first, over the exits (NaN where none). Dim (eta): T_pred, of the cloud;
    T_lead = η Σ/(2B), equipartition; time_pred, Kramers; time_naive, the same with 9/16 · η/T_lead, what the loss and the
    temperature at the minimum would make of V_top. Scalar: barrier = V_top, the predicted slope of log time in 1/η
    (`barrier` measures it).
    Raises ValueError for settings that are out of range.
    Source: arXiv:2505.23489, open question 2.
    """
    (eta,), n = rates, len(seeds)
    weights = torch.full((n * replicas, 1), TEACHER + FALSE)
    run = Experiment(system(), eta=eta, batch_size=batch_size, seed=seeds[0], weights=weights, device=device)
    stride, path = max(1, round(SPACING / eta)), []
    for _ in range(int(length / SPACING)):
        run.advance(stride)
        path.append(run.state.weights[:, 0].double().cpu().numpy() - TEACHER)
    found = read(np.stack(path, 1).reshape(n, replicas, -1), stride * eta)
    data = xr.Dataset(
        {name: (("seed", "lag")[: v.ndim], v) for name, v in found.items()}, {"seed": seeds, "lag": np.arange(LAGS)}
    )
    data = data.expand_dims(eta=[eta])
    lead, top, kramers = eta * noise(FALSE) / (2 * batch_size), cloud(batch_size)[1][0], escape_time(eta, batch_size)
    of_rate = {"T_pred": temperature(eta, batch_size), "T_lead": lead, "time_pred": kramers}
    of_rate["time_naive"] = kramers * np.exp(HEIGHT / lead - top / eta)
    data = data.assign({name: ("eta", [value]) for name, value in of_rate.items()} | {"barrier": top})
    return data.assign_attrs(batch_size=batch_size, replicas=replicas, length=length, window=WINDOW)


def read(delta: np.ndarray, spacing: float) -> dict[str, np.ndarray]:
    """What trajectories of δ [seed, replica, sample] say of the well, as `metastable` lists it; spacing: ηn between samples."""
    end = delta.shape[-1]
    out = np.cos(delta) > np.cos(OUT)
    left = np.where(out.any(-1), out.argmax(-1), end)  # the sample at which each is out
    inside = np.arange(end) < left[..., None]
    warm, exits = inside[..., SAMPLES:], ((left < end) & (left >= SAMPLES)).sum(1)
    windows = delta[..., SAMPLES : end - end % SAMPLES].reshape(*delta.shape[:2], -1, SAMPLES)
    whole = inside[..., 2 * SAMPLES - 1 :: SAMPLES]  # those that end inside
    with np.errstate(divide="ignore", invalid="ignore"):  # no exit: the mean time is infinite; nobody inside: no T, no S
        found = {"exits": exits, "time": warm.sum((1, 2)) * spacing / exits}
        found["T"] = 2 * (np.where(warm, loss(delta[..., SAMPLES:]) - BOTTOM, 0).sum((1, 2)) / warm.sum((1, 2)))
        found["S"] = np.where(whole, window_entropy(windows), 0).sum((1, 2)) / whole.sum((1, 2))
    found["S_before"] = np.full((len(delta), LAGS), np.nan)
    for row, paths, ends in zip(found["S_before"], delta, left, strict=True):
        late = np.flatnonzero((ends < end) & (ends >= LAGS * SAMPLES))
        if late.size:
            before = np.stack([paths[i, ends[i] - LAGS * SAMPLES : ends[i]].reshape(LAGS, SAMPLES) for i in late])
            row[:] = window_entropy(before).mean(0)[::-1]
    return found


def window_entropy(windows: np.ndarray) -> np.ndarray:
    """Gaussian entropy ½ log(2πe Var) in nats of windows [..., sample]."""
    return np.log(2 * np.pi * np.e * windows.var(-1, ddof=1)) / 2
