"""What the check of an exercise says to a student."""

from __future__ import annotations

import math
from collections.abc import Collection
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


def number(given, exact: float, praise: str, hint: str, **tolerance: float) -> Feedback:
    """Feedback on a number. praise, hint: templates, {} is the answer; tolerance: rel_tol or abs_tol of math.isclose."""
    if not is_number(given):
        return Feedback(False, "write a number")
    right = math.isclose(given, exact, **tolerance)
    return Feedback(right, (praise if right else hint).format(given))


def predictions(value, option, exact: tuple[float, str], options: Collection[str], *hints: str, **tolerance: float) -> Feedback:
    """Feedback on two predictions, a number and one of the options. hints: a template for each; the rest as in `number`."""
    if value is None or option is None:
        return Feedback(False, "not written down; there is still time")
    if not is_number(value) or option not in options:
        return Feedback(False, f"write a number, and one of {', '.join(options)}")
    if not math.isclose(value, exact[0], **tolerance):
        return Feedback(False, hints[0].format(value))
    right = option == exact[1]
    return Feedback(right, "both agree with what follows" if right else hints[1].format(option))
