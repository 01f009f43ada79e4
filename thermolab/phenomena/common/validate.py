"""Checks of a recipe's settings: one line each, with the name, the value and what is allowed."""

from __future__ import annotations

import math

import numpy as np


def counts(least: int = 1, /, **numbers: int) -> None:
    """Raises ValueError, one line, unless all are whole numbers from `least`."""
    for name, value in numbers.items():
        if value < least or value % 1:
            raise ValueError(f"{name}={value} is not allowed; allowed: a whole number, {least} or more")


def multiples(parts: int, what: str, **numbers: int) -> None:
    """Raises ValueError, one line, unless all can be divided by `parts`, which is what."""
    for name, value in numbers.items():
        if value % parts:
            raise ValueError(f"{name}={value} is not allowed; allowed: a multiple of {what}={parts}")


def positive(**numbers: float) -> None:
    """Raises ValueError, one line, for a number that is not positive and finite."""
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value} is not allowed; allowed: a positive number")


def all_positive(name: str, values) -> np.ndarray:
    """Numbers as an array. Raises ValueError, one line, unless they are a list of positive ones."""
    values = np.asarray(values, float)
    if values.ndim != 1 or not values.size or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"{name}={values.tolist()} is not allowed; allowed: a list of positive numbers")
    return values
