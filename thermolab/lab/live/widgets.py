"""The panel itself: sliders, buttons, charts and a read-out.

Callbacks leave plain values with the driver and do nothing else; all that is drawn is drawn from the driver's task.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from html import escape

import ipywidgets as w

from thermolab.engine.scenario import Knob
from thermolab.feedback import FORM, as_number, off
from thermolab.lab import replay
from thermolab.lab.live.board import Arm, Board, Goal, Reading, knobs_of, mark, read
from thermolab.lab.live.charts import LiveChart
from thermolab.lab.live.driver import MAX, Driver, Listener
from thermolab.lab.live.echo import Echo, answer_where_asked
from thermolab.lab.live.readout import legend, readout

KEPT = 240  # readings that the charts show: twelve seconds at full speed
STEP = 0.02  # of a logarithmic slider, in decades
CLASSES = {"batch_size": "tl-batch"}  # of knobs whose class is not their name
SPEEDS = (("1", 1.0), ("10", 10.0), ("100", 100.0), ("1k", 1e3), ("10k", 1e4), ("max", MAX))
PATIENCE = 30.0  # seconds without an answer after which nobody is looking


class Panel(Listener):
    """Controls, charts and read-out of a driver. `widget` is what is displayed."""

    def __init__(
        self,
        arms: Sequence[Arm],
        shown: Sequence,
        *,
        seed: int = 0,
        device: str = "cpu",
        devices: Sequence[str] = ("cpu",),
        speed: float = MAX,
        goals: Sequence[Goal] = (),
        ghosts: Mapping[str, Sequence[Reading]] | None = None,
    ):
        self.driver = Driver(arms, seed=seed, device=device, speed=speed)
        self.driver.listener = self
        ghosts = {**(ghosts or {}), **{_before(arm): [] for arm in arms}}
        self.board = Board(arms, [deque(maxlen=KEPT) for _ in arms], ghosts, goals)
        self.charts = [LiveChart(chart) for view in shown for chart in view.charts(self.board)]
        self._frames, self._between, self._marked, self._reached = None, False, {}, set()
        self._message, self._drawn, self.drawings, self._ran = "", 0.0, 0, False
        self.on_rest: Callable[[], None] = lambda: None  # called when a run has come to rest
        self._build(devices)
        self.changed(self.driver.state)

    # --- what the driver tells, in its task -------------------------------------------------------------------------------
    def framed(self, frames) -> None:
        self._frames, self._between = frames, False
        self.board.taken += 1
        for arm, settings, readings, frame in self._each(frames):
            readings.append(read(dataclasses.replace(arm, settings=settings), frame))
        now = time.monotonic()
        # twice a second anyway, for it may be the answers that got lost, and always where no other frame follows
        if not self._echo.late or now - self._drawn > 0.5 or self.driver.state != "running":
            self._draw()
        if now - self._echo.heard > PATIENCE and self.driver.state == "running":
            self._message = f"nobody is looking: the page has not answered for {PATIENCE:.0f} s. Press Run to go on"
            self.driver.tell("pause")

    def turned(self, knobs: dict, step: int) -> None:
        for name, value in knobs.items():
            if not self._declared()[name].view:
                self._mark(name, value, step)
        if self._frames is None:
            return
        # a reading between two frames, what was measured last with theory at the new knobs: the line jumps at once
        for run, (arm, settings, readings, frame) in zip(self.driver.runs, self._each(self._frames), strict=True):
            frame = dataclasses.replace(frame, knobs={k: _plain(v) for k, v in run.knobs.items()})
            arm = dataclasses.replace(arm, settings=settings)
            knobs, theory = knobs_of(arm, frame), arm.scenario.predict(frame, settings)
            reading = dataclasses.replace(readings[-1], step=step, knobs=knobs, theory=theory)
            if self._between:
                readings.pop()
            readings.append(reading)
        self.board.taken += not self._between
        self._between = True
        self._draw()

    def started(self) -> None:
        if self._ghost.value and len(self.board.readings[0]) > 2:
            for arm, readings in zip(self.board.arms, self.board.readings, strict=True):
                self.board.ghosts[_before(arm)] = list(readings)
        for readings in self.board.readings:
            readings.clear()
        self.board.taken, self._frames, self.board.marks, self._marked, self._message = 0, None, [], {}, ""
        self._reached = set()
        for name, value in self._values().items():
            self._show_value(name, value)
        self._told["device"] = self._device.value = self.driver.device

    def changed(self, state: str) -> None:
        self._run.disabled, self._pause.disabled = state == "running", state != "running"
        words = {
            "paused": "paused; press Run",
            "running": "running",
            "stopped": "stopped",
            "closed": "closed: run its cell again",
        }
        if state == "running":
            self._message, self._echo.heard = "", time.monotonic()
            for control in self._knobs.values():
                if isinstance(control, w.FloatLogSlider):
                    control.continuous_update = True
        elif self._frames is not None:
            self._draw()  # the last frame may have been left out
        self._say(self._message or words[state], error=state == "stopped")
        if self._ran and state != "running":
            self.on_rest()
        self._ran = state == "running"

    def failed(self, error: Exception) -> None:
        step = self.driver.runs[0].state.step
        what = str(error) if str(error) else type(error).__name__
        detail = "".join(traceback.format_exception(error))
        self._say(f"stopped at step {step}: {what.rstrip('.')}. Then press Reset", error=True, detail=detail)

    # --- drawing ----------------------------------------------------------------------------------------------------------
    def _each(self, frames):
        return zip(self.board.arms, self.driver.settings, self.board.readings, frames, strict=True)

    def _draw(self) -> None:
        for chart in self.charts:
            chart.update(self.board, whole=self.driver.state != "running")
        self._readout.value = readout(self.board, self.driver.settings, self.driver.steps_per_second)
        self._check_goals()
        self._echo.ask()
        self._drawn, self.drawings = time.monotonic(), self.drawings + 1

    def _check_goals(self) -> None:
        goals, start = self.board.goals, self.board.arms[0].settings
        self._reached |= {g.text for g in goals if any(g.reached(r, start) for r in self.board.readings)}
        rows = [f"{'✓ reached:' if g.text in self._reached else '○ goal:'} {escape(g.text)}" for g in goals]
        text = "<br>".join(rows)
        if self._goals.value != text:
            self._goals.value = text

    def _mark(self, name: str, value, step: int) -> None:
        """A line in the charts; a slider that is dragged draws one, not hundred."""
        text, now = mark(self._declared()[name], value), time.monotonic()
        marks = list(self.board.marks)
        if marks and self._marked.get(name, 0) > now - 1 and marks[-1][1].split()[0] == text.split()[0]:
            marks.pop()
        self._marked[name] = now
        self.board.marks = [*marks, (step, text)][-12:]

    def _say(self, text: str, *, error: bool = False, detail: str = "") -> None:
        colour = "var(--jp-error-color1, #b00020)" if error else "inherit"
        more = f"<details><summary>details</summary><pre>{escape(detail)}</pre></details>" if detail else ""
        self._status.value = f'<div role="status" style="color: {colour}; line-height: 1.4">{escape(text)}{more}</div>'

    # --- orders from the page, in any thread --------------------------------------------------------------------------------
    def _on_knob(self, name: str, value) -> None:
        known = self._told.get(name)
        same = value == known or (isinstance(value, float) and math.isclose(value, known, rel_tol=1e-9))
        if not same:  # sliders also report what they were just given
            self._told[name] = value
            self.driver.tell("turn", name, value)

    def _on_device(self, value: str) -> None:
        if value != self._told.get("device"):
            self._told["device"] = value
            self.driver.tell("move", value)

    def _on_speed(self, value: float) -> None:
        self.driver.speed = value
        self.driver.tell("call", lambda: None)  # only to wake it

    def _on_guess(self, _) -> None:
        name, text = self._guess_of.value, self._guess.value.strip().replace(",", ".")
        self.driver.tell("call", lambda: self._set_guess(name, text))

    def _set_guess(self, name: str, text: str) -> None:
        chart = next(c.chart for c in self.charts if c.chart.key == name)
        value, readings = as_number(text), self.board.readings[0]
        if text and value is None:
            self._say(f"your prediction {text!r} is no number: {FORM}", error=True)
            return
        if text and chart.y.log and value <= 0:
            self._say(f"{chart.y.label} has a logarithmic axis, which cannot show {text}: write a number above 0", error=True)
            return
        others = {k: v for k, v in self.board.guesses.items() if k != name}
        self.board.guesses = others | ({name: value} if text else {})
        self.changed(self.driver.state)
        theory = readings[-1].theory.get(name, math.nan) if readings else math.nan
        if text and math.isfinite(theory):
            said = "so it is" if math.isclose(value, theory, rel_tol=0.05) else off(value, theory)
            self._say(f"your prediction of {chart.y.label}, beside theory at the present knobs: {said}")

    def _save(self) -> None:
        runs = zip(self.board.arms, self.driver.built, self.driver.runs, strict=True)
        try:
            paths = [replay.save(arm.scenario.log(run, settings), arm.label) for arm, settings, run in runs]
        except OSError as error:
            self._say(f"the log was not saved: {error}", error=True)
        else:
            self._say("saved; replay with: " + "; ".join(f"thermolab replay {shlex.quote(str(path))}" for path in paths))

    # --- widgets ----------------------------------------------------------------------------------------------------------
    def _declared(self) -> dict[str, Knob]:
        """The knobs that a panel offers, of all arms."""
        return {k: knob for arm in self.board.arms for k, knob in arm.scenario.settings.items() if knob.shown}

    def _values(self) -> dict:
        """Their present values."""
        now = {k: v for settings in reversed(self.driver.settings) for k, v in settings.items()}
        return {k: now[k] for k in self._declared()}

    def _show_value(self, name: str, value) -> None:
        """Set a control without giving an order."""
        self._told[name] = self._knobs[name].value = value

    def _build(self, devices: Sequence[str]) -> None:
        self._told: dict = {"device": self.driver.device}
        orders = {
            "run": ("Run", "play"),
            "pause": ("Pause", "pause"),
            "step": ("Step", "step-forward"),
            "reset": ("Reset", "undo"),
        }
        buttons = {k: _button(text, icon, f"tl-{k}") for k, (text, icon) in orders.items()}
        for order, button in buttons.items():
            button.on_click(lambda _, order=order: self.driver.tell(order))
        self._run, self._pause = buttons["run"], buttons["pause"]
        save = _button("Save log", "download", "tl-log")
        save.on_click(lambda _: self.driver.tell("call", self._save))
        self._speed = w.SelectionSlider(
            options=SPEEDS, value=self.driver.speed, description="speed (steps/s)", style={"description_width": "initial"},
            layout={"width": "260px"},
        )  # fmt: skip
        self._speed.layout.margin = "2px 2px 2px 16px"
        self._speed.add_class("tl-speed")
        self._speed.observe(lambda change: self._on_speed(change.new), "value")
        self._device = w.Dropdown(
            options=list(devices), value=self.driver.device, description="device", layout={"width": "150px"}
        )
        self._device.add_class("tl-device")
        self._device.observe(lambda change: self._on_device(change.new), "value")
        values = self._values()
        self._knobs = {name: self._knob(name, knob, values[name]) for name, knob in self._declared().items()}
        self._echo = Echo()
        self._ghost = w.Checkbox(value=False, description="keep the run as a ghost at Reset", indent=False)
        self._ghost.add_class("tl-ghost")
        self._readout, self._status, self._goals = w.HTML(), w.HTML(), w.HTML()
        for box, name in ((self._readout, "readout"), (self._status, "status"), (self._goals, "goals")):
            box.add_class(f"tl-{name}")
        row = {"flex_flow": "row wrap", "align_items": "center", "overflow": "visible"}
        charts = w.Box([chart.figure for chart in self.charts], layout=row)
        charts.add_class("tl-chart")
        self.widget = w.VBox(
            [
                w.Box([*buttons.values(), save, self._speed, self._device], layout=row),
                w.Box(list(self._knobs.values()), layout=row),
                w.HTML(legend(self.board)),
                charts,
                self._readout,
                w.Box([*self._build_guess(), self._ghost], layout=row),
                self._goals,
                self._status,
            ],
            layout={"overflow": "visible"},
        )
        self.widget.add_class("tl-panel")
        answer_where_asked(self.widget)

    def _build_guess(self) -> list:
        names = [(c.chart.y.label, c.chart.key) for c in self.charts if c.chart.kind == "lines"]
        self._guess_of = w.Dropdown(options=names, description="I predict", layout={"width": "max-content"})
        self._guess = w.Text(placeholder="a number", continuous_update=False, layout={"width": "110px"})
        self._guess.add_class("tl-guess")
        self._guess.observe(self._on_guess, "value")
        return [self._guess_of, self._guess] if names else []

    def _knob(self, name: str, knob: Knob, value):
        """The control of a knob; its grid holds the value that it starts with."""
        look = {"description": knob.label, "style": {"description_width": "118px"}, "layout": {"width": "350px"}}
        if knob.scale == "log":
            # The grid goes through the value, so that the slider does not move it. Until the first Run it does not report
            # while it is dragged either, for it would also report when it is displayed, see Echo.
            at, low = math.log10(value or knob.low), math.log10(knob.low)
            first, last = math.ceil((low - at) / STEP), math.floor((math.log10(knob.high) - at) / STEP)
            if knob.zero:  # a place on the slider, which a logarithmic one does not have
                grid = [0.0, *((value or knob.low) * 10 ** (k * STEP) for k in range(first, last + 1))]
                control = w.SelectionSlider(options=[(f"{x:.3g}", x) for x in grid], value=value, **look)
            else:
                control = w.FloatLogSlider(
                    value=value, base=10, min=at + first * STEP, max=at + last * STEP, step=STEP, readout_format=".3g",
                    continuous_update=False, **look,
                )  # fmt: skip
        elif knob.scale == "powers of two":
            powers = {2**i for i in range(20) if knob.low <= 2**i <= knob.high}
            control = w.SelectionSlider(options=sorted({*powers, value}), value=value, **look)
        elif knob.scale == "whole":
            control = w.IntSlider(value=value, min=int(knob.low), max=int(knob.high), continuous_update=False, **look)
        elif knob.scale == "linear":
            step = (knob.high - knob.low) / 100
            control = w.FloatSlider(value=value, min=knob.low, max=knob.high, step=step, readout_format=".3g", **look)
        else:
            control = w.Dropdown(options=knob.options, value=value, **look)
        self._told[name] = control.value
        control.add_class(CLASSES.get(name, f"tl-{name}"))
        control.observe(lambda change: self._on_knob(name, change.new), "value")
        return control


def _button(text: str, icon: str, name: str) -> w.Button:
    button = w.Button(description=text, icon=icon, layout={"width": "auto"})
    button.add_class(name)
    return button


def _before(arm: Arm) -> str:
    return f"{arm.label}, run before"


def _plain(knob):
    return knob if isinstance(knob, str | int) else knob.cpu().numpy()
