"""What a panel shows, as data: the readings of its runs, ghosts of former ones, goals, predictions and turned knobs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from thermolab.engine.experiment import Frame
from thermolab.engine.scenario import Knob, Scenario
from thermolab.lab.live.axes import steps_window


@dataclass(frozen=True)
class Arm:
    """One experiment of a panel: its name there, the scenario and the settings that it starts with."""

    label: str
    scenario: Scenario
    settings: Mapping[str, object]


@dataclass(frozen=True)
class Reading:
    """A frame as people read it. values: {name: array}; means: {name: (mean, standard error or nan)}; theory: {name: number}."""

    step: int
    knobs: Mapping[str, float | str]
    values: Mapping[str, np.ndarray]
    means: Mapping[str, tuple[float, float]]
    theory: Mapping[str, float]


def read(arm: Arm, frame: Frame) -> Reading:
    """The reading of a frame: the mean over replicas with its standard error, and theory beside it."""
    values = arm.scenario.read(frame, arm.settings)
    means = {}
    for name in values:
        v = np.asarray(values[name], float).ravel()
        v = v[np.isfinite(v)]
        error = v.std(ddof=1) / math.sqrt(v.size) if v.size > 1 else math.nan
        if f"{name}_error" in values:
            error = float(np.mean(values[f"{name}_error"]))
        means[name] = (v.mean() if v.size else math.nan, error)
    return Reading(frame.step, knobs_of(arm, frame), values, means, arm.scenario.predict(frame, arm.settings))


def knobs_of(arm: Arm, frame: Frame) -> dict[str, float | str]:
    """The knobs of a frame, and those of the view beside them."""
    view = {name: arm.settings[name] for name, knob in arm.scenario.settings.items() if knob.view}
    return {name: frame.knob(name) for name in frame.knobs} | view


@dataclass(frozen=True)
class Goal:
    """Something to reach: `observable` at `target`, the knobs `fixed` where they were at the start.

    way: "near", within `within` (relative), "at least" or "at most".
    """

    text: str
    observable: str
    target: float
    within: float = 0.1
    fixed: tuple[str, ...] = ()
    way: str = "near"

    def __post_init__(self):
        if self.way not in ("near", "at least", "at most"):
            raise ValueError(f"way={self.way!r} is unknown; allowed: near, at least, at most")

    def reached(self, readings: Sequence[Reading], start: Mapping[str, object], least: int = 20) -> bool:
        """Whether it stays there: both halves of the last `least` readings, all taken with the fixed knobs as they were."""
        last = list(readings)[-least:]
        if len(last) < least or self.observable not in last[-1].means:
            return False
        held = all(r.knobs[k] == start[k] for r in last for k in self.fixed)
        halves = [np.mean([r.means[self.observable][0] for r in half]) for half in (last[: least // 2], last[least // 2 :])]
        return held and all(self._there(mean) for mean in halves)

    def _there(self, mean: float) -> bool:
        if self.way == "near":
            return abs(mean - self.target) <= self.within * abs(self.target)
        return mean >= self.target if self.way == "at least" else mean <= self.target

    def moved(self, present: Mapping[str, object], start: Mapping[str, object]) -> list[str]:
        """The fixed knobs that are not where they were at the start: while one is not, the goal cannot be reached."""
        return [name for name in self.fixed if present.get(name, start[name]) != start[name]]


@dataclass
class Board:
    """All that views draw from.

    readings: for each arm, in order of steps. ghosts: {label: readings of a recorded run}. guesses: {observable: the student's
    number}. marks: [(step, text)] where a knob was turned.
    """

    arms: Sequence[Arm]
    readings: Sequence[Sequence[Reading]]
    ghosts: Mapping[str, Sequence[Reading]] = field(default_factory=dict)
    goals: Sequence[Goal] = ()
    guesses: Mapping[str, float] = field(default_factory=dict)
    marks: Sequence[tuple[int, str]] = ()
    taken: int = 0

    @property
    def window(self) -> tuple[float, float]:
        """Limits of an axis of steps that holds all readings. They move seldom: less to draw, and less to send."""
        ends = [r.step for readings in self.readings if readings for r in (readings[0], readings[-1])] or [0, 1]
        return steps_window(min(ends), max(ends))

    @property
    def turns(self) -> dict[int, str]:
        """{step: what was turned there}; of knobs turned in one pause all the last values."""
        texts: dict[int, dict] = {}
        for step, text in self.marks:
            texts.setdefault(step, {})[text.split()[0]] = text
        return {step: ", ".join(last.values()) for step, last in texts.items()}

    def some(self, readings: Sequence, most: int = 32) -> np.ndarray:
        """Which of them are drawn as markers: the newest, and every k-th, the same ones again when the first are dropped."""
        n = len(readings)
        stride = max(1, -(-n // most))
        every = np.arange(-max(0, self.taken - n) % stride, n, stride)
        return every if not n or (every.size and every[-1] == n - 1) else np.append(every, n - 1)


def mark(knob: Knob, value) -> str:
    """What stands beside the line where a knob was turned: its symbol, the last word of its label, and the new value.

    >>> mark(Knob("learning rate η"), 0.1)
    'η 0.1'
    """
    return f"{knob.symbol} {value if isinstance(value, str) else format(value, '.3g')}"
