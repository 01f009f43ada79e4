"""The checked parameters of a notebook.

A notebook declares its parameters once, in the cell after the one tagged `parameters`:

    p = params.check(globals(), preset=params.preset(), eta=params.number(1e-5, 1.0), eta_range=params.grid(1e-5, 1.0))

papermill itself checks nothing. The cell stops a notebook at a bad value, and `thermolab run` reads the very
same cell to stop before anything runs at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import SimpleNamespace

from thermolab.engine.rules import Rule, choice, choice_or_function, flag, grid, integer, number, power_of_two, refuse, several

__all__ = [  # with the rules of the engine, so that a notebook needs one name
    "ParameterError", "Rule", "Settings", "UserError", "check", "choice", "choice_or_function", "default_device", "default_out",
    "default_preset", "device", "flag", "grid", "integer", "number", "numbers", "power_of_two", "preset",
    "resolve_device", "rows",
]  # fmt: skip
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


def check(namespace: Mapping[str, object], **rules: Rule) -> Settings:
    """The parameters named by `rules`, taken from `namespace` (a notebook's globals()) and checked.

    Raises ParameterError, one line with name, value and what is allowed, at the first that is wrong.

    >>> check({"eta": 1, "protocol": "elr"}, eta=number(1e-5, 1.0), protocol=choice("elr", "lr"))
    Settings(eta=1.0, protocol='elr')
    """
    missing = [name for name in rules if name not in namespace]
    if missing:
        raise ParameterError(f"{missing[0]} is missing; it needs a default in the cell tagged 'parameters'")
    return Settings(**{name: checked(rule, name, namespace[name]) for name, rule in rules.items()})


def checked(rule: Rule, name: str, value):
    """The value to use for a parameter. Raises ParameterError, one line, where the rule does not allow it."""
    try:
        return rule(name, value)
    except ValueError as error:
        raise ParameterError(str(error)) from None


def numbers(low: float, high: float, n_min: int = 1, n_max: int = 512) -> Rule:
    """A list of n_min to n_max numbers, each from low to high, as a tuple of floats."""
    return several(number(low, high), n_min, n_max)


def rows(length: int, low: float, high: float, n_min: int = 1, n_max: int = 512) -> Rule:
    """A list of n_min to n_max rows of `length` numbers, each from low to high, as a tuple of tuples; no row of zeros."""
    table = several(numbers(low, high, length, length), n_min, n_max)

    def convert(x):
        found = table.convert(x)
        return found if all(any(row) for row in found) else refuse("has a row of zeros")

    return Rule(f"{n_min} to {n_max} rows of {length} numbers from {low:g} to {high:g}, none all zero", convert)


def preset(*options: str) -> Rule:
    """How much to measure: smoke (a first look), lab (every verdict decided) or paper (published sizes)."""
    return choice(*(options or PRESETS))


def device(auto: str | None = None) -> Rule:
    """Where to compute: "auto" becomes `auto`, or if that is not given "cuda" where there is one, else "cpu"."""
    known = choice(*DEVICES)
    return Rule(known.allowed, lambda x: resolve_device(auto or x if x == "auto" else known.convert(x)))


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
