"""What is said about answers to the exercises of notebook 04: what is wrong, without giving the answer away."""

from __future__ import annotations

import math
from collections.abc import Collection

from torch import nn

from thermolab.instruments import symmetry
from thermolab.phenomena.common.feedback import Feedback, is_number, number, predictions
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


def check_predictions(steps: float | None, odd_one: str | None) -> Feedback:
    """The predictions written down at the start: steps at half the learning rate; the pair that does not balance."""
    clock = "not {:g} steps: which power of η stands in the identity?"
    pair = "{} balances: which of them cannot be rescaled?"
    return predictions(steps, odd_one, (4 * STEPS, "tanh"), ODD, clock, pair, rel_tol=0.05)


def check_batch_size(batch_size: float | None) -> Feedback:
    """Exercise 1: B with which balance at η = 0.04 takes as many steps as at η = 0.01, B = 4."""
    hint = "B = {:g} is not it: on which axis do the curves coincide?"
    return number(batch_size, 4 * (0.04 / 0.01) ** 2, "the same clock", hint, rel_tol=0.01)


def check_shift(difference: float | None) -> Feedback:
    """Exercise 2: ⟨|g_u|² - |g_w|²⟩ in the stationary state at η = 0.05, λ = 0.02 with |u|² = 3 and |w|² = 1."""
    exact = float(theory.decay_shift(ETA, LAM)) * (NORM_IN - NORM_OUT)
    if is_number(difference) and math.isclose(difference, -exact, rel_tol=0.02):
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
