"""Charts that move: drawn once by bqplot, then only their numbers change.

Colours, sizes and limits are set here and nowhere else. The ground is white in both themes of JupyterLab, as that of
the still figures is.
"""

from __future__ import annotations

import bqplot
import numpy as np

from thermolab import plots
from thermolab.lab.live import axes
from thermolab.lab.live.board import Board
from thermolab.lab.live.views import Chart, Series

MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
DASHES = ("solid", "dashed", "dash_dotted", "dotted")
INK, GREY = "#1a1a1a", "#999999"
HEIGHTS = {"equal": 260, "heat": 260}  # pixels, of others 210; the page gives the width, see page.css
MARGIN = {"top": 12, "bottom": 40, "left": 78, "right": 12}
# of the whole figure: width over height where one unit is as long across as up
ROUND = 1 + (MARGIN["left"] + MARGIN["right"] - MARGIN["top"] - MARGIN["bottom"]) / HEIGHTS["equal"]
DARK, BRIGHT = "#9d8fd0", "#fde725"  # of a heat map: black numbers stand out from both
NOTHING = np.full(2, 0.5)  # on any scale at once


class LiveChart:
    """One chart as a bqplot figure: `figure` is the widget, `update` moves it."""

    def __init__(self, chart: Chart):
        self.chart, self._limits, self._times = chart, {"x": None, "y": None}, 0
        heat = chart.kind == "heat"
        self._scales = {k: self._scale(k, heat) for k in ("x", "y")}
        self._axes = {k: self._axis(k) for k in ("x", "y")}
        self._marks = [self._mark(series) for series in chart.series]
        self._words, self._written = self._label(), None
        square = {"min_aspect_ratio": ROUND, "max_aspect_ratio": ROUND, "padding_y": 0} if chart.kind == "equal" else {}
        self.figure = bqplot.Figure(
            marks=[*self._marks, *self._words], axes=list(self._axes.values()), fig_margin=MARGIN, animation_duration=0,
            layout={"height": f"{HEIGHTS.get(chart.kind, 210)}px"}, background_style={"fill": "white"}, display_toolbar=False,
            **square,
        )  # fmt: skip

    def update(self, board: Board, whole: bool = True) -> None:
        """Draw the board: at most one message for each series that changed, and for limits that moved.

        whole: bands too; else they follow at every second time, for a page draws each series for itself.
        """
        found = self.chart.points(board)
        if self.chart.kind == "heat":
            self._marks[0].color = np.nan_to_num(found[0][1])
            return
        self._move_limits(board, found)
        self._times += 1
        for series, mark, (x, y) in zip(self.chart.series, self._marks, found, strict=True):
            if series.role == "mark":
                self._write(board, x)
                x, y = np.repeat(x, 2).reshape(-1, 2), np.tile(self._limits["y"], (len(x), 1))
            if series.role == "band" and mark.visible and self._times % 2 and not whole:
                continue
            if np.size(y) and np.isfinite(y).any():
                with mark.hold_sync():
                    mark.x, mark.y, mark.visible = np.asarray(x, float), np.asarray(y, float), True
            elif mark.visible:
                mark.visible = False

    def _write(self, board: Board, steps: np.ndarray) -> None:
        """What was turned, beside the lines; only when there is a new one."""
        top = self._limits["y"][1]
        wanted = top, [text for step, text in board.turns.items() if step in steps]
        if wanted == self._written:
            return
        self._written, (words,) = wanted, self._words
        with words.hold_sync():
            words.visible = bool(len(steps))
            if len(steps):
                words.x, words.y, words.text = steps, np.full(len(steps), top), np.array(wanted[1])

    def _move_limits(self, board: Board, found) -> None:
        pairs = list(zip(self.chart.series, found, strict=True))
        xs, ys = zip(*(xy for series, xy in pairs if series.role != "mark"), strict=True)
        if self.chart.kind == "equal":
            values = np.concatenate([np.zeros(0), *(np.ravel(v) for v in (*xs, *ys))])
            values = np.abs(values[np.isfinite(values)])  # what lies behind a sphere has no place
            reach = float(values.max()) if values.size else 1.0
            low, high = axes.limits([np.array([-reach, reach])], False, self._limits["x"])
            wanted = {"x": (low, high), "y": (low, high)}
        else:
            if self.chart.kind == "lines":
                wanted = {"x": board.window}
                ys = [y for series, (_, y) in pairs if series.role not in ("mark", "ghost")]
                ghosts = [y[(board.window[0] <= x) & (x <= board.window[1])] for s, (x, y) in pairs if s.role == "ghost"]
                ys += axes.within_reach(ghosts, ys, self.chart.y.log)
                wanted["y"] = axes.limits(ys, self.chart.y.log, self._limits["y"])
            else:
                found = {"x": (xs, self.chart.x.log), "y": (ys, self.chart.y.log)}
                wanted = {k: axes.limits(values, log, self._limits[k]) for k, (values, log) in found.items()}
        for k, (low, high) in wanted.items():
            if (low, high) != self._limits[k]:
                self._limits[k] = (low, high)
                with self._scales[k].hold_sync():
                    self._scales[k].min, self._scales[k].max = float(low), float(high)
                log = getattr(self.chart, k).log
                with self._axes[k].hold_sync():
                    self._axes[k].tick_values = axes.ticks(low, high, log)
                    if log:  # 0.000001 would run into the label of the axis
                        self._axes[k].tick_format = "~e" if low < 1e-3 else "~g"

    def _label(self) -> list:
        if not any(series.role == "mark" for series in self.chart.series):
            return []
        scales = {k: self._scales[k] for k in ("x", "y")}
        look = {"default_size": 10, "rotate_angle": -90, "align": "end", "font_weight": "normal", "x_offset": -9, "y_offset": 4}
        empty = {"x": NOTHING[:1], "y": NOTHING[:1], "text": np.array([""])}
        return [bqplot.Label(scales=scales, colors=[INK], visible=False, **empty, **look)]

    def _scale(self, k: str, heat: bool):
        if heat:
            return bqplot.OrdinalScale(reverse=k == "y")  # the first row is on top
        log = getattr(self.chart, k).log
        return bqplot.LogScale(min=0.1, max=1.0) if log else bqplot.LinearScale(min=0.0, max=1.0)

    def _axis(self, k: str) -> bqplot.Axis:
        axis = getattr(self.chart, k)
        format = "~s" if k == "x" and self.chart.kind == "lines" else "~g"
        up = {"orientation": "vertical", "label_offset": "64px"} if k == "y" else {"label_offset": "30px"}
        return bqplot.Axis(
            scale=self._scales[k], label=axis.label + self._colours(k), label_color=INK, color=INK, grid_lines="none",
            tick_format="" if axis.names else format, tick_style={"font-size": "11px", "fill": INK}, **up,
        )  # fmt: skip

    def _colours(self, k: str) -> str:
        """What the colours of a heat map mean, beneath it: a colour bar of bqplot has no room here."""
        if k == "y" or self.chart.kind != "heat":
            return ""
        return "  (dark {:g}, bright {:g})".format(*self.chart.colours)

    def _mark(self, series: Series):
        scales = {k: self._scales[k] for k in ("x", "y")}
        colour = plots.COLOURS[series.arm % len(plots.COLOURS)]
        dash = DASHES[series.arm % len(DASHES)]
        if series.role == "heat":
            low, high = self.chart.colours
            self._scales["color"] = bqplot.ColorScale(min=low, max=high, colors=[DARK, BRIGHT])
            names = [np.array(getattr(self.chart, k).names) for k in ("x", "y")]
            matrix = np.zeros((len(names[1]), len(names[0])))
            scales = {"row": scales["y"], "column": scales["x"], "color": self._scales["color"]}
            room = {"display_format": ".3f", "font_style": {"font-size": "10px"}} if len(names[0]) < 9 else {}
            return bqplot.GridHeatMap(row=names[1], column=names[0], color=matrix, scales=scales, **room)
        if series.role == "measured":
            marker = MARKERS[series.arm % len(MARKERS)]
            look = {"scales": scales, "colors": [colour], "marker": marker}
            if self.chart.kind == "lines":  # one element of the page each; a point of Scatter is three
                return bqplot.Lines(x=NOTHING, y=NOTHING, visible=False, stroke_width=0, marker_size=10, **look)
            return bqplot.Scatter(x=NOTHING, y=NOTHING, default_size=24, **look)
        look = {
            "band": {"colors": [colour], "fill": "between", "fill_colors": [colour], "fill_opacities": [0.25], "stroke_width": 0},
            "path": {"colors": [colour], "stroke_width": 1, "line_style": dash},
            "theory": {"colors": [INK], "stroke_width": 1.5, "line_style": dash},
            "ghost": {"colors": [GREY], "stroke_width": 1.5, "line_style": dash},
            "goal": {"colors": [plots.COLOURS[2]], "stroke_width": 1.5, "line_style": "dashed"},
            "guess": {"colors": [plots.COLOURS[4]], "stroke_width": 2, "line_style": "dotted"},
            "mark": {"colors": [plots.COLOURS[3]], "stroke_width": 1, "line_style": "dotted"},
        }[series.role]
        start = np.stack([NOTHING, NOTHING]) if series.role == "band" else NOTHING
        step = {"interpolation": "step-before"} if series.role == "theory" and self.chart.kind == "lines" else {}
        return bqplot.Lines(x=NOTHING, y=start, scales=scales, visible=False, **look, **step)
