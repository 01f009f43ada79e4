"""Checks of the exercises of notebook 05. Each says what is wrong without giving the answer away."""

from __future__ import annotations

import math

import numpy as np

from thermolab.feedback import Feedback, Question, as_numbers, number
from thermolab.instruments import alignment
from thermolab.phenomena.common.linear_theory import root
from thermolab.phenomena.common.tasks import Task

STEPS = 3000  # of the prediction
LOUD, QUIET = 2.0, 0.5  # exercise 1: noise of two answers
INSERTS = ("rotation", "stretch")


PREDICTIONS = {
    "steps": Question(
        "steps at half the learning rate",
        4 * STEPS,
        "what is the clock of notebook 04?",
        hints={2 * STEPS: "that is the clock of descent; what is the clock of notebook 04?"},
    ),
    "insert": Question(
        "what destroys alignment", "stretch", "CKA does not see a rotation: what changes a kernel?", options=INSERTS
    ),
}


def check_kernel(ratio: float | None) -> Feedback:
    """Exercise 1: G of the first answer over that of the second, for V = 1, Σ_x = 1 and noise of 2 and 0.5."""
    hint = "not {:g}: G is a square root, of what?"
    return number(ratio, LOUD / QUIET, "what is noisy is seen magnified", hint, rel_tol=0.02)


def check_cka(cka: float | None) -> Feedback:
    """Exercise 2: CKA of a kernel that sees two directions alike with one that sees only the first of them."""
    hint = "not {:g}: write down all products ⟨K, K'⟩"
    return number(cka, 1 / math.sqrt(2), "half of the kernel agrees", hint, rel_tol=0.02)


def check_insert(matrix, *, seed: int = 0) -> Feedback:
    """Exercise 3: a 2 × 2 matrix between two layers that turns features and leaves CKA at 1; it is tried at random."""
    r = as_numbers(matrix, (2, 2))
    if r is None:
        return Feedback(False, "write a list of two rows of two numbers")
    r = r / max(np.abs(r).max(), 1e-300)  # a scale is not seen
    if abs(np.linalg.det(r)) < 1e-9:
        return Feedback(False, "it has no inverse, so the next layer cannot undo it")
    if np.allclose(r, r[0, 0] * np.eye(2), rtol=0, atol=1e-6 * np.abs(r).max()):
        return Feedback(False, "that turns nothing")
    x = np.random.default_rng(seed).standard_normal((100, 2)) * [1.0, 0.5]
    found = alignment.cka(x, x @ r.T)
    right = found > 1 - 1e-6
    return Feedback(bool(right), f"CKA = {found:.4f}" + ("" if right else ": the features are stretched"))


def cka(x, y):
    """Linear CKA of features x [n, p] and y [n, q] of the same n samples: the cosine of their centred kernels."""
    return alignment.cka(x, y)


def common_kernel(V, noise, inputs):
    """G = Σ_x^(−½) (Σ_x^(½) Vᵀ Σ_ε V Σ_x^(½))^(½) Σ_x^(−½) [d, d], for a target V [k, d], noise Σ_ε [k, k], inputs Σ_x [d, d]."""
    half = root(inputs)
    return np.linalg.inv(half) @ root(half @ V.T @ noise @ V @ half) @ np.linalg.inv(half)


def _cosine(k, l) -> float:  # noqa: E741
    return (k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum())


def _centred(x) -> np.ndarray:
    return x - x.mean(0)


def _problem(rng: np.random.Generator, k: int, d: int, plain: bool = False) -> tuple:
    a, b = rng.standard_normal((k, 2 * k)), rng.standard_normal((d, 2 * d))
    return rng.standard_normal((k, d)), a @ a.T / k, np.eye(d) if plain else b @ b.T / d


CKA = Task(
    cka,
    lambda rng: {
        "one feature each": (rng.standard_normal((10, 1)), rng.standard_normal((10, 1))),
        "features of different number": (rng.standard_normal((20, 3)), rng.standard_normal((20, 5))),
        "features with a mean": (2 + rng.standard_normal((20, 3)), 3 + rng.standard_normal((20, 3))),
        "features of different size": (rng.standard_normal((20, 4)) * [1, 2, 3, 4], 100 * rng.standard_normal((20, 2))),
    },
    {
        "centre first: a common mean is in every kernel": lambda x, y: _cosine(x @ x.T, y @ y.T),
        "a kernel has rows and columns: centre both": lambda x, y: _cosine(_centred(x @ x.T), _centred(y @ y.T)),
        "that is its square: one root of the product below": lambda x, y: cka(x, y) ** 2,
        "the norms of both kernels belong below": lambda x, y: (
            _centred(x) @ _centred(x).T * (_centred(y) @ _centred(y).T)
        ).sum(),
        "divided by the norms, not by the traces": lambda x, y: (
            ((_centred(x).T @ _centred(y)) ** 2).sum() / ((_centred(x) ** 2).sum() * (_centred(y) ** 2).sum())
        ),
        "the mean is one for each feature, not one for each sample": lambda x, y: _cosine(
            (x - x.mean(1, keepdims=True)) @ (x - x.mean(1, keepdims=True)).T,
            (y - y.mean(1, keepdims=True)) @ (y - y.mean(1, keepdims=True)).T,
        ),
    },
    "rotations and one common scale do not matter, stretching does",
)
COMMON_KERNEL = Task(
    common_kernel,
    lambda rng: {
        "one direction": _problem(rng, 1, 1, plain=True),
        "white inputs": _problem(rng, 3, 3, plain=True),
        "any inputs": _problem(rng, 4, 3),
    },
    {
        "the root of a matrix, not of its entries": lambda V, e, x: np.sqrt(np.abs(V.T @ e @ V)),
        "a root is missing: G is of first order in V": lambda V, e, x: V.T @ e @ V,
        "what is noisy is seen magnified: Σ_ε, not its inverse": lambda V, e, x: common_kernel(V, np.linalg.inv(e), x),
        "where are the inputs, Σ_x?": lambda V, e, x: root(V.T @ e @ V),
        "that is the kernel without noise: where is Σ_ε?": lambda V, e, x: common_kernel(V, np.eye(len(e)), x),
        "Σ_x^(−½) on both sides, for the kernel of x itself": lambda V, e, x: root(root(x) @ V.T @ e @ V @ root(x)),
    },
    "what all hidden layers of all such networks share",
)
