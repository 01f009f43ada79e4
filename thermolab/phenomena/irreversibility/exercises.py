"""Checks of the exercises of notebook 00. Each says what is wrong without giving the answer away."""

from __future__ import annotations

import math

import torch

from thermolab.phenomena.common.feedback import Feedback, is_number, number, predictions
from thermolab.phenomena.irreversibility import symmetry_recipes
from thermolab.phenomena.irreversibility.symmetries import Symmetry

NORMS = ("grow", "stay", "shrink")
STEPS, RATE, SIGMA, DIM = 5000, 0.2, 0.5, 3  # exercise 2


def check_predictions(power: float | None, norm: str | None) -> Feedback:
    """The predictions written down at the start: the power of η, and what |w| does."""
    rate, way = "not η^{:g}: what is (1 + η)(1 - η)?", "the gradient is orthogonal to w: which way does a step go?"
    return predictions(power, norm, (2, "grow"), NORMS, rate, way)


def check_constant(constant: float | None) -> Feedback:
    """Exercise 1: c of the loss on which the flow over a time η does what two steps of rate η/2 on L do."""
    hint = "not that: what does one step of rate η/2 need, with η as the unit?"
    return number(constant, 1 / 8, "each half step brings its own quarter of η/2", hint, rel_tol=1e-6)


def check_radius(radius: float | None) -> Feedback:
    """Exercise 2: |w| after 5000 steps from 1, at η = 0.2, σ = 0.5, d = 3, without weight decay."""
    exact = (1 + 2 * RATE**2 * 4 * SIGMA**2 * (DIM - 1) * STEPS) ** 0.25
    if not is_number(radius) or radius <= 0:
        return Feedback(False, f"radius={radius}: write a positive number")
    right = math.isclose(radius, exact, rel_tol=0.02)
    return Feedback(right, f"|w| = {radius:g}" if right else f"not {radius:g}: it is |w|⁴ that grows at a constant rate")


def check_symmetry(row: Symmetry | None, *, seed: int = 0) -> Feedback:
    """Exercise 3: a symmetry of your own that leaves the loss as it is; it is tried out at random weights and data."""
    if row is None:
        return Feedback(False, "no row yet: write Symmetry(name, loss, weights, action)")
    if not isinstance(row, Symmetry):
        return Feedback(False, f"{type(row).__name__} is no row: write Symmetry(name, loss, weights, action)")
    try:
        found = symmetry_recipes.table.run([row], seed=seed, n_seeds=2)
    except (ValueError, RuntimeError, KeyError, TypeError, torch.linalg.LinAlgError) as error:
        return Feedback(False, f"it does not run: {str(error).splitlines()[0]}")
    changed, ratio = float(found["L_error"].max()), found["S_ratio"].values.ravel()
    if changed > 1e-8:
        return Feedback(False, f"no symmetry: the loss of a sample changes by {changed:.2g} of its size")
    if abs(ratio - 1).max() < 1e-8:
        return Feedback(True, "a symmetry of L, and of F as well")
    return Feedback(True, f"a symmetry of L that F breaks: S becomes {ratio[0]:.3g} and {ratio[1]:.3g} times as large")
