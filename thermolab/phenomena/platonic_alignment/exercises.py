"""Checks of the exercises of notebook 05. Each says what is wrong without giving the answer away."""

from __future__ import annotations

import math

import numpy as np

from thermolab.instruments import alignment
from thermolab.phenomena.feedback import Feedback, is_number

STEPS = 3000  # of the prediction
LOUD, QUIET = 2.0, 0.5  # exercise 1: noise of two answers
INSERTS = ("rotation", "stretch")


def check_predictions(steps: float | None, insert: str | None) -> Feedback:
    """The predictions written down at the start: steps at half the learning rate; the matrix that destroys alignment."""
    if steps is None or insert is None:
        return Feedback(False, "not written down; there is still time")
    if not is_number(steps) or insert not in INSERTS:
        return Feedback(False, f"write a number, and one of {', '.join(INSERTS)}")
    if not math.isclose(steps, 4 * STEPS, rel_tol=0.05):
        return Feedback(False, f"not {steps:g} steps: what is the clock of notebook 04?")
    right = insert == "stretch"
    return Feedback(right, "both agree with what follows" if right else "CKA does not see a rotation: what changes a kernel?")


def check_kernel(ratio: float | None) -> Feedback:
    """Exercise 1: G of the first answer over that of the second, for V = 1, Σ_x = 1 and noise of 2 and 0.5."""
    if not is_number(ratio):
        return Feedback(False, "write a number")
    right = math.isclose(ratio, LOUD / QUIET, rel_tol=0.02)
    return Feedback(right, "what is noisy is seen magnified" if right else f"not {ratio:g}: G is a square root, of what?")


def check_cka(cka: float | None) -> Feedback:
    """Exercise 2: CKA of a kernel that sees two directions alike with one that sees only the first of them."""
    if not is_number(cka):
        return Feedback(False, "write a number")
    right = math.isclose(cka, 1 / math.sqrt(2), abs_tol=0.005)
    return Feedback(right, "half of the kernel agrees" if right else f"not {cka:g}: write down all products ⟨K, K'⟩")


def check_insert(matrix, *, seed: int = 0) -> Feedback:
    """Exercise 3: a 2 × 2 matrix between two layers that turns features and leaves CKA at 1; it is tried at random."""
    try:
        r = np.asarray(matrix, float)
    except (TypeError, ValueError):
        return Feedback(False, "write a list of two rows of two numbers")
    if r.shape != (2, 2) or not np.isfinite(r).all():
        return Feedback(False, "write a list of two rows of two numbers")
    if abs(np.linalg.det(r)) < 1e-9 * max(1.0, np.abs(r).max() ** 2):
        return Feedback(False, "it has no inverse, so the next layer cannot undo it")
    if np.allclose(r, r[0, 0] * np.eye(2), rtol=0, atol=1e-6 * np.abs(r).max()):
        return Feedback(False, "that turns nothing")
    x = np.random.default_rng(seed).standard_normal((100, 2)) * [1.0, 0.5]
    found = alignment.cka(x, x @ r.T)
    right = found > 1 - 1e-6
    return Feedback(bool(right), f"CKA = {found:.4f}" + ("" if right else ": the features are stretched"))
