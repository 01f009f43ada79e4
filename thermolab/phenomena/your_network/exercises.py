"""What is said about answers to the exercises of notebook 07: what is wrong, without giving the answer away."""

from __future__ import annotations

import numpy as np

from thermolab.feedback import Feedback, Question, number
from thermolab.phenomena.common.tasks import Task

ETA, FASTER, BATCH_SIZE = 0.1, 0.4, 16  # exercise 1
STRONGER = 16  # times λ, exercise 2

PREDICTIONS = {
    "sharpness": Question(
        "the batch sharpness at twice the η, over that at η",
        0.5,
        "what happens to a step along a direction of curvature h, beyond η h = 2?",
        hints={
            1.0: "then a step beyond 2/η would throw it: is a minimum's shape given, or chosen?",
            2.0: "a larger step bears less",
        },
    ),
    "law": Question(
        "whose radius has a law, whatever the loss",
        "normed",
        "of which of them is the gradient at right angles to the weights?",
        options=("normed", "last", "all"),
        names={"a layer before a norm": "normed", "the last layer": "last", "every layer": "all"},
    ),
}


def check_batch_size(batch_size: float | None) -> Feedback:
    """Exercise 1: B at η = 0.4 with the temperature of η = 0.1, B = 16."""
    hint = "B = {:g} is not it: how does Tr Σ go with B?"
    return number(batch_size, BATCH_SIZE * FASTER / ETA, "η/B is what counts", hint, rel_tol=0.01)


def check_radius(factor: float | None) -> Feedback:
    """Exercise 2: the factor by which the radius of a scale-invariant layer changes as λ is 16 times as large."""
    hint = "not {:g}: the law has |g|², and how does g of a scale-invariant layer go with its radius?"
    return number(factor, STRONGER**-0.25, "r⁴ goes as η/λ", hint, rel_tol=0.02)


def stationarity_ratio(w, slope, g, eta, lam):
    """2⟨w·(∇L + λw)⟩/(η⟨|g + λw|²⟩) from weights w [n, P] at n moments, the gradient ∇L of the loss there and the gradient g of
    one minibatch there, both [n, P]."""
    w, slope, g = (np.asarray(a, float) for a in (w, slope, g))
    return 2 * (w * (slope + lam * w)).sum(1).mean() / (eta * ((g + lam * w) ** 2).sum(1).mean())


def temperature(g, eta):
    """η Tr Σ/(2D) from the gradients g [n, P] of n minibatches at the same weights; D counts the weights whose gradient is not
    always 0."""
    g = np.asarray(g, float)
    return eta * g.var(0, ddof=1).sum() / (2 * (g != 0).any(0).sum())


def _moments(rng: np.random.Generator, n: int, p: int, lam: float) -> tuple:
    w, slope = rng.standard_normal((2, n, p))
    return w, slope, slope + rng.standard_normal((n, p)), 0.1, lam


def _dead(rng: np.random.Generator, n: int, p: int) -> np.ndarray:
    g = rng.standard_normal((n, p)) + 1
    g[:, : p // 3] = 0
    return g


def _ratio(w, slope, g, eta, lam, power: float = 1.0) -> float:
    return 2 * (w * slope).sum(1).mean() / (eta**power * (g**2).sum(1).mean())


STATIONARITY = Task(
    stationarity_ratio,
    lambda rng: {
        "without weight decay": _moments(rng, 50, 6, 0.0),
        "with weight decay": _moments(rng, 50, 6, 0.3),
        "a single weight": _moments(rng, 20, 1, 0.1),
        "one moment": _moments(rng, 1, 5, 0.2),
    },
    {
        "the weight decay pulls as well: λw stands beside both gradients": lambda w, slope, g, eta, lam: _ratio(
            w, slope, g, eta, 0
        ),
        "beside g stands λw too": lambda w, slope, g, eta, lam: _ratio(w, slope + lam * w, g, eta, lam),
        "beside ∇L stands λw too": lambda w, slope, g, eta, lam: _ratio(w, slope, g + lam * w, eta, lam),
        "what drives is the minibatch's gradient, not the mean": lambda w, slope, g, eta, lam: _ratio(
            w, slope + lam * w, slope + lam * w, eta, lam
        ),
        "half of that: a step changes |w|² by −2η w·∇L": lambda w, slope, g, eta, lam: (
            stationarity_ratio(w, slope, g, eta, lam) / 2
        ),
        "upside down": lambda w, slope, g, eta, lam: 1 / stationarity_ratio(w, slope, g, eta, lam),
        "a mean of ratios is not the ratio of means": lambda w, slope, g, eta, lam: np.mean(
            2 * (w * (slope + lam * w)).sum(1) / (eta * ((g + lam * w) ** 2).sum(1))
        ),
    },
    "1 means: as much is pulled in as noise drives out",
)
TEMPERATURE = Task(
    temperature,
    lambda rng: {
        "a mean that is not 0": (rng.standard_normal((40, 6)) + 2, 0.1),
        "weights without a gradient": (_dead(rng, 40, 9), 0.1),
        "two batches": (rng.standard_normal((2, 4)), 0.3),
        "noise of unequal size": (rng.standard_normal((30, 5)) * np.arange(1, 6), 0.05),
    },
    {
        "weights that never have a gradient do not count": lambda g, eta: eta * g.var(0, ddof=1).sum() / (2 * g.shape[1]),
        "noise is what is left about the mean": lambda g, eta: eta * (g**2).mean(0).sum() / (2 * (g != 0).any(0).sum()),
        "of n numbers about their own mean, n − 1 are free": lambda g, eta: eta * g.var(0).sum() / (2 * (g != 0).any(0).sum()),
        "each direction has half a T: 2D, not D": lambda g, eta: 2 * temperature(g, eta),
        "the noise of one step is η g: and its temperature is of the first order in η": lambda g, eta: eta * temperature(g, eta),
        "a trace is a sum, and then it is shared by D": lambda g, eta: eta * g.var(0, ddof=1).sum() / 2,
        "η is missing": lambda g, eta: temperature(g, 1.0),
    },
    "and at equal η/B it stays",
)
