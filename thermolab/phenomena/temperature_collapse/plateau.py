"""A plateau of the training loss at a saddle: its temperature, and what moves first when it ends.

Inputs x ∈ {±1}⁶ and targets y = b·x + ½ x₁x₂ + 0.3 ξ; a linear part w·x that is trained already, and four ReLU units
Σ a_j relu(v_j·x) that start tiny. Until the units have grown, what the linear part cannot fit, ½ x₁x₂ + 0.3 ξ with
variance s² = ¼ + σ², is its noise. With the loss |f − y|² (no ½) and U₀ = s² the loss is U = U₀ + |w − b|², and
V, the variance of a weight, obeys exactly V = (1 − 4η + 4η²(1 + (d − 1)/B)) V + 4η² s²/B, d = 6. Equipartition
over U − U₀ = Σ δ², V = T/2, gives

    T = (2η s²/B)/(1 − η(1 + (d − 1)/B)),    U − U₀ = d T/2 = 3T,    S = 3 log(πeT).

At leading order T = η Tr Σ/(2d) with Tr Σ = 4 s² d/B, the gas temperature on a flat space (arXiv:2505.23489, open question 2).
In these six coordinates F = U − TS is least at the plateau's own η. Over all 34 weights it is not: the units grow at constant
U, so S of all weights rises, and F falls from the first window to the last without a barrier. The plateau is a saddle of F.

The data are a balanced population, each x equally often with the same quantiles of ξ; drawn with replacement, its
rows are independent fresh data whose first two moments are exact. Limit: the units must stay out of the loss.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import xarray as xr
from scipy import stats
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData
from thermolab.systems.replicas import Replicas

INPUTS, UNITS, PRODUCT, NOISE = 6, 4, 0.5, 0.3
TEACHER = tuple(np.linspace(-1, 1, INPUTS))  # b
RATES = (0.02, 0.032, 0.05, 0.08)
TINY = 1e-12  # of the units at the start
QUANTILES = 64  # values of ξ for each x
SPACING = 0.25  # between the weights of a window, in units of 1/η, half of which is the correlation time of w
SAMPLES = 32  # weights in a window: it lasts 8/η
PLATEAU = (1, 4)  # windows from which the temperature is read: after the burn-in, long before the first exit
ARMS = ("saddle", "null", "open")  # units tiny; product of an independent draw; units at full size
BAND = 4.0  # standard deviations of the null task that count as a departure: 6e-5 of a normal variable lie outside


# --- the task ---------------------------------------------------------------------------------------------------------
class LinearAndUnits(nn.Module):
    """A linear map plus ReLU units, from inputs [B, 6] to [B, 1]; row 0 of `inner` is the linear map."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(INPUTS, 1 + UNITS, bias=False)
        self.outer = nn.Linear(UNITS, 1, bias=False)

    def forward(self, x):
        h = self.inner(x)
        return h[..., :1] + self.outer(torch.relu(h[..., 1:]))


class _ByHand(Replicas):
    """Replicas of `LinearAndUnits` with the squared loss and its gradient written out, several times faster than autograd."""

    def loss_and_gradient(self, weights, x, y, out):
        parameters, gradients = self.views(weights), self.views(out)
        inner, outer = parameters["inner.weight"], parameters["outer.weight"]
        h = torch.bmm(x, inner.transpose(1, 2))
        active = h[..., 1:].clamp_min(0)
        error = h[..., 0] + torch.bmm(active, outer.transpose(1, 2))[..., 0] - y[..., 0]
        d = error * (2 / error.shape[1])
        gradients["outer.weight"].copy_(torch.bmm(d[:, None], active))
        back = torch.cat([d[..., None], d[..., None] * outer * (active > 0)], -1)
        gradients["inner.weight"].copy_(torch.bmm(back.transpose(1, 2), x))
        return error.square().mean(1)


def patterns() -> torch.Tensor:
    """All inputs [64, 6]."""
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=INPUTS)))


def population(null: bool = False) -> Dataset:
    """The balanced population of the task: inputs [4096, 6], targets [4096, 1].

    null: the product x₁x₂ is that of an independent draw, ±1 equally often for each x, and nobody can learn it.
    """
    xi = stats.norm.ppf((np.arange(QUANTILES // 2) + 0.5) / (QUANTILES // 2))
    xi = torch.tensor(np.repeat(xi / xi.std(), 2), dtype=torch.float32)  # mean 0 and variance 1 exactly
    x = patterns().repeat_interleave(QUANTILES, 0)
    sign = torch.tensor([1.0, -1.0]).repeat(len(x) // 2)  # crosses each value of ξ with both signs
    product = sign if null else x[:, 0] * x[:, 1]
    y = x @ torch.tensor(TEACHER, dtype=torch.float32) + PRODUCT * product + NOISE * xi.repeat(len(x) // QUANTILES)
    return Dataset(x, y[:, None], 1)


def system(null: bool = False) -> NetworkOnData:
    """The network of the plateau on its task, or on the null task."""
    net = NetworkOnData(LinearAndUnits(), population(null), "lr", loss="squared")
    net.replicas = _ByHand(net.replicas.module, "squared")
    return net


def temperature(eta, batch_size):
    """Temperature of the plateau in the weights of the linear part (module docstring), exact at a finite step.

    eta: learning rates; batch_size: B; scalars or arrays that broadcast. Returns T in units of the loss |f − y|².
    Raises ValueError where no stationary state exists. Source: arXiv:2505.23489, open question 2.

    >>> round(float(temperature(0.05, 16)), 6)  # 2·0.05·0.34/16 is 0.002125
    0.002274
    """
    room = 1 - np.asarray(eta) * (1 + (INPUTS - 1) / np.asarray(batch_size))
    if np.any(room <= 0):
        raise ValueError(f"eta={eta} diverges at batch_size={batch_size}; allowed: below 1/(1 + {INPUTS - 1}/B): lower eta")
    return 2 * eta * plateau_loss() / batch_size / room


def plateau_loss() -> float:
    """U₀ = s² = ¼ + σ², the loss of the best linear map."""
    return PRODUCT**2 + NOISE**2


def entropy_of(temperature):
    """Entropy of the six thermal coordinates in nats, (d/2) log(πeT)."""
    return INPUTS / 2 * np.log(np.pi * np.e * temperature)


# --- the measurement --------------------------------------------------------------------------------------------------
@Recipe
def plateau(
    rates=RATES,
    *,
    batch_size: int = 16,
    replicas: int = 40,
    windows: int = 14,
    seed: int = 0,
    n_seeds: int = 3,
    device: str = "cpu",
):
    """The saddle task, its null task and a start without a saddle, from the plateau to its end.

    rates: η, three or more; batch_size: B; replicas: per learning rate and seed; windows: each lasts 8/η steps.

    Returns a Dataset. Dims (eta, seed), from windows 1 to 3, cut by time and not by exit: U, the exact loss over the
    population at the moving weights; S, Gaussian entropy of the six weights of the linear part over replicas and times;
    open_U and open_S, the same of the start with units at full size, which leaves no plateau. Dim (eta): T, closed form;
    U_pred = U₀ + 3T; S_pred. Dims (eta, seed, replica, window): U_t; S_t, Gaussian entropy of the linear part along the
    window of one trajectory; F_t = U − T S of all 34 weights, S the sum of their single Gaussian entropies along the window (an
    upper bound: 32 samples have no joint one); frozen_t, log of the variance of the units' weights in the window; null_U_t,
    null_S_t, null_F_t and null_frozen_t, the same of the null task. Dims (eta, seed, replica): U_exit, S_exit, F_exit and
    frozen_exit, the window in which each leaves the band of ±4 standard deviations of the null task for two in a row
    (NaN: never), and null_exit, that of U in the null task.
    Raises ValueError for fewer than three rates, fewer than 2 replicas, fewer than 4 windows or a rate that diverges.
    Source: arXiv:2505.23489, open question 2.
    """
    rates = np.asarray(rates, float)
    if rates.ndim != 1 or len(rates) < 3 or (rates <= 0).any() or rates.max() > SPACING:
        raise ValueError(f"rates={rates.tolist()}; allowed: three or more, above 0 and up to {SPACING}")
    if windows < PLATEAU[1] or replicas < 2:
        raise ValueError(f"windows={windows}, replicas={replicas}; allowed: {PLATEAU[1]} and 2 or more")
    t = temperature(rates, batch_size)
    names = seeds(seed, n_seeds)
    # the slowest first; all seeds of a learning rate are one batch of replicas
    jobs = [{"arm": arm, "eta": eta, "batch_size": batch_size, "windows": windows if arm != "open" else PLATEAU[1],
             "replicas": replicas, "seed": names[0], "n_seeds": n_seeds, "device": str(device)}
            for eta in rates for arm in ARMS]  # fmt: skip
    parts = yield Jobs(_trajectories, jobs, "plateau")
    table = {arm: {k: np.stack([p[k] for p in parts[i :: len(ARMS)]]) for k in parts[i]} for i, arm in enumerate(ARMS)}
    return _dataset(table, rates, names, t).assign_attrs(batch_size=batch_size, replicas=replicas, window=SPACING * SAMPLES)


def _dataset(table: dict, rates, names, t) -> xr.Dataset:
    """The arrays [eta, seed, ...] of each arm, with names, closed forms and departures."""
    cell, moving = ("eta", "seed"), ("eta", "seed", "replica", "window")
    out = {k: (cell, table["saddle"][k]) for k in ("U", "S")} | {f"open_{k}": (cell, table["open"][k]) for k in ("U", "S")}
    out |= {"T": ("eta", t), "U_pred": ("eta", plateau_loss() + INPUTS / 2 * t), "S_pred": ("eta", entropy_of(t))}
    for k in ("U_t", "S_t", "F_t", "frozen_t"):
        measured, null = table["saddle"][k], table["null"][k]
        out |= {k: (moving, measured), f"null_{k}": (moving, null)}
        out[k.replace("_t", "_exit")] = (moving[:3], departure(measured, null))
    out["null_exit"] = (moving[:3], departure(table["null"]["U_t"], table["null"]["U_t"]))
    return xr.Dataset(out, {"eta": rates, "seed": names})


def _trajectories(*, arm, eta, batch_size, windows, replicas, seed, n_seeds, device) -> dict[str, np.ndarray]:
    """One arm at one η, all seeds: U and S of the plateau [seed], U_t, S_t, F_t, frozen_t [seed, replica, window]."""
    net, n = system(arm == "null"), replicas * n_seeds
    weights = start(net, n, seed, full=arm == "open")
    run = Experiment(net, eta=eta, batch_size=batch_size, seed=seed, weights=weights, device=device)
    stride = max(1, round(SPACING / eta))
    columns = {k: [] for k in ("U_t", "S_t", "F_t", "frozen_t")}
    warm, energy = [], []
    for window in range(windows):
        path, losses = [], []
        for _ in range(SAMPLES):
            run.advance(stride)
            path.append(run.state.weights.double().cpu().numpy())
            losses.append(population_loss(net, run.state.weights, arm == "null"))
        path, losses = np.stack(path, 1), np.mean(losses, 0)  # [replica, sample, weight], [replica]
        linear, units = path[..., :INPUTS], path[..., INPUTS:]
        columns["U_t"].append(losses)
        columns["S_t"].append(gaussian_entropy(linear))
        spread = np.log(2 * np.pi * np.e * path.var(1, ddof=1)).sum(-1) / 2
        columns["F_t"].append(losses - temperature(eta, batch_size) * spread)
        columns["frozen_t"].append(np.log(units.var(1).mean(1)))
        if PLATEAU[0] <= window < PLATEAU[1]:
            warm.append(linear)
            energy.append(losses)
    cloud = np.concatenate(warm, 1).reshape(n_seeds, -1, INPUTS)
    out = {k: np.stack(v, -1).reshape(n_seeds, replicas, windows) for k, v in columns.items()}
    return out | {"U": np.mean(energy, 0).reshape(n_seeds, replicas).mean(1), "S": gaussian_entropy(cloud)}


def start(net: NetworkOnData, n: int, seed: int, *, full: bool = False) -> torch.Tensor:
    """Weights [n, 34]: the linear part at b, the units at 1e-12 times their usual start, or at full size."""
    w = net.start(torch.arange(n), seed).clone()
    w[:, INPUTS:] *= 1.0 if full else TINY
    w[:, :INPUTS] = torch.tensor(TEACHER, dtype=w.dtype)
    return w


def population_loss(net: NetworkOnData, weights: torch.Tensor, null: bool = False) -> np.ndarray:
    """The loss [R] over the whole population, exactly: over the 64 inputs, plus what the noise adds."""
    p, x = net.replicas.views(weights.double()), patterns().double().to(weights.device)
    h = x @ p["inner.weight"].transpose(1, 2)
    f = h[..., 0] + (h[..., 1:].clamp_min(0) @ p["outer.weight"].transpose(1, 2))[..., 0]
    target = x @ torch.tensor(TEACHER, dtype=x.dtype, device=x.device) + (0 if null else PRODUCT * x[:, 0] * x[:, 1])
    rest = NOISE**2 + (PRODUCT**2 if null else 0)
    return ((f - target).square().mean(1) + rest).cpu().numpy()


def gaussian_entropy(cloud: np.ndarray) -> np.ndarray:
    """Entropy ½ log det(2πe Cov) in nats of clouds [..., N, d], taken as Gaussian; N above d."""
    centred = cloud - cloud.mean(-2, keepdims=True)
    covariance = np.swapaxes(centred, -1, -2) @ centred / (cloud.shape[-2] - 1)
    return np.linalg.slogdet(2 * np.pi * np.e * covariance)[1] / 2


def departure(series: np.ndarray, null: np.ndarray) -> np.ndarray:
    """First of two windows in a row in which a series leaves the band of the null task at the same windows.

    series, null: [..., replica, window]. The band is the mean ± 4 standard deviations over the null task's replicas; a
    single window may lie outside by chance. Returns indices [..., replica], NaN where it never leaves.
    """
    centre, width = null.mean(-2, keepdims=True), null.std(-2, keepdims=True)
    outside = abs(series - centre) > BAND * width
    twice = outside[..., :-1] & outside[..., 1:]
    return np.where(twice.any(-1), twice.argmax(-1), np.nan)
