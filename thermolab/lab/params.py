"""The checked parameters of a notebook.

A notebook declares its parameters once, in the cell after the one tagged `parameters`:

    p = params.check(globals(), preset=params.preset(), eta=params.number(1e-5, 1.0), eta_range=params.grid(1e-5, 1.0))

papermill itself checks nothing. The cell stops a notebook at a bad value, and `thermolab run` reads the very
same cell to stop before anything runs at all.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import SimpleNamespace

PRESETS = ("smoke", "lab", "paper")
DEVICES = ("auto", "cpu", "cuda")


class UserError(Exception):
    """A user's mistake: its message is one line that says what is allowed. A notebook shows no traceback."""

    def _render_traceback_(self):  # asked for by IPython
        return [f"{type(self).__name__}: {self}"]


class ParameterError(UserError, ValueError):
    """A parameter has a value that is not allowed."""


class Settings(SimpleNamespace):
    """Checked parameters as attributes; they do not change any more."""

    def as_dict(self) -> dict:
        """A fresh dict of all parameters."""
        return dict(vars(self))

    def __setattr__(self, name, value):
        raise AttributeError(f"settings are frozen: {name} is set in the cell tagged 'parameters'")

    def __delattr__(self, name):
        self.__setattr__(name, None)


@dataclass(frozen=True)
class Rule:
    """What a parameter may be: a check that returns the value to use, or raises ValueError with the complaint."""

    allowed: str
    convert: Callable[[object], object]

    def __call__(self, name: str, value):
        """The value to use for the parameter `name`; raises ParameterError, one line."""
        try:
            return self.convert(value)
        except ValueError as complaint:
            raise ParameterError(f"{name}={value!r} {complaint}; allowed: {self.allowed}") from None


def check(namespace: Mapping[str, object], **rules: Rule) -> Settings:
    """The parameters named by `rules`, taken from `namespace` (a notebook's globals()) and checked.

    Raises ParameterError, one line with name, value and what is allowed, at the first that is wrong.

    >>> check({"eta": 1, "protocol": "elr"}, eta=number(1e-5, 1.0), protocol=choice("elr", "lr"))
    Settings(eta=1.0, protocol='elr')
    """
    missing = [name for name in rules if name not in namespace]
    if missing:
        raise ParameterError(f"{missing[0]} is missing; it needs a default in the cell tagged 'parameters'")
    return Settings(**{name: rule(name, namespace[name]) for name, rule in rules.items()})


def number(low: float, high: float) -> Rule:
    """A number from low to high, as float. Integers pass; texts and booleans do not."""
    return Rule(f"a number from {low:g} to {high:g}", lambda x: _between(_real(x), low, high))


def integer(low: int, high: int | None = None) -> Rule:
    """A whole number from low to high (without a limit if high is None)."""
    allowed = f"a whole number from {low}" + (" on" if high is None else f" to {high}")
    return Rule(allowed, lambda x: _between(_whole(x), low, math.inf if high is None else high))


def power_of_two(low: int, high: int) -> Rule:
    """1, 2, 4, … within the given limits."""

    def check(x):
        x = _between(_whole(x), low, high)
        return x if x.bit_count() == 1 else _refuse("is no power of two")

    return Rule(f"a power of two from {low} to {high}", check)


def choice(*options: str) -> Rule:
    """One of the given texts."""
    return Rule("one of " + ", ".join(options), lambda x: _one_of(x, options))


def flag() -> Rule:
    """True or False."""
    return Rule("true or false", lambda x: x if isinstance(x, bool) else _refuse("is neither"))


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


def numbers(low: float, high: float, n_min: int = 1, n_max: int = 512) -> Rule:
    """A list of n_min to n_max numbers, each from low to high, as a tuple of floats."""

    def convert(x):
        if not isinstance(x, list | tuple):
            raise ValueError("is not a list")
        _between(len(x), n_min, n_max, "has a length that")
        return tuple(_between(_real(v), low, high) for v in x)

    return Rule(f"a list of {n_min} to {n_max} numbers from {low:g} to {high:g}", convert)


def rows(length: int, low: float, high: float, n_min: int = 1, n_max: int = 512) -> Rule:
    """A list of n_min to n_max rows of `length` numbers, each from low to high, as a tuple of tuples; no row of zeros."""
    row = numbers(low, high, length, length)

    def convert(x):
        if not isinstance(x, list | tuple):
            raise ValueError("is not a list")
        _between(len(x), n_min, n_max, "has a length that")
        found = tuple(row.convert(r) for r in x)
        if not all(any(r) for r in found):
            raise ValueError("has a row of zeros")
        return found

    return Rule(f"{n_min} to {n_max} rows of {length} numbers from {low:g} to {high:g}, none all zero", convert)


def preset(*options: str) -> Rule:
    """How much to measure: smoke (a first look), lab (every verdict decided) or paper (published sizes)."""
    return choice(*(options or PRESETS))


def device(auto: str | None = None) -> Rule:
    """Where to compute: "auto" becomes `auto`, or if that is not given "cuda" where there is one, else "cpu"."""
    return Rule("one of " + ", ".join(DEVICES), lambda x: resolve_device(auto or x if x == "auto" else _one_of(x, DEVICES)))


def resolve_device(name: str) -> str:
    """ "cpu" or "cuda" for "auto", "cpu" or "cuda"; raises ValueError where CUDA is asked for and there is none."""
    if name == "cpu":
        return name
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise ValueError("needs an NVIDIA GPU and PyTorch sees none; use cpu or auto here")
    return "cpu"


def default_preset() -> str:
    """THERMOLAB_PRESET, else "lab"."""
    return os.environ.get("THERMOLAB_PRESET") or "lab"


def default_device() -> str:
    """THERMOLAB_DEVICE, else "auto"."""
    return os.environ.get("THERMOLAB_DEVICE") or "auto"


def default_out() -> str:
    """THERMOLAB_OUT, else "results"."""
    return os.environ.get("THERMOLAB_OUT") or "results"


def _refuse(complaint: str):
    raise ValueError(complaint)


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
