"""Views turn the readings on a board into charts, as data, and know nothing of how they are drawn.

A view is declared once in a notebook. Its charts are drawn live by `charts` (bqplot) and still by `figures`
(matplotlib), both from the same `Board`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from thermolab.lab.live.board import Arm, Board, read  # noqa: F401

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
    """The path of two observables in their plane, its last point marked. curve(board) -> (x, y): theory behind it.

    equal: one scale on both axes, about the origin.
    """

    def __init__(self, x: str, y: str, *, equal: bool = False, curve: Curve | None = None):
        self.x, self.y, self.equal, self.curve = x, y, equal, curve

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

        return [_plane(self.x, self.y, board, series, points, "equal" if self.equal else "plane")]


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
