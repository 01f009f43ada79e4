"""What is said about answers to the exercises of notebook 04: what is wrong, without giving the answer away."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from torch import nn

from thermolab.feedback import Feedback, Question, as_number, number
from thermolab.instruments import symmetry
from thermolab.phenomena.common.tasks import Task
from thermolab.phenomena.neuron_balance import theory

STEPS = 1000  # of the prediction
ODD = ("relu", "qk", "tanh")
ETA, LAM, NORM_IN, NORM_OUT = 0.05, 0.02, 3.0, 1.0  # exercise 2
LAYERS = (  # exercise 3
    nn.Linear(6, 8),
    nn.ReLU(),
    nn.Linear(8, 8),
    nn.Tanh(),
    nn.Linear(8, 5),
    nn.LeakyReLU(),
    nn.Linear(5, 5),
    nn.LayerNorm(5, elementwise_affine=False),
    nn.Linear(5, 2),
)
NET = nn.Sequential(*LAYERS)


PREDICTIONS = {
    "steps": Question(
        "steps at half the learning rate",
        4 * STEPS,
        "which power of η stands in the identity?",
        hints={2 * STEPS: "each step is half as long, and so is the force: which power of η stands in the identity?"},
    ),
    "odd_one": Question("what does not balance", "tanh", "that one balances: which of them cannot be rescaled?", options=ODD),
}


def check_batch_size(batch_size: float | None) -> Feedback:
    """Exercise 1: B with which balance at η = 0.04 takes as many steps as at η = 0.01, B = 4."""
    hint = "B = {:g} is not it: on which axis do the curves coincide?"
    return number(batch_size, 4 * (0.04 / 0.01) ** 2, "the same clock", hint, rel_tol=0.01)


def check_shift(difference: float | None) -> Feedback:
    """Exercise 2: ⟨|g_u|² - |g_w|²⟩ in the stationary state at η = 0.05, λ = 0.02 with |u|² = 3 and |w|² = 1."""
    exact = float(theory.decay_shift(ETA, LAM)) * (NORM_IN - NORM_OUT)
    found = as_number(difference)
    if found is not None and math.isclose(found, -exact, rel_tol=0.02):
        return Feedback(False, "the size is right: which of the two gradients is the larger?")
    hint = "not {:g}: what do gradients add to |u|² - |w|² in a step, and what does decay take away?"
    return number(difference, exact, "what a step adds, decay takes away", hint, rel_tol=0.02)


def check_pairs(names: Collection[str] | None) -> Feedback:
    """Exercise 3: the rescalable pairs of NET, as texts "writer -> reader"."""
    if isinstance(names, str) or not isinstance(names, Collection) or not all(isinstance(name, str) for name in names):
        return Feedback(False, 'write a list of names such as ["0 -> 2"]')
    known = {pair.name for pair in symmetry.pairs(NET)}
    given = {" ".join(name.replace("→", "->").replace("->", " -> ").split()) for name in names}
    wrong, missing = sorted(given - known), len(known - given)
    if wrong:
        return Feedback(False, f"{wrong[0]} is no pair: what stands between these layers?")
    return Feedback(not missing, "all of them" if not missing else f"{missing} missing")


def log_ratio(g_w, g_u):
    """log(E|g_w|²/E|g_u|²) of a pair: gradients of its outgoing weights g_w [n, d] and incoming ones g_u [n, k] in n batches."""
    return np.log((g_w**2).sum(1).mean() / (g_u**2).sum(1).mean())


def soft_threshold(V, tau):
    """The matrix V [d_y, d_x] with each singular value s replaced by max(s − τ, 0): what a noisy linear network learns of it."""
    left, s, right = np.linalg.svd(V, full_matrices=False)
    return left * np.maximum(s - tau, 0) @ right


def _spectrum(V, change) -> np.ndarray:
    left, s, right = np.linalg.svd(V, full_matrices=False)
    return left * change(s) @ right


LOG_RATIO = Task(
    log_ratio,
    lambda rng: {
        "one outgoing and one incoming weight": (rng.standard_normal((20, 1)), 3 * rng.standard_normal((20, 1))),
        "five outgoing weights, two incoming": (rng.standard_normal((30, 5)), rng.standard_normal((30, 2))),
        "gradients with a mean": (1 + rng.standard_normal((30, 3)), rng.standard_normal((30, 4))),
    },
    {
        "|g|² is a sum over weights, not their mean: layers of different width": lambda w, u: np.log(
            (w**2).mean() / (u**2).mean()
        ),
        "the mean of logarithms is not the logarithm of the mean": lambda w, u: np.log((w**2).sum(1) / (u**2).sum(1)).mean(),
        "that is the gradient's mean, squared: the noise counts too": lambda w, u: np.log(
            (w.mean(0) ** 2).sum() / (u.mean(0) ** 2).sum()
        ),
        "outgoing over incoming": lambda w, u: -log_ratio(w, u),
        "squares: |g|², not |g|": lambda w, u: np.log(np.linalg.norm(w, axis=1).mean() / np.linalg.norm(u, axis=1).mean()),
        "the ratio is asked for as a logarithm, 0 in balance": lambda w, u: np.exp(log_ratio(w, u)),
        "noise about the mean is not all: E|g|² has the mean gradient in it": lambda w, u: np.log(
            w.var(0).sum() / u.var(0).sum()
        ),
    },
    "0 is balance, and ± means which side pulls harder",
)
SOFT_THRESHOLD = Task(
    soft_threshold,
    lambda rng: {
        "a diagonal matrix": (np.diag([3.0, 2.0, 1.0]), 0.5),
        "some values fall below τ": (np.diag([3.0, 0.2]), 0.5),
        "any matrix": (rng.standard_normal((4, 3)), 0.4),
        "without noise": (rng.standard_normal((3, 5)), 0.0),
    },
    {
        "what falls below τ is lost: no singular value is negative": lambda V, tau: _spectrum(V, lambda s: s - tau),
        "that keeps the large ones whole: they too lose τ": lambda V, tau: _spectrum(V, lambda s: s * (s > tau)),
        "singular values, not entries": lambda V, tau: np.sign(V) * np.maximum(np.abs(V) - tau, 0),
        "each loses τ, not a share of itself": lambda V, tau: _spectrum(V, lambda s: s * (1 - tau)),
        "that is τ/2: one τ for the product": lambda V, tau: _spectrum(V, lambda s: np.maximum(s - tau / 2, 0)),
        "put the matrix together again: P diag(s) Rᵀ": lambda V, tau: np.maximum(np.linalg.svd(V, compute_uv=False) - tau, 0),
    },
    "the entropic force as a regulariser: it costs rank",
)
