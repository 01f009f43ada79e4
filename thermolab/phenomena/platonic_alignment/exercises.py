"""Checks of the exercises of notebook 05. Each says what is wrong without giving the answer away."""

from __future__ import annotations

import math

import numpy as np

from thermolab.instruments import alignment
from thermolab.phenomena.common.feedback import Feedback, number, predictions

STEPS = 3000  # of the prediction
LOUD, QUIET = 2.0, 0.5  # exercise 1: noise of two answers
INSERTS = ("rotation", "stretch")


def check_predictions(steps: float | None, insert: str | None) -> Feedback:
    """The predictions written down at the start: steps at half the learning rate; the matrix that destroys alignment."""
    clock, matrix = "not {:g} steps: what is the clock of notebook 04?", "CKA does not see a {}: what changes a kernel?"
    return predictions(steps, insert, (4 * STEPS, "stretch"), INSERTS, clock, matrix, rel_tol=0.05)


def check_kernel(ratio: float | None) -> Feedback:
    """Exercise 1: G of the first answer over that of the second, for V = 1, Σ_x = 1 and noise of 2 and 0.5."""
    hint = "not {:g}: G is a square root, of what?"
    return number(ratio, LOUD / QUIET, "what is noisy is seen magnified", hint, rel_tol=0.02)


def check_cka(cka: float | None) -> Feedback:
    """Exercise 2: CKA of a kernel that sees two directions alike with one that sees only the first of them."""
    hint = "not {:g}: write down all products ⟨K, K'⟩"
    return number(cka, 1 / math.sqrt(2), "half of the kernel agrees", hint, abs_tol=0.005)


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
