"""Checks of the exercises of notebook 00. Each says what is wrong without giving the answer away."""

from __future__ import annotations

import math

import numpy as np

from thermolab.feedback import Feedback, Question, as_number, number
from thermolab.phenomena.common.tasks import Task
from thermolab.phenomena.irreversibility import symmetry_recipes
from thermolab.phenomena.irreversibility.symmetries import Symmetry

NORMS = ("grow", "stay", "shrink")
STEPS, RATE, SIGMA, DIM = 5000, 0.2, 0.5, 3  # exercise 2


PREDICTIONS = {
    "power": Question(
        "p, the power of η",
        2,
        "what is (1 + η)(1 − η)?",
        hints={1: "the first order is what the step back undoes: what is (1 + η)(1 − η)?"},
    ),
    "norm": Question("|w| will", "grow", "the gradient is orthogonal to w: which way does a step go?", options=NORMS),
}


def check_constant(constant: float | None) -> Feedback:
    """Exercise 1: c of the loss on which the flow over a time η does what two steps of rate η/2 on L do."""
    hint = "not that: what does one step of rate η/2 need, with η as the unit?"
    return number(constant, 1 / 8, "each half step brings its own quarter of η/2", hint, rel_tol=1e-3)


def check_radius(radius: float | None) -> Feedback:
    """Exercise 2: |w| after 5000 steps from 1, at η = 0.2, σ = 0.5, d = 3, without weight decay."""
    found, exact = as_number(radius), (1 + 2 * RATE**2 * 4 * SIGMA**2 * (DIM - 1) * STEPS) ** 0.25
    if found is None or found <= 0:
        return Feedback(False, f"radius={radius}: write a positive number")
    return number(found, exact, "|w| = {:g}", "not {:g}: it is |w|⁴ that grows at a constant rate", rel_tol=0.02)


def check_symmetry(row: Symmetry | None, *, seed: int = 0) -> Feedback:
    """Exercise 3: a symmetry of your own that leaves the loss as it is; it is tried out at random weights and data."""
    if row is None:
        return Feedback(False, "no row yet: write Symmetry(name, loss, weights, action)")
    if not isinstance(row, Symmetry):
        return Feedback(False, f"{type(row).__name__} is no row: write Symmetry(name, loss, weights, action)")
    try:
        found = symmetry_recipes.table.run([row], seed=seed, n_seeds=2)
    except Exception as error:  # whatever a student's loss and action may raise
        first = next(iter(str(error).splitlines()), type(error).__name__)
        return Feedback(False, f"it does not run: {first}")
    changed, ratio = float(found["L_error"].max()), found["S_ratio"].values.ravel()
    if not (math.isfinite(changed) and np.isfinite(ratio).all()):
        return Feedback(False, "its loss, or its S, is no finite number, or zero everywhere")
    if changed > 1e-8:
        return Feedback(False, f"no symmetry: the loss of a sample changes by {changed:.2g} of its size")
    if abs(ratio - 1).max() < 1e-8:
        return Feedback(True, "a symmetry of L, and of F as well")
    return Feedback(True, f"a symmetry of L that F breaks: S becomes {ratio[0]:.3g} and {ratio[1]:.3g} times as large")


def modified_gradient(g, H, eta):
    """∇(L + (η/4)|∇L|²) [d] from the gradient g [d] and the Hessian H [d, d] of L: the flow that matches a step of rate η."""
    return g + eta / 2 * H @ g


def growth_per_step(w, g, eta):
    """By how much |w|² changes in one step w ← w − ηg of a loss that does not depend on |w|, so that g·w = 0; w, g [d]."""
    return eta**2 * g @ g


def _quadratic(rng: np.random.Generator, d: int, eta: float) -> tuple:
    H = rng.standard_normal((d, d))
    return rng.standard_normal(d), H + H.T, eta


def _orthogonal(rng: np.random.Generator, d: int, eta: float) -> tuple:
    w, g = rng.standard_normal((2, d))
    return w, g - (g @ w) / (w @ w) * w, eta


MODIFIED_GRADIENT = Task(
    modified_gradient,
    lambda rng: {
        "one dimension": _quadratic(rng, 1, 0.1),
        "three dimensions": _quadratic(rng, 3, 0.1),
        "a larger η": _quadratic(rng, 5, 0.7),
    },
    {
        "|∇L|² has the gradient 2 H∇L: where is the 2?": lambda g, H, eta: g + eta / 4 * H @ g,
        "that is the constant 1/2, which undoes a step; the flow needs 1/4": lambda g, H, eta: g + eta * H @ g,
        "that is the constant 1 of the slides: which constant makes the flow match a step?": lambda g, H, eta: (
            g + 2 * eta * H @ g
        ),
        "that is L − (η/4)|∇L|²: does a step of finite size see more or less of the gradient?": lambda g, H, eta: (
            g - eta / 2 * H @ g
        ),
        "H∇L is a matrix times a vector, not entry by entry": lambda g, H, eta: g + eta / 2 * np.diag(H) * g,
        "that is ∇L itself, as if the flow followed L": lambda g, H, eta: g,
    },
    "the loss that gradient descent really follows",
)
GROWTH_PER_STEP = Task(
    growth_per_step,
    lambda rng: {"two dimensions": _orthogonal(rng, 2, 0.1), "a larger η": _orthogonal(rng, 6, 0.9)},
    {
        "the first order vanishes, g·w = 0: what is left of |w − ηg|² − |w|²?": lambda w, g, eta: -2 * eta * g @ w,
        "that is |ηg| for |ηg|²": lambda w, g, eta: eta * np.sqrt(g @ g),
        "that is half of it: |w|², not |w|²/2": lambda w, g, eta: eta**2 * g @ g / 2,
        "|w|² grows: which sign does |w − ηg|² − |w|² have?": lambda w, g, eta: -(eta**2) * g @ g,
        "that is the change of |w|, not of |w|²": lambda w, g, eta: np.linalg.norm(w - eta * g) - np.linalg.norm(w),
        "that is |w|² after the step: by how much does it change?": lambda w, g, eta: w @ w + eta**2 * g @ g,
    },
    "exact at any η: Pythagoras, once per step",
)
