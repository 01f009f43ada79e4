"""Feedback on the exercises of notebook 03: what is wrong, without giving the answer away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thermolab.phenomena.common.feedback import Feedback
from thermolab.phenomena.ideal_gas import isotropic, theory

TARGET_TEMPERATURE, ETA = 5e-3, 0.05  # exercise 2: fixed learning rate, D = 3, σ = 1
TARGET_SHIFT, DIM = -2.0, 10  # exercise 3, in nats


def check_predictions(temperature: float | None, radius_factor: float | None, energy_factor: float | None) -> Feedback:
    """The predictions written down at the start: fixed ELR, η = 0.03, σ = 1, D = 3; then ten times the weight decay."""
    exact = {"T": theory.temperature("elr", 0.03, 0.01, 3, 1.0), "the radius factor": 10**-0.5, "the energy factor": 1.0}
    given = dict(zip(exact, (temperature, radius_factor, energy_factor), strict=True))
    if None in given.values():
        return Feedback(False, "not written down; there is still time")
    wrong = [name for name, value in given.items() if not np.isclose(value, exact[name], rtol=0.02)]
    return Feedback(not wrong, f"look again at {' and '.join(wrong)}" if wrong else "all three agree with the theory")


def check_radius_factors(elr: float, lr: float) -> Feedback:
    """Exercise 1: by what factor r changes when λ is made four times as large, under each protocol."""
    for name, given in (("elr", elr), ("lr", lr)):
        if given is None:
            return Feedback(False, f"write a number for {name}")
        exact = theory.radius(name, 0.01, 0.04, 3, 1.0) / theory.radius(name, 0.01, 0.01, 3, 1.0)
        if not np.isclose(given, exact, rtol=0.01):
            return Feedback(False, f"{name}: {given:g} is not the factor; how does T depend on λ under this protocol?")
    return Feedback(True, "both factors are right: the temperature of fixed LR moves with λ, and takes half of the change")


def check_temperature(lam: float, *, seed: int = 0) -> Feedback:
    """Exercise 2: a weight decay for T = 5e-3 at η = 0.05 under fixed LR (D = 3, σ = 1): a run measures U."""
    if lam is None or not 1e-5 <= lam <= 0.1:
        return Feedback(False, f"lam={lam}: write a number from 1e-5 to 0.1")
    found = isotropic.stationary.run("lr", eta=(ETA, ETA, 1), lam=(lam, lam, 1), replicas=64, seed=seed, n_seeds=3)[
        "U"
    ].values.ravel()
    mean, error = found.mean(), found.std(ddof=1) / np.sqrt(found.size)
    target = theory.energy_vmf(TARGET_TEMPERATURE, 3)
    say = f"measured U = {mean:.5f} ± {error:.5f}, at the wanted temperature it is {target:.5f}"
    return Feedback(bool(abs(mean - target) <= 0.03 * target + 2 * error), say)


def check_spectrum(spectrum: Sequence[float]) -> Feedback:
    """Exercise 3: nine noise variances of mean 1 that lower the entropy of the D = 10 gas by 2 nats at the same Tr Σ."""
    s = np.asarray([] if spectrum is None else spectrum, float)
    if s.shape != (DIM - 1,) or not (s > 0).all():
        return Feedback(False, f"write {DIM - 1} positive variances")
    if abs(s.mean() - 1) > 1e-3:
        return Feedback(False, f"their mean is {s.mean():.3f}: Tr Σ has changed, and with it T; scale them to mean 1")
    shift = theory.anisotropic_entropy_shift(s)
    return Feedback(
        bool(abs(shift - TARGET_SHIFT) <= 0.05),
        f"the entropy shifts by {shift:.2f} nats, wanted {TARGET_SHIFT:.2f} ± 0.05",
    )
