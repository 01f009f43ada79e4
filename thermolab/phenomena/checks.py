"""Checks of a recipe's settings: one line each, with the name, the value and what is allowed."""

from __future__ import annotations

import math


def counts(**numbers: int) -> None:
    """Raises ValueError, one line, for a count below 1."""
    for name, value in numbers.items():
        if int(value) != value or value < 1:
            raise ValueError(f"{name}={value} is not allowed; allowed: a whole number, 1 or more")


def positive(**numbers: float) -> None:
    """Raises ValueError, one line, for a number that is not positive and finite."""
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value} is not allowed; allowed: a positive number")
