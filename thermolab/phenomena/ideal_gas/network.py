"""Measurements on a scale-invariant network on digits: the reference on the sphere, and the stationary state over a grid.

The reference gives E|g|² = Tr Σ + |∇L|² as a function of the effective learning rate; with it the closed forms of
`theory` predict radius and pressure of the free protocols, which never see the sphere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import noise
from thermolab.instruments.windows import FRAME, fresh_gradients, graph_entropy, probe, slow_windows
from thermolab.phenomena.ideal_gas import theory
from thermolab.phenomena.ideal_gas.isotropic import grid
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


def system(protocol: str, *, label_noise: float = 0.3, norm: str = "batch", n_data: int = 256) -> NetworkOnData:
    """The perceptron 64-8-8 (D = 576), every weight scale-invariant, on digits with redrawn labels."""
    return NetworkOnData(models.scale_invariant_mlp(WIDTHS, norm=norm), data.digits(n_data, label_noise=label_noise), protocol)


@Recipe
def sphere(
    rates=RATES,
    *,
    batch_size: int = 32,
    label_noise: float = 0.3,
    burn_in: int = 4000,
    window: int = 8000,
    samples: int = 200,
    moments: int = 250,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """The network on the unit sphere at a range of effective learning rates: the reference of all predictions.

    rates: effective learning rates; burn_in, window: steps; samples: weights per entropy window, a quarter of a
    correlation time (0.25/η) apart; moments: of the window at which fresh minibatches probe the gradient.

    Returns a Dataset, dims (eta, seed): U, g2 = E|g|² and p over the window; trace Tr Σ, gradient_squared |∇L|²
    at |w| = 1 from fresh minibatches at these moments, snr = |∇L|/√Tr Σ; effective_dimension of the noise at its end, and
    effective_dimension_isotropic, what the same estimator says of isotropic noise in the same D; S: graph entropy
    of the direction (differences only; NaN where the window is too short for its stride), tau: autocorrelation time
    of the weights in samples; drift: log of U in the second half of the window over U in the first.
    """
    rates = np.asarray(rates, float)
    settings = [
        {"rates": rates, "batch_size": batch_size, "label_noise": label_noise, "burn_in": burn_in, "window": window,
         "samples": samples, "moments": moments, "seed": s, "device": str(device)}
        for s in seeds(seed, n_seeds)
    ]  # fmt: skip
    parts = yield Jobs(_sphere_cells, settings, "network on the sphere")
    return xr.Dataset(
        {k: (("eta", "seed"), np.stack([p[k] for p in parts], -1)) for k in parts[0]},
        coords={"eta": rates, "seed": seeds(seed, n_seeds)},
        attrs={"protocol": "sphere", "dim": DIM, "batch_size": batch_size, "burn_in": burn_in, "window": window},
    )


def _sphere_cells(*, rates, batch_size, label_noise, burn_in, window, samples, moments, seed, device) -> dict[str, np.ndarray]:
    net = system("sphere", label_noise=label_noise)
    w = net.start(torch.arange(len(rates)), seed)
    weights = w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
    run = Experiment(net, eta=rates, batch_size=batch_size, seed=seed, weights=weights, device=device)
    frames, probes = window // FRAME, []

    def look(k):
        if k % max(1, frames // moments) == 0:
            probes.append(probe(run, batch_size, 16))

    found = slow_windows(run, rates, burn_in, window, samples, look)
    history = {name: np.stack([f.gauges[name] for f in run.history[1:]]) for name in ("U", "g2", "p")}
    found |= {name: h.mean(0) for name, h in history.items()}
    found["drift"] = np.log(history["U"][frames // 2 :].mean(0) / history["U"][: frames // 2].mean(0))
    found |= {name: np.mean([p[name] for p in probes], 0) for name in probes[0]}
    found["snr"] = np.sqrt(np.maximum(found["gradient_squared"], 0) / found["trace"])
    return found | _directions(run, batch_size)


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


@Recipe
def stationary(
    protocol: str = "lr",
    *,
    reference: xr.Dataset,
    eta=None,
    lam=None,
    batch_size: int = 32,
    label_noise: float = 0.3,
    burn_in: int = 8_000,
    window: int = 24_000,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
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
    prediction = predicted_radius(protocol, h, ld, reference, "g2")
    settings = [
        {"protocol": protocol, "eta": h.ravel(), "lam": ld.ravel(), "radius": prediction.ravel(), "batch_size": batch_size,
         "label_noise": label_noise, "burn_in": burn_in, "window": window, "seed": s, "device": str(device)}
        for s in seeds(seed, n_seeds)
    ]  # fmt: skip
    parts = yield Jobs(_stationary_cells, settings, f"network {protocol}")
    dims = ("eta", "lam", "seed")
    out = xr.Dataset(
        {k: (dims, np.stack([p[k].reshape(h.shape) for p in parts], -1)) for k in parts[0]},
        coords={"eta": eta, "lam": lam, "seed": seeds(seed, n_seeds)},
        attrs={"protocol": protocol, "dim": reference.attrs["dim"], "batch_size": batch_size, "stride": STRIDE},
    )
    dim = reference.attrs["dim"]
    eta_eff = h / prediction**2 if protocol == "lr" else h
    out["S_full"] = theory.full_entropy(out["S"], out["r"], dim)
    out["r_pred"], out["eta_eff"] = (dims[:2], prediction), (dims[:2], eta_eff)
    out["r_pred_without"] = (dims[:2], predicted_radius(protocol, h, ld, reference, "trace"))
    out["T"] = out["eta_eff"] * out["trace"].mean("seed") / (2 * (dim - 1))
    out["p"] = (dims[:2], ld)
    moment = second_moment(reference, "g2")(eta_eff)
    rate = 4 * h * ld if protocol == "lr" else h**2 * moment
    out["relaxed"] = (dims[:2], burn_in * rate >= 3)
    return out


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


def _stationary_cells(
    *, protocol, eta, lam, radius, batch_size, label_noise, burn_in, window, seed, device
) -> dict[str, np.ndarray]:
    run = _spread_start(system(protocol, label_noise=label_noise), eta, lam, radius, seed, device, batch_size=batch_size)
    probes, frames = [], window // STRIDE

    def look(k):
        if (k + 1) % max(1, frames // 16) == 0:
            probes.append(probe(run, batch_size, 12))

    found = _fixed_stride_window(run, burn_in, window, look)
    found |= {name: np.mean([p[name] for p in probes], 0) for name in probes[0]}
    return {k: np.where((found["diverged"] > 0) & (k != "diverged"), np.nan, v) for k, v in found.items()}


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
    run.frame()
    n, dim = run.state.weights.shape
    path = np.empty((window // STRIDE, n, dim), np.float32)
    for k, _ in enumerate(run.frames(STRIDE, until=burn_in + window)):
        path[k] = run.state.weights.cpu().numpy()
        each(k)
    out = {name: np.mean([f.gauges[name] for f in run.history[1:]], 0) for name in ("U", "r2", "g2")}
    out["r"] = np.sqrt(out.pop("r2"))
    path /= np.linalg.norm(path, axis=-1, keepdims=True)
    out["diverged"], out["S"] = (run.state.diverged.cpu().numpy() >= 0).astype(float), np.full(n, np.nan)
    for i in np.flatnonzero(out["diverged"] == 0):
        out["S"][i] = graph_entropy(path[:, i]).value
    return out


@Recipe
def gas(
    reference: xr.Dataset,
    *,
    eta=None,
    lam=None,
    burn_in: int = 8_000,
    window: int = 24_000,
    samples: int = 200,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """A perfect gas measured as the network is: the isotropic model in the same D = 576, one path a cell, same estimators.

    reference: the network on the sphere, whose rates, window and mean Tr Σ the gas takes over. eta, lam: as in `stationary`,
    protocol "elr". What the network misses and this gas meets is no artefact of the estimators.

    Returns a Dataset: sphere_S (rate, seed), entropy of the direction on the sphere at noise so low that its slope in
    log T is (D - 1)/2; U, r, g2, S, S_full, diverged (eta, lam, seed) and T, p (eta, lam) of the free gas.
    """
    eta, lam = grid(eta or GRIDS["elr"]["eta"], lam or GRIDS["elr"]["lam"])
    h, ld = np.meshgrid(eta, lam, indexing="ij")
    sigma = float(np.sqrt(settled(reference)["trace"].mean() / (DIM - 1)))
    state = theory.isotropic_state("elr", h, ld, DIM, sigma)
    common = {"window": window, "device": str(device)}
    free = [
        common
        | {"eta": h.ravel(), "lam": ld.ravel(), "sigma": sigma, "radius": state["r"].ravel(), "burn_in": burn_in, "seed": s}
        for s in seeds(seed, n_seeds)
    ]
    rates = settled(reference)["eta"].values
    bound = [
        {"rates": rates, "burn_in": reference.attrs["burn_in"], "window": reference.attrs["window"], "samples": samples,
         "seed": s, "device": str(device)}
        for s in seeds(seed, n_seeds)
    ]  # fmt: skip
    parts = yield Jobs(_free_gas, free, "isotropic gas, D = 576")
    entropies = yield Jobs(_bound_gas, bound, "isotropic gas on the sphere, D = 576")
    dims = ("eta", "lam", "seed")
    out = xr.Dataset(
        {k: (dims, np.stack([p[k].reshape(h.shape) for p in parts], -1)) for k in parts[0]},
        coords={"eta": eta, "lam": lam, "seed": seeds(seed, n_seeds), "rate": rates},
        attrs={"protocol": "elr", "dim": DIM, "sigma": sigma},
    )
    out["S_full"] = theory.full_entropy(out["S"], out["r"], DIM)
    out["T"], out["p"], out["sphere_S"] = (dims[:2], state["T"]), (dims[:2], ld), (("rate", "seed"), np.stack(entropies, -1))
    return out


def _free_gas(*, eta, lam, sigma, radius, burn_in, window, seed, device) -> dict[str, np.ndarray]:
    run = _spread_start(IsotropicNoise(DIM, "elr"), eta, lam, radius, seed, device, sigma=sigma)
    return _fixed_stride_window(run, burn_in, window)


def _bound_gas(*, rates, burn_in, window, samples, seed, device) -> np.ndarray:
    run = Experiment(IsotropicNoise(DIM, "sphere"), eta=rates, sigma=1 / np.sqrt(DIM - 1), seed=seed, device=device)
    return slow_windows(run, rates, burn_in, window, samples)["S"]


def settled(reference: xr.Dataset) -> xr.Dataset:
    """The reference without its slow rates."""
    return reference.sel(eta=reference["eta"] > 1.01 * max(SLOW))
