"""Exercises of notebook 05: right answers pass, wrong ones do not, whatever is written."""

import numpy as np
import pytest

from thermolab.phenomena.platonic_alignment import exercises


@pytest.mark.parametrize(("answer", "right"), [(4, True), (16, False), (0.25, False), (2, False), (None, False), (True, False)])
def test_kernel(answer, right):
    assert bool(exercises.check_kernel(answer)) is right


@pytest.mark.parametrize(
    ("answer", "right"), [(2**-0.5, True), (0.7, True), ("7/10", True), (0.5, False), (1, False), ("x", False)]
)
def test_cka(answer, right):
    assert bool(exercises.check_cka(answer)) is right


@pytest.mark.parametrize(
    ("matrix", "right"),
    [
        ([[0, 1], [1, 0]], True),
        ([[0.6, -0.8], [0.8, 0.6]], True),
        ([[0, -3], [3, 0]], True),  # a scale is not seen either
        ([[1, 0], [0, 1]], False),
        ([[2, 0], [0, 2]], False),
        ([[2, 0], [0, 1]], False),
        ([[1, 1], [0, 1]], False),
        ([[1, 1], [1, 1]], False),
        ([[np.nan, 0], [0, 1]], False),
        ([1, 2], False),
        ([[1, 2], [3]], False),
        (None, False),
    ],
)
def test_insert(matrix, right):
    assert bool(exercises.check_insert(matrix)) is right
