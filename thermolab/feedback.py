"""What a student is asked, and what is said to an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from thermolab.words import _

FORM = "write a number, as 0.3, 2/3 or 1e-4"


def first_look(preset: str) -> str:
    """What is said beside every figure and verdict of a run that is too short to decide much; "" of another."""
    return _("Preset smoke, a first look: runs so short and so few decide little.") if preset == "smoke" else ""


@dataclass(frozen=True)
class Feedback:
    """Whether an answer is right, and a line to the student; whether there was an answer at all. Shown as ✓, ✗ or … ."""

    right: bool
    message: str
    answered: bool = True

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{('✓' if self.right else '✗') if self.answered else '…'} {_(self.message)}"


def as_number(given) -> float | None:
    """The finite number that a student means: 0.5, "1/2", "2e-3", an array of one entry. None for all else, and for True."""
    if isinstance(given, str):
        text = given.strip().replace("−", "-").replace(" ", "")
        try:  # a fraction of numbers with exponents could take for ever
            given = Fraction(text) if "/" in text else float(text)
        except (ValueError, ZeroDivisionError):
            return None
    try:
        entry = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
        if entry.size != 1 or entry.dtype.kind in "bcSUmM":
            return None
        found = float(entry.reshape(())[()])
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return found if math.isfinite(found) else None


def as_numbers(given, shape: tuple[int, ...]) -> np.ndarray | None:
    """An array of that shape of the finite numbers that a student means, None if it is none."""
    try:
        entries = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given, dtype=object)
    except (TypeError, ValueError, RuntimeError):
        return None
    found = [
        None if isinstance(entry, Sequence) and not isinstance(entry, str) else as_number(entry) for entry in entries.ravel()
    ]
    return None if entries.shape != shape or None in found else np.array(found).reshape(shape)


def number(given, exact: float, praise: str, hint: str, **tolerance: float) -> Feedback:
    """Feedback on a number. praise, hint: templates, {} is the answer; tolerance: rel_tol or abs_tol of math.isclose."""
    found = as_number(given)
    if found is None:
        return Feedback(False, FORM, answered=given is not None)
    right = math.isclose(found, exact, **tolerance)
    return Feedback(right, _(praise if right else hint).format(found))


@dataclass(frozen=True)
class Question:
    """Something to be predicted: a number, or one of `options`.

    text: what is asked, in a few words. answer: what theory says. hint: the question in return to a wrong prediction;
    hints: {usual mistake: its own}. tolerance: relative; a prediction is rough. names: {another word for an option: option}.
    """

    text: str
    answer: float | str
    hint: str
    hints: Mapping[float | str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    tolerance: float = 0.05

    def check(self, given) -> Feedback:
        """What is said to a prediction; never a traceback."""
        if given is None or (isinstance(given, str) and not given.strip()):
            return Feedback(False, "not written down; there is still time", answered=False)
        return self._choice(given) if self.options else self._number(given)

    def option(self, given) -> str | None:
        """Which of the options a student means."""
        word = given.strip().lower() if isinstance(given, str) else None
        word = self.names.get(word, word)
        return word if word in self.options else None

    def _choice(self, given) -> Feedback:
        word = self.option(given)
        if word is None:
            return Feedback(False, f"{_('write one of')} {', '.join(self.options)}")
        return Feedback(word == self.answer, "so it is" if word == self.answer else self.hints.get(word, self.hint))

    def _number(self, given) -> Feedback:
        found = as_number(given)
        if found is None:
            return Feedback(False, FORM)
        if math.isclose(found, self.answer, rel_tol=self.tolerance):
            return Feedback(True, "so it is")
        usual = (hint for wrong, hint in self.hints.items() if math.isclose(found, wrong, rel_tol=self.tolerance))
        return Feedback(False, f"{off(found, self.answer)}: {_(next(usual, self.hint))}")


def off(found: float, right: float) -> str:
    """How far a number is from another one, in words."""
    if not right:
        return _("theory is 0")
    if found * right <= 0:
        return _("the sign is another") if found else _("it is not 0")
    ratio = found / right
    size, way = max(ratio, 1 / ratio), _("too large") if ratio > 1 else _("too small")
    return _("off by a factor of {size:.2g}, {way}").format(size=size, way=way)
