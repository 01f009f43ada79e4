"""Exercises of notebook 06: right answers pass, wrong ones do not, whatever is written."""

import numpy as np
import pytest

from thermolab.phenomena.progressive_sharpening import exercises


def test_the_closed_form_passes_and_4s_does_not():
    m = np.sqrt((4 + 1 + 0.25) / 3)
    assert exercises.check_sharpness(2 * 1.5 * (m / 0.5 + 2 / m))
    for wrong in (6.0, 2 * (m / 0.5 + 2 / m), None, float("nan")):
        assert not exercises.check_sharpness(wrong)


@pytest.mark.parametrize(("eta", "right"), [(0.05, True), (0.025, False), (20, False), (None, False)])
def test_eta_of_the_edge_passes_alone(eta, right):
    assert bool(exercises.check_edge(eta)) is right


def test_a_profile_of_the_wanted_sharpness_passes_in_any_order_and_unit():
    ratios = np.linspace(1, 5, 4001)
    m = np.sqrt((ratios**2 + 1) / 2)
    best = ratios[np.argmin(abs(2 * (m + ratios / m) - 6))]
    assert exercises.check_profile([best, 1])
    assert exercises.check_profile([10, 10 * best])  # order and unit do not matter
    for wrong in ([1, 1], [5, 1], [1], [1, -1], "ab", [[1, 2], [3]], None):
        assert not exercises.check_profile(wrong)
