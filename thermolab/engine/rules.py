"""What a setting may be: one rule a kind, one wording of the refusal, for recipes, notebooks and the command line.

A rule stands in the annotation of a setting, `eta: Positive = 0.1`, and `recipe` asks it before anything runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

NO_LIST = "is not a list"


@dataclass(frozen=True)
class Rule:
    """A check that returns the value to use, or raises ValueError with the complaint; `allowed` in words."""

    allowed: str
    convert: Callable[[object], object]

    def __call__(self, name: str, value):
        """The value to use for the setting `name`; raises ValueError, one line with name, value and what is allowed."""
        try:
            return self.convert(value)
        except ValueError as complaint:
            instead = f", as [{value}] is" if str(complaint) == NO_LIST and isinstance(value, Real) else ""
            raise ValueError(f"{name}={_shown(value)} {complaint}{instead}; allowed: {self.allowed}") from None


def number(low: float, high: float) -> Rule:
    """A number from low to high, as float. Integers pass; texts and booleans do not."""
    return Rule(f"a number from {low:g} to {high:g}", lambda x: _between(_real(x), low, high))


def positive() -> Rule:
    """A finite number above 0, as float."""
    return Rule("a positive number", lambda x: _real(x) if 0 < _real(x) < math.inf else refuse("is not positive and finite"))


def not_negative() -> Rule:
    """A finite number, 0 or more, as float."""
    return Rule("0 or a positive number", lambda x: _real(x) if 0 <= _real(x) < math.inf else refuse("is negative or not finite"))


def integer(low: int, high: int | None = None) -> Rule:
    """A whole number from low to high (without a limit if high is None)."""
    allowed = f"a whole number, {low} or more" if high is None else f"a whole number from {low} to {high}"
    return Rule(allowed, lambda x: _between(_whole(x), low, math.inf if high is None else high))


def power_of_two(low: int, high: int) -> Rule:
    """1, 2, 4, … within the given limits."""

    def check(x):
        x = _between(_whole(x), low, high)
        return x if x.bit_count() == 1 else refuse("is no power of two")

    return Rule(f"a power of two from {low} to {high}", check)


def choice(*options: str) -> Rule:
    """One of the given texts."""
    return Rule("one of " + ", ".join(options), lambda x: _one_of(x, options))


def choice_or_function(*options: str) -> Rule:
    """One of the given texts, or "FILE.py:NAME" with a file that is there, whose place becomes absolute."""

    def check(x):
        file, colon, name = x.rpartition(":") if isinstance(x, str) else ("", "", "")
        if x in options or not (colon and name.isidentifier() and file.endswith(".py")):
            return _one_of(x, options)
        return f"{Path(file).absolute()}:{name}" if Path(file).is_file() else refuse(f"names no file: {file} is not there")

    return Rule("one of " + ", ".join(options) + ", or FILE.py:FUNCTION", check)


def flag() -> Rule:
    """True or False."""
    return Rule("true or false", lambda x: x if isinstance(x, bool) else refuse("is neither"))


def several(rule: Rule, n_min: int = 1, n_max: int | None = None) -> Rule:
    """A list of n_min or more values (n_max at the most), each by the rule, as a tuple."""

    def convert(x):
        if not isinstance(x, Sequence | np.ndarray) or isinstance(x, str):
            raise ValueError(NO_LIST)
        _between(len(x), n_min, math.inf if n_max is None else n_max, "has a length that")
        return tuple(rule.convert(v) for v in x)

    many = f"{n_min} or more" if n_max is None else f"{n_min} to {n_max}"
    return Rule(f"a list of {many}, each {rule.allowed}", convert)


def grid(low: float, high: float, n_max: int = 512) -> Rule:
    """A grid as [low, high, n]: n points between two different limits, themselves within this low and high."""

    def convert(x):
        if not isinstance(x, list | tuple) or len(x) != 3:
            raise ValueError("is not [low, high, n]")
        start, stop = (_between(_real(v), low, high) for v in x[:2])
        if not start < stop:
            raise ValueError(f"has low={start:g} not below high={stop:g}")
        return start, stop, _between(_whole(x[2]), 2, n_max)

    return Rule(f"[low, high, n] with {low:g} <= low < high <= {high:g} and a whole n from 2 to {n_max}", convert)


Count = Annotated[int, integer(1)]
Positive = Annotated[float, positive()]
NotNegative = Annotated[float, not_negative()]
Counts = Annotated[Sequence[int], several(integer(1))]
Positives = Annotated[Sequence[float], several(positive())]


def rules_of(function: Callable) -> dict[str, Rule]:
    """The rules in the annotations of a function, by parameter: those in Annotated[…], and a choice for each Literal of texts.

    Either may be one of several, as in `Positive | None`. Raises TypeError, one line, where two of these have a rule.
    """
    found = {}
    for name, hint in get_type_hints(function, include_extras=True).items():
        options = get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint]
        rules = [rule for option in options if (rule := _rule_of(option))]
        if len(rules) > 1:
            raise TypeError(f"{name} of {function.__qualname__} has {len(rules)} rules; allowed: one, beside None")
        if rules:
            (found[name],) = rules
    return found


def _rule_of(hint) -> Rule | None:
    if get_origin(hint) is Literal:
        return choice(*get_args(hint))
    return next((rule for rule in getattr(hint, "__metadata__", ()) if isinstance(rule, Rule)), None)


def checked(rules: Mapping[str, Rule], settings: Mapping[str, object]) -> dict[str, object]:
    """Settings as the rules return them; None passes (a default that the recipe fills in). Raises ValueError, one line."""
    return {name: rules[name](name, v) if name in rules and v is not None else v for name, v in settings.items()}


def multiple(of: int, what: str, **numbers: int) -> None:
    """Raises ValueError, one line, unless all numbers can be divided by `of`, the setting `what`."""
    for name, value in numbers.items():
        if value % of:
            raise ValueError(f"{name}={value} is not divisible; allowed: a multiple of {what}={of}")


def refuse(complaint: str):
    """Raises ValueError: for rules that are one expression."""
    raise ValueError(complaint)


def _shown(value) -> str:
    return repr(value.tolist() if isinstance(value, np.ndarray) else value)


def _real(x) -> float:
    if isinstance(x, bool) or not isinstance(x, Real) or math.isnan(x):
        raise ValueError("is not a number")
    return float(x)


def _whole(x) -> int:
    if isinstance(x, bool) or not isinstance(x, Integral):
        raise ValueError("is not a whole number")
    return int(x)


def _between(x, low, high, subject="", /):
    if not low <= x <= high:
        raise ValueError(f"{subject} is out of range".strip())
    return x


def _one_of(x, options):
    if x not in options:
        raise ValueError("is unknown")
    return x
