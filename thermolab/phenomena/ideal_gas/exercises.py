"""Feedback on the exercises of notebook 03: what is wrong, without giving the answer away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import spatial, special

from thermolab.feedback import Feedback, Question, as_number, as_numbers, number
from thermolab.instruments import entropy
from thermolab.phenomena.common.tasks import Task
from thermolab.phenomena.ideal_gas import isotropic, theory

TARGET_TEMPERATURE, ETA = 5e-3, 0.05  # exercise 2: fixed learning rate, D = 3, σ = 1
TARGET_SHIFT, DIM = -2.0, 10  # exercise 3, in nats


PREDICTIONS = {
    "temperature": Question(
        "T",
        theory.temperature("elr", 0.03, 0.01, 3, 1.0),
        "T = η_eff σ²/2: what is η_eff under fixed ELR?",
        hints=dict.fromkeys((0.03, 0.045, 0.06), "is your σ² that of one component, and where is the ½?"),
    ),
    "radius_factor": Question(
        "r after / r before",
        10**-0.5,
        "where does λ stand in p V = (D − 1)/2 T, and where r?",
        hints={0.1: "that is V, and V = r²/2", 10**0.5: "more pressure, less volume", 10**-0.25: "that is fixed LR"},
        tolerance=0.07,
    ),
    "energy_factor": Question("U after / U before", 1.0, "U hangs on T alone: does T move with λ under fixed ELR?"),
}


def check_radius_factors(elr: float, lr: float) -> Feedback:
    """Exercise 1: by what factor r changes when λ is made four times as large, under each protocol."""
    for name, given in (("elr", elr), ("lr", lr)):
        exact = theory.radius(name, 0.01, 0.04, 3, 1.0) / theory.radius(name, 0.01, 0.01, 3, 1.0)
        hint = "{:g} is not the factor; how does T depend on λ under this protocol?"
        found = number(given, exact, "", hint, rel_tol=0.015)
        if not found:
            return Feedback(False, f"{name}: {found.message}")
    return Feedback(True, "both factors are right: the temperature of fixed LR moves with λ, and takes half of the change")


def check_temperature(lam: float, *, seed: int = 0) -> Feedback:
    """Exercise 2: a weight decay for T = 5e-3 at η = 0.05 under fixed LR (D = 3, σ = 1): a run measures U."""
    decay = as_number(lam)
    if decay is None or not 1e-5 <= decay <= 0.1:
        return Feedback(False, f"lam={lam}: write a number from 1e-5 to 0.1")
    point = {"eta": (ETA, ETA, 1), "lam": (decay, decay, 1)}
    found = isotropic.stationary.run("lr", **point, replicas=64, seed=seed, n_seeds=3)["U"].values.ravel()
    mean, error = found.mean(), found.std(ddof=1) / np.sqrt(found.size)
    target = theory.energy_vmf(TARGET_TEMPERATURE, 3)
    say = f"measured U = {mean:.5f} ± {error:.5f}, at the wanted temperature it is {target:.5f}"
    return Feedback(bool(abs(mean - target) <= 0.03 * target + 2 * error), say)


def check_spectrum(spectrum: Sequence[float]) -> Feedback:
    """Exercise 3: nine noise variances of mean 1 that lower the entropy of the D = 10 gas by 2 nats at the same Tr Σ."""
    s = as_numbers(spectrum, (DIM - 1,))
    if s is None or not (s > 0).all():
        return Feedback(False, f"write {DIM - 1} positive variances")
    if abs(s.mean() - 1) > 1e-3:
        return Feedback(False, f"their mean is {s.mean():.3f}: Tr Σ has changed, and with it T; scale them to mean 1")
    shift = theory.anisotropic_entropy_shift(s)
    return Feedback(
        bool(abs(shift - TARGET_SHIFT) <= 0.05),
        f"the entropy shifts by {shift:.2f} nats, wanted {TARGET_SHIFT:.2f} ± 0.05",
    )


def projected_step(w, g, eta):
    """One step of SGD on the unit sphere (fixed ELR): along the tangent part of g, then back to |w| = 1; w, g [D], |w| = 1."""
    moved = w - eta * (g - (g @ w) * w)
    return moved / np.linalg.norm(moved)


def nearest_entropy(x):
    """S = ψ(n) − ψ(1) + log V_d + (d/n) Σ_i log ρ_i of points x [n, d]; ρ_i to the nearest other point, V_d of the unit ball."""
    return float(entropy.kozachenko_leonenko(x).value)


def _entropy(x, *, n: int = 0, factor: int = 0, ball: float = 1.0, power: float = 1.0) -> float:
    """The estimator with a mistake in one of its parts."""
    rho = spatial.KDTree(x - x.mean(0)).query(x - x.mean(0), 2)[0][:, 1]
    d, ends = x.shape[1], special.digamma(len(x) + n) - special.digamma(1)
    return ends + ball * entropy.log_ball_volume(d) + (d + factor) * np.log(rho**power).mean()


def _on_sphere(rng: np.random.Generator, d: int, eta: float) -> tuple:
    w, g = rng.standard_normal((2, d))
    return w / np.linalg.norm(w), g, eta


PROJECTED_STEP = Task(
    projected_step,
    lambda rng: {"three dimensions": _on_sphere(rng, 3, 0.1), "ten dimensions, a large step": _on_sphere(rng, 10, 2.0)},
    {
        "it leaves the sphere: |w| is to be 1 after the step": lambda w, g, eta: w - eta * (g - (g @ w) * w),
        "part of g points along w: take it away first, or it changes how far w turns": lambda w, g, eta: _unit(w - eta * g),
        "that climbs: which sign has a step?": lambda w, g, eta: _unit(w + eta * (g - (g @ w) * w)),
        "g keeps its length: η|g| is the step, not η": lambda w, g, eta: _unit(w - eta * _unit(g - (g @ w) * w)),
        "that is the part of g along w; the tangent is the rest": lambda w, g, eta: _unit(w - eta * (g @ w) * w),
        "project g, not w − ηg: w is not to lose itself": lambda w, g, eta: _unit((w - eta * g) - ((w - eta * g) @ w) * w),
    },
    "the gas moves, the sphere stays",
)
NEAREST_ENTROPY = Task(
    nearest_entropy,
    lambda rng: {
        "a line": (rng.standard_normal((50, 1)),),
        "three dimensions": (rng.standard_normal((200, 3)),),
        "ten times as wide": (10 * rng.standard_normal((100, 4)),),
        "far from 0: subtract the mean before you square": (1e7 + rng.standard_normal((60, 3)),),
    },
    {
        "the factor before the logarithm is the dimension d, not d − 1": lambda x: _entropy(x, factor=-1),
        "ρ, not ρ²": lambda x: _entropy(x, power=2.0),
        "the volume of the unit ball is missing": lambda x: _entropy(x, ball=0.0),
        "ψ(n), not ψ(n − 1)": lambda x: _entropy(x, n=-1),
        "the nearest point of each is the point itself, at 0": lambda x: -np.inf,
        "a larger cloud has more entropy: which sign has log ρ?": lambda x: _entropy(x, power=-1.0),
    },
    "entropy from distances alone",
    tolerance=1e-5,
)


def _unit(w: np.ndarray) -> np.ndarray:
    return w / np.linalg.norm(w)
