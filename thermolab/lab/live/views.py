"""What a panel shows, as data: views turn the readings of runs into charts, and know nothing of how they are drawn.

A view is declared once in a notebook. Its charts are drawn live by `charts` (bqplot) and still by `figures`
(matplotlib), both from the same `Board`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

from thermolab.engine.experiment import Frame
from thermolab.engine.scenario import Knob, Scenario

# how a series is drawn, and what the legend calls it
ROLES = {
    "band": "two standard errors",
    "measured": "measured",
    "theory": "theory at the present knobs",
    "ghost": "recorded run",
    "goal": "goal",
    "guess": "your prediction",
    "mark": "a knob was turned",
}


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
    """Something to reach: `observable` within `within` (relative) of `target`, the knobs `fixed` where they were at the start."""

    text: str
    observable: str
    target: float
    within: float = 0.1
    fixed: tuple[str, ...] = ()

    def reached(self, readings: Sequence[Reading], start: Mapping[str, object], least: int = 20) -> bool:
        """Whether it stays there: both halves of the last `least` readings, all taken with the fixed knobs as they were."""
        last = list(readings)[-least:]
        if len(last) < least or self.observable not in last[-1].means:
            return False
        held = all(r.knobs[k] == start[k] for r in last for k in self.fixed)
        halves = [np.mean([r.means[self.observable][0] for r in half]) for half in (last[: least // 2], last[least // 2 :])]
        return held and all(abs(mean - self.target) <= self.within * abs(self.target) for mean in halves)


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


@dataclass(frozen=True)
class Axis:
    """Its label with unit, whether it is logarithmic, and the names of its ticks where it counts things."""

    label: str
    log: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """One thing in a chart: its label, its role (see ROLES), the number of its arm or ghost: colour, marker and dash."""

    label: str
    role: str
    arm: int = 0


@dataclass(frozen=True)
class Chart:
    """One set of axes. points(board) gives (x, y) for each series, in order: y [2, n] for a band, [n] otherwise.

    kind: "lines" (y against steps), "plane", "equal" (a plane with one scale, about the origin) or "heat", whose only
    series is a matrix, given as (None, matrix), coloured from the lower to the upper of `colours`.
    """

    key: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    points: Callable[[Board], list]
    kind: str = "lines"
    colours: tuple[float, float] = (0.0, 1.0)


Curve = Callable[[Board], tuple[np.ndarray, np.ndarray]]


def _shared(arms: Sequence[Arm], name: str):
    """The declared observable of this name, from the first arm that has it."""
    for arm in arms:
        if name in arm.scenario.observables:
            return arm.scenario.observables[name]
    known = sorted({g for arm in arms for g in arm.scenario.observables})
    raise ValueError(f"{name} is no observable of {', '.join(a.label for a in arms)}; allowed: {', '.join(known)}")


def _plane(x: str, y: str, board: Board, series: Sequence[Series], points: Callable[[Board], list], kind: str) -> Chart:
    """A chart of one observable against another."""
    axes = [Axis(observable.label, observable.log) for observable in (_shared(board.arms, name) for name in (x, y))]
    return Chart(f"{x}-{y}", *axes, tuple(series), points, kind)


class Lines:
    """Observables against steps, a chart each: measurement with its band, theory, goals, ghosts and the student's prediction."""

    def __init__(self, *names: str):
        self.names = names

    def charts(self, board: Board) -> list[Chart]:
        """One chart for each observable."""
        return [self._chart(name, board) for name in self.names]

    def _chart(self, name: str, board: Board) -> Chart:
        observable = _shared(board.arms, name)
        series = []
        for i, arm in enumerate(board.arms):
            series += [Series(arm.label, role, i) for role in ("band", "measured", "theory")]
        series += [Series(label, "ghost", i) for i, label in enumerate(board.ghosts)]
        series += [Series(goal.text, "goal") for goal in board.goals if goal.observable == name]
        series += [Series("your prediction", "guess"), Series("knob", "mark")]

        def points(board: Board) -> list:
            out, across = [], np.array(board.window, float)
            for readings in board.readings:
                x = np.array([r.step for r in readings], float)
                mean, error = np.array([r.means.get(name, (math.nan,) * 2) for r in readings]).reshape(-1, 2).T
                theory = np.array([r.theory.get(name, math.nan) for r in readings])
                some = board.some(readings)
                at, mean, error = x[some], mean[some], error[some]
                there, known, low = np.isfinite(mean), np.isfinite(mean + error), mean - 2 * error
                if observable.log:
                    low = np.where(low > 0, low, mean / 10)
                band = np.stack([low, mean + 2 * error])
                out += [(at[known], band[:, known]), (at[there], mean[there]), corners(x, theory, across)]
            for readings in board.ghosts.values():
                x = np.array([r.step for r in readings], float)
                out.append((x, np.array([r.means.get(name, (math.nan,))[0] for r in readings])))
            out += [(across, np.full(2, goal.target)) for goal in board.goals if goal.observable == name]
            out.append((across, np.full(2, board.guesses.get(name, math.nan))))
            first = min((readings[0].step for readings in board.readings if readings), default=0)
            out.append((np.array([step for step in board.turns if step >= first], float), np.zeros(0)))
            return out

        return Chart(name, Axis("step"), Axis(observable.label, observable.log), tuple(series), points)


def corners(x: np.ndarray, y: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A line of steps by its corners alone, from one end of the axis to the other: theory holds until a knob is turned.

    >>> corners(np.arange(5.0), np.array([1.0, 1, 1, 2, 2]), np.array([0.0, 9.0]))
    (array([0., 2., 3., 9.]), array([1., 1., 2., 2.]))
    """
    if not x.size:
        return x, y
    jump = (y[1:] != y[:-1]) & ~(np.isnan(y[1:]) & np.isnan(y[:-1]))
    kept = np.concatenate([jump, [True]]) | np.concatenate([[True], jump])
    x = x.copy()
    x[-1] = max(x[-1], across[1])
    x[0] = min(x[0], across[0]) if x.size > 1 else x[0]
    return x[kept], y[kept]


class Scatter:
    """Two observables against each other in the last frame, a point each: replicas, neurons. curve(board) -> (x, y): theory.

    x, y: names of observables; equal: one scale on both axes, about the origin.
    """

    def __init__(self, x: str, y: str, *, equal: bool = False, curve: Curve | None = None):
        self.x, self.y, self.equal, self.curve = x, y, equal, curve

    def charts(self, board: Board) -> list[Chart]:
        """One chart."""
        theory = [Series("theory", "theory")] if self.curve else []
        series = [*theory, *(Series(arm.label, "measured", i) for i, arm in enumerate(board.arms))]

        def points(board: Board) -> list:
            out = [self.curve(board)] if self.curve else []
            for readings in board.readings:
                values = readings[-1].values if readings else {}
                out.append(tuple(np.ravel(values.get(name, np.zeros(0))) for name in (self.x, self.y)))
            return out

        return [_plane(self.x, self.y, board, series, points, "equal" if self.equal else "plane")]


class Trajectory:
    """The path of two observables in their plane, its last point marked. curve(board) -> (x, y): theory behind it."""

    def __init__(self, x: str, y: str, *, curve: Curve | None = None):
        self.x, self.y, self.curve = x, y, curve

    def charts(self, board: Board) -> list[Chart]:
        """One chart."""
        series = [Series("theory", "theory")] if self.curve else []
        for i, arm in enumerate(board.arms):
            series += [Series(arm.label, "path", i), Series(arm.label, "measured", i)]

        def points(board: Board) -> list:
            out = [self.curve(board)] if self.curve else []
            for readings in board.readings:
                x, y = (np.array([r.means.get(name, (math.nan,))[0] for r in readings]) for name in (self.x, self.y))
                out += [(x, y), (x[-1:], y[-1:])]
            return out

        return [_plane(self.x, self.y, board, series, points, "plane")]


class Sphere:
    """The unit sphere with the path of the first replica and the last places of all, to be turned by hand.

    x, y, z: names of observables; azimuth, elevation: names of the settings, knobs of the view in degrees, that turn it.
    What lies behind is left out, so that the eye sees which way the sphere is round.
    """

    def __init__(self, x: str = "x", y: str = "y", z: str = "z", *, azimuth: str = "azimuth", elevation: str = "elevation"):
        self.names, self.angles = (x, y, z), (azimuth, elevation)

    def charts(self, board: Board) -> list[Chart]:
        """One chart."""
        series = [Series("the sphere and its equator", "ghost")] * 2
        for i, arm in enumerate(board.arms):
            series += [Series(arm.label, "path", i), Series(arm.label, "measured", i)]

        def points(board: Board) -> list:
            turn = np.linspace(0, 2 * math.pi, 61)
            latest = next((readings[-1].knobs for readings in board.readings if readings), {})
            seen = self._seen_from(*(math.radians(float(latest.get(name, 0.0))) for name in self.angles))
            out = [(np.cos(turn), np.sin(turn)), seen(np.stack([np.cos(turn), np.sin(turn), 0 * turn]))]
            for readings in board.readings:
                places = [[np.ravel(r.values[name]) for name in self.names] for r in readings]
                out.append(seen(np.array([[axis[0] for axis in place] for place in places]).reshape(-1, 3).T))
                out.append(seen(np.array(places[-1] if places else np.zeros((3, 0))), cut=True))
            return out

        return [Chart("sphere", Axis("across, as seen"), Axis("up, as seen"), tuple(series), points, "equal")]

    @staticmethod
    def _seen_from(azimuth: float, elevation: float) -> Callable:
        """A function from places [3, n] to what is seen of them, (across, up); behind is NaN, or left out."""
        a, b, c, d = math.cos(azimuth), math.sin(azimuth), math.cos(elevation), math.sin(elevation)

        def seen(places: np.ndarray, cut: bool = False) -> tuple[np.ndarray, np.ndarray]:
            x, y, z = places
            across, up, near = a * y - b * x, c * z - d * (a * x + b * y), d * z + c * (a * x + b * y)
            front = near >= 0
            if cut:
                return across[front], up[front]
            return np.where(front, across, math.nan), np.where(front, up, math.nan)

        return seen


class HeatMap:
    """An observable that is a matrix [rows, columns], in the last frame of the first experiment."""

    def __init__(self, name: str, *, rows: Sequence[str], columns: Sequence[str], limits: tuple[float, float], x: str, y: str):
        self.name, self.rows, self.columns, self.limits, self.x, self.y = name, rows, columns, limits, x, y

    def charts(self, board: Board) -> list[Chart]:
        """One chart."""

        def points(board: Board) -> list:
            shape = (len(self.rows), len(self.columns))
            readings = board.readings[0]
            return [(None, np.reshape(readings[-1].values[self.name], shape) if readings else np.full(shape, math.nan))]

        x, y = Axis(self.x, names=tuple(self.columns)), Axis(self.y, names=tuple(self.rows))
        series = (Series(_shared(board.arms, self.name).label, "heat"),)
        return [Chart(self.name, x, y, series, points, "heat", self.limits)]


def mark(knob: Knob, value) -> str:
    """What stands beside the line where a knob was turned: its symbol, the last word of its label, and the new value.

    >>> mark(Knob("learning rate η"), 0.1)
    'η 0.1'
    """
    return f"{knob.label.split()[-1]} {value if isinstance(value, str) else format(value, '.3g')}"


LEAST = 1e-290  # on a logarithmic axis; smaller ones leave no room for limits below them


def limits(values: Sequence[np.ndarray], log: bool, before: tuple[float, float] | None = None) -> tuple[float, float]:
    """Limits of an axis that hold all finite values with room to spare.

    The limits of `before` are kept while the values fit and fill at least a third of them: an axis must not flicker.
    """
    v = np.concatenate([np.zeros(0), *(np.ravel(x) for x in values)])
    v = v[np.isfinite(v) & ((v > LEAST) | (not log))]
    if not v.size:
        return before or ((0.1, 1.0) if log else (0.0, 1.0))
    v = np.log10(v) if log else v
    low, high = float(v.min()), float(v.max())
    if before is not None:
        b = np.log10(before) if log else before
        if b[0] <= low and high <= b[1] and high - low > (b[1] - b[0]) / 3:
            return before
    least = 0.2 if log else max(1e-9, 0.1 * max(abs(low), abs(high)))
    room = max(high - low, least) * 0.25
    middle = (low + high) / 2
    half = max((high - low) / 2, least / 2) + room
    low, high = middle - half, middle + half
    return (10 ** max(low, -300.0), 10**high) if log else (low, high)


def steps_window(first: float, last: float) -> tuple[float, float]:
    """Limits of an axis of steps, in round numbers: they move in jumps, so that the ticks stand still in between.

    >>> steps_window(130, 2210)
    (0, 3000)
    """
    span = max(last - first, 1.0)
    unit = 10 ** math.floor(math.log10(span / 2))
    unit *= next(m for m in (1, 2, 5, 10) if span / (m * unit) <= 5)
    return math.floor(first / unit) * unit, (math.floor(last / unit) + 1) * unit


def ticks(low: float, high: float, log: bool, n: int = 4) -> list[float]:
    """Round numbers within the limits, about n of them.

    >>> ticks(0.0, 1.0, False), ticks(0.01, 0.3, True)
    ([0.0, 0.25, 0.5, 0.75, 1.0], [0.01, 0.02, 0.05, 0.1, 0.2])
    """
    if not log:
        found = MaxNLocator(n, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    else:
        decades = math.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
        found = LogLocator(subs=subs, numticks=n + 4).tick_values(low, high)
        if decades < 0.5:
            found = MaxNLocator(n, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    inside = [float(t) for t in found if low * (1 - 1e-9) <= t <= high * (1 + 1e-9) or (not log and low <= t <= high)]
    return [float(f"{t:.6g}") for t in inside]
