"""The panel itself: what its controls order, and what it shows of a run.

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

from thermolab.engine.experiment import DivergenceError
from thermolab.engine.scenario import Knob
from thermolab.feedback import FORM, as_number, off
from thermolab.lab import replay
from thermolab.lab.live import advice, files
from thermolab.lab.live import readout as texts
from thermolab.lab.live.board import Arm, Board, Goal, Reading, knobs_of, mark, read
from thermolab.lab.live.charts import LiveChart
from thermolab.lab.live.controls import Controls
from thermolab.lab.live.driver import MAX, Driver, Listener
from thermolab.lab.live.echo import Echo
from thermolab.lab.live.knobs import Control

KEPT = 240  # readings that the charts show: twelve seconds at full speed
PATIENCE = 30.0  # seconds without an answer after which nobody is looking
WORDS = {"paused": "paused; press Run", "running": "running", "stopped": "stopped", "closed": "closed: run its cell again"}


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
        self._message, self._drawn, self.drawings, self._ran, self._away = "", 0.0, 0, False, False
        self._states: list[tuple] = []  # of the kept states: readings and marks
        self.on_rest: Callable[[], None] = lambda: None  # called when a run has come to rest
        self.on_run: Callable[[], None] = lambda: None  # and when one begins or goes on
        self._device, self._echo = device, Echo()
        self._controls = Controls(
            self.board, self.charts, self._declared(), self._values(), order=self._on_order, turn=self._on_knob,
            refuse=self._on_refused, told=self._on_told, devices=devices, device=device, speed=speed,
        )  # fmt: skip
        self.widget = self._controls.widget
        self.changed(self.driver.state)

    @property
    def beside(self) -> bool:
        """Whether this panel and others may run at once."""
        return self._controls.beside.value

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
            self._leave(f"nobody is looking: the page has not answered for {PATIENCE:.0f} s. Press Run to go on")

    def turned(self, knobs: dict, step: int) -> None:
        for name, value in knobs.items():
            self._controls.knobs[name].follow(value)
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

    def placed(self, knobs: dict) -> None:
        for name, value in knobs.items():
            self._controls.knobs[name].show(value)

    def started(self) -> None:
        if self._controls.ghost.value and len(self.board.readings[0]) > 2:
            for arm, readings in zip(self.board.arms, self.board.readings, strict=True):
                self.board.ghosts[_before(arm)] = list(readings)
        for readings in self.board.readings:
            readings.clear()
        self.board.taken, self._frames, self.board.marks, self._marked, self._message = 0, None, [], {}, ""
        self._reached = set()
        self._show_values()

    def kept(self) -> None:
        readings, step = [list(r) for r in self.board.readings], self.driver.runs[0].state.step
        self._states.append((readings, list(self.board.marks), self.board.taken, set(self._reached)))
        text = ", ".join(mark(knob, self._values()[name]) for name, knob in self._declared().items() if not knob.view)
        self._controls.offer([*(text for text, _ in self._controls.back.options[1:]), f"step {step:,}: {text}"])
        self._say(f"the state at step {step:,} is kept; the menu beside the button leads back to it")

    def returned(self, number: int, frames) -> None:
        kept, marks, self.board.taken, reached = self._states[number]
        for readings, before in zip(self.board.readings, kept, strict=True):
            readings.clear()
            readings.extend(before)
        self.board.marks, self._marked, self._reached = list(marks), {}, set(reached)
        self._frames, self._between, self._message = frames, False, ""
        self._show_values()

    def changed(self, state: str) -> None:
        self._controls.at(state)
        if state == "running":
            back, self._away = self._away, False
            self._message, self._echo.heard = "running again: it paused while nobody looked" if back else "", time.monotonic()
            if not self._ran:
                self.on_run()
        elif self._frames is not None:
            self._draw()  # the last frame may have been left out
        self._say(self._message or WORDS[state], error=state == "stopped")
        if self._ran and state != "running":
            self.on_rest()
        self._ran = state == "running"

    def failed(self, error: Exception) -> None:
        step = self.driver.runs[0].state.step
        what = str(error) if str(error) else type(error).__name__
        if isinstance(error, DivergenceError):
            d = self.driver
            what = advice.after_divergence(d.arms, d.settings, error, steps=step, seed=d.seed, device=d.device)
        detail = "".join(traceback.format_exception(error))
        remedy = getattr(error, "remedy", "Then press Reset")
        self._say(f"stopped at step {step}: {what.rstrip('.')}. {remedy}", error=True, detail=detail)

    def rest(self, why: str) -> None:
        """Pause, and say why."""
        self._message = why
        self.driver.tell("pause")

    def _leave(self, why: str) -> None:
        """Pause until somebody looks at the page again, or presses Run."""
        self._away = True
        self.rest(why)

    # --- drawing ----------------------------------------------------------------------------------------------------------
    def _each(self, frames):
        return zip(self.board.arms, self.driver.settings, self.board.readings, frames, strict=True)

    def _draw(self) -> None:
        for chart in self.charts:
            chart.update(self.board, whole=self.driver.state != "running")
        self._controls.readout.value = texts.readout(self.board, self.driver.settings, self.driver.steps_per_second)
        self._check_goals()
        self._echo.ask()
        self._drawn, self.drawings = time.monotonic(), self.drawings + 1

    def _check_goals(self) -> None:
        goals, start = self.board.goals, self.board.arms[0].settings
        self._reached |= {g.text for g in goals if any(g.reached(r, start) for r in self.board.readings)}
        text = texts.goals(self.board, self._reached, self._values())
        if self._controls.goals.value != text:
            self._controls.goals.value = text

    def _mark(self, name: str, value, step: int) -> None:
        """A line in the charts; a slider that is dragged draws one, not hundred."""
        text, now = mark(self._declared()[name], value), time.monotonic()
        marks = list(self.board.marks)
        if marks and self._marked.get(name, 0) > now - 1 and marks[-1][1].split()[0] == text.split()[0]:
            marks.pop()
        self._marked[name] = now
        self.board.marks = [*marks, (step, text)][-12:]

    def _say(self, text: str, *, error: bool = False, detail: str = "", links: str = "") -> None:
        colour = "var(--jp-error-color1, #b00020)" if error else "inherit"
        more = f"<details><summary>details</summary><pre>{escape(detail)}</pre></details>" if detail else ""
        inside = f"{escape(text)}{links}{more}"
        self._controls.status.value = f'<div role="status" style="color: {colour}; line-height: 1.4">{inside}</div>'

    # --- the values of the knobs ----------------------------------------------------------------------------------------------
    def _declared(self) -> dict[str, Knob]:
        """The knobs that a panel offers, of all arms."""
        return {k: knob for arm in self.board.arms for k, knob in arm.scenario.settings.items() if knob.shown}

    def _values(self) -> dict:
        """Their present values."""
        now = {k: v for settings in reversed(self.driver.settings) for k, v in settings.items()}
        return {k: now[k] for k in self._declared()}

    def _show_values(self) -> None:
        """Set the controls without giving orders."""
        self.placed(self._values())
        self._device = self._controls.device.value = self.driver.device

    # --- orders from the page, in any thread --------------------------------------------------------------------------------
    def _on_order(self, name: str) -> None:
        own = {"log": self._save_log, "save": self._save_files, "text": self._write_table}
        if name in own:
            self.driver.tell("call", own[name])
        else:
            self.driver.tell(name)

    def _on_knob(self, name: str, value) -> None:
        self.driver.tell("turn", name, value)

    def _on_refused(self, control: Control, line: str) -> None:
        def refuse() -> None:
            control.show(self._values()[control.name])
            self._say(line, error=True)

        self.driver.tell("call", refuse)

    def _on_told(self, name: str, value) -> None:
        if name == "speed":
            self.driver.speed = value
            self.driver.tell("call", lambda: None)  # only to wake it
        elif name == "device" and value != self._device:
            self._device = value
            self.driver.tell("move", value)
        elif name == "back" and value is not None:
            self.driver.tell("back", value)
            self.driver.tell("call", lambda: setattr(self._controls.back, "value", None))
        elif name == "look":
            self.driver.tell("call", lambda: self._looked(value.startswith("seen")))
        elif name == "guess":
            of, text = self._controls.guess_of.value, self._controls.guess.value.strip().replace(",", ".")
            self.driver.tell("call", lambda: self._set_guess(of, text))

    # --- and what they do, in the task ------------------------------------------------------------------------------------------
    def _looked(self, seen: bool) -> None:
        if not seen and self.driver.state == "running":
            self._leave("paused: nobody looks at this page; it goes on when somebody does")
        elif seen and self._away:
            self.driver.tell("run")

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

    def _save_log(self) -> None:
        runs = [run for run in zip(self.board.arms, self.driver.built, self.driver.runs, strict=True) if run[0].scenario.replays]
        left = [arm.label for arm in self.board.arms if not arm.scenario.replays]
        try:
            paths = [replay.save(arm.scenario.log(run, settings), arm.label) for arm, settings, run in runs]
        except OSError as error:
            self._say(f"the log was not saved: {error}", error=True)
            return
        said = "saved; replay with: " + "; ".join(f"thermolab replay {shlex.quote(str(path))}" for path in paths)
        said = said if paths else "nothing saved"
        self._say(said + (f" (no log of {', '.join(left)}: a log can name no function of yours)" if left else ""))

    def _save_files(self) -> None:
        if self._frames is None:
            self._say("there is nothing to save yet", error=True)
        else:
            self._say("", links=files.links([chart.chart for chart in self.charts], self.board))

    def _write_table(self) -> None:
        self._controls.table.value = files.as_text(self.board)


def _before(arm: Arm) -> str:
    return f"{arm.label}, run before"


def _plain(knob):
    return knob if isinstance(knob, str | int) else knob.cpu().numpy()
