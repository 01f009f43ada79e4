"""Feedback on the answers to notebook 01. Each says what is wrong without giving the answer away."""

from __future__ import annotations

import math

import numpy as np

from thermolab.feedback import Feedback, Question, as_number, number
from thermolab.phenomena.common.tasks import Task
from thermolab.phenomena.cooling import live

SCHEDULES = ("constant", "logarithmic", "cosine")
ETA, BATCH_SIZE, COLD = 0.2, 16, 0.05  # exercise 1
DECAY, RATE, STEPS = 0.01, 0.1, 3000  # exercise 2: λ, η, steps


PREDICTIONS = {
    "entropy_change": Question(
        "change of S, in nats per weight",
        -2 * math.log(2),
        "how does the variance of a random walk go with its step?",
        hints={
            2 * math.log(2): "smaller steps, a smaller cloud: which sign?",
            -math.log(2): "S has the logarithm of the variance, not of the width",
        },
        tolerance=0.07,
    ),
    "best": Question("the best schedule", "cosine", "it is not the best of them: see the schedules", options=SCHEDULES),
}


def check_batch_size(batch_size: int | None, *, seed: int = 0) -> Feedback:
    """Exercise 1: the batch size that does to S what lowering η from 0.2 to 0.05 at B = 16 does; a run measures both."""
    size = as_number(batch_size)
    if size not in (4, 8, 16, 32, 64, 128, 256):
        return Feedback(False, f"batch_size={batch_size}: write a power of two from 4 to 256")
    cooled, grown = (_entropy(change, seed) for change in ({"eta": COLD}, {"batch_size": int(size)}))
    say = f"measured S = {grown:.2f} nats per weight, wanted {cooled:.2f} as at η = {COLD}"
    return Feedback(abs(grown - cooled) < 0.5, say)  # the next batch sizes are 0.7 and more away


def _entropy(change: dict, seed: int) -> float:
    """S of two nets in the second half of the 400 steps after a turn of a knob at step 600."""
    run = live.IMAGES.start(seed=seed, eta=ETA, batch_size=BATCH_SIZE, replicas=2)
    run.observables = {"S": run.observables["S"]}
    frames = list(run.drive([[600, change]], range(800, 1001, 50), 1000))
    return float(np.mean([f.observables["S"] for f in frames]))


def check_growth(factor: float | None) -> Feedback:
    """Exercise 2: |w|² after 3000 steps of w ← w + ηλ w with η = 0.1, λ = 0.01, over that at the start."""
    found, exact = as_number(factor), (1 + RATE * DECAY) ** (2 * STEPS)
    if found is None or found <= 0:
        return Feedback(False, f"factor={factor}: write a positive number")
    if math.isclose(found, 1 / exact, rel_tol=0.05):
        return Feedback(False, "that is its inverse: does the printed update shrink the weights?")
    hint = "not {:g}: |w| is multiplied at each step"
    return number(found, exact, "{:.4g} is right: no decay at all", hint, rel_tol=0.05)


def check_second_difference(step: float | None) -> Feedback:
    """Exercise 3: a lasting step of one σ in white noise, in standard deviations of the second difference."""
    hint = "not {:g}: what is the variance of x₁ - 2 x₂ + x₃?"
    return number(step, 1 / math.sqrt(6), "lost in its own noise", hint, rel_tol=0.02)


def cusum(x, mean, sigma, kappa):
    """C_t = max(0, C_{t−1} + z_t − κ) of a series x [T], from C = 0, with z = (x − mean)/σ; [T]."""
    total, out = 0.0, []
    for z in (x - mean) / sigma:
        total = max(0.0, total + z - kappa)
        out.append(total)
    return np.array(out)


def logarithmic(eta0, alpha, k):
    """η_k = η_0/(1 + α log(1 + k)) of the epochs k [n], natural logarithm (document 0, eq 3)."""
    return eta0 / (1 + alpha * np.log(1 + k))


CUSUM = Task(
    cusum,
    lambda rng: {
        "a steady rise": (np.ones(5), 0.0, 1.0, 0.5),
        "white noise, mean 0 and σ 1": (rng.standard_normal(40), 0.0, 1.0, 0.5),
        "another mean and σ": (3 + 2 * rng.standard_normal(40), 3.0, 2.0, 0.5),
        "a fall": (-np.arange(6.0), 0.0, 1.0, 0.25),
    },
    {
        "nothing brings the sum back: where is the max(0, ·)?": lambda x, m, s, k: np.cumsum((x - m) / s - k),
        "the drift κ is missing: noise alone then climbs": lambda x, m, s, k: cusum(x, m, s, 0.0),
        "z is measured in units of σ": lambda x, m, s, k: cusum(x, m, 1.0, k),
        "which mean does the series have while nothing happens?": lambda x, m, s, k: cusum(x, 0.0, s, k),
        "it looks for a fall: this one sums what lies above the mean": lambda x, m, s, k: cusum(-x, -m, s, k),
        "that keeps one step only: add to the sum so far": lambda x, m, s, k: np.maximum(0.0, (x - m) / s - k),
    },
    "evidence added up: a lasting change climbs without end",
)
LOGARITHMIC = Task(
    logarithmic,
    lambda rng: {
        "the first epoch": (0.1, 1.0, np.zeros(1)),
        "ten epochs": (0.1, 1.0, np.arange(10.0)),
        "another α": (0.3, rng.uniform(0.2, 0.8), np.arange(10.0)),
    },
    {
        "the logarithm is the natural one": lambda e, a, k: e / (1 + a * np.log10(1 + k)),
        "that is 1/(1 + αk), which cools much faster: where is the logarithm?": lambda e, a, k: e / (1 + a * k),
        "α stands before the logarithm, not inside it": lambda e, a, k: e / (1 + np.log(1 + a * k)),
        "at k = 0 it is to be η_0: where is the 1?": lambda e, a, k: e / (a * np.log(1 + k)),
        "log k is −∞ at the start": lambda e, a, k: e / (1 + a * np.log(k)),
        "η is divided by it, nothing is taken away": lambda e, a, k: e - a * np.log(1 + k),
    },
    "slow cooling: it never reaches 0, and takes ever longer for the next halving",
)
