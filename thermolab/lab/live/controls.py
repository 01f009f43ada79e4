"""The widgets of a panel and how they are arranged. What they do is told to `widgets.Panel`, in whatever thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import ipywidgets as w

from thermolab.engine.scenario import Knob
from thermolab.lab.live import readout
from thermolab.lab.live.board import Board
from thermolab.lab.live.charts import LiveChart
from thermolab.lab.live.driver import MAX
from thermolab.lab.live.echo import answer_where_asked
from thermolab.lab.live.knobs import Control
from thermolab.lab.live.page import page

SPEEDS = (("1", 1.0), ("10", 10.0), ("100", 100.0), ("1k", 1e3), ("10k", 1e4), ("max", MAX))
ORDERS = {
    "run": ("Run", "play"),
    "pause": ("Pause", "pause"),
    "step": ("Step", "step-forward"),
    "reset": ("Reset", "fast-backward"),
    "undo": ("Undo", "undo"),
    "keep": ("Keep state", "thumb-tack"),
}
ROW = {"flex_flow": "row wrap", "align_items": "center", "overflow": "visible"}


class Controls:
    """All widgets of a panel; `widget` is what is displayed.

    order(name) is called for a button, turn and refuse for a knob (`knobs.Control`), told(name, value) for all others: "speed",
    "device", "back" (the number of a kept state), "guess" (None), "look" (what the page says).
    """

    def __init__(
        self,
        board: Board,
        charts: Sequence[LiveChart],
        declared: Mapping[str, Knob],
        values: Mapping,
        *,
        order: Callable,
        turn: Callable,
        refuse: Callable,
        told: Callable,
        devices: Sequence[str],
        device: str,
        speed: float,
    ):
        self.knobs = {name: Control(name, knob, values[name], turn, refuse) for name, knob in declared.items()}
        self.buttons = {name: _button(*look, name, order) for name, look in ORDERS.items()}
        log, save = _button("Save log", "download", "log", order), _button("Picture, data", "picture-o", "save", order)
        table = _button("As a table", "table", "text", order)
        self.speed = w.SelectionSlider(options=SPEEDS, value=speed, description="speed (steps/s)", layout={"width": "300px"})
        self.device = w.Dropdown(options=list(devices), value=device, description="device", layout={"width": "max-content"})
        self.back = w.Dropdown(options=[("…", None)], description="back to", layout={"width": "max-content"})
        self.look = w.Text(continuous_update=False)  # written by page.js, seen by nobody
        for name in ("speed", "device", "back", "look"):
            control = getattr(self, name)
            control.style.description_width = "initial"
            control.add_class(f"tl-{name}")
            control.observe(lambda change, name=name: told(name, change.new), "value")
        self.back.layout.display = "none"
        self.ghost = _box("ghost", "keep the run as a ghost at Reset")
        self.beside = _box("beside", "let other panels run")
        self.readout, self.status, self.goals, self.table = (_html(name) for name in ("readout", "status", "goals", "table"))
        drawn = w.Box([chart.figure for chart in charts], layout={"overflow": "visible"})
        drawn.add_class("tl-chart")
        rows = [
            _row("orders", [*self.buttons.values(), self.back, self.speed, self.device]),
            _row("knobs", [control.widget for control in self.knobs.values()]),
            w.HTML(readout.without(board)),
            self.goals,
            w.HTML(readout.legend(board)),
            drawn,
            self.readout,
            _row("more", [*self._guesses(charts, told), self.ghost, self.beside, log, save, table]),
            self.status,
            self.table,
        ]
        self.widget = w.VBox([*rows, self.look, page()], layout={"overflow": "visible"})
        self.widget.add_class("tl-panel")
        answer_where_asked(self.widget)

    def _guesses(self, charts: Sequence[LiveChart], told: Callable) -> list:
        names = [(c.chart.y.label, c.chart.key) for c in charts if c.chart.kind == "lines"]
        self.guess_of = w.Dropdown(options=names, description="I predict", layout={"width": "max-content"})
        self.guess = w.Text(placeholder="a number", continuous_update=False, layout={"width": "110px"})
        self.guess.add_class("tl-guess")
        self.guess.observe(lambda change: told("guess", None), "value")
        return [self.guess_of, self.guess] if names else []

    def offer(self, states: Sequence[str]) -> None:
        """The kept states to which one can return."""
        self.back.options = [("…", None), *((text, i) for i, text in enumerate(states))]
        self.back.layout.display = None if states else "none"

    def at(self, state: str) -> None:
        """Which buttons have nothing to do is seen, but they keep the keyboard's focus."""
        for name, off in (("run", state == "running"), ("pause", state != "running")):
            (self.buttons[name].add_class if off else self.buttons[name].remove_class)("tl-off")


def _button(text: str, icon: str, name: str, order: Callable) -> w.Button:
    button = w.Button(description=text, icon=icon, layout={"width": "auto"})
    button.add_class(f"tl-{name}")
    button.on_click(lambda _: order(name))
    return button


def _box(name: str, text: str) -> w.Checkbox:
    box = w.Checkbox(value=False, description=text, indent=False, layout={"width": "max-content"})
    box.add_class(f"tl-{name}")
    return box


def _html(name: str) -> w.HTML:
    text = w.HTML()
    text.add_class(f"tl-{name}")
    return text


def _row(name: str, widgets: Sequence) -> w.Box:
    row = w.Box(widgets, layout=ROW)
    row.add_class(f"tl-{name}")
    return row
