"""Checks of the exercises of notebook 06. Each says what is wrong without giving the answer away."""

from __future__ import annotations

import math

import numpy as np

from thermolab.feedback import Feedback, Question, as_numbers, number
from thermolab.phenomena.common.tasks import Task
from thermolab.phenomena.progressive_sharpening import theory

STRENGTH, PROFILE = 1.5, (2.0, 1.0, 0.5)  # exercise 1: s, and noise of three answers
SHARPNESS = 40.0  # exercise 2
WANTED = 6.0  # exercise 3: λ_max of two answers, for s = 1
DIRECTIONS = ("rise", "stay", "fall")


PREDICTIONS = {
    "louder": Question(
        "all noise doubled: λ_max will", "stay", "does m/σ_min change when every σ is doubled?", options=DIRECTIONS
    ),
    "uneven": Question("noise in a few answers: λ_max will", "rise", "see the equation: m/σ_min", options=DIRECTIONS),
}


def check_sharpness(sharpness: float | None) -> Feedback:
    """Exercise 1: λ_max for s = 1.5 and noise (2, 1, 0.5), from the closed form."""
    hint = "not {:g}: m is the root mean square of the σ_i"
    return number(sharpness, theory.lambda_max(PROFILE, STRENGTH), "λ_max = {:.2f}", hint, rel_tol=0.01)


def check_edge(eta: float | None) -> Feedback:
    """Exercise 2: the learning rate at which full-batch descent stops sharpening at λ_max = 40."""
    return number(eta, 2 / SHARPNESS, "at the edge of stability", "not {:g}: when does 1 - η λ_max reach -1?", rel_tol=0.01)


def check_profile(profile) -> Feedback:
    """Exercise 3: noise of two answers for which λ_max = 6 at s = 1."""
    sigma = as_numbers(profile, (2,))
    if sigma is None or not (sigma > 0).all():
        return Feedback(False, "write a list of two positive numbers")
    found = theory.lambda_max(sigma)
    return Feedback(bool(math.isclose(found, WANTED, rel_tol=0.01)), f"λ_max = {found:.2f}, wanted {WANTED:g}")


def sharpness(product, v):
    """λ_max of a symmetric matrix [d, d] of which only products are known: product(v) [d] = Hv; v [d] is a start. To 1e-3."""
    size = abs(_top(product, v))  # the largest eigenvalue by size may be negative: after a shift by it none is
    return _top(lambda u: product(u) + size * u, v) - size


def batch_sharpness(gradients, hessians):
    """E_B[gᵀH_B g/|g|²] over batches: gradients g [n, d], each with the Hessian H_B [n, d, d] of its own batch."""
    return (np.einsum("ni,nij,nj->n", gradients, hessians, gradients) / (gradients**2).sum(1)).mean()


def _top(product, v, steps: int = 2000) -> float:
    for _ in range(steps):
        v = product(v)
        v = v / np.linalg.norm(v)
    return float(v @ product(v))


def _matrix(rng: np.random.Generator, eigenvalues) -> tuple:
    q = np.linalg.qr(rng.standard_normal((len(eigenvalues),) * 2))[0]
    matrix = q * np.array(eigenvalues, float) @ q.T
    return (lambda v: matrix @ v), rng.standard_normal(len(eigenvalues))


def _batches(rng: np.random.Generator, n: int, d: int) -> tuple:
    h = rng.standard_normal((n, d, d))
    return rng.standard_normal((n, d)), h + h.swapaxes(1, 2)


LAMBDA_MAX = Task(
    sharpness,
    lambda rng: {
        "one direction": _matrix(rng, [3.0]),
        "positive curvature everywhere": _matrix(rng, [5.0, 2.0, 1.0, 0.5]),
        "a direction that curves down, and more strongly": _matrix(rng, [4.0, 1.0, -6.0]),
    },
    {
        "|λ| is largest at −6, λ at 4: what does a shift of all eigenvalues do?": _top,
        "that is |Hv|, which has lost its sign": lambda product, v: abs(_top(product, v)),
        "that is vᵀHv at the start: multiply and normalise, again and again": lambda product, v: v @ product(v) / (v @ v),
        "one step is not enough": lambda product, v: _top(product, v, 1),
        "vᵀHv/|v|²: the length of v is in it": lambda product, v: v @ product(v),
        "that is λ_max², of HH": lambda product, v: _top(product, v) ** 2,
    },
    "no Hessian was ever written down",
    tolerance=1e-3,
)
BATCH_SHARPNESS = Task(
    batch_sharpness,
    lambda rng: {"one batch": _batches(rng, 1, 3), "many batches": _batches(rng, 8, 4)},
    {
        "a mean of ratios, not a ratio of means": lambda g, h: np.einsum("ni,nij,nj->", g, h, g) / (g**2).sum(),
        "the length of g is in it: divide by |g|²": lambda g, h: np.einsum("ni,nij,nj->n", g, h, g).mean(),
        "each batch has a Hessian of its own": lambda g, h: batch_sharpness(g, np.broadcast_to(h.mean(0), h.shape)),
        "|g|², not |g|": lambda g, h: (np.einsum("ni,nij,nj->n", g, h, g) / np.linalg.norm(g, axis=1)).mean(),
        "that is the mean λ_max: in the direction of the gradient, not of the top": lambda g, h: np.linalg.eigvalsh(h)[
            :, -1
        ].mean(),
        "a mean over batches, not a sum": lambda g, h: batch_sharpness(g, h) * len(g),
    },
    "what settles at 2/η under minibatches",
)
