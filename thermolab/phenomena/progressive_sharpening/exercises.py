"""Checks of the exercises of notebook 06. Each says what is wrong without giving the answer away."""

from __future__ import annotations

import math

import numpy as np

from thermolab.phenomena.common.feedback import Feedback, number
from thermolab.phenomena.progressive_sharpening import theory

STRENGTH, PROFILE = 1.5, (2.0, 1.0, 0.5)  # exercise 1: s, and noise of three answers
SHARPNESS = 40.0  # exercise 2
WANTED = 6.0  # exercise 3: λ_max of two answers, for s = 1
DIRECTIONS = ("rise", "stay", "fall")


def check_predictions(louder: str | None, uneven: str | None) -> Feedback:
    """The predictions written down at the start: λ_max when all noise is doubled, and when it is moved to a few answers."""
    if louder is None or uneven is None:
        return Feedback(False, "not written down; there is still time")
    if louder not in DIRECTIONS or uneven not in DIRECTIONS:
        return Feedback(False, f"write two of {', '.join(DIRECTIONS)}")
    if louder != "stay":
        return Feedback(False, f"λ_max does not {louder} when all noise is doubled: does m/σ_min change when every σ is doubled?")
    right = uneven == "rise"
    return Feedback(right, "both agree with what follows" if right else f"it does not {uneven}: see the equation")


def check_sharpness(sharpness: float | None) -> Feedback:
    """Exercise 1: λ_max for s = 1.5 and noise (2, 1, 0.5), from the closed form."""
    hint = "not {:g}: m is the root mean square of the σ_i"
    return number(sharpness, theory.lambda_max(PROFILE, STRENGTH), "λ_max = {:.2f}", hint, rel_tol=0.01)


def check_edge(eta: float | None) -> Feedback:
    """Exercise 2: the learning rate at which full-batch descent stops sharpening at λ_max = 40."""
    return number(eta, 2 / SHARPNESS, "at the edge of stability", "not {:g}: when does 1 - η λ_max reach -1?", rel_tol=0.01)


def check_profile(profile) -> Feedback:
    """Exercise 3: noise of two answers for which λ_max = 6 at s = 1."""
    try:
        sigma = np.asarray(profile, float)
    except (TypeError, ValueError):
        return Feedback(False, "write a list of two positive numbers")
    if sigma.shape != (2,) or not (np.isfinite(sigma) & (sigma > 0)).all():
        return Feedback(False, "write a list of two positive numbers")
    found = theory.lambda_max(sigma)
    return Feedback(bool(math.isclose(found, WANTED, rel_tol=0.01)), f"λ_max = {found:.2f}, wanted {WANTED:g}")
