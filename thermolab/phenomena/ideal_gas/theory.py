"""Closed forms of the ideal gas of scale-invariant training (arXiv:2511.07308).

Dictionary: the loss is the energy U, the entropy of the weights is S, weight decay λ is the pressure p and
V = r²/2 the volume; the learning rate sets the temperature T. G = U - T S + p V is least in the stationary state.

All functions take numbers or arrays that broadcast. Symbols: eta η, lam λ, dim D, sigma σ (noise per component
at |w| = 1, so Tr Σ = (D - 1) σ²), second_moment E|g|² = Tr Σ + |∇L|² at |w| = 1, eta_eff = η/r² (fixed learning
rate) or η (fixed effective learning rate "elr", fixed "sphere"). Energies in units of the loss, entropies in nats.
Limit: stationary states, noise that does not depend on the weights (isotropic forms), η_eff well below 1.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from thermolab.systems.updates import PROTOCOLS as PROTOCOLS


# --- the leading order, as printed in the paper -------------------------------------------------------------------
def temperature(protocol: str, eta, lam, dim, sigma):
    """T = η σ²/2 ("elr", "sphere"), T = √(η λ σ²/(2 (D - 1))) ("lr", with the predicted radius). Sec. 3."""
    if protocol == "lr":
        return np.sqrt(eta * lam * sigma**2 / (2 * (dim - 1)))
    return eta * sigma**2 / 2 + 0 * np.asarray(lam, float)


def radius(protocol: str, eta, lam, dim, sigma):
    """r* = √(T (D - 1)/λ), the radius at which the pressure of the gas is λ. Sec. 3."""
    return np.sqrt(temperature(protocol, eta, lam, dim, sigma) * (dim - 1) / lam)


def pressure(temperature, radius, dim):
    """p = T (D - 1)/r², the equation of state (p V = (D - 1) T/2). Sec. 3."""
    return temperature * (dim - 1) / radius**2


def energy_small_t(temperature, dim):
    """U = (D - 1) T/2: D - 1 harmonic coordinates."""
    return (dim - 1) * temperature / 2


def entropy_small_t(temperature, dim):
    """Entropy of the direction, S = (D - 1)/2 log(2π e T)."""
    return (dim - 1) / 2 * np.log(2 * np.pi * np.e * np.asarray(temperature, float))


def full_entropy(entropy_of_direction, radius, dim):
    """Entropy of the weights on a sphere of radius r: S + (D - 1) log r."""
    return entropy_of_direction + (dim - 1) * np.log(radius)


def slopes(protocol: str, dim) -> dict[str, float]:
    """Slopes of the full entropy in log η and log λ ("elr", "lr"), in log η and log r ("sphere"): Maxwell relations, Sec. 4."""
    d = dim - 1
    return {"elr": {"eta": d, "lam": -d / 2}, "lr": {"eta": d / 2, "lam": 0.0}, "sphere": {"eta": d / 2, "radius": d}}[protocol]


def gibbs(energy, entropy, temperature, pressure, radius):
    """G = U - T S + p r²/2, with the full entropy."""
    return energy - temperature * entropy + pressure * radius**2 / 2


# --- von Mises-Fisher: exact at any temperature -------------------------------------------------------------------
def _bessel_ratio(kappa, dim):
    """A(κ) = I_{D/2}(κ)/I_{D/2-1}(κ), the mean cosine of the von Mises-Fisher distribution."""
    return special.ive(dim / 2, kappa) / special.ive(dim / 2 - 1, kappa)


def energy_vmf(temperature, dim):
    """U = 1 - A(1/T): the mean of 1 + μ·x under exp(-(1 + μ·x)/T). App. E."""
    return 1 - _bessel_ratio(1 / np.asarray(temperature, float), dim)


def entropy_vmf(temperature, dim):
    """Entropy of the von Mises-Fisher distribution with κ = 1/T, in nats. App. E."""
    kappa = 1 / np.asarray(temperature, float)
    order = dim / 2 - 1
    log_normaliser = order * np.log(kappa) - dim / 2 * np.log(2 * np.pi) - np.log(special.ive(order, kappa)) - kappa
    return -log_normaliser - kappa * _bessel_ratio(kappa, dim)


def gradient_squared_vmf(temperature, dim):
    """E|∇L|² at |w| = 1: the mean of 1 - (μ·x)², (D - 1) T A(1/T)."""
    return (dim - 1) * temperature * _bessel_ratio(1 / np.asarray(temperature, float), dim)


# --- finite steps ---------------------------------------------------------------------------------------------------
def finite_step_radius(protocol: str, eta, lam, second_moment):
    """Radius at which a step of finite size keeps |w|² on average.

    "elr": η λ r² = 1 - √(1 - η² E|g|²); "lr": r⁴ = η E|g|²/(λ (2 - η λ)). NaN where no such radius exists.
    """
    if protocol == "lr":
        return (eta * second_moment / (lam * (2 - eta * lam))) ** 0.25
    a = np.asarray(eta**2 * second_moment, float)
    with np.errstate(invalid="ignore"):
        return np.sqrt((1 - np.sqrt(1 - a)) / (eta * lam))


def finite_step_pressure(eta, radius, second_moment):
    """p = (√(1 + η² E|g|²) - 1)/(η r²), the pressure on the sphere at a step of finite size."""
    return (np.sqrt(1 + eta**2 * second_moment) - 1) / (eta * radius**2)


def isotropic_state(protocol: str, eta, lam, dim, sigma) -> dict[str, np.ndarray]:
    """The stationary state of the isotropic model at a finite step, self-consistently.

    Returns r (on the sphere: the r* of "elr"), eta_eff, T (leading order in the step), T_step (with the step's finite
    size), p, U and S (von Mises-Fisher at T_step), E|∇L|².
    Averaging the step of the cosine c = -μ·x along the sphere gives c (1 - q) = η E(1 - c²) with
    q = √(1 - a) ("elr", "lr") or q = 2 - √(1 + a) ("sphere") and a = η_eff² E|g|²; a von Mises-Fisher distribution
    that obeys it has (D - 1) T = (1 - q)/η_eff.
    """
    eta, lam, sigma = np.broadcast_arrays(*(np.asarray(v, float) for v in (eta, lam, sigma)))
    t = temperature(protocol, eta, lam, dim, sigma)
    for _ in range(50):  # a contraction by about η_eff a turn
        g2 = (dim - 1) * sigma**2 + gradient_squared_vmf(t, dim)
        r = finite_step_radius("lr" if protocol == "lr" else "elr", eta, lam, g2)
        eta_eff = eta / r**2 if protocol == "lr" else eta
        t = step_temperature(protocol, eta, lam, eta_eff, g2, dim)
    p = finite_step_pressure(eta, r, g2) if protocol == "sphere" else lam
    return {
        "r": r, "eta_eff": eta_eff, "T": eta_eff * sigma**2 / 2, "T_step": t, "p": p,
        "U": energy_vmf(t, dim), "S": entropy_vmf(t, dim), "gradient_squared": g2 - (dim - 1) * sigma**2,
    }  # fmt: skip


def step_temperature(protocol: str, eta, lam, eta_eff, second_moment, dim):
    """(D - 1) T = (1 - q)/η_eff, see `isotropic_state`; tends to T/(1 - η_eff/2) for small noise."""
    a = np.asarray(eta_eff**2 * second_moment, float)
    if protocol == "sphere":
        return (np.sqrt(1 + a) - 1) / eta_eff / (dim - 1)
    with np.errstate(invalid="ignore"):
        shrink = eta * lam if protocol == "lr" else 1 - np.sqrt(1 - a)
    return shrink / eta_eff / (dim - 1)


def anisotropic_entropy_shift(spectrum):
    """Σ log s_i/2: how far noise variances s_i of mean 1 lower the entropy at equal Tr Σ (harmonic approximation)."""
    return 0.5 * float(np.sum(np.log(spectrum)))


def power_spectrum(dim: int, exponent: float) -> np.ndarray:
    """Noise variances s_i ~ i^-exponent, i = 1 … D - 1, of mean 1."""
    s = np.arange(1, dim) ** -float(exponent)
    return s / s.mean()


# --- relaxation -----------------------------------------------------------------------------------------------------
def relaxation(protocol: str, time, start, eta, lam, second_moment):
    """r(t) after `time` steps from r(0) = start.

    "elr": r² follows a logistic curve, d(r²)/dt = η² E|g|² r² - 2 η λ r⁴, at rate η² E|g|²;
    "lr": r⁴ tends to r*⁴ exponentially at rate 4 η λ. Appendix.
    """
    if protocol == "lr":
        limit = eta * second_moment / (2 * lam)
        return (limit + (start**4 - limit) * np.exp(-4 * eta * lam * time)) ** 0.25
    rate, limit = eta**2 * second_moment, eta * second_moment / (2 * lam)
    return np.sqrt(limit / (1 + (limit / start**2 - 1) * np.exp(-rate * time)))


def relaxation_time(protocol: str, eta, lam, dim, sigma):
    """Steps in which a small deviation of log r falls by e: 1/(η²σ²(D - 1)) ("elr"), 1/(4 η λ) ("lr"), 0 on the sphere."""
    if protocol == "sphere":
        return 0 * np.asarray(eta * lam, float)
    if protocol == "lr":
        return 1 / (4 * np.asarray(eta * lam, float))
    return 1 / (eta**2 * sigma**2 * (dim - 1)) + 0 * np.asarray(lam, float)


# --- batches without replacement ------------------------------------------------------------------------------------
def contraction(rate):
    """1 - (1 - ηh)²: the share of a variance that a step of gradient descent takes, at rate ηh along a curvature h."""
    return rate * (2 - rate)


def epoch_variance(rate: float, length: int) -> np.ndarray:
    """Stationary variance [M] before each step of an epoch of M batches without replacement, in units of η²C.

    rate: η h; length: M; C: variance of the gradient of such a batch. Steps x ← (1 - ηh) x - ηξ, in which the ξ of one epoch have
    the covariance -C/(M - 1) and those of two epochs none; independent ones give 1/(1 - (1 - ηh)²) throughout. For ηhM ≪ 1 the
    mean over the epoch is ηhM/3 of that, and the first (ηhM)²/12. Exact where noise does not depend on the weights.
    """
    k, a = np.arange(length + 1), 1 - rate
    sums, squares = (1 - a**k) / rate, (1 - a ** (2 * k)) / contraction(rate)  # of 1, a, … aᵏ⁻¹ and of their squares
    drawn = (length * squares - sums**2) / (length - 1)
    first = drawn[-1] / (1 - a ** (2 * length))
    return (a ** (2 * k) * first + drawn)[:-1]
