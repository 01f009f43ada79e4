"""A scale-invariant network on digits with a free radius: its stationary state over a grid of η and λ, and the claims on it.

Tolerances are the accuracy that the theory or the paper states, and do not move with the data: 4 % for the radius (order η),
10 % for the Maxwell relations (published: below 10 % in most set-ups), 5 % for the share of cells near their minimum, 2 % for the
stationarity thermometer, which is exact but for frames of 24 steps that stand for single ones (order ηλ).
Source: arXiv:2511.07308, Sec. 6; arXiv:1810.00004.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, extreme, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, integer
from thermolab.engine.state import Frame
from thermolab.instruments.stationarity import stationarity
from thermolab.instruments.windows import graph_entropy, probe
from thermolab.phenomena.ideal_gas import compare, theory
from thermolab.phenomena.ideal_gas.compare import seeds_first, worst
from thermolab.phenomena.ideal_gas.isotropic import AXIS, grid
from thermolab.phenomena.ideal_gas.reference import Share, Steps, predicted_radius, second_moment, system

GRIDS = {
    "elr": {"eta": (6e-3, 0.05, 5), "lam": (1e-3, 0.1, 5)},
    "lr": {"eta": (0.08, 0.6, 5), "lam": (0.012, 0.1, 5)},
}
START_SPREAD = 0.25  # the start lies this much (in log r) inside or outside the predicted radius, alternating
STRIDE = 24  # steps between the weights of an entropy window (arXiv:2511.07308 takes a fixed stride too)
RADIUS = 0.04
MAXWELL = 0.1
SHARE = 0.05
BALANCE = 0.02
EXPONENT = 0.05  # of σ² along an idle variable: 12 % over a decade

OwnAxis = Annotated[Sequence[float] | None, AXIS]
Window = Annotated[int, integer(4 * STRIDE)]  # the graph of an entropy needs four weights
Grids = Mapping[str, xr.Dataset]  # by protocol


# --- the grid -----------------------------------------------------------------------------------------------------------
def _temperatures(grids: xr.Dataset) -> xr.Dataset:
    """With T = η_eff Tr Σ/(2 (D - 1)) of each cell, Tr Σ a mean over the seeds."""
    return grids.assign(T=grids["eta_eff"] * grids["trace"].mean("seed") / (2 * (grids.attrs["dim"] - 1)))


@recipe(
    "network {protocol}",
    shared=["r_pred", "r_pred_without", "eta_eff", "p", "relaxed"],
    dims=("eta", "lam", "seed"),
    then=_temperatures,
)
def stationary(
    protocol: Literal["elr", "lr"] = "lr",
    *,
    reference: xr.Dataset,
    eta: OwnAxis = None,
    lam: OwnAxis = None,
    batch_size: Count = 32,
    label_noise: Share = 0.3,
    burn_in: Steps = 4_000,
    window: Window = 12_000,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The stationary state of the network over a grid, free radius ("elr" or "lr").

    reference: the result of `sphere` at the same batch size and label noise. eta, lam: [low, high, n] (default: GRIDS).
    Each run starts in a random direction, a quarter (in log r) inside or outside its predicted radius, in turn.

    Returns a Dataset, dims (eta, lam, seed): U, r (root of the mean of |w|²), g2 over the window; trace, gradient_squared
    from fresh minibatches at |w| = 1; S: graph entropy of the direction at a fixed stride of 24 steps; S_full: S + (D - 1) log r;
    under fixed LR balance, the stationarity thermometer over the window, and balance_early, over the first 24 steps;
    diverged: 1 for a run that was lost, whose other entries are NaN;
    dims (eta, lam): r_pred, r_pred_without (Tr Σ alone), eta_eff, T = η_eff Tr Σ/(2 (D - 1)), p = λ,
    relaxed: whether burn_in lasts 3 relaxation times of the radius.
    """
    eta, lam = grid(eta or GRIDS[protocol]["eta"], lam or GRIDS[protocol]["lam"])
    h, ld = np.meshgrid(eta, lam, indexing="ij")
    radius = predicted_radius(protocol, h, ld, reference, "g2")
    net = system(protocol, label_noise=label_noise)
    run = spread_start(net, h.ravel(), ld.ravel(), radius.ravel(), seed, device, batch_size=batch_size)
    probes, frames = [], window // STRIDE

    def look(k):
        if (k + 1) % max(1, frames // 16) == 0:
            probes.append(probe(run, batch_size, 12, at="unit"))

    run.advance(min(STRIDE, burn_in))
    early = run.frame()
    found = fixed_stride_window(run, burn_in, window, look)
    if protocol == "lr":
        found |= {"balance": balance(run.history[-frames:]), "balance_early": balance([early])}
    found |= {name: np.mean([p[name] for p in probes], 0) for name in probes[0]}
    found = {k: np.where((found["diverged"] > 0) & (k != "diverged"), np.nan, v) for k, v in found.items()}
    eta_eff = h / radius**2 if protocol == "lr" else h
    rate = 4 * h * ld if protocol == "lr" else h**2 * second_moment(reference, "g2")(eta_eff)
    dims, dim = ("eta", "lam"), reference.attrs["dim"]
    out = xr.Dataset(
        {k: (dims, v.reshape(h.shape)) for k, v in found.items()},
        coords={"eta": eta, "lam": lam},
        attrs={"protocol": protocol, "dim": dim, "batch_size": batch_size, "stride": STRIDE},
    )
    without = predicted_radius(protocol, h, ld, reference, "trace")
    predicted = {"r_pred": radius, "r_pred_without": without, "eta_eff": eta_eff, "p": ld, "relaxed": burn_in * rate >= 3}
    out["S_full"] = theory.full_entropy(out["S"], out["r"], dim)
    return out.assign({k: (dims, v) for k, v in predicted.items()})


def balance(frames: Sequence[Frame]) -> np.ndarray:
    """The stationarity thermometer about c = 0 [R] under fixed LR, with u = g + λw: 2⟨w·u⟩/(η⟨|u|²⟩), from frames of g2 and r2.

    A scale-invariant loss has w·g = 0 and |g|² = g2/r².
    """
    eta, lam = (frames[0].knobs[name] for name in ("eta", "lam"))
    r2, g2 = (np.stack([f.observables[name] for f in frames], 1) for name in ("r2", "g2"))
    found, alive = np.full(len(r2), np.nan), np.isfinite(r2).all(1)
    pull, squared = lam[:, None] * r2, g2 / r2 + (lam[:, None]) ** 2 * r2
    found[alive] = stationarity(pull[alive], squared[alive], eta[alive]).value
    return found


def spread_start(net, eta, lam, radius, seed: int, device: str, **knobs) -> Experiment:
    """A run from random directions, inside and outside the predicted radius in turn."""
    n = len(eta)
    side = np.where((np.arange(n) + seed) % 2, 1.0, -1.0)
    w = net.start(torch.arange(n), seed)
    w *= (torch.as_tensor(radius * np.exp(START_SPREAD * side), dtype=w.dtype) / torch.linalg.vector_norm(w, dim=1))[:, None]
    return Experiment(net, eta=eta, lam=lam, seed=seed, weights=w, device=device, **knobs)


def fixed_stride_window(run: Experiment, burn_in: int, window: int, each=lambda k: None) -> dict[str, np.ndarray]:
    """U, r, g2, S and diverged [R] over the window after burn_in; S from weights STRIDE steps apart."""
    run.advance(burn_in - run.state.step)
    run.frame()  # the means of the window begin here
    before = len(run.history)
    n, dim = run.state.weights.shape
    path = np.empty((window // STRIDE, n, dim), np.float32)
    for k, _ in enumerate(run.frames(STRIDE, until=burn_in + window)):
        path[k] = run.state.weights.cpu().numpy()
        each(k)
    out = {name: np.mean([f.observables[name] for f in run.history[before:]], 0) for name in ("U", "r2", "g2")}
    out["r"] = np.sqrt(out.pop("r2"))
    path /= np.linalg.norm(path, axis=-1, keepdims=True)
    out["diverged"], out["S"] = (run.state.diverged.cpu().numpy() >= 0).astype(float), np.full(n, np.nan)
    for i in np.flatnonzero(out["diverged"] == 0):
        out["S"][i] = graph_entropy(path[:, i]).value
    return out


# --- what is decided ----------------------------------------------------------------------------------------------------
ON_GRID = ("eta", "lam", "batch_size", "label_noise")


@decides("ideal-gas.net.radius", reads=ON_GRID)
def radii(net: Grids) -> Decision:
    """Radius over its prediction, less 1, a mean over λ at each η, under both protocols; the worst decides."""
    right, wrong = (
        worst(*((d["r"] / d[name] - 1).where(d["relaxed"]).mean("lam") for d in net.values()))
        for name in ("r_pred", "r_pred_without")
    )
    return with_control(right, wrong, RADIUS, "prediction without |∇L|²")


@decides("ideal-gas.net.radius-printed", reads=ON_GRID)
def printed_radii(net: Grids) -> Decision:
    """Radius over r* = √(T (D - 1)/λ) with the Tr Σ measured in the cell, less 1; the control counts |∇L|² beside it."""

    def off(moment: str):
        for protocol, d in net.items():
            sigma = np.sqrt(d[moment].mean("seed").values / (d.attrs["dim"] - 1))
            star = theory.radius(protocol, d["eta"].values[:, None], d["lam"].values, d.attrs["dim"], sigma)
            yield (d["r"] / d["r_pred"].copy(data=star) - 1).where(d["relaxed"]).mean("lam")

    net = {protocol: d.assign(both=d["trace"] + d["gradient_squared"]) for protocol, d in net.items()}
    return with_control(worst(*off("trace")), worst(*off("both")), RADIUS, "|∇L|² counted beside Tr Σ")


@decides("ideal-gas.net.temperature", reads=ON_GRID)
def rising_temperatures(net: Grids) -> Decision:
    """Slope of log T in log η at fixed λ, of the protocol where it is least; T = η_eff Tr Σ/(2 (D - 1))."""

    def slope(name: str) -> Estimate:
        slopes = [few_seeds(compare.plane(d.assign(T=np.log(d["eta_eff"] * d["trace"]), noise=np.log(d["trace"])), name)[:, 0])
                  for d in net.values()]  # fmt: skip
        return min(slopes)

    return with_control(slope("T"), slope("noise"), 0.0, "σ² alone, without the factor η_eff", relation="above")


@decides("ideal-gas.net.sigma", reads=ON_GRID)
def idle_noise(net: Grids) -> Decision:
    """Exponents of σ² along the direction of the grid in which each protocol should not change it."""
    right = [compare.idle_exponent(net["elr"], "lam"), compare.idle_exponent(net["lr"], "ratio")]
    wrong = [compare.idle_exponent(net[k], "eta") for k in ("elr", "lr")]
    return with_control(extreme(np.stack(right, 1)), extreme(np.stack(wrong, 1)), EXPONENT, "σ² as a function of λ alone")


def _relation(d: xr.Dataset) -> Decision:
    """The Maxwell relation of the protocol in each cell of its grid; the worst decides."""
    direction, log_r = seeds_first(d["S"]), np.log(seeds_first(d["r"]))
    shuffled = log_r[:, np.random.default_rng(0).permutation(log_r.shape[1])]
    right, wrong = (extreme(compare.maxwell(d, direction, radius)[0]) for radius in (log_r, shuffled))
    return with_control(right, wrong, MAXWELL, "radii shuffled over the grid")


@decides("ideal-gas.net.maxwell", reads=ON_GRID)
def maxwell_relation(net: Grids) -> Decision:
    """Maxwell relation over (D - 1)/2, less 1, at fixed LR; the worst cell decides."""
    return _relation(net["lr"])


@decides("ideal-gas.net.maxwell-elr", reads=ON_GRID)
def maxwell_relation_elr(net: Grids) -> Decision:
    """Maxwell relation over (D - 1)/2, less 1, at fixed ELR; the worst cell decides."""
    return _relation(net["elr"])


@decides("ideal-gas.net.maxwell-is-tautology", reads=ON_GRID)
def tautology(net: Grids) -> Decision:
    """Maxwell relation over (D - 1)/2, less 1, with a nonsense entropy in place of the measured one; the worst cell decides."""
    d = net["lr"]
    log_r = np.log(seeds_first(d["r"]))
    nonsense = compare.nonsense_entropy(d) + 0 * log_r
    right, wrong = (extreme(compare.maxwell(d, nonsense, radius)[0]) for radius in (log_r, -log_r))
    return with_control(right, wrong, MAXWELL, "a nonsense radius 1/r")


@decides("ideal-gas.net.gibbs", reads=ON_GRID)
def near_minima(net: Grids) -> Decision:
    """Share of cells at fixed ELR whose G is least in them or in a neighbour."""
    right, wrong = (few_seeds(compare.own_minima(net["elr"], "T", swap, within=1)) for swap in (False, True))
    return with_control(right, wrong, SHARE, "temperature of another cell", predicted=1.0)


@decides("ideal-gas.net.thermometer", reads=ON_GRID)
def balances(net: Grids) -> Decision:
    """Pull over push on |w|², less 1, in each cell of the grid at fixed LR; the worst decides."""
    right, wrong = (worst(net["lr"][name] - 1) for name in ("balance", "balance_early"))
    return with_control(right, wrong, BALANCE, "the first 24 steps, before the radius has relaxed")
