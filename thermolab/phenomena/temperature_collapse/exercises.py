"""Checks of the exercises of notebook 02. Each says what is wrong without giving the answer away."""

from __future__ import annotations

from numbers import Real

import numpy as np

from thermolab.phenomena.common.feedback import Feedback, is_number
from thermolab.phenomena.temperature_collapse import networks, theory, toy

WANTED = 2e-3  # exercise 1: energy above the minimum
ETA, BATCHES = 0.01, (2, 256)  # exercise 2
ENERGY, ENTROPY = (1.0, 1.2, 1.6, 2.4), (0.0, 200.0, 400.0, 600.0)  # exercise 3: four stationary states


def check_predictions(temperature_ratio: float | None, collapses: str | None) -> Feedback:
    """The predictions written down at the start: T of the toy when η is halved; which of the two networks collapses."""
    if temperature_ratio is None or collapses is None:
        return Feedback(False, "not written down; there is still time")
    if not is_number(temperature_ratio) or not isinstance(collapses, str):
        return Feedback(False, 'write a number, and "narrow" or "wide"')
    if not np.isclose(temperature_ratio, 0.5, rtol=0.05):
        return Feedback(False, f"the temperature of three points does not change by {temperature_ratio:g}")
    right = collapses.strip().lower() in ("wide", "op", "overparameterised")
    return Feedback(right, "both agree with what follows" if right else "look again at which gradients vanish at the minimum")


def check_toy_rate(eta: float | None, *, seed: int = 0) -> Feedback:
    """Exercise 1: a learning rate at which three points hold U − U_min at 0.002; a run measures it."""
    critical = theory.mean_square_critical_rate(theory.UNDER)
    if not is_number(eta) or not 1e-3 <= eta <= critical:
        return Feedback(False, f"eta={eta}: write a number from 0.001 to {critical:.3g}, the critical rate")
    found = toy.stationary.run(eta=(eta,), seed=seed, n_seeds=2)
    excess = float((found["U"] - found["U_min"]).mean())
    return Feedback(abs(excess / WANTED - 1) <= 0.05, f"measured U − U_min = {excess:.5f}, wanted {WANTED:g} within 5 %")


def check_batch_size(batch_size: int | None, *, seed: int = 0) -> Feedback:
    """Exercise 2: a batch size with which the wide network collapses at η = 0.01, where it does not with B = 32."""
    low, high = BATCHES
    if not is_number(batch_size) or batch_size % 1 or not low <= batch_size <= high:
        return Feedback(False, f"batch_size={batch_size}: write a whole number from {low} to {high}")
    found = networks.training.run((ETA,), batch_size=int(batch_size), steps=6000, logs=4, samples=20, seed=seed, n_seeds=2)
    end = found.isel(time=-1).mean("seed")
    say = f"at the end U = {end['U'].item():.3f}, T = {end['T_gas'].item():.1e}, accuracy {end['accuracy'].item():.3f}"
    return Feedback(bool(end["accuracy"] > 0.99), say)


def check_bounds(lower: float | None, upper: float | None) -> Feedback:
    """Exercise 3: between which temperatures the second of four states (ENERGY, ENTROPY) has the least F."""
    if not all(isinstance(bound, Real) and not isinstance(bound, bool) for bound in (lower, upper)):  # ∞ gets the hint below
        return Feedback(False, "write both bounds, as numbers")
    slopes = np.diff(ENERGY) / np.diff(ENTROPY)
    for name, given, exact in (("lower", lower, slopes[0]), ("upper", upper, slopes[1])):
        if not np.isclose(given, exact, rtol=0.02):
            return Feedback(False, f"the {name} bound is not {given:g}: at which T do two neighbouring states have the same F?")
    return Feedback(True, "between these temperatures the second state wins")
