"""Exercises in which a student writes the physics: a function, tried on random inputs against the right one."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from thermolab.feedback import Feedback
from thermolab.words import _


@dataclass(frozen=True)
class Task:
    """A function to be written.

    exact: the right one; its parameters are named as in the text of the exercise, its docstring says what is asked.
    cases: from a random generator, {what is special about it: arguments}, the plainest first.
    mistakes: {hint: a function with a usual mistake}; an answer that does in all cases what that function does gets the hint.
    praise: what a right answer is told. tolerance: relative, of the largest entry.
    """

    exact: Callable
    cases: Callable[[np.random.Generator], Mapping[str, tuple]]
    mistakes: Mapping[str, Callable]
    praise: str
    tolerance: float = 1e-6

    def check(self, answer, *, seed: int = 0) -> Feedback:
        """Try a student's function: which case differs first, and a hint where the mistake is a usual one; never a traceback."""
        if answer is None:
            return Feedback(False, f"{_('not written yet')}: {self.signature}", answered=False)
        if not callable(answer):
            return Feedback(False, f"write a function, {self.signature}, and give it without calling it")
        cases = self.cases(np.random.default_rng(seed))
        found = []
        for case, arguments in cases.items():
            try:
                returned = _returned(answer, arguments)
                numbers = _numbers(returned)
            except NotImplementedError:
                return Feedback(False, f"{_('not written yet')}: {self.signature}", answered=False)
            except Exception as error:  # whatever a student's function may raise
                first = next(iter(_text(error).splitlines()), "")
                return Feedback(False, f"{case}: it stops with {type(error).__name__}: {first}")
            if returned is None:
                return Feedback(False, f"{_('nothing is returned yet')}: {self.signature}", answered=False)
            found.append(numbers)
            if numbers is None:
                return Feedback(False, f"{case}: it returns no numbers but {type(returned).__name__}")
        right = [_numbers(_returned(self.exact, arguments)) for arguments in cases.values()]
        wrong = next((i for i in range(len(cases)) if not self._same(found[i], right[i])), None)
        if wrong is None:
            return Feedback(True, self.praise)
        for hint, mistaken in self.mistakes.items():
            wrongly = [_numbers(_returned(mistaken, arguments)) for arguments in cases.values()]
            if all(self._same(*three) for three in zip(found, wrongly, right, strict=True)):
                return Feedback(False, hint)
        return Feedback(False, f"{list(cases)[wrong]}: {_difference(found[wrong], right[wrong])}")

    @property
    def name(self) -> str:
        return self.exact.__name__

    @property
    def signature(self) -> str:
        names = ", ".join(inspect.signature(self.exact).parameters)
        return f"def {self.name}({names})"

    def _same(self, found: np.ndarray | None, wanted: np.ndarray, right: np.ndarray | None = None) -> bool:
        """Whether an answer is the wanted one; a mistake's, which may be rounding alone, in units of the right one."""
        if found is None or found.shape != wanted.shape:
            return False
        finite = np.isfinite(wanted)
        sizes = [np.abs(a[np.isfinite(a)]).max(initial=0) for a in (wanted, right) if a is not None]
        close = self.tolerance * max(sizes)
        others = np.array_equal(found[~finite], wanted[~finite], equal_nan=True)
        return bool(others and np.allclose(found[finite], wanted[finite], rtol=0, atol=close))


def _returned(function: Callable, arguments: tuple):
    """What a function makes of copies of its arguments, which it may change."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(*copy.deepcopy(arguments))


def _numbers(result) -> np.ndarray | None:
    """A result as an array of floats, a single number without dimensions; None where it is no number."""
    try:
        array = np.asarray(result.detach().cpu().double() if hasattr(result, "detach") else result)
    except (TypeError, ValueError, RuntimeError):
        return None
    if array.dtype.kind not in "biuf":
        return None
    array = array.astype(float)
    return array.reshape(()) if array.size == 1 else array


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _difference(found: np.ndarray, right: np.ndarray) -> str:
    if found.shape != right.shape:
        return f"the shape is {found.shape}, wanted {right.shape}"
    if not found.ndim:
        return f"{found:.5g} instead of {right:.5g}"
    apart = np.where(np.isfinite(found), np.abs(found - right), np.inf)
    place = np.unravel_index(np.nanargmax(apart), right.shape)
    return f"at {[int(i) for i in place]} it is {found[place]:.5g} instead of {right[place]:.5g}"
