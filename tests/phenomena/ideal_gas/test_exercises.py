"""Exercises of notebook 03: right answers, wrong ones, and none."""

import math

import numpy as np
import pytest
from scipy import optimize

from thermolab.phenomena.ideal_gas import exercises, theory


def test_exercise_1_right():
    answer = exercises.check_radius_factors(0.5, 1 / math.sqrt(2))
    assert answer
    assert repr(answer).startswith("✓")


@pytest.mark.parametrize(
    "wrong",
    [(None, 0.707), (0.5, None), (0.707, 0.5), (0.5, 0.5), (2.0, 1.41), (0.25, 0.707), (0.5, 0.69), (math.nan, 0.707),
     (0.5, math.nan), (math.inf, 0.707), (0, 0), (-0.5, 0.707)],
)  # fmt: skip
def test_exercise_1_wrong(wrong):
    answer = exercises.check_radius_factors(*wrong)
    assert not answer
    assert repr(answer).startswith("✗")
    assert "0.5" not in answer.message.replace("0.5 is not", "")  # no answer given away
    assert "0.707" not in answer.message.replace("0.707 is not", "")


def test_exercise_2_right():
    """T = √(ηλσ²/(2(D - 1))) = 5e-3 at η = 0.05: λ = 4 T²/η."""
    assert exercises.check_temperature(4 * 5e-3**2 / 0.05)


@pytest.mark.parametrize(
    "wrong", [None, math.nan, math.inf, 0, -0.002, 0.2, 4 * 5e-3**2 / 0.05 * 1.2, 4 * 5e-3**2 / 0.05 * 0.8, 0.01]
)
def test_exercise_2_wrong(wrong):
    assert not exercises.check_temperature(wrong)


def right_spectrum():
    a = optimize.brentq(lambda a: theory.anisotropic_entropy_shift(theory.power_spectrum(10, a)) + 2, 0.1, 3)
    return theory.power_spectrum(10, a)


def test_exercise_3_right():
    s = right_spectrum()
    assert exercises.check_spectrum(s)
    assert exercises.check_spectrum(list(s[::-1]))


@pytest.mark.parametrize(
    "wrong",
    [None, [], 1.0, np.ones(9), np.ones(10), 2 * right_spectrum(), right_spectrum()[:8], -right_spectrum(),
     theory.power_spectrum(10, 0.5), theory.power_spectrum(10, 3.0), np.full(9, np.nan), [*np.ones(8), math.inf], np.zeros(9)],
)  # fmt: skip
def test_exercise_3_wrong(wrong):
    answer = exercises.check_spectrum(wrong)
    assert not answer
    assert answer.message
