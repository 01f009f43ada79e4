"""What the check of an exercise says to a student."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real


@dataclass(frozen=True)
class Feedback:
    """Whether an answer is right, and a line to the student."""

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'✓' if self.right else '✗'} {self.message}"


def is_number(x) -> bool:
    """Whether an answer is a finite number; True and False are none."""
    return isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x)
