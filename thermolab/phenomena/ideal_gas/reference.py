"""The reference of the network: on the unit sphere at a range of effective learning rates; and the claims that it alone decides.

It gives E|g|² = Tr Σ + |∇L|² as a function of the effective learning rate; with it the closed forms of `theory` predict
radius and pressure of the free protocols, which never see the sphere.

Tolerances are the accuracy that the theory or the paper states, and do not move with the data: 4 % for the pressure (order η),
10 % for the effective dimension over D - 1, 10 % for the stationarity thermometer: it is exact for an endless window, and c·w may
drift a little in one of some relaxation times. Source: arXiv:2511.07308, Sec. 6.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, extreme, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positives, integer, number
from thermolab.instruments import noise, windows
from thermolab.instruments.windows import FRAME, fresh_gradients, slow_windows, unit
from thermolab.phenomena.ideal_gas import theory
from thermolab.systems import data, models, random
from thermolab.systems.network import NetworkOnData

WIDTHS = (64, 8, 8)
DIM = sum(a * b for a, b in itertools.pairwise(WIDTHS))
SLOW = (1e-4, 3e-4, 1e-3)  # effective rates too low to settle within the reference run
RATES = (*SLOW, *np.geomspace(3e-3, 0.1, 9).round(5))
BATCHES = 8  # fresh minibatches at each moment
PRESSURE = 0.04
SPECTRUM = 0.1
BALANCE = 0.1
STATIONARY_DRIFT = 0.02  # change of log U between the halves of the window below which a run counts as stationary

Share = Annotated[float, number(0, 1)]
Steps = Annotated[int, integer(0)]


def system(protocol: str, *, label_noise: float = 0.3, norm: str = "batch", n_data: int = 256) -> NetworkOnData:
    """The perceptron 64-8-8 (D = 576), every weight scale-invariant, on digits with redrawn labels."""
    return NetworkOnData(models.scale_invariant_mlp(WIDTHS, norm=norm), data.digits(n_data, label_noise=label_noise), protocol)


@recipe("network on the sphere", dims=("eta", "seed"))
def sphere(
    rates: Positives = RATES,
    *,
    batch_size: Count = 32,
    label_noise: Share = 0.3,
    burn_in: Steps = 4000,
    window: Annotated[int, integer(2 * FRAME)] = 8000,
    samples: Count = 200,
    moments: Count = 500,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The network on the unit sphere at a range of effective learning rates: the reference of all predictions.

    rates: effective learning rates; burn_in, window: steps; samples: weights per entropy window, a quarter of a
    correlation time (0.25/η) apart; moments: of the window at which eight fresh minibatches probe the gradient.

    Returns a Dataset, dims (eta, seed): U, g2 = E|g|² and p over the window; trace Tr Σ, gradient_squared |∇L|²
    at |w| = 1 from fresh minibatches at these moments, snr = |∇L|/√Tr Σ; effective_dimension of the noise at its end, and
    effective_dimension_isotropic, what the same estimator says of isotropic noise in the same D; S: graph entropy
    of the direction (differences only; NaN where the window is too short for its stride), tau: autocorrelation time
    of the weights in samples; drift: log of U in the second half of the window over U in the first; pull, push: the two
    sides of the stationarity thermometer (`_balance`) along the mean direction of the weights in the late burn-in.
    """
    net = system("sphere", label_noise=label_noise)
    w = net.start(torch.arange(len(rates)), seed)
    weights = w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
    run = Experiment(net, eta=np.array(rates), batch_size=batch_size, seed=seed, weights=weights, device=device)
    frames, probes, along = window // FRAME, [], _late_direction(run, burn_in)

    def look(k):
        if k % max(1, frames // moments) == 0:
            gradients = fresh_gradients(run, batch_size, BATCHES, at="unit")
            probes.append(windows.moments(gradients) | _balance(gradients, unit(run), along, run.knobs["eta"]))

    found = slow_windows(run, rates, 0, window, samples, look)
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


def _late_direction(run: Experiment, burn_in: int, n: int = 32) -> torch.Tensor:
    """The mean direction c [R, D], |c| = 1, of n weights over the second half of a burn-in, which this takes."""
    total = torch.zeros_like(run.state.weights)
    for step in np.linspace(burn_in / 2, burn_in, n).round().astype(int):
        run.advance(int(step) - run.state.step)
        total += unit(run)
    return total / torch.linalg.vector_norm(total, dim=1, keepdim=True)


def _balance(gradients: torch.Tensor, w: torch.Tensor, along: torch.Tensor, eta: torch.Tensor) -> dict[str, np.ndarray]:
    """What the loss pulls along c and what the sphere takes from w, as means over gradients [n, R, D] at weights w [R, D].

    A step (w - η g)/s with s = √(1 + η²|g|²) leaves c·w as it is, on average, if pull = -⟨c·g/s⟩ is (η/2) times
    push = 2 ⟨(1 - 1/s) c·w⟩/η², to leading order ⟨|g|² c·w⟩.
    """
    stretch = torch.sqrt(1 + eta**2 * gradients.double().square().sum(-1))
    pull = -((gradients * along).sum(-1) / stretch).mean(0)
    push = 2 * ((1 - 1 / stretch) * (along * w).sum(-1)).mean(0) / eta**2
    return {"pull": pull.cpu().numpy(), "push": push.cpu().numpy()}


def _directions(run: Experiment, batch_size: int, n: int = 128) -> dict[str, np.ndarray]:
    """Effective dimension of the noise from n gradients, and of isotropic noise of the same dimension by the same estimator."""
    found = noise.gradient_noise(fresh_gradients(run, batch_size, n, at="unit"), eigenvalues=0)
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


# --- what is decided ----------------------------------------------------------------------------------------------------
ON_SPHERE = ("rates", "batch_size", "label_noise")


def _bands(values: xr.DataArray) -> list[np.ndarray]:
    """Three bands of rates [seed, rate], for what a single rate tells too little about."""
    return np.array_split(values.transpose("seed", "eta").values, min(3, values.sizes["eta"]), axis=1)


@decides("ideal-gas.net.pressure", reads=ON_SPHERE)
def pressures(reference: xr.Dataset) -> Decision:
    """Pressure over its prediction, less 1, in three bands of rates; the worst decides.

    Bands, since a single rate's |g|², which has heavy tails, is known to 3 % only."""
    d = settled(reference)

    def off(moment):
        ratio = d["p"] / theory.finite_step_pressure(d["eta"], 1.0, moment) - 1
        return extreme(np.stack([band.mean(1) for band in _bands(ratio)], 1))

    right, wrong = off(d["trace"] + d["gradient_squared"]), off(d["trace"])
    return with_control(right, wrong, PRESSURE, "prediction without |∇L|²")


@decides("ideal-gas.net.spectrum", reads=ON_SPHERE)
def filled_directions(reference: xr.Dataset) -> Decision:
    """Effective dimension of the noise over D - 1, a mean over the rates."""
    d = settled(reference)
    names = ("effective_dimension", "effective_dimension_isotropic")
    right, control = (few_seeds((d[name] / (d.attrs["dim"] - 1)).mean("eta")) for name in names)
    return with_control(right, control, SPECTRUM, "isotropic noise, same estimator", predicted=1.0)


@decides("ideal-gas.net.stationarity", reads=ON_SPHERE)
def drifts(reference: xr.Dataset) -> Decision:
    """Size of the log of U in the second half of the window over U in the first, a mean over the slow rates."""
    slow, fast = reference["drift"].sel(eta=list(SLOW)), reference["drift"].sel(eta=reference["eta"] >= 0.01)
    measured, control = (few_seeds(np.abs(x).mean("eta")) for x in (slow, fast))
    return with_control(measured, control, 0.0, "rates of 0.01 and more", predicted=STATIONARY_DRIFT, relation="above")


@decides("ideal-gas.net.thermometer-sphere", reads=ON_SPHERE)
def balances(reference: xr.Dataset) -> Decision:
    """Pull over (η/2) push, less 1, a ratio of sums over each of three bands of rates; the worst decides."""

    def off(d: xr.Dataset, bands: Callable):
        parts = zip(bands(d["pull"]), bands(d["eta"] / 2 * d["push"]), strict=True)
        return extreme(np.stack([pull.sum(1) / push.sum(1) - 1 for pull, push in parts], 1))

    slow = reference.sel(eta=list(SLOW))
    right, wrong = off(settled(reference), _bands), off(slow, lambda x: [x.transpose("seed", "eta").values])
    return with_control(right, wrong, BALANCE, "the same steps at rates too low to settle in them")
