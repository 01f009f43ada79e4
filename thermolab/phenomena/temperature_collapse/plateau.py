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

Tolerances of the claims are the accuracy that the theory states; they stand here once and do not move with the data. 5 % for the
temperatures, whose closed form is exact at a finite step; 5 % of the states may miss their own minimum of F; a lead shorter
than one window is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from scipy import stats
from torch import nn

from thermolab.claims import Decision, decides, extreme, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, integer, number, several
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
BAND = 4.0  # standard deviations of the null task that count as a departure: 6e-5 of a normal variable lie outside
TEMPERATURE, SHARE, LEAD = 0.05, 0.05, 1.0


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
@recipe("plateau", over={"rates": "eta"}, dims=("eta", "seed", "replica", "window"), n_seeds=3)
def plateau(
    rates: Annotated[tuple[float, ...], several(number(1e-6, SPACING), 3)] = RATES,
    *,
    batch_size: Count = 16,
    replicas: Annotated[int, integer(2)] = 40,
    windows: Annotated[int, integer(PLATEAU[1])] = 14,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
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
    Raises ValueError for settings that are out of range, or a rate that diverges.
    Source: arXiv:2505.23489, open question 2.
    """
    (eta,) = rates
    t = temperature(eta, batch_size)

    def arm(windows: int = windows, **which: bool) -> xr.Dataset:
        return _trajectories(eta, batch_size, replicas, windows, seeds, device, **which)

    saddle, null, full = arm(), arm(null=True), arm(PLATEAU[1], full=True)
    moving = ["U_t", "S_t", "F_t", "frozen_t"]
    out = saddle.assign({f"null_{name}": null[name] for name in moving} | {"open_U": full["U"], "open_S": full["S"]})
    for name in moving:
        out[name.replace("_t", "_exit")] = ("seed", "replica"), departure(saddle[name].values, null[name].values)
    out["null_exit"] = ("seed", "replica"), departure(null["U_t"].values, null["U_t"].values)
    out = out.expand_dims(eta=[eta]).assign_coords(seed=seeds)
    predicted = {"T": t, "U_pred": plateau_loss() + INPUTS / 2 * t, "S_pred": entropy_of(t)}
    out = out.assign({name: ("eta", [value]) for name, value in predicted.items()})
    return out.assign_attrs(batch_size=batch_size, replicas=replicas, window=SPACING * SAMPLES)


def _trajectories(eta, batch_size, replicas, windows, seeds, device, *, null: bool = False, full: bool = False) -> xr.Dataset:
    """One arm, all seeds in one batch: U and S of the plateau (seed), U_t, S_t, F_t, frozen_t (seed, replica, window).

    null: on the task of which there is nothing to learn; full: units that start at full size, which leaves no plateau.
    """
    net, n = system(null), replicas * len(seeds)
    run = Experiment(
        net, eta=eta, batch_size=batch_size, seed=seeds[0], weights=start(net, n, seeds[0], full=full), device=device
    )
    stride, linear, rows = max(1, round(SPACING / eta)), [], []
    for _ in range(windows):
        path, losses = [], []
        for _ in range(SAMPLES):
            run.advance(stride)
            path.append(run.state.weights.double().cpu().numpy())
            losses.append(population_loss(net, run.state.weights, null))
        path, energy = np.stack(path, 1), np.mean(losses, 0)  # [replica, sample, weight], [replica]
        linear.append(path[..., :INPUTS])
        spread = np.log(2 * np.pi * np.e * path.var(1, ddof=1)).sum(-1) / 2
        free = energy - temperature(eta, batch_size) * spread
        frozen = np.log(path[..., INPUTS:].var(1).mean(1))
        rows.append({"U_t": energy, "S_t": gaussian_entropy(linear[-1]), "F_t": free, "frozen_t": frozen})
    moving = {k: np.stack([row[k] for row in rows], -1).reshape(len(seeds), replicas, -1) for k in rows[0]}
    warm = slice(*PLATEAU)
    mean = np.mean([row["U_t"] for row in rows[warm]], 0).reshape(len(seeds), replicas).mean(1)
    cloud = np.concatenate(linear[warm], 1).reshape(len(seeds), -1, INPUTS)
    still = {"U": ("seed", mean), "S": ("seed", gaussian_entropy(cloud))}
    return xr.Dataset(still | {k: (("seed", "replica", "window"), v) for k, v in moving.items()})


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


# --- its claims -------------------------------------------------------------------------------------------------------
READS = ("rates", "replicas", "windows")


@decides("collapse.plateau.temperature", reads=READS)
def has_temperature(plateau: xr.Dataset) -> Decision:
    """Worst of three thermometers and of the minima of F, each in units of its tolerance."""

    def off(prefix: str):
        u, s = (plateau[prefix + k].transpose("seed", "eta").values for k in ("U", "S"))
        return extreme(_thermometers(u, s, plateau["T"].values))

    return with_control(off(""), off("open_"), 1.0, "units that start at full size, which leaves no plateau")


def _thermometers(u: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Deviations [seed, …] of U, of S, of dU/dS and of the share of own minima, over their tolerances; u, s [seed, η], t [η]."""
    excess = (u - plateau_loss()) / (INPUTS / 2 * t) - 1
    spread = np.exp((s - entropy_of(t)) / (INPUTS / 2)) - 1
    # dU = T dS from state to state with T between them; in units of the dU expected, for without a plateau dS may vanish
    rung, rise = np.diff(t) / np.diff(np.log(t)), INPUTS / 2 * np.diff(t)
    slope = (np.diff(u) - rung * np.diff(s)) / rise
    free = u[:, None, :] - t[:, None] * s[:, None, :]  # [seed, temperature of state, state]
    own = (free.argmin(-1) == np.arange(len(t))).mean(-1, keepdims=True)
    return np.concatenate([excess / TEMPERATURE, spread / TEMPERATURE, slope / TEMPERATURE, (1 - own) / SHARE], 1)


@decides("collapse.plateau.early-warning", reads=READS)
def early_warning(plateau: xr.Dataset) -> Decision:
    """Windows by which S, or the log-variance of the frozen weights, leaves the null task's band before U does.

    A replica whose S has not left by the end counts as leaving just after it, which favours the claim.
    """
    end = plateau.sizes["window"]

    def lead(name: str):
        return few_seeds((plateau["U_exit"] - plateau[name].fillna(end)).mean(("eta", "replica")))

    right, wrong = lead("S_exit"), lead("frozen_exit")
    return with_control(
        right, wrong, 0.0, "log-variance of the weights that the plateau freezes", predicted=LEAD, relation="above"
    )
