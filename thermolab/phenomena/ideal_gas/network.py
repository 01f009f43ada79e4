"""A scale-invariant network on digits: the reference on the sphere, the stationary state over a grid, and the claims on both.

The reference gives E|g|² = Tr Σ + |∇L|² as a function of the effective learning rate; with it the closed forms of
`theory` predict radius and pressure of the free protocols, which never see the sphere.

Tolerances are the accuracy that the theory or the paper states, and do not move with the data: 4 % for radius and pressure
(order η), 10 % for the Maxwell relation (published: below 10 % in most set-ups), for the slope of S and for the effective
dimension over D - 1, 5 % for the share of cells that are their own minimum. Source: arXiv:2511.07308, network experiments.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, extreme, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positives, integer, number
from thermolab.instruments import noise
from thermolab.instruments.windows import FRAME, fresh_gradients, graph_entropy, probe, slow_windows
from thermolab.phenomena.ideal_gas import compare, theory
from thermolab.phenomena.ideal_gas.compare import seeds_first, worst
from thermolab.phenomena.ideal_gas.isotropic import AXIS, grid
from thermolab.systems import data, models, random
from thermolab.systems.isotropic import IsotropicNoise
from thermolab.systems.network import NetworkOnData

WIDTHS = (64, 8, 8)
DIM = sum(a * b for a, b in itertools.pairwise(WIDTHS))
SLOW = (1e-4, 3e-4, 1e-3)  # effective rates too low to settle within the reference run
RATES = (*SLOW, *np.geomspace(3e-3, 0.1, 9).round(5))
GRIDS = {
    "elr": {"eta": (6e-3, 0.05, 5), "lam": (1e-3, 0.1, 5)},
    "lr": {"eta": (0.08, 0.6, 5), "lam": (0.012, 0.1, 5)},
}
START_SPREAD = 0.25  # the start lies this much (in log r) inside or outside the predicted radius, alternating
STRIDE = 24  # steps between the weights of an entropy window (arXiv:2511.07308 takes a fixed stride too)
RADIUS = PRESSURE = 0.04
MAXWELL = ENTROPY_SLOPE = SPECTRUM = 0.1
SHARE = 0.05
EXPONENT = 0.05  # of σ² along an idle variable: 12 % over a decade
STATIONARY_DRIFT = 0.02  # change of log U between the halves of the window below which a run counts as stationary

OwnAxis = Annotated[Sequence[float] | None, AXIS]
Share = Annotated[float, number(0, 1)]
Steps = Annotated[int, integer(0)]
Window = Annotated[int, integer(4 * STRIDE)]  # the graph of an entropy needs four weights
Grids = Mapping[str, xr.Dataset]  # by protocol


def system(protocol: str, *, label_noise: float = 0.3, norm: str = "batch", n_data: int = 256) -> NetworkOnData:
    """The perceptron 64-8-8 (D = 576), every weight scale-invariant, on digits with redrawn labels."""
    return NetworkOnData(models.scale_invariant_mlp(WIDTHS, norm=norm), data.digits(n_data, label_noise=label_noise), protocol)


# --- the reference ------------------------------------------------------------------------------------------------------
@recipe("network on the sphere", dims=("eta", "seed"))
def sphere(
    rates: Positives = RATES,
    *,
    batch_size: Count = 32,
    label_noise: Share = 0.3,
    burn_in: Steps = 4000,
    window: Annotated[int, integer(2 * FRAME)] = 8000,
    samples: Count = 200,
    moments: Count = 250,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The network on the unit sphere at a range of effective learning rates: the reference of all predictions.

    rates: effective learning rates; burn_in, window: steps; samples: weights per entropy window, a quarter of a
    correlation time (0.25/η) apart; moments: of the window at which fresh minibatches probe the gradient.

    Returns a Dataset, dims (eta, seed): U, g2 = E|g|² and p over the window; trace Tr Σ, gradient_squared |∇L|²
    at |w| = 1 from fresh minibatches at these moments, snr = |∇L|/√Tr Σ; effective_dimension of the noise at its end, and
    effective_dimension_isotropic, what the same estimator says of isotropic noise in the same D; S: graph entropy
    of the direction (differences only; NaN where the window is too short for its stride), tau: autocorrelation time
    of the weights in samples; drift: log of U in the second half of the window over U in the first.
    """
    net = system("sphere", label_noise=label_noise)
    w = net.start(torch.arange(len(rates)), seed)
    weights = w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
    run = Experiment(net, eta=np.array(rates), batch_size=batch_size, seed=seed, weights=weights, device=device)
    frames, probes = window // FRAME, []

    def look(k):
        if k % max(1, frames // moments) == 0:
            probes.append(probe(run, batch_size, 16))

    found = slow_windows(run, rates, burn_in, window, samples, look)
    history = {name: np.stack([f.observables[name] for f in run.history[1:]]) for name in ("U", "g2", "p")}
    found |= {name: h.mean(0) for name, h in history.items()}
    found["drift"] = np.log(history["U"][frames // 2 :].mean(0) / history["U"][: frames // 2].mean(0))
    found |= {name: np.mean([p[name] for p in probes], 0) for name in probes[0]}
    found["snr"] = np.sqrt(np.maximum(found["gradient_squared"], 0) / found["trace"])
    return xr.Dataset(
        {k: ("eta", v) for k, v in (found | _directions(run, batch_size)).items()},
        coords={"eta": np.array(rates)},
        attrs={"protocol": "sphere", "dim": DIM, "batch_size": batch_size, "burn_in": burn_in, "window": window},
    )


def _directions(run: Experiment, batch_size: int, n: int = 128) -> dict[str, np.ndarray]:
    """Effective dimension of the noise from n gradients, and of isotropic noise of the same dimension by the same estimator."""
    found = noise.gradient_noise(fresh_gradients(run, batch_size, n), eigenvalues=0)
    xi = random.normals(run.seed, run.streams[:1].cpu(), 0, n, run.system.n_parameters, purpose=random.NOISE)
    isotropic = noise.gradient_noise(xi, eigenvalues=0).effective_dimension
    ones = np.ones(len(run.streams))
    return {
        "effective_dimension": np.asarray(found.effective_dimension),
        "effective_dimension_isotropic": float(np.squeeze(isotropic)) * ones,
    }


def settled(reference: xr.Dataset) -> xr.Dataset:
    """The reference without its slow rates."""
    return reference.sel(eta=reference["eta"] > 1.01 * max(SLOW))


def second_moment(reference: xr.Dataset, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """E|g|² ("g2") or Tr Σ ("trace") at |w| = 1 as a function of η_eff: a cubic in logarithms through the reference."""
    kept = settled(reference)
    known = np.log(kept[name].mean("seed").values)
    fit = np.polynomial.Polynomial.fit(np.log(kept["eta"].values), known, min(3, len(known) - 1))
    return lambda eta_eff: np.exp(fit(np.log(eta_eff)))


def predicted_radius(protocol: str, eta, lam, reference: xr.Dataset, name: str) -> np.ndarray:
    """The radius of `theory.finite_step_radius` with the moment of the reference, self-consistently."""
    moment, r = second_moment(reference, name), np.ones_like(eta)
    for _ in range(100):
        r = np.sqrt(r * theory.finite_step_radius(protocol, eta, lam, moment(eta / r**2 if protocol == "lr" else eta)))
    return r


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
    burn_in: Steps = 8_000,
    window: Window = 24_000,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The stationary state of the network over a grid, free radius ("elr" or "lr").

    reference: the result of `sphere` at the same batch size and label noise. eta, lam: [low, high, n] (default: GRIDS).
    Each run starts in a random direction, a quarter (in log r) inside or outside its predicted radius, in turn.

    Returns a Dataset, dims (eta, lam, seed): U, r (root of the mean of |w|²), g2 over the window; trace, gradient_squared
    from fresh minibatches at |w| = 1; S: graph entropy of the direction at a fixed stride of 24 steps; S_full: S + (D - 1) log r;
    diverged: 1 for a run that was lost, whose other entries are NaN;
    dims (eta, lam): r_pred, r_pred_without (Tr Σ alone), eta_eff, T = η_eff Tr Σ/(2 (D - 1)), p = λ,
    relaxed: whether burn_in lasts 3 relaxation times of the radius.
    """
    eta, lam = grid(eta or GRIDS[protocol]["eta"], lam or GRIDS[protocol]["lam"])
    h, ld = np.meshgrid(eta, lam, indexing="ij")
    radius = predicted_radius(protocol, h, ld, reference, "g2")
    net = system(protocol, label_noise=label_noise)
    run = _spread_start(net, h.ravel(), ld.ravel(), radius.ravel(), seed, device, batch_size=batch_size)
    probes, frames = [], window // STRIDE

    def look(k):
        if (k + 1) % max(1, frames // 16) == 0:
            probes.append(probe(run, batch_size, 12))

    found = _fixed_stride_window(run, burn_in, window, look)
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


def _spread_start(net, eta, lam, radius, seed: int, device: str, **knobs) -> Experiment:
    """A run from random directions, inside and outside the predicted radius in turn."""
    n = len(eta)
    side = np.where((np.arange(n) + seed) % 2, 1.0, -1.0)
    w = net.start(torch.arange(n), seed)
    w *= (torch.as_tensor(radius * np.exp(START_SPREAD * side), dtype=w.dtype) / torch.linalg.vector_norm(w, dim=1))[:, None]
    return Experiment(net, eta=eta, lam=lam, seed=seed, weights=w, device=device, **knobs)


def _fixed_stride_window(run: Experiment, burn_in: int, window: int, each=lambda k: None) -> dict[str, np.ndarray]:
    """U, r, g2, S and diverged [R] over the window after burn_in; S from weights STRIDE steps apart."""
    run.advance(burn_in)
    run.frame()  # the means of the window begin here
    n, dim = run.state.weights.shape
    path = np.empty((window // STRIDE, n, dim), np.float32)
    for k, _ in enumerate(run.frames(STRIDE, until=burn_in + window)):
        path[k] = run.state.weights.cpu().numpy()
        each(k)
    out = {name: np.mean([f.observables[name] for f in run.history[1:]], 0) for name in ("U", "r2", "g2")}
    out["r"] = np.sqrt(out.pop("r2"))
    path /= np.linalg.norm(path, axis=-1, keepdims=True)
    out["diverged"], out["S"] = (run.state.diverged.cpu().numpy() >= 0).astype(float), np.full(n, np.nan)
    for i in np.flatnonzero(out["diverged"] == 0):
        out["S"][i] = graph_entropy(path[:, i]).value
    return out


# --- a perfect gas beside it --------------------------------------------------------------------------------------------
@recipe("isotropic gas, D = 576", shared=["T", "p"], dims=("eta", "lam", "rate", "seed"))
def gas(
    reference: xr.Dataset,
    *,
    eta: OwnAxis = None,
    lam: OwnAxis = None,
    burn_in: Steps = 8_000,
    window: Window = 24_000,
    samples: Count = 200,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """A perfect gas measured as the network is: the isotropic model in the same D = 576, one path a cell, same estimators.

    reference: the network on the sphere, whose rates, window and mean Tr Σ the gas takes over. eta, lam: as in `stationary`,
    protocol "elr". What the network misses and this gas meets is no artefact of the estimators.

    Returns a Dataset: sphere_S (rate, seed), entropy of the direction on the sphere at noise so low that its slope in
    log T is (D - 1)/2; U, r, g2, S, S_full, diverged (eta, lam, seed) and T, p (eta, lam) of the free gas.
    """
    eta, lam = grid(eta or GRIDS["elr"]["eta"], lam or GRIDS["elr"]["lam"])
    h, ld = np.meshgrid(eta, lam, indexing="ij")
    known = settled(reference)
    sigma = float(np.sqrt(known["trace"].mean() / (DIM - 1)))
    state = theory.isotropic_state("elr", h, ld, DIM, sigma)
    free = IsotropicNoise(DIM, "elr")
    run = _spread_start(free, h.ravel(), ld.ravel(), state["r"].ravel(), seed, device, sigma=sigma)
    found = _fixed_stride_window(run, burn_in, window)
    rates = known["eta"].values
    bound = Experiment(IsotropicNoise(DIM, "sphere"), eta=rates, sigma=1 / np.sqrt(DIM - 1), seed=seed, device=device)
    entropies = slow_windows(bound, rates, reference.attrs["burn_in"], reference.attrs["window"], samples)["S"]
    dims = ("eta", "lam")
    out = xr.Dataset(
        {k: (dims, v.reshape(h.shape)) for k, v in found.items()}
        | {"T": (dims, state["T"]), "p": (dims, ld), "sphere_S": ("rate", entropies)},
        coords={"eta": eta, "lam": lam, "rate": rates},
        attrs={"protocol": "elr", "dim": DIM, "sigma": sigma},
    )
    out["S_full"] = theory.full_entropy(out["S"], out["r"], DIM)
    return out


# --- what is decided ----------------------------------------------------------------------------------------------------
ON_SPHERE = ("rates", "batch_size", "label_noise")
ON_GRID = ("eta", "lam", "batch_size", "label_noise")
GAS = "isotropic gas in the same D, same estimator"


@decides("ideal-gas.net.radius", reads=ON_GRID)
def radii(net: Grids) -> Decision:
    """A mean over λ at each η, under both protocols; the worst decides."""
    right, wrong = (
        worst(*((d["r"] / d[name] - 1).where(d["relaxed"]).mean("lam") for d in net.values()))
        for name in ("r_pred", "r_pred_without")
    )
    return with_control(right, wrong, RADIUS, "prediction without |∇L|²")


@decides("ideal-gas.net.pressure", reads=ON_SPHERE)
def pressures(reference: xr.Dataset) -> Decision:
    """Over three bands of rates, since a single rate's |g|², which has heavy tails, is known to 3 % only."""
    d = settled(reference)

    def off(moment):
        ratio = d["p"] / theory.finite_step_pressure(d["eta"], 1.0, moment) - 1
        bands = np.array_split(ratio.transpose("seed", "eta").values, min(3, d.sizes["eta"]), axis=1)
        return extreme(np.stack([band.mean(1) for band in bands], 1))

    right, wrong = off(d["trace"] + d["gradient_squared"]), off(d["trace"])
    return with_control(right, wrong, PRESSURE, "prediction without |∇L|²")


@decides("ideal-gas.net.sigma", reads=ON_GRID)
def idle_noise(net: Grids) -> Decision:
    """Exponents of σ² along the direction of the grid in which each protocol should not change it."""
    right = [compare.idle_exponent(net["elr"], "lam"), compare.idle_exponent(net["lr"], "ratio")]
    wrong = [compare.idle_exponent(net[k], "eta") for k in ("elr", "lr")]
    return with_control(extreme(np.stack(right, 1)), extreme(np.stack(wrong, 1)), EXPONENT, "σ² as a function of λ alone")


@decides("ideal-gas.net.spectrum", reads=ON_SPHERE)
def filled_directions(reference: xr.Dataset) -> Decision:
    """Effective dimension of the noise over D - 1, a mean over the rates."""
    d = settled(reference)
    names = ("effective_dimension", "effective_dimension_isotropic")
    right, control = (few_seeds((d[name] / (d.attrs["dim"] - 1)).mean("eta")) for name in names)
    return with_control(right, control, SPECTRUM, "isotropic noise, same estimator", predicted=1.0)


@decides("ideal-gas.net.maxwell", reads=ON_GRID)
def maxwell_relation(net: Grids) -> Decision:
    """Each cell of the grid at fixed LR; the worst decides."""
    d = net["lr"]
    direction, log_r = seeds_first(d["S"]), np.log(seeds_first(d["r"]))
    shuffled = log_r[:, np.random.default_rng(0).permutation(log_r.shape[1])]
    right, wrong = (extreme(compare.maxwell(d, direction, radius)[0]) for radius in (log_r, shuffled))
    return with_control(right, wrong, MAXWELL, "radii shuffled over the grid")


@decides("ideal-gas.net.maxwell-is-tautology", reads=ON_GRID)
def tautology(net: Grids) -> Decision:
    """The same relation with a nonsense entropy in place of the measured one."""
    d = net["lr"]
    log_r = np.log(seeds_first(d["r"]))
    nonsense = compare.nonsense_entropy(d) + 0 * log_r
    right, wrong = (extreme(compare.maxwell(d, nonsense, radius)[0]) for radius in (log_r, -log_r))
    return with_control(right, wrong, MAXWELL, "a nonsense radius 1/r")


@decides("ideal-gas.net.entropy", reads=ON_SPHERE)
def entropy_growth(reference: xr.Dataset, perfect: xr.Dataset) -> Decision:
    """Slope of S in log T over (D - 1)/2."""
    d = settled(reference)
    t = (d["eta"] * d["trace"]).transpose("seed", "eta").values
    network = [compare.entropy_slope(*row) for row in zip(t, d["S"].transpose("seed", "eta").values, strict=True)]
    twin = [compare.entropy_slope(perfect["rate"].values, row) for row in perfect["sphere_S"].transpose("seed", "rate").values]
    measured, control = (few_seeds(np.array(slopes) / ((d.attrs["dim"] - 1) / 2)) for slopes in (network, twin))
    return with_control(measured, control, ENTROPY_SLOPE, GAS, predicted=1.0)


@decides("ideal-gas.net.gibbs", reads=ON_GRID)
def minima(net: Grids, perfect: xr.Dataset) -> Decision:
    """At fixed ELR; at fixed LR even a perfect gas misses a quarter of its cells with entropies of one path a cell."""
    network, control = (few_seeds(compare.own_minima(d, "T")) for d in (net["elr"], perfect))
    return with_control(network, control, SHARE, GAS, predicted=1.0)


@decides("ideal-gas.net.stationarity", reads=ON_SPHERE)
def drifts(reference: xr.Dataset) -> Decision:
    """|drift|, a mean over the slow rates."""
    slow, fast = reference["drift"].sel(eta=list(SLOW)), reference["drift"].sel(eta=reference["eta"] >= 0.01)
    measured, control = (few_seeds(np.abs(x).mean("eta")) for x in (slow, fast))
    return with_control(measured, control, 0.0, "rates of 0.01 and more", predicted=STATIONARY_DRIFT, relation="above")
