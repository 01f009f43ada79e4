"""Charts as a still picture: the static twin of a live panel, drawn by matplotlib from the same views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thermolab import plots
from thermolab.lab.live.board import Board
from thermolab.lab.live.views import ROLES, Chart

DASHES = ("-", "--", "-.", ":")


def draw(charts: Sequence[Chart], board: Board) -> Figure:
    """All charts of a panel, three in a row, four in two rows."""
    columns = 2 if len(charts) == 4 else min(3, len(charts))
    figure, axes = plots.panels(len(charts), width=3.8, height=3.0, columns=columns)
    for ax, chart in zip(axes, charts, strict=True):
        _draw(ax, chart, board)
    names = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    wide = min(len(names), 4 if columns == 3 else columns)
    figure.legend(names.values(), names, loc="outside upper left", ncols=wide, fontsize="small")
    return figure


def _draw(ax: Axes, chart: Chart, board: Board) -> None:
    found = chart.points(board)
    for series, (x, y) in zip(chart.series, found, strict=True):
        colour = plots.COLOURS[series.arm % len(plots.COLOURS)]
        dash = DASHES[series.arm % len(DASHES)]
        name = f"{series.label}, {ROLES.get(series.role, '')}" if len(board.arms) > 1 else ROLES.get(series.role)
        if series.role == "heat":
            _heat(ax, chart, y)
        elif series.role == "band":
            ax.fill_between(x, *y, color=colour, alpha=0.25, linewidth=0)
        elif series.role == "measured":
            marker = plots.MARKERS[series.arm % len(plots.MARKERS)]
            ax.plot(x, y, marker, color=colour, markersize=2.5 if chart.kind == "lines" else 4, label=name)
        elif series.role == "path":
            ax.plot(x, y, dash, color=colour, linewidth=0.8, alpha=0.7)
        elif series.role == "theory" and np.isfinite(y).any():
            step = {"drawstyle": "steps-pre"} if chart.kind == "lines" else {}
            ax.plot(x, y, dash, color="0.1", linewidth=1.3, label=name, **step)
        elif series.role == "ghost" and len(x):
            ax.plot(x, y, dash, color="0.6", linewidth=1, label=series.label)
        elif series.role == "goal":
            ax.plot(x, y, color=plots.COLOURS[2], linestyle=(0, (6, 2)), linewidth=1, label="goal")
        elif series.role == "guess" and np.isfinite(y).any():
            ax.plot(x, y, color=plots.COLOURS[4], linestyle=":", linewidth=1.5, label=ROLES["guess"])
        elif series.role == "mark":
            _marks(ax, board, set(x))
    log = "".join(name for name, axis in (("x", chart.x), ("y", chart.y)) if axis.log and _positive(found, name))
    if chart.kind == "equal":
        _about_the_origin(ax)
    if chart.kind == "lines":
        ax.set_xlim(0, max([r.step for readings in board.readings for r in readings], default=1))
        ax.locator_params("x", nbins=5)
    if chart.kind != "heat":
        plots.label(ax, chart.x.label, chart.y.label, log=log, legend="")


def _positive(found: Sequence, name: str) -> bool:
    """Whether there is anything that a logarithmic axis can show."""
    values = [pair["xy".index(name)] for pair in found]
    return any(np.size(v) and (np.asarray(v) > 0).any() for v in values)


def _marks(ax: Axes, board: Board, steps: set) -> None:
    for step, text in board.turns.items():
        if step in steps:
            ax.axvline(step, color=plots.COLOURS[3], linestyle=":", linewidth=1)
            where = {"xycoords": ("data", "axes fraction"), "rotation": 90, "va": "top", "ha": "right"}
            ax.annotate(text, (step, 1), fontsize="x-small", **where)


def _about_the_origin(ax: Axes) -> None:
    reach = np.abs([*ax.get_xlim(), *ax.get_ylim()]).max()
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")


def _heat(ax: Axes, chart: Chart, matrix: np.ndarray) -> None:
    plots.heat_map(ax, matrix, chart.y.names, chart.x.names, label=chart.series[0].label, limits=chart.colours)
    ax.set(xlabel=chart.x.label, ylabel=chart.y.label)
