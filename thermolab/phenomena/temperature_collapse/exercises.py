"""Checks of the exercises of notebook 02. Each says what is wrong without giving the answer away."""

from __future__ import annotations

import numpy as np

from thermolab.feedback import Feedback, Question, as_number
from thermolab.phenomena.common.tasks import Task
from thermolab.phenomena.temperature_collapse import theory, toy, training

WANTED = 2e-3  # exercise 1: energy above the minimum
ETA, BATCHES = 0.01, (2, 256)  # exercise 2
ENERGY, ENTROPY = (1.0, 1.2, 1.6, 2.4), (0.0, 200.0, 400.0, 600.0)  # exercise 3: four stationary states


PREDICTIONS = {
    "temperature_ratio": Question(
        "T at half the learning rate / T",
        0.5,
        "how does the temperature of three points go with η?",
        hints={
            0.25: "the noise of a step goes with η², and the pull with η: what is left?",
            2: "a smaller step, a colder gas: over which of the two did you divide?",
        },
    ),
    "collapse": Question(
        "what collapses",
        "wide",
        "look again at which gradients vanish at the minimum",
        options=("narrow", "wide"),
        names={"op": "wide", "overparameterised": "wide", "up": "narrow", "underparameterised": "narrow"},
    ),
}


def check_toy_rate(eta: float | None, *, seed: int = 0) -> Feedback:
    """Exercise 1: a learning rate at which three points hold U − U_min at 0.002; a run measures it."""
    critical = theory.mean_square_critical_rate(theory.UNDER)
    rate = as_number(eta)
    if rate is None or not 1e-3 <= rate <= critical:
        return Feedback(False, f"eta={eta}: write a number from 0.001 to {critical:.3g}, the critical rate")
    found = toy.stationary.run(eta=(rate,), seed=seed, n_seeds=2)
    excess = float((found["U"] - found["U_min"]).mean())
    return Feedback(abs(excess / WANTED - 1) <= 0.05, f"measured U − U_min = {excess:.5f}, wanted {WANTED:g} within 5 %")


def check_batch_size(batch_size: int | None, *, seed: int = 0) -> Feedback:
    """Exercise 2: a batch size with which the wide network collapses at η = 0.01, where it does not with B = 32."""
    low, high = BATCHES
    size = as_number(batch_size)
    if size is None or size % 1 or not low <= size <= high:
        return Feedback(False, f"batch_size={batch_size}: write a whole number from {low} to {high}")
    found = training.training.run((ETA,), batch_size=int(size), steps=6000, logs=4, samples=20, seed=seed, n_seeds=2)
    end = found.isel(time=-1).mean("seed")
    say = f"at the end U = {end['U'].item():.3f}, T = {end['T_gas'].item():.1e}, accuracy {end['accuracy'].item():.3f}"
    return Feedback(bool(end["accuracy"] > 0.99), say)


def check_bounds(lower: float | None, upper: float | None) -> Feedback:
    """Exercise 3: between which temperatures the second of four states (ENERGY, ENTROPY) has the least F."""
    slopes = np.diff(ENERGY) / np.diff(ENTROPY)
    for name, given, exact in (("lower", lower, slopes[0]), ("upper", upper, slopes[1])):
        found = as_number(given)
        if found is None:
            return Feedback(False, "write both bounds, as numbers")
        if not np.isclose(found, exact, rtol=0.02):
            return Feedback(False, f"the {name} bound is not {found:g}: at which T do two neighbouring states have the same F?")
    return Feedback(True, "between these temperatures the second state wins")


def noise_trace(gradients):
    """Tr Σ₁, the trace of the covariance of per-sample gradients [n, d], without bias at small n."""
    centred = gradients - gradients.mean(0)
    return (centred**2).sum() / (len(gradients) - 1)


def temperatures(energy, entropy):
    """dU/dS [n − 1] between neighbouring stationary states, in order of entropy; energy, entropy [n], in any order."""
    order = np.argsort(entropy)
    return np.diff(energy[order]) / np.diff(entropy[order])


def _states(rng: np.random.Generator, n: int, shuffled: bool = False) -> tuple:
    entropy = np.cumsum(rng.uniform(10, 100, n)) - 500
    energy = np.cumsum(rng.uniform(0.1, 1, n))
    order = rng.permutation(n) if shuffled else np.arange(n)
    return energy[order], entropy[order]


NOISE_TRACE = Task(
    noise_trace,
    lambda rng: {
        "one weight": (rng.standard_normal((9, 1)),),
        "many weights": (rng.standard_normal((20, 7)) * np.arange(1, 8),),
        "a mean gradient as large as the noise": (rng.standard_normal((8, 5)) + 1,),
        "two samples": (rng.standard_normal((2, 3)),),
    },
    {
        "the mean itself is measured: with n = 2 you get half": lambda g: ((g - g.mean(0)) ** 2).sum() / len(g),
        "the trace is a sum over weights, not their mean": lambda g: g.var(0, ddof=1).mean(),
        "that is E|g|²: the mean gradient is no noise": lambda g: (g**2).sum() / len(g),
        "that is the noise of the mean: it is smaller by n": lambda g: g.var(0, ddof=1).sum() / len(g),
        "squares, not lengths": lambda g: np.linalg.norm(g - g.mean(0), axis=1).sum() / (len(g) - 1),
        "the mean is taken over samples, one for each weight": lambda g: ((g - g.mean()) ** 2).sum() / (len(g) - 1),
    },
    "with n − 1: the mean has used one sample up",
)
TEMPERATURES = Task(
    temperatures,
    lambda rng: {"in order": _states(rng, 4), "in any order": _states(rng, 6, shuffled=True)},
    {
        "that is dS/dU, the inverse temperature": lambda u, s: 1 / temperatures(u, s),
        "states in the order of their entropy first": lambda u, s: np.diff(u) / np.diff(s),
        "a ratio of differences, not U/S: S has no zero": lambda u, s: u / s,
        "T = dU/dS, not −dU/dS": lambda u, s: -temperatures(u, s),
        "one number for each pair of neighbours: n − 1": lambda u, s: np.gradient(u[np.argsort(s)], np.sort(s)),
        "S is a logarithm already": lambda u, s: np.diff(u[np.argsort(s)]) / np.diff(np.log(np.abs(np.sort(s)))),
    },
    "the slopes between which each state is the minimum of F",
)
