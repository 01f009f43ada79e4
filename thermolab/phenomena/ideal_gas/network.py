"""Measurements on a scale-invariant network on digits: the reference on the sphere, and the stationary state over a grid.

The reference gives E|g|² = Tr Σ + |∇L|² as a function of the effective learning rate; with it the closed forms of
`theory` predict radius and pressure of the free protocols, which never see the sphere.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import xarray as xr

from thermolab.engine import data, models, random
from thermolab.engine.experiment import Experiment
from thermolab.engine.network import NetworkOnData
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import entropy, noise
from thermolab.phenomena.ideal_gas import theory
from thermolab.phenomena.ideal_gas.isotropic import grid

WIDTHS = (64, 8, 8)
DIM = sum(a * b for a, b in itertools.pairwise(WIDTHS))
SLOW = (1e-4, 3e-4, 1e-3)  # effective rates too low to settle within the reference run
RATES = (*SLOW, *np.geomspace(2e-3, 0.1, 10).round(5))
GRIDS = {
    "elr": {"eta": (5e-3, 0.05, 6), "lam": (1e-3, 0.1, 6)},
    "lr": {"eta": (0.06, 0.6, 6), "lam": (0.01, 0.1, 6)},
}
START_SPREAD = 0.25  # the start lies this much (in log r) inside or outside the predicted radius, alternating
STRIDE = 16  # steps between the weights of an entropy window (arXiv:2511.07308 takes a fixed stride too)
NEIGHBOURS = 50  # of the k-NN graph, or a quarter of a shorter window


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
    moments: int = 64,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """The network on the unit sphere at a range of effective learning rates: the reference of all predictions.

    rates: effective learning rates; burn_in, window: steps; samples: weights per entropy window, a quarter of a
    correlation time (0.25/η) apart; moments: of the window at which fresh minibatches probe the gradient.

    Returns a Dataset, dims (eta, seed): U, g2 = E|g|² and p over the window; trace Tr Σ, gradient_squared |∇L|²
    at |w| = 1 from fresh minibatches at these moments; effective_dimension of the noise at its end, and
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
        attrs={"protocol": "sphere", "dim": DIM, "batch_size": batch_size, "window": window},
    )


def _sphere_cells(*, rates, batch_size, label_noise, burn_in, window, samples, moments, seed, device) -> dict[str, np.ndarray]:
    net = system("sphere", label_noise=label_noise)
    w = net.start(torch.arange(len(rates)), seed)
    weights = w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
    run = Experiment(net, eta=rates, batch_size=batch_size, seed=seed, weights=weights, device=device)
    run.advance(burn_in)
    run.frame()
    every = 4
    stride = np.maximum(1, np.round(0.25 / rates / every)).astype(int)
    paths = [np.empty((samples, net.n_parameters), np.float32) for _ in rates]
    filled, probes, frames = np.zeros(len(rates), int), [], window // every
    for k, _ in enumerate(run.frames(every, until=burn_in + window)):
        now = run.state.weights.cpu().numpy()
        for i in np.flatnonzero((k % stride == 0) & (filled < samples)):
            paths[i][filled[i]], filled[i] = now[i], filled[i] + 1
        if k % (frames // moments) == 0:
            probes.append(_probe(run, batch_size, 16))
    history = {name: np.stack([f.gauges[name] for f in run.history[1:]]) for name in ("U", "g2", "p")}
    out = {name: h.mean(0) for name, h in history.items()}
    out["drift"] = np.log(history["U"][frames // 2 :].mean(0) / history["U"][: frames // 2].mean(0))
    out |= {name: np.mean([p[name] for p in probes], 0) for name in probes[0]}
    out |= _directions(run, batch_size)
    out["S"], out["tau"] = np.full((2, len(rates)), np.nan)
    for i in np.flatnonzero(filled == samples):
        s = entropy.knn_graph(paths[i], dim=net.n_parameters - 1, k=min(NEIGHBOURS, samples // 4), time_ordered=True)
        out["S"][i], out["tau"][i] = s.value, s.autocorrelation_time
    return out


def _fresh_gradients(run: Experiment, batch_size: int, n: int) -> torch.Tensor:
    """Gradients [n, R, D] at |w| = 1 of n fresh minibatches at the weights of this moment."""
    unit = torch.nan_to_num(run.state.weights / torch.linalg.vector_norm(run.state.weights, dim=1, keepdim=True))
    # another seed for each moment, none of which the training draws from
    return run.system.gradients(unit, n, batch_size, run.seed + 2**32 * (1 + run.state.step), run.streams)


def _probe(run: Experiment, batch_size: int, n: int) -> dict[str, np.ndarray]:
    """Tr Σ and |∇L|² at |w| = 1 from n fresh minibatches."""
    found = noise.gradient_noise(_fresh_gradients(run, batch_size, n), spectrum=False)
    return {"trace": np.asarray(found.trace), "gradient_squared": np.asarray(found.full_gradient_squared)}


def _directions(run: Experiment, batch_size: int, n: int = 128) -> dict[str, np.ndarray]:
    """Effective dimension of the noise from n gradients, and of isotropic noise of the same dimension by the same estimator."""
    found = noise.gradient_noise(_fresh_gradients(run, batch_size, n), eigenvalues=0)
    xi = random.normals(run.seed, run.streams.cpu(), 0, n, run.system.n_parameters, purpose=random.NOISE)
    isotropic = noise.gradient_noise(xi[:, :1], eigenvalues=0).effective_dimension
    ones = np.ones(len(run.streams))
    return {
        "effective_dimension": np.asarray(found.effective_dimension),
        "effective_dimension_isotropic": isotropic * ones,
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
    burn_in: int = 10_000,
    window: int = 16_000,
    seed: int = 0,
    n_seeds: int = 4,
    device: str = "cpu",
):
    """The stationary state of the network over a grid, free radius ("elr" or "lr").

    reference: the result of `sphere` at the same batch size and label noise. eta, lam: [low, high, n] (default: GRIDS).
    Each run starts in a random direction, a quarter (in log r) inside or outside its predicted radius, in turn.

    Returns a Dataset, dims (eta, lam, seed): U, r (root of the mean of |w|²), g2 over the window; trace, gradient_squared
    from fresh minibatches at |w| = 1; S: graph entropy of the direction at a fixed stride of 16 steps; S_full: S + (D - 1) log r;
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
    moment = second_moment(reference, "g2", eta_eff)
    rate = 4 * h * ld if protocol == "lr" else h**2 * moment
    out["relaxed"] = (dims[:2], burn_in * rate >= 3)
    return out


def second_moment(reference: xr.Dataset, name: str, eta_eff) -> np.ndarray:
    """E|g|² ("g2") or Tr Σ ("trace") at |w| = 1 at any effective learning rate: a cubic in logarithms through the reference."""
    settled = reference.sel(eta=reference["eta"] > 1.01 * max(SLOW))
    known = np.log(settled[name].mean("seed").values)
    fit = np.polynomial.Polynomial.fit(np.log(settled["eta"].values), known, min(3, len(known) - 1))
    return np.exp(fit(np.log(eta_eff)))


def predicted_radius(protocol: str, eta, lam, reference: xr.Dataset, name: str) -> np.ndarray:
    """The radius of `theory.finite_step_radius` with the moment of the reference, self-consistently."""
    r = np.ones_like(eta)
    for _ in range(100):
        moment = second_moment(reference, name, eta / r**2 if protocol == "lr" else eta)
        r = np.sqrt(r * theory.finite_step_radius(protocol, eta, lam, moment))
    return r


def _stationary_cells(
    *, protocol, eta, lam, radius, batch_size, label_noise, burn_in, window, seed, device
) -> dict[str, np.ndarray]:
    net = system(protocol, label_noise=label_noise)
    n = len(eta)
    side = np.where((np.arange(n) + seed) % 2, 1.0, -1.0)
    w = net.start(torch.arange(n), seed)
    w *= (torch.as_tensor(radius * np.exp(START_SPREAD * side), dtype=w.dtype) / torch.linalg.vector_norm(w, dim=1))[:, None]
    run = Experiment(net, eta=eta, lam=lam, batch_size=batch_size, seed=seed, weights=w, device=device)
    run.advance(burn_in)
    run.frame()
    path, probes = np.empty((window // STRIDE, n, net.n_parameters), np.float32), []
    for k, _ in enumerate(run.frames(STRIDE, until=burn_in + window)):
        path[k] = run.state.weights.cpu().numpy()
        if (k + 1) % (len(path) // 16) == 0:
            probes.append(_probe(run, batch_size, 12))
    out = {name: np.mean([f.gauges[name] for f in run.history[1:]], 0) for name in ("U", "r2", "g2")}
    out["r"] = np.sqrt(out.pop("r2"))
    out |= {name: np.mean([p[name] for p in probes], 0) for name in probes[0]}
    path /= np.linalg.norm(path, axis=-1, keepdims=True)
    out["diverged"] = run.state.diverged.cpu().numpy() >= 0
    out["S"] = np.full(n, np.nan)
    for i in np.flatnonzero(~out["diverged"]):
        out["S"][i] = entropy.knn_graph(path[:, i], dim=net.n_parameters - 1, k=min(NEIGHBOURS, len(path) // 4)).value
    return {k: np.where(out["diverged"] & (k != "diverged"), np.nan, v) for k, v in out.items()}
